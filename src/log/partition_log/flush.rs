//! Bringing the log to the disk: flush, the recovery point, closing.

use super::PartitionLog;
use crate::base::ids::Offset;
use crate::log::checkpoint::{self, Sync};
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_config::LogConfig;

/// How far a log had been written when a sync of the whole file system began.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct SyncMark {
    end: Offset,
    truncations: u64,
    epoch_writes: u32,
}

impl PartitionLog {
    /// How many records were not flushed yet.
    pub fn unflushed_messages(&self) -> i64 {
        let shared = self.shared.lock();
        shared.log_end.since(shared.recovery_point)
    }

    /// Flushes if `flush.messages` asks for it.
    pub(super) fn flush_if_many(&self, config: &LogConfig) -> Result<(), LogError> {
        if config.flush_messages == i64::MAX || self.unflushed_messages() < config.flush_messages {
            return Ok(());
        }
        self.flush()
    }

    /// Waits until everything appended so far is on the disk, and moves the recovery point there.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline: what was not flushed may be lost with the power.
    pub fn flush(&self) -> Result<(), LogError> {
        self.flush_to(Offset(i64::MAX))
    }

    /// Like [`PartitionLog::flush`], for the segments that begin below `offset`: those rolled already, for example.
    pub fn flush_to(&self, offset: Offset) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        let _flushing = self.flushing.lock();
        let (segments, truncations, end) = {
            let shared = self.shared.lock();
            let end = shared.log_end.min(offset);
            if end <= shared.recovery_point {
                return Ok(());
            }
            let from = shared.segment_index(shared.recovery_point);
            let below = shared.segments.partition_point(|segment| segment.base_offset() < end).max(from);
            (shared.segments[from..below].to_vec(), shared.truncations, end)
        };
        self.write_epochs(Sync::Now)?;
        for segment in segments.iter().filter(|segment| !segment.is_deleted()) {
            match self.watch_segment(segment, "flush", segment.sync()) {
                Err(_) if segment.is_deleted() => {}
                result => result?,
            }
        }
        if std::mem::take(&mut self.writer.lock().dir_dirty) {
            // The folder itself may be new, too.
            let synced = checkpoint::sync_dir(&self.dir).and_then(|()| checkpoint::sync_dir(self.log_dir.path()));
            if self.is_closed() {
                return Ok(());
            }
            self.log_dir.watch(synced)?;
        }
        self.raise_recovery_point(end, truncations);
        Ok(())
    }

    pub(in crate::log) fn raise_recovery_point(&self, to: Offset, truncations: u64) {
        let mut shared = self.shared.lock();
        if shared.truncations == truncations && to > shared.recovery_point {
            shared.recovery_point = to;
        }
    }

    /// Writes the leader epochs to their file if they changed.
    pub(in crate::log) fn write_epochs(&self, sync: Sync) -> Result<(), LogError> {
        // The writer's lock keeps two of these from overtaking each other.
        let _writer = self.writer.lock();
        self.write_epochs_locked(sync)
    }

    pub(super) fn write_epochs_locked(&self, sync: Sync) -> Result<(), LogError> {
        if self.is_closed() {
            return Ok(());
        }
        let (entries, writes) = {
            let mut shared = self.shared.lock();
            if !(shared.epochs.is_dirty() || sync == Sync::Now && shared.epochs.is_unsynced()) {
                return Ok(());
            }
            shared.epochs.mark_written();
            (shared.epochs.entries().to_vec(), shared.epochs.writes())
        };
        self.log_dir.watch(checkpoint::write_epochs(&self.leader_epochs_path(), &entries, sync))?;
        if sync == Sync::Now {
            self.shared.lock().epochs.mark_synced(writes);
        }
        Ok(())
    }

    /// Whether closing has anything to write.
    pub fn is_dirty(&self) -> bool {
        let shared = self.shared.lock();
        shared.log_end > shared.recovery_point || shared.epochs.is_dirty() || shared.active().is_dirty()
    }

    /// Writes out what is only in memory (index entries, epochs, a producer snapshot) without waiting for the disk. The
    /// log can be opened from the folder afterwards as after an orderly stop, once the file system is synced.
    pub(in crate::log) fn write_out(&self) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        let mut writer = self.writer.lock();
        if self.is_closed() {
            return Ok(());
        }
        let (active, end) = {
            let shared = self.shared.lock();
            (shared.active().clone(), shared.log_end)
        };
        if std::mem::take(&mut writer.appended) {
            let result = active.max_timestamp().and_then(|max| active.push_time(max)).and_then(|()| active.write_out());
            self.log_dir.watch(result.during("write the indexes of", &active.path(files::LOG)))?;
        }
        self.write_epochs_locked(Sync::Later)?;
        let last = writer.snapshots.last().copied();
        if last != Some(end) && (!writer.producers.is_empty() || last.is_some()) {
            self.take_snapshot(&mut writer, end)?;
        }
        Ok(())
    }

    /// Notes that the whole file system was synced after [`PartitionLog::write_out`] and after `mark` was taken.
    pub(in crate::log) fn mark_synced(&self, mark: SyncMark) {
        let SyncMark { end, truncations, epoch_writes } = mark;
        // No append may come between the look at the log end and the marks.
        let mut writer = self.writer.lock();
        let segments = {
            let mut shared = self.shared.lock();
            if shared.log_end != end || shared.truncations != truncations {
                return;
            }
            shared.epochs.mark_synced(epoch_writes);
            shared.segments[shared.segment_index(shared.recovery_point)..].to_vec()
        };
        writer.dir_dirty = false;
        segments.iter().for_each(|segment| segment.mark_synced());
        self.raise_recovery_point(end, truncations);
    }

    /// What a sync of the whole file system that begins now covers.
    pub(in crate::log) fn sync_mark(&self) -> SyncMark {
        let shared = self.shared.lock();
        SyncMark { end: shared.log_end, truncations: shared.truncations, epoch_writes: shared.epochs.writes() }
    }

    /// Writes everything out, waits for the disk and gives all descriptors back. Nothing can be appended afterwards.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn close(&self) -> Result<(), LogError> {
        if self.is_closed() {
            return Ok(());
        }
        self.write_out()?;
        self.flush()?;
        self.mark_closed();
        self.release_files()
    }

    /// Ends the log's life before its folder is renamed: nothing is written any more.
    pub(in crate::log) fn retire(&self) {
        let _writer = self.writer.lock();
        self.mark_closed();
        let segments = self.shared.lock().segments.clone();
        segments.iter().for_each(|segment| segment.mark_deleted());
    }

    /// Gives back the descriptors of all segments; they are opened again when needed.
    pub fn release_files(&self) -> Result<(), LogError> {
        let _writer = self.writer.lock();
        let segments = self.shared.lock().segments.clone();
        for segment in segments {
            self.watch_segment(&segment, "close", segment.close_files())?;
        }
        Ok(())
    }

    /// Flushes what is due: rolled segments, and everything once `flush.ms` is over. Leader epochs that changed go to
    /// their file without waiting for the disk: created by thousands at a stop, these files would delay it.
    pub(in crate::log) fn flush_if_due(&self, now_ms: i64) -> Result<(), LogError> {
        if self.is_closed() || self.log_dir.is_offline() {
            return Ok(());
        }
        let (rolled, active_base, last_flush_ms, dirty, epochs_changed) = {
            let shared = self.shared.lock();
            let base = shared.active().base_offset();
            let dirty = shared.log_end > shared.recovery_point;
            (shared.recovery_point < base, base, shared.last_flush_ms, dirty, shared.epochs.is_dirty())
        };
        if epochs_changed {
            self.write_epochs(Sync::Later)?;
        }
        if dirty && now_ms.saturating_sub(last_flush_ms) >= self.config().flush_ms {
            self.shared.lock().last_flush_ms = now_ms;
            self.flush()?;
        } else if rolled {
            self.flush_to(active_base)?;
        }
        Ok(())
    }

    /// When something was last appended, if that is `idle_ms` ago or more and the log has not rested since.
    pub(in crate::log) fn idle_since(&self, now_ms: i64, idle_ms: i64) -> Option<i64> {
        let last = self.last_append_ms();
        let idle = last > 0 && now_ms.saturating_sub(last) >= idle_ms;
        (idle && !self.is_closed() && !self.log_dir.is_offline()).then_some(last)
    }

    /// Puts a log that nobody wrote to since `last_append_ms` in the state of one that was closed and opened again: all
    /// on the disk, no descriptor open, no buffer kept.
    pub(in crate::log) fn rest(&self, last_append_ms: i64) -> Result<(), LogError> {
        self.write_out()?;
        self.flush()?;
        {
            let mut writer = self.writer.lock();
            // Even an empty one spares a restart after a crash from looking for producers from the start on.
            let end = self.log_end_offset();
            if writer.last_append_ms != last_append_ms || self.is_closed() {
                return Ok(());
            }
            self.take_snapshot(&mut writer, end)?;
            writer.last_append_ms = 0;
            self.shared.lock().tail.clear();
        }
        self.release_files()
    }

    /// Gives back the descriptors of segments that nobody read since the last call; the active one is left to
    /// [`PartitionLog::flush_if_due`].
    pub(in crate::log) fn close_unused(&self) -> Result<(), LogError> {
        let mut segments = self.shared.lock().segments.clone();
        segments.pop();
        for segment in segments {
            self.watch_segment(&segment, "close", segment.close_if_unused())?;
        }
        Ok(())
    }

    /// When something was last appended, in milliseconds since 1970; 0 if nothing since the start.
    pub fn last_append_ms(&self) -> i64 {
        self.writer.lock().last_append_ms
    }
}
