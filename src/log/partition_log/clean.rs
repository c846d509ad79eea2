//! What the cleaner needs of a log: what there is to clean, the segments to read, and putting a new segment in the place of
//! old ones (`LocalLog.replaceSegments`).
//!
//! Nobody waits for a cleaning. It reads closed segments and writes files of its own without any lock; whoever cuts the
//! log, deletes from it, moves or closes it just does so and counts that up. The cleaning looks at the count on its way, and
//! once more under the writer's lock before it swaps its files in: only renames happen there.
//!
//! The order of the renames is what recovery, ours and the JVM's, takes to its end or back: while one file ends in
//! `.cleaned` nothing has happened; once all end in `.swap` the old segments may go, the oldest first, so that no value
//! outlives the tombstone that removed it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::PartitionLog;
use crate::base::ids::{Offset, ProducerId};
use crate::log::checkpoint;
use crate::log::cleaner::filter::LastRecord;
use crate::log::cleaner::selection::{LogFacts, SegmentFacts, first_dirty};
use crate::log::disk::Disk;
use crate::log::error::{IoContext, LogError};
use crate::log::faults;
use crate::log::files;
use crate::log::log_dir::remove;
use crate::log::scan;
use crate::log::segment::Segment;
use crate::log::txn_index::{self, AbortedTxn};

/// How the cleaner and the log stand to each other.
#[derive(Debug, Default)]
pub(in crate::log) struct Cleaning {
    /// Whether a thread of the cleaner has the log.
    claimed: AtomicBool,
    /// Whether the log cannot be cleaned as it is.
    uncleanable: AtomicBool,
    /// Whether it is being copied to another log dir.
    paused: AtomicBool,
}

/// A cleaner's hold of a log; no other thread cleans it meanwhile.
#[derive(Debug)]
pub(in crate::log) struct Claim {
    log: Arc<PartitionLog>,
}

impl Claim {
    pub(in crate::log) fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.log.cleaning.claimed.store(false, Ordering::Release);
    }
}

/// What a cleaning begins with.
#[derive(Debug)]
pub(in crate::log) struct CleaningView {
    /// The segments that may be cleaned, oldest first.
    pub segments: Vec<Arc<Segment>>,
    /// Where the next one begins.
    pub end: Offset,
    /// All aborted transactions of the log.
    pub aborted: Vec<AbortedTxn>,
    void: u64,
}

/// What came of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum Replaced {
    /// The new segment is in place.
    Yes,
    /// The log has changed meanwhile; nothing was done.
    Void,
}

impl PartitionLog {
    /// Takes the log for cleaning, if nobody has it.
    pub(in crate::log) fn claim_for_cleaning(self: &Arc<Self>) -> Option<Claim> {
        let free = !self.cleaning.claimed.swap(true, Ordering::AcqRel);
        free.then(|| Claim { log: Arc::clone(self) })
    }

    /// Whether a thread of the cleaner is at it.
    pub fn is_being_cleaned(&self) -> bool {
        self.cleaning.claimed.load(Ordering::Acquire)
    }

    /// Whether the cleaner could not clean it, and does not try again before the next start.
    pub fn is_uncleanable(&self) -> bool {
        self.cleaning.uncleanable.load(Ordering::Acquire)
    }

    pub(in crate::log) fn mark_uncleanable(&self) {
        self.cleaning.uncleanable.store(true, Ordering::Release);
    }

    /// Below it the log was compacted; `None` if it never was.
    pub fn cleaned_offset(&self) -> Option<Offset> {
        self.shared.lock().cleaned
    }

    /// Forgets how far it was compacted: that cannot be right.
    pub(in crate::log) fn forget_cleaned_offset(&self) {
        self.shared.lock().cleaned = None;
    }

    /// Makes void what a cleaning is at, and lets none begin. Nothing is swapped in any more when this returns.
    pub(in crate::log) fn pause_cleaning(&self) {
        let _writer = self.writer.lock();
        self.cleaning.paused.store(true, Ordering::Release);
        self.shared.lock().cleanings_void += 1;
    }

