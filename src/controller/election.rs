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
    /// The leader's process seems to have died, which is no proof.
    Suspicion,
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
    /// Brokers whose processes seem to have died; alive as long as they are registered.
    pub suspected: &'a [BrokerId],
    /// How many others must be in sync before a suspicion takes a replica out of the ISR.
    pub least_left: usize,
}

/// The new leader and ISR, or `None` if nobody may lead. The leader epoch is raised; the partition epoch is that of the
/// state given, to be checked when it is written.
pub fn elect(current: &LeaderAndIsr, candidates: Candidates<'_>, reason: Reason) -> Option<LeaderAndIsr> {
    let Candidates { replicas, live, shutting_down, suspected, least_left } = candidates;
    let in_sync = |id: &BrokerId| live.contains(id) && current.isr.contains(id);
    let trusted = |id: &BrokerId| in_sync(id) && !suspected.contains(id);
    let live_isr = || -> Vec<BrokerId> { current.isr.iter().copied().filter(|id| live.contains(id)).collect() };
    match reason {
        // A suspect may be alive, and has what nobody else has: it is better than nobody, and better than an unclean leader.
        Reason::Offline { unclean } => match first(replicas, trusted).or_else(|| first(replicas, in_sync)) {
            Some(leader) => Some(current.new_leader_and_isr(leader, live_isr())),
            None if unclean => {
                let leader = first(replicas, |id| live.contains(id))?;
                let elected = current.new_leader_and_isr(leader, vec![leader]);
                Some(LeaderAndIsr { leader_recovery_state: 1, ..elected })
            }
            None => None,
        },
        Reason::Reassignment => {
            let leader = first(replicas, trusted).or_else(|| first(replicas, in_sync))?;
            Some(current.new_leader_and_isr(leader, current.isr.clone()))
        }
        Reason::Preferred => {
            let leader = replicas.first().copied().filter(trusted)?;
            Some(current.new_leader_and_isr(leader, current.isr.clone()))
        }
        Reason::ControlledShutdown => {
            let stays = |id: &BrokerId| !shutting_down.contains(id);
            let leader = first(replicas, |id| trusted(id) && stays(id))?;
            let isr = current.isr.iter().copied().filter(stays).collect();
            Some(current.new_leader_and_isr(leader, isr))
        }
        Reason::Suspicion => {
            let leader = first(replicas, trusted)?;
            Some(current.new_leader_and_isr(leader, without_suspects(&current.isr, suspected, trusted, least_left)))
        }
    }
}

fn first(replicas: &[BrokerId], may_lead: impl Fn(&BrokerId) -> bool) -> Option<BrokerId> {
    replicas.iter().copied().find(|id| may_lead(id))
}

/// The ISR without those whose processes seem to have died, if at least `least_left` of the others are `trusted`.
/// Otherwise as it is: a suspect that lives may soon be the only one that has everything.
pub fn without_suspects(
    isr: &[BrokerId],
    suspected: &[BrokerId],
    trusted: impl Fn(&BrokerId) -> bool,
    least_left: usize,
) -> Vec<BrokerId> {
    let left = isr.iter().filter(|id| trusted(id)).count();
    isr.iter().copied().filter(|id| left < least_left || !suspected.contains(id)).collect()
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
        let (suspected, least_left) = (&[], 2);
        let all = Candidates { replicas: &replicas, live: &live, shutting_down: &shutting_down, suspected, least_left };
        let elected = elect(&current, all, reason)?;
        assert_eq!((elected.leader_epoch, elected.partition_epoch), (LeaderEpoch(1), 7));
        Some((elected.leader.get(), elected.isr))
    }

    /// With all of 1, 2 and 3 registered, some of them suspected.
    fn suspecting(isr: &[i32], suspected: &[i32], least_left: usize, reason: Reason) -> Option<(i32, Vec<BrokerId>)> {
        let current = LeaderAndIsr::initial(BrokerId(1), ids(isr));
        let (replicas, suspected) = (ids(&[1, 2, 3]), ids(suspected));
        let (live, shutting_down, suspected) = (&replicas, &[], &suspected);
        let elected =
            elect(&current, Candidates { replicas: &replicas, live, shutting_down, suspected, least_left }, reason)?;
        Some((elected.leader.get(), elected.isr))
    }

    #[test]
    fn a_suspect_leads_no_more_but_leaves_the_isr_only_if_enough_stay() {
        assert_eq!(suspecting(&[1, 2, 3], &[1], 2, Reason::Suspicion), Some((2, ids(&[2, 3]))));
        assert_eq!(
            suspecting(&[1, 2, 3], &[1], 3, Reason::Suspicion),
            Some((2, ids(&[1, 2, 3]))),
            "min.insync.replicas"
        );
        assert_eq!(suspecting(&[1, 2], &[1], 2, Reason::Suspicion), Some((2, ids(&[1, 2]))));
        assert_eq!(suspecting(&[1, 2, 3], &[1, 2], 2, Reason::Suspicion), Some((3, ids(&[1, 2, 3]))), "one is trusted");
        assert_eq!(suspecting(&[1], &[1], 2, Reason::Suspicion), None);
    }

    #[test]
    fn a_suspect_is_better_than_nobody() {
        let offline = Reason::Offline { unclean: true };
        assert_eq!(suspecting(&[2, 3], &[2], 2, offline), Some((3, ids(&[2, 3]))));
        assert_eq!(suspecting(&[2], &[2], 2, offline), Some((2, ids(&[2]))), "than an unclean leader too");
        assert_eq!(suspecting(&[1, 2], &[1], 2, Reason::Preferred), None);
        assert_eq!(suspecting(&[1, 2], &[1], 2, Reason::Reassignment), Some((2, ids(&[1, 2]))));
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
