//! LeaveGroup, and every other way out of a group.

use std::sync::Arc;

use tracing::info;

use super::effect::{Cx, JoinReply, SyncReply};
use super::member::{Member, MemberId};
use super::state::{Group, GroupState};
use crate::base::error::ErrorCode;

impl Group {
    /// One member leaves, or an administrator removes it by its `group.instance.id` with an empty member id (KIP-345).
    ///
    /// # Errors
    /// Why it is no member.
    pub fn leave(&mut self, member_id: &str, instance_id: Option<&str>, cx: &mut Cx<'_>) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if member_id.is_empty() {
            let current = instance_id.and_then(|id| self.static_members.get(id)).cloned();
            let current = current.ok_or(ErrorCode::UnknownMemberId)?;
            self.remove_and_rebalance(&current, "a static member was removed", cx);
        } else if self.pending_joins.remove(member_id).is_some() {
            info!(group = %self.id, member = member_id, "a pending member left");
            self.maybe_complete_join(cx);
        } else {
            self.validate_member(member_id, instance_id)?;
            self.remove_and_rebalance(member_id, "a member left", cx);
        }
        Ok(())
    }

    /// Takes a member out and lets the others rebalance.
    pub(super) fn remove_and_rebalance(&mut self, member_id: &str, reason: &str, cx: &mut Cx<'_>) {
        let Some(member) = self.remove_member(member_id) else { return };
        info!(group = %self.id, member = member_id, reason, "member removed");
        // The client forgets its id and, if it still lives, joins anew.
        self.dismiss(member, ErrorCode::UnknownMemberId, cx);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(reason, cx),
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Answers whatever a former member still waits for.
    pub(super) fn dismiss(&self, member: Member, error: ErrorCode, cx: &mut Cx<'_>) {
        if let Some(ticket) = member.awaiting_join {
            // The client is to forget an id that means nothing any more.
            let forget = matches!(error, ErrorCode::UnknownMemberId | ErrorCode::GroupMaxSizeReached);
            let id: MemberId = if forget { Arc::from("") } else { Arc::clone(&member.id) };
            cx.reply_join(ticket, JoinReply::error(id, error));
        }
        if let Some(ticket) = member.awaiting_sync {
            cx.reply_sync(ticket, SyncReply::error(error));
        }
    }

    /// The group is no longer served here: everyone who waits is sent to look for its coordinator, or told `error`.
    pub fn die(&mut self, error: ErrorCode, cx: &mut Cx<'_>) {
        for (_, member) in std::mem::take(&mut self.members) {
            self.dismiss(member, error, cx);
        }
        self.static_members.clear();
        self.pending_joins.clear();
        self.pending_syncs.clear();
        self.supported.clear();
        (self.awaiting_join, self.leader, self.join_phase, self.sync_deadline) = (0, None, None, None);
        self.transition_to(GroupState::Dead, cx);
    }
}