    /// Lets cleanings begin again.
    pub(in crate::log) fn resume_cleaning(&self) {
        self.cleaning.paused.store(false, Ordering::Release);
    }

    /// Whether a cleaning that began with `view` can no longer come to an end.
    pub(in crate::log) fn is_void(&self, view: &CleaningView) -> bool {
        self.is_closed() || self.log_dir.is_offline() || self.shared.lock().cleanings_void != view.void
    }

    /// What there is to clean, as the cleaner's decision wants it. Looks timestamps up where the topic's settings ask for
    /// them.
    pub(in crate::log) fn cleaning_facts(&self, now_ms: i64) -> Result<LogFacts, LogError> {
        let config = self.config();
        let (mut facts, segments) = {
            let shared = self.shared.lock();
            let facts = LogFacts {
                checkpoint: shared.cleaned,
                log_start: shared.log_start,
                log_end: shared.log_end,
                last_stable: shared.last_stable_offset(),
                segments: Vec::with_capacity(shared.segments.len()),
                now_ms,
            };
            (facts, shared.segments.clone())
        };
        let (dirty, _) = first_dirty(facts.checkpoint, facts.log_start, facts.log_end);
        for (at, segment) in segments.iter().enumerate() {
            let is_dirty = segments.get(at + 1).is_some_and(|next| next.base_offset() > dirty);
            let largest_timestamp = match is_dirty && config.min_compaction_lag_ms > 0 {
                true => Some(self.watch_segment(segment, "read the time index of", segment.largest_timestamp())?),
                false => None,
            };
            let first_timestamp = match is_dirty && config.max_compaction_lag_ms < i64::MAX {
                true => self.watch_segment(segment, "read", first_timestamp(segment))?,
                false => None,
            };
            let (base, size) = (segment.base_offset(), segment.size());
            facts.segments.push(SegmentFacts { base, size, largest_timestamp, first_timestamp });
        }
        Ok(facts)
    }

    /// Brings to the disk what a cleaning goes by that was assessed before: not only what is to be cleaned. A record may go
    /// because of another whose transaction is committed by a marker behind all that; were the marker lost with the power,
    /// neither would count.
    pub(in crate::log) fn flush_for_cleaning(&self) -> Result<(), LogError> {
        self.flush()
    }

    /// What a cleaning up to `end`, the base of a segment, begins with. `None` while cleanings are paused.
    pub(in crate::log) fn begin_cleaning(&self, end: Offset) -> Result<Option<CleaningView>, LogError> {
        let (all, void, count) = {
            let shared = self.shared.lock();
            // Paused before the count is taken, or counted up after it.
            if self.cleaning.paused.load(Ordering::Acquire) {
                return Ok(None);
            }
            let rolled = shared.segments.len() - 1;
            let below = shared.segments.partition_point(|segment| segment.base_offset() < end).min(rolled);
            (shared.segments.clone(), shared.cleanings_void, below)
        };
        let mut aborted = Vec::new();
        for segment in all.iter().filter(|segment| segment.has_aborted()) {
            let read = txn_index::read(&segment.path(files::TXN_INDEX));
            aborted.extend(self.watch_segment(segment, "read the transaction index of", read)?);
        }
        let end = all[count].base_offset();
        Ok(Some(CleaningView { segments: all[..count].to_vec(), end, aborted, void }))
    }

    /// The producers of the log and where each wrote last: their last batches must not go.
    pub(in crate::log) fn last_records(&self) -> HashMap<ProducerId, LastRecord> {
        let writer = self.writer.lock();
        let last = |entry: &crate::log::producer_state::ProducerEntry| LastRecord {
            last_data_offset: entry.batches.last().map(|batch| batch.last_offset),
            epoch: entry.epoch,
        };
        writer.producers.producers().iter().map(|(id, entry)| (*id, last(entry))).collect()
    }

