//! The operator's tools beside Kafka's own: log dirs, configs, reassignments, elections.

use crate::support::cluster::Cluster;
use crate::support::jvm::NEW;
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
