//! `kafka-leader-election.sh` and 2.8's `kafka-preferred-replica-election.sh`: have the controller elect leaders. Speak
//! like 3.9's and 2.8's tools.

pub mod preferred;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Parser, ValueEnum};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_protocol::protocol::StrBytes;
use serde::Deserialize;

use super::cluster::{self, Cluster, exception_class, refusal, topic_name};
use super::properties::{self, Properties};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;

/// How long the tools wait when `--admin.config` does not say.
const TIMEOUT_MS: &str = "30000";
/// The first version in which the kind of election can be chosen (KIP-460).
const FIRST_WITH_TYPE: i16 = 1;

/// Elect leaders of partitions: their preferred replicas, or any replica where none in sync is left.
#[derive(Parser, Debug)]
#[command(name = "kafka-leader-election", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// A properties file for the admin client
    #[arg(long = "admin.config")]
    admin_config: Option<PathBuf>,
    /// preferred: elect the preferred leader where another leads. unclean: elect any replica where nobody leads
    #[arg(long, ignore_case = true)]
    election_type: Option<ElectionType>,
    /// The topic of one partition
    #[arg(long)]
    topic: Option<String>,
    /// The partition of --topic
    #[arg(long)]
    partition: Option<i32>,
    /// All partitions
    #[arg(long)]
    all_topic_partitions: bool,
    /// A file with partitions: {"partitions": [{"topic": "a", "partition": 1}]}
    #[arg(long)]
    path_to_json_file: Option<PathBuf>,
}

/// `ElectionType`, by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ElectionType {
    Preferred = 0,
    Unclean = 1,
}

