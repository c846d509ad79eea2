//! A new user's session, by the scripts in `bin/` and the files in `config/`, and what the same commands print when they
//! are the original's own, asked about the same broker.

use crate::support::broker::{Kind, barnabas};
use crate::support::dirs::TestDir;
use crate::support::jvm::{NEW, OLD, tool};
use crate::support::process::{Process, run, run_ok};
use crate::support::wire::Wire;
use crate::support::{PATIENCE, free_port, poll, wait_for};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of a file in `config/` with some keys set otherwise, as a user edits it.
fn edited(dir: &TestDir, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(root().join("config").join(name)).expect("a configuration");
    for (key, value) in changes {
        text += &format!("\n{key}={value}\n");
    }
    let path = dir.join(name);
    fs::write(&path, text).expect("a configuration");
    path
}

struct Session {
    dir: TestDir,
    _zookeeper: Process,
    broker: Process,
    zookeeper_address: String,
    address: String,
}

impl Session {
    /// ZooKeeper and the broker, by the scripts.
    fn start() -> Session {
        let dir = TestDir::new("session");
        let (zookeeper_port, port) = (free_port(), free_port());
        let data = dir.join("zookeeper").display().to_string();
        let config =
            edited(&dir, "zookeeper.properties", &[("dataDir", &data), ("clientPort", &zookeeper_port.to_string())]);
        let mut command = script("zookeeper-server-start");
        command.arg(config).env("LOG_DIR", dir.join("logs"));
        let zookeeper = Process::start("zookeeper-server-start", command, &dir.join("zookeeper.log"));
        wait_for("ZooKeeper", PATIENCE, || TcpStream::connect(("127.0.0.1", zookeeper_port)).ok());

        let zookeeper_address = format!("localhost:{zookeeper_port}");
        let config = edited(&dir, "server.properties", &[("zookeeper.connect", &zookeeper_address)]);
        let mut command = script("kafka-server-start");
        command.arg(config).env("LOG_DIR", dir.join("logs"));
        command.args(["--override", &format!("listeners=PLAINTEXT://localhost:{port}")]);
        command.args(["--override", &format!("log.dirs={}", dir.join("data").display())]);
        let broker = Process::start("kafka-server-start", command, &dir.join("broker.log"));
        let address = format!("localhost:{port}");
        wait_for("the broker", PATIENCE, || {
            let answer = Wire::connect(&address).ok()?.try_metadata(&[]).ok()?;
            (answer.controller_id.0 == 0).then_some(())
        });
        Session { dir, _zookeeper: zookeeper, broker, zookeeper_address, address }
    }

    /// The words of a command line, with the places filled in that stand for the servers.
    fn words(&self, line: &str) -> Vec<String> {
        let fill = |word: &str| word.replace("ZOOKEEPER", &self.zookeeper_address).replace("BROKER", &self.address);
        line.split_whitespace().map(fill).collect()
    }

    fn ours(&self, name: &str, line: &str, input: &str) -> String {
        let mut command = script(name);
        command.args(self.words(line));
        run_ok(name, command, input, LIMIT)
    }

    fn original(&self, version: &str, name: &str, line: &str, input: &str) -> String {
        let mut command = tool(version, name);
        command.args(self.words(line));
        run_ok(&format!("{name} of {version}"), command, input, LIMIT)
    }

    /// Runs a command line by our script and by the original of `version`, and compares what they print.
    fn same(&self, version: &str, name: &str, line: &str) -> String {
        let ours = tidy(&self.ours(name, line, ""));
        let original = tidy(&self.original(version, name, line, ""));
        // What is told of several topics or partitions comes in the order of a hash map.
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let several = name == "kafka-consumer-groups" || (name == "kafka-topics" && !line.contains("--topic "));
        if several {
            assert_eq!(sorted(&ours), sorted(&original), "{name} {line}: ours, and the original's of {version}");
            return ours;
        }
        assert_eq!(ours, original, "{name} {line}: ours, and the original's of {version}");
        ours
    }

    /// As [`Session::same`] for command lines that fail: both fail, and say the same line somewhere.
    fn both_refuse(&self, version: &str, name: &str, line: &str, says: &str) {
        let mut ours = script(name);
        ours.args(self.words(line));
        let mut original = tool(version, name);
        original.args(self.words(line));
        for (who, command) in [("ours", ours), ("the original", original)] {
            let output = run(name, command, "", LIMIT);
            let text = output.stdout + &output.stderr;
            assert!(!output.status.success(), "{name} {line}: {who} succeeds with {text}");
            assert!(text.contains(says), "{name} {line}: {who} says\n{text}");
        }
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("bin").join(format!("{name}.sh")));
    command.env("BARNABAS_BIN", barnabas());
    command
}

