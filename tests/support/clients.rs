//! The client programs of tests/clients: JSON lines in, JSON lines out; kcat is driven by its own command line.

use super::process::{Talking, run_ok};
use super::records::{CODECS, EVERYTHING, Rec, Shape};
use super::{PATIENCE, cache, dirs, jvm, resident, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A client library that users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Apache Kafka's own, of this version.
    Java(&'static str),
    /// librdkafka by way of kcat.
    Kcat,
    /// librdkafka by way of Python.
    Confluent,
    Kafkajs,
    Sarama,
    Franz,
}

pub const ALL: [Client; 7] = [
    Client::Java(jvm::NEW),
    Client::Java(jvm::OLD),
    Client::Kcat,
    Client::Confluent,
    Client::Kafkajs,
    Client::Sarama,
    Client::Franz,
];

const LIMIT: Duration = Duration::from_secs(120);

impl Client {
    pub fn name(self) -> String {
        match self {
            Client::Java(version) => format!("java-{}", version.replace('.', "")),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    /// What its records may have in them.
    pub fn shape(self) -> Shape {
        match self {
            // kcat has one set of headers per run and no way to set timestamps; its empty values are null.
            Client::Kcat => Shape { headers: false, timestamps: false, empties: false, ..EVERYTHING },
            Client::Kafkajs => Shape { null_header: false, ..EVERYTHING },
            _ => EVERYTHING,
        }
    }

    pub fn codecs(self) -> &'static [&'static str] {
        &CODECS
    }

    fn command(self, options: &[&str], words: &[&str]) -> Command {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let cache = cache();
        let mut command = match self {
            Client::Java(version) => jvm::java(version, "256m", "InteropClient"),
            Client::Kcat => Command::new("kcat"),
            Client::Confluent => {
                let mut command = Command::new(cache.join("venv/bin/python"));
                command.arg(sources.join("python/client.py"));
                command
            }
            Client::Kafkajs => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", cache.join("node/node_modules")).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
                command.arg(sources.join("node/client.js"));
                command
            }
            Client::Sarama => Command::new(cache.join("bin/sarama")),
            Client::Franz => Command::new(cache.join("bin/franz")),
        };
        command.args(words);
        for option in options {
            command.args(["-X", option]);
        }
        command
    }

    /// Runs a command to its end.
    fn run(self, options: &[&str], words: &[&str], input: &str) -> String {
        let Client::Java(version) = self else {
            return run_ok(&format!("{} {}", self.name(), words[0]), self.command(options, words), input, LIMIT);
        };
        let options = options.iter().flat_map(|option| ["-X", option]);
        resident::ask(version, &words.iter().copied().chain(options).collect::<Vec<_>>(), input, LIMIT)
    }

    /// Writes records with one codec per list and waits until all are acknowledged.
    pub fn write(self, bootstrap: &str, runs: &[(&str, Vec<Rec>)]) {
        self.write_with(bootstrap, &[], runs);
    }

    /// As [`Client::write`], with client properties (Java and librdkafka take them).
    pub fn write_with(self, bootstrap: &str, options: &[&str], runs: &[(&str, Vec<Rec>)]) {
        if self == Client::Kcat {
            return kcat_write(bootstrap, options, runs);
        }
        let mut input = String::new();
        for (codec, records) in runs {
            for record in records {
                input += &record.to_line(codec);
                input.push('\n');
            }
        }
        let output = self.run(options, &["write", bootstrap], &input);
        let count: usize = runs.iter().map(|(_, records)| records.len()).sum();
        assert!(output.contains(&format!("\"n\":{count}")) || output.contains(&format!("\"n\": {count}")), "{output}");
    }

    /// All records of these topics.
    pub fn read(self, bootstrap: &str, topics: &[&str]) -> Vec<(i64, Rec)> {
        self.read_with(bootstrap, &[], topics)
    }

    pub fn read_with(self, bootstrap: &str, options: &[&str], topics: &[&str]) -> Vec<(i64, Rec)> {
        if self == Client::Kcat {
            return topics.iter().flat_map(|topic| kcat_read(bootstrap, options, topic)).collect();
        }
        let mut words = vec!["read", bootstrap];
        words.extend(topics);
        let output = self.run(options, &words, "");
        let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(lines.iter().any(|line| line["event"] == "end"), "{} did not reach the end", self.name());
        lines.iter().filter(|line| line["event"].is_null()).map(Rec::from_json).collect()
    }

    /// Joins a group that reads these topics from the start, and commits what it has printed.
    pub fn join(self, bootstrap: &str, options: &[&str], group: &str, topics: &[&str]) -> Member {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", self.name(), NEXT.fetch_add(1, Ordering::Relaxed));
        let log = dirs::root().join(format!("member-{name}.log"));
        let command = if self == Client::Kcat {
            // kcat commits by itself, each record after it was printed.
            let mut words = vec!["-b", bootstrap, "-G", group, "-J", "-u"];
            for option in ["auto.offset.reset=earliest", "session.timeout.ms=10000", "heartbeat.interval.ms=500"] {
                words.extend(["-X", option]);
            }
            for option in options {
                words.extend(["-X", option]);
            }
            words.extend(topics);
            let mut command = Command::new("kcat");
            command.args(words);
            command
        } else {
            let mut words = vec!["group", bootstrap, group];
            words.extend(topics);
            self.command(options, &words)
        };
        Member { client: self, name: name.clone(), talking: Talking::start(&name, command, &log) }
    }
}

fn kcat_write(bootstrap: &str, options: &[&str], runs: &[(&str, Vec<Rec>)]) {
    for (codec, records) in runs {
        let mut partitions: Vec<(&str, i32)> = records.iter().map(|r| (r.topic.as_str(), r.partition)).collect();
        partitions.sort();
        partitions.dedup();
        for (topic, partition) in partitions {
            let mut command = Command::new("kcat");
            let partition_text = partition.to_string();
            command.args(["-P", "-b", bootstrap, "-t", topic, "-p", &partition_text, "-z", codec, "-Z"]);
            command.args(["-K", "\x01", "-D", "\x02", "-X", "acks=all", "-X", "linger.ms=50"]);
            let mut input = String::new();
            let mine = records.iter().filter(|r| r.topic == topic && r.partition == partition);
            let mut headers: Option<&Vec<(String, Option<String>)>> = None;
            for record in mine {
                assert!(headers.is_none_or(|h| *h == record.headers), "kcat has one set of headers per run");
                headers = Some(&record.headers);
                input += record.key.as_deref().unwrap_or_default();
                input.push('\x01');
                input += record.value.as_deref().unwrap_or_default();
                input.push('\x02');
            }
            for (name, value) in headers.into_iter().flatten() {
                let text = value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"));
                command.args(["-H", &text]);
            }
            for option in options {
                command.args(["-X", option]);
            }
            run_ok("kcat write", command, &input, LIMIT);
        }
    }
}

fn kcat_read(bootstrap: &str, options: &[&str], topic: &str) -> Vec<(i64, Rec)> {
    let mut command = Command::new("kcat");
    command.args(["-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-J"]);
    for option in options {
        command.args(["-X", option]);
    }
    run_ok("kcat read", command, "", LIMIT).lines().map(kcat_record).collect()
}

/// kcat prints other names, and headers as one flat list.
fn kcat_record(line: &str) -> (i64, Rec) {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("kcat printed {line}: {error}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let headers: Vec<Option<String>> = value["headers"].as_array().into_iter().flatten().map(text).collect();
    let record = Rec {
        topic: text(&value["topic"]).expect("a topic"),
        partition: value["partition"].as_i64().expect("a partition") as i32,
        key: text(&value["key"]),
        value: text(&value["payload"]),
        headers: headers.chunks(2).map(|pair| (pair[0].clone().expect("a header name"), pair[1].clone())).collect(),
        timestamp: value["ts"].as_i64(),
    };
    (value["offset"].as_i64().expect("an offset"), record)
}

/// A running member of a consumer group.
pub struct Member {
    pub client: Client,
    pub name: String,
    pub talking: Talking,
}

impl Member {
    fn events(&self) -> Vec<Value> {
        self.talking.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The records it has printed.
    pub fn records(&self) -> Vec<(i64, Rec)> {
        if self.client == Client::Kcat {
            return self.talking.lines().iter().filter(|line| line.starts_with('{')).map(|l| kcat_record(l)).collect();
        }
        let events = self.events();
        events.iter().filter(|line| line["event"].is_null()).map(Rec::from_json).collect()
    }

    /// How many partitions it was last told that it owns.
    pub fn owned(&self) -> Option<i64> {
        let events = self.events();
        let last = events.iter().rev().find(|line| line["event"] == "assigned" || line["event"] == "revoked")?;
        (last["event"] == "assigned").then(|| last["n"].as_i64()).flatten()
    }

    /// The partitions that it was told of by each event of this name: `assigned`, `revoked` or `lost` (Java and franz-go).
    pub fn told(&self, event: &str) -> Vec<Vec<i64>> {
        let numbers = |line: &Value| line["p"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        self.events().iter().filter(|line| line["event"] == event).map(numbers).collect()
    }

    pub fn commit_failures(&self) -> usize {
        self.events().iter().filter(|line| line["event"] == "commit-failed").count()
    }

    /// Leaves the group and ends.
    pub fn leave(&mut self) {
        if self.client == Client::Kcat {
            self.talking.process.signal(libc::SIGTERM);
        } else {
            self.talking.close_stdin();
        }
        let status = self.talking.process.wait(PATIENCE);
        let status = status.unwrap_or_else(|| panic!("{} does not leave", self.name));
        assert!(status.success(), "{} ended with {status}\n{}", self.name, self.talking.process.log_tail());
        if self.client != Client::Kcat {
            let said = || self.events().iter().any(|line| line["event"] == "left").then_some(());
            wait_for("the last words of a member", PATIENCE, said);
        }
    }

    pub fn kill(&mut self) {
        self.talking.process.kill();
    }
}
