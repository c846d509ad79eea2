//! The log cleaner (KIP-58, KIP-354, KIP-534; `LogCleaner`): keeps of each key of a compacted topic the last record.
//!
//! ```text
//!   selection     which log, from where to where               plain data
//!   offset_map    the last offset of each key                   memory, bounded
//!   transactions  which transactions a walk is amid of          plain data
//!   filter        what is left of one batch (legacy: of a message of magic 0 or 1)   bytes in, bytes out
//!   output        the files of a new segment
//!   clean         one cleaning: two walks, then the swaps       reads and writes files without any lock
//!   this module   the threads
//! ```
//!
//! Invariants: nothing above the last stable offset or in the active segment is touched; no offset, timestamp or sequence
//! number changes; of an active producer the last batch stays, of the part that was cleaned the last one, if need be without
//! records; what is swapped in lies below the recovery point that is on the disk, so that a gap above it after a loss of
//! power can only be a loss; what commits or aborts the transactions in what is cleaned is on the disk as well.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::base::clock::Clock;
use crate::base::niceness;
use crate::log::manager::LogManager;
use crate::log::partition_log::PartitionLog;

pub mod clean;
pub mod filter;
mod legacy;
pub mod offset_map;
mod output;
pub mod selection;
pub mod throttle;
pub mod transactions;

pub use clean::{CleanError, Cleaner, Share, Summary};
pub use offset_map::KeyHasher;
pub use throttle::Throttle;

/// A thread may use no more for its keys (`LogCleaner` says the same of itself).
const MOST_DEDUPE_BYTES: u64 = i32::MAX as u64;

