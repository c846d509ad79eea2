//! Moves between log dirs on a running broker that is killed amid them: they go on, and nothing is lost.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use crate::support::{PATIENCE, wait_for};
use kafka_protocol::messages::AlterReplicaLogDirsRequest;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::protocol::StrBytes;
use std::path::Path;

const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const BROKER: i8 = 4;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Sets the throttle of moves, or takes it away.
fn throttle(cluster: &Cluster, rate: Option<u32>) {
    let value = rate.map(|rate| text(&rate.to_string()));
    let config = AlterableConfig::default().with_name(text(RATE)).with_config_operation(i8::from(value.is_none()));
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text("0"))
        .with_configs(vec![config.with_value(value)]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = cluster.broker.wire().call(1, &request);
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

fn move_to(cluster: &Cluster, dir: &Path) {
    let topic = AlterReplicaLogDirTopic::default()
        .with_name(crate::support::wire::topic_name("moving"))
        .with_partitions(vec![0]);
    let dir = AlterReplicaLogDir::default().with_path(text(&dir.display().to_string())).with_topics(vec![topic]);
    let answer = cluster.broker.wire().call(1, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]));
    assert_eq!(answer.results[0].partitions[0].error_code, 0);
}

/// The folders of the topic in a log dir.
fn folders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a log dir").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("moving-0"))
        .collect()
}

#[test]
fn a_move_survives_kill_9_and_loses_nothing() {
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        let second = broker.path("second");
        let dirs = format!("{},{}", broker.data().display(), second.display());
        broker.set("log.dirs", dirs).set("log.segment.bytes", 1_000_000);
    });
    let (first, second) = (cluster.broker.data(), cluster.broker.path("second"));
    let mut wire = cluster.broker.wire();
    wire.create_topic("moving", 1, &[]);
    let values: Vec<String> = (0..40).map(|n| format!("{n}-{}", noise(n, 100_000))).collect();
    let append = |wire: &mut crate::support::wire::Wire, some: &[String]| {
        for value in some {
            wire.append("moving", 0, value);
        }
    };
    append(&mut wire, &values[..30]);
    let (from, to) = if first.join("moving-0").exists() { (first, second) } else { (second, first) };

    throttle(&cluster, Some(100_000));
    wait_for("the throttle to hold", PATIENCE, || cluster.broker.log_text().contains(RATE).then_some(()));
    move_to(&cluster, &to);
    wait_for("the move to begin", PATIENCE, || folders(&to).iter().any(|name| name.ends_with("-future")).then_some(()));
    append(&mut wire, &values[30..35]);
    cluster.kill_and_start();
    assert!(from.join("moving-0").exists() && !to.join("moving-0").exists(), "at this rate it takes half a minute");
    append(&mut cluster.broker.wire(), &values[35..]);
    throttle(&cluster, None);
    wait_for("the move to end", PATIENCE, || to.join("moving-0").exists().then_some(()));
    wait_for("the old folder to go", PATIENCE, || {
        folders(&from).iter().all(|name| name.ends_with("-delete")).then_some(())
    });
    let read = |cluster: &Cluster| {
        let found = cluster.broker.wire().read_values("moving", 0, 0);
        found.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert!(read(&cluster) == values, "every record is there, once and in order");
    cluster.kill_and_start();
    assert!(read(&cluster) == values, "after another crash too");
    assert_eq!(folders(&to), ["moving-0"]);
}
