//! Barnabas's tools beside Kafka's own: the same command lines, the same output, and each reads what the other wrote.

use crate::support::broker::{Broker, Kind, barnabas};
use crate::support::cluster::Cluster;
use crate::support::jvm::{self, NEW, OLD};
use crate::support::process::{Output, Process, run, run_ok};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, free_port, wait_for};
use std::process::Command;
use std::time::{Duration, Instant};

pub const LIMIT: Duration = Duration::from_secs(120);

pub fn ours(tool: &str, line: &str, input: &str) -> Output {
    let mut command = Command::new(barnabas());
    command.arg(tool).args(line.split_whitespace());
    run(&format!("{tool} {line}"), command, input, LIMIT)
}

pub fn theirs(version: &str, tool: &str, line: &str) -> Output {
    let mut command = jvm::tool(version, tool);
    command.args(line.split_whitespace());
    run(&format!("{tool} {version} {line}"), command, "", LIMIT)
}

/// Runs ours and wants it to succeed.
pub fn tool(name: &str, line: &str, input: &str) -> String {
    let output = ours(name, line, input);
    assert!(output.status.success(), "{name} {line} failed:\n{}{}", output.stdout, output.stderr);
    output.stdout
}

/// Both print the same on standard output and end alike. Kafka's later lines, after an error, are stack traces.
pub fn same(version: &str, name: &str, line: &str) {
    let (mine, original) = (ours(name, line, ""), theirs(version, name, line));
    let said = format!("{} beside {}{}", mine.stdout, original.stdout, original.stderr);
    assert_eq!(mine.status.success(), original.status.success(), "{name} {line}: {said}");
    let lines = |text: &str| text.trim_end().lines().map(str::to_owned).collect::<Vec<_>>();
    let (mine, mut original) = (lines(&mine.stdout), lines(&original.stdout));
    if original.iter().any(|line| line.starts_with("Error while executing")) {
        original.truncate(mine.len());
    }
    assert_eq!(mine, original, "{name} {line}, beside {version}");
}

#[test]
fn topics_are_shown_as_kafka_shows_them() {
    let cluster = Cluster::shared();
    let (broker, zookeeper) = (cluster.broker.address(), cluster.zookeeper.connect());
    let text = tool(
        "kafka-topics",
        &format!(
            "--create --bootstrap-server {broker} --topic shown --partitions 3 --replication-factor 1 --config retention.ms=99999 --config segment.bytes=5000"
        ),
        "",
    );
    assert_eq!(text, "Created topic shown.\n");
    for line in [
        format!("--describe --bootstrap-server {broker} --topic shown"),
        format!("--describe --bootstrap-server {broker} --topic shown --topics-with-overrides"),
        format!("--describe --bootstrap-server {broker} --topic shown --under-replicated-partitions"),
        format!("--describe --bootstrap-server {broker} --topic shown --at-min-isr-partitions"),
        format!("--list --bootstrap-server {broker} --topic sho.*"),
        format!("--create --bootstrap-server {broker} --topic shown"),
        format!("--create --bootstrap-server {broker} --topic shown --if-not-exists"),
        format!("--create --bootstrap-server {broker} --topic many --replication-factor 7"),
        format!("--alter --bootstrap-server {broker} --topic shown --partitions 2"),
    ] {
        same(NEW, "kafka-topics", &line);
    }
    for line in [
        format!("--describe --zookeeper {zookeeper} --topic shown"),
        format!("--describe --zookeeper {zookeeper} --topic shown --topics-with-overrides"),
        format!("--describe --zookeeper {zookeeper} --topic shown --unavailable-partitions"),
        format!("--list --zookeeper {zookeeper} --topic sho.*"),
        format!("--create --zookeeper {zookeeper} --topic shown --partitions 1 --replication-factor 1"),
        format!("--create --zookeeper {zookeeper} --topic many --partitions 1 --replication-factor 7"),
        format!("--describe --zookeeper {zookeeper} --topic no-such-topic"),
    ] {
        same(OLD, "kafka-topics", &line);
    }
}

