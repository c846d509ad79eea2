//! Who leads one partition, who is in sync and how far the followers are: plain data and the rules over it. No log, no
//! lock, no clock: offsets and times are passed in.
//!
//! Invariants: the leader is in the ISR; the high watermark never passes the log end of an in-sync replica; leader epochs
//! and partition epochs only grow.

use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;

use super::isr::{IsrEligibility, PendingIsr};
use super::metadata_cache::BrokerIds;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, Offset};

/// What this broker is to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Not told yet.
    #[default]
    None,
    /// It takes the writes.
    Leader,
    /// It copies the leader.
    Follower,
}

/// How far one follower is, as its fetches told the leader (`Replica.scala`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerState {
    /// The follower.
    pub broker: BrokerId,
    /// The life of the broker that fetched last, from Fetch v15 on (KIP-903).
    pub broker_epoch: BrokerEpoch,
    /// Where its log starts.
    pub log_start_offset: Offset,
    /// The offset it asked for last: all before is on its disk.
    pub log_end_offset: Offset,
    /// When it last had all the leader had, in ms since 1970.
    pub last_caught_up_ms: i64,
    /// When it fetched last.
    pub last_fetch_ms: i64,
    /// The leader's log end when it fetched last.
    pub last_fetch_leader_log_end: Offset,
}

impl FollowerState {
    /// A follower of which nothing is known yet. One in the ISR gets its time to fetch.
    fn new(broker: BrokerId, in_sync: bool, now: i64) -> Self {
        Self {
            broker,
            broker_epoch: BrokerEpoch::NONE,
            log_start_offset: Offset::UNKNOWN,
            log_end_offset: Offset::UNKNOWN,
            last_caught_up_ms: if in_sync { now } else { 0 },
            last_fetch_ms: 0,
            last_fetch_leader_log_end: Offset::UNKNOWN,
        }
    }

    /// The same leader goes on in a new epoch (`Replica.resetReplicaState`).
    fn in_new_epoch(self, in_sync: bool, leader_log_end: Offset, now: i64) -> Self {
        let since = if in_sync { now } else { 0 };
        Self { last_caught_up_ms: since, last_fetch_ms: since, last_fetch_leader_log_end: leader_log_end, ..self }
    }

    /// Takes in a fetch from `offset` (`Replica.updateFetchStateOrThrow`). It is caught up if it asks for the leader's log
    /// end now, or for what was the log end when it fetched before. In a new life of its broker what it had before does
    /// not count (KIP-903).
    pub fn fetched(&mut self, offset: Offset, log_start: Offset, leader_log_end: Offset, epoch: BrokerEpoch, now: i64) {
        if epoch != self.broker_epoch && self.broker_epoch != BrokerEpoch::NONE {
            *self = Self::new(self.broker, false, now);
        }
        if offset >= leader_log_end {
            self.last_caught_up_ms = self.last_caught_up_ms.max(now);
        } else if offset >= self.last_fetch_leader_log_end {
            self.last_caught_up_ms = self.last_caught_up_ms.max(self.last_fetch_ms);
        }
        self.log_start_offset = log_start;
        self.log_end_offset = offset;
        self.last_fetch_leader_log_end = leader_log_end;
        self.last_fetch_ms = now;
        self.broker_epoch = epoch;
    }

    /// Whether it keeps up: all read, or all read within `max_lag_ms`, `replica.lag.time.max.ms`.
    pub fn is_caught_up(&self, leader_log_end: Offset, now: i64, max_lag_ms: i64) -> bool {
        self.log_end_offset == leader_log_end || now - self.last_caught_up_ms <= max_lag_ms
    }
}

