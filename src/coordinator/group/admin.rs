//! What administrators ask of groups: lists, descriptions, deletion, and the expiry of what nobody needs any more.

use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use super::coordinator::{Cell, Entry, GroupCoordinator, OwnedPartition};
use super::effect::Cx;
use super::member::MemberId;
use super::records::{put_group_key, put_offset_key};
use super::state::GroupState;
use crate::base::blocking;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::coordinator::batch_writer::BatchWriter;
use crate::coordinator::internal_log::AppendOptions;
use crate::coordinator::loading::Loads;

/// The most tombstones in one batch, so that it stays far below any limit on its size.
const TOMBSTONES_PER_BATCH: usize = 1_000;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: Arc<str>,
    /// Its protocol type; empty for none.
    pub protocol_type: Arc<str>,
    /// Its state.
    pub state: GroupState,
}

/// A group described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: GroupState,
    /// Its protocol type; empty for none.
    pub protocol_type: Arc<str>,
    /// The protocol chosen; empty unless the group is stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member described. Metadata and assignment are given only of stable groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: MemberId,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<Arc<str>>,
    /// Its `client.id`.
    pub client_id: Arc<str>,
    /// Its address as Java writes it.
    pub client_host: Arc<str>,
    /// What it sent for the chosen protocol.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl GroupDescription {
    /// What is said of a group that does not exist (up to DescribeGroups v5).
    pub fn dead() -> Self {
        Self { state: GroupState::Dead, protocol_type: "".into(), protocol: "".into(), members: Vec::new() }
    }
}

impl GroupCoordinator {
    /// Whether the broker stops, so that there is nothing to be listed any more.
    pub fn is_stopped(&self) -> bool {
        self.partitions.slots.is_closed()
    }

    /// All groups that are served here.
    pub fn list(&self) -> Vec<GroupListing> {
        let mut out = Vec::new();
        for owned in self.partitions.slots.owned() {
            for cell in owned.cells() {
                let entry = cell.entry.lock();
                out.push(GroupListing {
                    group_id: Arc::clone(entry.group.id()),
                    protocol_type: entry.group.protocol_type().cloned().unwrap_or_else(|| "".into()),
                    state: entry.group.state(),
                });
            }
        }
        out
    }

    /// How many groups and offsets are held here (`GroupMetadataManager`'s NumGroups and NumOffsets).
    pub fn counts(&self) -> (usize, usize) {
        let cells = self.partitions.slots.owned().into_iter().flat_map(|owned| owned.cells());
        cells.fold((0, 0), |(groups, offsets), cell| (groups + 1, offsets + cell.entry.lock().offsets.len()))
    }

    /// Describes a group.
    ///
    /// # Errors
    /// If it is not served here.
    pub fn describe(&self, group_id: &str) -> Result<GroupDescription, ErrorCode> {
        let Some(cell) = self.owner(group_id)?.get(group_id) else { return Ok(GroupDescription::dead()) };
        let entry = cell.entry.lock();
        let group = &entry.group;
        let is_stable = group.state() == GroupState::Stable;
        let protocol = group.protocol_name().filter(|_| is_stable).cloned().unwrap_or_else(|| "".into());
        let members = group.members().map(|member| MemberDescription {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.group_instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: member.metadata(&protocol).filter(|_| is_stable).cloned().unwrap_or_default(),
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        });
        Ok(GroupDescription {
            state: group.state(),
            protocol_type: group.protocol_type().cloned().unwrap_or_else(|| "".into()),
            members: members.collect(),
            protocol,
        })
    }

