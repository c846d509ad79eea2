//! SyncGroup, Heartbeat, and the right to commit offsets.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use super::effect::{Cx, Effect, Store, Stored, SyncReply, Ticket};
use super::member::MemberId;
use super::state::{Group, GroupState};
use crate::base::error::ErrorCode;

/// A SyncGroup request, free of wire versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The generation the member joined.
    pub generation: i32,
    /// Its id.
    pub member_id: MemberId,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<Arc<str>>,
    /// The protocol type it believes in (v5).
    pub protocol_type: Option<Arc<str>>,
    /// The protocol it believes in (v5).
    pub protocol_name: Option<Arc<str>>,
    /// The leader's assignment; empty from followers.
    pub assignment: HashMap<MemberId, Bytes>,
}

impl Group {
    /// A SyncGroup request. Its answer comes as an effect, now or when the leader's assignment is stored.
    pub fn sync(&mut self, request: SyncRequest, ticket: Ticket, cx: &mut Cx<'_>) {
        if let Err(error) = self.validate_sync(&request) {
            return cx.reply_sync(ticket, SyncReply::error(error));
        }
        let id = &request.member_id;
        match self.state {
            GroupState::CompletingRebalance => {
                self.await_sync(id, ticket, cx);
                self.pending_syncs.remove(id);
                // A leader that lost its answer may send another assignment. Were it stored too, members would have the first,
                // and those who ask the next coordinator the second. (The simulator found this; Kafka stores both.)
                if self.is_leader(id) && !self.is_storing_assignment {
                    self.store_assignment(request.assignment, cx);
                }
            }
            GroupState::Stable => {
                self.pending_syncs.remove(id);
                if let Some(member) = self.members.get(id) {
                    cx.reply_sync(ticket, self.sync_reply(member));
                }
                self.restart_session(id, cx);
            }
            GroupState::PreparingRebalance => {
                cx.reply_sync(ticket, SyncReply::error(ErrorCode::RebalanceInProgress));
            }
            GroupState::Empty | GroupState::Dead => {
                cx.reply_sync(ticket, SyncReply::error(ErrorCode::UnknownMemberId));
            }
        }
        if self.pending_syncs.is_empty() {
            self.sync_deadline = None;
        }
    }

    fn validate_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        self.validate_member_of(request.generation, &request.member_id, request.group_instance_id.as_deref())?;
        let differs = |asked: &Option<Arc<str>>, ours: &Option<Arc<str>>| asked.is_some() && asked != ours;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// An earlier SyncGroup of the same member has most likely lost its connection: it is told to join again.
    fn await_sync(&mut self, id: &str, ticket: Ticket, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(former) = member.awaiting_sync.replace(ticket) {
            cx.reply_sync(former, SyncReply::error(ErrorCode::RebalanceInProgress));
        }
    }

    /// Members that the leader left out get an empty assignment; ids that are no members are left out.
    fn store_assignment(&mut self, mut assignment: HashMap<MemberId, Bytes>, cx: &mut Cx<'_>) {
        assignment.retain(|id, _| self.members.contains_key(id));
        info!(group = %self.id, generation = self.generation, members = self.members.len(), "assignment received");
        self.is_storing_assignment = true;
        let value = self.encode(Some(&assignment));
        let then = Stored::Assignment { generation: self.generation, assignment };
        cx.effects.push(Effect::Store(Store { value, then }));
    }

    /// A record of the group is in the log, or could not be put there.
    pub fn on_stored(&mut self, then: Stored, result: Result<(), ErrorCode>, cx: &mut Cx<'_>) {
        match then {
            Stored::Empty => {
                if let Err(error) = result {
                    // The generation before comes back if this broker fails now; its members are gone, so it ends soon.
                    warn!(group = %self.id, %error, "could not note that the group is empty");
                }
            }
            Stored::Assignment { generation, assignment } => {
                if self.state == GroupState::CompletingRebalance && self.generation == generation {
                    self.on_assignment_stored(assignment, result, cx);
                }
            }
            Stored::StaticRejoin(rejoin) => self.on_static_rejoin_stored(*rejoin, result, cx),
        }
    }

    fn on_assignment_stored(
        &mut self,
        mut assignment: HashMap<MemberId, Bytes>,
        result: Result<(), ErrorCode>,
        cx: &mut Cx<'_>,
    ) {
        if let Err(error) = result {
            warn!(group = %self.id, %error, "could not store the assignment");
            self.fail_syncs(error, cx);
            return self.maybe_prepare_rebalance("the assignment could not be stored", cx);
        }
        for (id, member) in &mut self.members {
            member.assignment = assignment.remove(id).unwrap_or_default();
        }
        self.transition_to(GroupState::Stable, cx);
        let waiting = self.members.values().filter(|m| m.awaiting_sync.is_some()).map(|m| Arc::clone(&m.id));
        for id in waiting.collect::<Vec<_>>() {
            self.answer_sync(&id, cx);
            self.restart_session(&id, cx);
        }
    }

    fn answer_sync(&mut self, id: &str, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let Some(ticket) = member.awaiting_sync.take() else { return };
        if let Some(member) = self.members.get(id) {
            cx.reply_sync(ticket, self.sync_reply(member));
        }
    }

    /// A Heartbeat.
    ///
    /// # Errors
    /// `RebalanceInProgress` asks the member to join again; the others say why it is none.
    pub fn heartbeat(
        &mut self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
        cx: &mut Cx<'_>,
    ) -> Result<(), ErrorCode> {
        self.validate_member_of(generation, member_id, instance_id)?;
        match self.state {
            GroupState::Empty | GroupState::Dead => return Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {}
        }
        self.restart_session(member_id, cx);
        if self.state == GroupState::PreparingRebalance { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
    }

    /// Whether a member, or a consumer outside the group's management (generation -1), may commit offsets now. Counts as
    /// a member's heartbeat.
    ///
    /// # Errors
    /// Why not.
    pub fn offset_commit(
        &mut self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
        cx: &mut Cx<'_>,
    ) -> Result<(), ErrorCode> {
        let is_simple = generation < 0 && self.state == GroupState::Empty;
        if !is_simple && self.state != GroupState::Dead {
            self.validate_member_of(generation, member_id, instance_id)?;
        }
        match self.state {
            GroupState::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            // The member has the new generation's JoinGroup answer but no assignment yet: it must not commit by the old.
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty => Ok(()),
            GroupState::PreparingRebalance | GroupState::Stable => {
                self.restart_session(member_id, cx);
                Ok(())
            }
        }
    }

    /// Whether a transaction may commit offsets for the group (KIP-447). Older clients name neither member nor generation.
    /// No sign of life: it comes from a producer, which may outlive its consumer's heartbeats.
    ///
    /// # Errors
    /// Why not.
    pub fn txn_offset_commit(
        &self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let is_simple = generation < 0 && self.state == GroupState::Empty;
        let says_who = generation >= 0 || !member_id.is_empty() || instance_id.is_some();
        if says_who && !is_simple { self.validate_member_of(generation, member_id, instance_id) } else { Ok(()) }
    }
}
