//! Three brokers under an idempotent acks=all producer and a consumer group, while brokers and ZooKeeper are killed,
//! stopped, frozen and cut off: every acknowledged record is there, once and in order, and writing goes on.

use crate::support::broker::Kind;
use crate::support::load::Load;
use crate::support::several::{Several, metadata_of};
use crate::support::wire::{batch, produce_request};
use crate::support::{PATIENCE, wait_for};
use kafka_protocol::messages::ProduceRequest;
use std::time::Duration;

const PARTITIONS: i32 = 6;
const SESSION_MS: u64 = 3_000;

fn three(ensemble: usize) -> (Several, Load) {
    let kind = Kind::under_test();
    let cluster = Several::start(&[kind; 3], ensemble, |broker| {
        broker.set("zookeeper.session.timeout.ms", SESSION_MS);
    });
    cluster.create_topic("t", PARTITIONS, &[]);
    let load = Load::start(&cluster.bootstrap(), "t", PARTITIONS);
    (cluster, load)
}

fn finish(cluster: &Several, load: Load) {
    cluster.wait_in_sync("t", PARTITIONS as usize, 3);
    load.wait_progress("at the end", 50);
    load.finish();
    cluster.wait_same_logs("t", PARTITIONS);
}

#[test]
fn brokers_are_killed_one_after_the_other() {
    let (mut cluster, load) = three(1);
    for id in [2, 1, 3] {
        cluster.broker(id).kill();
        load.wait_progress(&format!("without broker {id}"), 50);
        cluster.broker(id).start();
        cluster.wait_in_sync("t", PARTITIONS as usize, 3);
    }
    finish(&cluster, load);
}

#[test]
fn the_controller_is_killed() {
    let (mut cluster, load) = three(1);
    for _ in 0..2 {
        let controller = wait_for("a controller", PATIENCE, || cluster.controller());
        cluster.broker(controller).kill();
        load.wait_progress("without the controller", 50);
        cluster.broker(controller).start();
        cluster.wait_in_sync("t", PARTITIONS as usize, 3);
    }
    finish(&cluster, load);
}

#[test]
fn brokers_stop_in_order_one_after_the_other() {
    let (mut cluster, load) = three(1);
    for id in 1..=3 {
        cluster.broker(id).stop();
        load.wait_progress(&format!("without broker {id}"), 50);
        cluster.broker(id).start();
        cluster.wait_in_sync("t", PARTITIONS as usize, 3);
    }
    finish(&cluster, load);
}

/// Whoever was deposed without knowing takes no write, not even one with acks=1: it would be cut off its log.
#[test]
fn a_leader_that_was_frozen_for_longer_than_its_session_takes_no_write() {
    let mut cluster = Several::start(&[Kind::under_test(); 3], 1, |broker| {
        broker.set("zookeeper.session.timeout.ms", SESSION_MS);
    });
    cluster.create_topic("t", 1, &[]);
    let leader = cluster.leader("t", 0);
    let broker = cluster.broker(leader);
    let mut wire = broker.wire();
    assert_eq!(wire.append("t", 0, "before"), 0);
    broker.process().signal(libc::SIGSTOP);
    assert!(cluster.zookeeper.gone_within(&format!("/brokers/ids/{leader}"), Duration::from_secs(30)));
    let next = wait_for("another leader", PATIENCE, || {
        let others = (1..).zip(&cluster.brokers).filter(|(id, _)| *id != leader);
        let said = others.filter_map(|(_, broker)| metadata_of(broker, &["t"])).next()?;
        Some(said.topics[0].partitions[0].leader_id.0).filter(|id| *id >= 0 && *id != leader)
    });
    wire.send(9, &produce_request("t", 0, 1, batch(&["lost"]))).expect("the socket takes it");
    cluster.broker(leader).process().signal(libc::SIGCONT);
    let answer = wire.receive::<ProduceRequest>(9).expect("an answer");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 6, "NOT_LEADER_OR_FOLLOWER");
    assert_eq!(cluster.broker(next).wire().append("t", 0, "after"), 1);
    cluster.wait_in_sync("t", 1, 3);
    cluster.wait_same_logs("t", 1);
}

#[test]
fn brokers_are_frozen_for_longer_than_their_session() {
    let (mut cluster, load) = three(1);
    let controller = wait_for("a controller", PATIENCE, || cluster.controller());
    let other = controller % 3 + 1;
    for id in [controller, other] {
        cluster.broker(id).process().signal(libc::SIGSTOP);
        assert!(
            cluster.zookeeper.gone_within(&format!("/brokers/ids/{id}"), Duration::from_secs(30)),
            "the session of a frozen broker ends"
        );
        load.wait_progress(&format!("with broker {id} frozen"), 50);
        cluster.broker(id).process().signal(libc::SIGCONT);
        cluster.zookeeper.wait_node(&format!("/brokers/ids/{id}"), |_| true);
        cluster.wait_in_sync("t", PARTITIONS as usize, 3);
    }
    finish(&cluster, load);
}

#[test]
fn all_brokers_are_killed_at_once() {
    let (mut cluster, load) = three(1);
    for id in 1..=3 {
        cluster.broker(id).kill();
    }
    for id in 1..=3 {
        cluster.broker(id).launch();
    }
    for id in 1..=3 {
        cluster.broker(id).wait_serving();
    }
    load.wait_progress("after all were killed", 50);
    finish(&cluster, load);
}

#[test]
fn zookeepers_are_killed_one_after_the_other() {
    let (mut cluster, load) = three(3);
    for _ in 0..2 {
        let leader = cluster.zookeeper.leader();
        cluster.zookeeper.kill(leader);
        load.wait_progress("with the ensemble's leader killed", 50);
        cluster.zookeeper.restart(leader);
        cluster.broker(1).kill();
        load.wait_progress("with a broker killed after it", 50);
        cluster.broker(1).start();
        cluster.wait_in_sync("t", PARTITIONS as usize, 3);
    }
    finish(&cluster, load);
}

#[test]
fn the_whole_ensemble_is_away_for_a_while() {
    let (mut cluster, load) = three(1);
    cluster.zookeeper.kill(0);
    load.wait_progress("without ZooKeeper", 300);
    cluster.zookeeper.restart(0);
    cluster.broker(2).kill();
    load.wait_progress("with ZooKeeper back and a broker killed", 50);
    cluster.broker(2).start();
    finish(&cluster, load);
}
