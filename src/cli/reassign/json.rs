//! The files that the tool reads and the one that it prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::{Assignment, Replica};
use crate::base::ids::TopicPartition;

/// Stands for a log dir that the broker may choose.
const ANY_LOG_DIR: &str = "any";
/// The only version of the files there is.
const VERSION: i32 = 1;

fn version() -> i32 {
    VERSION
}

/// What `--reassignment-json-file` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reassignment {
    /// The replicas wanted, in the order of the file.
    pub(super) partitions: Vec<(TopicPartition, Vec<i32>)>,
    /// The log dirs wanted, where they matter.
    pub(super) log_dirs: BTreeMap<Replica, String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default = "version")]
    version: i32,
    #[serde(default)]
    partitions: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    log_dirs: Option<Vec<String>>,
}

impl Reassignment {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is no such file, or replicas and log dirs do not pair.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = serde_json::from_str(text).context("The input string is not a valid JSON")?;
        if file.version != VERSION {
            bail!("Not supported version field value {}", file.version);
        }
        let mut read = Self::default();
        for Listed { topic, partition, replicas, log_dirs } in file.partitions {
            let tp = TopicPartition::new(topic, partition);
            let dirs = log_dirs.unwrap_or_else(|| vec![ANY_LOG_DIR.to_owned(); replicas.len()]);
            if dirs.len() != replicas.len() {
                bail!(
                    "Size of replicas list {replicas:?} is different from size of log dirs list [{}] for partition {tp}",
                    dirs.join(", ")
                );
            }
            let chosen = replicas.iter().zip(dirs).filter(|(_, dir)| dir != ANY_LOG_DIR);
            read.log_dirs.extend(chosen.map(|(id, dir)| (Replica { broker: *id, partition: tp.clone() }, dir)));
            read.partitions.push((tp, replicas));
        }
        Ok(read)
    }

    /// What may be executed: something, each partition once, with some replicas, each once.
    ///
    /// # Errors
    /// If it is not so.
    pub(super) fn to_execute(&self) -> anyhow::Result<Assignment> {
        if self.partitions.is_empty() {
            bail!("Partition reassignment list cannot be empty");
        }
        if self.partitions.iter().any(|(_, replicas)| replicas.is_empty()) {
            bail!("Partition replica list cannot be empty");
        }
        let twice = duplicates(self.partitions.iter().map(|(tp, _)| tp));
        if !twice.is_empty() {
            bail!("Partition reassignment contains duplicate topic partitions: {}", joined(&twice));
        }
        let unclear = self.partitions.iter().filter_map(|(tp, replicas)| {
            let twice = duplicates(replicas);
            (!twice.is_empty()).then(|| format!("{tp} contains multiple entries for {}", joined(&twice)))
        });
        let unclear: Vec<String> = unclear.collect();
        if !unclear.is_empty() {
            bail!("Partition replica lists may not contain duplicate entries: {}", unclear.join(". "));
        }
        Ok(self.partitions.iter().cloned().collect())
    }
}

/// The topics of `--topics-to-move-json-file`.
///
/// # Errors
/// If it is no such file, or names a topic twice.
pub(super) fn parse_topics(text: &str) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Topic {
        topic: String,
    }
    #[derive(Deserialize)]
    struct Topics {
        #[serde(default = "version")]
        version: i32,
        #[serde(default)]
        topics: Vec<Topic>,
    }
    let file: Topics = serde_json::from_str(text).map_err(|_| anyhow!("The input string is not a valid JSON"))?;
    if file.version != VERSION {
        bail!("Not supported version field value {}", file.version);
    }
    let topics: Vec<String> = file.topics.into_iter().map(|topic| topic.topic).collect();
    let twice = duplicates(&topics);
    if !twice.is_empty() {
        bail!("List of topics to reassign contains duplicate entries: [{}]", joined(&twice));
    }
    Ok(topics)
}

/// The brokers of `--broker-list`.
///
/// # Errors
/// If it is no list of ids, or names one twice.
pub(super) fn parse_brokers(text: &str) -> anyhow::Result<Vec<i32>> {
    let ids = text.split(',').map(|id| id.trim().parse().with_context(|| format!("'{id}' is no broker id")));
    let ids: Vec<i32> = ids.collect::<anyhow::Result<_>>()?;
    let twice = duplicates(&ids);
    if !twice.is_empty() {
        bail!("Broker list contains duplicate entries: [{}]", joined(&twice));
    }
    Ok(ids)
}

fn duplicates<'a, T: Ord>(items: impl IntoIterator<Item = &'a T>) -> BTreeSet<&'a T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| !seen.insert(*item)).collect()
}

/// Items with commas between them.
pub(super) fn joined<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// An assignment as `--reassignment-json-file` holds it.
pub(super) fn format(assignment: &Assignment) -> String {
    let partition = |(tp, replicas): (&TopicPartition, &Vec<i32>)| {
        let log_dirs = vec![ANY_LOG_DIR; replicas.len()];
        json!({"topic": &*tp.topic, "partition": tp.partition, "replicas": replicas, "log_dirs": log_dirs})
    };
    let partitions: Vec<Value> = assignment.iter().map(partition).collect();
    json!({"version": VERSION, "partitions": partitions}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let assignment = Assignment::from([(TopicPartition::new("t", 0), vec![1, 2])]);
        let text = format(&assignment);
        let expected =
            r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,2],"log_dirs":["any","any"]}]}"#;
        assert_eq!(text, expected);
        let read = Reassignment::parse(&text).expect("valid");
        assert_eq!(read.to_execute().expect("valid"), assignment);
        assert!(read.log_dirs.is_empty());
        let chosen = Reassignment::parse(&text.replacen("any", "/d", 1)).expect("valid");
        let replica = Replica { broker: 1, partition: TopicPartition::new("t", 0) };
        assert_eq!(chosen.log_dirs, BTreeMap::from([(replica, "/d".to_owned())]));
    }

    #[test]
    fn what_cannot_be_executed_is_said() {
        let one = r#"{"topic":"t","partition":0,"replicas":[1,2]}"#;
        for (partitions, said) in [
            (String::new(), "Partition reassignment list cannot be empty"),
            (one.replace("1,2", ""), "Partition replica list cannot be empty"),
            (format!("{one},{one}"), "Partition reassignment contains duplicate topic partitions: t-0"),
            (one.replace("1,2", "1,1"), "may not contain duplicate entries: t-0 contains multiple entries for 1"),
        ] {
            let text = format!(r#"{{"partitions":[{partitions}]}}"#);
            let error = Reassignment::parse(&text).expect("valid").to_execute().expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
        for (text, said) in [
            ("x", "The input string is not a valid JSON"),
            (r#"{"version":2}"#, "Not supported version field value 2"),
            (
                r#"{"partitions":[{"topic":"t","partition":0,"replicas":[1],"log_dirs":[]}]}"#,
                "Size of replicas list [1] is different from size of log dirs list [] for partition t-0",
            ),
        ] {
            let error = format!("{:#}", Reassignment::parse(text).expect_err(said));
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn topics_and_brokers_are_named_once() {
        let topics = r#"{"topics":[{"topic":"a"},{"topic":"b"}],"version":1}"#;
        assert_eq!(parse_topics(topics).expect("valid"), ["a", "b"]);
        assert!(parse_topics(&topics.replace('b', "a")).is_err());
        assert_eq!(parse_brokers("1,2").expect("valid"), [1, 2]);
        assert_eq!(parse_brokers("1,1").expect_err("twice").to_string(), "Broker list contains duplicate entries: [1]");
        assert!(parse_brokers("x").is_err());
    }
}
