//! What goes wrong in a random history, and how all is put right again at its end.
//!
//! Any number of processes may be killed, frozen or cut off at one time, in any direction, ZooKeeper may lose its quorum,
//! and topics are reassigned, deleted and made anew meanwhile. Where each batch is flushed any machines may lose their
//! power at any time. Elsewhere only one whose cluster is well otherwise, and while such a machine still counts as in sync
//! nothing else goes wrong: no more is promised (see `checker`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barnabas::base::ids::TopicPartition;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::kernel::{CLIENTS, Node};
use crate::world::World;

/// How long it takes until what was under way has come to its end, in ms.
const SETTLING: u64 = 1_500;

/// The faults of one history.
#[derive(Default)]
pub struct Faults {
    blocked: BTreeSet<(Node, Node)>,
    cut_off: BTreeSet<Node>,
    /// When machines that are off or frozen go on.
    returns: Vec<(u64, Node)>,
    until: Vec<(u64, Node, Node)>,
    /// When ZooKeeper has a quorum again.
    quorum_returns: Option<u64>,
    /// Producers of [`SHORT_LIVED`] so far, and what ends the last of them.
    producers: i64,
    over: Arc<AtomicBool>,
}

/// The topic that comes and goes.
pub const SHORT_LIVED: &str = "c";
/// The first of its producers.
const FIRST_PRODUCER: i64 = 100;

/// The chances of small faults, by chance themselves: some histories have none, some many.
pub fn weather(world: &mut World) {
    let mut core = world.sim.core();
    let one_of = |core: &mut crate::kernel::Core, values: &[f64]| *values.choose(&mut core.rng).unwrap_or(&0.0);
    core.network.break_chance = one_of(&mut core, &[0.0, 0.0, 0.001, 0.01]);
    core.network.slow_chance = one_of(&mut core, &[0.0, 0.01, 0.1]);
    core.network.refuse_chance = one_of(&mut core, &[0.0, 0.0, 0.02]);
    core.zookeeper.break_chance = one_of(&mut core, &[0.0, 0.0, 0.003, 0.02]);
    core.zookeeper.lag.1 = *[5, 5, 50, 200].choose(&mut core.rng).unwrap_or(&5);
}

impl Faults {
    /// Lets one thing go wrong, or come right.
    pub fn strike(&mut self, world: &mut World) {
        self.bring_back(world);
        if world.nodes().iter().any(|node| world.checker.is_tainted(*node)) {
            return;
        }
        let node = *world.nodes().choose(&mut world.sim.core().rng).unwrap_or(&1);
        let fault = world.sim.core().rng.random_range(0..18);
        match fault {
            0..=2 => self.kill(world, node),
            12 => self.stop(world, node),
            3 => self.cut_power(world, node),
            4..=5 => self.freeze(world, node),
            6..=7 => self.block(world, node),
            8 => self.cut_off(world, node),
            9 => world.sim.core().expire_sessions_of(node),
            10 => world.sim.core().lose_connections_of(node),
            11 => elect_preferred(world),
            13 => self.lose_quorum(world),
            14 => reassign(world),
            15..=16 => self.make_or_delete(world),
            _ => self.heal(world),
        }
    }

    fn later(world: &World, most: u64) -> u64 {
        let mut core = world.sim.core();
        core.now + core.pick((10, most))
    }

    fn kill(&mut self, world: &mut World, node: Node) {
        if world.running().contains(&node) {
            world.kill(node);
            self.returns.push((Self::later(world, 1_500), node));
        }
    }

    /// An orderly stop; then the process ends.
    fn stop(&mut self, world: &mut World, node: Node) {
        if world.view(node).is_some() && !world.is_frozen(node) {
            world.stop(node);
            world.run(100);
            self.kill(world, node);
        }
    }

    fn cut_power(&mut self, world: &mut World, node: Node) {
        if world.flushes_each_batch() {
            for other in world.nodes() {
                if other == node || world.sim.core().chance(0.5) {
                    world.cut_power(other);
                    self.returns.push((Self::later(world, 1_500), other));
                }
            }
            return;
        }
        // Nothing of what went wrong before may still be under way: a smaller ISR that was proposed, a life not yet seen.
        self.heal(world);
        world.run(SETTLING);
        let all_serve = world.nodes().iter().all(|node| world.view(*node).is_some());
        if all_serve && world.checker.is_settled() {
            world.cut_power(node);
            self.returns.push((Self::later(world, 1_500), node));
        }
    }

    fn lose_quorum(&mut self, world: &mut World) {
        world.set_quorum(false);
        self.quorum_returns = Some(Self::later(world, 1_500));
    }

