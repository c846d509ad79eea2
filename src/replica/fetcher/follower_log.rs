//! What a fetcher does to one partition's log. Every change names the leader epoch under which the fetcher works: once the
//! partition has another one, whatever an old leader still sends changes nothing.

use bytes::Bytes;

use super::truncation::EpochEnds;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};

/// Where a log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its start.
    pub log_start: Offset,
    /// Its end.
    pub log_end: Offset,
    /// Up to where it is known to be committed.
    pub high_watermark: Offset,
    /// The epoch of its last record.
    pub latest_epoch: Option<LeaderEpoch>,
}

/// What a leader sent for one partition.
#[derive(Debug, Clone)]
pub struct FromLeader {
    /// The offset that was asked for.
    pub fetch_offset: Offset,
    /// The records; maybe none.
    pub records: Bytes,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's log start, or -1.
    pub log_start: Offset,
}

/// Why a log did not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This broker does not follow in that epoch any more.
    Fenced,
    /// The bytes were damaged on their way; fetched again they may be sound.
    Corrupt(String),
    /// The log's disk failed, or its state does not allow it: nothing to try again.
    Failed(ErrorCode, String),
}

/// One partition's log in the hands of a fetcher.
pub trait FollowerLog: Send + Sync {
    /// Where it stands.
    ///
    /// # Errors
    /// [`Refusal`].
    fn position(&self) -> Result<Position, Refusal>;

    /// The largest epoch not above `epoch`, and its end.
    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

    /// Appends what the leader sent and takes over its high watermark and log start. Returns where the log stands then.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was appended.
    fn append(&self, epoch: LeaderEpoch, data: FromLeader) -> Result<Position, Refusal>;

    /// Removes everything from `offset` on.
    ///
    /// # Errors
    /// [`Refusal`].
    fn truncate_to(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Refusal>;

    /// Whether nothing is to be asked for at the moment, as far as the log is not caught up: too much came for replicas
    /// that are throttled (KIP-73).
    fn holds_back(&self) -> bool {
        false
    }

    /// Removes everything, to begin anew at `offset`.
    ///
    /// # Errors
    /// [`Refusal`].
    fn truncate_fully_and_start_at(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Refusal>;
}

/// A log and its end, for [`super::truncation::truncation`].
pub(super) struct At<'a>(pub &'a dyn FollowerLog, pub Offset);

impl EpochEnds for At<'_> {
    fn log_end(&self) -> Offset {
        self.1
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.0.end_offset_for_epoch(epoch)
    }
}
