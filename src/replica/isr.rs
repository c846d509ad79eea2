//! Changes of the ISR as a leader proposes them (KIP-497): when a follower joins, when it leaves, and what becomes of a
//! proposal. Plain data over [`Leadership`].
//!
//! ```text
//!   Committed ──propose──> Pending ──controller agrees──> Committed (new ISR, new partition epoch)
//!       ^                     │ ──not attempted, ineligible──> Committed (as it was), once no attempt can be under way
//!       └──LeaderAndIsr───────┘ ──anything final──> stays pending until the controller tells a new state
//! ```
//!
//! While one is pending the high watermark waits for whoever is in the ISR or may be ([`Leadership::in_maximal_isr`]), and
//! min.insync.replicas counts only who surely is. Nothing else is proposed meanwhile.

use super::leadership::Leadership;
use super::metadata_cache::BrokerIds;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicPartition};

/// A change under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingIsr {
    /// The ISR as it would be.
    pub isr: BrokerIds,
    /// The partition epoch it is proposed on.
    pub partition_epoch: i32,
}

/// What is sent to the controller for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The epoch of this leader.
    pub leader_epoch: LeaderEpoch,
    /// The version of the state that it changes.
    pub partition_epoch: i32,
    /// Who shall be in sync, with the lives of the brokers as far as they are known (KIP-903).
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// The controller's answer for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrState {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The version of the state.
    pub partition_epoch: i32,
    /// The ISR that holds.
    pub isr: BrokerIds,
}

/// What was heard of the times a proposal was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// All were answered: the answer is the last word.
    Answered,
    /// Of some it is not known whether they arrived: they may be yet to come, and be taken in.
    Open,
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The partition has moved on; nothing changed.
    Obsolete,
    /// The ISR is what the controller says.
    Committed,
    /// As before the proposal; it may be made again.
    Withdrawn,
    /// It may hold or not: the controller will tell the state.
    Unknown,
    /// It is to be sent again.
    Retry,
}

/// Tells who may be in the ISR at all.
pub trait IsrEligibility: Send + Sync {
    /// Whether `broker` lives, in the life in which it fetched last (-1 where it did not say).
    fn is_eligible(&self, broker: BrokerId, fetched_in: BrokerEpoch) -> bool;

    /// Whether that life of `broker` is certainly over: no controller that is told of it takes it in any more.
    fn is_over(&self, broker: BrokerId, life: BrokerEpoch) -> bool;
}

/// Who leads tells nothing of brokers: everybody may.
pub struct Everybody;

impl IsrEligibility for Everybody {
    fn is_eligible(&self, _broker: BrokerId, _fetched_in: BrokerEpoch) -> bool {
        true
    }

    fn is_over(&self, _broker: BrokerId, _life: BrokerEpoch) -> bool {
        false
    }
}

impl Leadership {
    /// Whether `broker` is in sync for the controller, now or once it has taken in the proposal under way. Who leaves by
    /// the proposal counts until it has left.
    pub fn in_maximal_isr(&self, broker: BrokerId) -> bool {
        self.isr.contains(&broker) || self.pending.as_ref().is_some_and(|pending| pending.isr.contains(&broker))
    }

    /// Proposes to take `broker` in, once it has all below the high watermark and all from before this leader's epoch
    /// (`Partition.maybeExpandIsr`).
    pub fn propose_expand(
        &mut self,
        broker: BrokerId,
        high_watermark: Offset,
        eligible: &dyn IsrEligibility,
    ) -> Option<BrokerIds> {
        if !self.is_leader() || self.pending.is_some() || self.isr.contains(&broker) {
            return None;
        }
        let follower = self.followers.iter().find(|f| f.broker == broker)?;
        let has_all = follower.log_end_offset >= high_watermark.max(self.epoch_start_offset);
        if !has_all || !eligible.is_eligible(broker, follower.broker_epoch) {
            return None;
        }
        let mut isr = self.isr.clone();
        isr.push(broker);
        self.pend(isr)
    }

