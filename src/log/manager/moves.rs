//! Moves of partitions between log dirs (KIP-113): the future log, `T-P.<id>-future`, that grows beside the current one until
//! it takes its place, and the log dirs that were asked for before a partition came.
//!
//! Taking the place is safe against a crash at any point. Everything is on the disk and the future folder bears a mark
//! before it gets the partition's name; only then is the old folder renamed for deletion, as in the original. Should both
//! folders bear the partition's name at a start, the marked one is whole and stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogManager;
use crate::base::error::ErrorCode;
use crate::base::ids::{Offset, TopicPartition};
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_config::LogConfig;
use crate::log::log_dir::{LogDir, remove};
use crate::log::partition_log::{OpenParams, PartitionLog};

/// Partitions that may be waited for; more are refused, as anyone may name them.
const MAX_WAITED_FOR: usize = 10_000;

impl LogManager {
    /// The log dir at `path`, which must be one of `log.dirs` and work.
    ///
    /// # Errors
    /// `LogDirNotFound`, `KafkaStorageError`.
    pub fn log_dir(&self, path: &Path) -> Result<Arc<LogDir>, LogError> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let wanted = absolute(path);
        let found = self.dirs.iter().find(|dir| absolute(dir.log_dir.path()) == wanted);
        let Some(dir) = found else {
            let message = format!("Log dir {} is not found in the config.", path.display());
            return Err(LogError::refused(ErrorCode::LogDirNotFound, message));
        };
        dir.log_dir.check_online()?;
        Ok(Arc::clone(&dir.log_dir))
    }

    /// The future log of a partition, if it is being moved.
    pub fn future(&self, tp: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.futures.read().get(tp).cloned()
    }

    /// All future logs, by name.
    pub fn futures(&self) -> Vec<Arc<PartitionLog>> {
        self.futures.read().values().cloned().collect()
    }

    /// The future logs in one log dir.
    pub fn futures_in(&self, log_dir: &Arc<LogDir>) -> Vec<Arc<PartitionLog>> {
        self.futures.read().values().filter(|log| Arc::ptr_eq(log.log_dir(), log_dir)).cloned().collect()
    }

    /// Has a partition that is not here yet made in `log_dir` when it comes. `false` if too many are waited for.
    pub fn prefer(&self, tp: &TopicPartition, log_dir: &Arc<LogDir>) -> bool {
        let mut preferred = self.preferred.lock();
        if preferred.len() >= MAX_WAITED_FOR && !preferred.contains_key(tp) {
            return false;
        }
        preferred.insert(tp.clone(), Arc::clone(log_dir));
        true
    }

    /// The log dir that was asked for, if it works; asked for once.
    pub(super) fn take_preferred(&self, tp: &TopicPartition) -> Option<Arc<LogDir>> {
        self.preferred.lock().remove(tp).filter(|dir| !dir.is_offline())
    }

    /// Begins a future log of `current` in `log_dir`, or returns the one that is there.
    ///
    /// # Errors
    /// `KafkaStorageError` where the disk fails.
    pub fn create_future(
        &self,
        current: &PartitionLog,
        log_dir: &Arc<LogDir>,
        now_ms: i64,
    ) -> Result<Arc<PartitionLog>, LogError> {
        let _creation = self.creation.lock();
        let tp = current.topic_partition();
        if let Some(log) = self.future(tp) {
            return Ok(log);
        }
        let dir = log_dir.path().join(files::suffixed_dir(tp, files::FUTURE_DIR));
        let params = self.params_of(tp, dir, log_dir, current.config(), now_ms);
        let log = Arc::new(PartitionLog::open(&params)?);
        if let Some(id) = current.topic_id() {
            log.assign_topic_id(id)?;
        }
        self.futures.write().insert(tp.clone(), Arc::clone(&log));
        // A copy of records that are being compacted might get a value, and then not the tombstone that removed it.
        current.pause_cleaning();
        tracing::info!(partition = %tp, "moves from {} to {}", current.log_dir().path().display(), log_dir.path().display());
        Ok(log)
    }

    fn params_of(
        &self,
        tp: &TopicPartition,
        dir: PathBuf,
        log_dir: &Arc<LogDir>,
        config: Arc<LogConfig>,
        now_ms: i64,
    ) -> OpenParams {
        OpenParams {
            tp: tp.clone(),
            dir: Arc::from(dir),
            log_dir: Arc::clone(log_dir),
            config,
            log_start: Offset::ZERO,
            recovery_point: Offset::ZERO,
            cleaned: None,
            clean: true,
            now_ms,
            producer_expiration_ms: self.producer_expiration_ms(),
        }
    }

    /// Gives a move up: the future log goes as a deleted partition does.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn remove_future(&self, tp: &TopicPartition, now_ms: i64) -> Result<(), LogError> {
        let Some(log) = self.futures.write().remove(tp) else { return Ok(()) };
        if let Some(current) = self.get(tp) {
            current.resume_cleaning();
        }
        if log.log_dir().is_offline() {
            return Ok(());
        }
        let to = set_aside(&log, files::DELETE_DIR)?;
        log.log_dir().remove_later(to, now_ms.saturating_add(log.config().file_delete_delay_ms));
        tracing::info!(partition = %tp, "the move to {} is given up", log.log_dir().path().display());
        Ok(())
    }

    /// Puts the future log in the place of `current`, which must not be written to meanwhile and hold nothing that the
    /// future log does not. Returns the new current log.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline; `current` stays then.
    pub fn replace_with_future(&self, current: &Arc<PartitionLog>, now_ms: i64) -> Result<Arc<PartitionLog>, LogError> {
        let _creation = self.creation.lock();
        let tp = current.topic_partition();
        let Some(future) = self.future(tp) else {
            return Err(LogError::refused(ErrorCode::ReplicaNotAvailable, format!("{tp} is not being moved")));
        };
        let log_dir = Arc::clone(future.log_dir());
        future.close()?;
        let place = log_dir.path().join(tp.to_string());
        log_dir.watch(mark(future.dir()))?;
        log_dir.watch(rename(future.dir(), &place))?;
        let mut params = self.params_of(tp, place.clone(), &log_dir, current.config(), now_ms);
        params.log_start = current.log_start_offset();
        params.recovery_point = future.log_end_offset();
        // What was copied is as clean as it was when the move began; since then nothing was cleaned.
        params.cleaned = current.cleaned_offset();
        let log = Arc::new(PartitionLog::open(&params)?);
        log.update_high_watermark(current.high_watermark());
        if let Some(epoch) = current.latest_epoch().filter(|epoch| log.latest_epoch() < Some(*epoch)) {
            log.assign_epoch_at_end(epoch);
        }
        self.logs.write().insert(tp.clone(), Arc::clone(&log));
        self.futures.write().remove(tp);
        if let Some(dir) = self.dirs.iter().find(|dir| Arc::ptr_eq(&dir.log_dir, &log_dir)) {
            self.checkpoint_dir(dir);
        }
        match set_aside(current, files::DELETE_DIR) {
            Ok(to) => {
                let due = now_ms.saturating_add(current.config().file_delete_delay_ms);
                current.log_dir().remove_later(to, due);
                // Only now may a next start do without the mark.
                remove(&place.join(files::MOVED));
            }
            // The disk that the partition leaves failed: it is where it shall be, and the mark stays.
            Err(error) => tracing::error!(partition = %tp, "its old folder could not be removed: {error}"),
        }
        for dir in &self.dirs {
            dir.high_watermarks.lock().remove(tp);
        }
        current.log_dir().want_checkpoint();
        tracing::info!(partition = %tp, "has moved to {}", log_dir.path().display());
        Ok(log)
    }

    /// Forgets future logs whose log dir has failed; their partitions stay where they are.
    pub fn drop_failed_futures(&self) {
        let mut failed = Vec::new();
        self.futures.write().retain(|tp, log| {
            let is_offline = log.log_dir().is_offline();
            failed.extend(is_offline.then(|| tp.clone()));
            !is_offline
        });
        failed.iter().filter_map(|tp| self.get(tp)).for_each(|current| current.resume_cleaning());
    }
}

