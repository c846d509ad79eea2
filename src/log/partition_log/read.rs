//! Reading: which bytes of which file hold the records from an offset on. No record byte is touched.

use std::io::ErrorKind;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{PartitionLog, Shared};
use crate::base::error::ErrorCode;
use crate::base::ids::Offset;
use crate::log::disk::Disk;
use crate::log::error::LogError;
use crate::log::files;
use crate::log::segment::Segment;
use crate::log::tail::Place;
use crate::log::txn_index::{self, AbortedTxn};
use crate::protocol::payload::FileSlice;

/// A read that meets segments which the cleaner is just replacing begins anew. Once is enough: a new segment is not cleaned
/// again so soon.
const ATTEMPTS: usize = 8;

/// How far a reader may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUpTo {
    /// To the log end: followers.
    LogEnd,
    /// To the high watermark: consumers.
    HighWatermark,
    /// To the last stable offset: consumers with `isolation.level=read_committed`.
    LastStableOffset,
}

/// An offset and its place on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetMetadata {
    /// The offset.
    pub offset: Offset,
    /// The base offset of its segment.
    pub segment_base: Offset,
    /// Bytes from the start of the segment.
    pub position: u64,
}

/// What a read found. The offsets are all of one moment.
#[derive(Debug, Clone)]
pub struct LogRead {
    /// The records; `None` if there is nothing to read there yet.
    pub data: Option<FileSlice>,
    /// Whether the slice ends within its first batch, because the reader asked for less.
    pub first_entry_incomplete: bool,
    /// Where the slice begins; `None` if there is none.
    pub start: Option<OffsetMetadata>,
    /// The first readable offset.
    pub log_start_offset: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable_offset: Offset,
    /// The log end.
    pub log_end_offset: Offset,
    /// The aborted transactions that the slice may hold records of; `None` unless read up to the last stable offset.
    pub aborted: Option<Vec<AbortedTxn>>,
}

/// What came of looking for a batch.
enum Looked {
    /// The segment's index, the batch, and where the readable part of the segment ends; `None` if there is none.
    Found(Option<(usize, Place, u64)>),
    /// The disk would have to be waited for.
    MustWait,
}

/// Nearly every read concerns one segment.
type Segments = SmallVec<[Arc<Segment>; 2]>;

/// What a read needs to know, taken in one moment.
struct View {
    read: LogRead,
    bound: Offset,
    segments: Segments,
    /// The place of the batch and the end of what may be read in its segment, if they were known without looking.
    known: Option<(Place, u64)>,
}

impl PartitionLog {
    /// Finds the records from `offset` on, at most `max_bytes` of them; the first batch whole even if it is larger, if
    /// `min_one` (KIP-74).
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start or above the log end; a failure of the disk takes the log dir offline.
    pub fn read(&self, offset: Offset, max_bytes: usize, min_one: bool, up_to: ReadUpTo) -> Result<LogRead, LogError> {
        match self.read_from(offset, max_bytes, min_one, up_to, Disk::Wait)? {
            Some(read) => Ok(read),
            None => Err(LogError::refused(ErrorCode::UnknownServerError, "a read that may wait did not wait")),
        }
    }

