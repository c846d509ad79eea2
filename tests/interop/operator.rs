//! The operator's tools beside Kafka's own: log dirs, configs, reassignments, elections.

use crate::support::broker::{Broker, Kind};
use crate::support::cluster::Cluster;
use crate::support::jvm::{NEW, OLD};
use crate::support::wait_for;
use crate::support::zookeeper::ZooKeeper;
use crate::tools::{LIMIT, ours, same, theirs, tool};

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

/// A cluster of Kafka's own brokers, on which both tools must do the same.
fn jvm_cluster(count: i32) -> (ZooKeeper, Vec<Broker>) {
    let zookeeper = ZooKeeper::single();
    let mut brokers: Vec<Broker> =
        (0..count).map(|id| Broker::with_id(Kind::Jvm(NEW), id, &zookeeper.connect())).collect();
    for broker in &mut brokers {
        let second = broker.path("second").display().to_string();
        let dirs = format!("{},{second}", broker.data().display());
        // Kafka's controller moves leaders back by itself a few seconds after it took office.
        broker.set("log.dirs", dirs).set("auto.leader.rebalance.enable", false);
        broker.launch();
    }
    brokers.iter_mut().for_each(Broker::wait_serving);
    (zookeeper, brokers)
}

/// Makes a topic whose replicas are chosen, and waits until every broker knows its leaders: Kafka's are told of a new topic
/// one after the other.
fn create(brokers: &[Broker], topic: &str, replicas: &str) {
    let at = brokers[0].address();
    let line = format!("--create --bootstrap-server {at} --topic {topic} --replica-assignment {replicas}");
    tool("kafka-topics", &line, "");
    let partitions = replicas.split(',').count();
    for broker in brokers {
        let knows = || broker.wire().topic_ready(topic, partitions).then_some(());
        wait_for(&format!("{topic} to be known at {}", broker.address()), LIMIT, knows);
    }
}

