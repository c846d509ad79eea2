//! The operator's tools beside Kafka's own: log dirs, configs, reassignments, elections.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::jvm::{NEW, OLD};
use crate::tools::{ours, same, theirs, tool};

#[test]
fn log_dirs_are_shown_as_kafka_shows_them() {
    let cluster = Cluster::shared();
    let broker = cluster.broker.address();
    cluster.broker.wire().create_topic("in-a-log-dir", 1, &[]);
    tool("kafka-console-producer", &format!("--broker-list {broker} --topic in-a-log-dir"), "a\nb\n");
    for line in [
        "--describe --topic-list in-a-log-dir",
        "--describe --topic-list in-a-log-dir --broker-list 0",
        "--describe --topic-list no-such-topic",
    ] {
        same(NEW, "kafka-log-dirs", &format!("{line} --bootstrap-server {broker}"));
    }
    let text = tool("kafka-log-dirs", &format!("--describe --topic-list in-a-log-dir --bootstrap-server {broker}"), "");
    let json = text.lines().last().unwrap_or_default();
    assert!(json.contains(r#""partition":"in-a-log-dir-0""#) && !json.contains(r#""size":0"#), "{json}");
    let line = format!("--describe --broker-list 0,7 --bootstrap-server {broker}");
    let (mine, original) = (ours("kafka-log-dirs", &line, ""), theirs(NEW, "kafka-log-dirs", &line));
    assert!(!mine.status.success() && !original.status.success());
    let said = "ERROR: The given brokers do not exist from --broker-list: 7. Current existent brokers: 0";
    assert!(mine.stderr.contains(said) && original.stderr.contains(said), "{}{}", mine.stderr, original.stderr);
}

/// The lines that both print, sorted where the original's order is that of a hash table.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn configs_are_shown_and_changed_as_kafka_does() {
    let cluster = Cluster::start(Kind::under_test());
    let (broker, zookeeper) = (cluster.broker.address(), cluster.zookeeper.connect());
    cluster.broker.wire().create_topic("configured", 1, &[]);
    let change = |line: &str| tool("kafka-configs", &format!("{line} --bootstrap-server {broker}"), "");
    let added = "--alter --topic configured --add-config retention.ms=77777,cleanup.policy=[compact,delete]";
    assert_eq!(change(added), "Completed updating config for topic configured.\n");
    assert_eq!(
        change("--alter --entity-type brokers --entity-name 0 --add-config log.retention.ms=88888"),
        "Completed updating config for broker 0.\n"
    );
    assert_eq!(
        change("--alter --broker-defaults --add-config log.segment.bytes=1000000,log.retention.ms=99999"),
        "Completed updating default config for brokers in the cluster.\n"
    );
    for line in [
        "--describe --topic configured",
        "--describe --entity-type topics",
        "--describe --topic no-such-topic",
        "--describe --broker 0",
        "--describe --broker-defaults",
        "--describe --entity-type brokers",
        "--alter --topic configured --add-config segment.bytes=3000000",
        "--alter --broker 0 --add-config message.max.bytes=2000000",
    ] {
        same(NEW, "kafka-configs", &format!("{line} --bootstrap-server {broker}"));
    }
    let delete = format!("--alter --broker-defaults --delete-config log.segment.bytes --bootstrap-server {broker}");
    assert!(theirs(NEW, "kafka-configs", &delete).status.success());
    same(NEW, "kafka-configs", &format!("--describe --broker-defaults --bootstrap-server {broker}"));
    for line in ["--alter --topic configured --delete-config flush.ms", "--alter --broker 0 --add-config log.dirs=/x"] {
        let line = format!("{line} --bootstrap-server {broker}");
        let (mine, original) = (ours("kafka-configs", &line, ""), theirs(NEW, "kafka-configs", &line));
        assert!(!mine.status.success() && !original.status.success(), "{line}");
    }
    // What Kafka's tool sets is seen, and what is set holds: the topic's own segment size, the brokers' retention.
    let all = change("--describe --topic configured --all");
    for shown in ["segment.bytes=3000000", "retention.ms=77777", "cleanup.policy=compact,delete"] {
        assert!(all.contains(&format!("  {shown} sensitive=false")), "{all}");
    }
    for line in [
        format!("--describe --zookeeper {zookeeper} --entity-type topics --entity-name configured"),
        format!(
            "--alter --zookeeper {zookeeper} --entity-type topics --entity-name configured --add-config flush.ms=9"
        ),
        format!(
            "--alter --zookeeper {zookeeper} --entity-type topics --entity-name configured --delete-config flush.ms"
        ),
        format!("--describe --zookeeper {zookeeper} --entity-type brokers --entity-name 0"),
        format!("--describe --zookeeper {zookeeper} --entity-type brokers --entity-default"),
    ] {
        let mine = ours("kafka-configs", &line, "");
        let original = theirs(OLD, "kafka-configs", &line);
        if line.contains("--delete-config") {
            assert!(mine.status.success() && !original.status.success(), "it is gone: {}", original.stdout);
        } else {
            let items = |text: &str| text.replace(" are ", "\n").replace(',', "\n");
            let (mine, original) = (items(&mine.stdout), items(&original.stdout));
            assert_eq!(sorted(&mine), sorted(&original), "{line}");
        }
    }
}
