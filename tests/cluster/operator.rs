//! The operator's tools on three brokers: replicas move under a throttle, moves end and are called back, leadership returns.

use crate::support::broker::{Kind, barnabas};
use crate::support::brokers::Brokers;
use crate::support::process::run;
use crate::support::records::noise;
use crate::support::{PATIENCE, wait_for};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs a tool of ours against the first broker and wants it to succeed.
fn tool(cluster: &Brokers, name: &str, line: &str) -> String {
    let mut command = Command::new(barnabas());
    command.arg(name).args(["--bootstrap-server", &cluster.brokers[0].address()]).args(line.split_whitespace());
    let output = run(&format!("{name} {line}"), command, "", PATIENCE);
    assert!(output.status.success(), "{name} {line}:\n{}{}", output.stdout, output.stderr);
    output.stdout
}

/// A file of a reassignment of partition 0 of `topic`.
fn file(cluster: &Brokers, topic: &str, replicas: &str) -> String {
    let path = cluster.brokers[0].path(&format!("{topic}.json"));
    let text = format!(r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":0,"replicas":[{replicas}]}}]}}"#);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn create(cluster: &Brokers, topic: &str, replicas: &str) {
    tool(cluster, "kafka-topics", &format!("--create --topic {topic} --replica-assignment {replicas}"));
    wait_for("a leader", PATIENCE, || cluster.brokers[0].wire().topic_ready(topic, 1).then_some(()));
}

#[test]
fn replicas_move_no_faster_than_they_may() {
    let cluster = Brokers::start(&[Kind::Barnabas; 3], |_, _| {});
    create(&cluster, "moved", "0");
    let values: Vec<String> = (0..80).map(|n| format!("{n}-{}", noise(n, 100_000))).collect();
    let mut leader = cluster.leader("moved", 0);
    for value in &values {
        leader.append("moved", 0, value);
    }
    let json = file(&cluster, "moved", "1,2");
    let began = Instant::now();
    let text = tool(
        &cluster,
        "kafka-reassign-partitions",
        &format!("--execute --reassignment-json-file {json} --throttle 500000"),
    );
    assert!(text.contains("The inter-broker throttle limit was set to 500000 B/s"), "{text}");
    assert_eq!(
        tool(&cluster, "kafka-reassign-partitions", "--list"),
        "Current partition reassignments:\nmoved-0: replicas: 1,2,0. adding: 1,2. removing: 0.\n"
    );
    let configs = tool(&cluster, "kafka-configs", "--describe --topic moved");
    assert!(configs.contains("leader.replication.throttled.replicas=0:0 "), "{configs}");
    assert!(configs.contains("follower.replication.throttled.replicas=0:1,0:2 "), "{configs}");
    // 8 MB at half a megabyte a second, to each of two.
    let verify = |more: &str| {
        tool(&cluster, "kafka-reassign-partitions", &format!("--verify --reassignment-json-file {json} {more}"))
    };
    wait_for("some time to pass", PATIENCE, || {
        let text = verify("");
        assert!(
            text.contains("Reassignment of partition moved-0 is still in progress."),
            "{:?}: {text}",
            began.elapsed()
        );
        (began.elapsed() > Duration::from_secs(4)).then_some(())
    });
    tool(
        &cluster,
        "kafka-reassign-partitions",
        &format!("--execute --additional --reassignment-json-file {json} --throttle 500000000"),
    );
    wait_for("the move to end", PATIENCE, || verify("--preserve-throttles").contains("is completed.").then_some(()));
    assert!(verify("").contains("Clearing topic-level throttles on topic moved\n"));
    assert_eq!(tool(&cluster, "kafka-configs", "--describe --topic moved"), "Dynamic configs for topic moved are:\n");
    let state = cluster.state("moved", 0);
    assert!(state.leader == 1 || state.leader == 2, "{state:?}");
    let found = cluster.leader("moved", 0).read_values("moved", 0, 0);
    assert!(found.into_iter().map(|(_, value)| value).eq(values), "every record moved, once and in order");
}

#[test]
fn a_move_is_called_back_and_leadership_returns() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 3], |_, broker| {
        broker.set("auto.leader.rebalance.enable", false);
    });
    create(&cluster, "back", "0:1");
    let mut leader = cluster.leader("back", 0);
    for n in 0..30 {
        leader.append("back", 0, &noise(n, 100_000));
    }
    cluster.wait_isr("back", 0, &[0, 1]);
    // What is called back keeps the order of the new replicas (`ReplicaAssignment.originReplicas`): broker 0 stays first.
    let json = file(&cluster, "back", "0,2");
    let line = format!("--reassignment-json-file {json}");
    tool(&cluster, "kafka-reassign-partitions", &format!("--execute {line} --throttle 1"));
    let text = tool(&cluster, "kafka-reassign-partitions", &format!("--cancel {line}"));
    assert!(text.starts_with("Successfully cancelled partition reassignment for: back-0\n"), "{text}");
    assert_eq!(tool(&cluster, "kafka-reassign-partitions", "--list"), "No partition reassignments found.\n");
    cluster.wait_isr("back", 0, &[0, 1]);

    cluster.brokers[0].stop();
    wait_for("the other to lead", PATIENCE, || (cluster.state("back", 0).leader == 1).then_some(()));
    cluster.brokers[0].start();
    cluster.wait_isr("back", 0, &[0, 1]);
    let text = tool(&cluster, "kafka-leader-election", "--election-type preferred --topic back --partition 0");
    assert_eq!(text, "Successfully completed leader election (PREFERRED) for partitions back-0\n");
    assert_eq!(cluster.state("back", 0).leader, 0);
    let text = tool(&cluster, "kafka-leader-election", "--election-type preferred --topic back --partition 0");
    assert_eq!(text, "Valid replica already elected for partitions back-0\n");
}
