//! Transactions that hang, or end in two ways: KIP-890, and a coordinator that acts on what only it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barnabas::base::ids::{Offset, TopicPartition};
use barnabas::base::topic_names::TRANSACTION_STATE_TOPIC;
use tokio::time::{sleep, timeout};

use super::{CONTROLLER, cluster, settle, with_and_without};
use crate::kernel::{CLIENTS, Node};
use crate::old::Old;
use crate::transactions::copier::{Copier, batch};
use crate::transactions::{OUTPUT, SETTINGS, copier, output};
use crate::world::World;

/// A transactional id of partition 0 of the internal topics, by its hash.
const ID: &str = "b";

/// How far a client has come.
type Stage = Arc<AtomicU64>;

fn reaches(world: &mut World, stage: &Stage, wanted: u64) {
    world.run_until(&format!("the client is at stage {wanted}"), 3_000, |_| stage.load(Ordering::Relaxed) == wanted);
}

/// A cluster with an output on 2 and the controller, and a state partition that 1 leads.
fn with_output(seed: u64, old: Old) -> World {
    let mut world = cluster(seed, old, &[1, 2, 3], SETTINGS);
    world.create_topic(OUTPUT, 2, &[2, CONTROLLER]);
    world.create_topic(TRANSACTION_STATE_TOPIC, 1, &[1, 2, 3]);
    world.run_until("all partitions have leaders", 2_000, |w| w.checker.partitions().count() == 4);
    world.run(100);
    world
}

fn state_end(world: &World, node: Node) -> Option<Offset> {
    world.end_of(node, &TopicPartition::new(TRANSACTION_STATE_TOPIC, 0))
}

/// All comes right, and no transaction stays open.
fn settle_and_end(world: &mut World) {
    settle(world);
    world.run(3_000);
    if let Some(open) = world.checker.outcomes.still_open() {
        world.fail(&open);
    }
    settle(world);
}

/// Writes once to the first partition of the output, and commits; writes once more, gives up, and aborts.
async fn write_and_give_up(copier: Copier, stage: Stage) {
    let mut session = copier.session();
    let mut producer = session.init(None).await.expect("a producer");
    let number = session.number();
    session.add_partitions(&producer, vec![0]).await.expect("it takes part");
    let records = batch(&mut producer, 0, number, &[0]);
    session.produce(0, records).await.expect("it is written");
    session.end(&producer, number, true).await.expect("it is committed");
    let number = session.number();
    session.add_partitions(&producer, vec![0]).await.expect("it takes part");
    copier.client.sim.core().block(CLIENTS, 2);
    let records = batch(&mut producer, 0, number, &[2]);
    session.produce_late(0, records);
    session.end(&producer, number, false).await.expect("it is aborted");
    stage.store(1, Ordering::Relaxed);
}

/// What a producer wrote comes to the leader when the transaction has been aborted.
fn late_write(seed: u64, old: Old) {
    let mut world = with_output(seed, old);
    let stage = Stage::default();
    world.client(write_and_give_up(copier(&world, ID, 0), Arc::clone(&stage)));
    reaches(&mut world, &stage, 1);
    world.run(300);
    world.set_link(CLIENTS, 2, true);
    world.run(300);
    settle_and_end(&mut world);
}

#[test]
fn kip_890_a_late_write_opens_no_transaction() {
    let without = Old { verifies_nothing: true, ..Old::default() };
    with_and_without(without, &["is open"], late_write);
}

/// Writes to both partitions of the output, and commits; nobody hears of it but the coordinator.
async fn write_and_commit(copier: Copier, stage: Stage) {
    let mut session = copier.session();
    let mut producer = session.init(None).await.expect("a producer");
    let number = session.number();
    session.add_partitions(&producer, vec![0, 1]).await.expect("they take part");
    for partition in [0, 1] {
        let records = batch(&mut producer, partition, number, &[i64::from(partition)]);
        session.produce(partition, records).await.expect("it is written");
    }
    copier.client.sim.core().block(2, 1);
    copier.client.sim.core().block(3, 1);
    copier.client.sim.core().block(1, CONTROLLER);
    // Fetches that came to 1 before wait there no longer.
    sleep(Duration::from_millis(150)).await;
    stage.store(1, Ordering::Relaxed);
    // It is sent once, then the client dies.
    let _ = timeout(Duration::from_millis(100), session.end(&producer, number, true)).await;
}

/// 1 coordinates a transaction and has stored that it is to be committed, but nobody else has that. 3 dies, so that 1 leads
/// anew, and reads what it has. It could reach the leader of one partition of the output, not that of the other; then it
/// dies, and 2 coordinates the transaction, which for all it knows goes on, until its time is up.
fn unreplicated_end(seed: u64, old: Old) {
    let mut world = with_output(seed, old);
    let stage = Stage::default();
    world.client(write_and_commit(copier(&world, ID, 0), Arc::clone(&stage)));
    reaches(&mut world, &stage, 1);
    world.run_until("only 1 knows of the end", 300, |w| state_end(w, 1) > state_end(w, 2));
    world.kill(3);
    world.run(300);
    world.kill(1);
    world.boot(3);
    world.run_until("the transaction is aborted", 5_000, |w| w.end_of(CONTROLLER, &output(1)) == Some(Offset(2)));
    world.run(100);
    settle_and_end(&mut world);
}

#[test]
fn a_coordinator_acts_on_what_all_replicas_have() {
    let without = Old { acts_at_once: true, ..Old::default() };
    with_and_without(without, &["is aborted and, in out-0, committed", "is committed and, in out-"], unreplicated_end);
}

#[test]
fn the_output_is_where_the_histories_want_it() {
    let world = with_output(1, Old::default());
    let leaders: Vec<_> = [0, 1].map(|p| world.checker.state(&output(p)).map(|s| s.leader.get())).into();
    assert_eq!(leaders, [Some(2), Some(CONTROLLER)]);
}