#[test]
fn topics_are_made_changed_and_deleted_through_zookeeper() {
    let cluster = Cluster::shared();
    let zookeeper = cluster.zookeeper.connect();
    let topics = |line: &str| tool("kafka-topics", &format!("{line} --zookeeper {zookeeper} --topic by-znode"), "");
    assert_eq!(topics("--create --partitions 1 --replication-factor 1"), "Created topic by-znode.\n");
    let mut wire = cluster.broker.wire();
    crate::support::wait_for("the topic", LIMIT, || wire.topic_ready("by-znode", 1).then_some(()));
    let text = topics("--alter --partitions 2 --config retention.ms=5000");
    assert!(text.contains("Updated config for topic by-znode.\n") && text.ends_with("Adding partitions succeeded!\n"));
    crate::support::wait_for("the second partition", LIMIT, || wire.topic_ready("by-znode", 2).then_some(()));
    assert!(topics("--describe").contains("PartitionCount: 2\tReplicationFactor: 1\tConfigs: retention.ms=5000\n"));
    assert!(topics("--delete").starts_with("Topic by-znode is marked for deletion.\n"));
    assert!(cluster.zookeeper.gone_within("/brokers/topics/by-znode", LIMIT));
}

#[test]
fn groups_are_shown_as_kafka_shows_them() {
    let cluster = Cluster::shared();
    let broker = cluster.broker.address();
    cluster.broker.wire().create_topic("grouped", 2, &[]);
    let lines: String = (0..50).map(|i| format!("k{i}:line {i}\n")).collect();
    let parse = "--property parse.key=true --property key.separator=:";
    tool("kafka-console-producer", &format!("--broker-list {broker} --topic grouped {parse}"), &lines);
    let read =
        format!("--bootstrap-server {broker} --topic grouped --group reading --from-beginning --max-messages 50");
    assert_eq!(tool("kafka-console-consumer", &read, "").lines().count(), 50);
    for line in ["--describe --group reading", "--describe --group reading --state", "--describe --group no-such-group"]
    {
        same(NEW, "kafka-consumer-groups", &format!("{line} --timeout 60000 --bootstrap-server {broker}"));
    }
    let reset =
        format!("--reset-offsets --group reading --topic grouped:0 --bootstrap-server {broker} --timeout 60000");
    let text = tool("kafka-consumer-groups", &format!("{reset} --to-offset 1 --execute"), "");
    let row: Vec<&str> = text.lines().last().unwrap_or_default().split_whitespace().collect();
    assert_eq!(row, ["reading", "grouped", "0", "1"]);
    let original = theirs(
        NEW,
        "kafka-consumer-groups",
        &format!("--describe --group reading --timeout 60000 --bootstrap-server {broker}"),
    );
    let row = original.stdout.lines().find(|line| line.contains(" 0          1 ")).map(str::to_owned);
    assert!(row.is_some(), "{}", original.stdout);
}

#[test]
fn each_reads_what_the_others_console_wrote() {
    let cluster = Cluster::shared();
    let broker = cluster.broker.address();
    cluster.broker.wire().create_topic("console-both", 1, &[]);
    let parse = "--property parse.key=true --property parse.headers=true --property key.separator=; --property null.marker=NULL";
    let lines = "h1:v1,h2:v2\tk1;first\nh1:v1\tk2;NULL\nh:\tNULL;third\n";
    for codec in ["", "--compression-codec", "--compression-codec zstd --sync"] {
        let line = format!("--broker-list {broker} --topic console-both {parse} {codec}");
        tool("kafka-console-producer", &line, lines);
    }
    let mut command = jvm::tool(NEW, "kafka-console-producer");
    let line = format!("--bootstrap-server {broker} --topic console-both {parse} --compression-codec lz4");
    run_ok(
        "producer",
        {
            command.args(line.split_whitespace());
            command
        },
        lines,
        LIMIT,
    );
    let print = ["key", "headers", "partition", "offset"].map(|what| format!("--property print.{what}=true")).join(" ");
    let read = format!(
        "--bootstrap-server {broker} --topic console-both --partition 0 --offset earliest --max-messages 12 {print}"
    );
    let mine = tool("kafka-console-consumer", &read, "");
    assert_eq!(mine, theirs(NEW, "kafka-console-consumer", &read).stdout);
    assert_eq!(mine.lines().next(), Some("Partition:0\tOffset:0\th1:v1,h2:v2\tk1\tfirst"));
    assert_eq!(mine.lines().nth(2), Some("Partition:0\tOffset:2\th:\tnull\tthird"));
}