/// Renames a log's folder for what `suffix` says; nothing is written to it any more.
fn set_aside(log: &PartitionLog, suffix: &str) -> Result<PathBuf, LogError> {
    let log_dir = log.log_dir();
    log_dir.check_online()?;
    let to = log_dir.path().join(files::suffixed_dir(log.topic_partition(), suffix));
    log.retire();
    log_dir.watch(std::fs::rename(log.dir(), &to).during("rename", log.dir()))?;
    Ok(to)
}

/// Marks a folder as whole, for good.
fn mark(dir: &Path) -> Result<(), LogError> {
    let path = dir.join(files::MOVED);
    std::fs::File::create(&path).and_then(|file| file.sync_all()).during("create", &path)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).during("sync", dir)
}

/// Renames a folder, for good.
fn rename(from: &Path, to: &Path) -> Result<(), LogError> {
    std::fs::rename(from, to).during("rename", from)?;
    let parent = to.parent().unwrap_or(to);
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).during("sync", parent)
}

/// Of two folders of one partition, which a crash amid a move left, the old one is renamed for deletion. `None` if neither
/// is marked, or both are.
pub(super) fn survivor<'a>(one: &'a OpenParams, other: &'a OpenParams) -> Option<(&'a OpenParams, &'a OpenParams)> {
    let is_marked = |params: &OpenParams| params.dir.join(files::MOVED).exists();
    match (is_marked(one), is_marked(other)) {
        (true, false) => Some((one, other)),
        (false, true) => Some((other, one)),
        _ => None,
    }
}

/// Ends what a crash amid a move left: `stays` is whole, `goes` is renamed for deletion.
pub(super) fn finish(stays: &OpenParams, goes: &OpenParams, now_ms: i64) -> Result<(), LogError> {
    let to = goes.log_dir.path().join(files::suffixed_dir(&goes.tp, files::DELETE_DIR));
    goes.log_dir.watch(rename(&goes.dir, &to))?;
    goes.log_dir.remove_later(to, now_ms.saturating_add(goes.config.file_delete_delay_ms));
    remove(&stays.dir.join(files::MOVED));
    tracing::info!(partition = %stays.tp, "ended the move to {} that a crash broke off", stays.log_dir.path().display());
    Ok(())
}

/// Takes the marks off folders whose move is over.
pub(super) fn unmark<'a>(jobs: impl Iterator<Item = &'a OpenParams>) {
    jobs.for_each(|job| remove(&job.dir.join(files::MOVED)));
}