/// The leadership of one partition as this broker knows it.
#[derive(Debug, Clone, Default)]
pub struct Leadership {
    /// What this broker is.
    pub role: Role,
    /// Who leads; `None` if nobody does or it was not told yet.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; -1 before the first LeaderAndIsr.
    pub leader_epoch: LeaderEpoch,
    /// The version of the state znode.
    pub partition_epoch: i32,
    /// The controller that decided.
    pub controller_epoch: ControllerEpoch,
    /// Assigned replicas.
    pub replicas: BrokerIds,
    /// Replicas that a reassignment adds.
    pub adding: BrokerIds,
    /// Replicas that a reassignment removes.
    pub removing: BrokerIds,
    /// In-sync replicas, this leader among them, as the controller has them.
    pub isr: BrokerIds,
    /// The change of them that this leader has proposed.
    pub pending: Option<PendingIsr>,
    /// The log end when this broker became leader in this epoch: consumers learn no offset below it (KIP-207).
    pub epoch_start_offset: Offset,
    /// The other replicas, if this broker leads.
    pub followers: Vec<FollowerState>,
}

/// What a LeaderAndIsr request changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was older than what is known; nothing changed.
    Stale,
    /// The role or the leader epoch is new.
    NewEpoch,
    /// The epoch is the same; ISR or replicas may have changed.
    SameEpoch,
}

impl Leadership {
    /// Before the first LeaderAndIsr.
    pub fn unknown() -> Self {
        Self { leader_epoch: LeaderEpoch::NONE, partition_epoch: -1, ..Self::default() }
    }

    /// Takes over as leader in the epoch of `state`, or takes in a new ISR (`Partition.makeLeader`).
    pub fn make_leader(
        &mut self,
        me: BrokerId,
        state: &LeaderAndIsrPartitionState,
        log_end: Offset,
        now: i64,
    ) -> Change {
        let was_leader = self.role == Role::Leader;
        let new_epoch = !was_leader || state.leader_epoch > self.leader_epoch.get();
        if !self.take_in(state) {
            return Change::Stale;
        }
        let known = std::mem::take(&mut self.followers);
        let others = self.replicas.iter().filter(|&&id| id != me);
        self.followers = others
            .map(|&id| {
                let in_sync = self.isr.contains(&id);
                match known.iter().find(|f| f.broker == id) {
                    Some(follower) if new_epoch => follower.in_new_epoch(in_sync, log_end, now),
                    Some(follower) => *follower,
                    None => FollowerState::new(id, in_sync, now),
                }
            })
            .collect();
        self.role = Role::Leader;
        if new_epoch {
            self.epoch_start_offset = log_end;
            return Change::NewEpoch;
        }
        Change::SameEpoch
    }

    /// Follows the leader of `state` (`Partition.makeFollower`).
    pub fn make_follower(&mut self, state: &LeaderAndIsrPartitionState) -> Change {
        let new_epoch = self.role != Role::Follower
            || state.leader_epoch > self.leader_epoch.get()
            || self.leader != Some(BrokerId(state.leader.0)).filter(|id| id.get() >= 0);
        if !self.take_in(state) {
            return Change::Stale;
        }
        self.role = Role::Follower;
        self.followers = Vec::new();
        self.isr.clear();
        if new_epoch { Change::NewEpoch } else { Change::SameEpoch }
    }

    /// The fields common to both; false if `state` is older than what is known.
    fn take_in(&mut self, state: &LeaderAndIsrPartitionState) -> bool {
        if state.leader_epoch < self.leader_epoch.get() || state.partition_epoch < self.partition_epoch {
            return false;
        }
        let is_known = state.leader_epoch == self.leader_epoch.get() && state.partition_epoch == self.partition_epoch;
        let ids = |list: &[kafka_protocol::messages::BrokerId]| list.iter().map(|id| BrokerId(id.0)).collect();
        self.leader = Some(BrokerId(state.leader.0)).filter(|id| id.get() >= 0);
        self.leader_epoch = LeaderEpoch(state.leader_epoch);
        self.partition_epoch = state.partition_epoch;
        self.controller_epoch = ControllerEpoch(state.controller_epoch);
        self.replicas = ids(&state.replicas);
        self.adding = ids(&state.adding_replicas);
        self.removing = ids(&state.removing_replicas);
        self.isr = ids(&state.isr);
        // A state that is known already (a new controller tells everything) says nothing of what was proposed since: the
        // controller may still take it in, and until it answers whoever joins by it holds the high watermark.
        if !is_known {
            self.pending = None;
        }
        true
    }

