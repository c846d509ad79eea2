//! The cluster as the controller sees it: plain data and questions about it. Never does I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::ids::{BrokerEpoch, BrokerId, ControllerEpoch, TopicId, TopicPartition};
use crate::zk::znodes::broker_ids::LiveBroker;
use crate::zk::znodes::topics::{LeaderAndIsr, PartitionState as LeaderState, ReplicaAssignment};

/// Where a partition stands (`kafka.controller.PartitionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Never created, or deleted.
    NonExistent,
    /// Has replicas, but no leader yet.
    New,
    /// Has a leader.
    Online,
    /// Its leader died and no other replica may lead.
    Offline,
}

impl PartitionState {
    /// Whether a partition in this state may come into `target`.
    pub fn may_become(self, target: Self) -> bool {
        use PartitionState::{New, NonExistent, Offline, Online};
        match target {
            New => self == NonExistent,
            Online | Offline => matches!(self, New | Online | Offline),
            NonExistent => self == Offline,
        }
    }
}

/// Where a replica stands (`kafka.controller.ReplicaState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// Created with its partition, and not yet told so.
    New,
    /// On a live broker and told its role.
    Online,
    /// On a dead broker or a failed log dir, or stopped.
    Offline,
    /// Told to delete itself.
    DeletionStarted,
    /// Deleted.
    DeletionSuccessful,
    /// Cannot be deleted at the moment.
    DeletionIneligible,
    /// Gone.
    NonExistent,
}

impl ReplicaState {
    /// Whether a replica in this state may come into `target`.
    pub fn may_become(self, target: Self) -> bool {
        use ReplicaState::{
            DeletionIneligible, DeletionStarted, DeletionSuccessful, New, NonExistent, Offline, Online,
        };
        match target {
            New => self == NonExistent,
            Online | Offline => matches!(self, New | Online | Offline | DeletionIneligible),
            DeletionStarted => self == Offline,
            DeletionSuccessful => self == DeletionStarted,
            DeletionIneligible => matches!(self, Offline | DeletionStarted),
            NonExistent => self == DeletionSuccessful,
        }
    }
}

/// A partition and all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its replicas.
    pub assignment: ReplicaAssignment,
    /// Its leader and ISR, once there is a state node.
    pub leadership: Option<LeaderState>,
    /// Where it stands.
    pub state: PartitionState,
    /// Where each of its replicas stands.
    pub replicas: SmallVec<[(BrokerId, ReplicaState); 1]>,
}

impl Partition {
    /// A partition that is not yet created.
    pub fn new(assignment: ReplicaAssignment) -> Self {
        Self { assignment, leadership: None, state: PartitionState::NonExistent, replicas: SmallVec::new() }
    }

    /// Where a replica stands.
    pub fn replica_state(&self, replica: BrokerId) -> ReplicaState {
        self.replicas.iter().find(|(id, _)| *id == replica).map_or(ReplicaState::NonExistent, |(_, state)| *state)
    }

    /// Notes where a replica stands.
    pub fn set_replica_state(&mut self, replica: BrokerId, state: ReplicaState) {
        self.replicas.retain(|(id, _)| *id != replica);
        if state != ReplicaState::NonExistent {
            self.replicas.push((replica, state));
        }
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id; nil if the topic has none.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: BTreeMap<i32, Partition>,
}

/// The controller's knowledge. Filled at failover, kept up to date by events.
#[derive(Debug, Default)]
pub struct Context {
    /// The epoch of this controllership.
    pub epoch: ControllerEpoch,
    /// The version of `/controller_epoch` in this controllership; the fence of every write.
    pub epoch_zk_version: i32,
    /// The number of the first notification of a changed configuration that was not looked at yet.
    pub next_config_change: i64,
    /// The live brokers.
    pub brokers: BTreeMap<BrokerId, LiveBroker>,
    /// Those of them that asked to stop.
    pub shutting_down: BTreeSet<BrokerId>,
    /// Those whose processes seem to have died, each in the life that is meant.
    pub suspected: BTreeMap<BrokerId, BrokerEpoch>,
    /// The topics, by name.
    pub topics: BTreeMap<Arc<str>, Topic>,
    names: HashMap<TopicId, Arc<str>>,
    /// Topics to be deleted.
    pub topics_to_be_deleted: BTreeSet<Arc<str>>,
    /// Those of them whose deletion was begun.
    pub deletion_started: BTreeSet<Arc<str>>,
    /// Those of them that cannot be deleted until a broker or a log dir is back.
    pub ineligible_for_deletion: BTreeSet<Arc<str>>,
    /// Replicas in failed log dirs of live brokers.
    pub offline_dirs: BTreeMap<BrokerId, BTreeSet<TopicPartition>>,
}

impl Context {
    /// What a controllership of that epoch starts with: nothing.
    pub fn new(epoch: ControllerEpoch, epoch_zk_version: i32) -> Self {
        Self { epoch, epoch_zk_version, ..Self::default() }
    }

    /// Notes a topic.
    pub fn add_topic(&mut self, name: Arc<str>, topic: Topic) {
        if !topic.id.is_nil() {
            self.names.insert(topic.id, name.clone());
        }
        self.topics.insert(name, topic);
    }

