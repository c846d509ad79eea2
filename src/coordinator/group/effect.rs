//! What a group asks of the shell around it: answers to those who wait, and appends to its log.

use std::collections::HashMap;

use bytes::Bytes;

use super::config::GroupConfig;
use super::member::MemberId;
use crate::base::error::ErrorCode;

/// Names one waiting JoinGroup or SyncGroup request. The shell hands them out; each is answered exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The two readings of the time that a group needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970: what is written to the log.
    pub wall_ms: i64,
    /// Milliseconds that never jump: what deadlines are reckoned in.
    pub mono_ms: i64,
}

/// What every event comes with.
pub struct Cx<'a> {
    /// The time of the event.
    pub now: Now,
    /// The broker's settings.
    pub config: &'a GroupConfig,
    /// Why the client says it joins or leaves (KIP-800); for the log only.
    pub client_reason: Option<MemberId>,
    /// Where effects go, in the order in which they are to be carried out.
    pub effects: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    /// The deadline `ms` from now.
    pub(super) fn after(&self, ms: i32) -> i64 {
        self.now.mono_ms.saturating_add(i64::from(ms))
    }

    pub(super) fn reply_join(&mut self, ticket: Ticket, reply: JoinReply) {
        self.effects.push(Effect::Join(ticket, reply));
    }

    pub(super) fn reply_sync(&mut self, ticket: Ticket, reply: SyncReply) {
        self.effects.push(Effect::Sync(ticket, reply));
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a JoinGroup.
    Join(Ticket, JoinReply),
    /// Answer a SyncGroup.
    Sync(Ticket, SyncReply),
    /// Append the group's record; then tell the group with [`super::state::Group::on_stored`].
    Store(Store),
}

/// A group's record on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The record's value.
    pub value: Bytes,
    /// What hangs on it.
    pub then: Stored,
}

/// What a group goes on with once its record is stored, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing: an empty generation was noted.
    Empty,
    /// The leader's assignment becomes the group's.
    Assignment {
        /// The generation it was made for.
        generation: i32,
        /// What each member gets.
        assignment: HashMap<MemberId, Bytes>,
    },
    /// A static member that came back under a new id is let in without a rebalance (KIP-345, KIP-814).
    StaticRejoin(Box<StaticRejoin>),
}

/// What is needed to let a static member in, or to undo its coming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRejoin {
    /// The generation it came back into.
    pub generation: i32,
    /// Its `group.instance.id`.
    pub instance_id: MemberId,
    /// Its new id.
    pub member_id: MemberId,
    /// The member as it was, under its former id.
    pub former: super::member::Member,
    /// Who led the group before.
    pub former_leader: Option<MemberId>,
    /// Whether the client understands `SkipAssignment` (JoinGroup v9).
    pub skip_assignment: bool,
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// What went wrong, or `None`.
    pub error: ErrorCode,
    /// The member's id; empty where the client is to forget the one it has.
    pub member_id: MemberId,
    /// The generation joined; -1 on errors.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<MemberId>,
    /// The protocol chosen.
    pub protocol_name: Option<MemberId>,
    /// The leader's id; empty on errors.
    pub leader: MemberId,
    /// Whether the leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// For the leader: every member with what it sent for the chosen protocol.
    pub members: Vec<JoinMember>,
}

/// A member as the leader gets to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<MemberId>,
    /// What it sent for the chosen protocol.
    pub metadata: Bytes,
}

impl JoinReply {
    /// An answer that says only what went wrong.
    pub fn error(member_id: impl Into<MemberId>, error: ErrorCode) -> Self {
        Self {
            error,
            member_id: member_id.into(),
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: "".into(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// The answer to a SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// What went wrong, or `None`.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<MemberId>,
    /// The protocol chosen.
    pub protocol_name: Option<MemberId>,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}

impl SyncReply {
    /// An answer that says only what went wrong.
    pub fn error(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}
