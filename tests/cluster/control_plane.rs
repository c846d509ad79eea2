//! `control.plane.listener.name`: the controller reaches brokers by a listener of its own.

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest};

use crate::support::broker::{Broker, Kind};
use crate::support::wire::topic_name;
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, free_port, wait_for};

fn broker(zookeeper: &ZooKeeper, id: i32, advertised_port: Option<u16>) -> Broker {
    let mut broker = Broker::with_id(Kind::Barnabas, id, &zookeeper.connect());
    let (port, control) = (broker.port, free_port());
    let advertised = advertised_port.unwrap_or(port);
    let listeners = |port| format!("PLAINTEXT://127.0.0.1:{port},CONTROL://127.0.0.1:{control}");
    broker
        .set("listeners", listeners(port))
        .set("advertised.listeners", listeners(advertised))
        .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROL:PLAINTEXT")
        .set("control.plane.listener.name", "CONTROL");
    broker.started()
}

/// Broker 2 advertises for clients and brokers a port that nobody listens at: what the controller tells it came by the other.
#[test]
fn the_controller_uses_its_own_listener() {
    let zookeeper = ZooKeeper::single();
    let one = broker(&zookeeper, 1, None);
    let two = broker(&zookeeper, 2, Some(free_port()));
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(2)]);
    let wanted = CreatableTopic::default()
        .with_name(topic_name("t"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(20_000);
    wait_for("both are known", PATIENCE, || (one.wire().try_metadata(&[]).ok()?.brokers.len() == 2).then_some(()));
    assert_eq!(one.wire().call(4, &request).topics[0].error_code, 0);
    wait_for("broker 2 was told that it leads", PATIENCE, || two.wire().topic_ready("t", 1).then_some(()));
    assert_eq!(two.wire().append("t", 0, "taken"), 0);
}
