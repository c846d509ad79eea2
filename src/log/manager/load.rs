//! Loading all logs at the start, over all log dirs and threads at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::moves;
use super::{LogManager, ManagedDir};
use crate::base::ids::{Offset, TopicPartition};
use crate::log::checkpoint;
use crate::log::error::{IoContext, LogError};
use crate::log::files::{self, DirKind};
use crate::log::log_config::LogConfig;
use crate::log::log_dir::LogDir;
use crate::log::meta;
use crate::log::partition_log::OpenParams;
use crate::log::recovery::{self, Progress};

/// What loading did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Partitions that were opened.
    pub partitions: usize,
    /// Partitions of log dirs that were not closed in order.
    pub recovered: usize,
    /// Bytes of logs whose CRCs were checked.
    pub bytes_checked: u64,
    /// Partitions that could not be opened, with the reason; their log dirs are offline.
    pub failed: Vec<(TopicPartition, String)>,
}

/// What the threads share.
struct Work {
    jobs: Vec<OpenParams>,
    next: AtomicUsize,
    unclean: usize,
    unclean_bytes: u64,
    unclean_done: AtomicUsize,
    progress: Progress,
    failed: Mutex<Vec<(TopicPartition, String)>>,
    last_report: Mutex<Option<Instant>>,
}

impl LogManager {
    /// Opens all logs; those of log dirs that were not closed in order are recovered. `config_for` tells a topic's
    /// settings.
    ///
    /// # Errors
    /// If a partition is in two log dirs.
    pub fn load(
        &self,
        config_for: &(dyn Fn(&str) -> Arc<LogConfig> + std::marker::Sync),
        now_ms: i64,
    ) -> Result<LoadSummary, LogError> {
        let mut jobs = Vec::new();
        for dir in self.live_dirs() {
            match self.list(dir, config_for, now_ms) {
                Ok(found) => jobs.extend(found),
                Err(error) => dir.log_dir.take_offline(&error.to_string()),
            }
        }
        let mut jobs = unique(jobs, now_ms)?;
        if self.dirs.len() > 1 {
            moves::unmark(jobs.iter().filter(|job| !is_future(job)));
        }
        // Partitions that need checking first: they take longest.
        jobs.sort_by_key(|job| job.clean);
        let unclean = jobs.partition_point(|job| !job.clean);
        let work = Work {
            unclean,
            unclean_bytes: self.unflushed_bytes(&jobs[..unclean]),
            unclean_done: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            progress: Progress::default(),
            failed: Mutex::default(),
            last_report: Mutex::default(),
            jobs,
        };
        if work.unclean > 0 {
            tracing::info!(
                "recovering {} partitions with up to {} bytes to check, after an unclean stop",
                work.unclean,
                work.unclean_bytes
            );
        }
        self.on_threads(work.jobs.len(), || self.load_next(&work));
        self.report(&work)
    }

    /// Does something on as many threads as may load `jobs` logs.
    fn on_threads(&self, jobs: usize, work: impl Fn() + std::marker::Sync) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (self.options.recovery_threads_per_dir * self.dirs.len()).max(cores).min(jobs).max(1);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(&work);
            }
            work();
        });
    }

    fn unflushed_bytes(&self, jobs: &[OpenParams]) -> u64 {
        let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        self.on_threads(jobs.len(), || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let unflushed = recovery::unflushed_bytes(&job.dir, job.recovery_point);
                bytes.fetch_add(unflushed, Ordering::Relaxed);
            }
        });
        bytes.into_inner()
    }

    fn load_next(&self, work: &Work) {
        let mut loaded = Vec::new();
        while let Some(job) = work.jobs.get(work.next.fetch_add(1, Ordering::Relaxed)) {
            match recovery::load(job, &work.progress) {
                Ok(log) if is_future(job) => drop(self.futures.write().insert(job.tp.clone(), Arc::new(log))),
                Ok(log) => loaded.push((job.tp.clone(), Arc::new(log))),
                Err(error) => work.failed.lock().push((job.tp.clone(), error.to_string())),
            }
            if !job.clean {
                work.report(job);
            }
        }
        self.logs.write().extend(loaded);
    }

    fn report(&self, work: &Work) -> Result<LoadSummary, LogError> {
        let failed = std::mem::take(&mut *work.failed.lock());
        for (tp, error) in &failed {
            tracing::error!(partition = %tp, "could not be opened: {error}");
        }
        // What other threads loaded from a log dir that failed meanwhile cannot be served.
        self.logs.write().retain(|_, log| !log.log_dir().is_offline());
        if work.unclean > 0 {
            tracing::info!("recovered {} partitions, {} bytes checked", work.unclean, work.progress.bytes());
        }
        Ok(LoadSummary {
            partitions: self.len(),
            recovered: work.unclean,
            bytes_checked: work.progress.bytes(),
            failed,
        })
    }

    /// The partitions in a log dir, with what its checkpoints say of them.
    fn list(
        &self,
        dir: &ManagedDir,
        config_for: &(dyn Fn(&str) -> Arc<LogConfig> + std::marker::Sync),
        now_ms: i64,
    ) -> Result<Vec<OpenParams>, LogError> {
        let path = dir.log_dir.path();
        let clean = meta::take_clean_shutdown(path)?;
        *dir.previous_epoch.lock() = clean.and_then(|clean| clean.broker_epoch);
        let recovery_points = read_checkpoint(path, files::RECOVERY_POINTS, "all logs are checked as a whole");
        let log_starts = read_checkpoint(path, files::LOG_STARTS, "logs start with their first segments");
        let cleaned = read_checkpoint(path, files::CLEANER_OFFSETS, "compacted logs are cleaned from their start on");
        // In the order of the map, which is that of the names.
        *dir.written.lock() = super::Written {
            recovery_points: as_written(&recovery_points),
            log_starts: as_written(&log_starts),
            high_watermarks: None,
            cleaned: as_written(&cleaned),
        };
        let mut configs: std::collections::HashMap<Arc<str>, Arc<LogConfig>> = std::collections::HashMap::new();
        let mut jobs = Vec::new();
        for (name, entry) in folders(path)? {
            let tp = match files::dir_kind(&name) {
                DirKind::Partition(tp) => tp,
                DirKind::Future(tp) => {
                    jobs.push(self.future_job(dir, (tp, entry), config_for, clean.is_some(), now_ms));
                    continue;
                }
                kind => {
                    set_aside(&dir.log_dir, kind, entry, now_ms);
                    continue;
                }
            };
            let config = configs.entry(tp.topic.clone()).or_insert_with(|| config_for(&tp.topic)).clone();
            jobs.push(OpenParams {
                dir: Arc::from(entry),
                log_dir: dir.log_dir.clone(),
                config,
                log_start: log_starts.get(&tp).copied().unwrap_or(Offset::ZERO),
                recovery_point: recovery_points.get(&tp).copied().unwrap_or(Offset::ZERO),
                cleaned: cleaned.get(&tp).copied(),
                clean: clean.is_some(),
                now_ms,
                producer_expiration_ms: self.producer_expiration_ms(),
                tp,
            });
        }
        Ok(jobs)
    }
}

