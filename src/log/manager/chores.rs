//! What must be done regularly: retention, flushes, checkpoints, forgetting. Each is a function of the time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{LogManager, ManagedDir};
use crate::base::ids::{Offset, TopicPartition};
use crate::log::checkpoint;
use crate::log::error::LogError;
use crate::log::files;
use crate::log::partition_log::PartitionLog;

/// A log that was not written for so long is flushed and its descriptors are given back, so that a crash later finds
/// nothing to check. By then the system has mostly written the pages by itself.
const IDLE_MS: i64 = 30_000;

fn log_failure(log: &PartitionLog, what: &str, result: Result<(), LogError>) {
    if let Err(error) = result {
        tracing::error!(partition = %log.topic_partition(), "{what} failed: {error}");
    }
}

impl LogManager {
    /// Deletes old segments (every `log.retention.check.interval.ms`); returns how many.
    pub fn run_retention(&self, now_ms: i64) -> usize {
        let mut deleted = 0;
        // What is being compacted waits for the next time: the cleaner would have to begin anew.
        for log in self.all().iter().filter(|log| !log.is_being_cleaned()) {
            match log.delete_old_segments(now_ms) {
                Ok(count) => deleted += count,
                Err(error) => log_failure(log, "retention", Err(error)),
            }
        }
        deleted
    }

    /// Flushes what is due (every second or so): segments that were rolled, logs whose `flush.ms` is over, logs that
    /// have been idle for long. Waits for the disk, so it belongs on a thread that may block.
    pub fn run_flushes(&self, now_ms: i64) {
        for dir in self.live_dirs() {
            let mut idle = Vec::new();
            for log in self.logs_in(&dir.log_dir) {
                log_failure(&log, "flush", log.flush_if_due(now_ms));
                if let Some(since) = log.idle_since(now_ms, IDLE_MS) {
                    idle.push((log, since));
                }
            }
            if idle.len() > super::stop::SYNC_WHOLE_FILE_SYSTEM {
                let logs: Vec<_> = idle.iter().map(|(log, _)| log).collect();
                if let Err(error) = dir.log_dir.watch(super::stop::sync_all(dir, &logs)) {
                    tracing::error!("flush failed: {error}");
                }
            }
            for (log, since) in idle {
                log_failure(&log, "flush", log.rest(since));
            }
            if dir.log_dir.take_checkpoint_wanted() {
                self.checkpoint_dir(dir);
            }
        }
    }

    /// Writes the recovery points and log start offsets of one log dir.
    pub(super) fn checkpoint_dir(&self, dir: &ManagedDir) {
        let points = self.offsets_in(dir, |log| Some(log.recovery_point()));
        let starts = self.offsets_in(dir, |log| log.start_above_first_segment());
        let mut written = dir.written.lock();
        write_if_changed(dir, files::RECOVERY_POINTS, points, &mut written.recovery_points);
        write_if_changed(dir, files::LOG_STARTS, starts, &mut written.log_starts);
        drop(written);
        self.checkpoint_cleaned_in(dir);
    }

    /// Writes how far the logs of one log dir were compacted.
    pub(super) fn checkpoint_cleaned_in(&self, dir: &ManagedDir) {
        let cleaned = self.offsets_in(dir, |log| log.cleaned_offset());
        let mut written = dir.written.lock();
        if written.cleaned.is_some() || !cleaned.is_empty() {
            write_if_changed(dir, files::CLEANER_OFFSETS, cleaned, &mut written.cleaned);
        }
    }

    /// Gives back the descriptors of old segments that nobody reads any more (every half minute or so).
    pub fn close_unused_files(&self) {
        for log in self.all().iter().filter(|log| log.segment_count() > 1) {
            log_failure(log, "closing unused files", log.close_unused());
        }
    }

    /// Removes files and folders whose `file.delete.delay.ms` is over; returns how many.
    pub fn remove_due(&self, now_ms: i64) -> usize {
        self.dirs.iter().map(|dir| dir.log_dir.remove_due(now_ms)).sum()
    }

    /// Forgets producers that were silent for `producer.id.expiration.ms` (every
    /// `producer.id.expiration.check.interval.ms`).
    pub fn expire_producers(&self, now_ms: i64) {
        for log in self.all() {
            log.expire_producers(now_ms, self.producer_expiration_ms());
        }
    }

    /// How long a producer may be silent before it is forgotten.
    pub fn producer_expiration_ms(&self) -> i64 {
        self.producer_expiration_ms.load(Ordering::Relaxed)
    }

    /// Changes that (`DynamicProducerStateManagerConfig`).
    pub fn set_producer_expiration_ms(&self, ms: i64) {
        self.producer_expiration_ms.store(ms, Ordering::Relaxed);
    }

    /// Writes the recovery points (every `log.flush.offset.checkpoint.interval.ms`) where they changed.
    pub fn checkpoint_recovery_points(&self) {
        for dir in self.live_dirs() {
            let offsets = self.offsets_in(dir, |log| Some(log.recovery_point()));
            let mut written = dir.written.lock();
            write_if_changed(dir, files::RECOVERY_POINTS, offsets, &mut written.recovery_points);
        }
    }

    /// Writes the log start offsets that lie above their first segment (every
    /// `log.flush.start.offset.checkpoint.interval.ms`) where they changed.
    pub fn checkpoint_log_starts(&self) {
        for dir in self.live_dirs() {
            let offsets = self.offsets_in(dir, |log| log.start_above_first_segment());
            let mut written = dir.written.lock();
            write_if_changed(dir, files::LOG_STARTS, offsets, &mut written.log_starts);
        }
    }

    /// Writes the high watermarks of all logs (every `replica.high.watermark.checkpoint.interval.ms`) where they changed.
    pub fn checkpoint_high_watermarks(&self) {
        for dir in self.live_dirs() {
            let known: BTreeMap<TopicPartition, Offset> = dir.high_watermarks.lock().clone();
            let mut offsets = known;
            for (tp, offset) in self.offsets_in(dir, |log| log.high_watermark_to_checkpoint()) {
                offsets.insert(tp, offset);
            }
            let offsets: Vec<_> = offsets.into_iter().filter(|(tp, _)| self.get(tp).is_some()).collect();
            let mut written = dir.written.lock();
            write_if_changed(dir, files::HIGH_WATERMARKS, offsets, &mut written.high_watermarks);
        }
    }

    fn offsets_in(
        &self,
        dir: &ManagedDir,
        offset: impl Fn(&PartitionLog) -> Option<Offset>,
    ) -> Vec<(TopicPartition, Offset)> {
        let logs = self.logs_in(&dir.log_dir);
        let mut offsets: Vec<_> =
            logs.iter().filter_map(|log| Some((log.topic_partition().clone(), offset(log)?))).collect();
        offsets.sort_unstable();
        offsets
    }
}

fn write_if_changed(
    dir: &ManagedDir,
    name: &str,
    offsets: Vec<(TopicPartition, Offset)>,
    written: &mut Option<Vec<(TopicPartition, Offset)>>,
) {
    if written.as_ref() == Some(&offsets) {
        return;
    }
    let path = dir.log_dir.path().join(name);
    let result = checkpoint::write_offsets(&path, offsets.iter().map(|(tp, offset)| (tp, *offset)));
    match dir.log_dir.watch(result) {
        Ok(()) => *written = Some(offsets),
        Err(error) => tracing::error!("checkpoint failed: {error}"),
    }
}