    /// Forgets a topic.
    pub fn remove_topic(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            self.names.remove(&topic.id);
        }
    }

    /// The name of the topic with that id.
    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// Whether a broker is up and did not ask to stop (`ControllerContext.liveBrokerIds`).
    pub fn is_live(&self, broker: BrokerId) -> bool {
        self.brokers.contains_key(&broker) && !self.shutting_down.contains(&broker)
    }

    /// Whether a broker is up, did not ask to stop, and does not seem to have died.
    pub fn is_trusted(&self, broker: BrokerId) -> bool {
        self.is_live(broker) && !self.suspected.contains_key(&broker)
    }

    /// Those whose processes seem to have died.
    pub fn suspects(&self) -> Vec<BrokerId> {
        self.suspected.keys().copied().collect()
    }

    /// A partition.
    pub fn partition(&self, tp: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&tp.topic)?.partitions.get(&tp.partition)
    }

    /// A partition, to change.
    pub fn partition_mut(&mut self, tp: &TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(&tp.topic)?.partitions.get_mut(&tp.partition)
    }

    /// The id of a topic; nil if unknown.
    pub fn topic_id(&self, topic: &str) -> TopicId {
        self.topics.get(topic).map_or(TopicId::nil(), |topic| topic.id)
    }

    /// All partitions.
    pub fn all_partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.topics.iter().flat_map(|(name, topic)| {
            topic.partitions.iter().map(|(number, partition)| (TopicPartition::new(name.clone(), *number), partition))
        })
    }

    /// The partitions of a topic.
    pub fn partitions_of(&self, topic: &str) -> Vec<TopicPartition> {
        let Some((name, topic)) = self.topics.get_key_value(topic) else { return Vec::new() };
        topic.partitions.keys().map(|number| TopicPartition::new(name.clone(), *number)).collect()
    }

    /// Whether a replica's broker is up, not stopping, and its log dir has not failed.
    pub fn is_replica_online(&self, broker: BrokerId, tp: &TopicPartition) -> bool {
        self.is_live(broker) && !self.offline_dirs.get(&broker).is_some_and(|dirs| dirs.contains(tp))
    }

    /// The replicas of `tp` that could serve.
    pub fn online_replicas(&self, tp: &TopicPartition) -> Vec<BrokerId> {
        let Some(partition) = self.partition(tp) else { return Vec::new() };
        partition.assignment.replicas.iter().copied().filter(|id| self.is_replica_online(*id, tp)).collect()
    }

    /// The ISR that a new partition starts with: all replicas that could serve, suspects only if there are no others.
    pub fn first_in_sync(&self, tp: &TopicPartition) -> Vec<BrokerId> {
        let online = self.online_replicas(tp);
        let trusted: Vec<BrokerId> = online.iter().copied().filter(|id| self.is_trusted(*id)).collect();
        if trusted.is_empty() { online } else { trusted }
    }

    /// Every replica that a broker has by assignment.
    pub fn replicas_on(&self, brokers: &BTreeSet<BrokerId>) -> Vec<(TopicPartition, BrokerId)> {
        let mut found = Vec::new();
        for (tp, partition) in self.all_partitions() {
            let here = partition.assignment.replicas.iter().filter(|id| brokers.contains(id));
            found.extend(here.map(|id| (tp.clone(), *id)));
        }
        found
    }

    /// Whether a topic is on its way out.
    pub fn is_to_be_deleted(&self, topic: &str) -> bool {
        self.topics_to_be_deleted.contains(topic)
    }

    /// Whether a reassignment of any partition of a topic is under way.
    pub fn is_being_reassigned(&self, topic: &str) -> bool {
        let topic = self.topics.get(topic);
        topic.is_some_and(|topic| topic.partitions.values().any(|p| p.assignment.is_being_reassigned()))
    }

    /// Whether nobody is to use a topic any more. As long as a reassignment holds its deletion up it is led and followed like
    /// any other: the reassignment would not end without. (Kafka's brokers forget the topic's id and elect no leaders, and
    /// the deletion may never come.)
    pub fn is_dying(&self, topic: &str) -> bool {
        self.is_to_be_deleted(topic) && !self.is_being_reassigned(topic)
    }

    /// Notes a partition's new leader and ISR.
    pub fn set_leadership(&mut self, tp: &TopicPartition, leader_and_isr: LeaderAndIsr) {
        let controller_epoch = self.epoch;
        if let Some(partition) = self.partition_mut(tp) {
            partition.leadership = Some(LeaderState { leader_and_isr, controller_epoch, isr_lives: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_follow_the_originals_tables() {
        use PartitionState::{New, NonExistent, Offline, Online};
        assert!(NonExistent.may_become(New) && !NonExistent.may_become(Online));
        assert!(New.may_become(Online) && Offline.may_become(Online) && Online.may_become(Online));
        assert!(Offline.may_become(NonExistent) && !Online.may_become(NonExistent));
        assert!(ReplicaState::NonExistent.may_become(ReplicaState::New));
        assert!(!ReplicaState::Online.may_become(ReplicaState::DeletionStarted));
        assert!(ReplicaState::DeletionIneligible.may_become(ReplicaState::Online));
        assert!(!ReplicaState::DeletionSuccessful.may_become(ReplicaState::Online));
    }
}
