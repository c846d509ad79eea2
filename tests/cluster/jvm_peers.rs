//! Our controller and Apache Kafka's brokers in one cluster: what it tells them they obey, what they ask it grants.

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, ListPartitionReassignmentsRequest,
};

use crate::support::broker::{Broker, Kind};
use crate::support::wire::{batch, topic_name};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, jvm, wait_for};

/// Far longer than any test here waits.
const SESSION_MS: u64 = 60_000;

/// Each speaks what `version` of Kafka speaks among brokers.
fn start(zookeeper: &ZooKeeper, version: &str, kinds: [(i32, Kind); 3]) -> [Broker; 3] {
    let brokers = kinds.map(|(id, kind)| {
        let mut broker = Broker::with_id(kind, id, &zookeeper.connect());
        broker.set("zookeeper.session.timeout.ms", SESSION_MS).set("auto.leader.rebalance.enable", false);
        broker.set("inter.broker.protocol.version", &version[..3]);
        broker.started()
    });
    for broker in &brokers {
        wait_for("all know all", PATIENCE, || (broker.wire().try_metadata(&[]).ok()?.brokers.len() == 3).then_some(()));
    }
    brokers
}

fn create(controller: &Broker, topic: &str, replicas: &[i32]) {
    let assignment =
        CreatableReplicaAssignment::default().with_broker_ids(replicas.iter().copied().map(BrokerId).collect());
    let wanted = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(20_000);
    assert_eq!(controller.wire().call(4, &request).topics[0].error_code, 0);
    wait_for("the first leader", PATIENCE, || (leader(controller, topic) == Some(replicas[0])).then_some(()));
}

fn leader(seen_by: &Broker, topic: &str) -> Option<i32> {
    let metadata = seen_by.wire().try_metadata(&[topic]).ok()?;
    metadata.topics.first()?.partitions.first().map(|partition| partition.leader_id.0)
}

/// Broker 2 is ours and the controller; 1 and 3 are Kafka's, replicate among themselves and send AlterPartition to it.
fn replicas_move_under_our_controller(version: &'static str) {
    let zookeeper = ZooKeeper::single();
    let jvm = Kind::Jvm(version);
    let [ours, one, mut three] = start(&zookeeper, version, [(2, Kind::Barnabas), (1, jvm), (3, jvm)]);
    create(&ours, "moved", &[3]);
    assert_eq!(three.wire().append("moved", 0, "kept"), 0);
    let partition = ReassignablePartition::default().with_replicas(Some(vec![BrokerId(1)]));
    let topic = ReassignableTopic::default().with_name(topic_name("moved")).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
    let answer = ours.wire().call(0, &request);
    assert_eq!((answer.error_code, answer.responses[0].partitions[0].error_code), (0, 0));
    wait_for("the replica has moved", PATIENCE, || (leader(&ours, "moved") == Some(1)).then_some(()));
    let none = ListPartitionReassignmentsRequest::default().with_topics(None).with_timeout_ms(20_000);
    wait_for("nothing is under way", PATIENCE, || ours.wire().call(0, &none).topics.is_empty().then_some(()));
    let node = zookeeper.read("/brokers/topics/moved").expect("a topic");
    assert!(node.contains(r#""partitions":{"0":[1]}"#), "{node}");
    wait_for("the old replica is gone", PATIENCE, || (!three.partition_dir("moved", 0).exists()).then_some(()));
    assert_eq!(one.wire().read_values("moved", 0, 0), [(0, "kept".to_owned())]);

    // A stopping broker of Kafka's asks our controller to move its leaderships.
    create(&ours, "handed-on", &[3, 1]);
    three.stop();
    let granted = ["Controlled shutdown request returned successfully", "Controlled shutdown succeeded"];
    assert!(granted.iter().any(|text| three.log_text().contains(text)), "{}", three.log_text());
    wait_for("it was handed on", PATIENCE, || (leader(&one, "handed-on") == Some(1)).then_some(()));
}

#[test]
fn replicas_of_the_new_jvm_broker_move_under_our_controller() {
    replicas_move_under_our_controller(jvm::NEW);
}

#[test]
fn replicas_of_the_old_jvm_broker_move_under_our_controller() {
    replicas_move_under_our_controller(jvm::OLD);
}

/// Broker 1 is Kafka's and the controller; it is killed, and ours takes over while its session lives on.
#[test]
fn a_jvm_controller_that_is_killed_is_replaced_by_ours_at_once() {
    let zookeeper = ZooKeeper::single();
    let jvm = Kind::Jvm(jvm::NEW);
    let [mut one, _two, three] = start(&zookeeper, jvm::NEW, [(1, jvm), (2, Kind::Barnabas), (3, jvm)]);
    create(&one, "t", &[1, 3]);
    one.kill();
    let begin = Instant::now();
    wait_for("Kafka's broker leads", PATIENCE, || (leader(&three, "t") == Some(3)).then_some(()));
    println!("killed JVM controller: another leads after {} ms", begin.elapsed().as_millis());
    assert!(begin.elapsed() < Duration::from_secs(20) && zookeeper.read("/brokers/ids/1").is_some());
    assert!(zookeeper.read("/controller").is_some_and(|node| node.contains("\"brokerid\":2,")));
    // With acks=1: of two replicas the dead one stays in the ISR until its session ends.
    assert_eq!(three.wire().produce("t", 0, 1, batch(&["goes on"])), (0, 0));
}
