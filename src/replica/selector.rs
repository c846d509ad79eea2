//! From which replica a consumer should read (KIP-392): the policy that `replica.selector.class` names, over plain data.

use crate::base::ids::{BrokerId, Offset};

/// The policies that are built in, by the names Kafka's configuration gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaSelector {
    /// From the leader.
    #[default]
    Leader,
    /// From a replica in the consumer's rack, if there is one (`RackAwareReplicaSelector`).
    RackAware,
}

impl ReplicaSelector {
    /// The policy of that class; the leader's without one.
    pub fn of(class: Option<&str>) -> Self {
        match class {
            Some("org.apache.kafka.common.replica.RackAwareReplicaSelector") => Self::RackAware,
            _ => Self::Leader,
        }
    }
}

/// A replica that may serve a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaView {
    /// The broker.
    pub broker: BrokerId,
    /// Its rack.
    pub rack: Option<String>,
    /// How far its log goes.
    pub log_end_offset: Offset,
    /// For how long it has not had all.
    pub lag_ms: i64,
}

impl ReplicaSelector {
    /// The follower to read from, `None` for the leader. Of several in the rack the one that is furthest, then the one that
    /// was caught up last, then the one with the largest id (`ReplicaView.comparator`).
    pub fn select(self, rack: &str, leader: &ReplicaView, followers: &[ReplicaView]) -> Option<BrokerId> {
        let near = |view: &&ReplicaView| view.rack.as_deref() == Some(rack);
        if self == Self::Leader || rack.is_empty() || near(&leader) {
            return None;
        }
        let rank = |view: &&ReplicaView| (view.log_end_offset, std::cmp::Reverse(view.lag_ms), view.broker);
        followers.iter().filter(near).max_by_key(rank).map(|view| view.broker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(broker: i32, rack: &str, end: i64, lag_ms: i64) -> ReplicaView {
        let rack = Some(rack.to_owned()).filter(|rack| !rack.is_empty());
        ReplicaView { broker: BrokerId(broker), rack, log_end_offset: Offset(end), lag_ms }
    }

    #[test]
    fn a_consumer_reads_in_its_rack() {
        let leader = view(1, "a", 10, 0);
        let followers = [view(2, "b", 8, 0), view(3, "b", 9, 50), view(4, "b", 9, 5), view(5, "", 10, 0)];
        let select = |rack| ReplicaSelector::RackAware.select(rack, &leader, &followers).map(BrokerId::get);
        assert_eq!(select("a"), None, "the leader is near");
        assert_eq!(select("b"), Some(4));
        assert_eq!(select("c"), None);
        assert_eq!(select(""), None);
        assert_eq!(ReplicaSelector::Leader.select("b", &leader, &followers), None);
        assert_eq!(
            ReplicaSelector::of(Some("org.apache.kafka.common.replica.LeaderSelector")),
            ReplicaSelector::Leader
        );
    }
}