    /// Proposes to leave out who has not caught up for `max_lag_ms` (`Partition.maybeShrinkIsr`), and who lost what was
    /// committed: a follower that fetches below the high watermark came back without its disk.
    pub fn propose_shrink(
        &mut self,
        me: BrokerId,
        log_end: Offset,
        high_watermark: Offset,
        now_ms: i64,
        max_lag_ms: i64,
    ) -> Option<BrokerIds> {
        if !self.is_leader() || self.pending.is_some() {
            return None;
        }
        let stays = |id: &BrokerId| {
            let follower = self.followers.iter().find(|f| f.broker == *id);
            *id == me
                || follower.is_some_and(|f| {
                    let lost = f.log_end_offset >= Offset::ZERO && f.log_end_offset < high_watermark;
                    !lost && f.is_caught_up(log_end, now_ms, max_lag_ms)
                })
        };
        let isr: BrokerIds = self.isr.iter().copied().filter(stays).collect();
        if isr.len() == self.isr.len() { None } else { self.pend(isr) }
    }

    fn pend(&mut self, isr: BrokerIds) -> Option<BrokerIds> {
        self.pending = Some(PendingIsr { isr: isr.clone(), partition_epoch: self.partition_epoch });
        Some(isr)
    }

    /// The proposal under way, as it is sent.
    pub fn proposal(&self, tp: &TopicPartition, me: BrokerId, my_epoch: BrokerEpoch) -> Option<IsrProposal> {
        let pending = self.pending.as_ref()?;
        let epoch_of = |id: BrokerId| match self.followers.iter().find(|f| f.broker == id) {
            _ if id == me => my_epoch,
            Some(follower) => follower.broker_epoch,
            None => BrokerEpoch::NONE,
        };
        Some(IsrProposal {
            topic_partition: tp.clone(),
            leader_epoch: self.leader_epoch,
            partition_epoch: pending.partition_epoch,
            isr: pending.isr.iter().map(|id| (*id, epoch_of(*id))).collect(),
        })
    }

    /// Takes in what the controller answered to `proposal` (`Partition.handleAlterPartitionUpdate` and `…Error`).
    ///
    /// A refusal leaves the state as it was, so an earlier attempt that is still on its way may find it so, and be taken in
    /// when whoever was refused may join. Kafka forgets the proposal nevertheless, and with it who holds the high
    /// watermark; here it stays, and is sent again until an answer settles it or until no attempt can succeed.
    pub fn isr_answered(
        &mut self,
        proposal: &IsrProposal,
        answer: Result<IsrState, ErrorCode>,
        attempts: Attempts,
        eligible: &dyn IsrEligibility,
    ) -> Outcome {
        let is_same = |pending: &PendingIsr| {
            pending.partition_epoch == proposal.partition_epoch
                && pending.isr.iter().eq(proposal.isr.iter().map(|(id, _)| id))
        };
        let current = self.leader_epoch == proposal.leader_epoch && self.pending.as_ref().is_some_and(is_same);
        // What an older proposal came to is news all the same, and nobody else tells it: what is pending is void by it.
        let is_news = answer.as_ref().is_ok_and(|state| state.partition_epoch > self.partition_epoch);
        if !(current || is_news) || !self.is_leader() {
            return Outcome::Obsolete;
        }
        match answer {
            Ok(state) if state.leader_epoch != self.leader_epoch => Outcome::Obsolete,
            Ok(state) if state.partition_epoch < self.partition_epoch => Outcome::Obsolete,
            Ok(state) => {
                self.isr = state.isr;
                self.partition_epoch = state.partition_epoch;
                self.pending = None;
                Outcome::Committed
            }
            Err(ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica) => {
                // The controller compares the lives of all members, of this leader too.
                let is_over = |(id, life): &(BrokerId, BrokerEpoch)| eligible.is_over(*id, *life);
                if attempts == Attempts::Open && !proposal.isr.iter().any(is_over) {
                    return Outcome::Retry;
                }
                self.pending = None;
                Outcome::Withdrawn
            }
            // Somebody else changed the state, or this leader is none any more: a LeaderAndIsr is on its way.
            Err(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected,
            ) => Outcome::Unknown,
            Err(_) => Outcome::Retry,
        }
    }
}

#[cfg(test)]
mod tests;
