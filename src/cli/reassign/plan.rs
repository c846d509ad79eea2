//! What a reassignment moves and which throttles that needs, on plain data.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};

use super::json::joined;
use crate::admin::assignment::{Candidate, Start, assign};
use crate::base::ids::TopicPartition;

/// The topic config with the replicas whose serving of followers is throttled.
pub(super) const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
/// The topic config with the replicas whose fetching is throttled.
pub(super) const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";
/// The broker config with the rate at which followers are served.
pub(super) const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// The broker config with the rate at which a follower fetches.
pub(super) const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
/// The broker config with the rate of moves between its log dirs.
pub(super) const LOG_DIR_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Replicas by partition.
pub(super) type Assignment = BTreeMap<TopicPartition, Vec<i32>>;

/// A replica of a partition. The order is by broker first, as the original lists them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Replica {
    pub(super) broker: i32,
    pub(super) partition: TopicPartition,
}

impl std::fmt::Display for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.partition, self.broker)
    }
}

/// A reassignment that is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ongoing {
    pub(super) replicas: Vec<i32>,
    pub(super) adding: Vec<i32>,
    pub(super) removing: Vec<i32>,
}

/// Where one partition's replicas come from and go to (`PartitionMove`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Move {
    sources: BTreeSet<i32>,
    destinations: BTreeSet<i32>,
}

/// All that moves: what is under way, and what is proposed beside or in place of it.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<TopicPartition, Move>);

impl Moves {
    /// Moves under way, overlaid by those from `current` to `proposed`.
    ///
    /// # Errors
    /// If a proposed partition has no replicas now.
    pub(super) fn of(
        under_way: &BTreeMap<TopicPartition, Ongoing>,
        proposed: &Assignment,
        current: &Assignment,
    ) -> anyhow::Result<Self> {
        let mut moves: BTreeMap<TopicPartition, Move> = BTreeMap::new();
        for (tp, ongoing) in under_way {
            let destinations: BTreeSet<i32> = ongoing.adding.iter().copied().collect();
            let sources = ongoing.replicas.iter().copied().filter(|id| !destinations.contains(id)).collect();
            moves.insert(tp.clone(), Move { sources, destinations });
        }
        for (tp, replicas) in proposed {
            let sources: BTreeSet<i32> = match (moves.get(tp), current.get(tp)) {
                (Some(known), _) => known.sources.clone(),
                (None, Some(current)) => current.iter().copied().collect(),
                (None, None) => bail!("Trying to reassign a topic partition {tp} with 0 replicas"),
            };
            let destinations = replicas.iter().copied().filter(|id| !sources.contains(id)).collect();
            moves.insert(tp.clone(), Move { sources, destinations });
        }
        Ok(Self(moves))
    }

    /// Each topic's throttled replicas, of leaders and of followers. They are ordered as texts, as in the original.
    pub(super) fn throttles(&self) -> BTreeMap<&str, (String, String)> {
        let mut throttles: BTreeMap<&str, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for (tp, moved) in &self.0 {
            let pair = |id: &i32| format!("{}:{id}", tp.partition);
            let (leaders, followers) = throttles.entry(&*tp.topic).or_default();
            leaders.extend(moved.sources.iter().map(pair));
            followers.extend(moved.destinations.difference(&moved.sources).map(pair));
        }
        throttles.into_iter().map(|(topic, (l, f))| (topic, (joined(l), joined(f)))).collect()
    }

    /// All brokers that take part.
    pub(super) fn brokers(&self) -> BTreeSet<i32> {
        self.0.values().flat_map(|moved| moved.sources.iter().chain(&moved.destinations)).copied().collect()
    }
}

/// Spreads each topic of `current` anew over `brokers`, with as many partitions and replicas as it has.
///
/// # Errors
/// If there are fewer brokers than replicas.
pub(super) fn generate(current: &Assignment, brokers: &[Candidate], start: Start) -> anyhow::Result<Assignment> {
    let mut by_topic: BTreeMap<&str, Vec<&Vec<i32>>> = BTreeMap::new();
    for (tp, replicas) in current {
        by_topic.entry(&*tp.topic).or_default().push(replicas);
    }
    let mut proposed = Assignment::new();
    for (topic, partitions) in by_topic {
        let replicas = i16::try_from(partitions[0].len())?;
        let assigned = assign(brokers, 0, i32::try_from(partitions.len())?, replicas, start);
        for (number, replicas) in assigned.map_err(|error| anyhow!("{error}"))? {
            proposed.insert(TopicPartition::new(topic, number), replicas.iter().map(|id| id.get()).collect());
        }
    }
    Ok(proposed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::BrokerId;

    fn assignment(of: &[(&str, i32, &[i32])]) -> Assignment {
        of.iter().map(|(topic, number, ids)| (TopicPartition::new(*topic, *number), ids.to_vec())).collect()
    }

    #[test]
    fn sources_lead_and_destinations_follow() {
        let current = assignment(&[("t", 0, &[1, 2]), ("t", 10, &[1]), ("t", 2, &[3])]);
        let proposed = assignment(&[("t", 0, &[2, 3]), ("t", 10, &[4]), ("t", 2, &[4])]);
        let ongoing = Ongoing { replicas: vec![5, 6, 7], adding: vec![7], removing: vec![5] };
        let under_way = BTreeMap::from([(TopicPartition::new("u", 0), ongoing)]);
        let moves = Moves::of(&under_way, &proposed, &current).expect("valid");
        let throttles = moves.throttles();
        assert_eq!(throttles["t"], ("0:1,0:2,10:1,2:3".to_owned(), "0:3,10:4,2:4".to_owned()));
        assert_eq!(throttles["u"], ("0:5,0:6".to_owned(), "0:7".to_owned()));
        assert_eq!(moves.brokers().into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        // A move under way that is changed keeps its sources.
        let changed = assignment(&[("u", 0, &[5, 8])]);
        let moves = Moves::of(&under_way, &changed, &Assignment::new()).expect("valid");
        assert_eq!(moves.throttles()["u"], ("0:5,0:6".to_owned(), "0:8".to_owned()));
        assert!(Moves::of(&BTreeMap::new(), &changed, &Assignment::new()).is_err());
    }

    #[test]
    fn topics_keep_their_size() {
        let current = assignment(&[("a", 0, &[1, 2]), ("a", 1, &[2, 1]), ("b", 0, &[1])]);
        let brokers = [3, 4, 5].map(|id| Candidate { id: BrokerId(id), rack: None });
        let proposed = generate(&current, &brokers, Start { leader: 0, shift: 0 }).expect("enough");
        let sizes: Vec<usize> = proposed.values().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert!(proposed.values().flatten().all(|id| (3..=5).contains(id)));
        assert!(generate(&current, &brokers[..1], Start { leader: 0, shift: 0 }).is_err());
    }
}
