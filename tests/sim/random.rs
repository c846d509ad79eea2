//! Random histories, one for each seed: a cluster under load, faults for a while, then calm, in which everything must come
//! right. `SIM_SEEDS` says how many, `SIM_FROM` from which, `SIM_SEED` runs one. `tests/run.sh` runs
//! 2,000, with `--long` 100,000.

use std::sync::atomic::{AtomicU64, Ordering};

use barnabas::base::ids::TopicPartition;

use crate::faults::{self, Faults};
use crate::groups;
use crate::kernel::Node;
use crate::transactions;
use crate::world::{FLUSH_EACH_BATCH, World};

/// How long faults strike, in ms.
const FAULTY: u64 = 3_000;
/// How long it may take until all is well again.
const RECOVERY: u64 = 10_000;
/// How long the copiers may take after that: each transaction takes some dozens of messages one after the other.
const COPYING: u64 = 40_000;
/// How long the group may take after that.
const SETTLING: u64 = 10_000;
/// Batches of each producer at most; they stop when it is calm.
const BATCHES: usize = 40;
/// Without `SIM_SEEDS`.
const SEEDS: u64 = 500;
/// Histories that are run twice and compared.
const REPEATED: u64 = 20;
/// The same of those that have a group.
const REPEATED_WITH_GROUP: u64 = 5;

/// The numbers that are copied in transactions.
const NUMBERS: i64 = 60;
/// Every so many histories has transactions, and as many have a group.
const TRANSACTIONAL: u64 = 16;
/// What remains of the seeds of those that have a group.
const GROUPED: u64 = 8;

/// The settings that differ from history to history.
fn settings(seed: u64) -> Vec<(&'static str, &'static str)> {
    let one_of = |values: [&'static str; 2], bit: u64| values[usize::from(seed >> bit & 1 == 1)];
    vec![
        ("min.insync.replicas", one_of(["2", "1"], 0)),
        ("log.segment.bytes", one_of(["1048576", "700"], 1)),
        ("num.replica.fetchers", one_of(["1", "2"], 2)),
        ("log.flush.interval.ms", one_of(["500", "100000"], 3)),
        if seed.is_multiple_of(3) { FLUSH_EACH_BATCH } else { ("log.flush.interval.messages", "9223372036854775807") },
    ]
}

/// A history.
fn run(seed: u64) -> World {
    let is_transactional = seed.is_multiple_of(TRANSACTIONAL);
    let has_group = seed % TRANSACTIONAL == GROUPED;
    let mut settings = settings(if is_transactional || has_group { seed / TRANSACTIONAL } else { seed });
    if is_transactional {
        settings.extend(transactions::SETTINGS);
    }
    if has_group {
        settings.extend(groups::SETTINGS);
    }
    let mut world = World::new(seed, 3, &settings);
    world.boot_all();
    world.run_until("all brokers are up", 2_000, |w| w.nodes().iter().all(|n| w.view(*n).is_some()));
    let topics: [(&str, &[Node]); 2] = [("a", &[1, 2, 3]), ("b", &[2, 3])];
    for (topic, replicas) in topics {
        world.create_topic(topic, 1, replicas);
    }
    if is_transactional {
        transactions::create_topics(&mut world, &[1, 2, 3]);
    }
    if has_group {
        groups::create_topics(&mut world, &[1, 2, 3]);
    }
    let partitions = if is_transactional || has_group { 8 } else { 2 };
    world.run_until("the partitions have leaders", 2_000, |w| w.checker.partitions().count() == partitions);
    for (number, (topic, _)) in (1_i64..).zip(topics) {
        let client = world.client_of(&TopicPartition::new(topic, 0));
        world.client(client.clone().produce(number, BATCHES));
        world.client(client.consume());
    }
    let copier = is_transactional.then(|| transactions::start(&world, NUMBERS));
    let members = has_group.then(|| groups::start(&world));
    faults::weather(&mut world);
    let mut faults = Faults::default();
    let until = world.sim.core().now + if has_group { 2 * FAULTY } else { FAULTY };
    while world.sim.core().now < until {
        let pause = world.sim.core().pick((20, 300));
        world.run(pause);
        faults.strike(&mut world);
    }
    faults.end(&mut world);
    copier.iter().for_each(|copier| transactions::calm(&world, copier));
    members.iter().for_each(|members| groups::calm(&world, members));
    world.run_until("all is written, read and in sync", RECOVERY, |w| is_well(w, 2 * BATCHES));
    if let Some(copier) = &copier {
        world.finish(COPYING, |w| transactions::unfinished(w, copier));
    }
    if let Some(members) = &members {
        world.finish(SETTLING, |w| groups::unfinished(w, members));
    }
    // The last batch for the topic that comes and goes may still be on its way to a follower.
    world.run_until("the logs of all replicas are the same", RECOVERY, |w| w.checker.check_equal().is_ok());
    world
}

fn is_well(world: &World, batches: usize) -> bool {
    let ledger = world.checker.ledger.lock();
    let done = ledger.done.len() == 2 && ledger.batches_read() >= batches;
    drop(ledger);
    done && world.checker.is_complete()
        && world.nodes().iter().all(|node| world.view(*node).is_some() && !world.checker.is_tainted(*node))
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
    let first = number("SIM_FROM").unwrap_or(1);
    let (next, end) = (AtomicU64::new(first), first + number("SIM_SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
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
    (1..=REPEATED).for_each(repeat);
    (0..REPEATED_WITH_GROUP).map(|n| n * TRANSACTIONAL + GROUPED).for_each(repeat);
}

fn repeat(seed: u64) {
    let (first, second) = (run(seed), run(seed));
    let (first, second) = (first.sim.core(), second.sim.core());
    let pairs = first.trace.lines().zip(second.trace.lines()).enumerate();
    if let Some((at, (a, b))) = pairs.into_iter().find(|(_, (a, b))| a != b) {
        let before: Vec<&str> = first.trace.lines().skip(at.saturating_sub(20)).take(20.min(at)).collect();
        panic!("seed {seed}, line {at} differs: {a}\nand {b}\nbefore it:\n{}", before.join("\n"));
    }
    assert_eq!(first.trace.lines().len(), second.trace.lines().len());
}
