//! The offsets that one group has committed, those still on their way into the log, and those of open transactions.
//!
//! Invariants: of two commits for one partition the one that stands later in the log holds, in whatever order they are
//! acknowledged; a deletion holds against every commit before it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::config::GroupConfig;
use super::state::{Group, GroupState};

/// A committed offset, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to consume.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 if not known (KIP-320).
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: Box<str>,
    /// When it was committed, in milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When it lapses, if the client said so (OffsetCommit v2 to v4).
    pub expire_timestamp: Option<i64>,
}

/// A committed offset and where its record stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    committed: CommittedOffset,
    record_offset: i64,
}

/// The offsets that one transaction has committed, until it ends.
pub(super) type PendingTxn = HashMap<(Arc<str>, i32), Held>;

/// A group's offsets, by topic and partition.
#[derive(Debug, Default, Clone)]
pub struct GroupOffsets {
    topics: HashMap<Arc<str>, HashMap<i32, Held>>,
    count: usize,
    /// Commits that are in the log and not yet acknowledged.
    unacked: usize,
    /// How many of them there are for each partition.
    unacked_partitions: HashMap<(Arc<str>, i32), u32>,
    /// Where the tombstones stand of what was deleted while commits were under way.
    deleted: HashMap<(Arc<str>, i32), i64>,
    /// By producer id.
    pub(super) transactions: HashMap<i64, PendingTxn>,
}

