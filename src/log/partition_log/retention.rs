//! Forgetting: old segments by time, size and log start offset; silent producers.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{PartitionLog, Shared, Writer};
use crate::base::error::ErrorCode;
use crate::base::ids::Offset;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_config::LogConfig;
use crate::log::log_dir::remove;
use crate::log::segment::Segment;

/// So many segments are renamed at most while appends wait; with more to delete they get their turn in between.
pub(super) const AT_ONCE: usize = 8;

impl PartitionLog {
    /// Deletes the segments that `retention.ms`, `retention.bytes` or the log start offset let go, oldest first; never
    /// above the high watermark. Returns how many.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn delete_old_segments(&self, now_ms: i64) -> Result<usize, LogError> {
        let mut deleted = 0;
        loop {
            let count = self.delete_some(now_ms)?;
            deleted += count;
            if count < AT_ONCE {
                break;
            }
        }
        if deleted > 0 {
            let start = self.log_start_offset();
            tracing::info!(partition = %self.tp, "deleted {deleted} old segments, the log now starts at {start}");
        }
        Ok(deleted)
    }

    /// Deletes the oldest of them, [`AT_ONCE`] at most; returns how many.
    pub(super) fn delete_some(&self, now_ms: i64) -> Result<usize, LogError> {
        let config = self.config();
        let mut writer = self.writer.lock();
        if self.is_closed() || self.log_dir.is_offline() {
            return Ok(0);
        }
        let count = self.deletable(&config, now_ms)?.min(AT_ONCE);
        if count == 0 {
            return Ok(0);
        }
        if count == self.segment_count() {
            let end = self.log_end_offset();
            self.roll_at(&mut writer, end, &config, now_ms)?;
        }
        self.delete_first(&mut writer, count, now_ms, &config)?;
        // Who waits goes first, not this thread with the next ones.
        MutexGuard::unlock_fair(writer);
        Ok(count)
    }

    /// How many of the first segments may go.
    fn deletable(&self, config: &LogConfig, now_ms: i64) -> Result<usize, LogError> {
        let (segments, log_start, high_watermark, log_end) = {
            let shared = self.shared.lock();
            (shared.segments.clone(), shared.log_start, shared.high_watermark, shared.log_end)
        };
        let mut surplus = match config.retention_bytes {
            limit if limit >= 0 && config.delete => {
                let size: u64 = segments.iter().map(|segment| segment.size()).sum();
                size.saturating_sub(u64::try_from(limit).unwrap_or(0))
            }
            _ => 0,
        };
        let mut by_size = true;
        let mut count = 0;
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map(|next| next.base_offset());
            let empty_active = next.is_none() && segment.size() == 0;
            if empty_active || high_watermark < next.unwrap_or(log_end) {
                break;
            }
            by_size &= surplus > 0 && segment.size() <= surplus;
            let before_start = next.is_some_and(|next| next <= log_start);
            if !(before_start || by_size || self.is_too_old(segment, config, now_ms)?) {
                break;
            }
            surplus = surplus.saturating_sub(segment.size());
            count += 1;
        }
        Ok(count)
    }

    fn is_too_old(&self, segment: &Segment, config: &LogConfig, now_ms: i64) -> Result<bool, LogError> {
        if !config.delete || config.retention_ms < 0 {
            return Ok(false);
        }
        let largest = self.watch_segment(segment, "read the time index of", segment.largest_timestamp())?;
        Ok(now_ms.saturating_sub(largest) > config.retention_ms)
    }

    fn delete_first(&self, writer: &mut Writer, count: usize, now_ms: i64, config: &LogConfig) -> Result<(), LogError> {
        let gone = {
            let mut shared = self.shared.lock();
            let gone: Vec<Arc<Segment>> = shared.segments.drain(..count).collect();
            shared.cleanings_void += 1;
            let start = shared.segments[0].base_offset();
            raise_log_start(&mut shared, start);
            gone
        };
        let due = now_ms.saturating_add(config.file_delete_delay_ms);
        for segment in &gone {
            let renamed = segment.rename_deleted().during("rename", &segment.path(files::LOG));
            for path in self.log_dir.watch(renamed)? {
                self.log_dir.remove_later(path, due);
            }
        }
        writer.snapshots.retain(|offset| {
            let keep = !gone.iter().any(|segment| segment.base_offset() == *offset);
            if !keep {
                remove(&files::segment_file(&self.dir, *offset, files::SNAPSHOT));
            }
            keep
        });
        Ok(())
    }

    /// Raises the log start offset (DeleteRecords, or the leader's start told to a follower); returns whether it rose.
    ///
    /// # Errors
    /// `OffsetOutOfRange` above the high watermark.
    pub fn maybe_increment_log_start_offset(&self, to: Offset) -> Result<bool, LogError> {
        let _writer = self.writer.lock();
        self.check_writable()?;
        let mut shared = self.shared.lock();
        if to > shared.high_watermark {
            let message = format!("log start {to} would lie above the high watermark {}", shared.high_watermark);
            return Err(LogError::refused(ErrorCode::OffsetOutOfRange, message));
        }
        let rises = to > shared.log_start;
        raise_log_start(&mut shared, to);
        Ok(rises)
    }

    /// The log start offset if it lies above the first segment's base, where the file names do not tell it.
    pub(in crate::log) fn start_above_first_segment(&self) -> Option<Offset> {
        let shared = self.shared.lock();
        (shared.log_start > shared.segments[0].base_offset()).then_some(shared.log_start)
    }

    /// Forgets producers that were silent for `expiration_ms`.
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) {
        self.writer.lock().producers.remove_expired(now_ms, expiration_ms);
    }
}

fn raise_log_start(shared: &mut Shared, to: Offset) {
    if to > shared.log_start {
        shared.log_start = to;
        shared.high_watermark = shared.high_watermark.max(to);
        shared.epochs.truncate_from_start(to);
        shared.open_transactions.remove_replicated(to);
    }
}
