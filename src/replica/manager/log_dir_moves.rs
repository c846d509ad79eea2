//! Moves of partitions between the log dirs of this broker (`ReplicaAlterLogDirsThread`): taken in by AlterReplicaLogDirs, or
//! found at the start; copied bit by bit by a chore, under a throttle; ended when the future log has caught up.
//!
//! What is to be done next is decided by [`next`], on plain data; a leader may change and the current log be cut at any
//! time in between.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::ReplicaManager;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::log::error::LogError;
use crate::log::partition_log::{AppendError, PartitionLog, ReadUpTo};
use crate::replica::partition::Partition;

/// Copied at one time; a larger batch goes alone.
const CHUNK: usize = 1 << 20;
/// Folders have names of at most so many characters.
const MAX_FOLDER_NAME: usize = 255;
/// `T-P.` is followed by 32 digits and `-future`.
const FUTURE_SUFFIX: usize = 1 + 32 + "-future".len();

/// Where a log begins and ends, and its newest epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: Offset,
    end: Offset,
    epoch: Option<LeaderEpoch>,
}

impl Span {
    fn of(log: &PartitionLog) -> Self {
        Self { start: log.log_start_offset(), end: log.log_end_offset(), epoch: log.latest_epoch() }
    }
}

/// What a move does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The future log has nothing that is still of use.
    StartOver(Offset),
    /// It went another way than the current one.
    Cut(Offset),
    /// More is to be copied, from here on.
    Copy(Offset),
    /// Nothing is left to copy.
    Done,
}

/// Decides the next step. `shared` is where the future log's newest epoch ends in the current one: an epoch not above it
/// and its end; `None` if the current one does not know it.
fn next(current: Span, future: Span, shared: Option<(LeaderEpoch, Offset)>) -> Step {
    if future.end < current.start {
        return Step::StartOver(current.start);
    }
    let agreed = match (future.epoch, shared) {
        (None, _) => current.end,
        (Some(_), Some((_, end))) => end,
        (Some(_), None) => current.start,
    };
    if agreed < future.end {
        return Step::Cut(agreed.min(current.end));
    }
    if future.end > current.end {
        return Step::Cut(current.end);
    }
    if future.end < current.end { Step::Copy(future.end) } else { Step::Done }
}

fn next_for(current: &PartitionLog, future: &PartitionLog) -> Step {
    let span = Span::of(future);
    next(Span::of(current), span, span.epoch.and_then(|epoch| current.end_offset_for_epoch(epoch)))
}

impl ReplicaManager {
    /// Has a partition moved to the log dir at `path`; one that is not here yet is made there when it comes
    /// (`ReplicaManager.alterReplicaLogDirs`). Makes a folder, so it may block.
    ///
    /// # Errors
    /// `ReplicaNotAvailable` where the partition is not here, `LogDirNotFound`, `KafkaStorageError`,
    /// `InvalidTopicException` for a name too long for a folder.
    pub fn alter_replica_log_dir(&self, tp: &TopicPartition, path: &Path) -> Result<(), ErrorCode> {
        if tp.to_string().len() + FUTURE_SUFFIX > MAX_FOLDER_NAME {
            return Err(ErrorCode::InvalidTopicException);
        }
        let logs = &self.log_manager;
        let dir = logs.log_dir(path).map_err(|error| error.code())?;
        let now_ms = self.clock.now_ms();
        let partition = self.hosted(&tp.topic, tp.partition);
        if partition.as_ref().is_some_and(|partition| partition.is_offline()) {
            return Err(ErrorCode::KafkaStorageError);
        }
        let Some(current) = partition.and_then(|partition| partition.log()) else {
            logs.prefer(tp, &dir);
            return Err(ErrorCode::ReplicaNotAvailable);
        };
        // A move elsewhere ends; so does one that is called back.
        if logs.future(tp).is_some_and(|future| !Arc::ptr_eq(future.log_dir(), &dir)) {
            logs.remove_future(tp, now_ms).map_err(|error| error.code())?;
        }
        if !Arc::ptr_eq(current.log_dir(), &dir) {
            logs.create_future(&current, &dir, now_ms).map_err(|error| error.code())?;
        }
        Ok(())
    }

