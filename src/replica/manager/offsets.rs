//! ListOffsets: the earliest, the latest, and by timestamp (KIP-79, KIP-207, KIP-734).

use std::sync::Arc;

use super::ReplicaManager;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::partition_log::{PartitionLog, ReadUpTo};

/// Asks for the offset after the last.
pub const LATEST: i64 = -1;
/// Asks for the log start.
pub const EARLIEST: i64 = -2;
/// Asks for the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// Asks for the first offset on the local disk: the log start, as nothing is tiered.
pub const EARLIEST_LOCAL: i64 = -4;
/// Asks for the last tiered offset: there is none.
pub const LATEST_TIERED: i64 = -5;

/// One question of a ListOffsets request.
#[derive(Debug, Clone, Copy)]
pub struct OffsetQuery {
    /// The partition.
    pub partition: i32,
    /// A timestamp in ms since 1970, or one of the constants above.
    pub timestamp: i64,
    /// Up to where the client may see; the log end for a follower.
    pub up_to: ReadUpTo,
    /// The leader epoch the client knows, or -1.
    pub leader_epoch: LeaderEpoch,
    /// Whether only the leader may answer.
    pub only_leader: bool,
}

/// The answer; all -1 if no record is that young.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The record's timestamp, or -1 where it is not a record that was asked for.
    pub timestamp: i64,
    /// The offset.
    pub offset: Offset,
    /// The epoch of the record there, or -1.
    pub leader_epoch: LeaderEpoch,
}

impl FoundOffset {
    /// No such record.
    pub const NONE: Self = Self { timestamp: -1, offset: Offset::UNKNOWN, leader_epoch: LeaderEpoch::NONE };

    fn at(offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        Self { timestamp: -1, offset, leader_epoch }
    }
}

impl ReplicaManager {
    /// Answers one question (`Partition.fetchOffsetForTimestamp`). Looking up a timestamp may block on the disk.
    pub fn list_offset(&self, topic: &str, query: OffsetQuery) -> Result<FoundOffset, ErrorCode> {
        let partition = self.partition(topic, query.partition)?;
        let (log, epoch, epoch_start) = partition.log_and_epoch(query.leader_epoch, query.only_leader)?;
        let visible = visible_end(&log, query.up_to);
        // KIP-207: after an election the high watermark may lie before what consumers were told already. That a transaction
        // is open since before the election is another matter.
        let lags = log.high_watermark() < epoch_start;
        let unsure = query.up_to != ReadUpTo::LogEnd && partition.is_leader() && lags;
        match query.timestamp {
            LATEST if unsure => Err(ErrorCode::OffsetNotAvailable),
            LATEST => Ok(FoundOffset::at(visible, epoch)),
            EARLIEST | EARLIEST_LOCAL => Ok(earliest(&log)),
            LATEST_TIERED => Ok(FoundOffset::NONE),
            timestamp => {
                let found = by_timestamp(&log, timestamp)?.filter(|found| found.offset < visible);
                match found {
                    Some(found) => Ok(found),
                    None if unsure => Err(ErrorCode::OffsetNotAvailable),
                    None => Ok(FoundOffset::NONE),
                }
            }
        }
    }

    /// The v0 answer: at most `max_offsets` segment starts before `timestamp`, the newest first
    /// (`UnifiedLog.legacyFetchOffsetsBefore`).
    pub fn list_offsets_legacy(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        max_offsets: usize,
        only_leader: bool,
    ) -> Result<Vec<Offset>, ErrorCode> {
        let partition = self.partition(topic, partition)?;
        let (log, _, _) = partition.log_and_epoch(LeaderEpoch::NONE, only_leader)?;
        let starts = log.segment_starts();
        let mut marks: Vec<(Offset, i64)> =
            starts.iter().map(|s| (s.base_offset.max(log.log_start_offset()), s.modified_ms)).collect();
        if starts.last().is_some_and(|last| last.size > 0) {
            marks.push((log.log_end_offset(), self.clock().now_ms()));
        }
        let mut offsets = legacy_offsets(&marks, timestamp, max_offsets);
        let high_watermark = log.high_watermark();
        if offsets.iter().any(|offset| *offset > high_watermark) {
            offsets.retain(|offset| *offset <= high_watermark);
            offsets.insert(0, high_watermark);
            offsets.dedup();
        }
        Ok(offsets)
    }

    /// The end of `epoch` in the partition's log (KIP-101, KIP-320): epoch and end, or `None` where it is unknown.
    pub fn offset_for_leader_epoch(
        &self,
        topic: &str,
        partition: i32,
        current: LeaderEpoch,
        epoch: LeaderEpoch,
        only_leader: bool,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
        let partition = self.partition(topic, partition)?;
        let (log, _, _) = partition.log_and_epoch(current, only_leader)?;
        Ok(log.end_offset_for_epoch(epoch))
    }
}

fn visible_end(log: &Arc<PartitionLog>, up_to: ReadUpTo) -> Offset {
    match up_to {
        ReadUpTo::LogEnd => log.log_end_offset(),
        ReadUpTo::HighWatermark => log.high_watermark(),
        ReadUpTo::LastStableOffset => log.last_stable_offset(),
    }
}

/// The log start, with the epoch that holds there if the log knows it.
fn earliest(log: &PartitionLog) -> FoundOffset {
    let start = log.log_start_offset();
    FoundOffset::at(start, log.epoch_at(start).unwrap_or(LeaderEpoch::NONE))
}

fn by_timestamp(log: &PartitionLog, timestamp: i64) -> Result<Option<FoundOffset>, ErrorCode> {
    let found =
        if timestamp == MAX_TIMESTAMP { log.max_timestamp_offset() } else { log.offset_for_timestamp(timestamp) };
    let found = found.map_err(|error| error.code())?;
    Ok(found.map(|found| FoundOffset {
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: log.epoch_at(found.offset).unwrap_or(LeaderEpoch::NONE),
    }))
}

/// From segment starts with their times, oldest first: those not after `timestamp`, newest first.
fn legacy_offsets(marks: &[(Offset, i64)], timestamp: i64, max_offsets: usize) -> Vec<Offset> {
    let end = match timestamp {
        LATEST => marks.len(),
        EARLIEST => marks.len().min(1),
        _ => marks.iter().rposition(|(_, modified)| *modified <= timestamp).map_or(0, |at| at + 1),
    };
    let mut offsets: Vec<Offset> = marks[..end].iter().rev().take(max_offsets).map(|(offset, _)| *offset).collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_offsets_are_segment_starts_newest_first() {
        let marks = [(Offset(0), 10), (Offset(100), 20), (Offset(150), 30)];
        let ask =
            |timestamp, max| legacy_offsets(&marks, timestamp, max).into_iter().map(Offset::get).collect::<Vec<_>>();
        assert_eq!(ask(LATEST, 1), [150]);
        assert_eq!(ask(LATEST, 9), [150, 100, 0]);
        assert_eq!(ask(EARLIEST, 9), [0]);
        assert_eq!(ask(25, 9), [100, 0]);
        assert!(ask(5, 9).is_empty());
    }
}
