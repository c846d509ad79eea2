//! Rebuilds groups and offsets from the records of one offsets partition, in the order of the log. Pure: it is fed records.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::offsets::GroupOffsets;
use super::records::{Key, decode_group_value, decode_offset_value};
use super::state::Group;
use crate::base::ids::{Offset, TopicPartition};
use crate::coordinator::wire::{Malformed, Reader};
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

/// What was read so far of one group.
struct Loaded {
    id: Arc<str>,
    /// The value of its latest record, copied: a slice would hold the whole chunk. Decoded once, at the end.
    metadata: Option<Bytes>,
    offsets: GroupOffsets,
}

/// The state of a partition up to some offset.
#[derive(Default)]
pub struct Replay {
    groups: Vec<Loaded>,
    /// Where each group stands in `groups`.
    index: HashMap<Arc<str>, usize>,
    /// The groups in which each open transaction committed offsets.
    transactions: HashMap<i64, HashSet<Arc<str>>>,
}

impl Replay {
    /// Takes in a record, or the end of a transaction.
    ///
    /// # Errors
    /// What about it cannot be read.
    pub fn take(
        &mut self,
        header: &BatchHeader,
        offset: Offset,
        record: &Record<'_>,
        intern: impl FnOnce(&str) -> Arc<str>,
    ) -> Result<(), Malformed> {
        if header.is_control() {
            return self.marker(header.producer_id.get(), record);
        }
        self.record(header, offset, record, intern)
    }

    /// A transaction's end: the key holds a version and what kind of end (0 aborted, 1 committed).
    fn marker(&mut self, producer_id: i64, record: &Record<'_>) -> Result<(), Malformed> {
        let mut key = Reader::new(record.key.unwrap_or_default());
        key.i16()?;
        let kind = key.i16()?;
        if !(0..=1).contains(&kind) {
            return Ok(());
        }
        for id in self.transactions.remove(&producer_id).unwrap_or_default() {
            if let Some(loaded) = self.known(&id) {
                loaded.offsets.complete_transaction(producer_id, kind == 1);
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        header: &BatchHeader,
        offset: Offset,
        record: &Record<'_>,
        intern: impl FnOnce(&str) -> Arc<str>,
    ) -> Result<(), Malformed> {
        match Key::decode(record.key.unwrap_or_default())? {
            Key::Offset { group, topic, partition } => {
                let Some(value) = record.value else {
                    if let Some(loaded) = self.known(group) {
                        loaded.offsets.remove(topic, partition, offset.get());
                    }
                    return Ok(());
                };
                let committed = decode_offset_value(value)?;
                let producer_id = header.producer_id.get();
                if header.is_transactional() {
                    self.transactions.entry(producer_id).or_default().insert(group.into());
                }
                let offsets = &mut self.group(group).offsets;
                let topic = offsets.topic_name(topic).cloned().unwrap_or_else(|| intern(topic));
                if header.is_transactional() {
                    offsets.add_transactional(producer_id, &topic, partition, committed, offset.get());
                } else {
                    offsets.apply(&topic, partition, committed, offset.get());
                }
            }
            Key::Group { group } => match record.value {
                Some(value) => {
                    decode_group_value(value)?;
                    self.group(group).metadata = Some(Bytes::copy_from_slice(value));
                }
                None => {
                    if let Some(loaded) = self.known(group) {
                        loaded.metadata = None;
                    }
                }
            },
            Key::Unknown(version) => tracing::debug!(version, at = %offset, "a key of an unknown version"),
        }
        Ok(())
    }

    fn known(&mut self, id: &str) -> Option<&mut Loaded> {
        let &at = self.index.get(id)?;
        Some(&mut self.groups[at])
    }

    fn group(&mut self, id: &str) -> &mut Loaded {
        let at = match self.index.get(id) {
            Some(&at) => at,
            None => {
                let id: Arc<str> = id.into();
                self.index.insert(Arc::clone(&id), self.groups.len());
                self.groups.push(Loaded { id, metadata: None, offsets: GroupOffsets::default() });
                self.groups.len() - 1
            }
        };
        &mut self.groups[at]
    }

    /// The groups as they stand after the last record; those without members and offsets are left out.
    pub fn finish(self, tp: &TopicPartition) -> Vec<(Group, GroupOffsets)> {
        let mut out = Vec::with_capacity(self.groups.len());
        for Loaded { id, metadata, offsets } in self.groups {
            let group = match metadata.as_deref().map(decode_group_value) {
                Some(Ok(value)) => Group::from_record(id, &value),
                Some(Err(cause)) => {
                    warn!(partition = %tp, group = %id, %cause, "a group's record cannot be read");
                    Group::new(id)
                }
                None if offsets.is_empty() => continue,
                None => Group::new(id),
            };
            out.push((group, offsets));
        }
        out
    }
}
