//! Three brokers of which one stops, dies or is frozen: how soon others lead, and whether they do so only when they should.

use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest};

use crate::support::broker::{Broker, Kind};
use crate::support::wire::topic_name;
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, poll, wait_for};

const PARTITIONS: usize = 100;
/// Far longer than any test here waits: whatever happens, happens before a session ends.
const SESSION_MS: u64 = 60_000;
/// For a loaded machine and a debug build; what is measured is printed.
const SOON: Duration = Duration::from_secs(10);

struct Three {
    zookeeper: ZooKeeper,
    brokers: Vec<Broker>,
}

impl Three {
    /// Brokers 1, 2 and 3; the first is the controller.
    fn start() -> Three {
        let zookeeper = ZooKeeper::single();
        let brokers = (1..=3).map(|id| {
            let mut broker = Broker::with_id(Kind::Barnabas, id, &zookeeper.connect());
            broker.set("zookeeper.session.timeout.ms", SESSION_MS).set("auto.leader.rebalance.enable", false);
            broker.started()
        });
        let brokers: Vec<Broker> = brokers.collect();
        let three = Three { zookeeper, brokers };
        assert!(three.is_controller(1));
        wait_for("all know all", PATIENCE, || {
            let known = three
                .brokers
                .iter()
                .filter(|broker| broker.wire().try_metadata(&[]).is_ok_and(|metadata| metadata.brokers.len() == 3));
            (known.count() == 3).then_some(())
        });
        three
    }

    fn broker(&mut self, id: usize) -> &mut Broker {
        &mut self.brokers[id - 1]
    }

    fn is_controller(&self, id: i32) -> bool {
        self.zookeeper.read("/controller").is_some_and(|node| node.contains(&format!("\"brokerid\":{id},")))
    }

    fn is_registered(&self, id: i32) -> bool {
        self.zookeeper.read(&format!("/brokers/ids/{id}")).is_some()
    }

    /// A topic whose partitions all have these replicas, the first of which leads.
    fn create(&mut self, topic: &str, replicas: &[i32]) {
        let assignments = (0..PARTITIONS).map(|partition| {
            CreatableReplicaAssignment::default()
                .with_partition_index(i32::try_from(partition).expect("small"))
                .with_broker_ids(replicas.iter().copied().map(BrokerId).collect())
        });
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(assignments.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(20_000);
        let answer = self.broker(1).wire().call(4, &request);
        assert_eq!(answer.topics[0].error_code, 0);
        for id in 1..=3 {
            self.wait_led(id, topic, replicas[0]);
        }
    }

    /// Whether broker `seen_by` tells clients that `leader` leads all of the topic.
    fn is_led(&self, seen_by: usize, topic: &str, leader: i32) -> bool {
        let Ok(metadata) = self.brokers[seen_by - 1].wire().try_metadata(&[topic]) else { return false };
        metadata.topics.iter().any(|topic| {
            topic.partitions.len() == PARTITIONS && topic.partitions.iter().all(|p| p.leader_id.0 == leader)
        })
    }

    fn wait_led(&self, seen_by: usize, topic: &str, leader: i32) -> Duration {
        let begin = Instant::now();
        wait_for("a leader", PATIENCE, || self.is_led(seen_by, topic, leader).then_some(()));
        begin.elapsed()
    }
}

#[test]
fn a_leader_that_is_killed_is_replaced_before_its_session_ends() {
    let mut three = Three::start();
    three.create("t", &[2, 3]);
    three.broker(2).kill();
    let took = three.wait_led(1, "t", 3);
    println!("killed leader: others lead after {} ms", took.as_millis());
    assert!(took < SOON && three.is_registered(2), "after {took:?}");
    // It comes back as a follower, and may be elected again.
    three.broker(2).start();
    assert!(three.is_led(1, "t", 3));
}

#[test]
fn a_controller_that_is_killed_is_replaced_before_its_session_ends() {
    let mut three = Three::start();
    three.create("t", &[1, 2]);
    three.create("followed", &[2, 1, 3]);
    three.broker(1).kill();
    let took = three.wait_led(2, "t", 2);
    println!("killed controller: others lead after {} ms", took.as_millis());
    // Nor does acks=all wait for it where it followed.
    three.broker(2).wire().append("followed", 0, "a record");
    assert!(took < SOON && three.is_registered(1), "after {took:?}");
    assert!(three.is_controller(2) || three.is_controller(3));
    assert_eq!(three.zookeeper.read("/controller_epoch").as_deref(), Some("2"));
}

#[test]
fn a_frozen_broker_is_not_taken_for_dead() {
    let mut three = Three::start();
    three.create("t", &[3, 2]);
    three.create("u", &[1, 2]);
    for id in [3, 1] {
        three.broker(id).process().signal(libc::SIGSTOP);
    }
    let moved = poll(Duration::from_secs(3), || (!three.is_led(2, "t", 3) || !three.is_led(2, "u", 1)).then_some(()));
    let controller = three.is_controller(1);
    for id in [3, 1] {
        three.broker(id).process().signal(libc::SIGCONT);
    }
    assert!(moved.is_none() && controller, "nobody refused anything");
}

#[test]
fn a_leader_that_stops_hands_on_first() {
    let mut three = Three::start();
    three.create("t", &[2, 3]);
    three.create("u", &[1, 3]);
    three.broker(2).process().signal(libc::SIGTERM);
    let took = three.wait_led(1, "t", 3);
    println!("stopped leader: others lead after {} ms", took.as_millis());
    three.broker(2).process().wait(PATIENCE).expect("it stops");
    assert!(three.broker(2).log_text().contains("all leaderships are handed on"));
    assert!(took < SOON && !three.is_registered(2));
    // The controller hands on too, before another is elected.
    three.broker(1).process().signal(libc::SIGTERM);
    let took = three.wait_led(3, "u", 3);
    println!("stopped controller: others lead after {} ms", took.as_millis());
    three.broker(1).process().wait(PATIENCE).expect("it stops");
    assert!(three.broker(1).log_text().contains("all leaderships are handed on"));
    wait_for("another controller", PATIENCE, || three.is_controller(3).then_some(()));
}