    /// Does something to the folder, in which nothing is renamed meanwhile, unless the log has changed: `None` then.
    pub(in crate::log) fn in_folder<T>(&self, view: &CleaningView, act: impl FnOnce() -> T) -> Option<T> {
        let _writer = self.writer.lock();
        (!self.is_void(view)).then(act)
    }

    /// Does something to the folder while it is there.
    pub(in crate::log) fn unless_closed(&self, act: impl FnOnce()) {
        let _writer = self.writer.lock();
        if !self.is_closed() {
            act();
        }
    }

    /// Puts `new`, whose files end in `.cleaned` and are on the disk, in the place of `old`.
    pub(in crate::log) fn replace_segments(
        &self,
        view: &CleaningView,
        new: Segment,
        old: &[Arc<Segment>],
        now_ms: i64,
    ) -> Result<Replaced, LogError> {
        {
            let mut writer = self.writer.lock();
            let Some(at) = (if self.is_void(view) { None } else { self.place_of(old) }) else {
                return Ok(Replaced::Void);
            };
            let path = new.path(files::LOG);
            self.log_dir.watch(new.rename_as(files::SWAP).during("rename", &path))?;
            let new = Arc::new(new);
            {
                // At once, so that a reader sees either the old ones or the new one, and finds out if it holds old ones.
                let mut shared = self.shared.lock();
                old.iter().for_each(|segment| segment.mark_deleted());
                shared.segments.splice(at..at + old.len(), [Arc::clone(&new)]);
            }
            let due = now_ms.saturating_add(self.config().file_delete_delay_ms);
            for segment in old {
                let renamed = segment.rename_deleted().during("rename", &segment.path(files::LOG));
                for path in self.log_dir.watch(renamed)? {
                    self.log_dir.remove_later(path, due);
                }
            }
            let path = new.path(files::LOG);
            self.log_dir.watch(new.rename_as("").during("rename", &path))?;
            // A snapshot at the base of a segment that is no more would stay for ever.
            let gone = |offset: &Offset| {
                *offset != new.base_offset() && old.iter().any(|segment| segment.base_offset() == *offset)
            };
            let last = writer.snapshots.last().copied();
            writer.snapshots.retain(|offset| {
                let goes = gone(offset) && Some(*offset) != last;
                if goes && faults::step().is_ok() {
                    remove(&files::segment_file(&self.dir, *offset, files::SNAPSHOT));
                }
                !goes
            });
        }
        // Without the lock: an append must not wait for the disk.
        let synced = faults::step().during("flush folder", &self.dir).and_then(|()| checkpoint::sync_dir(&self.dir));
        if self.is_closed() { Ok(Replaced::Yes) } else { self.log_dir.watch(synced).map(|()| Replaced::Yes) }
    }

    /// Where `old` stand among the segments, if they all do, one behind the other, and none is active.
    fn place_of(&self, old: &[Arc<Segment>]) -> Option<usize> {
        let shared = self.shared.lock();
        let first = old.first()?;
        let at = shared.segments.iter().position(|segment| Arc::ptr_eq(segment, first))?;
        let there = shared.segments.get(at..at + old.len())?;
        let same = there.iter().zip(old).all(|(one, other)| Arc::ptr_eq(one, other));
        (same && at + old.len() < shared.segments.len()).then_some(at)
    }

    /// Notes that the log is compacted up to `to`, unless it has changed since.
    pub(in crate::log) fn note_cleaned(&self, view: &CleaningView, to: Offset) {
        let mut shared = self.shared.lock();
        if shared.cleanings_void == view.void {
            shared.cleaned = Some(to);
        }
    }
}

fn first_timestamp(segment: &Segment) -> std::io::Result<Option<i64>> {
    let file = segment.log_file()?;
    Ok(scan::header_at(&file, 0, segment.size(), Disk::Wait)?.map(|header| header.max_timestamp))
}
