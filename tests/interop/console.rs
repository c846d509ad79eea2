//! Kafka's own console tools, of the newest and of an old version.

use crate::support::cluster::Cluster;
use crate::support::jvm::{NEW, OLD, tool};
use crate::support::process::run_ok;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

fn run(version: &str, script: &str, words: &[&str], input: &str) -> String {
    let mut command: Command = tool(version, script);
    command.args(words);
    run_ok(&format!("{script} {version}"), command, input, LIMIT)
}

fn produce(version: &str, bootstrap: &str, topic: &str, lines: &str) {
    let words = [
        "--bootstrap-server",
        bootstrap,
        "--topic",
        topic,
        "--property",
        "parse.key=true",
        "--property",
        "key.separator=:",
    ];
    run(version, "kafka-console-producer", &words, lines);
}

fn consume(version: &str, bootstrap: &str, topic: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let words = [
        "--bootstrap-server",
        bootstrap,
        "--topic",
        topic,
        "--from-beginning",
        "--max-messages",
        &count,
        "--timeout-ms",
        "60000",
        "--property",
        "print.key=true",
        "--property",
        "key.separator=:",
    ];
    run(version, "kafka-console-consumer", &words, "").lines().map(str::to_owned).collect()
}

#[test]
fn console_producers_and_consumers() {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let topic = "console";
    let words = ["--bootstrap-server", &bootstrap, "--create", "--topic", topic, "--partitions", "1"];
    let words = [&words[..], &["--replication-factor", "1"]].concat();
    assert!(run(NEW, "kafka-topics", &words, "").contains("Created topic console."));
    let mut expected = Vec::new();
    for version in [NEW, OLD] {
        let lines: Vec<String> = (0..200).map(|i| format!("key-{i}:line {i} of {version}")).collect();
        produce(version, &bootstrap, topic, &(lines.join("\n") + "\n"));
        expected.extend(lines);
    }
    for version in [NEW, OLD] {
        assert_eq!(consume(version, &bootstrap, topic, expected.len()), expected, "read by {version}");
    }
    for version in [NEW, OLD] {
        let text =
            run(version, "kafka-topics", &["--bootstrap-server", &bootstrap, "--describe", "--topic", topic], "");
        assert!(text.contains("PartitionCount: 1") && text.contains("Leader: 0"), "{version} describes {text}");
        let text = run(version, "kafka-topics", &["--bootstrap-server", &bootstrap, "--list"], "");
        assert!(text.lines().any(|line| line == topic), "{version} lists {text}");
    }
    let words = ["--bootstrap-server", &bootstrap, "--topic", topic];
    assert_eq!(run(NEW, "kafka-get-offsets", &words, "").trim(), "console:0:400");
    let words = ["--bootstrap-server", &bootstrap, "--delete", "--topic", topic];
    run(OLD, "kafka-topics", &words, "");
}

#[test]
fn consumer_groups_tool() {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    cluster.broker.wire().create_topic("group-tool", 1, &[]);
    produce(NEW, &bootstrap, "group-tool", "a:1\nb:2\nc:3\n");
    let words = [
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        "group-tool",
        "--group",
        "tool",
        "--from-beginning",
        "--max-messages",
        "3",
        "--timeout-ms",
        "60000",
    ];
    assert_eq!(run(NEW, "kafka-console-consumer", &words, "").lines().count(), 3);
    for version in [NEW, OLD] {
        let text = run(version, "kafka-consumer-groups", &["--bootstrap-server", &bootstrap, "--list"], "");
        assert!(text.lines().any(|line| line == "tool"), "{version} lists {text}");
        let words = ["--bootstrap-server", &bootstrap, "--describe", "--group", "tool"];
        let text = run(version, "kafka-consumer-groups", &words, "");
        let row = text.lines().find(|line| line.contains("group-tool")).unwrap_or_else(|| panic!("no row in {text}"));
        let columns: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(&columns[..6], ["tool", "group-tool", "0", "3", "3", "0"], "{version} describes {text}");
    }
}
