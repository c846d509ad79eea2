//! Finding the log end: from the last index entry after an orderly stop, by checking every batch after a crash.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::Loading;
use super::folder::{Folder, Found};
use super::producers::Rebuild;
use crate::base::ids::Offset;
use crate::log::checkpoint::sync_dir;
use crate::log::disk::Disk;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_dir::remove;
use crate::log::scan::{self, Scanner};
use crate::log::segment::{Segment, TimestampOffset};
use crate::log::txn_index;
use crate::protocol::batch;

/// Where the batches of a segment end.
struct End {
    next_offset: Offset,
    valid_bytes: u64,
    /// Whether each batch that was read begins where the one before ended, and the first with the segment.
    has_no_gaps: bool,
}

/// What checking a segment came to.
#[derive(Clone, Copy)]
struct Checked {
    /// Whether something had to be cut off.
    cut: bool,
    /// See [`End`].
    has_no_gaps: bool,
}

impl Loading<'_> {
    /// The segments whose indexes are lost or damaged.
    pub(super) fn damaged(&self, folder: &Folder) -> Vec<usize> {
        let is_damaged = |found: &Found| {
            let missing = found.size > 0 && !(found.has_index && found.has_time_index);
            if missing {
                tracing::error!(partition = %self.params.tp, "an index of segment {} is lost or damaged and is rebuilt", found.base);
            }
            missing || found.has_txn_index && !self.txn_index_is_sane(found.base)
        };
        let found = folder.segments.iter().enumerate();
        found.filter(|(_, segment)| is_damaged(segment)).map(|(at, _)| at).collect()
    }

    /// The first segment that may hold something unflushed after a crash; `None` after an orderly stop.
    pub(super) fn unclean_from(&self) -> Option<usize> {
        if self.params.clean || self.segments.is_empty() {
            return None;
        }
        let behind = self.segments.partition_point(|s| s.base_offset() <= self.recovery_point);
        Some(behind.saturating_sub(1))
    }

    /// Rebuilds the indexes of a segment that was flushed, and brings them to the disk, as no flush will come back to them;
    /// returns whether the log had to be cut there.
    pub(super) fn recover_damaged(&mut self, at: usize) -> Result<bool, LogError> {
        let base = self.segments[at].base_offset();
        let mut producers = Rebuild::begin(self.params, &mut self.writer, base);
        producers.replay(&self.segments, base)?;
        let cut = self.recover_segment(at, true, &mut producers)?.cut;
        if cut && at + 1 < self.segments.len() {
            self.remove_behind(at + 1)?;
        }
        let segment = &self.segments[at];
        segment.sync_files().during("flush", &segment.path(files::LOG))?;
        sync_dir(&self.params.dir)?;
        Ok(cut)
    }

    fn txn_index_is_sane(&self, base: Offset) -> bool {
        let path = files::segment_file(&self.params.dir, base, files::TXN_INDEX);
        let sane = txn_index::is_sane(&path, base).unwrap_or(false);
        if !sane {
            tracing::error!(partition = %self.params.tp, "the transaction index of segment {base} is damaged and is rebuilt");
        }
        sane
    }

    /// The log end after an orderly stop: the last index entry and the few headers behind it.
    pub(super) fn end_of_last(&mut self) -> Result<Offset, LogError> {
        let Some(active) = self.segments.last().cloned() else { return Ok(self.params.log_start) };
        if active.size() == 0 {
            return Ok(active.base_offset());
        }
        let path = active.path(files::LOG);
        match self.walk_tail(&active).during("read", &path)? {
            Some(end) => Ok(end),
            None => {
                tracing::warn!(partition = %self.params.tp, "segment {} does not end with a batch and is checked", active.base_offset());
                self.recover_damaged(self.segments.len() - 1)?;
                Ok(self.log_end)
            }
        }
    }

    /// Walks the headers behind the last index entry. `None` if they do not lead to the end of the file.
    fn walk_tail(&mut self, active: &Segment) -> io::Result<Option<Offset>> {
        let file = active.log_file()?;
        let size = active.size();
        let last = active.offsets.last(|| active.path(files::INDEX))?;
        let indexed = last.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0));
        let (mut position, mut end) = (indexed, None);
        let mut max = active.max_timestamp()?;
        while position < size {
            let Some(header) = scan::header_at(&file, position, size, Disk::Wait)? else { return Ok(None) };
            if header.base_offset < active.base_offset() || end.is_some_and(|end| header.last_offset < end) {
                return Ok(None);
            }
            if header.max_timestamp > max.timestamp {
                max = TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset };
            }
            end = Some(header.last_offset.next());
            position += header.size as u64;
        }
        active.set_max_timestamp(Some(max));
        active.close_files()?;
        self.writer.bytes_since_index = size.saturating_sub(indexed);
        // Without a batch at the last index entry there is no end: the index lies.
        Ok(end)
    }

    /// Checks the segments from `from` on; cuts at the first batch that is not whole, and removes what lies behind it. So is
    /// what lies behind a segment that has lost its end: a loss of power may take whole batches, and leave the file of the
    /// next segment, empty or not.
    pub(super) fn recover(&mut self, from: usize, whole: bool, producers: &mut Rebuild) -> Result<(), LogError> {
        producers.replay(&self.segments, self.segments[from].base_offset())?;
        self.reads_to_end = true;
        let mut at = from;
        while at < self.segments.len() {
            let checked = self.recover_segment(at, whole || at > from, producers)?;
            at += 1;
            if at < self.segments.len() && (checked.cut || self.ends_too_soon(at, checked)) {
                self.recovery_point = self.recovery_point.min(self.log_end);
                self.remove_behind(at)?;
            }
        }
        Ok(())
    }

    /// Whether records are missing before segment `at`, all of which is unflushed. Where compaction has removed batches the
    /// offsets have gaps as well. A topic's policy tells nothing, as it may have been another when the gap came about, and
    /// is not known yet at a start. But our cleaner never passes the recovery point, and whoever wrote the cleaner's
    /// checkpoint had flushed what is below. Else (a JVM broker was killed amid a cleaning) the segment itself tells: a loss
    /// of power leaves a file that is too short, or zeros in it; only compaction takes batches out of the middle.
    fn ends_too_soon(&self, at: usize, before: Checked) -> bool {
        let next = self.segments[at].base_offset();
        let flushed = self.recovery_point.max(self.params.cleaned.unwrap_or(Offset::ZERO));
        next > self.log_end && next > flushed && before.has_no_gaps
    }

    fn remove_behind(&mut self, at: usize) -> Result<(), LogError> {
        for segment in self.segments.drain(at..) {
            tracing::warn!(partition = %self.params.tp, "segment {} lies behind a damaged one and is removed", segment.base_offset());
            for path in segment.rename_deleted().during("remove", &segment.path(files::LOG))? {
                remove(&path);
            }
        }
        Ok(())
    }

    /// Checks one segment, from the recovery point on or as a whole.
    fn recover_segment(&mut self, at: usize, whole: bool, producers: &mut Rebuild) -> Result<Checked, LogError> {
        let segment = self.segments[at].clone();
        let path = segment.path(files::LOG);
        let file = segment.log_file().during("open", &path)?;
        let start = if whole { 0 } else { self.trusted_start(&segment, &file).during("read the index of", &path)? };
        self.cut_indexes(&segment, &file, start, producers.snapshot_offset()).during("cut the indexes of", &path)?;
        if start > 0 {
            producers.skip_to(&segment, &file, start).during("read", &path)?;
            self.progress.add(start);
        }
        let size = segment.size();
        let end = self.scan_segment(&segment, &file, start, producers).during("read", &path)?;
        if start > 0 && end.valid_bytes == start {
            // Not even the batch that the index led to is sound: where the log ends is not known from here.
            return self.recover_segment(at, true, producers);
        }
        self.log_end = end.next_offset;
        self.writer.bytes_since_index = segment
            .offsets
            .last(|| segment.path(files::INDEX))
            .during("read the index of", &path)?
            .map_or(end.valid_bytes, |entry| {
                end.valid_bytes - u64::try_from(entry.position).unwrap_or(0).min(end.valid_bytes)
            });
        let cut = end.valid_bytes < size;
        if cut {
            tracing::warn!(
                partition = %self.params.tp,
                "cut {} bytes of an unfinished or damaged write off segment {}, the log ends at offset {}",
                size - end.valid_bytes, segment.base_offset(), end.next_offset
            );
            file.set_len(end.valid_bytes).during("truncate", &path)?;
            self.recovery_point = self.recovery_point.min(end.next_offset);
        }
        segment.set_size(end.valid_bytes);
        let finish = || -> io::Result<()> {
            segment.push_time(segment.max_timestamp()?)?;
            segment.offsets.trim(&segment.path(files::INDEX))?;
            segment.times.trim(&segment.path(files::TIME_INDEX))?;
            segment.close_files()
        };
        finish().during("write the indexes of", &path)?;
        Ok(Checked { cut, has_no_gaps: end.has_no_gaps })
    }

    /// The position of a batch below the recovery point that the flushed part of the index leads to; 0 if none. One that
    /// begins at the recovery point was not flushed, and may be torn.
    fn trusted_start(&self, segment: &Segment, file: &File) -> io::Result<u64> {
        let position = segment.scan_start(Offset(self.recovery_point.get() - 1), Disk::Wait)?;
        let header = scan::header_at(file, position, segment.size(), Disk::Wait)?;
        let sane = header.is_some_and(|header| {
            header.base_offset >= segment.base_offset() && header.last_offset < self.recovery_point
        });
        // The first entries of both indexes are written together.
        let has_times = segment.times.len(|| segment.path(files::TIME_INDEX))? > 0;
        Ok(if sane && has_times { position } else { 0 })
    }

    /// Keeps the index entries below `start` and those of the batch that begins there, and the aborted transactions
    /// below it and below `snapshot`, which the scan will not see again.
    fn cut_indexes(&self, segment: &Segment, file: &File, start: u64, snapshot: Offset) -> io::Result<()> {
        let first =
            scan::header_at(file, start, segment.size(), Disk::Wait)?.map_or(segment.base_offset(), |h| h.base_offset);
        let start = i32::try_from(start).unwrap_or(i32::MAX);
        let index = segment.path(files::INDEX);
        segment.offsets.rewind(&index, |entry| start > 0 && entry.position <= start)?;
        let last = segment.offsets.last(|| index.clone())?.map_or(-1, |entry| entry.relative);
        segment.times.rewind(&segment.path(files::TIME_INDEX), |entry| entry.relative <= last)?;
        segment.set_max_timestamp(None);
        if segment.has_aborted() {
            let left =
                txn_index::truncate(&segment.path(files::TXN_INDEX), segment.base_offset(), first.max(snapshot))?;
            segment.set_has_aborted(left > 0);
        }
        Ok(())
    }

    fn scan_segment(
        &mut self,
        segment: &Arc<Segment>,
        file: &File,
        start: u64,
        producers: &mut Rebuild,
    ) -> io::Result<End> {
        let interval = u64::try_from(self.params.config.index_interval_bytes).unwrap_or(0);
        let mut scanner = Scanner::new(file, start, segment.size());
        let mut max = segment.max_timestamp()?;
        let (mut position, mut indexed) = (start, start);
        let mut next_offset = segment.base_offset();
        let mut reported = start;
        let (mut has_no_gaps, mut first) = (true, true);
        while let Some((header, bytes)) = scanner.next_entry()? {
            let continues = header.base_offset >= next_offset || header.magic < 2 && header.last_offset >= next_offset;
            if !continues || !batch::entry_is_valid(bytes) || segment.relative(header.last_offset).is_none() {
                break;
            }
            if header.max_timestamp > max.timestamp {
                max = TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset };
                segment.set_max_timestamp(Some(max));
            }
            if position - indexed > interval {
                segment.push_index(header.last_offset, position, max)?;
                indexed = position;
            }
            if let Some(batch) = &header.batch {
                match self.reads_to_end {
                    true => self.epochs.correct(batch.leader_epoch, batch.base_offset),
                    false => self.epochs.assign_if_newer(batch.leader_epoch, batch.base_offset),
                }
                producers.batch(batch, &bytes[batch::HEADER_LEN..], Some(segment));
            }
            has_no_gaps &= header.base_offset <= next_offset || first && start > 0;
            first = false;
            next_offset = header.last_offset.next();
            position += bytes.len() as u64;
            if position - reported > 1 << 20 {
                self.progress.add(position - reported);
                reported = position;
            }
        }
        self.progress.add(segment.size() - reported);
        Ok(End { next_offset, valid_bytes: position, has_no_gaps })
    }
}