    /// Whether this broker leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Takes in a follower's fetch; false if that broker is no replica of this partition, or if an earlier life of it
    /// fetched.
    pub fn update_follower_fetch_state(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        fetch_offset: Offset,
        log_start: Offset,
        leader_log_end: Offset,
        now: i64,
    ) -> bool {
        match self.followers.iter_mut().find(|f| f.broker == broker) {
            Some(follower) if epoch != BrokerEpoch::NONE && epoch < follower.broker_epoch => false,
            Some(follower) => {
                follower.fetched(fetch_offset, log_start, leader_log_end, epoch, now);
                true
            }
            None => false,
        }
    }

    /// Where a follower's log starts, as its last fetch told.
    pub fn follower_log_start(&self, broker: BrokerId) -> Option<Offset> {
        self.followers.iter().find(|f| f.broker == broker).map(|f| f.log_start_offset)
    }

    /// The high watermark that the replicas allow: the smallest log end of the leader, the followers in sync or about to
    /// be, and those that have caught up and only wait to be taken into the ISR (`Partition.maybeIncrementLeaderHW`).
    pub fn high_watermark(&self, log_end: Offset, now: i64, max_lag_ms: i64, eligible: &dyn IsrEligibility) -> Offset {
        let waits_to_join = |f: &FollowerState| {
            f.is_caught_up(log_end, now, max_lag_ms) && eligible.is_eligible(f.broker, f.broker_epoch)
        };
        let counts = |f: &FollowerState| self.in_maximal_isr(f.broker) || waits_to_join(f);
        self.followers.iter().filter(|f| counts(f)).map(|f| f.log_end_offset).fold(log_end, Offset::min)
    }

    /// Whether everyone else who could be elected has fetched from this leader since `since`, in ms since 1970: whoever
    /// leads by now does so no more. With nobody else in sync nobody else can be elected.
    pub fn is_followed(&self, since: i64) -> bool {
        self.followers.iter().filter(|f| self.in_maximal_isr(f.broker)).all(|f| f.last_fetch_ms >= since)
    }

    /// Whether acks=all may be accepted with `min.insync.replicas`; a topic of fewer replicas is content with all of them.
    pub fn has_min_isr(&self, min_isr: i32) -> bool {
        self.isr.len() >= usize::try_from(min_isr).unwrap_or(0).min(self.replicas.len())
    }