impl GroupOffsets {
    /// How many partitions have an offset.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is nothing at all: no offset, none on its way, none in a transaction.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.unacked == 0 && self.transactions.is_empty()
    }

    /// The offset committed for a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition).map(|held| &held.committed)
    }

    /// Every topic with its partitions in order.
    pub fn by_topic(&self) -> impl Iterator<Item = (&Arc<str>, Vec<(i32, &CommittedOffset)>)> {
        self.topics.iter().map(|(topic, partitions)| {
            let mut rows: Vec<_> = partitions.iter().map(|(&number, held)| (number, &held.committed)).collect();
            rows.sort_unstable_by_key(|&(number, _)| number);
            (topic, rows)
        })
    }

    /// The partition's own copy of the topic's name, if it has one.
    pub fn topic_name(&self, topic: &str) -> Option<&Arc<str>> {
        self.topics.get_key_value(topic).map(|(name, _)| name)
    }

    /// Holds what the record at `record_offset` says, unless a later one has spoken.
    pub fn apply(&mut self, topic: &Arc<str>, partition: i32, committed: CommittedOffset, record_offset: i64) {
        if !self.deleted.is_empty()
            && self.deleted.get(&(Arc::clone(topic), partition)).is_some_and(|&deleted| deleted > record_offset)
        {
            return;
        }
        let held = Held { committed, record_offset };
        if let Some(partitions) = self.topics.get_mut(topic) {
            match partitions.get_mut(&partition) {
                Some(known) if known.record_offset > record_offset => {}
                Some(known) => *known = held,
                None => {
                    partitions.insert(partition, held);
                    self.count += 1;
                }
            }
            return;
        }
        self.topics.insert(Arc::clone(topic), HashMap::from([(partition, held)]));
        self.count += 1;
    }

    /// Forgets a partition's offset; its tombstone stands at `record_offset`. Says whether there was one.
    pub fn remove(&mut self, topic: &str, partition: i32, record_offset: i64) -> bool {
        if self.unacked > 0 {
            self.deleted.insert((topic.into(), partition), record_offset);
        }
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let removed = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        self.count -= usize::from(removed);
        removed
    }

    /// A commit for these partitions is in the log and waits for its acknowledgement.
    pub fn begin_unacked<'a>(&mut self, partitions: impl Iterator<Item = (&'a Arc<str>, i32)>) {
        self.unacked += 1;
        for (topic, partition) in partitions {
            *self.unacked_partitions.entry((Arc::clone(topic), partition)).or_default() += 1;
        }
    }

    /// That acknowledgement came, or will not come. Once the offsets are held, if they are,
    /// [`GroupOffsets::forget_deletions`].
    pub fn end_unacked<'a>(&mut self, partitions: impl Iterator<Item = (&'a Arc<str>, i32)>) {
        self.unacked = self.unacked.saturating_sub(1);
        for (topic, partition) in partitions {
            let key = (Arc::clone(topic), partition);
            match self.unacked_partitions.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.unacked_partitions.remove(&key)),
            }
        }
    }

    /// Deletions are remembered only while commits are under way.
    pub fn forget_deletions(&mut self) {
        if self.unacked == 0 {
            self.deleted.clear();
        }
    }

    /// Notes an offset that holds once the producer's transaction is committed.
    pub fn add_transactional(
        &mut self,
        producer_id: i64,
        topic: &Arc<str>,
        partition: i32,
        committed: CommittedOffset,
        record_offset: i64,
    ) {
        let pending = self.transactions.entry(producer_id).or_default();
        pending.insert((Arc::clone(topic), partition), Held { committed, record_offset });
    }

    /// The producer's transaction has ended.
    pub fn complete_transaction(&mut self, producer_id: i64, commit: bool) {
        let Some(pending) = self.transactions.remove(&producer_id) else { return };
        if commit {
            for ((topic, partition), held) in pending {
                self.apply(&topic, partition, held.committed, held.record_offset);
            }
        }
    }

    /// Whether a commit for the partition is under way, or an open transaction has committed an offset for it (KIP-447).
    pub fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        let of_partition = |(name, number): &(Arc<str>, i32)| &**name == topic && *number == partition;
        self.unacked_partitions.keys().any(of_partition)
            || self.transactions.values().any(|pending| pending.keys().any(of_partition))
    }

    /// Forgets what open transactions have committed for the partition: its offset was deleted meanwhile.
    pub fn forget_pending(&mut self, topic: &str, partition: i32) {
        for pending in self.transactions.values_mut() {
            pending.retain(|(name, number), _| **name != *topic || *number != partition);
        }
    }

    /// Takes over what `other` has; where both know a partition the later record holds.
    pub fn absorb(&mut self, other: Self) {
        for (topic, partitions) in other.topics {
            for (partition, held) in partitions {
                self.apply(&topic, partition, held.committed, held.record_offset);
            }
        }
        for (producer_id, pending) in other.transactions {
            self.transactions.entry(producer_id).or_default().extend(pending);
        }
    }

    /// Which offsets lapse at `now_ms` (milliseconds since 1970), by the rules of KIP-211: counted from when the group
    /// became empty, or from the commit where the group has no protocol or its consumers no longer subscribe to the topic.
    pub fn expired(&self, group: &Group, config: &GroupConfig, now_ms: i64) -> Vec<(Arc<str>, i32)> {
        let (since_empty, subscribed) = match (group.protocol_type(), group.state()) {
            (None, _) => (None, BTreeSet::new()),
            (Some(_), GroupState::Empty) => (group.state_timestamp(), BTreeSet::new()),
            (Some(_), GroupState::Stable) => match group.subscribed_topics() {
                Some(topics) => (None, topics),
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        let lapsed = |committed: &CommittedOffset| match committed.expire_timestamp {
            Some(expires) => now_ms >= expires,
            None => {
                let since = since_empty.unwrap_or(committed.commit_timestamp);
                now_ms.saturating_sub(since) >= config.offsets_retention_ms
            }
        };
        let mut out = Vec::new();
        for (topic, partitions) in &self.topics {
            if !subscribed.contains(&**topic) {
                // A tombstone behind what is on its way, or what a transaction has committed, would be all that compaction
                // leaves of both.
                let rows = partitions
                    .iter()
                    .filter(|&(&partition, held)| lapsed(&held.committed) && !self.is_unstable(topic, partition));
                out.extend(rows.map(|(&partition, _)| (Arc::clone(topic), partition)));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::group::records::{GroupValue, MemberValue};

    fn at(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp: 1_000,
            expire_timestamp: None,
        }
    }

    #[test]
    fn the_later_record_holds_whenever_it_is_acknowledged() {
        let (mut offsets, topic) = (GroupOffsets::default(), Arc::from("t"));
        offsets.apply(&topic, 0, at(20), 6);
        offsets.apply(&topic, 0, at(10), 5);
        assert_eq!(offsets.get("t", 0).map(|o| o.offset), Some(20));
        offsets.apply(&topic, 1, at(1), 7);
        assert_eq!(offsets.len(), 2);
    }

    #[test]
    fn a_deletion_holds_against_earlier_commits_under_way() {
        let (mut offsets, topic) = (GroupOffsets::default(), Arc::from("t"));
        let both = [(&topic, 0)];
        offsets.begin_unacked(both.into_iter());
        assert!(offsets.is_unstable("t", 0) && !offsets.is_unstable("t", 1));
        offsets.remove("t", 0, 6);
        offsets.apply(&topic, 0, at(10), 5);
        assert_eq!(offsets.get("t", 0), None);
        offsets.apply(&topic, 0, at(11), 7);
        assert_eq!(offsets.get("t", 0).map(|o| o.offset), Some(11));
        offsets.end_unacked(both.into_iter());
        offsets.forget_deletions();
        assert!(offsets.deleted.is_empty() && !offsets.is_unstable("t", 0));
        assert!(offsets.remove("t", 0, 8) && !offsets.remove("t", 0, 9));
        assert!(offsets.is_empty() && offsets.topics.is_empty());
    }

    #[test]
    fn transactions_hold_back_their_offsets() {
        let (mut offsets, topic) = (GroupOffsets::default(), Arc::from("t"));
        offsets.add_transactional(9, &topic, 0, at(10), 5);
        assert!(offsets.is_unstable("t", 0) && !offsets.is_unstable("t", 1) && !offsets.is_empty());
        offsets.complete_transaction(9, false);
        assert!(offsets.is_empty());
        offsets.add_transactional(9, &topic, 0, at(10), 5);
        offsets.apply(&topic, 0, at(11), 6);
        offsets.complete_transaction(9, true);
        assert_eq!(offsets.get("t", 0).map(|o| o.offset), Some(11), "the plain commit came later");
    }

    #[test]
    fn simple_consumers_offsets_lapse_by_their_commit_time() {
        let config = GroupConfig { offsets_retention_ms: 100, ..GroupConfig::default() };
        let (mut offsets, topic) = (GroupOffsets::default(), Arc::from("t"));
        let group = Group::new("g".into());
        offsets.apply(&topic, 0, at(1), 1);
        offsets.apply(&topic, 1, CommittedOffset { expire_timestamp: Some(2_000), ..at(1) }, 2);
        assert!(offsets.expired(&group, &config, 1_099).is_empty());
        assert_eq!(offsets.expired(&group, &config, 1_100), vec![(Arc::clone(&topic), 0)]);
        assert_eq!(offsets.expired(&group, &config, 2_000).len(), 2);
        offsets.add_transactional(9, &topic, 0, at(2), 3);
        assert_eq!(offsets.expired(&group, &config, 2_000), vec![(Arc::clone(&topic), 1)]);
        offsets.forget_pending("t", 0);
        assert_eq!(offsets.expired(&group, &config, 2_000).len(), 2);
        offsets.begin_unacked([(&topic, 0)].into_iter());
        assert_eq!(offsets.expired(&group, &config, 2_000), vec![(Arc::clone(&topic), 1)], "one is on its way");
    }

    /// A group in `state` since 1,500 whose one member, if it has any, subscribes to `t` or is no consumer.
    fn group(state: GroupState, protocol_type: &str, state_timestamp: i64) -> Group {
        let subscription: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff];
        let member = MemberValue {
            member_id: "m",
            group_instance_id: None,
            client_id: "c",
            client_host: "/127.0.0.1",
            rebalance_timeout_ms: 100,
            session_timeout_ms: 100,
            subscription,
            assignment: &[],
        };
        let has_members = state != GroupState::Empty;
        let value = GroupValue {
            protocol_type,
            generation: 1,
            protocol: has_members.then_some("range"),
            leader: has_members.then_some("m"),
            current_state_timestamp: state_timestamp,
            members: if has_members { vec![member] } else { Vec::new() },
        };
        let mut group = Group::from_record("g".into(), &value);
        group.state = state;
        group
    }

    #[test]
    fn what_lapses_depends_on_the_group_s_state_and_its_subscriptions() {
        let config = GroupConfig { offsets_retention_ms: 100, ..GroupConfig::default() };
        let mut offsets = GroupOffsets::default();
        for (topic, record) in [("t", 1), ("u", 2)] {
            offsets.apply(&Arc::from(topic), 0, at(1), record);
        }
        let lapsed = |group: &Group, now| {
            let mut topics: Vec<String> =
                offsets.expired(group, &config, now).into_iter().map(|(topic, _)| topic.to_string()).collect();
            topics.sort();
            topics.join(",")
        };
        let empty = group(GroupState::Empty, "consumer", 1_500);
        assert_eq!((lapsed(&empty, 1_599), lapsed(&empty, 1_600)), (String::new(), "t,u".to_owned()));
        let of_old = group(GroupState::Empty, "consumer", -1);
        assert_eq!((lapsed(&of_old, 1_099), lapsed(&of_old, 1_100)), (String::new(), "t,u".to_owned()));
        let stable = group(GroupState::Stable, "consumer", 1_500);
        assert_eq!((lapsed(&stable, 1_099), lapsed(&stable, 1_100)), (String::new(), "u".to_owned()));
        for state in [GroupState::PreparingRebalance, GroupState::CompletingRebalance] {
            assert_eq!(lapsed(&group(state, "consumer", 1_500), 9_000), "", "{state:?}");
        }
        assert_eq!(lapsed(&group(GroupState::Stable, "connect", 1_500), 9_000), "");
        assert_eq!(lapsed(&group(GroupState::Empty, "connect", 1_500), 1_600), "t,u");
    }
}
