//! Committing offsets and looking them up. A request becomes one batch, built before the group is locked.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::coordinator::{Cell, Entry, GroupCoordinator};
use super::offsets::{CommittedOffset, GroupOffsets};
use super::records::{put_offset_key, put_offset_value};
use super::state::GroupState;
use crate::base::error::ErrorCode;
use crate::coordinator::internal_log::{Acked, Appended};
use crate::coordinator::loading::Loads;

/// An OffsetCommit request, free of wire versions.
#[derive(Debug)]
pub struct CommitRequest<'a> {
    /// The group's id; may be empty for old consumers.
    pub group_id: &'a str,
    /// The member's generation; -1 for consumers outside the group's management.
    pub generation: i32,
    /// Its id, or empty.
    pub member_id: &'a str,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<&'a str>,
    /// What to commit.
    pub entries: Vec<CommitEntry<'a>>,
}

/// One partition's offset to commit.
#[derive(Debug)]
pub struct CommitEntry<'a> {
    /// The topic, which exists.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub committed: CommittedOffset,
}

/// Where a commit stands after the append.
enum Begun {
    /// The group does not take it from this sender: goes before any partition's own error.
    Refused(ErrorCode),
    Done(ErrorCode),
    Waits(oneshot::Receiver<ErrorCode>),
}

impl GroupCoordinator {
    /// Commits offsets; answered when they are in the log as `offsets.commit.required.acks` asks. One code for each entry.
    pub async fn commit_offsets(&self, mut request: CommitRequest<'_>) -> Vec<ErrorCode> {
        let count = request.entries.len();
        let group_id = request.group_id;
        let cell = match self.cell_for_commit(group_id, request.generation) {
            Ok(cell) => cell,
            Err(error) => return vec![error; count],
        };
        let mut codes = self.drop_too_large(&mut request.entries);
        let outcome = match self.begin_commit(&cell, request) {
            Begun::Refused(code) => return vec![code; count],
            Begun::Done(code) => code,
            // The task that would answer is gone only when the broker stops.
            Begun::Waits(answer) => answer.await.unwrap_or(ErrorCode::NotCoordinator),
        };
        codes.iter_mut().filter(|code| code.is_none()).for_each(|code| *code = outcome);
        codes
    }

    /// Takes out what has too long a note. One code for each entry that there was.
    pub(super) fn drop_too_large(&self, entries: &mut Vec<CommitEntry<'_>>) -> Vec<ErrorCode> {
        let max = usize::try_from(self.config.offset_metadata_max_bytes).unwrap_or(0);
        let mut codes = vec![ErrorCode::None; entries.len()];
        let mut index = 0;
        entries.retain(|entry| {
            let fits = metadata_fits(&entry.committed.metadata, max);
            if !fits {
                codes[index] = ErrorCode::OffsetMetadataTooLarge;
            }
            index += 1;
            fits
        });
        codes
    }

    fn cell_for_commit(&self, group_id: &str, generation: i32) -> Result<Arc<Cell>, ErrorCode> {
        if generation < 0 {
            return self.get_or_create(group_id);
        }
        self.owner(group_id)?.get(group_id).ok_or(ErrorCode::IllegalGeneration)
    }

    fn begin_commit(&self, cell: &Arc<Cell>, request: CommitRequest<'_>) -> Begun {
        let mut batch = self.batch();
        for entry in &request.entries {
            batch.put(
                |key| put_offset_key(key, request.group_id, entry.topic, entry.partition),
                |value| put_offset_value(value, &entry.committed),
            );
        }
        let batch = batch.finish();
        let (generation, member_id, instance_id) = (request.generation, request.member_id, request.group_instance_id);
        self.touch(cell, |entry, cx| {
            if let Err(error) = entry.group.offset_commit(generation, member_id, instance_id, cx) {
                return Begun::Refused(error);
            }
            if request.entries.is_empty() {
                return Begun::Done(ErrorCode::None);
            }
            let appended = batch
                .and_then(|batch| self.partitions.log.append(&cell.home.tp, batch, self.append_options(&cell.home)));
            match appended {
                Err(error) => Begun::Done(commit_error(error)),
                Ok(appended) => self.after_append(cell, entry, request.entries, appended),
            }
        })
    }

    fn after_append(
        &self,
        cell: &Arc<Cell>,
        entry: &mut Entry,
        entries: Vec<CommitEntry<'_>>,
        appended: Appended,
    ) -> Begun {
        let base = appended.base_offset.get();
        let acked = match appended.acked {
            Acked::Now(Err(error)) => return Begun::Done(commit_error(error)),
            Acked::Now(Ok(())) => {
                for (committed, record_offset) in entries.into_iter().zip(base..) {
                    let topic = self.topic_name(&entry.offsets, committed.topic);
                    entry.offsets.apply(&topic, committed.partition, committed.committed, record_offset);
                }
                return Begun::Done(ErrorCode::None);
            }
            Acked::Later(acked) => acked,
        };
        let Some(me) = self.myself() else { return Begun::Done(ErrorCode::NotCoordinator) };
        let owned: Vec<_> = entries
            .into_iter()
            .map(|committed| {
                (self.topic_name(&entry.offsets, committed.topic), committed.partition, committed.committed)
            })
            .collect();
        entry.offsets.begin_unacked(owned.iter().map(|(topic, partition, _)| (topic, *partition)));
        let (cell, (sender, answer)) = (Arc::clone(cell), oneshot::channel());
        // In a task of its own: the commit must not be lost from memory because the client hung up.
        self.partitions.runtime.spawn(async move {
            let result = acked.await;
            me.touch(&cell, |entry, _| {
                entry.offsets.end_unacked(owned.iter().map(|(topic, partition, _)| (topic, *partition)));
                if result.is_ok() && entry.group.state() != GroupState::Dead {
                    for ((topic, partition, committed), record_offset) in owned.into_iter().zip(base..) {
                        entry.offsets.apply(&topic, partition, committed, record_offset);
                    }
                }
                entry.offsets.forget_deletions();
            });
            let _ = sender.send(result.map_or_else(commit_error, |()| ErrorCode::None));
        });
        Begun::Waits(answer)
    }

    pub(super) fn topic_name(&self, offsets: &GroupOffsets, topic: &str) -> Arc<str> {
        offsets.topic_name(topic).cloned().unwrap_or_else(|| self.intern(topic))
    }

    /// Lets `look` see the offsets of a group; `None` where there is no such group, which is no error.
    ///
    /// # Errors
    /// If the group is not served here.
    pub fn with_offsets<R>(
        &self,
        group_id: &str,
        look: impl FnOnce(Option<&GroupOffsets>) -> R,
    ) -> Result<R, ErrorCode> {
        let Some(cell) = self.owner(group_id)?.get(group_id) else { return Ok(look(None)) };
        let entry = cell.entry.lock();
        let offsets = (entry.group.state() != GroupState::Dead).then_some(&entry.offsets);
        Ok(look(offsets))
    }
}

/// Whether a client's note is short enough: `max` is counted in UTF-16 units, as the original does, and the record has
/// room for 32,767 bytes.
fn metadata_fits(metadata: &str, max: usize) -> bool {
    metadata.len() <= i16::MAX as usize && (metadata.len() <= max || metadata.encode_utf16().count() <= max)
}

/// What a client is told when its offsets could not be stored (`GroupMetadataManager.storeOffsets`).
pub(super) fn commit_error(error: ErrorCode) -> ErrorCode {
    match error {
        // Of a transaction that could not be verified; older clients know how to try this one again.
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::InvalidCommitOffsetSize
        }
        other => other,
    }
}