#[test]
fn partitions_are_moved_on_kafkas_brokers() {
    let (zookeeper, brokers) = jvm_cluster(3);
    let broker = brokers[0].address();
    create(&brokers, "moved", "0:1,0:1");
    let file = |name: &str, text: String| {
        let path = brokers[0].path(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let run = |line: &str| tool("kafka-reassign-partitions", &format!("{line} --bootstrap-server {broker}"), "");
    let topics = file("topics.json", r#"{"topics":[{"topic":"moved"}],"version":1}"#.to_owned());
    let proposed = run(&format!("--generate --topics-to-move-json-file {topics} --broker-list 1,2"));
    let current = r#"{"version":1,"partitions":[{"topic":"moved","partition":0,"replicas":[0,1],"log_dirs":["any","any"]},{"topic":"moved","partition":1,"replicas":[0,1],"log_dirs":["any","any"]}]}"#;
    let expected =
        format!("Current partition replica assignment\n{current}\n\nProposed partition reassignment configuration\n");
    assert!(proposed.starts_with(&expected), "{proposed}");
    let second = brokers[2].path("second").display().to_string();
    let wanted = format!(
        r#"{{"version":1,"partitions":[{{"topic":"moved","partition":0,"replicas":[2,1],"log_dirs":["{second}","any"]}},{{"topic":"moved","partition":1,"replicas":[1,2]}}]}}"#
    );
    let wanted = file("wanted.json", wanted);
    let json = format!("--reassignment-json-file {wanted}");
    let begun = run(&format!("--execute {json} --throttle 50000000 --replica-alter-log-dirs-throttle 60000000"));
    let expected = format!(
        "Current partition replica assignment\n\n{current}\n\nSave this to use as the --reassignment-json-file option during \
         rollback\nWarning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is \
         removed.\nThe inter-broker throttle limit was set to 50000000 B/s\nThe replica-alter-dir throttle limit was set to \
         60000000 B/s\nSuccessfully started partition reassignments for moved-0,moved-1\nSuccessfully started moving log \
         directory to {second} for replica moved-0 with broker 2 \n"
    );
    assert_eq!(begun, expected);
    let verify = |more: &str| format!("--verify {json} {more} --bootstrap-server {broker}");
    wait_for("the moves to end", LIMIT, || {
        let text = tool("kafka-reassign-partitions", &verify("--preserve-throttles"), "");
        (!text.contains("in progress")).then_some(())
    });
    // Both tools say the same of what is done, and take the same throttles away.
    same(NEW, "kafka-reassign-partitions", &verify("--preserve-throttles"));
    same(NEW, "kafka-reassign-partitions", &verify(""));
    let topic = tool("kafka-configs", &format!("--describe --topic moved --bootstrap-server {broker}"), "");
    assert_eq!(topic, "Dynamic configs for topic moved are:\n");
    for line in
        ["--list".to_owned(), format!("--cancel {json}"), format!("--execute --reassignment-json-file {topics}")]
    {
        same_start(NEW, "kafka-reassign-partitions", &format!("{line} --bootstrap-server {broker}"));
    }
    let unknown = r#"{"partitions":[{"topic":"moved","partition":0,"replicas":[9]}]}"#.to_owned();
    let missing = r#"{"partitions":[{"topic":"moved","partition":7,"replicas":[1]}]}"#.to_owned();
    for (name, text) in [("unknown.json", unknown), ("missing.json", missing)] {
        let path = file(name, text);
        let line = format!("--execute --reassignment-json-file {path} --bootstrap-server {broker}");
        let (mine, original) =
            (ours("kafka-reassign-partitions", &line, ""), theirs(NEW, "kafka-reassign-partitions", &line));
        assert!(!mine.status.success() && !original.status.success());
        let said = mine.stdout.trim().trim_start_matches("Error: ").to_owned();
        assert!(original.stdout.contains(&said), "{said}\n{}", original.stdout);
    }
    // And 2.8's way, through ZooKeeper: the controller takes the request from there.
    let back = file("back.json", current.to_owned());
    let zk = zookeeper.connect();
    let text =
        tool("kafka-reassign-partitions", &format!("--execute --reassignment-json-file {back} --zookeeper {zk}"), "");
    assert!(text.ends_with("Successfully started partition reassignments for moved-0,moved-1\n"), "{text}");
    wait_for("the moves back to end", LIMIT, || {
        let line = format!("--verify --reassignment-json-file {back} --zookeeper {zk}");
        let text = tool("kafka-reassign-partitions", &line, "");
        (text.matches("is completed.").count() == 2).then_some(())
    });
}

/// As [`same`], for tools that end their last line or not, and go on with a stack trace where they fail.
fn same_start(version: &str, name: &str, line: &str) {
    let (mine, original) = (ours(name, line, ""), theirs(version, name, line));
    assert_eq!(mine.status.success(), original.status.success(), "{name} {line}: {}", mine.stdout);
    assert!(original.stdout.starts_with(mine.stdout.trim_end()), "{name} {line}: {}\n{}", mine.stdout, original.stdout);
}

#[test]
fn leaders_are_elected_on_kafkas_brokers() {
    let (zookeeper, mut brokers) = jvm_cluster(2);
    let broker = brokers[0].address();
    create(&brokers, "led", "1:0,0:1");
    let elect = |line: &str| format!("{line} --election-type preferred --bootstrap-server {broker}");
    // Broker 1 goes and comes back: broker 0 leads everything then.
    brokers[1].stop();
    brokers[1].start();
    wait_for("broker 1 to be in sync", LIMIT, || {
        let text = tool("kafka-topics", &format!("--describe --topic led --bootstrap-server {broker}"), "");
        (text.matches("Leader: 0").count() == 2 && text.matches("Isr: 0,1").count() == 2).then_some(())
    });
    let text = tool("kafka-leader-election", &elect("--topic led --partition 0"), "");
    assert_eq!(text, "Successfully completed leader election (PREFERRED) for partitions led-0\n");
    same(NEW, "kafka-leader-election", &elect("--topic led --partition 0"));
    same(NEW, "kafka-leader-election", &elect("--topic led --partition 1"));
    for line in ["--topic led --partition 7", "--topic no-such-topic --partition 0"] {
        let (mine, original) =
            (ours("kafka-leader-election", &elect(line), ""), theirs(NEW, "kafka-leader-election", &elect(line)));
        assert!(!mine.status.success() && !original.status.success(), "{line}");
        assert_eq!(mine.stdout, original.stdout, "{line}");
    }
    assert!(ours("kafka-leader-election", &elect("--all-topic-partitions"), "").status.success());
    let path = brokers[0].path("led.json");
    std::fs::write(&path, r#"{"partitions":[{"topic":"led","partition":0},{"topic":"led","partition":9}]}"#)
        .expect("a file");
    let (path, zk) = (path.display(), zookeeper.connect());
    let line = format!("--zookeeper {zk} --path-to-json-file {path}");
    let mine = tool("kafka-preferred-replica-election", &line, "");
    zookeeper.gone_within("/admin/preferred_replica_election", LIMIT);
    let original = theirs(OLD, "kafka-preferred-replica-election", &line);
    assert_eq!(mine, original.stdout);
    let line = format!("--bootstrap-server {broker} --path-to-json-file {path}");
    let mine = ours("kafka-preferred-replica-election", &line, "");
    let original = theirs(OLD, "kafka-preferred-replica-election", &line);
    // The original leaves the names of those that needed no election out.
    let mine = mine.stdout.replace("already elected for partitions led-0", "already elected for partitions ");
    assert_eq!(sorted(&mine), sorted(&original.stdout));
}