    /// Goes on with all moves until they rest or are done. A chore: reads and writes a lot and waits for disks.
    pub fn move_between_log_dirs(&self) {
        for future in self.log_manager.futures() {
            let tp = future.topic_partition();
            let Some(partition) = self.hosted(&tp.topic, tp.partition) else { continue };
            if let Err(error) = self.go_on(&partition, &future) {
                if self.is_stopping() || future.is_closed() {
                    continue;
                }
                tracing::error!("{tp}: the move between log dirs is given up: {error}");
                if let Err(error) = self.log_manager.remove_future(tp, self.clock.now_ms()) {
                    tracing::error!("{tp}: {error}");
                }
            }
        }
    }

    /// One move, until it has to rest, is done, or is called back.
    fn go_on(&self, partition: &Partition, future: &PartitionLog) -> Result<(), LogError> {
        loop {
            let now_ms = self.clock.now_ms();
            if self.is_stopping() || future.is_closed() || self.throttle.holds_back_copies(now_ms) {
                return Ok(());
            }
            let Some(current) = partition.log() else { return Ok(()) };
            match next_for(&current, future) {
                Step::StartOver(at) => future.truncate_fully_and_start_at(at, now_ms)?,
                Step::Cut(to) => drop(future.truncate_to(to, now_ms)?),
                Step::Copy(from) => match copy(&current, future, from, now_ms) {
                    Ok(bytes) => self.throttle.copied(bytes, now_ms),
                    // The current log was cut, or its oldest segments went: look again.
                    Err(error) if error.code() == ErrorCode::OffsetOutOfRange => {}
                    Err(error) => return if current.is_closed() { Ok(()) } else { Err(error) },
                },
                Step::Done => {
                    // Most of the way to the disk is gone while the partition still serves.
                    future.flush()?;
                    if self.replace(partition, future)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Puts the future log in the current one's place if nothing came in between.
    fn replace(&self, partition: &Partition, future: &PartitionLog) -> Result<bool, LogError> {
        partition.replace_log(|current| {
            if next_for(current, future) != Step::Done {
                return Ok(None);
            }
            future.update_high_watermark(current.high_watermark());
            future.maybe_increment_log_start_offset(current.log_start_offset())?;
            self.log_manager.replace_with_future(current, self.clock.now_ms()).map(Some)
        })
    }
}

/// Copies a piece; how many bytes.
fn copy(current: &PartitionLog, future: &PartitionLog, from: Offset, now_ms: i64) -> Result<usize, LogError> {
    let read = current.read(from, CHUNK, true, ReadUpTo::LogEnd)?;
    let Some(slice) = read.data else { return Ok(0) };
    let mut bytes = vec![0; slice.len];
    slice
        .file
        .read_exact_at(&mut bytes, slice.position)
        .map_err(|error| LogError::storage("read", current.dir(), error))?;
    let size = bytes.len();
    match future.append_as_follower(Bytes::from(bytes), now_ms) {
        Ok(_) => Ok(size),
        Err(AppendError::Log(error)) => Err(error),
        Err(AppendError::Invalid(invalid)) => Err(LogError::refused(invalid.code, invalid.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, end: i64, epoch: Option<i32>) -> Span {
        Span { start: Offset(start), end: Offset(end), epoch: epoch.map(LeaderEpoch) }
    }

    #[test]
    fn a_move_copies_until_it_has_caught_up() {
        let current = span(10, 50, Some(3));
        let at = |epoch: i32, end: i64| Some((LeaderEpoch(epoch), Offset(end)));
        assert_eq!(next(current, span(0, 0, None), None), Step::StartOver(Offset(10)));
        assert_eq!(next(current, span(10, 10, None), None), Step::Copy(Offset(10)));
        assert_eq!(next(current, span(10, 30, Some(2)), at(2, 30)), Step::Copy(Offset(30)));
        assert_eq!(next(current, span(10, 50, Some(3)), at(3, 50)), Step::Done);
        // The leader changed and the current log was cut and written anew: what went another way goes.
        assert_eq!(next(current, span(10, 40, Some(2)), at(2, 30)), Step::Cut(Offset(30)));
        assert_eq!(next(current, span(10, 40, Some(2)), at(1, 20)), Step::Cut(Offset(20)));
        assert_eq!(next(current, span(10, 60, None), None), Step::Cut(Offset(50)));
        assert_eq!(next(current, span(10, 40, Some(2)), None), Step::Cut(Offset(10)));
    }
}