/// Spaces at the ends of lines and empty lines do not matter; tabs do, as scripts cut by them.
fn tidy(text: &str) -> String {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The session word for word, save that the ports are free ones.
#[test]
fn a_new_user() {
    if Kind::under_test() != Kind::Barnabas {
        return;
    }
    let mut session = Session::start();
    let created = session.ours(
        "kafka-topics",
        "--create --zookeeper ZOOKEEPER --partitions 1 --replication-factor 1 --topic test",
        "",
    );
    assert_eq!(created.trim(), "Created topic test.");
    let described = session.same(OLD, "kafka-topics", "--describe --zookeeper ZOOKEEPER --topic test");
    assert!(described.contains("Topic: test\tPartition: 0\tLeader: 0\tReplicas: 0\tIsr: 0"), "{described}");
    let lines = "This is a message\nThis is another message\n";
    session.ours("kafka-console-producer", "--broker-list BROKER --topic test", lines);
    let read = "--bootstrap-server BROKER --topic test --from-beginning --max-messages 2 --timeout-ms 30000";
    assert_eq!(session.same(NEW, "kafka-console-consumer", read), lines.trim_end());
    session.broker.terminate();
    assert!(session.dir.join("data/.kafka_cleanshutdown").exists());
}

/// Outputs of our tools beside the original's, about the same broker.
#[test]
fn tools_print_what_the_originals_print() {
    if Kind::under_test() != Kind::Barnabas {
        return;
    }
    let session = Session::start();
    let topics = "kafka-topics";
    // Created by each, with every way of naming the servers.
    for (index, (line, version)) in [
        ("--create --bootstrap-server BROKER --partitions 3 --replication-factor 1 --config retention.ms=3600000", NEW),
        ("--create --zookeeper ZOOKEEPER --partitions 2 --replication-factor 1 --config max.message.bytes=64000", OLD),
        ("--create --bootstrap-server BROKER --replica-assignment 0,0", OLD),
    ]
    .iter()
    .enumerate()
    {
        let ours = tidy(&session.ours(topics, &format!("{line} --topic ours-{index}"), ""));
        let original = tidy(&session.original(version, topics, &format!("{line} --topic theirs-{index}"), ""));
        assert_eq!(ours.replace("ours", "theirs"), original);
    }
    session.original(NEW, topics, "--create --bootstrap-server BROKER --topic with.dot --partitions 1", "");
    for line in ["--list", "--describe", "--describe --topic ours-0", "--describe --topics-with-overrides"] {
        session.same(NEW, topics, &format!("{line} --bootstrap-server BROKER"));
        session.same(OLD, topics, &format!("{line} --zookeeper ZOOKEEPER"));
    }
    session.same(NEW, topics, "--describe --bootstrap-server BROKER --unavailable-partitions");
    let describe_old = session.original(OLD, topics, "--describe --bootstrap-server BROKER --topic ours-0", "");
    assert!(describe_old.contains("PartitionCount: 3"));
    session.same(NEW, topics, "--alter --bootstrap-server BROKER --partitions 4 --if-exists --topic none");
    session.both_refuse(
        NEW,
        topics,
        "--create --bootstrap-server BROKER --topic ours-0",
        "Topic 'ours-0' already exists.",
    );
    session.both_refuse(
        NEW,
        topics,
        "--describe --bootstrap-server BROKER --topic nobody",
        "does not exist as expected",
    );
    session.both_refuse(NEW, topics, "--delete --bootstrap-server BROKER --topic nobody", "does not exist as expected");
    session.both_refuse(
        NEW,
        topics,
        "--create --bootstrap-server BROKER --topic far --partitions 1 --replication-factor 3",
        "eplication factor: 3 larger than available brokers: 1",
    );
    session.both_refuse(NEW, topics, "--create --bootstrap-server BROKER --topic sp@ce --partitions 1", "sp@ce");

    let input: String = (0..50).map(|i| format!("key{}:value {i}\n", i % 5)).collect();
    let produce = "--bootstrap-server BROKER --topic ours-0 --property parse.key=true --property key.separator=:";
    session.ours("kafka-console-producer", produce, &input);
    session.original(OLD, "kafka-console-producer", &produce.replace("ours-0", "theirs-0"), &input);
    let consume = "--bootstrap-server BROKER --from-beginning --timeout-ms 30000 --property print.key=true";
    for version in [NEW, OLD] {
        for options in [
            "--topic ours-0 --partition 0 --max-messages 5",
            "--topic ours-0 --partition 1 --max-messages 3 --property print.offset=true --property print.partition=true",
            "--topic ours-0 --partition 0 --max-messages 4 --property print.timestamp=true --property key.separator=|",
        ] {
            let consume = consume
                .replace("--from-beginning", if options.contains("--partition ") { "--offset earliest" } else { "" });
            session.same(version, "kafka-console-consumer", &format!("{consume} {options}"));
        }
    }
    // Keys go to the same partitions.
    let ends = |topic: &str| -> Vec<i64> {
        let mut wire = Wire::connect(&session.address).expect("the broker accepts");
        (0..3).map(|partition| wire.list_offset(topic, partition, -1).1).collect()
    };
    assert_eq!(ends("ours-0"), ends("theirs-0"), "records by partition");

    for (group, topic) in [("first", "ours-0"), ("second", "theirs-0")] {
        let line =
            format!("--bootstrap-server BROKER --topic {topic} --group {group} --from-beginning --max-messages 50");
        session.ours("kafka-console-consumer", &format!("{line} --timeout-ms 30000"), "");
    }
    let groups = "kafka-consumer-groups";
    for version in [NEW, OLD] {
        let list = |text: String| {
            let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
            names.sort();
            names
        };
        let line = "--list --bootstrap-server BROKER";
        assert_eq!(list(session.ours(groups, line, "")), list(session.original(version, groups, line, "")));
    }
    for line in ["--describe --group first", "--describe --group first --state", "--describe --group first --members"] {
        session.same(NEW, groups, &format!("--bootstrap-server BROKER {line}"));
    }
    let reset = "--reset-offsets --group first --topic ours-0 --bootstrap-server BROKER";
    for how in
        ["--to-earliest --dry-run", "--shift-by -2 --dry-run", "--to-offset 3 --dry-run", "--to-latest --dry-run"]
    {
        // That of 3.9.1 prints all rows in one line.
        session.same(OLD, groups, &format!("{reset} {how}"));
    }
    session.ours(groups, &format!("{reset} --to-earliest --execute"), "");
    session.same(NEW, groups, "--bootstrap-server BROKER --describe --group first");
    // The original says so and exits with 0 nevertheless.
    let mut command = script(groups);
    command.args(session.words("--bootstrap-server BROKER --delete --group nobody"));
    let output = run(groups, command, "", LIMIT);
    let said = output.stdout + &output.stderr;
    assert!(said.contains("Group 'nobody' could not be deleted"), "{said}");
    session.ours(groups, "--bootstrap-server BROKER --delete --group first", "");
    session.same(NEW, groups, "--list --bootstrap-server BROKER");

    session.same(NEW, topics, "--list --exclude-internal --bootstrap-server BROKER");
    session.ours(topics, "--delete --bootstrap-server BROKER --topic ours-0", "");
    let gone =
        poll(PATIENCE, || (!session.ours(topics, "--list --zookeeper ZOOKEEPER", "").contains("ours-0")).then_some(()));
    assert!(gone.is_some(), "the topic is gone");
}

/// A configuration with a misspelt key starts with a warning, one with a bad value does not start.
#[test]
fn configuration_mistakes() {
    if Kind::under_test() != Kind::Barnabas {
        return;
    }
    let dir = TestDir::new("mistakes");
    let start = |name: &str, changes: &[(&str, &str)]| {
        let config = edited(&dir, "server.properties", changes);
        let mut command = script("kafka-server-start");
        command.arg(config).env("LOG_DIR", dir.join("logs"));
        command.args(["--override", &format!("log.dirs={}", dir.join("data").display())]);
        Process::start(name, command, &dir.join(name))
    };
    let mut process = start("bad-value", &[("log.segment.bytes", "plenty")]);
    assert!(!process.wait(LIMIT).expect("it does not start").success());
    let text = process.log_text();
    assert!(text.contains("log.segment.bytes") && text.contains("plenty"), "{text}");

    let mut process = start("too-small", &[("log.segment.bytes", "3")]);
    assert!(!process.wait(LIMIT).expect("it does not start").success());
    let text = process.log_text();
    assert!(text.contains("log.segment.bytes") && text.contains("14"), "says what is allowed: {text}");

    let nobody = format!("localhost:{}", free_port());
    let misspelt =
        [("log.retention.huors", "5"), ("zookeeper.connect", &nobody), ("zookeeper.connection.timeout.ms", "500")];
    let mut process = start("unknown-key", &misspelt);
    let warned = poll(LIMIT, || process.log_text().contains("log.retention.hours").then_some(()));
    assert!(warned.is_some(), "the nearest known key is named: {}", process.log_text());
    // Nobody listens there: it gives up after the time-out and says where it looked.
    assert!(!process.wait(LIMIT).expect("it gives up").success());
    assert!(process.log_text().contains(&nobody), "{}", process.log_text());
}