impl ElectionType {
    fn java_name(self) -> &'static str {
        match self {
            Self::Preferred => "PREFERRED",
            Self::Unclean => "UNCLEAN",
        }
    }
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-leader-election", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let (kind, bootstrap) = options.required()?;
    let partitions = options.partitions()?;
    let config = client_config(options.admin_config.as_deref())?;
    cluster::block_on(async {
        let mut cluster = Cluster::connect(bootstrap, &config).await?;
        let results = elect(&mut cluster, kind, partitions.as_ref()).await?;
        report(kind, results)
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn required(&self) -> anyhow::Result<(ElectionType, &str)> {
        let missing = [
            self.election_type.is_none().then_some("election-type"),
            self.bootstrap_server.is_none().then_some("bootstrap-server"),
        ];
        let missing: Vec<&str> = missing.into_iter().flatten().collect();
        let (Some(kind), Some(bootstrap)) = (self.election_type, &self.bootstrap_server) else {
            bail!("Missing required option(s): {}", missing.join(", "));
        };
        let ways = [self.topic.is_some(), self.all_topic_partitions, self.path_to_json_file.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            bail!(
                "One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file"
            );
        }
        match (&self.topic, self.partition) {
            (None, Some(_)) => bail!("Option partition is only allowed if topic is used"),
            (Some(_), None) => bail!("Missing required option(s): partition"),
            _ => Ok((kind, bootstrap)),
        }
    }

    /// The partitions that are named; `None` for all.
    fn partitions(&self) -> anyhow::Result<Option<BTreeSet<TopicPartition>>> {
        if let Some(path) = &self.path_to_json_file {
            return read_partitions(path, "Replica election data").map(Some);
        }
        let one = self.topic.as_deref().zip(self.partition);
        Ok(one.map(|(topic, partition)| BTreeSet::from([TopicPartition::new(topic, partition)])))
    }
}

/// What `--admin.config` says, with the tools' own time-out where it says none.
fn client_config(path: Option<&Path>) -> anyhow::Result<Properties> {
    let mut config = path.map(properties::read_file).transpose()?.unwrap_or_default();
    if !config.contains_key("default.api.timeout.ms") && !config.contains_key("request.timeout.ms") {
        config.insert("request.timeout.ms".to_owned(), TIMEOUT_MS.to_owned());
    }
    Ok(config)
}

/// Reads `{"partitions": [{"topic": "a", "partition": 1}]}`. `what` begins what is said of a file that is none.
fn read_partitions(path: &Path, what: &str) -> anyhow::Result<BTreeSet<TopicPartition>> {
    #[derive(Deserialize)]
    struct Named {
        topic: String,
        partition: i32,
    }
    #[derive(Deserialize)]
    struct Listed {
        partitions: Option<Vec<Named>>,
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let listed: Listed = serde_json::from_str(&text).with_context(|| format!("{what} is not valid JSON"))?;
    let Some(listed) = listed.partitions else { bail!("{what} is missing \"partitions\" field") };
    let mut partitions = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for Named { topic, partition } in listed {
        let tp = TopicPartition::new(topic, partition);
        if !partitions.insert(tp.clone()) {
            twice.insert(tp);
        }
    }
    if !twice.is_empty() {
        bail!("{what} contains duplicate partitions: {}", comma_separated(&twice, ","));
    }
    Ok(partitions)
}

fn comma_separated<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>, separator: &str) -> String {
    partitions.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

/// What became of one partition.
struct Elected {
    partition: TopicPartition,
    code: ErrorCode,
    message: Option<String>,
}

impl Elected {
    /// The error as Java prints the exception that stands for it.
    fn exception(&self) -> String {
        let class = exception_class(self.code.code()).unwrap_or_default();
        format!("{class}: {}", self.message.as_deref().unwrap_or(self.code.message()))
    }
}

/// Has the controller elect leaders, of all partitions if none are named.
async fn elect(
    cluster: &mut Cluster,
    kind: ElectionType,
    partitions: Option<&BTreeSet<TopicPartition>>,
) -> anyhow::Result<Vec<Elected>> {
    let wanted = partitions.map(|partitions| {
        let mut topics: Vec<TopicPartitions> = Vec::new();
        for tp in partitions {
            match topics.last_mut().filter(|topic| *topic.topic == *tp.topic) {
                Some(topic) => topic.partitions.push(tp.partition),
                None => topics.push(
                    TopicPartitions::default().with_topic(topic_name(&tp.topic)).with_partitions(vec![tp.partition]),
                ),
            }
        }
        topics
    });
    let timeout = cluster.timeout_ms();
    let build = |version: i16| {
        let request = ElectLeadersRequest::default().with_topic_partitions(wanted.clone()).with_timeout_ms(timeout);
        if version >= FIRST_WITH_TYPE { request.with_election_type(kind as i8) } else { request }
    };
    let answer: ElectLeadersResponse = cluster.ask_controller(build, leading_error).await?;
    if let Some(error) = refusal(answer.error_code, None) {
        return Err(error);
    }
    let mut results: Vec<Elected> = Vec::new();
    for topic in answer.replica_election_results {
        results.extend(topic.partition_result.into_iter().map(|result| Elected {
            partition: TopicPartition::new(topic.topic.to_string(), result.partition_id),
            code: ErrorCode::from_code(result.error_code),
            message: result.error_message.as_ref().map(StrBytes::to_string).filter(|text| !text.is_empty()),
        }));
    }
    results.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(results)
}

/// The error of the whole answer; up to v0 it stands with each partition.
fn leading_error(answer: &ElectLeadersResponse) -> i16 {
    let first = answer.replica_election_results.first().and_then(|topic| topic.partition_result.first());
    match (answer.error_code, first) {
        (0, Some(first)) if first.error_code == ErrorCode::NotController.code() => first.error_code,
        (code, _) => code,
    }
}

/// Says what became of the partitions.
fn report(kind: ElectionType, results: Vec<Elected>) -> anyhow::Result<()> {
    let name = kind.java_name();
    let with = |code: ErrorCode| results.iter().filter(move |result| result.code == code).map(|r| &r.partition);
    let done = comma_separated(with(ErrorCode::None), ", ");
    if !done.is_empty() {
        println!("Successfully completed leader election ({name}) for partitions {done}");
    }
    let needless = comma_separated(with(ErrorCode::ElectionNotNeeded), ", ");
    if !needless.is_empty() {
        println!("Valid replica already elected for partitions {needless}");
    }
    let failed = results.iter().filter(|r| !matches!(r.code, ErrorCode::None | ErrorCode::ElectionNotNeeded));
    let failed: Vec<&Elected> = failed.collect();
    for result in &failed {
        let (partition, exception) = (&result.partition, result.exception());
        println!("Error completing leader election ({name}) for partition: {partition}: {exception}");
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("{} replica(s) could not be elected", failed.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> anyhow::Result<Options> {
        let options = Options::try_parse_from(["kafka-leader-election"].into_iter().chain(line.split_whitespace()))?;
        options.required()?;
        Ok(options)
    }

    #[test]
    fn what_is_missing_is_said() {
        for (line, said) in [
            ("", "Missing required option(s): election-type, bootstrap-server"),
            ("--election-type preferred --bootstrap-server b:1", "One and only one of the following options"),
            ("--election-type unclean --bootstrap-server b:1 --topic t", "Missing required option(s): partition"),
            ("--election-type UNCLEAN --bootstrap-server b:1 --all-topic-partitions --partition 1", "only allowed if"),
        ] {
            let error = options(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
        let one = options("--election-type PREFERRED --bootstrap-server b:1 --topic t --partition 3").expect("valid");
        assert_eq!(one.partitions().expect("named"), Some(BTreeSet::from([TopicPartition::new("t", 3)])));
    }

    #[test]
    fn files_of_partitions_are_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = |text: &str| {
            std::fs::write(file.path(), text).expect("written");
            read_partitions(file.path(), "Data")
        };
        let found = read(r#"{"partitions":[{"topic":"b","partition":1},{"topic":"a","partition":2}]}"#).expect("valid");
        assert_eq!(comma_separated(&found, ", "), "a-2, b-1");
        assert_eq!(read("{}").expect_err("no field").to_string(), "Data is missing \"partitions\" field");
        assert!(read("x").is_err());
        let twice = r#"{"partitions":[{"topic":"b","partition":1},{"topic":"b","partition":1}]}"#;
        assert_eq!(read(twice).expect_err("twice").to_string(), "Data contains duplicate partitions: b-1");
    }
}
