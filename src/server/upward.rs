//! What the replica room tells the coordinators above it.

use std::sync::Arc;

use crate::base::ids::{LeaderEpoch, TopicPartition};
use crate::base::topic_names::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};
use crate::coordinator::group::coordinator::GroupCoordinator;
use crate::coordinator::txn::coordinator::TxnCoordinator;
use crate::replica::manager::{LeadershipChange, ReplicaListener};

/// Hands on who leads the partitions of internal topics.
pub struct Upward {
    groups: Arc<GroupCoordinator>,
    transactions: Arc<TxnCoordinator>,
}

impl Upward {
    /// Tells `groups` and `transactions`.
    pub fn new(groups: Arc<GroupCoordinator>, transactions: Arc<TxnCoordinator>) -> Self {
        Self { groups, transactions }
    }

    fn elected(&self, tp: &TopicPartition, epoch: LeaderEpoch) {
        match &*tp.topic {
            GROUP_METADATA_TOPIC => self.groups.on_election(tp.partition, epoch),
            TRANSACTION_STATE_TOPIC => self.transactions.on_election(tp.partition, epoch),
            _ => {}
        }
    }

    fn resigned(&self, tp: &TopicPartition, epoch: Option<LeaderEpoch>) {
        match &*tp.topic {
            GROUP_METADATA_TOPIC => self.groups.on_resignation(tp.partition, epoch),
            TRANSACTION_STATE_TOPIC => self.transactions.on_resignation(tp.partition, epoch),
            _ => {}
        }
    }
}

impl ReplicaListener for Upward {
    fn leadership_changed(&self, change: LeadershipChange) {
        match change {
            LeadershipChange::Leads(tp, epoch) => self.elected(&tp, epoch),
            LeadershipChange::Follows(tp, epoch) => self.resigned(&tp, Some(epoch)),
            LeadershipChange::Stopped(tp, epoch) => self.resigned(&tp, Some(epoch).filter(|epoch| epoch.get() >= 0)),
        }
    }

    fn partitions_deleted(&self, partitions: &[TopicPartition]) {
        self.groups.on_partitions_deleted(partitions);
    }
}
