//! Who is in sync, who is registered, who is the controller: KIP-903, KAFKA-7165, KAFKA-13407, and suspicions that are wrong.

use barnabas::base::ids::BrokerId;
use barnabas::zk::znodes::{broker_ids, controller};

use super::{CONTROLLER, LOST_OR_DIVERGED, SEEDS, cluster, end, leads, settle, tp, with_and_without, write};
use crate::old::Old;
use crate::world::World;
use crate::zookeeper::SESSION_TIMEOUT;

fn in_sync(world: &World, count: usize) -> bool {
    world.checker.state(&tp()).is_some_and(|state| state.isr.len() == count)
}

/// 1 proposes 2 for the ISR; before the controller reads that, 2 dies and comes back without its logs.
fn empty_disk(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2], &[("min.insync.replicas", "1")]);
    world.sim.core().network.patience = 3_000;
    write(&mut world, 1);
    world.set_link(2, 1, false);
    write(&mut world, 2);
    assert!(in_sync(&world, 1), "2 lags, and is out");
    world.set_link(1, CONTROLLER, false);
    world.set_link(2, 1, true);
    world.run_until("2 has all", 4_000, |w| end(w, 2) == end(w, 1));
    world.run(100);
    world.set_link(2, 1, false);
    world.kill_and_wipe(2);
    world.boot(2);
    world.run_until("2 is back, empty", 1_000, |w| w.replica(2, &tp()).is_some_and(|r| r.log().is_some()));
    world.set_link(1, CONTROLLER, true);
    world.run(500);
    settle(&mut world);
}

#[test]
fn kip_903_a_broker_that_lost_its_disk_is_not_taken_for_what_it_was() {
    let fix = Old { hides_broker_epochs: true, ..Old::default() };
    with_and_without(fix, LOST_OR_DIVERGED, empty_disk);
}

/// ZooKeeper changes its leader, by which all sessions live longer than their clients think: the node of 2's old session
/// is still there when 2 registers in the new one.
fn node_of_an_older_session(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2, 3], &[]);
    write(&mut world, 1);
    world.set_zookeeper_link(2, false);
    world.run(SESSION_TIMEOUT - 20);
    world.sim.core().prolong_sessions();
    world.run(SESSION_TIMEOUT / 2);
    world.set_zookeeper_link(2, true);
    world.run(2 * SESSION_TIMEOUT);
    let path = broker_ids::path(BrokerId(2));
    world.run_until("2 is registered", 2_000, |w| w.sim.core().zookeeper.committed().get(&path).is_ok());
    settle(&mut world);
}

#[test]
fn kafka_7165_a_broker_replaces_its_own_node() {
    let fix = Old { gives_up_its_node: true, ..Old::default() };
    with_and_without(fix, &["2 is registered"], node_of_an_older_session);
}

/// The answer to the one who was elected is lost.
fn unanswered_election(seed: u64, old: Old) {
    let mut world = World::new(seed, 3, &[]);
    world.sim.core().old = old;
    world.sim.core().zookeeper.lose_answer_of = Some(controller::PATH.to_owned());
    world.boot_all();
    world.run_until("somebody acts as the controller", 3_000, |w| {
        w.nodes().iter().any(|node| w.view(*node).is_some_and(|view| view.controller.is_active()))
    });
}

#[test]
fn kafka_13407_a_broker_acts_on_its_own_election() {
    let fix = Old { ignores_its_election: true, ..Old::default() };
    with_and_without(fix, &["somebody acts as the controller"], unanswered_election);
}

/// 1 is taken for dead, and lives. Were it out of the ISR, then what it has would count for nothing when 2, which leads
/// now, loses its power.
#[test]
fn a_suspect_that_lives_has_what_the_new_leader_loses() {
    for seed in 1..=SEEDS {
        let settings = [("min.insync.replicas", "1"), ("log.flush.interval.ms", "100000")];
        let mut world = cluster(seed, Old::default(), &[1, 2], &settings);
        write(&mut world, 1);
        world.sim.core().network.refusing.insert(1);
        world.run_until("2 leads", 2_000, |w| leads(w, 2));
        for producer in 2..6 {
            write(&mut world, producer);
        }
        world.cut_power(2);
        world.run_until("1 leads", 3_000, |w| leads(w, 1));
        world.sim.core().network.refusing.clear();
        settle(&mut world);
    }
}
