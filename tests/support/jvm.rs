//! Apache Kafka's own programs, from the jars that `tests/run.sh` copied.

use super::cache;
use super::dirs;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub const NEW: &str = "3.9.1";
pub const OLD: &str = "2.8.2";

/// A command that runs `class` of Kafka `version` with `heap` (such as `256m`).
pub fn java(version: &str, heap: &str, class: &str) -> Command {
    let java = cache().join("java");
    let classpath = format!(
        "{}:{}/*",
        java.join(format!("client-{version}")).display(),
        java.join(format!("kafka-{version}")).display()
    );
    with_classpath(heap, &classpath, class)
}

fn with_classpath(heap: &str, classpath: &str, class: &str) -> Command {
    let mut command = Command::new("java");
    command.args([&format!("-Xmx{heap}"), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.arg(format!("-Dlog4j.configuration=file:{}", log4j().display()));
    command.args(["-cp", classpath, class]);
    command
}

/// A command that runs one of Kafka's programs that use a cluster (Connect, MirrorMaker), or one of ours on its libraries.
pub fn program(class: &str) -> Command {
    let java = cache().join("java");
    let jars = java.join(format!("programs-{NEW}"));
    with_classpath("384m", &format!("{}:{}/*", java.join("programs").display(), jars.display()), class)
}

/// One of Kafka's console tools by the name of its script.
pub fn tool(version: &str, script: &str) -> Command {
    let class = match (script, version) {
        ("kafka-console-producer", _) => "kafka.tools.ConsoleProducer",
        ("kafka-console-consumer", OLD) => "kafka.tools.ConsoleConsumer",
        ("kafka-console-consumer", _) => "org.apache.kafka.tools.consumer.ConsoleConsumer",
        ("kafka-dump-log", _) => "kafka.tools.DumpLogSegments",
        ("kafka-topics", OLD) => "kafka.admin.TopicCommand",
        ("kafka-topics", _) => "org.apache.kafka.tools.TopicCommand",
        ("kafka-consumer-groups", OLD) => "kafka.admin.ConsumerGroupCommand",
        ("kafka-consumer-groups", _) => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        ("kafka-get-offsets", _) => "org.apache.kafka.tools.GetOffsetShell",
        ("kafka-configs", _) => "kafka.admin.ConfigCommand",
        ("kafka-delete-records", OLD) => "kafka.admin.DeleteRecordsCommand",
        ("kafka-delete-records", _) => "org.apache.kafka.tools.DeleteRecordsCommand",
        ("kafka-transactions", _) => "org.apache.kafka.tools.TransactionsCommand",
        ("kafka-log-dirs", OLD) => "kafka.admin.LogDirsCommand",
        ("kafka-log-dirs", _) => "org.apache.kafka.tools.LogDirsCommand",
        ("kafka-reassign-partitions", OLD) => "kafka.admin.ReassignPartitionsCommand",
        ("kafka-reassign-partitions", _) => "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
        ("kafka-leader-election", OLD) => "kafka.admin.LeaderElectionCommand",
        ("kafka-leader-election", _) => "org.apache.kafka.tools.LeaderElectionCommand",
        ("kafka-preferred-replica-election", OLD) => "kafka.admin.PreferredReplicaLeaderElectionCommand",
        _ => panic!("{script} has no class here"),
    };
    java(version, "256m", class)
}

fn log4j() -> PathBuf {
    let path = dirs::root().join("log4j.properties");
    if !path.exists() {
        let text = "log4j.rootLogger=INFO, stderr\n\
                    log4j.appender.stderr=org.apache.log4j.ConsoleAppender\n\
                    log4j.appender.stderr.Target=System.err\n\
                    log4j.appender.stderr.layout=org.apache.log4j.PatternLayout\n\
                    log4j.appender.stderr.layout.ConversionPattern=%d{HH:mm:ss.SSS} %p %m (%c{1})%n\n\
                    log4j.logger.org.apache.kafka.clients=WARN\n";
        fs::write(&path, text).expect("log4j.properties");
    }
    path
}
