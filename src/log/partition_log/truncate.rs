//! Cutting the log at its end, as a follower does that went another way than its leader.

use std::sync::Arc;

use super::{PartitionLog, Writer};
use crate::base::ids::Offset;
use crate::log::checkpoint::Sync;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_dir::remove;
use crate::log::partition_log::OpenParams;
use crate::log::producer_state::OpenTransactions;
use crate::log::recovery::rebuild_producers;
use crate::log::segment::Segment;
use crate::log::txn_index;

impl PartitionLog {
    /// Removes everything from `offset` on; returns whether there was anything.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn truncate_to(&self, offset: Offset, now_ms: i64) -> Result<bool, LogError> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let (end, first) = {
            let shared = self.shared.lock();
            (shared.log_end, shared.segments[0].base_offset())
        };
        if offset >= end {
            // A leader that was deposed before its first record left an epoch behind that begins at the end: it goes
            // (`UnifiedLog.truncateTo`).
            self.shared.lock().epochs.truncate_from_end(end);
            return Ok(false);
        }
        if offset < first {
            self.start_over(&mut writer, offset, now_ms)?;
            return Ok(true);
        }
        tracing::info!(partition = %self.tp, "truncating from {end} to {offset}");
        let (gone, active) = {
            let mut shared = self.shared.lock();
            let keep = shared.segments.partition_point(|segment| segment.base_offset() <= offset).max(1);
            let gone: Vec<Arc<Segment>> = shared.segments.drain(keep..).collect();
            shared.truncations += 1;
            shared.tail.clear();
            shared.log_end = offset;
            shared.log_start = shared.log_start.min(offset);
            shared.high_watermark = shared.high_watermark.min(offset);
            shared.recovery_point = shared.recovery_point.min(offset);
            shared.cleaned = shared.cleaned.map(|cleaned| cleaned.min(offset));
            shared.cleanings_void += 1;
            shared.epochs.truncate_from_end(offset);
            (gone, shared.active().clone())
        };
        self.remove_segments(&gone)?;
        let path = active.path(files::LOG);
        self.log_dir.watch(cut(&active, offset, &mut writer).during("truncate", &path))?;
        self.reload_producers(&mut writer, offset, now_ms)?;
        self.write_epochs_locked(Sync::Later)?;
        self.log_dir.want_checkpoint();
        Ok(true)
    }

    /// Removes everything and begins anew at `offset`, as a follower does whose leader starts above its end.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn truncate_fully_and_start_at(&self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        self.start_over(&mut writer, offset, now_ms)
    }

    fn start_over(&self, writer: &mut Writer, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        tracing::info!(partition = %self.tp, "removing everything, the log begins anew at {offset}");
        let gone = {
            let mut shared = self.shared.lock();
            shared.cleanings_void += 1;
            shared.segments.clone()
        };
        self.remove_segments(&gone)?;
        let segment = Arc::new(self.create_segment(offset, &self.config(), now_ms)?);
        for snapshot in writer.snapshots.drain(..) {
            remove(&files::segment_file(&self.dir, snapshot, files::SNAPSHOT));
        }
        writer.producers.clear();
        writer.bytes_since_index = 0;
        writer.rolling_timestamp = None;
        writer.dir_dirty = true;
        let mut shared = self.shared.lock();
        shared.segments = vec![segment];
        shared.truncations += 1;
        shared.tail.clear();
        shared.log_start = offset;
        shared.log_end = offset;
        shared.high_watermark = offset;
        shared.recovery_point = shared.recovery_point.min(offset);
        shared.cleaned = None;
        shared.cleanings_void += 1;
        shared.epochs.clear();
        shared.open_transactions = OpenTransactions::default();
        drop(shared);
        self.log_dir.want_checkpoint();
        self.write_epochs_locked(Sync::Later)
    }

    fn remove_segments(&self, gone: &[Arc<Segment>]) -> Result<(), LogError> {
        // The last ones first: a crash in between leaves no gap.
        for segment in gone.iter().rev() {
            let renamed = segment.rename_deleted().during("remove", &segment.path(files::LOG));
            self.log_dir.watch(renamed)?.iter().for_each(|path| remove(path));
        }
        Ok(())
    }

    /// The producers as they were at `end`, from a snapshot and the batches behind it.
    fn reload_producers(&self, writer: &mut Writer, end: Offset, now_ms: i64) -> Result<(), LogError> {
        writer.snapshots.retain(|snapshot| {
            let keep = *snapshot <= end;
            if !keep {
                remove(&files::segment_file(&self.dir, *snapshot, files::SNAPSHOT));
            }
            keep
        });
        let params = OpenParams {
            tp: self.tp.clone(),
            dir: self.dir.clone(),
            log_dir: self.log_dir.clone(),
            config: self.config(),
            log_start: self.log_start_offset(),
            recovery_point: self.recovery_point(),
            cleaned: None,
            clean: true,
            now_ms,
            producer_expiration_ms: i64::MAX,
        };
        let segments = self.shared.lock().segments.clone();
        let open = self.log_dir.watch(rebuild_producers(&params, writer, &segments, end))?;
        let mut shared = self.shared.lock();
        let before = std::mem::replace(&mut shared.open_transactions, open);
        shared.open_transactions.take_unreplicated(before, end);
        // Of those whose marker was replicated before, nobody waits for the high watermark to rise once more.
        let high_watermark = shared.high_watermark;
        shared.open_transactions.remove_replicated(high_watermark);
        Ok(())
    }
}

fn cut(active: &Segment, offset: Offset, writer: &mut Writer) -> std::io::Result<()> {
    let size = active.truncate_to(offset)?;
    if active.has_aborted() {
        let left = txn_index::truncate(&active.path(files::TXN_INDEX), active.base_offset(), offset)?;
        active.set_has_aborted(left > 0);
    }
    let indexed = active.offsets.last(|| active.path(files::INDEX))?.map_or(0, |entry| entry.position);
    writer.bytes_since_index = size.saturating_sub(u64::try_from(indexed).unwrap_or(0));
    writer.rolling_timestamp = None;
    writer.appended = true;
    Ok(())
}
