//! Who shall lead: pure functions of replicas, ISR and who is alive (`PartitionLeaderElectionAlgorithms`).

use crate::base::ids::BrokerId;
use crate::zk::znodes::topics::LeaderAndIsr;

/// Why a leader is elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The partition has no leader.
    Offline {
        /// Whether a replica outside the ISR may lead as a last resort, at the cost of records.
        unclean: bool,
    },
    /// A reassignment moved the leader away.
    Reassignment,
    /// The first replica is to lead again.
    Preferred,
    /// The leader's broker asked to stop.
    ControlledShutdown,
}

/// What an election decides on.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// The replicas in order of preference; for a reassignment those it aims at.
    pub replicas: &'a [BrokerId],
    /// The replicas that are alive, stopping ones not among them except for [`Reason::ControlledShutdown`].
    pub live: &'a [BrokerId],
    /// Brokers that are stopping.
    pub shutting_down: &'a [BrokerId],
}

/// The new leader and ISR, or `None` if nobody may lead. The leader epoch is raised; the partition epoch is that of the
/// state given, to be checked when it is written.
pub fn elect(current: &LeaderAndIsr, candidates: Candidates<'_>, reason: Reason) -> Option<LeaderAndIsr> {
    let Candidates { replicas, live, shutting_down } = candidates;
    let in_sync = |id: &BrokerId| live.contains(id) && current.isr.contains(id);
    let live_isr = || -> Vec<BrokerId> { current.isr.iter().copied().filter(|id| live.contains(id)).collect() };
    match reason {
        Reason::Offline { unclean } => match replicas.iter().copied().find(in_sync) {
            Some(leader) => Some(current.new_leader_and_isr(leader, live_isr())),
            None if unclean => {
                let leader = replicas.iter().copied().find(|id| live.contains(id))?;
                let elected = current.new_leader_and_isr(leader, vec![leader]);
                Some(LeaderAndIsr { leader_recovery_state: 1, ..elected })
            }
            None => None,
        },
        Reason::Reassignment => {
            let leader = replicas.iter().copied().find(in_sync)?;
            Some(current.new_leader_and_isr(leader, current.isr.clone()))
        }
        Reason::Preferred => {
            let leader = replicas.first().copied().filter(in_sync)?;
            Some(current.new_leader_and_isr(leader, current.isr.clone()))
        }
        Reason::ControlledShutdown => {
            let stays = |id: &BrokerId| !shutting_down.contains(id);
            let leader = replicas.iter().copied().find(|id| in_sync(id) && stays(id))?;
            let isr = current.isr.iter().copied().filter(stays).collect();
            Some(current.new_leader_and_isr(leader, isr))
        }
    }
}

/// The first leader of a new partition and its ISR: all replicas that are alive.
pub fn elect_first(live: &[BrokerId]) -> Option<LeaderAndIsr> {
    live.first().map(|leader| LeaderAndIsr::initial(*leader, live.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::LeaderEpoch;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn run(isr: &[i32], live: &[i32], shutting_down: &[i32], reason: Reason) -> Option<(i32, Vec<BrokerId>)> {
        let current = LeaderAndIsr { partition_epoch: 7, ..LeaderAndIsr::initial(BrokerId(1), ids(isr)) };
        let (replicas, live, shutting_down) = (ids(&[1, 2, 3]), ids(live), ids(shutting_down));
        let candidates = Candidates { replicas: &replicas, live: &live, shutting_down: &shutting_down };
        let elected = elect(&current, candidates, reason)?;
        assert_eq!((elected.leader_epoch, elected.partition_epoch), (LeaderEpoch(1), 7));
        Some((elected.leader.get(), elected.isr))
    }

    #[test]
    fn an_offline_partition_gets_the_first_live_member_of_its_isr() {
        let clean = Reason::Offline { unclean: false };
        assert_eq!(run(&[1, 2, 3], &[2, 3], &[], clean), Some((2, ids(&[2, 3]))));
        assert_eq!(run(&[1, 3], &[2, 3], &[], clean), Some((3, ids(&[3]))));
        assert_eq!(run(&[1], &[2, 3], &[], clean), None);
        assert_eq!(run(&[1], &[2, 3], &[], Reason::Offline { unclean: true }), Some((2, ids(&[2]))));
        assert_eq!(run(&[1], &[], &[], Reason::Offline { unclean: true }), None);
    }

    #[test]
    fn the_other_reasons_stay_within_the_isr() {
        assert_eq!(run(&[1, 2], &[1, 2, 3], &[], Reason::Preferred), Some((1, ids(&[1, 2]))));
        assert_eq!(run(&[2], &[1, 2, 3], &[], Reason::Preferred), None);
        assert_eq!(run(&[3, 2], &[1, 2, 3], &[], Reason::Reassignment), Some((2, ids(&[3, 2]))));
        assert_eq!(run(&[1, 2], &[1, 2, 3], &[1], Reason::ControlledShutdown), Some((2, ids(&[2]))));
        assert_eq!(run(&[1], &[1, 2, 3], &[1], Reason::ControlledShutdown), None);
    }

    #[test]
    fn a_new_partition_is_led_by_its_first_live_replica() {
        assert_eq!(elect_first(&ids(&[3, 1])), Some(LeaderAndIsr::initial(BrokerId(3), ids(&[3, 1]))));
        assert_eq!(elect_first(&[]), None);
    }
}
