//! Spreading the replicas of new partitions over the brokers (`AdminUtils.assignReplicasToBrokers`): leaders go round
//! robin, and the distance from a leader to its followers grows with each round, so that the partitions of one broker
//! have their followers on different ones. With racks, the order alternates between them and no two replicas of a
//! partition share one while there are enough.

use std::collections::BTreeMap;

use super::AdminError;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;

/// Replicas by partition, the preferred leader first.
pub type Assignment = BTreeMap<i32, Vec<BrokerId>>;

/// A live broker and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: BrokerId,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// The two random numbers of an assignment, so that it can be repeated.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// The place of the first partition's leader among the brokers.
    pub leader: usize,
    /// The first distance between leader and follower.
    pub shift: usize,
}

impl Start {
    /// Starts anywhere.
    pub fn random() -> Self {
        Self { leader: rand::random_range(0..1 << 20), shift: rand::random_range(0..1 << 20) }
    }
}

/// Assigns the partitions `first..first + count`. Racks count only if every broker has one.
///
/// # Errors
/// `InvalidPartitions` and `InvalidReplicationFactor`, with the numbers.
pub fn assign(
    brokers: &[Candidate],
    first: i32,
    count: i32,
    replication_factor: i16,
    start: Start,
) -> Result<Assignment, AdminError> {
    if count < 1 {
        return Err(AdminError::new(ErrorCode::InvalidPartitions, "Number of partitions must be larger than 0."));
    }
    let replicas = usize::try_from(replication_factor).unwrap_or(0);
    if replicas == 0 {
        let message = "Replication factor must be larger than 0.";
        return Err(AdminError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if replicas > brokers.len() {
        let message =
            format!("Replication factor: {replication_factor} larger than available brokers: {}.", brokers.len());
        return Err(AdminError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let order = order(brokers);
    let partitions = first..first.saturating_add(count);
    Ok(partitions.map(|partition| (partition, replicas_of(&order, partition, replicas, start))).collect())
}

/// By id; with racks, one of each rack in turn.
fn order(brokers: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<_> = brokers.iter().collect();
    sorted.sort_by_key(|broker| broker.id);
    if sorted.iter().any(|broker| broker.rack.is_none()) {
        return sorted;
    }
    let mut racks: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for broker in sorted {
        racks.entry(broker.rack.as_deref().unwrap_or_default()).or_default().push(broker);
    }
    let rounds = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..rounds).flat_map(|round| racks.values().filter_map(move |rack| rack.get(round).copied())).collect()
}

fn replicas_of(order: &[&Candidate], partition: i32, replicas: usize, start: Start) -> Vec<BrokerId> {
    let brokers = order.len();
    let number = usize::try_from(partition).unwrap_or(0);
    let leader = (start.leader + number) % brokers;
    let mut chosen = vec![order[leader]];
    // Each time the leaders have gone once round, followers stand one further off.
    let shift = start.shift + number / brokers;
    let followers =
        (0..brokers.saturating_sub(1)).map(|step| order[(leader + 1 + (shift + step) % (brokers - 1)) % brokers]);
    let followers: Vec<_> = followers.collect();
    while chosen.len() < replicas {
        let unused = |broker: &&&Candidate| !chosen.iter().any(|c| c.id == broker.id);
        let new_rack = |broker: &&&Candidate| broker.rack.is_none() || !chosen.iter().any(|c| c.rack == broker.rack);
        let next = followers.iter().filter(unused).find(new_rack).or_else(|| followers.iter().find(unused));
        match next {
            Some(broker) => chosen.push(broker),
            None => break,
        }
    }
    chosen.into_iter().map(|broker| broker.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        let numbered = racks.iter().zip(0..);
        numbered.map(|(rack, id)| Candidate { id: BrokerId(id), rack: rack.map(str::to_owned) }).collect()
    }

    fn spread(brokers: &[Candidate], partitions: i32, replicas: i16) -> Assignment {
        assign(brokers, 0, partitions, replicas, Start { leader: 3, shift: 1 }).unwrap()
    }

    #[test]
    fn leaders_and_replicas_are_spread_evenly() {
        let assignment = spread(&brokers(&[None; 5]), 20, 3);
        for id in 0..5 {
            let leads = assignment.values().filter(|replicas| replicas[0] == BrokerId(id)).count();
            let holds = assignment.values().filter(|replicas| replicas.contains(&BrokerId(id))).count();
            assert_eq!((leads, holds), (4, 12));
        }
        for replicas in assignment.values() {
            let mut distinct = replicas.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 3);
        }
    }

    #[test]
    fn a_brokers_followers_differ_from_round_to_round() {
        let assignment = spread(&brokers(&[None; 4]), 12, 2);
        let followers: Vec<_> =
            assignment.values().filter(|replicas| replicas[0] == BrokerId(0)).map(|replicas| replicas[1]).collect();
        assert_eq!(followers.len(), 3);
        assert!(followers.windows(2).all(|pair| pair[0] != pair[1]), "{followers:?}");
    }

    #[test]
    fn replicas_stand_in_different_racks() {
        let brokers = brokers(&[Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")]);
        for replicas in spread(&brokers, 24, 3).values() {
            let racks: std::collections::BTreeSet<_> =
                replicas.iter().map(|id| brokers[usize::try_from(id.get()).unwrap()].rack.clone()).collect();
            assert_eq!(racks.len(), 3);
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let two = brokers(&[None; 2]);
        let code = |count, factor| assign(&two, 0, count, factor, Start { leader: 0, shift: 0 }).unwrap_err().code;
        assert_eq!(code(0, 1), ErrorCode::InvalidPartitions);
        assert_eq!(code(1, 0), ErrorCode::InvalidReplicationFactor);
        assert_eq!(code(1, 3), ErrorCode::InvalidReplicationFactor);
    }
}
