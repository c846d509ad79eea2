//! Opening a partition's folder: what JVM brokers or a crash left in it is put in order (`LogLoader`).
//!
//! After an orderly stop only file names, sizes and the last index entry are looked at. After a crash everything from the
//! recovery point on is read in big reads, its CRCs checked, the indexes behind it rebuilt, and a torn tail cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::Offset;
use crate::log::checkpoint;
use crate::log::epochs::LeaderEpochs;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_dir::remove;
use crate::log::meta;
use crate::log::partition_log::{OpenParams, PartitionLog, Shared, Writer};
use crate::log::producer_state::OpenTransactions;
use crate::log::segment::Segment;

mod folder;
mod producers;
#[cfg(test)]
mod remains_tests;
mod segments;

pub(super) use folder::unflushed_bytes;
pub(super) use producers::rebuild as rebuild_producers;

/// How far a recovery has come; shared by all partitions that are being recovered.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
}

impl Progress {
    /// Bytes of logs that were checked so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The log as it takes shape while it is loaded.
struct Loading<'a> {
    params: &'a OpenParams,
    progress: &'a Progress,
    segments: Vec<Arc<Segment>>,
    epochs: LeaderEpochs,
    writer: Writer,
    open: OpenTransactions,
    log_end: Offset,
    recovery_point: Offset,
    /// Whether all batches up to the log end are read, so that what they say of their epochs counts.
    reads_to_end: bool,
}

/// Opens the log in `params.dir`.
pub(super) fn load(params: &OpenParams, progress: &Progress) -> Result<PartitionLog, LogError> {
    params.log_dir.check_online()?;
    let result = load_folder(params, progress);
    params.log_dir.watch(result)
}

fn load_folder(params: &OpenParams, progress: &Progress) -> Result<PartitionLog, LogError> {
    let folder = folder::read(params)?;
    let topic_id = if folder.has_metadata { read_topic_id(params)? } else { None };
    let epochs = if folder.has_epochs { read_epochs(params) } else { LeaderEpochs::default() };
    let segments: Vec<Arc<Segment>> = folder
        .segments
        .iter()
        .map(|s| Arc::new(Segment::new(params.dir.clone(), s.base, s.size, params.now_ms, s.has_txn_index)))
        .collect();
    // Files that a process created that was killed may be there in memory only.
    let dir_dirty = folder.is_new || !params.clean;
    let mut loading = Loading {
        params,
        progress,
        segments,
        epochs,
        writer: Writer { snapshots: folder.snapshots.clone(), dir_dirty, ..Writer::default() },
        open: OpenTransactions::default(),
        log_end: params.log_start,
        recovery_point: params.recovery_point,
        reads_to_end: false,
    };
    loading.find_end(&folder)?;
    loading.finish(topic_id)
}

fn read_topic_id(params: &OpenParams) -> Result<Option<crate::base::ids::TopicId>, LogError> {
    match meta::read_topic_id(&params.dir) {
        Err(error @ LogError::Corrupt { .. }) => {
            // The controller tells the id again; a file torn by a crash must not keep the partition from being opened.
            tracing::error!(partition = %params.tp, "{error}; the topic id is learnt anew");
            remove(&params.dir.join(files::PARTITION_METADATA));
            Ok(None)
        }
        read => read,
    }
}

fn read_epochs(params: &OpenParams) -> LeaderEpochs {
    match checkpoint::read_epochs(&params.dir.join(files::LEADER_EPOCHS)) {
        Ok(entries) => LeaderEpochs::from_entries(entries.unwrap_or_default()),
        Err(error) => {
            tracing::error!(partition = %params.tp, "{error}; leader epochs are taken from the batches that are read");
            LeaderEpochs::default()
        }
    }
}

