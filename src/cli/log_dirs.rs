//! `kafka-log-dirs.sh`: what lies in the log dirs of the brokers, as JSON. Speaks like 3.9's tool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use kafka_protocol::messages::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use serde_json::{Value, json};

use super::cluster::{self, Cluster, exception_class, refusal};
use super::properties;
use super::usage::Given;

/// Query log directory usage on the specified brokers.
#[derive(Parser, Debug)]
#[command(name = "kafka-log-dirs", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// A properties file for the admin client
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// Describe the log dirs of the brokers
    #[arg(long)]
    describe: bool,
    /// The brokers to look at, such as 0,1,2; all if none is named
    #[arg(long, default_value = "", hide_default_value = true)]
    broker_list: String,
    /// The topics to look for, such as topic1,topic2; all if none is named
    #[arg(long, default_value = "", hide_default_value = true)]
    topic_list: String,
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-log-dirs", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let given = [("bootstrap-server", options.bootstrap_server.is_some()), ("describe", options.describe)];
    Given::new(&given).require(&["bootstrap-server", "describe"])?;
    cluster::block_on(describe(&options))?;
    Ok(ExitCode::SUCCESS)
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|item| !item.is_empty())
}

fn comma_separated(ids: &BTreeSet<i32>) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

async fn describe(options: &Options) -> anyhow::Result<()> {
    let config = options.command_config.as_deref().map(properties::read_file).transpose()?.unwrap_or_default();
    let topics: BTreeSet<&str> = items(&options.topic_list).collect();
    let mut wanted = items(&options.broker_list).map(str::parse).collect::<Result<BTreeSet<i32>, _>>()?;
    let mut cluster = Cluster::connect(options.bootstrap_server.as_deref().unwrap_or_default(), &config).await?;
    let existing: BTreeSet<i32> = cluster.broker_ids().await?.into_iter().collect();
    let missing: BTreeSet<i32> = wanted.difference(&existing).copied().collect();
    if !missing.is_empty() {
        bail!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            comma_separated(&missing),
            comma_separated(&existing)
        );
    }
    if wanted.is_empty() {
        wanted = existing;
    }
    println!("Querying brokers for log directories information");
    let mut answers = BTreeMap::new();
    for id in &wanted {
        let answer = cluster.broker(*id).await?.ask(|_| DescribeLogDirsRequest::default().with_topics(None)).await?;
        if let Some(error) = refusal(answer.error_code, None) {
            return Err(error);
        }
        answers.insert(*id, answer);
    }
    println!("Received log directory information from brokers {}", comma_separated(&wanted));
    println!("{}", as_json(&answers, &topics));
    Ok(())
}

/// The answers in the shape, and the order of fields, of the original.
fn as_json(answers: &BTreeMap<i32, DescribeLogDirsResponse>, topics: &BTreeSet<&str>) -> Value {
    let broker = |(id, answer): (&i32, &DescribeLogDirsResponse)| {
        let dirs: Vec<Value> = answer.results.iter().map(|dir| log_dir(dir, topics)).collect();
        json!({"broker": id, "logDirs": dirs})
    };
    let brokers: Vec<Value> = answers.iter().map(broker).collect();
    json!({"brokers": brokers, "version": 1})
}

fn log_dir(dir: &DescribeLogDirsResult, topics: &BTreeSet<&str>) -> Value {
    let of_topics = dir.topics.iter().filter(|topic| topics.is_empty() || topics.contains(topic.name.as_str()));
    let partitions: Vec<Value> = of_topics
        .flat_map(|topic| topic.partitions.iter().map(|found| partition(topic.name.as_str(), found)))
        .collect();
    json!({"partitions": partitions, "error": exception_class(dir.error_code), "logDir": dir.log_dir.as_str()})
}

fn partition(topic: &str, found: &DescribeLogDirsPartition) -> Value {
    json!({
        "partition": format!("{topic}-{}", found.partition_index),
        "size": found.partition_size,
        "offsetLag": found.offset_lag,
        "isFuture": found.is_future_key,
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsTopic;
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::base::error::ErrorCode;
    use crate::cli::cluster::topic_name;

    #[test]
    fn answers_are_shown_as_the_original_shows_them() {
        let found = DescribeLogDirsPartition::default().with_partition_size(9).with_offset_lag(2);
        let topic = |name: &str| {
            DescribeLogDirsTopic::default().with_name(topic_name(name)).with_partitions(vec![found.clone()])
        };
        let dirs = vec![
            DescribeLogDirsResult::default()
                .with_log_dir(StrBytes::from_static_str("/a"))
                .with_topics(vec![topic("t"), topic("u")]),
            DescribeLogDirsResult::default()
                .with_log_dir(StrBytes::from_static_str("/b"))
                .with_error_code(ErrorCode::KafkaStorageError.code()),
        ];
        let answers = BTreeMap::from([(3, DescribeLogDirsResponse::default().with_results(dirs))]);
        let shown = as_json(&answers, &BTreeSet::from(["u"])).to_string();
        let expected = concat!(
            r#"{"brokers":[{"broker":3,"logDirs":["#,
            r#"{"partitions":[{"partition":"u-0","size":9,"offsetLag":2,"isFuture":false}],"error":null,"logDir":"/a"},"#,
            r#"{"partitions":[],"error":"org.apache.kafka.common.errors.KafkaStorageException","logDir":"/b"}"#,
            r#"]}],"version":1}"#
        );
        assert_eq!(shown, expected);
    }
}
