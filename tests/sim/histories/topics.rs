//! Topics that move, go, and come again.

use barnabas::zk::znodes::topics;

use super::{CONTROLLER, SEEDS, cluster, end, leads, settle, tp, with_and_without, write};
use crate::kernel::Node;
use crate::old::Old;
use crate::world::World;
use crate::zookeeper::SESSION_TIMEOUT;

fn replicas(world: &World) -> Vec<Node> {
    let found = world.checker.partitions().find(|(known, ..)| **known == tp());
    found.map(|(_, _, replicas)| replicas.to_vec()).unwrap_or_default()
}

/// A partition goes from 1 and 2 to 3 and 2. Before 3 has anything the controller dies; the next one goes on with it, and 1
/// keeps what it has until 3 has it too.
fn reassignment(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2], &[]);
    write(&mut world, 1);
    world.set_link(3, 1, false);
    world.client(world.client_of(&tp()).reassign(CONTROLLER, Some(vec![3, 2])));
    world.run_until("3 is told", 1_000, |w| w.replica(3, &tp()).is_some());
    world.run(200);
    assert_eq!((replicas(&world).len(), end(&world, 3).get()), (3, 0));
    world.kill(CONTROLLER);
    write(&mut world, 2);
    world.run_until("somebody else is the controller", 3_000, |w| {
        [1, 2, 3].iter().any(|node| w.view(*node).is_some_and(|view| view.controller.is_active()))
    });
    write(&mut world, 3);
    world.set_link(3, 1, true);
    world.run_until("3 and 2 have it", 5_000, |w| replicas(w) == [3, 2] && w.checker.is_complete());
    world.run_until("3 leads", 2_000, |w| leads(w, 3) || leads(w, 2));
    world.run_until("1 has nothing of it", 2_000, |w| w.replica(1, &tp()).is_none());
    write(&mut world, 4);
    settle(&mut world);
}

#[test]
fn a_reassignment_outlives_the_controller() {
    let without = Old { hides_reassignments: true, ..Old::default() };
    with_and_without(without, &["3 and 2 have it"], reassignment);
}

/// Cuts a broker off for longer than its session.
fn lose_session(world: &mut World, node: Node) {
    world.set_zookeeper_link(node, false);
    world.run(2 * SESSION_TIMEOUT);
    world.set_zookeeper_link(node, true);
}

/// 1 is to be told to stop a replica, and registers anew before it can be reached.
#[test]
fn who_was_not_told_to_stop_is_told_in_its_next_session() {
    for seed in 1..=SEEDS {
        let mut world = cluster(seed, Old::default(), &[2, 1], &[]);
        write(&mut world, 1);
        world.set_link(1, CONTROLLER, false);
        world.client(world.client_of(&tp()).reassign(CONTROLLER, Some(vec![2, 3])));
        world.run_until("2 and 3 have it", 5_000, |w| replicas(w) == [2, 3]);
        lose_session(&mut world, 1);
        assert!(world.replica(1, &tp()).is_some(), "nobody could tell it");
        world.set_link(1, CONTROLLER, true);
        world.run_until("1 has nothing of it", 3_000, |w| w.replica(1, &tp()).is_none());
        write(&mut world, 2);
        settle(&mut world);
    }
}

/// A partition is taken from a leader whose session is over, but which lives: nobody owes it a word when it is back.
#[test]
fn who_led_what_is_elsewhere_now_learns_it_of_the_metadata() {
    for seed in 1..=SEEDS {
        let mut world = cluster(seed, Old::default(), &[1, 2], &[("min.insync.replicas", "1")]);
        write(&mut world, 1);
        let others = [2, 3, CONTROLLER];
        others.iter().for_each(|other| world.set_link(1, *other, false));
        world.set_zookeeper_link(1, false);
        world.run_until("2 leads", 5_000, |w| leads(w, 2));
        world.client(world.client_of(&tp()).reassign(CONTROLLER, Some(vec![2, 3])));
        world.run_until("2 and 3 have it", 5_000, |w| replicas(w) == [2, 3]);
        assert!(world.replica(1, &tp()).is_some_and(|replica| replica.is_leader()), "as far as it knows");
        others.iter().for_each(|other| world.set_link(1, *other, true));
        world.set_zookeeper_link(1, true);
        world.run_until("1 leads no more", 3_000, |w| !w.replica(1, &tp()).is_some_and(|replica| replica.is_leader()));
        write(&mut world, 2);
        settle(&mut world);
    }
}

/// A topic is deleted while a broker is away, and made anew when it is gone.
fn deletion(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 2, 3], &[]);
    write(&mut world, 1);
    world.kill(2);
    world.delete_topic("t");
    world.run(1_500);
    let path = topics::path("t");
    assert!(world.sim.core().zookeeper.committed().stat(&path).is_some(), "2 has it still");
    world.boot(2);
    world.run_until("it is deleted", 5_000, |w| w.is_deleted("t"));
    world.run(500);
    world.create_topic("t", 1, &[3, 1, 2]);
    world.run_until("it has a leader", 2_000, |w| leads(w, 3));
    write(&mut world, 2);
    settle(&mut world);
}

#[test]
fn a_topic_that_is_made_anew_has_nothing_of_the_old_one() {
    let without = Old { keeps_deleted_replicas: true, ..Old::default() };
    with_and_without(without, &["from before the topic was deleted", "it has a leader", "it is deleted"], deletion);
}
