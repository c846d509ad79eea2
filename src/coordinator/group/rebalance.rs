//! Rebalances: how they begin, when they are complete, and what time alone brings about.

use std::sync::Arc;

use bytes::Bytes;
use tracing::{error, info};

use super::effect::{Cx, Effect, JoinReply, Store, Stored, SyncReply};
use super::member::MemberId;
use super::state::{Group, GroupState, JoinPhase};
use crate::base::error::ErrorCode;

impl Group {
    /// Begins a rebalance if none is being prepared.
    pub(super) fn maybe_prepare_rebalance(&mut self, reason: &str, cx: &mut Cx<'_>) {
        if self.can_rebalance() {
            self.prepare_rebalance(reason, cx);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: &str, cx: &mut Cx<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(ErrorCode::RebalanceInProgress, cx);
        }
        self.sync_deadline = None;
        self.join_phase = Some(if self.state == GroupState::Empty {
            let delay_ms = cx.config.initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            JoinPhase::Initial { deadline: cx.after(delay_ms), remaining_ms }
        } else {
            JoinPhase::Delayed { deadline: cx.after(self.rebalance_timeout_ms()) }
        });
        self.transition_to(GroupState::PreparingRebalance, cx);
        let client_reason = cx.client_reason.as_deref();
        info!(group = %self.id, generation = self.generation, reason, client_reason, "preparing to rebalance");
        self.maybe_complete_join(cx);
    }

