//! What the replica room tells the coordinators above it.

use std::sync::Arc;

use crate::base::ids::TopicPartition;
use crate::base::topic_names::GROUP_METADATA_TOPIC;
use crate::coordinator::group::coordinator::GroupCoordinator;
use crate::replica::manager::{LeadershipChange, ReplicaListener};

/// Hands on who leads the partitions of internal topics.
pub struct Upward {
    groups: Arc<GroupCoordinator>,
}

impl Upward {
    /// Tells `groups`.
    pub fn new(groups: Arc<GroupCoordinator>) -> Self {
        Self { groups }
    }
}

impl ReplicaListener for Upward {
    fn leadership_changed(&self, change: LeadershipChange) {
        match change {
            LeadershipChange::Leads(tp, epoch) if is_groups(&tp) => self.groups.on_election(tp.partition, epoch),
            LeadershipChange::Follows(tp, epoch) if is_groups(&tp) => {
                self.groups.on_resignation(tp.partition, Some(epoch));
            }
            LeadershipChange::Stopped(tp, epoch) if is_groups(&tp) => {
                let known = Some(epoch).filter(|epoch| epoch.get() >= 0);
                self.groups.on_resignation(tp.partition, known);
            }
            _ => {}
        }
    }

    fn partitions_deleted(&self, partitions: &[TopicPartition]) {
        self.groups.on_partitions_deleted(partitions);
    }
}

fn is_groups(tp: &TopicPartition) -> bool {
    &*tp.topic == GROUP_METADATA_TOPIC
}
