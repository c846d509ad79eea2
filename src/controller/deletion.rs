//! Deletion of topics, which outlives the deaths of brokers and controllers (`TopicDeletionManager`).
//!
//! A topic is marked in `/admin/delete_topics`; every replica is stopped, then deleted; when all have answered, the
//! topic's nodes go, the mark last. A topic with a replica that cannot be reached waits until its broker is back, and one
//! that is being reassigned until that is done.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::{StopReplicaRequest, StopReplicaResponse};
use tracing::{info, warn};

use super::batch::Batch;
use super::context::{PartitionState, ReplicaState};
use super::handlers::warn_of_error;
use super::replica_sm::Replica;
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};

impl Controller {
    /// Reads which topics are marked; marks on topics that do not exist, or where deletion is off, are taken away.
    pub(super) async fn read_deletions(&mut self) -> Result<(), ControllerError> {
        let marked = self.store.topics_to_delete().await?;
        let known = |name: &String| self.ctx.topics.contains_key(name.as_str());
        let (to_delete, void): (Vec<_>, Vec<_>) =
            marked.into_iter().partition(|name| self.config.delete_topic_enable && known(name));
        if !void.is_empty() {
            info!("taking the deletion marks off {void:?}");
            self.store.delete_marks(&self.ctx, &void).await?;
        }
        for name in to_delete {
            self.ctx.topics_to_be_deleted.insert(name.into());
        }
        Ok(())
    }

    pub(super) async fn on_topic_deletion(&mut self) -> Result<(), ControllerError> {
        self.read_deletions().await?;
        self.resume_deletions().await
    }

    /// Takes every deletion as far as it goes.
    pub(super) async fn resume_deletions(&mut self) -> Result<(), ControllerError> {
        let topics: Vec<Arc<str>> = self.ctx.topics_to_be_deleted.iter().cloned().collect();
        for topic in &topics {
            if self.all_replicas_deleted(topic) {
                self.complete_deletion(topic).await?;
            }
        }
        let mut batch = Batch::default();
        for topic in &topics {
            let waits = self.ctx.ineligible_for_deletion.contains(topic) || self.ctx.is_being_reassigned(topic);
            if self.ctx.is_to_be_deleted(topic) && !waits {
                self.begin_deletion(topic);
                self.delete_replicas(topic, &mut batch).await?;
            }
        }
        self.send(batch);
        Ok(())
    }

    fn replicas_of(&self, topic: &str) -> Vec<(Replica, ReplicaState)> {
        let mut found = Vec::new();
        for tp in self.ctx.partitions_of(topic) {
            let Some(partition) = self.ctx.partition(&tp) else { continue };
            for broker in &partition.assignment.replicas {
                found.push(((tp.clone(), *broker), partition.replica_state(*broker)));
            }
        }
        found
    }

    fn all_replicas_deleted(&self, topic: &str) -> bool {
        self.ctx.deletion_started.contains(topic)
            && self.replicas_of(topic).iter().all(|(_, state)| *state == ReplicaState::DeletionSuccessful)
    }

    /// Once per topic: its partitions lose their leaders, and brokers forget it.
    fn begin_deletion(&mut self, topic: &Arc<str>) {
        if !self.ctx.deletion_started.insert(topic.clone()) {
            return;
        }
        info!("deleting topic {topic}");
        let partitions = self.ctx.partitions_of(topic);
        for tp in &partitions {
            self.ctx.move_partition(tp, PartitionState::Offline);
            self.ctx.move_partition(tp, PartitionState::NonExistent);
        }
        let mut batch = Batch::default();
        batch.add_metadata(self.ctx.brokers.keys().copied().collect::<Vec<_>>(), partitions);
        self.send(batch);
    }

