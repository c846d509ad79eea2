//! JoinGroup: who is let in, under which id, and whether that takes a rebalance.

use std::sync::Arc;

use bytes::Bytes;

use super::effect::{Cx, Effect, JoinReply, StaticRejoin, Store, Stored, Ticket};
use super::member::{JoinRequest, Member, MemberId, Protocol};
use super::state::{Group, GroupState};
use crate::base::error::ErrorCode;

/// How long a new member may wait for its first answer: it does not know its id, so it sends no heartbeats, and nobody
/// would notice that it is gone.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

impl Group {
    /// A JoinGroup request. Its answer comes as an effect, now or when the rebalance is complete.
    pub fn join(&mut self, mut request: JoinRequest, ticket: Ticket, cx: &mut Cx<'_>) {
        cx.client_reason = request.reason.take();
        if !self.accepts(&request.member_id, cx.config.max_size) {
            if let Some(member) = self.remove_member(&request.member_id) {
                self.dismiss(member, ErrorCode::GroupMaxSizeReached, cx);
            }
            self.pending_joins.remove(&request.member_id);
            cx.reply_join(ticket, JoinReply::error("", ErrorCode::GroupMaxSizeReached));
        } else if request.member_id.is_empty() {
            self.join_as_new(request, ticket, cx);
        } else {
            self.join_as_known(request, ticket, cx);
        }
        self.maybe_complete_join(cx);
    }

