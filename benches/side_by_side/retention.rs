//! Old segments are removed while the end-to-end load is appended behind them, to the same partition.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::brokers::Broker;
use super::latency;
use super::process::{Process, wait_for};

/// What is removed, about.
const TOTAL: usize = 2 << 30;
const SEGMENT: u64 = 100 << 20;
/// They are gone within that time: the brokers look every second, and remove what they found a second later.
const PATIENCE: Duration = Duration::from_secs(60);

/// The end-to-end load's p99 and its longest, in ms: medians of the rounds.
#[derive(Debug)]
pub struct Figures {
    /// While segments were removed.
    pub beside: [f64; 2],
    /// And before.
    pub alone: [f64; 2],
    /// And while a process that has nothing to do with the broker removes as many files of that size: the machine's limit.
    pub bare: [f64; 2],
}

/// Measures a broker that is not started yet.
pub fn run(mut broker: Broker, dir: &Path, rounds: usize) -> Result<Figures> {
    broker.set("log.retention.check.interval.ms", "1000")?;
    broker.start()?;
    let mut measured: [[Vec<f64>; 2]; 3] = Default::default();
    // The first round warms up, files and compilers.
    for round in 0..=rounds {
        let topic = format!("old-{round}");
        broker.wire()?.create_configured(&topic, &[("segment.bytes", &SEGMENT.to_string())])?;
        latency::fill(&broker, &topic, TOTAL)?;
        let copies = dir.join(format!("copies-{round}"));
        copy(&broker, &topic, &copies)?;
        let alone = latency::alone(&broker, &topic, Duration::from_secs(2), Duration::from_secs(5))?;
        let (bare, ()) = latency::beside(&broker, &topic, || remove_bare(&copies))?;
        let (beside, took) = latency::beside(&broker, &topic, || remove(&broker, &topic))?;
        let values = [beside, alone, bare].map(|all| [super::millis(&all)[1], all.max() as f64 / 1000.0]);
        eprintln!("  {:?}: {values:.2?} (p99 / longest beside, alone, beside rm, ms), {took:.1} s", broker.kind);
        broker.wire()?.delete_topic(&topic)?;
        if round > 0 {
            let values = values.into_iter().flatten();
            measured.iter_mut().flatten().zip(values).for_each(|(into, value)| into.push(value));
        }
    }
    broker.stop()?;
    let [beside, alone, bare] = measured.map(|figures| figures.map(|values| super::median(values).unwrap_or_default()));
    Ok(Figures { beside, alone, bare })
}

/// Brings the segments to the disk, and as many files like them to `copies`.
fn copy(broker: &Broker, topic: &str, copies: &Path) -> Result<()> {
    fs::create_dir_all(copies)?;
    for file in broker.log_files(topic)? {
        File::open(&file)?.sync_all()?;
        let copy = copies.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &copy)?;
        File::open(&copy)?.sync_all()?;
    }
    Ok(())
}

/// Has the broker remove all segments but the last; returns how many seconds that took.
fn remove(broker: &Broker, topic: &str) -> Result<f64> {
    let begun = Instant::now();
    broker.wire()?.configure(topic, "retention.bytes", &SEGMENT.to_string())?;
    let most = 2 * SEGMENT + (16 << 20);
    wait_for("old segments to go", PATIENCE, || Ok((broker.log_size(topic)? <= most).then_some(())))?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Removes the copies, as nice as Barnabas's thread that removes files.
fn remove_bare(copies: &Path) -> Result<()> {
    let mut command = Command::new("nice");
    let mut removing = Process::start("rm", command.args(["-n", "5", "rm", "-r"]).arg(copies))?;
    let status = removing.child().wait()?;
    ensure!(status.success(), "rm ended with {status}");
    Ok(())
}
