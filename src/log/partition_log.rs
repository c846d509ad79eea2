//! One partition's log (`UnifiedLog` and `LocalLog`): segments in a folder, the producers and epochs of what is in them,
//! and the offsets that bound readers.
//!
//! Two locks. `writer` serialises all that changes files and is held across their I/O; `shared` holds what readers see
//! and is never held across I/O, so readers never wait for a disk or for an append. Order: `writer` before `shared`.
//! Invariants: log start <= high watermark <= log end; recovery point <= log end; what is published is in the file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::log::epochs::LeaderEpochs;
use crate::log::error::LogError;
use crate::log::files;
use crate::log::log_config::LogConfig;
use crate::log::log_dir::LogDir;
use crate::log::meta;
use crate::log::producer_state::{OpenTransactions, ProducerStates};
use crate::log::segment::Segment;
use crate::log::tail::Tail;

mod append;
mod clean;
mod flush;
mod offsets;
mod read;
mod retention;
mod roll;
mod truncate;

pub(super) use roll::jitter;

pub use append::{AppendError, AppendInfo};
pub(in crate::log) use clean::{Claim, CleaningView, Replaced};
pub use offsets::{FoundOffset, SegmentStart};
pub use read::{LogRead, OffsetMetadata, ReadUpTo};

/// One partition on disk.
#[derive(Debug)]
pub struct PartitionLog {
    pub(super) tp: TopicPartition,
    pub(super) dir: Arc<Path>,
    pub(super) log_dir: Arc<LogDir>,
    config: RwLock<Arc<LogConfig>>,
    topic_id: Mutex<Option<TopicId>>,
    /// Set once the folder has been renamed for deletion or the log was closed: nothing is written any more.
    closed: AtomicBool,
    // Held across a flush, so that no second one takes its segments for flushed before they are.
    flushing: Mutex<()>,
    cleaning: clean::Cleaning,
    pub(super) writer: Mutex<Writer>,
    pub(super) shared: Mutex<Shared>,
}

/// What only writers need.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub producers: ProducerStates,
    /// Offsets of the snapshot files in the folder, ascending.
    pub snapshots: Vec<Offset>,
    /// Bytes appended since the last index entry.
    pub bytes_since_index: u64,
    /// The largest timestamp of the active segment's first batch; `None` until looked up or if it is empty.
    pub rolling_timestamp: Option<i64>,
    /// Taken off `segment.ms` for the active segment.
    pub roll_jitter_ms: i64,
    /// When something was last appended.
    pub last_append_ms: i64,
    /// Whether something was appended or cut off since everything was last written out.
    pub appended: bool,
    /// Whether the folder has entries that were not yet synced.
    pub dir_dirty: bool,
}

/// What readers see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// In order of their base offsets; never empty. The last one is active.
    pub segments: Vec<Arc<Segment>>,
    pub log_start: Offset,
    pub log_end: Offset,
    pub high_watermark: Offset,
    /// Whether the high watermark was set since the log was opened.
    pub high_watermark_set: bool,
    pub recovery_point: Offset,
    /// Below it the cleaner was; `None` if it never was here.
    pub cleaned: Option<Offset>,
    /// Counts what makes the work of a cleaning that is under way void: truncations, deletions of segments, moves.
    pub cleanings_void: u64,
    /// Counts truncations, so that a flush that raced with one is not taken for a flush of what came after.
    pub truncations: u64,
    pub last_flush_ms: i64,
    pub tail: Tail,
    pub epochs: LeaderEpochs,
    pub open_transactions: OpenTransactions,
}

impl Shared {
    pub(super) fn active(&self) -> &Arc<Segment> {
        // Never empty by construction: a log without segments is given one before it is published.
        &self.segments[self.segments.len() - 1]
    }

    /// The segment that `offset` falls into.
    pub(super) fn segment_index(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1)
    }

    /// Never below the log start: of a transaction that begins there the rest is what readers wait for.
    pub(super) fn last_stable_offset(&self) -> Offset {
        match self.open_transactions.first_unstable_offset() {
            Some(first) if first < self.high_watermark => first.max(self.log_start),
            _ => self.high_watermark,
        }
    }
}

/// What a log is opened with beside what its folder holds.
#[derive(Debug, Clone)]
pub struct OpenParams {
    /// The partition.
    pub tp: TopicPartition,
    /// Its folder; created if it is not there.
    pub dir: Arc<Path>,
    /// The log dir the folder is in.
    pub log_dir: Arc<LogDir>,
    /// The topic's settings.
    pub config: Arc<LogConfig>,
    /// The log start offset that was checkpointed, or 0.
    pub log_start: Offset,
    /// The recovery point that was checkpointed, or 0.
    pub recovery_point: Offset,
    /// Up to where the log was compacted, by the checkpoint; `None` if it was not.
    pub cleaned: Option<Offset>,
    /// Whether the log dir was closed in order the last time.
    pub clean: bool,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
}

impl PartitionLog {
    /// Opens the log in its folder, and recovers it first if it was not closed in order.
    ///
    /// # Errors
    /// [`LogError::Storage`] where the disk fails; damage is repaired, not reported.
    pub fn open(params: &OpenParams) -> Result<Self, LogError> {
        super::recovery::load(params, &super::recovery::Progress::default())
    }

