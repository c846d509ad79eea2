//! Offsets by time (`UnifiedLog.fetchOffsetByTimestamp`), and where segments begin.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::PartitionLog;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::disk::Disk;
use crate::log::error::LogError;
use crate::log::scan::{self, EntryHeader};
use crate::log::segment::Segment;
use crate::protocol::deep;
use crate::protocol::validate::DEFAULT_MAX_DECOMPRESSED_BYTES;

/// An offset that was asked for by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The record's timestamp, in milliseconds since 1970.
    pub timestamp: i64,
    /// The record's offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Where a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStart {
    /// Its base offset.
    pub base_offset: Offset,
    /// When its `.log` was last written, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Bytes of its `.log`.
    pub size: u64,
}

impl PartitionLog {
    /// The first record at or after `timestamp`, milliseconds since 1970. Reads the batch that holds it, so it may wait
    /// for the disk.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<FoundOffset>, LogError> {
        self.log_dir.check_online()?;
        let (segments, start) = self.readable_segments();
        for segment in segments {
            let largest = self.watch_segment(&segment, "read the time index of", segment.largest_timestamp())?;
            if largest < timestamp {
                continue;
            }
            if let Some(found) = self.find_timestamp(&segment, timestamp, start)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp (KIP-734); the first one of them.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn max_timestamp_offset(&self) -> Result<Option<FoundOffset>, LogError> {
        self.log_dir.check_online()?;
        let mut best: Option<(i64, Arc<Segment>)> = None;
        let (segments, start) = self.readable_segments();
        for segment in segments {
            let max = self.watch_segment(&segment, "read the time index of", segment.max_timestamp())?.timestamp;
            if max >= 0 && best.as_ref().is_none_or(|(timestamp, _)| max > *timestamp) {
                best = Some((max, segment));
            }
        }
        let Some((timestamp, segment)) = best else { return Ok(None) };
        self.find_timestamp(&segment, timestamp, start)
    }

    /// The first record of `segment` at or above `start` and at or after `timestamp`.
    fn find_timestamp(
        &self,
        segment: &Segment,
        timestamp: i64,
        start: Offset,
    ) -> Result<Option<FoundOffset>, LogError> {
        match find(segment, timestamp, start) {
            // Records that cannot be read are no failure of the disk.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(LogError::refused(ErrorCode::CorruptMessage, format!("{}: {error}", self.tp)))
            }
            result => self.watch_segment(segment, "read", result),
        }
    }

    fn readable_segments(&self) -> (Vec<Arc<Segment>>, Offset) {
        let shared = self.shared.lock();
        (shared.segments[shared.segment_index(shared.log_start)..].to_vec(), shared.log_start)
    }

    /// Where the segments begin, oldest first (ListOffsets v0 answers with them).
    pub fn segment_starts(&self) -> Vec<SegmentStart> {
        let segments = self.shared.lock().segments.clone();
        let start = |segment: &Arc<Segment>| SegmentStart {
            base_offset: segment.base_offset(),
            modified_ms: segment.modified_ms().unwrap_or(segment.created_ms()),
            size: segment.size(),
        };
        segments.iter().map(start).collect()
    }
}

/// The first record of `segment` at or above `start` and at or after `timestamp`.
fn find(segment: &Segment, timestamp: i64, start: Offset) -> io::Result<Option<FoundOffset>> {
    let from = segment.offset_before_timestamp(timestamp)?.max(start);
    let end = segment.size();
    let Some(place) = segment.locate(from, end, Disk::Wait)? else { return Ok(None) };
    let file = segment.log_file()?;
    let mut position = place.position;
    while let Some(header) = scan::header_at(&file, position, end, Disk::Wait)? {
        if header.max_timestamp >= timestamp && header.last_offset >= start {
            let found = find_in_entry(&file, position, &header, timestamp, start)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        position += header.size as u64;
    }
    Ok(None)
}

fn find_in_entry(
    file: &File,
    position: u64,
    header: &EntryHeader,
    timestamp: i64,
    start: Offset,
) -> io::Result<Option<FoundOffset>> {
    let mut bytes = vec![0; header.size];
    file.read_exact_at(&mut bytes, position)?;
    let leader_epoch = header.batch.map(|batch| batch.leader_epoch).filter(|epoch| *epoch >= LeaderEpoch(0));
    let limit = DEFAULT_MAX_DECOMPRESSED_BYTES;
    let found = deep::for_each_record(&bytes, limit, |record| {
        if record.timestamp >= timestamp && record.offset >= start {
            return ControlFlow::Break(FoundOffset {
                timestamp: record.timestamp,
                offset: record.offset,
                leader_epoch,
            });
        }
        ControlFlow::Continue(())
    });
    found.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
