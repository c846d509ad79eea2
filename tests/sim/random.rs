//! Random histories, one for each seed: a cluster under load, faults for a while, then calm, in which everything must come
//! right. `SIM_SEEDS` says how many, `SIM_SEED` runs one.

use std::sync::atomic::{AtomicU64, Ordering};

use barnabas::base::ids::TopicPartition;

use crate::clients::Client;
use crate::faults::{self, Faults};
use crate::kernel::Node;
use crate::world::World;

/// How long faults strike, in ms.
const FAULTY: u64 = 4_000;
/// How long it may take until all is well again.
const RECOVERY: u64 = 10_000;
/// Batches of each producer at most; they stop when it is calm.
const BATCHES: usize = 60;
const SEEDS: u64 = 200;

/// A history.
fn run(seed: u64) -> World {
    let mut world = World::new(seed, 3, &[]);
    world.boot_all();
    world.run_until("all brokers are up", 2_000, |w| w.nodes().iter().all(|n| w.view(*n).is_some()));
    let topics: [(&str, &[Node]); 2] = [("a", &[1]), ("b", &[2])];
    for (topic, replicas) in topics {
        world.create_topic(topic, 1, replicas);
    }
    world.run_until("the partitions have leaders", 2_000, |w| w.checker.partitions().count() == 2);
    for (number, (topic, _)) in (1_i64..).zip(topics) {
        let ledger = world.checker.ledger.clone();
        let tp = TopicPartition::new(topic, 0);
        let client = Client { sim: world.sim.clone(), brokers: world.nodes(), tp, ledger };
        world.client(client.clone().produce(number, BATCHES));
        world.client(client.consume());
    }
    faults::weather(&mut world);
    let mut faults = Faults::default();
    let until = world.sim.core().now + FAULTY;
    while world.sim.core().now < until {
        let pause = world.sim.core().pick((20, 300));
        world.run(pause);
        faults.strike(&mut world);
    }
    faults.heal(&mut world);
    faults::calm(&mut world);
    world.run_until("all is written, read and in sync", RECOVERY, |w| is_well(w, 2 * BATCHES));
    if let Err(violation) = world.checker.check_equal() {
        world.fail(&violation);
    }
    world
}

fn is_well(world: &World, batches: usize) -> bool {
    let ledger = world.checker.ledger.lock();
    let done = ledger.acknowledged.len() == batches && ledger.batches_read() >= batches;
    drop(ledger);
    done && world.checker.partitions().all(|(_, state, replicas)| state.isr.len() == replicas.len())
        && world.nodes().iter().filter(|n| world.view(**n).is_some_and(|v| v.controller.is_active())).count() == 1
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_histories_lose_nothing() {
    if let Some(seed) = number("SIM_SEED") {
        run(seed);
        return;
    }
    let (next, last) = (AtomicU64::new(1), number("SIM_SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    run(seed);
                }
            });
        }
    });
}

#[test]
fn a_random_history_can_be_repeated() {
    let (first, second) = (run(7), run(7));
    let (first, second) = (first.sim.core(), second.sim.core());
    let pairs = first.trace.lines().zip(second.trace.lines()).enumerate();
    if let Some((at, (a, b))) = pairs.into_iter().find(|(_, (a, b))| a != b) {
        let before: Vec<&str> = first.trace.lines().skip(at.saturating_sub(20)).take(20.min(at)).collect();
        panic!("line {at} differs: {a}\nand {b}\nbefore it:\n{}", before.join("\n"));
    }
    assert_eq!(first.trace.lines().len(), second.trace.lines().len());
}