    pub(super) fn assemble(params: &OpenParams, topic_id: Option<TopicId>, writer: Writer, shared: Shared) -> Self {
        Self {
            tp: params.tp.clone(),
            dir: params.dir.clone(),
            log_dir: params.log_dir.clone(),
            config: RwLock::new(params.config.clone()),
            topic_id: Mutex::new(topic_id),
            closed: AtomicBool::new(false),
            flushing: Mutex::new(()),
            cleaning: clean::Cleaning::default(),
            writer: Mutex::new(writer),
            shared: Mutex::new(shared),
        }
    }

    /// The partition's name.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.tp
    }

    /// The log dir it lives in.
    pub fn log_dir(&self) -> &Arc<LogDir> {
        &self.log_dir
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.read().clone()
    }

    /// Puts new settings in force.
    pub fn update_config(&self, config: Arc<LogConfig>) {
        *self.config.write() = config;
    }

    /// The topic's id, if it is known.
    pub fn topic_id(&self) -> Option<TopicId> {
        *self.topic_id.lock()
    }

    /// Notes the topic's id, in memory and in `partition.metadata`.
    ///
    /// # Errors
    /// `InconsistentTopicId` if the log has another one already.
    pub fn assign_topic_id(&self, id: TopicId) -> Result<(), LogError> {
        let mut known = self.topic_id.lock();
        match *known {
            Some(known) if known == id => Ok(()),
            Some(known) => Err(LogError::refused(
                ErrorCode::InconsistentTopicId,
                format!("{} has topic id {known} on disk, not {id}", self.tp),
            )),
            None => {
                self.log_dir.watch(meta::write_topic_id(&self.dir, id))?;
                *known = Some(id);
                Ok(())
            }
        }
    }

    /// Refuses if the log dir is offline or the log is closed.
    pub(super) fn check_writable(&self) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        if self.is_closed() { Err(LogError::Offline(self.dir.to_path_buf())) } else { Ok(()) }
    }

    /// Passes on what came of reading or flushing a segment. That its files were deleted meanwhile is no fault of the
    /// disk; anything else takes the log dir offline.
    pub(super) fn watch_segment<T>(
        &self,
        segment: &Segment,
        what: &'static str,
        result: std::io::Result<T>,
    ) -> Result<T, LogError> {
        match result {
            Ok(value) => Ok(value),
            Err(_) if self.is_closed() => Err(LogError::Offline(self.dir.to_path_buf())),
            Err(error) if segment.is_deleted() => Err(LogError::refused(
                ErrorCode::OffsetOutOfRange,
                format!("segment {} of {} was deleted meanwhile: {error}", segment.base_offset(), self.tp),
            )),
            Err(error) => self.log_dir.watch(Err(LogError::storage(what, &segment.path(files::LOG), error))),
        }
    }

    /// Whether it was closed or deleted.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn mark_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.lock().log_start
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.lock().log_end
    }

    /// Below it everything is on disk for good and need not be checked after a crash.
    pub fn recovery_point(&self) -> Offset {
        self.shared.lock().recovery_point
    }

    /// Below it consumers may read.
    pub fn high_watermark(&self) -> Offset {
        self.shared.lock().high_watermark
    }

    /// Below it consumers of committed records may read.
    pub fn last_stable_offset(&self) -> Offset {
        self.shared.lock().last_stable_offset()
    }

    /// Sets the high watermark, kept between log start and log end; returns what it is now.
    pub fn update_high_watermark(&self, to: Offset) -> Offset {
        let mut shared = self.shared.lock();
        let to = to.max(shared.log_start).min(shared.log_end);
        shared.high_watermark = to;
        shared.high_watermark_set = true;
        shared.open_transactions.remove_replicated(to);
        to
    }

    /// Raises the high watermark to `to`, at most to the log end; returns the old one if it rose.
    pub fn maybe_increment_high_watermark(&self, to: Offset) -> Option<Offset> {
        let mut shared = self.shared.lock();
        let old = shared.high_watermark;
        let to = to.min(shared.log_end);
        if to <= old {
            return None;
        }
        shared.high_watermark = to;
        shared.high_watermark_set = true;
        shared.open_transactions.remove_replicated(to);
        Some(old)
    }

    /// The high watermark if it was ever set; before that the one checkpointed earlier holds.
    pub(super) fn high_watermark_to_checkpoint(&self) -> Option<Offset> {
        let shared = self.shared.lock();
        shared.high_watermark_set.then_some(shared.high_watermark)
    }

    /// The newest leader epoch in the log.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.lock().epochs.latest()
    }

    /// The epoch under which the record at `offset` was written.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.lock().epochs.epoch_at(offset)
    }

    /// The largest epoch not above `epoch`, and the offset at which it ends (KIP-101, KIP-279). `None` if unknown.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let shared = self.shared.lock();
        shared.epochs.end_offset(epoch, shared.log_end)
    }

    /// Notes that a leader of `epoch` begins to write at the log end.
    pub fn assign_epoch_at_end(&self, epoch: LeaderEpoch) {
        let mut shared = self.shared.lock();
        let end = shared.log_end;
        shared.epochs.assign(epoch, end);
    }

    /// Bytes of all segments' `.log` files.
    pub fn size(&self) -> u64 {
        self.shared.lock().segments.iter().map(|segment| segment.size()).sum()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.shared.lock().segments.len()
    }

    pub(super) fn leader_epochs_path(&self) -> std::path::PathBuf {
        self.dir.join(files::LEADER_EPOCHS)
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod txn_tests;
