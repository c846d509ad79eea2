//! Offsets that a transaction commits (KIP-98, KIP-447): they are in the log at once, and hold once the marker that ends
//! the transaction is. Until then the partitions are unstable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::commit::{CommitEntry, commit_error};
use super::coordinator::{Cell, GroupCoordinator, OwnedPartition};
use super::offsets::GroupOffsets;
use super::records::{put_offset_key, put_offset_value};
use super::state::GroupState;
use crate::base::error::ErrorCode;
use crate::base::ids::{ProducerEpoch, ProducerId, TopicPartition};
use crate::base::topic_names::GROUP_METADATA_TOPIC;
use crate::coordinator::batch_writer::BatchWriter;
use crate::coordinator::internal_log::Acked;
use crate::log::verification::Verification;

/// A TxnOffsetCommit request, free of wire versions.
#[derive(Debug)]
pub struct TxnCommitRequest<'a> {
    /// The group's id.
    pub group_id: &'a str,
    /// The producer whose transaction it is.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The generation of the member that consumed; -1 if the client does not say.
    pub generation: i32,
    /// The member's id, or empty.
    pub member_id: &'a str,
    /// The member's `group.instance.id`.
    pub group_instance_id: Option<&'a str>,
    /// What to commit.
    pub entries: Vec<CommitEntry<'a>>,
    /// What the records must have on their side.
    pub verification: Verification,
}

/// The groups in which each open transaction has committed offsets, in one partition.
pub(super) type OpenTransactions = HashMap<i64, HashSet<Arc<str>>>;

/// The transactions that are open in groups as they were loaded.
pub(super) fn open_transactions<'a>(groups: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Cell>)>) -> OpenTransactions {
    let mut open = OpenTransactions::new();
    for (id, cell) in groups {
        for producer in cell.entry.lock().offsets.producers_in_transactions() {
            open.entry(producer).or_default().insert(Arc::clone(id));
        }
    }
    open
}

impl GroupCoordinator {
    /// The partition that a transaction must hold to commit offsets for the group, with what the log asks for before the
    /// transaction's first record is written there.
    ///
    /// # Errors
    /// If the group is not served here.
    pub fn begin_txn_commit(
        &self,
        group_id: &str,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<(TopicPartition, Verification), ErrorCode> {
        self.owner_of_named(group_id)?;
        let tp = TopicPartition::new(GROUP_METADATA_TOPIC, self.partition_for(group_id));
        let verification = self.partitions.log.begin_verification(&tp, producer, epoch).map_err(commit_error)?;
        Ok((tp, verification))
    }

    /// Writes offsets that hold once the transaction is committed; answered when they are in the log as
    /// `offsets.commit.required.acks` asks. One code for each entry.
    pub async fn commit_txn_offsets(&self, mut request: TxnCommitRequest<'_>) -> Vec<ErrorCode> {
        let count = request.entries.len();
        let found = self.owner_of_named(request.group_id).and_then(|owned| {
            let cell = owned.get_or_create(request.group_id)?;
            Ok((owned, cell))
        });
        let (owned, cell) = match found {
            Ok(found) => found,
            Err(error) => return vec![error; count],
        };
        let mut codes = self.drop_too_large(&mut request.entries);
        let outcome = match self.append_txn_commit(&owned, &cell, request) {
            Err(error) => return vec![error; count],
            Ok(Acked::Now(outcome)) => outcome,
            Ok(Acked::Later(acked)) => acked.await,
        };
        if let Err(error) = outcome {
            // They are in the log and stay pending: only the transaction's end decides what becomes of them.
            let error = commit_error(error);
            codes.iter_mut().filter(|code| code.is_none()).for_each(|code| *code = error);
        }
        codes
    }

    fn append_txn_commit(
        &self,
        owned: &OwnedPartition,
        cell: &Arc<Cell>,
        request: TxnCommitRequest<'_>,
    ) -> Result<Acked, ErrorCode> {
        let (producer, epoch) = (request.producer_id, request.producer_epoch);
        let mut batch = BatchWriter::transactional(self.clock.now_ms(), self.config.codec, producer, epoch);
        for entry in &request.entries {
            batch.put(
                |key| put_offset_key(key, request.group_id, entry.topic, entry.partition),
                |value| put_offset_value(value, &entry.committed),
            );
        }
        let batch = batch.finish();
        self.touch(cell, |entry, _| {
            entry.group.txn_offset_commit(request.generation, request.member_id, request.group_instance_id)?;
            if request.entries.is_empty() {
                return Ok(Acked::Now(Ok(())));
            }
            // Before the append: the marker may come as soon as that is done, and must find the group.
            owned.note_transaction(producer, entry.group.id());
            let options = self.append_options(&cell.home);
            let appended = batch.and_then(|batch| {
                self.partitions.log.append_transactional(&cell.home.tp, batch, options, request.verification)
            });
            let appended = match appended {
                Ok(appended) => appended,
                Err(error) => {
                    if !entry.offsets.has_transaction(producer.get()) {
                        owned.forget_transaction(producer, entry.group.id());
                    }
                    return Err(commit_error(error));
                }
            };
            for (committed, record_offset) in request.entries.into_iter().zip(appended.base_offset.get()..) {
                let topic = self.topic_name(&entry.offsets, committed.topic);
                let (partition, committed) = (committed.partition, committed.committed);
                entry.offsets.add_transactional(producer.get(), &topic, partition, committed, record_offset);
            }
            Ok(appended.acked)
        })
    }

    /// The marker that ends the producer's transaction is in the partition's log, and replicated: what the transaction
    /// committed holds from now on, or is forgotten.
    pub fn on_transaction_completed(&self, partition: i32, producer: ProducerId, commit: bool) {
        // The loader may have passed the end of the log already.
        let note = || self.completed.lock().note(partition, producer, commit);
        if let Some(owned) = self.partitions.slots.get_or_note(partition, note) {
            self.complete(&owned, producer, commit);
        }
    }

    pub(super) fn complete(&self, owned: &OwnedPartition, producer: ProducerId, commit: bool) {
        for group_id in owned.take_transaction(producer) {
            let Some(cell) = owned.get(&group_id) else { continue };
            self.touch(&cell, |entry, _| {
                if entry.group.state() != GroupState::Dead {
                    entry.offsets.complete_transaction(producer.get(), commit);
                }
            });
        }
    }
}

impl OwnedPartition {
    fn note_transaction(&self, producer: ProducerId, group_id: &Arc<str>) {
        self.transactions.lock().entry(producer.get()).or_default().insert(Arc::clone(group_id));
    }

    fn forget_transaction(&self, producer: ProducerId, group_id: &str) {
        let mut transactions = self.transactions.lock();
        if let Some(groups) = transactions.get_mut(&producer.get()) {
            groups.remove(group_id);
            if groups.is_empty() {
                transactions.remove(&producer.get());
            }
        }
    }

    fn take_transaction(&self, producer: ProducerId) -> HashSet<Arc<str>> {
        self.transactions.lock().remove(&producer.get()).unwrap_or_default()
    }
}

impl GroupOffsets {
    /// The producers whose open transactions have committed offsets here.
    pub(super) fn producers_in_transactions(&self) -> Vec<i64> {
        self.transactions.keys().copied().collect()
    }

    fn has_transaction(&self, producer_id: i64) -> bool {
        self.transactions.contains_key(&producer_id)
    }
}
