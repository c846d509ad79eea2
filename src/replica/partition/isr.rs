//! The ISR of a partition that this broker leads: when a change is to be proposed, and what the answer changes.

use std::sync::atomic::Ordering;

use super::Partition;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerEpoch;
use crate::base::purgatory::Event;
use crate::replica::isr::{Attempts, IsrProposal, IsrState, Outcome};

impl Partition {
    /// Proposes to leave out who lags (`Partition.maybeShrinkIsr`).
    pub fn maybe_shrink_isr(&self, my_epoch: BrokerEpoch, now_ms: i64) -> Option<IsrProposal> {
        // Most partitions have nobody who lags: no look of theirs takes the lock alone.
        if self.state.read().leadership.isr.len() < 2 {
            return None;
        }
        let mut state = self.state.write();
        let log = state.leader_log().ok()?;
        let (end, high_watermark) = (log.log_end_offset(), log.high_watermark());
        let leadership = &mut state.leadership;
        let isr = leadership.propose_shrink(self.me, end, high_watermark, now_ms, self.max_lag_ms)?;
        tracing::info!(
            "{}: proposes the ISR {isr:?} for {:?}: the others lag; the high watermark is {high_watermark}, the end {end}",
            self.topic_partition,
            leadership.isr
        );
        leadership.proposal(&self.topic_partition, self.me, my_epoch)
    }

    /// Takes in the controller's answer to a proposal.
    pub fn isr_answered(
        &self,
        proposal: &IsrProposal,
        answer: Result<IsrState, ErrorCode>,
        attempts: Attempts,
        now_ms: i64,
    ) -> Outcome {
        let mut state = self.state.write();
        if let Err(error) = &answer {
            tracing::info!("{}: the controller answers a proposed ISR: {}", self.topic_partition, error.message());
        }
        let outcome = state.leadership.isr_answered(proposal, answer, attempts, &*self.eligible);
        if outcome == Outcome::Committed {
            tracing::info!(
                "{}: the ISR is {:?}, partition epoch {}",
                self.topic_partition,
                state.leadership.isr,
                state.leadership.partition_epoch
            );
            if let Ok(log) = state.leader_log() {
                // A smaller ISR may let the high watermark rise.
                self.advance_high_watermark(&state.leadership, log, now_ms);
            }
            drop(state);
            self.waiters.wake(Event::HIGH_WATERMARK, i64::MAX);
        }
        outcome
    }

    /// Raises the high watermark if what held it back is gone: a broker that died, or left the ISR.
    pub fn maybe_advance_high_watermark(&self, now_ms: i64) {
        let state = self.state.read();
        let Ok(log) = state.leader_log() else { return };
        let advanced = self.advance_high_watermark(&state.leadership, log, now_ms);
        drop(state);
        if advanced {
            self.waiters.wake(Event::HIGH_WATERMARK, i64::MAX);
        }
    }

    /// Whether fewer are in sync than `min.insync.replicas` asks for.
    pub fn is_under_min_isr(&self) -> bool {
        let state = self.state.read();
        state.leadership.is_leader() && !state.leadership.has_min_isr(self.min_isr.load(Ordering::Relaxed))
    }
}