    /// Compares a request's leader epoch with the known one (KIP-320); -1 is not compared.
    pub fn check_epoch(&self, requested: LeaderEpoch) -> Result<(), ErrorCode> {
        match requested {
            LeaderEpoch::NONE => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::isr::Everybody;
    use kafka_protocol::messages::BrokerId as Wire;

    const ME: BrokerId = BrokerId(1);

    fn state(leader: i32, epoch: i32, partition_epoch: i32, isr: &[i32]) -> LeaderAndIsrPartitionState {
        LeaderAndIsrPartitionState::default()
            .with_leader(Wire(leader))
            .with_leader_epoch(epoch)
            .with_partition_epoch(partition_epoch)
            .with_isr(isr.iter().map(|&id| Wire(id)).collect())
            .with_replicas(vec![Wire(1), Wire(2), Wire(3)])
    }

    fn leading(isr: &[i32]) -> Leadership {
        let mut leadership = Leadership::unknown();
        assert_eq!(leadership.make_leader(ME, &state(1, 4, 0, isr), Offset(10), 0), Change::NewEpoch);
        leadership
    }

    fn fetch(leadership: &mut Leadership, broker: i32, offset: i64, log_end: i64, now: i64) -> bool {
        let (epoch, start) = (BrokerEpoch::NONE, Offset::ZERO);
        leadership.update_follower_fetch_state(BrokerId(broker), epoch, Offset(offset), start, Offset(log_end), now)
    }

    #[test]
    fn the_high_watermark_is_the_smallest_log_end_in_sync() {
        let mut leadership = leading(&[1, 2]);
        assert_eq!(leadership.high_watermark(Offset(20), 100_000, 30_000, &Everybody), Offset::UNKNOWN);
        assert!(fetch(&mut leadership, 2, 15, 20, 100_000));
        assert_eq!(leadership.high_watermark(Offset(20), 100_000, 30_000, &Everybody), Offset(15));
        assert!(fetch(&mut leadership, 3, 12, 12, 100_000));
        assert_eq!(
            leadership.high_watermark(Offset(20), 100_000, 30_000, &Everybody),
            Offset(12),
            "3 has caught up, and waits"
        );
        assert_eq!(
            leadership.high_watermark(Offset(20), 140_000, 30_000, &Everybody),
            Offset(15),
            "3 has fallen behind"
        );
        assert!(!fetch(&mut leadership, 9, 12, 12, 100_000));
        assert_eq!(leading(&[1]).high_watermark(Offset(20), 100_000, 30_000, &Everybody), Offset(20), "alone in sync");
    }

    #[test]
    fn a_follower_is_caught_up_by_what_the_log_end_was() {
        let mut leadership = leading(&[1, 2, 3]);
        fetch(&mut leadership, 2, 10, 20, 1_000);
        assert_eq!(leadership.followers[0].last_caught_up_ms, 0);
        fetch(&mut leadership, 2, 20, 30, 2_000);
        assert_eq!(leadership.followers[0].last_caught_up_ms, 1_000, "it had all that was there at its last fetch");
        fetch(&mut leadership, 2, 30, 30, 3_000);
        assert_eq!(leadership.followers[0].last_caught_up_ms, 3_000);
    }

    #[test]
    fn old_epochs_change_nothing() {
        let mut leadership = leading(&[1]);
        assert_eq!(leadership.make_leader(ME, &state(1, 3, 9, &[1]), Offset(0), 0), Change::Stale);
        assert_eq!(leadership.make_leader(ME, &state(1, 4, 2, &[1, 2]), Offset(50), 0), Change::SameEpoch);
        assert_eq!(leadership.epoch_start_offset, Offset(10), "only a new epoch moves it");
        assert_eq!(leadership.make_follower(&state(2, 4, 1, &[2])), Change::Stale);
        assert!(leadership.is_leader());
        assert_eq!(leadership.make_follower(&state(2, 5, 3, &[2])), Change::NewEpoch);
        assert_eq!((leadership.role, leadership.leader), (Role::Follower, Some(BrokerId(2))));
    }

    #[test]
    fn epochs_are_fenced_both_ways() {
        let leadership = leading(&[1]);
        assert_eq!(leadership.check_epoch(LeaderEpoch::NONE), Ok(()));
        assert_eq!(leadership.check_epoch(LeaderEpoch(4)), Ok(()));
        assert_eq!(leadership.check_epoch(LeaderEpoch(3)), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(leadership.check_epoch(LeaderEpoch(5)), Err(ErrorCode::UnknownLeaderEpoch));
    }

    #[test]
    fn min_isr_asks_for_no_more_than_there_are_replicas() {
        let leadership = leading(&[1, 2]);
        assert!(leadership.has_min_isr(2) && !leadership.has_min_isr(3));
        let mut alone = Leadership::unknown();
        let mut state = state(1, 0, 0, &[1]);
        state.replicas = vec![Wire(1)];
        alone.make_leader(ME, &state, Offset(0), 0);
        assert!(alone.has_min_isr(2), "as Partition.effectiveMinIsr has it");
    }
}