    /// Deletes a group without members, with its offsets.
    ///
    /// # Errors
    /// `NonEmptyGroup`, `GroupIdNotFound`, or why it is not served here.
    pub fn delete_group(&self, group_id: &str) -> Result<(), ErrorCode> {
        let owned = self.owner(group_id)?;
        let cell = owned.get(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        self.update(&cell, |entry, cx| match entry.group.state() {
            GroupState::Dead => Err(ErrorCode::GroupIdNotFound),
            GroupState::Empty => {
                let all: Vec<_> = entry
                    .offsets
                    .by_topic()
                    .flat_map(|(topic, rows)| {
                        rows.into_iter().map(move |(partition, _)| (Arc::clone(topic), partition))
                    })
                    .collect();
                self.remove_offsets(&cell, entry, &all)?;
                self.bury(&owned, &cell, entry, cx);
                Ok(())
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                Err(ErrorCode::NonEmptyGroup)
            }
        })
    }

    /// Deletes offsets of a group, except of topics that its consumers subscribe to. One code for each partition. A group
    /// without members goes with its last offset.
    ///
    /// # Errors
    /// `NonEmptyGroup` if its members are no consumers, `GroupIdNotFound`, or why it is not served here.
    pub fn delete_offsets(&self, group_id: &str, partitions: &[(&str, i32)]) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let owned = self.owner(group_id)?;
        let cell = owned.get(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        self.update(&cell, |entry, cx| {
            let group = &entry.group;
            let has_members = match group.state() {
                GroupState::Dead => return Err(ErrorCode::GroupIdNotFound),
                GroupState::Empty => false,
                _ if group.is_consumer_group() => true,
                _ => return Err(ErrorCode::NonEmptyGroup),
            };
            let is_free = |topic: &str| !has_members || !group.is_subscribed_to(topic);
            let codes: Vec<ErrorCode> = partitions
                .iter()
                .map(|(topic, _)| if is_free(topic) { ErrorCode::None } else { ErrorCode::GroupSubscribedToTopic })
                .collect();
            let held = partitions
                .iter()
                .zip(&codes)
                .filter(|((topic, partition), code)| code.is_none() && entry.offsets.get(topic, *partition).is_some());
            let doomed: Vec<(Arc<str>, i32)> = held.map(|(&(topic, partition), _)| (topic.into(), partition)).collect();
            self.remove_offsets(&cell, entry, &doomed)?;
            let deleted = partitions.iter().zip(&codes).filter(|(_, code)| code.is_none());
            deleted.for_each(|((topic, partition), _)| entry.offsets.forget_pending(topic, *partition));
            if is_idle(entry) {
                self.bury(&owned, &cell, entry, cx);
            }
            Ok(codes)
        })
    }

    /// Removes what has expired, and groups that are left with nothing. Appends tombstones; may take long.
    pub fn expire(&self) {
        self.clean_up("expired", |entry| entry.offsets.expired(&entry.group, &self.config, self.clock.now_ms()));
        self.purge_names();
    }

    /// Topics were deleted: so are the offsets committed for them. Done on a thread that may block.
    pub fn on_partitions_deleted(&self, partitions: &[TopicPartition]) {
        let Some(me) = self.myself() else { return };
        let partitions = partitions.to_vec();
        blocking::spawn(&self.partitions.runtime, move || {
            me.clean_up("of deleted topics", |entry| {
                partitions.iter().for_each(|tp| entry.offsets.forget_pending(&tp.topic, tp.partition));
                let held = partitions.iter().filter(|tp| entry.offsets.get(&tp.topic, tp.partition).is_some());
                held.map(|tp| (Arc::clone(&tp.topic), tp.partition)).collect()
            });
        });
    }

    /// Removes the offsets that `doomed` names, group by group, and every empty group that has none.
    fn clean_up(&self, what: &str, doomed: impl Fn(&mut Entry) -> Vec<(Arc<str>, i32)>) {
        let (mut offsets, mut groups) = (0, 0);
        for owned in self.partitions.slots.owned() {
            for cell in owned.cells() {
                self.update(&cell, |entry, cx| {
                    let doomed = doomed(entry);
                    match self.remove_offsets(&cell, entry, &doomed) {
                        Ok(()) => offsets += doomed.len(),
                        Err(error) => {
                            return warn!(group = %entry.group.id(), %error, "offsets {what} could not be removed");
                        }
                    }
                    if is_idle(entry) {
                        self.bury(&owned, &cell, entry, cx);
                        groups += 1;
                    }
                });
            }
        }
        if offsets + groups > 0 {
            info!(offsets, groups, "removed offsets {what}, and groups without offsets and members");
        }
    }

    /// Drops a group that came to nothing: its first member never joined. It left no trace in the log.
    pub(super) fn drop_stillborn(&self, cell: &Arc<Cell>) {
        let group_id = {
            let entry = cell.entry.lock();
            if !is_idle(&entry) || entry.group.generation() > 0 {
                return;
            }
            Arc::clone(entry.group.id())
        };
        let Ok(owned) = self.owner(&group_id) else { return };
        self.update(cell, |entry, cx| {
            if is_idle(entry) && entry.group.generation() == 0 {
                self.bury(&owned, cell, entry, cx);
            }
        });
    }

    fn remove_offsets(&self, cell: &Cell, entry: &mut Entry, doomed: &[(Arc<str>, i32)]) -> Result<(), ErrorCode> {
        let group_id = Arc::clone(entry.group.id());
        for chunk in doomed.chunks(TOMBSTONES_PER_BATCH) {
            let mut batch = self.batch();
            for (topic, partition) in chunk {
                batch.put_tombstone(|key| put_offset_key(key, &group_id, topic, *partition));
            }
            let base = self.append_tombstones(cell, batch)?;
            for ((topic, partition), record_offset) in chunk.iter().zip(base..) {
                entry.offsets.remove(topic, *partition, record_offset);
            }
        }
        Ok(())
    }

    /// Tombstones are not waited for: whoever leads next would at worst expire the same once more.
    fn append_tombstones(&self, cell: &Cell, batch: BatchWriter) -> Result<i64, ErrorCode> {
        let options = AppendOptions { required_acks: 0, ..self.append_options(&cell.home) };
        let appended = self.partitions.log.append(&cell.home.tp, batch.finish()?, options);
        appended.map(|appended| appended.base_offset.get()).map_err(|error| match error {
            ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
            other => other,
        })
    }

    /// Ends an empty group. One that never had a generation has no record to be deleted.
    fn bury(&self, owned: &OwnedPartition, cell: &Arc<Cell>, entry: &mut Entry, cx: &mut Cx<'_>) {
        let group_id = Arc::clone(entry.group.id());
        if entry.group.generation() > 0 {
            let mut batch = self.batch();
            batch.put_tombstone(|key| put_group_key(key, &group_id));
            if let Err(error) = self.append_tombstones(cell, batch) {
                warn!(group = %group_id, %error, "a group's record could not be deleted");
            }
        }
        entry.group.die(ErrorCode::CoordinatorNotAvailable, cx);
        entry.offsets = super::offsets::GroupOffsets::default();
        owned.forget(cell, &group_id);
    }
}

/// Whether nobody needs the group any more.
fn is_idle(entry: &Entry) -> bool {
    let group = &entry.group;
    group.state() == GroupState::Empty && !group.has_pending_joins() && entry.offsets.is_empty()
}
