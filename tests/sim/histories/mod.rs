//! Histories that went wrong in Kafka or could, step by step: each comes out right, and each is found by the checker when
//! what mended it is taken out (`old`).

mod groups;
mod membership;
mod outages;
mod topics;
mod transactions;
mod truncation;

use std::panic::{AssertUnwindSafe, catch_unwind};

use barnabas::base::ids::{Offset, TopicPartition};

use crate::kernel::Node;
use crate::old::Old;
use crate::world::World;

/// The machine of the controller, without replicas.
const CONTROLLER: Node = 4;
/// How many seeds each history is run with: they differ in delays only.
const SEEDS: u64 = 3;

/// What the checker calls logs that are not as they must be; which of them it sees first depends on the delays.
const LOST_OR_DIVERGED: &[&str] = &["leads without", "is in sync without", "has another batch at"];

/// Runs a history as things are, and then without its fix: then something must be found, and be called one of `names`.
fn with_and_without(fix: Old, names: &[&str], history: fn(u64, Old)) {
    for seed in 1..=SEEDS {
        history(seed, Old::default());
        let found = catch_unwind(AssertUnwindSafe(|| history(seed, fix)));
        let found = found.expect_err("something must be found without the fix");
        let found = found.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(names.iter().any(|name| found.contains(name)), "found without the fix: {found}");
    }
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A cluster whose controller is [`CONTROLLER`], with one partition.
fn cluster(seed: u64, old: Old, replicas: &[Node], settings: &[(&'static str, &'static str)]) -> World {
    let mut world = World::new(seed, CONTROLLER, settings);
    world.sim.core().old = old;
    world.boot(CONTROLLER);
    world.run_until("4 is the controller", 2_000, |w| w.view(CONTROLLER).is_some_and(|v| v.controller.is_active()));
    world.boot_all();
    world.run_until("all brokers are up", 2_000, |w| w.nodes().iter().all(|n| w.view(*n).is_some()));
    world.run(100);
    world.create_topic("t", 1, replicas);
    world.run_until("the partition has a leader", 2_000, |w| leads(w, replicas[0]));
    assert_eq!(world.checker.state(&tp()).map(|state| state.isr.len()), Some(replicas.len()));
    world
}

/// Whether a replica leads, and knows it.
fn leads(world: &World, node: Node) -> bool {
    let named = world.checker.state(&tp()).is_some_and(|state| state.leader.get() == node);
    named && world.replica(node, &tp()).is_some_and(|replica| replica.is_leader())
}

/// Writes one batch as a producer of its own, and waits until it is acknowledged.
fn write(world: &mut World, producer: i64) {
    world.client(world.client_of(&tp()).produce(producer, 1));
    world.run_until("the batch is acknowledged", 3_000, |w| is_done(w, producer));
}

/// Whether all that a producer wrote is acknowledged.
fn is_done(world: &World, producer: i64) -> bool {
    world.checker.ledger.lock().done.contains(&producer)
}

/// The end of a replica's log; 0 where there is none.
fn end(world: &World, node: Node) -> Offset {
    world.end_of(node, &tp()).unwrap_or(Offset(0))
}

/// All comes right: every machine runs, every replica is in sync, all logs are the same.
fn settle(world: &mut World) {
    let nodes = world.nodes();
    for from in &nodes {
        nodes.iter().for_each(|to| world.set_link(*from, *to, true));
        world.set_zookeeper_link(*from, true);
    }
    world.set_quorum(true);
    world.boot_all();
    world.run_until("all replicas are in sync and equal", 8_000, |w| {
        let in_sync = w.checker.partitions().all(|(_, state, replicas)| state.isr.len() == replicas.len());
        in_sync && w.checker.check_equal().is_ok()
    });
}