impl Loading<'_> {
    /// Finds the log end, by recovery where that is needed, and the producers there.
    fn find_end(&mut self, folder: &folder::Folder) -> Result<(), LogError> {
        let damaged = self.damaged(folder);
        let mut unclean = self.unclean_from();
        for &at in damaged.iter().filter(|at| unclean.is_none_or(|from| **at < from)) {
            if self.recover_damaged(at)? {
                unclean = None;
                break;
            }
        }
        let mut producers = match unclean {
            Some(from) => {
                let base = self.segments[from].base_offset();
                let trusted = if damaged.contains(&from) { base } else { base.max(self.recovery_point) };
                let mut producers = producers::Rebuild::begin(self.params, &mut self.writer, trusted);
                self.recover(from, damaged.contains(&from), &mut producers)?;
                producers
            }
            None => {
                self.log_end = self.end_of_last()?;
                producers::Rebuild::begin(self.params, &mut self.writer, self.log_end)
            }
        };
        self.drop_snapshots_above(self.log_end);
        // A snapshot from beyond the end, which a cut brought about, is of no use: begin again with an older one.
        if producers.snapshot_offset() > self.log_end {
            producers = producers::Rebuild::begin(self.params, &mut self.writer, self.log_end);
        }
        // After an orderly stop of a broker that found no producer there is no snapshot at all.
        if !(self.params.clean && self.writer.snapshots.is_empty()) {
            producers.replay(&self.segments, self.log_end)?;
        }
        (self.writer.producers, self.open) = producers.finish();
        self.start_over_if_behind()
    }

    fn drop_snapshots_above(&mut self, offset: Offset) {
        let dir = &self.params.dir;
        self.writer.snapshots.retain(|snapshot| {
            let keep = *snapshot <= offset;
            if !keep {
                remove(&files::segment_file(dir, *snapshot, files::SNAPSHOT));
            }
            keep
        });
    }

    /// A log whose end lies below its start has lost its files: begin anew at the start.
    fn start_over_if_behind(&mut self) -> Result<(), LogError> {
        let start = self.params.log_start;
        if self.log_end >= start && !self.segments.is_empty() {
            return Ok(());
        }
        if !self.segments.is_empty() {
            tracing::warn!(
                partition = %self.params.tp,
                "the log ends at {}, below its start {start}: all segments are removed",
                self.log_end
            );
            for segment in self.segments.drain(..) {
                let removed = segment.rename_deleted().during("remove", &segment.path(files::LOG))?;
                removed.iter().for_each(|path| remove(path));
            }
        }
        let path = files::segment_file(&self.params.dir, start, files::LOG);
        let segment = Segment::create(self.params.dir.clone(), start, self.params.now_ms).during("create", &path)?;
        if self.params.config.preallocate {
            segment.preallocate(self.params.config.segment_bytes).during("preallocate", &path)?;
        }
        self.segments.push(Arc::new(segment));
        self.writer.dir_dirty = true;
        self.writer.producers.clear();
        self.open = OpenTransactions::default();
        self.log_end = start;
        Ok(())
    }

    fn finish(mut self, topic_id: Option<crate::base::ids::TopicId>) -> Result<PartitionLog, LogError> {
        let first = self.segments[0].base_offset();
        let log_start = self.params.log_start.max(first);
        self.epochs.truncate_from_end(self.log_end);
        self.epochs.truncate_from_start(log_start);
        self.writer.roll_jitter_ms = super::partition_log::jitter(&self.params.config);
        self.remove_stray_snapshots();
        self.open.remove_replicated(log_start);
        let shared = Shared {
            segments: self.segments,
            log_start,
            log_end: self.log_end,
            high_watermark: log_start,
            recovery_point: self.recovery_point.min(self.log_end),
            // Of another log, or of more than is left of this one.
            cleaned: self.params.cleaned.filter(|cleaned| *cleaned <= self.log_end),
            last_flush_ms: self.params.now_ms,
            epochs: self.epochs,
            open_transactions: self.open,
            ..Shared::default()
        };
        Ok(PartitionLog::assemble(self.params, topic_id, self.writer, shared))
    }

    /// Keeps the snapshots at segments' base offsets and the newest one.
    fn remove_stray_snapshots(&mut self) {
        let newest = self.writer.snapshots.last().copied();
        let (dir, segments) = (&self.params.dir, &self.segments);
        self.writer.snapshots.retain(|offset| {
            let keep = Some(*offset) == newest || segments.iter().any(|segment| segment.base_offset() == *offset);
            if !keep {
                remove(&files::segment_file(dir, *offset, files::SNAPSHOT));
            }
            keep
        });
    }
}
