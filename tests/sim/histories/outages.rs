//! What goes away for a while: brokers in good order, ZooKeeper's quorum, the power of all machines.

use barnabas::base::ids::BrokerId;
use barnabas::zk::znodes::broker_ids;

use super::{CONTROLLER, LOST_OR_DIVERGED, cluster, end, is_done, leads, settle, tp, with_and_without, write};
use crate::kernel::Node;
use crate::old::Old;
use crate::world::{FLUSH_EACH_BATCH, World};
use crate::zookeeper::SESSION_TIMEOUT;

fn is_led_by(world: &World, node: Node) -> bool {
    world
        .checker
        .state(&tp())
        .is_some_and(|state| state.leader == BrokerId(node) || state.isr.contains(&BrokerId(node)))
}

/// A leader and a follower are stopped. Neither is counted on any more when it ceases to serve.
fn orderly_stops(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2, 3], &[("min.insync.replicas", "1")]);
    write(&mut world, 1);
    for (node, producer) in [(2, 2), (1, 3)] {
        world.stop(node);
        world.run_until("it has stopped", 1_000, |w| {
            w.view(node).is_some_and(|view| view.stopped.load(std::sync::atomic::Ordering::Relaxed))
        });
        if is_led_by(&world, node) {
            world.fail("a broker that stops is counted on still");
        }
        world.kill(node);
        write(&mut world, producer);
    }
    settle(&mut world);
}

#[test]
fn brokers_hand_on_before_they_stop() {
    let without = Old { stops_without_asking: true, ..Old::default() };
    with_and_without(without, &["is counted on still"], orderly_stops);
}

/// ZooKeeper is without a quorum for so long that its clients give their sessions up, and their sessions are there still
/// when it is back. Meanwhile leaders lead on.
fn quorum_loss(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2, 3], &[]);
    write(&mut world, 1);
    world.set_quorum(false);
    for producer in 2..6 {
        write(&mut world, producer);
        world.run(SESSION_TIMEOUT / 2);
    }
    world.set_quorum(true);
    world.run(3 * SESSION_TIMEOUT);
    world.run_until("all are registered and one is the controller", 2_000, |w| {
        let core = w.sim.core();
        let is_registered = |node: &Node| core.zookeeper.committed().stat(&broker_ids::path(BrokerId(*node))).is_some();
        let all = w.nodes().iter().all(is_registered);
        drop(core);
        all && w.nodes().iter().any(|node| w.view(*node).is_some_and(|view| view.controller.is_active()))
    });
    world.kill(1);
    world.run_until("another leads", 2_000, |w| leads(w, 2) || leads(w, 3));
    write(&mut world, 6);
    settle(&mut world);
}

#[test]
fn brokers_come_through_the_loss_of_the_quorum() {
    let without = Old { gives_up_its_node: true, ..Old::default() };
    with_and_without(without, &["all are registered and one is the controller", "another leads"], quorum_loss);
}

/// All machines lose their power while a producer writes.
fn power_loss(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2, 3], &[FLUSH_EACH_BATCH, ("log.flush.interval.ms", "100000")]);
    world.client(world.client_of(&tp()).produce(1, 30));
    for pause in [300, 450] {
        world.run(pause);
        world.cut_power_of_all();
        world.run(50);
        for node in [3, 1, 2, CONTROLLER] {
            world.boot(node);
            world.run(100);
        }
        world.run_until("somebody leads", 5_000, |w| [1, 2, 3].iter().any(|node| leads(w, *node)));
    }
    world.run_until("all is acknowledged", 8_000, |w| is_done(w, 1));
    settle(&mut world);
}

#[test]
fn nothing_that_was_flushed_everywhere_is_lost_with_the_power() {
    let without = Old { flushes_later: true, ..Old::default() };
    with_and_without(without, &["leads without", "all is acknowledged", "has another batch at"], power_loss);
    assert!(LOST_OR_DIVERGED.contains(&"leads without"));
}

/// The same without a flush of each batch: what had been flushed by then is there.
#[test]
fn what_was_flushed_in_time_is_there_after_the_power() {
    for seed in 1..=super::SEEDS {
        let mut world = cluster(seed, Old::default(), &[1, 2, 3], &[("log.flush.interval.ms", "200")]);
        write(&mut world, 1);
        world.run(1_000);
        let flushed = end(&world, 1);
        write(&mut world, 2);
        world.cut_power_of_all();
        world.boot_all();
        world.run_until("it is there", 5_000, |w| {
            let first = w.checker.ledger.lock().acknowledged.len();
            first == 1 && [1, 2, 3].iter().any(|node| leads(w, *node) && end(w, *node) >= flushed)
        });
        settle(&mut world);
    }
}
