//! Topics that move, go, and come again.

use barnabas::zk::znodes::topics;

use super::{CONTROLLER, cluster, end, leads, settle, tp, with_and_without, write};
use crate::kernel::Node;
use crate::old::Old;
use crate::world::World;

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