    /// Whether there is room for the member. Those that wait count while a rebalance is prepared, so that the last to
    /// rejoin are turned away when the limit was lowered; in other states the members do.
    fn accepts(&self, member_id: &str, max_size: i32) -> bool {
        let has_room = |count: usize| i32::try_from(count).is_ok_and(|count| count < max_size);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let waits = |member: &Member| member.awaiting_join.is_some();
                self.members.get(member_id).is_some_and(waits) || has_room(self.awaiting_join)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || has_room(self.members.len())
            }
        }
    }

    /// What no JoinGroup may lack, whoever sends it.
    fn validate_join(&self, request: &JoinRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let supported = if self.state == GroupState::Empty {
            !request.protocol_type.is_empty() && !request.protocols.is_empty()
        } else {
            self.protocol_type.as_ref() == Some(&request.protocol_type)
                && request.protocols.iter().any(|protocol| self.is_candidate(&protocol.name))
        };
        if supported { Ok(()) } else { Err(ErrorCode::InconsistentGroupProtocol) }
    }

    fn join_as_new(&mut self, request: JoinRequest, ticket: Ticket, cx: &mut Cx<'_>) {
        if let Err(error) = self.validate_join(&request) {
            return cx.reply_join(ticket, JoinReply::error("", error));
        }
        let current = request.group_instance_id.as_ref().map(|id| self.static_members.get(id).cloned());
        match current {
            Some(Some(former_id)) => self.replace_static_member(&former_id, request, ticket, cx),
            Some(None) => self.add_and_rebalance(Arc::clone(&request.new_member_id), request, ticket, cx),
            None if request.require_known_member_id => {
                let deadline = cx.after(request.session_timeout_ms);
                self.pending_joins.insert(Arc::clone(&request.new_member_id), deadline);
                cx.reply_join(ticket, JoinReply::error(request.new_member_id, ErrorCode::MemberIdRequired));
            }
            None => self.add_and_rebalance(Arc::clone(&request.new_member_id), request, ticket, cx),
        }
    }

    fn join_as_known(&mut self, request: JoinRequest, ticket: Ticket, cx: &mut Cx<'_>) {
        let id = Arc::clone(&request.member_id);
        if let Err(error) = self.validate_join(&request) {
            return cx.reply_join(ticket, JoinReply::error(id, error));
        }
        if self.pending_joins.contains_key(&id) {
            if request.group_instance_id.is_some() {
                // Ids are only held back for dynamic members.
                return cx.reply_join(ticket, JoinReply::error(id, ErrorCode::UnknownMemberId));
            }
            return self.add_and_rebalance(id, request, ticket, cx);
        }
        if let Err(error) = self.validate_member(&id, request.group_instance_id.as_deref()) {
            return cx.reply_join(ticket, JoinReply::error(id, error));
        }
        let unchanged = self.members.get(&id).is_some_and(|member| member.protocols == request.protocols);
        match self.state {
            // A retry by one that did not get its answer.
            GroupState::CompletingRebalance if unchanged => {
                cx.reply_join(ticket, self.join_reply_with_members(&id));
            }
            // A follower without news gets the generation it is in, and fetches its assignment by SyncGroup. A leader
            // rejoins when it wants a new assignment made.
            GroupState::Stable if unchanged && !self.is_leader(&id) => {
                cx.reply_join(ticket, self.join_reply(&id));
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(&id, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
                self.await_join(&id, ticket, cx);
                self.maybe_prepare_rebalance("a member rejoined with news", cx);
            }
            GroupState::Empty | GroupState::Dead => {
                cx.reply_join(ticket, JoinReply::error(id, ErrorCode::UnknownMemberId));
            }
        }
    }

    fn add_and_rebalance(&mut self, id: MemberId, request: JoinRequest, ticket: Ticket, cx: &mut Cx<'_>) {
        if self.state == GroupState::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&request.protocol_type));
        }
        let mut member = Member::new(id, &request);
        member.is_new = true;
        member.awaiting_join = Some(ticket);
        member.session_deadline = cx.after(NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.add_member(member);
        self.maybe_prepare_rebalance("a new member joined", cx);
    }

    /// Notes what a member sent with its JoinGroup.
    fn update_member(
        &mut self,
        id: &str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) -> Option<Member> {
        let mut member = self.members.remove(id)?;
        let former = member.clone();
        self.count_protocols(&member, false);
        member.protocols = protocols;
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        self.count_protocols(&member, true);
        self.members.insert(Arc::clone(&member.id), member);
        Some(former)
    }

    /// Lets a member wait for the rebalance. If an earlier request of it still does, its connection is most likely gone:
    /// it is told to join again.
    fn await_join(&mut self, id: &str, ticket: Ticket, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        match member.awaiting_join.replace(ticket) {
            Some(former) => {
                let reply = JoinReply::error(Arc::clone(&member.id), ErrorCode::RebalanceInProgress);
                cx.reply_join(former, reply);
            }
            None => self.awaiting_join += 1,
        }
    }

    /// A static member came back under a new id: the former one is fenced at once, and its place taken (KIP-345).
    fn replace_static_member(&mut self, former_id: &str, request: JoinRequest, ticket: Ticket, cx: &mut Cx<'_>) {
        let former_leader = self.leader.clone();
        let led = self.is_leader(former_id);
        let Some(mut member) = self.remove_member(former_id) else { return };
        let synced = !matches!(self.state, GroupState::CompletingRebalance);
        self.dismiss(member.clone(), ErrorCode::FencedInstanceId, cx);
        (member.awaiting_join, member.awaiting_sync) = (None, None);
        let former = member.clone();
        let new_id = Arc::clone(&request.new_member_id);
        member.id = Arc::clone(&new_id);
        member.client_id = Arc::clone(&request.client_id);
        member.client_host = Arc::clone(&request.client_host);
        member.is_new = false;
        self.add_member(member);
        if led {
            self.leader = Some(Arc::clone(&new_id));
        }
        self.restart_session(&new_id, cx);
        self.update_member(&new_id, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
        self.await_join(&new_id, ticket, cx);
        if self.state == GroupState::Stable && self.select_protocol() == self.protocol_name {
            let rejoin = StaticRejoin {
                generation: self.generation,
                instance_id: request.group_instance_id.unwrap_or_default(),
                member_id: new_id,
                former,
                former_leader,
                skip_assignment: request.supports_skip_assignment,
            };
            let then = Stored::StaticRejoin(Box::new(rejoin));
            return cx.effects.push(Effect::Store(Store { value: self.encode(None), then }));
        }
        let reason = if synced { "a static member changed the protocols" } else { "a static member came back" };
        self.maybe_prepare_rebalance(reason, cx);
    }

    /// The record that lets a static member back in is stored, or not.
    pub(super) fn on_static_rejoin_stored(
        &mut self,
        rejoin: StaticRejoin,
        result: Result<(), ErrorCode>,
        cx: &mut Cx<'_>,
    ) {
        let id = &rejoin.member_id;
        let still_there = self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if !still_there || self.state != GroupState::Stable || self.generation != rejoin.generation {
            // Meanwhile a rebalance began, in which the member counts as joined; or it is gone.
            return;
        }
        if let Err(error) = result {
            let mut reply = self.join_reply(id);
            (reply.error, reply.member_id) = (error, "".into());
            reply.leader = rejoin.former_leader.unwrap_or_default();
            self.answer_join(id, reply, cx);
            return self.undo_static_rejoin(id, rejoin.former, cx);
        }
        let leads = self.is_leader(id);
        let reply = if rejoin.skip_assignment {
            JoinReply { skip_assignment: leads, ..self.join_reply_with_members(id) }
        } else {
            // Before v9 the former leader's id is given, so that nobody makes an assignment that nobody would hand out.
            JoinReply { leader: rejoin.former_leader.unwrap_or_default(), ..self.join_reply(id) }
        };
        self.answer_join(id, reply, cx);
        self.restart_session(id, cx);
    }

    fn undo_static_rejoin(&mut self, id: &str, former: Member, cx: &mut Cx<'_>) {
        let led = self.is_leader(id);
        let former_id = Arc::clone(&former.id);
        self.remove_member(id);
        self.add_member(former);
        if led {
            self.leader = Some(Arc::clone(&former_id));
        }
        self.restart_session(&former_id, cx);
    }
}

/// Copies protocols off a request's frame, each name once (the first of equals counts).
pub fn own_protocols<'a>(protocols: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<Protocol> {
    let mut out: Vec<Protocol> = Vec::new();
    for (name, metadata) in protocols {
        if out.iter().all(|known| &*known.name != name) {
            out.push(Protocol { name: name.into(), metadata: Bytes::copy_from_slice(metadata) });
        }
    }
    out
}