impl LogManager {
    /// A move that was under way at the stop goes on. What its log holds is checked wholly after an unclean stop.
    fn future_job(
        &self,
        dir: &ManagedDir,
        (tp, folder): (TopicPartition, PathBuf),
        config_for: &(dyn Fn(&str) -> Arc<LogConfig> + std::marker::Sync),
        clean: bool,
        now_ms: i64,
    ) -> OpenParams {
        OpenParams {
            dir: Arc::from(folder),
            log_dir: dir.log_dir.clone(),
            config: config_for(&tp.topic),
            log_start: Offset::ZERO,
            recovery_point: Offset::ZERO,
            cleaned: None,
            clean,
            now_ms,
            producer_expiration_ms: self.producer_expiration_ms(),
            tp,
        }
    }
}

impl Work {
    /// Says how far the recovery has come: with the first partition that is done, then once a second.
    fn report(&self, job: &OpenParams) {
        let done = self.unclean_done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut last = self.last_report.lock();
        if last.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        *last = Some(Instant::now());
        let left = self.unclean_bytes.saturating_sub(self.progress.bytes());
        tracing::info!("recovered partition {}, {done} of {}, {left} bytes left to check", job.tp, self.unclean);
    }
}

fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, LogError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).during("list", path)? {
        let entry = entry.during("list", path)?;
        if entry.file_type().during("stat", &entry.path())?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// A checkpoint file's offsets. A damaged file only costs time, so it is named in the log and done without.
/// What a checkpoint file holds. One that is missing, empty or damaged counts as not written, so that the next
/// checkpoint writes it.
fn as_written(offsets: &std::collections::BTreeMap<TopicPartition, Offset>) -> Option<Vec<(TopicPartition, Offset)>> {
    let listed: Vec<_> = offsets.iter().map(|(tp, offset)| (tp.clone(), *offset)).collect();
    Some(listed).filter(|listed| !listed.is_empty())
}

fn read_checkpoint(
    log_dir: &Path,
    name: &str,
    consequence: &str,
) -> std::collections::BTreeMap<TopicPartition, Offset> {
    checkpoint::read_offsets(&log_dir.join(name)).unwrap_or_else(|error| {
        tracing::error!("{error}; {consequence}");
        std::collections::BTreeMap::new()
    })
}

fn set_aside(log_dir: &LogDir, kind: DirKind, path: PathBuf, now_ms: i64) {
    match kind {
        DirKind::Delete(_) => log_dir.remove_later(path, now_ms),
        DirKind::Stray(tp) => {
            tracing::warn!(partition = %tp, "{} was set aside as stray and is not loaded", path.display());
        }
        DirKind::Partition(_) | DirKind::Future(_) | DirKind::Other => {
            tracing::debug!("{} is not a partition's folder", path.display());
        }
    }
}

/// One folder for each partition, beside a future one. Of two that a crash amid a move left, the whole one.
fn unique(jobs: Vec<OpenParams>, now_ms: i64) -> Result<Vec<OpenParams>, LogError> {
    let mut seen: std::collections::HashMap<(TopicPartition, bool), OpenParams> = std::collections::HashMap::new();
    for job in jobs {
        let key = (job.tp.clone(), is_future(&job));
        let Some(other) = seen.remove(&key) else {
            seen.insert(key, job);
            continue;
        };
        let Some((stays, goes)) = moves::survivor(&other, &job) else {
            let message = format!("partition {} is also in {}: remove one of them", job.tp, other.dir.display());
            return Err(LogError::corrupt(&job.dir, message));
        };
        moves::finish(stays, goes, now_ms)?;
        let stays = stays.clone();
        seen.insert(key, stays);
    }
    Ok(seen.into_values().collect())
}

/// Whether the folder is one on its way from another log dir.
fn is_future(job: &OpenParams) -> bool {
    let name = job.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(files::dir_kind(name), DirKind::Future(_))
}