#[test]
fn a_chroot_that_is_missing_stays_so() {
    let cluster = Cluster::shared();
    let nowhere = format!("{}/nowhere/kafka", cluster.zookeeper.connect());
    same(OLD, "kafka-topics", &format!("--list --zookeeper {nowhere}"));
    let create = format!("--create --zookeeper {nowhere} --topic t --partitions 1 --replication-factor 1");
    same(OLD, "kafka-topics", &create);
    assert!(!ours("kafka-topics", &create, "").status.success());
    assert!(cluster.zookeeper.read("/nowhere").is_none(), "only a broker makes its chroot");
}

/// Nobody answers: that is said at once, tried again and again, and each line is given up when its time is over.
#[test]
fn the_console_producer_tells_of_a_broker_that_is_away() {
    let away = format!("127.0.0.1:{}", free_port());
    let begin = Instant::now();
    let output =
        ours("kafka-console-producer", &format!("--broker-list {away} --topic t --max-block-ms 1500"), "one\ntwo\n");
    assert!(!output.status.success());
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(output.stderr.contains("Connection refused"), "{}", output.stderr);
    let given_up = output.stderr.matches("Topic t not present in metadata after 1500 ms.").count();
    assert_eq!(given_up, 2, "{}", output.stderr);
}

#[test]
fn the_console_producer_waits_for_a_broker_that_comes_late() {
    let zookeeper = ZooKeeper::single();
    let mut broker = Broker::new(Kind::under_test(), &zookeeper.connect());
    let mut command = Command::new("sh");
    command.args(["-c", "printf 'one\ntwo\n' | \"$0\" kafka-console-producer \"$@\""]).arg(barnabas());
    command.args(["--broker-list", &broker.address(), "--topic", "late"]);
    let log = broker.path("producer.log");
    let mut producer = Process::start("kafka-console-producer", command, &log);
    let said = || producer.log_text().contains("Connection refused").then_some(());
    wait_for("the producer to say that nobody is there", PATIENCE, said);
    broker.start();
    assert!(producer.wait(PATIENCE).expect("it ends").success(), "{}", producer.log_text());
    let read = broker.wire().read_values("late", 0, 0);
    assert_eq!(read, [(0, "one".to_owned()), (1, "two".to_owned())]);
}

#[test]
fn what_cannot_be_done_is_said() {
    for (name, line, said) in [
        ("kafka-topics", "--list", "Only one of --bootstrap-server or --zookeeper must be specified"),
        ("kafka-topics", "--list --bootstrap-server x", "host:port"),
        ("kafka-topics", "--list --zookeeper x:1 --no-such-option", "--no-such-option"),
        ("kafka-console-producer", "--broker-list x:1", "--topic"),
        ("kafka-console-producer", "--broker-list x:1 --topic t --line-reader com.acme.Reader", "com.acme.Reader"),
        ("kafka-console-producer", "--broker-list x:1 --topic t --producer-property no.such=1", "no.such"),
        (
            "kafka-console-consumer",
            "--bootstrap-server x:1 --topic t --formatter com.acme.Formatter",
            "com.acme.Formatter",
        ),
        ("kafka-console-consumer", "--bootstrap-server x:1 --topic t --offset 5", "--partition"),
        ("kafka-consumer-groups", "--list", "bootstrap-server"),
        ("kafka-server-start", "no-such-file.properties", "no-such-file.properties"),
        ("zookeeper-server-start", "no-such-file.properties", "no-such-file.properties"),
    ] {
        let output = ours(name, line, "");
        let text = output.stdout + &output.stderr;
        assert!(!output.status.success() && text.contains(said), "{name} {line}: {text}");
    }
    for (name, _) in [
        ("kafka-topics", ""),
        ("kafka-console-producer", ""),
        ("kafka-console-consumer", ""),
        ("kafka-consumer-groups", ""),
    ] {
        assert!(tool(name, "--help", "").contains("--bootstrap-server"));
        assert!(tool(name, "--version", "").starts_with("barnabas "));
    }
}
