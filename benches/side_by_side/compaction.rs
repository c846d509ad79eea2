//! Compaction of many small keyed records, while the end-to-end load runs on another topic.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::brokers::Broker;
use super::latency::{self, Latencies};
use super::process::Process;
use super::wire;

/// What is written, about.
const TOTAL: usize = 1 << 30;
/// Keys to choose from.
const KEYS: u64 = 2_000_000;
const KEY_LEN: usize = 16;
const VALUE_LEN: usize = 84;
/// Records in a batch of about 16 KiB, the default `batch.size` of clients.
const RECORDS: usize = 150;
/// Requests under way while the topic is filled.
const DEPTH: usize = 8;
/// A compacted topic that is not compacted yet.
const HELD_BACK: &[(&str, &str)] =
    &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "1"), ("segment.bytes", "104857600")];
/// Computes for some ten seconds.
const BUSY_LOOP: &str = "ulimit -t 10; while :; do :; done";
/// A compaction takes no longer than that.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured: medians of the rounds. These machines stand still for some milliseconds now and then, which all rounds
/// together would show as a worse p99.
#[derive(Debug)]
pub struct Figures {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub rss_mib: f64,
    /// The end-to-end load's p99 while compaction ran, in ms.
    pub beside: f64,
    /// And before.
    pub alone: f64,
    /// And while a process that has nothing to do with the broker computes, as nice as Barnabas's cleaner: the machine's limit.
    pub busy: f64,
}

/// Measures a broker that is not started yet.
pub fn run(mut broker: Broker, rounds: usize) -> Result<Figures> {
    broker.set("log.cleaner.backoff.ms", "100")?;
    broker.start()?;
    broker.wire()?.create_topics(&[("tail".to_owned(), 1)])?;
    let mut measured: [Vec<f64>; 6] = Default::default();
    // The first round warms up, files and compilers.
    for round in 0..=rounds {
        let topic = format!("table-{round}");
        broker.wire()?.create_configured(&topic, HELD_BACK)?;
        let last = fill(&broker, &topic, round as u64)?;
        super::settle()?;
        let quiet = latency::alone(&broker, "tail", Duration::from_secs(2), Duration::from_secs(5))?;
        let computing = beside_busy_loop(&broker)?;
        let (loaded, run) = latency::beside(&broker, "tail", || compact(&broker, &topic, last))?;
        let [seconds, cpu_seconds, rss_mib] = run;
        let [beside, alone, busy] = [loaded, quiet, computing].map(|all| super::millis(&all)[1]);
        let values = [seconds, cpu_seconds, rss_mib, beside, alone, busy];
        eprintln!("  {:?}: {values:.2?} (s, CPU-s, MiB, p99 beside, alone, beside a busy loop, ms)", broker.kind);
        broker.wire()?.delete_topic(&topic)?;
        if round > 0 {
            measured.iter_mut().zip(values).for_each(|(into, value)| into.push(value));
        }
    }
    broker.stop()?;
    let [seconds, cpu_seconds, rss_mib, beside, alone, busy] =
        measured.map(|values| super::median(values).unwrap_or_default());
    Ok(Figures { seconds, cpu_seconds, rss_mib, beside, alone, busy })
}

/// Keys by chance, the same for both brokers.
fn keys(state: &mut u64) -> Vec<[u8; KEY_LEN]> {
    let next = |_| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let mut key = *b"key-000000000000";
        key[KEY_LEN - 8..].copy_from_slice(&(*state % KEYS).to_be_bytes());
        key
    };
    (0..RECORDS).map(next).collect()
}

/// Fills partition 0; returns where the active segment begins.
fn fill(broker: &Broker, topic: &str, seed: u64) -> Result<i64> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (seed + 1);
    let mut wire = broker.wire()?;
    let mut made = 0;
    let mut under_way = 0;
    while made < TOTAL || under_way > 0 {
        if made < TOTAL && under_way < DEPTH {
            let keys = keys(&mut state);
            let batch = wire::keyed_batch(keys.iter().map(<[u8; KEY_LEN]>::as_slice), VALUE_LEN)?;
            made += batch.len();
            wire.stream.write_all(&wire::produce_frame(topic, 0, 1, batch)?)?;
            under_way += 1;
        } else {
            wire.receive_produced()?;
            under_way -= 1;
        }
    }
    let names = broker.log_files(topic)?;
    let bases = names.iter().filter_map(|path| path.file_stem()?.to_str()?.parse::<i64>().ok());
    bases.max().filter(|base| *base > 0).context("there is one segment only")
}

fn beside_busy_loop(broker: &Broker) -> Result<Latencies> {
    let mut command = Command::new("nice");
    // It ends by itself if this process is killed.
    let _busy = Process::start("a busy loop", command.args(["-n", "5", "sh", "-c", BUSY_LOOP]))?;
    latency::alone(broker, "tail", Duration::from_millis(500), Duration::from_secs(5))
}

/// Compaction up to offset `last`: seconds, processor seconds, and the most memory in MiB.
fn compact(broker: &Broker, topic: &str, last: i64) -> Result<[f64; 3]> {
    let process = broker.counted()?;
    let (cpu, mut most) = (process.cpu()?, process.rss_kib()?);
    broker.wire()?.configure(topic, "min.cleanable.dirty.ratio", "0.01")?;
    let begun = Instant::now();
    while broker.cleaned_to(topic).is_none_or(|to| to < last) {
        ensure!(begun.elapsed() < PATIENCE, "not compacted within {PATIENCE:?}");
        most = most.max(process.rss_kib()?);
        thread::sleep(Duration::from_millis(20));
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok([seconds, (process.cpu()? - cpu).as_secs_f64(), most / 1024.0])
}