    /// Stops and deletes the replicas on live brokers; a topic with others waits for them.
    async fn delete_replicas(&mut self, topic: &Arc<str>, batch: &mut Batch) -> Result<(), ControllerError> {
        let mut stopping = Vec::new();
        for ((tp, broker), state) in self.replicas_of(topic) {
            let alive = self.ctx.is_replica_online(broker, &tp);
            match state {
                ReplicaState::DeletionSuccessful | ReplicaState::DeletionStarted => {}
                _ if alive => stopping.push((tp, broker)),
                _ => {
                    let replica = (tp, broker);
                    if state != ReplicaState::DeletionIneligible {
                        self.ctx.move_replica(&replica, ReplicaState::Offline);
                        self.ctx.move_replica(&replica, ReplicaState::DeletionIneligible);
                    }
                    self.ctx.ineligible_for_deletion.insert(topic.clone());
                }
            }
        }
        let mut stop = Batch::default();
        self.replicas_offline(&stopping, &mut stop).await?;
        self.send(stop);
        for replica in &stopping {
            if self.ctx.move_replica(replica, ReplicaState::DeletionStarted) {
                batch.add_stop_replica(replica.1, &replica.0, true);
            }
        }
        Ok(())
    }

    pub(super) async fn on_stop_replica_response(
        &mut self,
        broker: BrokerId,
        request: &StopReplicaRequest,
        response: &StopReplicaResponse,
    ) -> Result<(), ControllerError> {
        let deleted = |tp: &TopicPartition| {
            let topic = request.topic_states.iter().find(|t| t.topic_name.0.as_str() == tp.topic.as_ref());
            let mut states = topic.into_iter().flat_map(|topic| &topic.partition_states);
            states.any(|state| state.partition_index == tp.partition && state.delete_partition)
        };
        let refused = warn_of_error("StopReplica", broker, response.error_code);
        let answers = response.partition_errors.iter().map(|error| {
            let tp = TopicPartition::new(error.topic_name.0.as_str(), error.partition_index);
            (tp, ErrorCode::from_code(error.error_code))
        });
        let mut failed = Vec::new();
        let mut topics = BTreeSet::new();
        for (tp, code) in answers.filter(|(tp, _)| deleted(tp)) {
            // A reassignment does not wait for the replicas that it took away.
            if !self.ctx.is_to_be_deleted(&tp.topic) {
                continue;
            }
            topics.insert(tp.topic.clone());
            match code {
                ErrorCode::None if !refused => {
                    self.ctx.move_replica(&(tp, broker), ReplicaState::DeletionSuccessful);
                }
                _ => {
                    warn!("broker {broker} could not delete {tp}: {code}");
                    failed.push((tp, broker));
                }
            }
        }
        self.fail_replica_deletion(&failed);
        for topic in topics {
            if self.all_replicas_deleted(&topic) {
                self.complete_deletion(&topic).await?;
            }
        }
        Ok(())
    }

    /// These replicas cannot be deleted now; their topics wait.
    pub(super) fn fail_replica_deletion(&mut self, replicas: &[Replica]) {
        for replica in replicas {
            let state = self.ctx.partition(&replica.0).map(|p| p.replica_state(replica.1));
            if matches!(state, Some(ReplicaState::New | ReplicaState::Online)) {
                self.ctx.move_replica(replica, ReplicaState::Offline);
            }
            if matches!(
                state,
                Some(ReplicaState::New | ReplicaState::Online | ReplicaState::Offline | ReplicaState::DeletionStarted)
            ) {
                self.ctx.move_replica(replica, ReplicaState::DeletionIneligible);
            }
            self.ctx.ineligible_for_deletion.insert(replica.0.topic.clone());
        }
    }

    async fn complete_deletion(&mut self, topic: &Arc<str>) -> Result<(), ControllerError> {
        self.store.delete_topic(&self.ctx, topic).await?;
        self.ctx.remove_topic(topic);
        self.ctx.topics_to_be_deleted.remove(topic);
        self.ctx.deletion_started.remove(topic);
        self.ctx.ineligible_for_deletion.remove(topic);
        info!("topic {topic} is deleted");
        Ok(())
    }
}
