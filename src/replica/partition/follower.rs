//! A partition that follows, as its fetcher sees it: what a leader sent is taken in only while this broker follows in the
//! very epoch the fetcher works under, which the state's lock holds still meanwhile.

use std::sync::Arc;

use parking_lot::RwLockReadGuard;

use super::{Partition, State};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::base::purgatory::Event;
use crate::log::error::LogError;
use crate::log::partition_log::{AppendError, PartitionLog};
use crate::replica::fetcher::follower_log::{FollowerLog, FromLeader, Position, Refusal};
use crate::replica::leadership::Role;

impl Partition {
    /// The state and the log, while this broker follows in `epoch`.
    fn following(&self, epoch: LeaderEpoch) -> Result<(RwLockReadGuard<'_, State>, Arc<PartitionLog>), Refusal> {
        let state = self.state.read();
        if state.leadership.role != Role::Follower || state.leadership.leader_epoch != epoch {
            return Err(Refusal::Fenced);
        }
        let log = Arc::clone(state.log().map_err(|code| Refusal::Failed(code, code.message().to_owned()))?);
        Ok((state, log))
    }
}

impl FollowerLog for Partition {
    fn position(&self) -> Result<Position, Refusal> {
        let log = self.state.read().log().map(Arc::clone);
        let log = log.map_err(|code| Refusal::Failed(code, code.message().to_owned()))?;
        Ok(position(&log))
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.log()?.end_offset_for_epoch(epoch)
    }

    fn append(&self, epoch: LeaderEpoch, data: FromLeader) -> Result<Position, Refusal> {
        let (state, log) = self.following(epoch)?;
        let end = log.log_end_offset();
        if end != data.fetch_offset {
            let why = format!("records from offset {} on came, but the log ends at {end}", data.fetch_offset);
            return Err(Refusal::Failed(ErrorCode::UnknownServerError, why));
        }
        if !data.records.is_empty() {
            let TopicPartition { topic, partition } = &self.topic_partition;
            self.throttle.fetched(topic, *partition, data.records.len(), self.now_ms());
            log.append_as_follower(data.records, self.now_ms()).map_err(|error| refusal(&error))?;
        }
        // Only ever raised: what was committed once is in the log of every leader that is elected in order.
        let advanced = log.maybe_increment_high_watermark(data.high_watermark).is_some();
        if data.log_start > log.log_start_offset() {
            // Below the high watermark, or it waits until that is there too.
            match log.maybe_increment_log_start_offset(data.log_start) {
                Ok(_) => {}
                Err(error) if error.code() == ErrorCode::OffsetOutOfRange => {}
                Err(error) => return Err(log_refusal(&error)),
            }
        }
        drop(state);
        if advanced {
            self.waiters.wake(Event::HIGH_WATERMARK, i64::MAX);
        }
        Ok(position(&log))
    }

    fn holds_back(&self) -> bool {
        let TopicPartition { topic, partition } = &self.topic_partition;
        self.throttle.holds_back_fetch(topic, *partition, self.now_ms())
    }

    fn truncate_to(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Refusal> {
        let (_state, log) = self.following(epoch)?;
        log.truncate_to(offset, self.now_ms()).map(drop).map_err(|error| log_refusal(&error))
    }

    fn truncate_fully_and_start_at(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Refusal> {
        let (_state, log) = self.following(epoch)?;
        log.truncate_fully_and_start_at(offset, self.now_ms()).map_err(|error| log_refusal(&error))
    }
}

fn position(log: &PartitionLog) -> Position {
    Position {
        log_start: log.log_start_offset(),
        log_end: log.log_end_offset(),
        high_watermark: log.high_watermark(),
        latest_epoch: log.latest_epoch(),
    }
}

fn refusal(error: &AppendError) -> Refusal {
    match error {
        AppendError::Invalid(invalid) => Refusal::Corrupt(invalid.to_string()),
        AppendError::Log(error) => log_refusal(error),
    }
}

fn log_refusal(error: &LogError) -> Refusal {
    match error.code() {
        ErrorCode::CorruptMessage => Refusal::Corrupt(error.to_string()),
        code => Refusal::Failed(code, error.to_string()),
    }
}