/// How compaction runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanerOptions {
    /// `log.cleaner.enable`.
    pub enabled: bool,
    /// `log.cleaner.threads`.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`.
    pub dedupe_buffer_size: u64,
    /// `log.cleaner.io.buffer.size`.
    pub io_buffer_size: usize,
    /// `log.cleaner.io.buffer.load.factor`.
    pub load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub max_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`.
    pub backoff_ms: u64,
}

impl Default for CleanerOptions {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            enabled: true,
            threads: 1,
            dedupe_buffer_size: 128 << 20,
            io_buffer_size: 512 << 10,
            load_factor: 0.9,
            max_bytes_per_second: f64::MAX,
            backoff_ms: 15_000,
        }
    }
}

impl CleanerOptions {
    /// What each thread may use.
    pub fn share(&self) -> Share {
        let threads = self.threads.max(1);
        Share {
            dedupe_bytes: (self.dedupe_buffer_size / threads as u64).min(MOST_DEDUPE_BYTES),
            load_factor: self.load_factor,
            // One half for reading, one for writing.
            buffer_bytes: self.io_buffer_size / threads / 2,
        }
    }
}

/// The threads of the cleaner.
pub struct LogCleaner {
    manager: Arc<LogManager>,
    clock: Arc<dyn Clock>,
    throttle: Arc<Throttle>,
    // Held while threads are started or waited for.
    running: Mutex<Running>,
}

struct Running {
    options: CleanerOptions,
    signal: Arc<Signal>,
    threads: Vec<JoinHandle<()>>,
}

/// Tells threads that rest, and those that work, to stop.
#[derive(Debug, Default)]
struct Signal {
    stop: Arc<AtomicBool>,
    // Held for a look at `stop` only.
    lock: Mutex<()>,
    wake: Condvar,
}

impl Signal {
    fn stop(&self) {
        let _held = self.lock.lock();
        self.stop.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    /// Rests; returns whether to go on.
    fn rest(&self, time: Duration) -> bool {
        let mut held = self.lock.lock();
        if !self.stop.load(Ordering::Acquire) {
            self.wake.wait_for(&mut held, time);
        }
        !self.stop.load(Ordering::Acquire)
    }
}

impl LogCleaner {
    /// Starts as many threads as `options` say.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(manager: Arc<LogManager>, options: CleanerOptions, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let throttle = Arc::new(Throttle::new(options.max_bytes_per_second, Arc::clone(&clock)));
        let running = Running { options, signal: Arc::default(), threads: Vec::new() };
        let cleaner = Self { manager, clock, throttle, running: Mutex::new(running) };
        cleaner.start_threads(&mut cleaner.running.lock())?;
        Ok(cleaner)
    }

    fn start_threads(&self, running: &mut Running) -> io::Result<()> {
        let options = running.options;
        if !options.enabled {
            tracing::warn!(
                "log.cleaner.enable is false: compacted topics grow without bound, __consumer_offsets among them"
            );
            return Ok(());
        }
        if options.dedupe_buffer_size / options.threads.max(1) as u64 > MOST_DEDUPE_BYTES {
            tracing::warn!("log.cleaner.dedupe.buffer.size gives a thread more than 2 GiB, which is all that is used");
        }
        running.signal = Arc::default();
        for n in 0..options.threads {
            let worker = Worker {
                manager: Arc::clone(&self.manager),
                clock: Arc::clone(&self.clock),
                signal: Arc::clone(&running.signal),
                backoff: Duration::from_millis(options.backoff_ms),
            };
            let cleaner = Cleaner::new(options.share(), Arc::clone(&self.throttle), Arc::clone(&running.signal.stop));
            let thread = std::thread::Builder::new().name(format!("cleaner-{n}"));
            running.threads.push(thread.spawn(move || worker.run(cleaner))?);
        }
        Ok(())
    }

    /// Goes on as `options` say. Cleanings under way are given up if more than the rate differs. Waits for the threads.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn reconfigure(&self, options: CleanerOptions) -> io::Result<()> {
        let mut running = self.running.lock();
        let before = std::mem::replace(&mut running.options, options);
        if before.max_bytes_per_second.to_bits() != options.max_bytes_per_second.to_bits() {
            self.throttle.set_rate(options.max_bytes_per_second);
        }
        if (CleanerOptions { max_bytes_per_second: options.max_bytes_per_second, ..before }) == options {
            return Ok(());
        }
        tracing::info!("the cleaner starts anew: {options:?}");
        stop_threads(&mut running);
        self.start_threads(&mut running)
    }

    /// Ends the threads, and waits for them. A cleaning under way is given up.
    pub fn stop(&self) {
        stop_threads(&mut self.running.lock());
    }
}

impl Drop for LogCleaner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stop_threads(running: &mut Running) {
    running.signal.stop();
    for thread in running.threads.drain(..) {
        if thread.join().is_err() {
            tracing::error!("a thread of the cleaner had failed");
        }
    }
}

/// What one thread has.
struct Worker {
    manager: Arc<LogManager>,
    clock: Arc<dyn Clock>,
    signal: Arc<Signal>,
    backoff: Duration,
}

impl Worker {
    fn run(self, mut cleaner: Cleaner) {
        niceness::give_way();
        loop {
            let rest = if clean_filthiest(&self.manager, &mut cleaner, self.clock.now_ms()) {
                Duration::ZERO
            } else {
                self.backoff
            };
            if !self.signal.rest(rest) {
                return;
            }
        }
    }
}

/// Cleans the log that needs it most. `false` if none does, or it did not come to an end: then it is time for a rest.
pub fn clean_filthiest(manager: &LogManager, cleaner: &mut Cleaner, now_ms: i64) -> bool {
    let Some((claim, range)) = manager.claim_filthiest(now_ms) else { return false };
    let log = Arc::clone(claim.log());
    let cleaned = std::panic::catch_unwind(AssertUnwindSafe(|| {
        manager.make_durable(&log, range.first_uncleanable)?;
        cleaner.clean(&log, &range, now_ms)
    }));
    let result = cleaned.unwrap_or_else(|_| Err(CleanError::Unfit("the cleaner failed in it".to_owned())));
    match &result {
        Ok(summary) => report(&log, summary),
        Err(error) => refuse(&log, error),
    }
    manager.checkpoint_cleaned(log.log_dir());
    drop(claim);
    // What retention left alone meanwhile.
    if let Err(error) = log.delete_old_segments(now_ms) {
        tracing::error!(partition = %log.topic_partition(), "retention failed: {error}");
    }
    !matches!(result, Err(CleanError::GivenUp(_)))
}

fn report(log: &PartitionLog, summary: &Summary) {
    let Summary { before, after, .. } = summary;
    tracing::info!(
        partition = %log.topic_partition(),
        "compacted up to offset {}: {} of {} records stay in {} of {} bytes and {} of {} segments; {} keys were found in {} \
         bytes from offset {} on; took {:?}, {:?} of it for the keys",
        summary.cleaned_to, after.records, before.records, after.bytes, before.bytes, after.segments, before.segments,
        summary.keys, summary.dirty_bytes, summary.first_dirty, summary.all, summary.finding
    );
    if summary.without_key > 0 {
        tracing::warn!(
            partition = %log.topic_partition(),
            "{} records without a key were dropped, as a compacted topic cannot keep them", summary.without_key
        );
    }
}

fn refuse(log: &PartitionLog, error: &CleanError) {
    match error {
        CleanError::GivenUp(_) => tracing::info!(partition = %log.topic_partition(), "a cleaning was {error}"),
        CleanError::Log(error) => tracing::error!(partition = %log.topic_partition(), "a cleaning failed: {error}"),
        CleanError::Damaged(_) | CleanError::Unfit(_) => {
            log.mark_uncleanable();
            tracing::error!(
                partition = %log.topic_partition(),
                "cannot be compacted, and is not tried again before the next start: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests;