    /// Like [`PartitionLog::read`], but `None` where that would have to wait for the disk: then a thread that may wait
    /// has to read.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn read_cached(
        &self,
        offset: Offset,
        max_bytes: usize,
        min_one: bool,
        up_to: ReadUpTo,
    ) -> Result<Option<LogRead>, LogError> {
        self.read_from(offset, max_bytes, min_one, up_to, Disk::NoWait)
    }

    fn read_from(
        &self,
        offset: Offset,
        max_bytes: usize,
        min_one: bool,
        up_to: ReadUpTo,
        disk: Disk,
    ) -> Result<Option<LogRead>, LogError> {
        self.log_dir.check_online()?;
        let mut attempts = 0;
        loop {
            let view = self.view(offset, up_to)?;
            let result = self.read_view(&view, offset, max_bytes, min_one, up_to, disk);
            attempts += 1;
            // The active segment, of which recent batches are known, is never replaced. What was found in an old segment may
            // not go with the aborted transactions of a new one.
            let is_sound = view.known.is_some() || !view.segments.iter().any(|segment| segment.is_deleted());
            if is_sound || attempts == ATTEMPTS {
                return result;
            }
        }
    }

    fn read_view(
        &self,
        view: &View,
        offset: Offset,
        max_bytes: usize,
        min_one: bool,
        up_to: ReadUpTo,
        disk: Disk,
    ) -> Result<Option<LogRead>, LogError> {
        let mut read = view.read.clone();
        if up_to == ReadUpTo::LastStableOffset {
            read.aborted = Some(Vec::new());
        }
        let found = match view.known {
            Some((place, end)) => Some((0, place, end)),
            None => match self.find(offset, view.bound, &view.segments, disk)? {
                Looked::MustWait => return Ok(None),
                Looked::Found(found) => found,
            },
        };
        let Some((at, place, end)) = found.filter(|(_, place, end)| *end > place.position) else {
            return Ok(Some(read));
        };
        let there = usize::try_from(end - place.position).unwrap_or(usize::MAX);
        let wanted = if min_one { max_bytes.max(place.size as usize) } else { max_bytes };
        let len = there.min(wanted);
        let segment = &view.segments[at];
        read.start = Some(OffsetMetadata { offset, segment_base: segment.base_offset(), position: place.position });
        read.first_entry_incomplete = len < place.size as usize;
        if len > 0 {
            let file = self.watch_segment(segment, "open", segment.log_file())?;
            read.data = Some(FileSlice { file, position: place.position, len });
        }
        if up_to == ReadUpTo::LastStableOffset {
            match self.aborted(offset, segment, place.position, len, view.bound, disk)? {
                Some(aborted) => read.aborted = Some(aborted),
                None => return Ok(None),
            }
        }
        Ok(Some(read))
    }

    fn view(&self, offset: Offset, up_to: ReadUpTo) -> Result<View, LogError> {
        let shared = self.shared.lock();
        if offset < shared.log_start || offset > shared.log_end {
            let (start, end) = (shared.log_start, shared.log_end);
            let message = format!("{} holds offsets from {start} to {end}, not {offset}", self.tp);
            return Err(LogError::refused(ErrorCode::OffsetOutOfRange, message));
        }
        let last_stable_offset = shared.last_stable_offset();
        let bound = match up_to {
            ReadUpTo::LogEnd => shared.log_end,
            ReadUpTo::HighWatermark => shared.high_watermark,
            ReadUpTo::LastStableOffset => last_stable_offset,
        };
        let read = LogRead {
            data: None,
            first_entry_incomplete: false,
            start: None,
            log_start_offset: shared.log_start,
            high_watermark: shared.high_watermark,
            last_stable_offset,
            log_end_offset: shared.log_end,
            aborted: None,
        };
        let mut view = View { read, bound, segments: Segments::new(), known: None };
        if offset < bound {
            let first = shared.segment_index(offset);
            view.known = known(&shared, offset, bound);
            // The segments behind the bound are of no use; the common case is one segment.
            let behind = shared.segments.partition_point(|segment| segment.base_offset() < bound).max(first + 1);
            let behind = if view.known.is_some() { first + 1 } else { behind };
            view.segments = shared.segments[first..behind].iter().cloned().collect();
        }
        Ok(view)
    }

    /// Looks for the batch with `offset`, in the next segment if the first has nothing left from there on. Returns the
    /// segment's index, the batch, and where the readable part of the segment ends.
    fn find(&self, offset: Offset, bound: Offset, segments: &[Arc<Segment>], disk: Disk) -> Result<Looked, LogError> {
        for (at, segment) in segments.iter().enumerate() {
            let size = segment.size();
            let looked = segment.locate(offset, size, disk).and_then(|place| {
                let Some(place) = place else { return Ok(None) };
                // Only in the last of the segments does the bound cut something off.
                let end = if at + 1 < segments.len() { None } else { segment.locate(bound, size, disk)? };
                Ok(Some((place, end.map_or(size, |place| place.position))))
            });
            match looked {
                Ok(Some((place, end))) => return Ok(Looked::Found(Some((at, place, end)))),
                Ok(None) => {}
                Err(error) if disk == Disk::NoWait && error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Looked::MustWait);
                }
                Err(error) => return self.watch_segment(segment, "read", Err(error)),
            }
        }
        Ok(Looked::Found(None))
    }

    /// The aborted transactions that may have records in `len` bytes at `position` of `first`; `None` where the disk
    /// would have to be waited for.
    fn aborted(
        &self,
        offset: Offset,
        first: &Segment,
        position: u64,
        len: usize,
        bound: Offset,
        disk: Disk,
    ) -> Result<Option<Vec<AbortedTxn>>, LogError> {
        let all: Vec<Arc<Segment>> = {
            let shared = self.shared.lock();
            let from = shared.segment_index(offset);
            if !shared.segments[from..].iter().any(|segment| segment.has_aborted()) {
                return Ok(Some(Vec::new()));
            }
            shared.segments[from..].to_vec()
        };
        if disk == Disk::NoWait {
            return Ok(None);
        }
        let after = self.watch_segment(first, "read the index of", first.offset_bound(position, len, disk))?;
        let next_base = all.iter().map(|segment| segment.base_offset()).find(|base| *base > first.base_offset());
        let upper = after.or(next_base).unwrap_or(bound).min(bound);
        let mut found = Vec::new();
        for segment in all.iter().filter(|segment| segment.has_aborted()) {
            let read = txn_index::read(&segment.path(files::TXN_INDEX));
            for txn in self.watch_segment(segment, "read the transaction index of", read)? {
                if txn.last_offset >= offset && txn.first_offset < upper {
                    found.push(txn);
                }
                if txn.last_stable_offset >= upper {
                    return Ok(Some(found));
                }
            }
        }
        Ok(Some(found))
    }
}

/// The place of a recently appended batch and the end of what may be read, without a system call.
fn known(shared: &Shared, offset: Offset, bound: Offset) -> Option<(Place, u64)> {
    let place = shared.tail.find(offset)?;
    let end = if bound == shared.log_end { shared.active().size() } else { shared.tail.find(bound)?.position };
    Some((place, end))
}
