//! Records deleted on request (DeleteRecords, KIP-107): the leader raises its log start, followers learn of it by their
//! fetches, and it is done once no replica that lives starts lower.

use super::Partition;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, Offset};
use crate::log::error::LogError;

impl Partition {
    /// Raises the log start to `offset`, or to the high watermark where none is named; returns where it is to be
    /// (`Partition.deleteRecordsOnLeader`).
    ///
    /// # Errors
    /// `NotLeaderOrFollower`; `PolicyViolation` where the topic is compacted and nothing else; `OffsetOutOfRange` above the
    /// high watermark.
    pub fn delete_records_on_leader(&self, offset: Option<Offset>) -> Result<Offset, LogError> {
        let state = self.state.read();
        let log = state.leader_log().map_err(|code| LogError::refused(code, code.message()))?;
        let config = log.config();
        if config.compact && !config.delete {
            let message = format!("the cleanup.policy of {} does not delete", self.topic_partition);
            return Err(LogError::refused(ErrorCode::PolicyViolation, message));
        }
        let to = offset.unwrap_or_else(|| log.high_watermark());
        if to < Offset::ZERO {
            let message = format!("{to} is no offset of {}", self.topic_partition);
            return Err(LogError::refused(ErrorCode::OffsetOutOfRange, message));
        }
        if log.maybe_increment_log_start_offset(to)? {
            tracing::info!("{}: the log starts at {to}, as a client asked to delete records", self.topic_partition);
        }
        Ok(to)
    }

    /// The lowest log start of this leader and of its followers whose brokers live (`Partition.lowWatermarkIfLeader`); -1
    /// while one of them has not told its own.
    ///
    /// # Errors
    /// `NotLeaderOrFollower`.
    pub fn low_watermark(&self, is_alive: impl Fn(BrokerId) -> bool) -> Result<Offset, ErrorCode> {
        let state = self.state.read();
        let start = state.leader_log()?.log_start_offset();
        let followers = state.leadership.followers.iter().filter(|follower| is_alive(follower.broker));
        Ok(followers.map(|follower| follower.log_start_offset).fold(start, Offset::min))
    }
}