    /// Goes on if everyone has joined, or if the time for that is up.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono_ms;
        match self.join_phase {
            None => {}
            Some(JoinPhase::Initial { deadline, remaining_ms }) if now >= deadline => {
                self.end_initial_delay(remaining_ms, cx);
            }
            Some(JoinPhase::Initial { .. }) => {}
            Some(JoinPhase::Delayed { deadline }) => {
                let all_joined = self.awaiting_join == self.members.len() && self.pending_joins.is_empty();
                if all_joined || now >= deadline {
                    self.complete_join(cx);
                }
            }
        }
    }

    /// Puts the first rebalance off again while members keep coming (KIP-134).
    fn end_initial_delay(&mut self, remaining_ms: i32, cx: &mut Cx<'_>) {
        if !self.new_member_added || remaining_ms == 0 {
            return self.complete_join(cx);
        }
        self.new_member_added = false;
        let delay_ms = cx.config.initial_rebalance_delay_ms.min(remaining_ms);
        self.join_phase =
            Some(JoinPhase::Initial { deadline: cx.after(delay_ms), remaining_ms: (remaining_ms - delay_ms).max(0) });
    }

    /// Ends PreparingRebalance: removes the dynamic members that did not rejoin, and begins the next generation.
    fn complete_join(&mut self, cx: &mut Cx<'_>) {
        let missing = |group: &Self| -> Vec<MemberId> {
            let absent = group.members.values().filter(|m| m.awaiting_join.is_none() && !m.is_static());
            absent.map(|m| Arc::clone(&m.id)).collect()
        };
        let missing = missing(self);
        if !missing.is_empty() {
            info!(group = %self.id, members = ?missing, "removing members that did not rejoin");
        }
        for id in missing {
            self.remove_member(&id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none has joined: wait until they do, or until their sessions end.
            error!(group = %self.id, "no member rejoined; the rebalance goes on");
            self.join_phase = Some(JoinPhase::Delayed { deadline: cx.after(self.rebalance_timeout_ms().max(1)) });
            return;
        }
        self.join_phase = None;
        self.begin_generation(cx);
    }

    /// Gives the lead to a member that has joined, if the leader has not.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &MemberId| self.members.get(id).is_some_and(|m| m.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let new_leader = self.members.values().find(|m| m.awaiting_join.is_some()).map(|m| Arc::clone(&m.id));
        let found = new_leader.is_some();
        if found {
            self.leader = new_leader;
        }
        found
    }

    fn begin_generation(&mut self, cx: &mut Cx<'_>) {
        self.generation += 1;
        self.is_storing_assignment = false;
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.transition_to(GroupState::Empty, cx);
            info!(group = %self.id, generation = self.generation, "the group is now empty");
            cx.effects.push(Effect::Store(Store { value: self.encode(None), then: Stored::Empty }));
            return;
        }
        self.protocol_name = self.select_protocol();
        self.transition_to(GroupState::CompletingRebalance, cx);
        info!(group = %self.id, generation = self.generation, members = self.members.len(), "stabilized");
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.join_reply_with_members(&id);
            self.answer_join(&id, reply, cx);
            self.restart_session(&id, cx);
            self.pending_syncs.insert(id);
        }
        self.sync_deadline = Some(cx.after(self.rebalance_timeout_ms()));
    }

    /// Answers a member's JoinGroup, if it waits for one. It has been told its id by that.
    pub(super) fn answer_join(&mut self, member_id: &str, reply: JoinReply, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(ticket) = member.awaiting_join.take() {
            self.awaiting_join -= 1;
            cx.reply_join(ticket, reply);
        }
        member.is_new = false;
    }

    /// Forgets the assignment and answers every waiting SyncGroup with `error`.
    pub(super) fn fail_syncs(&mut self, error: ErrorCode, cx: &mut Cx<'_>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                cx.reply_sync(ticket, SyncReply::error(error));
                member.session_deadline = cx.after(member.session_timeout_ms);
            }
        }
    }

    /// When [`Group::on_time`] is next due; `None` if only an event can move the group.
    pub fn next_deadline(&self) -> Option<i64> {
        let join = match self.join_phase {
            Some(JoinPhase::Initial { deadline, .. } | JoinPhase::Delayed { deadline }) => Some(deadline),
            None => None,
        };
        let sessions = self.members.values().filter_map(super::member::Member::expires_at).min();
        let pending = self.pending_joins.values().copied().min();
        [join, sessions, pending, self.sync_deadline].into_iter().flatten().min()
    }

    /// Carries out what is due by now. Harmless when nothing is.
    pub fn on_time(&mut self, cx: &mut Cx<'_>) {
        if self.state == GroupState::Dead {
            return;
        }
        let now = cx.now.mono_ms;
        self.expire_pending_joins(now);
        self.expire_members(now, cx);
        self.expire_pending_syncs(now, cx);
        self.maybe_complete_join(cx);
    }

    fn expire_pending_joins(&mut self, now: i64) {
        let id = &self.id;
        self.pending_joins.retain(|member, deadline| {
            let stays = *deadline > now;
            if !stays {
                info!(group = %id, member = %member, "no join came with the member id given out");
            }
            stays
        });
    }

    fn expire_members(&mut self, now: i64, cx: &mut Cx<'_>) {
        let silent = self.members.values().filter(|m| m.expires_at().is_some_and(|deadline| deadline <= now));
        let silent: Vec<MemberId> = silent.map(|m| Arc::clone(&m.id)).collect();
        for id in silent {
            // An earlier removal may have completed a rebalance, which renewed this one's session.
            if self.members.get(&id).and_then(super::member::Member::expires_at).is_none_or(|deadline| deadline > now) {
                continue;
            }
            self.remove_and_rebalance(&id, "a member's heartbeat expired", cx);
        }
    }

    fn expire_pending_syncs(&mut self, now: i64, cx: &mut Cx<'_>) {
        if self.sync_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.sync_deadline = None;
        if self.pending_syncs.is_empty() || !self.can_rebalance() {
            return;
        }
        let late = std::mem::take(&mut self.pending_syncs);
        info!(group = %self.id, members = ?late, "removing members that sent no SyncGroup");
        for id in &late {
            if let Some(member) = self.remove_member(id) {
                self.dismiss(member, ErrorCode::UnknownMemberId, cx);
            }
        }
        self.maybe_prepare_rebalance("members sent no SyncGroup in time", cx);
    }
}