    /// The short-lived topic is deleted if it is there, and made if it is not.
    fn make_or_delete(&mut self, world: &mut World) {
        if !world.sim.core().zookeeper.has_quorum {
            return;
        }
        let tp = TopicPartition::new(SHORT_LIVED, 0);
        if world.is_deleted(SHORT_LIVED) {
            let replicas = some_of(world, 2);
            world.create_topic(SHORT_LIVED, 1, &replicas);
            let client = world.client_of(&tp);
            self.over = Arc::clone(&client.over);
            self.producers += 1;
            world.client(client.produce(FIRST_PRODUCER + self.producers, usize::MAX));
        } else if !self.over.swap(true, Ordering::Relaxed) {
            world.delete_topic(SHORT_LIVED);
        }
    }

    fn freeze(&mut self, world: &mut World, node: Node) {
        if world.running().contains(&node) && !world.is_frozen(node) {
            world.freeze(node);
            self.returns.push((Self::later(world, 1_500), node));
        }
    }

    fn block(&mut self, world: &mut World, node: Node) {
        let others: Vec<Node> = world.nodes().into_iter().filter(|other| *other != node).chain([CLIENTS]).collect();
        let (other, both) = {
            let mut core = world.sim.core();
            (*others.choose(&mut core.rng).unwrap_or(&CLIENTS), core.chance(0.5))
        };
        for (from, to) in [(node, other), (other, node)].into_iter().take(if both { 2 } else { 1 }) {
            if self.blocked.insert((from, to)) {
                world.set_link(from, to, false);
                self.until.push((Self::later(world, 1_000), from, to));
            }
        }
    }

    fn cut_off(&mut self, world: &mut World, node: Node) {
        if self.cut_off.insert(node) {
            world.set_zookeeper_link(node, false);
        } else if self.cut_off.remove(&node) {
            world.set_zookeeper_link(node, true);
        }
    }

    fn bring_back(&mut self, world: &mut World) {
        let now = world.sim.core().now;
        let (back, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.returns).into_iter().partition(|(at, _)| *at <= now);
        self.returns = later;
        for (_, node) in back {
            if world.is_frozen(node) { world.thaw(node) } else { world.boot(node) }
        }
        if self.quorum_returns.take_if(|at| *at <= now).is_some() {
            world.set_quorum(true);
        }
        let (open, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.until).into_iter().partition(|(at, ..)| *at <= now);
        self.until = later;
        for (_, from, to) in open {
            if self.blocked.remove(&(from, to)) {
                world.set_link(from, to, true);
            }
        }
    }

    /// Nobody writes to the topic that comes and goes any more; whether it is there is left open.
    pub fn end(&mut self, world: &mut World) {
        self.heal(world);
        self.over.store(true, Ordering::Relaxed);
        calm(world);
    }

    /// All links are open again, all machines run.
    pub fn heal(&mut self, world: &mut World) {
        for (from, to) in std::mem::take(&mut self.blocked) {
            world.set_link(from, to, true);
        }
        for node in std::mem::take(&mut self.cut_off) {
            world.set_zookeeper_link(node, true);
        }
        world.set_quorum(true);
        self.quorum_returns = None;
        self.returns.clear();
        self.until.clear();
        for node in world.nodes() {
            if world.is_frozen(node) {
                world.thaw(node);
            }
            world.boot(node);
        }
    }
}

/// That many machines, in any order.
fn some_of(world: &World, count: usize) -> Vec<Node> {
    let mut nodes = world.nodes();
    nodes.shuffle(&mut world.sim.core().rng);
    nodes.truncate(count);
    nodes
}

fn controllers(world: &World) -> impl Iterator<Item = Node> {
    world.nodes().into_iter().filter(|n| world.view(*n).is_some_and(|v| v.controller.is_active()))
}

/// An operator wants a partition elsewhere, or thinks better of it.
fn reassign(world: &World) {
    for controller in controllers(world) {
        let count = 2 + usize::from(world.sim.core().chance(0.5));
        let replicas = Some(some_of(world, count)).filter(|_| world.sim.core().chance(0.8));
        let partitions: Vec<_> = world.checker.partitions().map(|(tp, ..)| tp.clone()).collect();
        let chosen = partitions.choose(&mut world.sim.core().rng).cloned();
        chosen.iter().for_each(|tp| world.client(world.client_of(tp).reassign(controller, replicas.clone())));
    }
}

/// An operator wants preferred leaders.
fn elect_preferred(world: &World) {
    for controller in controllers(world) {
        let partitions: Vec<_> = world.checker.partitions().map(|(tp, ..)| tp.clone()).collect();
        partitions.iter().for_each(|tp| world.client(world.client_of(tp).elect_preferred(controller)));
    }
}

/// No chance of small faults any more.
fn calm(world: &mut World) {
    let mut core = world.sim.core();
    core.network.break_chance = 0.0;
    core.network.slow_chance = 0.0;
    core.network.refuse_chance = 0.0;
    core.zookeeper.break_chance = 0.0;
    core.zookeeper.lag = (0, 5);
}
