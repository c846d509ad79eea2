//! `kafka-delete-records.sh`: delete the records of partitions before an offset. Speaks like 3.9's tool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use serde::Deserialize;
use serde_json::Value;

use super::cluster::{self, Cluster, exception_class, topic_name};
use super::properties;
use super::usage::Given;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;

/// The only version of the file there is.
const VERSION: i64 = 1;

/// Delete records of the given partitions down to the specified offset.
#[derive(Parser, Debug)]
#[command(name = "kafka-delete-records", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// A properties file for the admin client
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// A file with the first offset that stays of each partition, -1 for the high watermark:
    /// {"partitions": [{"topic": "a", "partition": 1, "offset": 1}], "version": 1}
    #[arg(long)]
    offset_json_file: Option<PathBuf>,
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-delete-records", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let given = [
        ("bootstrap-server", options.bootstrap_server.is_some()),
        ("offset-json-file", options.offset_json_file.is_some()),
    ];
    Given::new(&given).require(&["bootstrap-server", "offset-json-file"])?;
    cluster::block_on(delete(&options))?;
    Ok(ExitCode::SUCCESS)
}

async fn delete(options: &Options) -> anyhow::Result<()> {
    let path = options.offset_json_file.clone().unwrap_or_default();
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let wanted = parse(&text)?;
    let config = options.command_config.as_deref().map(properties::read_file).transpose()?.unwrap_or_default();
    let mut cluster = Cluster::connect(options.bootstrap_server.as_deref().unwrap_or_default(), &config).await?;
    println!("Executing records delete operation");
    let results = delete_records(&mut cluster, &wanted).await?;
    println!("Records delete operation completed:");
    for (tp, _) in &wanted {
        match results.get(tp) {
            Some(Ok(low_watermark)) => println!("partition: {tp}\tlow_watermark: {low_watermark}"),
            Some(Err(error)) => println!("partition: {tp}\terror: {error}"),
            None => println!("partition: {tp}\terror: the broker did not answer for it"),
        }
    }
    Ok(())
}

/// Reads the file.
///
/// # Errors
/// If it is no such file, or names a partition twice.
fn parse(text: &str) -> anyhow::Result<Vec<(TopicPartition, i64)>> {
    #[derive(Deserialize)]
    struct Listed {
        topic: String,
        partition: i32,
        offset: i64,
    }
    let file: Value = serde_json::from_str(text).map_err(|_| anyhow!("The input string is not a valid JSON"))?;
    let version = file.get("version").map_or(Some(VERSION), Value::as_i64);
    if version != Some(VERSION) {
        bail!("Not supported version field value {}", file["version"]);
    }
    let partitions = file.get("partitions").ok_or_else(|| anyhow!("Missing partitions field"))?;
    let listed: Vec<Listed> = Vec::deserialize(partitions).context("partitions")?;
    let (mut all, mut seen, mut twice) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for Listed { topic, partition, offset } in listed {
        let tp = TopicPartition::new(topic, partition);
        if !seen.insert(tp.clone()) {
            twice.insert(tp.to_string());
        }
        all.push((tp, offset));
    }
    if !twice.is_empty() {
        let twice: Vec<String> = twice.into_iter().collect();
        bail!("Offset json file contains duplicate topic partitions: {}", twice.join(","));
    }
    Ok(all)
}

type Results = BTreeMap<TopicPartition, Result<i64, String>>;

async fn delete_records(cluster: &mut Cluster, wanted: &[(TopicPartition, i64)]) -> anyhow::Result<Results> {
    let topics: BTreeSet<String> = wanted.iter().map(|(tp, _)| tp.topic.to_string()).collect();
    let leaders = cluster.leaders(&topics.into_iter().collect::<Vec<_>>()).await?;
    let mut results = Results::new();
    let mut by_leader: BTreeMap<i32, Vec<&(TopicPartition, i64)>> = BTreeMap::new();
    for one in wanted {
        match leaders.get(&one.0) {
            Some(leader) if *leader >= 0 => by_leader.entry(*leader).or_default().push(one),
            Some(_) => drop(results.insert(one.0.clone(), Err(told(ErrorCode::LeaderNotAvailable)))),
            None => drop(results.insert(one.0.clone(), Err(told(ErrorCode::UnknownTopicOrPartition)))),
        }
    }
    for (leader, wanted) in by_leader {
        let request = request(&wanted, cluster.timeout_ms());
        let answer = cluster.broker(leader).await?.ask(|_| request).await?;
        for topic in &answer.topics {
            results.extend(topic.partitions.iter().map(|row| {
                let tp = TopicPartition::new(topic.name.as_str(), row.partition_index);
                let code = ErrorCode::from_code(row.error_code);
                (tp, if code.is_none() { Ok(row.low_watermark) } else { Err(told(code)) })
            }));
        }
    }
    Ok(results)
}

fn request(wanted: &[&(TopicPartition, i64)], timeout_ms: i32) -> DeleteRecordsRequest {
    let mut topics: BTreeMap<&str, Vec<DeleteRecordsPartition>> = BTreeMap::new();
    for (tp, offset) in wanted {
        let row = DeleteRecordsPartition::default().with_partition_index(tp.partition).with_offset(*offset);
        topics.entry(&tp.topic).or_default().push(row);
    }
    let topics = topics
        .into_iter()
        .map(|(topic, rows)| DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(rows));
    DeleteRecordsRequest::default().with_topics(topics.collect()).with_timeout_ms(timeout_ms)
}

/// An error as the original shows it: the class of the exception, and what it means.
fn told(code: ErrorCode) -> String {
    format!("{}: {code}", exception_class(code.code()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_original_reads_them() {
        let read = parse(r#"{"partitions": [{"topic": "a", "partition": 1, "offset": -1}]}"#).expect("a file");
        assert_eq!(read, [(TopicPartition::new("a", 1), -1)]);
        let error = |text: &str| parse(text).expect_err("no such file").to_string();
        assert_eq!(error("nonsense"), "The input string is not a valid JSON");
        assert_eq!(error(r#"{"version": 2}"#), "Not supported version field value 2");
        assert_eq!(error(r#"{"version": 1}"#), "Missing partitions field");
        let row = r#"{"topic": "a", "partition": 0, "offset": 1}"#;
        let twice = format!(r#"{{"partitions": [{row}, {row}]}}"#);
        assert_eq!(error(&twice), "Offset json file contains duplicate topic partitions: a-0");
    }
}
