//! A group's state: members, generation, leader, and in which of five states it is.
//!
//! ```text
//!            first join                    all joined, or time is up         leader's assignment stored
//!   Empty ---------------> PreparingRebalance ----------------> CompletingRebalance ---------------> Stable
//!     ^                       |   ^      ^                              |                              |
//!     +-- nobody joined ------+   |      +-- member joins or goes ------+                              |
//!                                 +-- member joins, leaves, falls silent ------------------------------+
//!   any --> Dead: unloaded, deleted, or empty without offsets
//! ```
//!
//! Invariants: generations grow; outside Empty and Dead a group with members has one leader, who is one of them; every
//! waiting request is answered once; counters agree with the members ([`Group::check`]). Knows no I/O and no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::consumer_protocol;
use super::effect::{Cx, JoinMember, JoinReply, SyncReply};
use super::member::{Member, MemberId};
use crate::base::error::ErrorCode;

/// The states of a group, as Kafka names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No member; perhaps committed offsets.
    Empty,
    /// Waits for all members to join.
    PreparingRebalance,
    /// All have joined; waits for the leader's assignment.
    CompletingRebalance,
    /// Every member has, or may fetch, its assignment.
    Stable,
    /// Gone from this broker.
    Dead,
}

impl GroupState {
    /// Kafka's name, as ListGroups and DescribeGroups give it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// The states from which this one may be reached.
    const fn valid_previous(self) -> &'static [GroupState] {
        match self {
            Self::Empty => &[Self::PreparingRebalance],
            Self::PreparingRebalance => &[Self::Stable, Self::CompletingRebalance, Self::Empty],
            Self::CompletingRebalance => &[Self::PreparingRebalance],
            Self::Stable => &[Self::CompletingRebalance],
            Self::Dead => &[Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable, Self::Dead],
        }
    }
}

/// What PreparingRebalance waits for, besides the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinPhase {
    /// The first rebalance of an empty group waits for `group.initial.rebalance.delay.ms`, longer while members come.
    Initial {
        /// When to look again.
        deadline: i64,
        /// How much longer it may be put off.
        remaining_ms: i32,
    },
    /// Waits for every member, until the longest of their rebalance time-outs.
    Delayed {
        /// When to go on without the missing.
        deadline: i64,
    },
}

/// A group of the classic protocol.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) id: Arc<str>,
    pub(super) state: GroupState,
    /// When it came into its state; not known of old records.
    pub(super) state_timestamp: Option<i64>,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol_name: Option<Arc<str>>,
    pub(super) generation: i32,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Instance id to member id.
    pub(super) static_members: HashMap<Arc<str>, MemberId>,
    /// Ids given out to clients that have yet to join with them (KIP-394), and when they lapse.
    pub(super) pending_joins: BTreeMap<MemberId, i64>,
    /// Members of this generation that have not sent a SyncGroup.
    pub(super) pending_syncs: BTreeSet<MemberId>,
    /// How many members support each protocol.
    pub(super) supported: HashMap<Arc<str>, usize>,
    /// How many members wait for a JoinGroup's answer.
    pub(super) awaiting_join: usize,
    pub(super) join_phase: Option<JoinPhase>,
    /// When members that sent no SyncGroup are removed.
    pub(super) sync_deadline: Option<i64>,
    /// Whether someone joined since the initial delay was last put off.
    pub(super) new_member_added: bool,
    /// Whether the leader's assignment for this generation is on its way into the log: no other may follow it there.
    pub(super) is_storing_assignment: bool,
}

impl Group {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_timestamp: None,
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            supported: HashMap::new(),
            awaiting_join: 0,
            join_phase: None,
            sync_deadline: None,
            new_member_added: false,
            is_storing_assignment: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Its state.
    pub fn state(&self) -> GroupState {
        self.state
    }

    /// When it came into its state, in milliseconds since 1970, if known.
    pub fn state_timestamp(&self) -> Option<i64> {
        self.state_timestamp
    }

    /// Its generation; 0 before the first rebalance.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The type of protocol its members speak, or spoke last.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol chosen for this generation.
    pub fn protocol_name(&self) -> Option<&Arc<str>> {
        self.protocol_name.as_ref()
    }

    /// The leader's member id.
    pub fn leader(&self) -> Option<&MemberId> {
        self.leader.as_ref()
    }

    /// Its members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many members it has.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Whether ids were given out with which nobody has joined yet.
    pub fn has_pending_joins(&self) -> bool {
        !self.pending_joins.is_empty()
    }

    /// Whether its members are Kafka's consumers.
    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(consumer_protocol::PROTOCOL_TYPE)
    }

    /// Moves to `state`.
    pub(super) fn transition_to(&mut self, state: GroupState, cx: &Cx<'_>) {
        assert!(
            state.valid_previous().contains(&self.state),
            "group {} may not go from {} to {}",
            self.id,
            self.state.name(),
            state.name()
        );
        self.state = state;
        self.state_timestamp = Some(cx.now.wall_ms);
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn can_rebalance(&self) -> bool {
        GroupState::PreparingRebalance.valid_previous().contains(&self.state)
    }

    /// The longest time any member may take to rejoin.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// That `member_id` is a member and, where an instance id comes with it, the one that holds it.
    pub(super) fn validate_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// That `member_id` may do something in `generation` of a group that is served here.
    pub(super) fn validate_member_of(
        &self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate_member(member_id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// Counts the silence of a member from now.
    pub(super) fn restart_session(&mut self, member_id: &str, cx: &Cx<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_deadline = cx.after(member.session_timeout_ms);
        }
    }

    pub(super) fn add_member(&mut self, member: Member) {
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        self.pending_joins.remove(&member.id);
        self.leader.get_or_insert_with(|| Arc::clone(&member.id));
        self.count_protocols(&member, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        let former = self.members.insert(Arc::clone(&member.id), member);
        debug_assert!(former.is_none(), "a member id is given out once");
    }

    /// Takes a member out, with whatever it waits for. The caller has answered it, or does.
    pub(super) fn remove_member(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.count_protocols(&member, false);
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.remove(instance_id);
        }
        self.pending_syncs.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    pub(super) fn count_protocols(&mut self, member: &Member, joins: bool) {
        for protocol in &member.protocols {
            let count = self.supported.entry(Arc::clone(&protocol.name)).or_default();
            *count = if joins { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }

    pub(super) fn is_candidate(&self, protocol: &str) -> bool {
        self.supported.get(protocol).is_some_and(|&count| count == self.members.len())
    }

    /// The protocol that most members wish for among those that all support; of equals, the one first in the alphabet.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(|name| self.is_candidate(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|&(_, count)| count == most).map(|(name, _)| Arc::clone(name))
    }

    /// Whether the consumers subscribe to `topic`; taken for granted where it cannot be told.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics().is_none_or(|topics| topics.contains(topic))
    }

    /// All topics the consumers subscribe to; `None` if that cannot be told.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        if !self.is_consumer_group() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription = member.metadata(self.protocol_name.as_deref()?)?;
            consumer_protocol::for_each_topic(subscription, |topic| {
                topics.insert(topic);
            })
            .ok()?;
        }
        Some(topics)
    }

    /// A successful answer to a member's JoinGroup, as of this generation.
    pub(super) fn join_reply(&self, member_id: &MemberId) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            member_id: Arc::clone(member_id),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            skip_assignment: false,
            members: Vec::new(),
        }
    }

    /// The same with all members, if the receiver leads them.
    pub(super) fn join_reply_with_members(&self, member_id: &MemberId) -> JoinReply {
        let mut reply = self.join_reply(member_id);
        if self.is_leader(member_id) {
            reply.members = self.join_members();
        }
        reply
    }

    fn join_members(&self) -> Vec<JoinMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let member = |member: &Member| JoinMember {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol).cloned().unwrap_or_default(),
        };
        self.members.values().map(member).collect()
    }

    pub(super) fn sync_reply(&self, member: &Member) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member.assignment.clone(),
        }
    }

    /// What the counters and cross references promise; for tests.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        assert_eq!(self.awaiting_join, self.members.values().filter(|m| m.awaiting_join.is_some()).count());
        for (id, member) in &self.members {
            assert_eq!(id, &member.id);
            if let Some(instance_id) = &member.group_instance_id {
                assert_eq!(self.static_members.get(instance_id), Some(id));
            }
            assert!(member.awaiting_sync.is_none() || self.state == GroupState::CompletingRebalance);
        }
        assert_eq!(self.static_members.len(), self.members.values().filter(|m| m.is_static()).count());
        let served = !matches!(self.state, GroupState::Empty | GroupState::Dead);
        assert_eq!(self.leader.is_some(), !self.members.is_empty());
        assert!(self.leader.iter().all(|leader| self.members.contains_key(leader)));
        assert!(served || self.members.is_empty());
        assert!(self.pending_syncs.iter().all(|id| self.members.contains_key(id)));
        assert!(self.pending_joins.keys().all(|id| !self.members.contains_key(id)));
        assert_eq!(self.join_phase.is_some(), self.state == GroupState::PreparingRebalance);
        let mut supported: HashMap<Arc<str>, usize> = HashMap::new();
        for protocol in self.members.values().flat_map(|m| &m.protocols) {
            *supported.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
        assert_eq!(self.supported, supported);
    }
}

#[cfg(test)]
mod tests;
