//! What the active controller does about each event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::{LeaderAndIsrRequest, LeaderAndIsrResponse};
use tracing::{info, warn};

use super::batch::Batch;
use super::channels::{ControlRequest, ControlResponse};
use super::context::{Partition, PartitionState, ReplicaState};
use super::event::Event;
use super::failover::new_topic;
use super::replica_sm::Replica;
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, TopicPartition};
use crate::zk::znodes::broker_ids::LiveBroker;

impl Controller {
    pub(super) async fn handle_active(&mut self, event: Event) -> Result<(), ControllerError> {
        match event {
            Event::BrokerChange => self.on_broker_change().await,
            Event::BrokerModification(id) => self.on_broker_modification(id).await,
            Event::TopicChange => self.on_topic_change().await,
            Event::PartitionModification(topic) => self.on_partition_modification(topic).await,
            Event::TopicDeletion => self.on_topic_deletion().await,
            Event::IsrChangeNotification => self.on_isr_change().await,
            Event::LogDirFailure => self.on_log_dir_event().await,
            Event::PreferredElection => self.on_preferred_election().await,
            Event::AutoRebalance => self.on_auto_rebalance().await,
            Event::ConfigChange => self.on_config_change().await,
            Event::UncleanLeaders => self.on_unclean_leaders().await,
            Event::Suspected(broker, epoch) => self.on_suspected((broker, epoch)).await,
            Event::Trusted(broker, epoch) => self.on_trusted((broker, epoch)).await,
            Event::Reassignment => self.on_reassignment_node().await,
            Event::Response { broker, epoch, request, response } => {
                self.on_response(broker, epoch, *request, response).await
            }
            Event::Request(request) => self.on_request(request).await,
            Event::Elect
            | Event::Reload
            | Event::SessionExpired
            | Event::ControllerSuspected { .. }
            | Event::Shutdown => Ok(()),
        }
    }

    async fn on_broker_change(&mut self) -> Result<(), ControllerError> {
        let now: BTreeMap<BrokerId, LiveBroker> =
            self.store.brokers().await?.into_iter().map(|broker| (broker.info.id, broker)).collect();
        let before = &self.ctx.brokers;
        let bounced = |id: &&BrokerId| before.get(id).zip(now.get(id)).is_some_and(|(a, b)| a.epoch != b.epoch);
        let gone: BTreeSet<BrokerId> =
            before.keys().filter(|id| !now.contains_key(id) || bounced(id)).copied().collect();
        let come: BTreeSet<BrokerId> =
            now.keys().filter(|id| !before.contains_key(id) || bounced(id)).copied().collect();
        if gone.is_empty() && come.is_empty() {
            return Ok(());
        }
        info!("brokers come: {come:?}, gone: {gone:?}, alive: {:?}", now.keys().collect::<Vec<_>>());
        // Those that came anew too: as long as they may be members on what an earlier life had, no state names this one.
        for id in &gone {
            self.ctx.brokers.remove(id);
            self.ctx.shutting_down.remove(id);
            self.ctx.suspected.remove(id);
            self.ctx.offline_dirs.remove(id);
            self.channels.remove(*id);
        }
        if !gone.is_empty() {
            self.on_broker_failure(&gone).await?;
        }
        for (id, broker) in now.into_iter().filter(|(id, _)| come.contains(id)) {
            self.channels.add(broker.clone(), false);
            self.ctx.brokers.insert(id, broker);
        }
        if !come.is_empty() {
            self.on_broker_startup(&come).await?;
        }
        Ok(())
    }

    pub(super) async fn on_broker_startup(&mut self, come: &BTreeSet<BrokerId>) -> Result<(), ControllerError> {
        // Those who come too must know who lives before they are told whom to follow.
        let mut live = Batch::default();
        live.add_metadata(self.ctx.brokers.keys().copied().collect::<Vec<_>>(), []);
        self.send(live);
        let mut batch = Batch::default();
        let with_leader = self.ctx.all_partitions().filter(|(_, p)| p.leadership.is_some()).map(|(tp, _)| tp);
        batch.add_metadata(come.iter().copied(), with_leader.collect::<Vec<_>>());
        let replicas = self.ctx.replicas_on(come);
        self.replicas_online(&replicas, &mut batch);
        self.bring_leaderless_online(&mut batch).await?;
        self.send(batch);
        self.stop_left_over(come.clone());
        let topics: BTreeSet<Arc<str>> = replicas.iter().map(|(tp, _)| tp.topic.clone()).collect();
        self.ctx.ineligible_for_deletion.retain(|topic| !topics.contains(topic));
        self.resume_reassignments(|assignment| assignment.target_replicas().iter().any(|id| come.contains(id))).await?;
        self.resume_deletions().await
    }

    /// Brokers that were to stop replicas, and registered anew before they were told, are told now: as one that comes is
    /// told only of what it is assigned, it would keep what was taken from it for good, and believe to lead it. (Kafka's
    /// does.)
    pub(super) fn stop_left_over(&mut self, brokers: BTreeSet<BrokerId>) {
        for broker in brokers {
            let Some(mut stops) = self.channels.take_unstopped(broker) else { continue };
            for topic in &mut stops.topic_states {
                let known = self.ctx.topics.get(topic.topic_name.as_str());
                topic.partition_states.retain(|state| {
                    let partition = known.and_then(|known| known.partitions.get(&state.partition_index));
                    partition.is_none_or(|partition| !partition.assignment.replicas.contains(&broker))
                });
            }
            stops.topic_states.retain(|topic| !topic.partition_states.is_empty());
            if let Some(epoch) = self.channels.epoch(broker).filter(|_| !stops.topic_states.is_empty()) {
                self.channels.send(broker, ControlRequest::StopReplica(stops.with_broker_epoch(epoch.get())));
            }
        }
    }

    async fn on_broker_failure(&mut self, gone: &BTreeSet<BrokerId>) -> Result<(), ControllerError> {
        let replicas = self.ctx.replicas_on(gone);
        self.on_replicas_offline(replicas).await
    }

    /// Partitions that lost their leader get another one; the rest lose a follower.
    async fn on_replicas_offline(&mut self, replicas: Vec<Replica>) -> Result<(), ControllerError> {
        let mut batch = Batch::default();
        let (deleted, staying): (Vec<_>, Vec<_>) =
            replicas.into_iter().partition(|(tp, _)| self.ctx.is_dying(&tp.topic));
        for (tp, broker) in &staying {
            let leadership = self.ctx.partition(tp).and_then(|p| p.leadership.as_ref());
            if leadership.is_some_and(|l| l.leader_and_isr.leader == *broker) {
                self.ctx.move_partition(tp, PartitionState::Offline);
            }
        }
        self.bring_leaderless_online(&mut batch).await?;
        self.replicas_offline(&staying, &mut batch).await?;
        self.fail_replica_deletion(&deleted);
        batch.add_metadata(self.ctx.brokers.keys().copied().collect::<Vec<_>>(), []);
        self.send(batch);
        Ok(())
    }

    async fn on_broker_modification(&mut self, id: BrokerId) -> Result<(), ControllerError> {
        let Some(changed) = self.store.brokers().await?.into_iter().find(|broker| broker.info.id == id) else {
            return Ok(());
        };
        if self.ctx.brokers.get(&id).is_some_and(|known| known.epoch == changed.epoch && known.info != changed.info) {
            info!("broker {id} changed its registration: {:?}", changed.info.endpoints);
            self.ctx.brokers.insert(id, changed);
            let mut batch = Batch::default();
            batch.add_metadata(self.ctx.brokers.keys().copied().collect::<Vec<_>>(), []);
            self.send(batch);
        }
        Ok(())
    }

    async fn on_topic_change(&mut self) -> Result<(), ControllerError> {
        let names: BTreeSet<String> = self.store.topics().await?.into_iter().collect();
        let gone: Vec<Arc<str>> = self.ctx.topics.keys().filter(|t| !names.contains(t.as_ref())).cloned().collect();
        let new: Vec<String> = names.into_iter().filter(|name| !self.ctx.topics.contains_key(name.as_str())).collect();
        for topic in gone {
            self.ctx.remove_topic(&topic);
        }
        if new.is_empty() {
            return Ok(());
        }
        let mut nodes = self.store.topic_nodes(&new).await?;
        self.assign_topic_ids(&mut nodes).await?;
        let mut partitions = Vec::new();
        for (name, node) in nodes {
            info!("new topic {name} with {} partitions", node.partitions.len());
            self.ctx.add_topic(name.as_str().into(), new_topic(node));
            partitions.extend(self.ctx.partitions_of(&name));
        }
        self.on_new_partitions(partitions).await
    }

    async fn on_partition_modification(&mut self, topic: Arc<str>) -> Result<(), ControllerError> {
        let Some((_, node)) = self.store.topic_nodes(&[topic.to_string()]).await?.pop() else { return Ok(()) };
        let deleting = self.ctx.is_to_be_deleted(&topic);
        let Some(known) = self.ctx.topics.get_mut(&topic) else { return Ok(()) };
        let mut added = Vec::new();
        for (number, assignment) in node.partitions {
            if known.partitions.contains_key(&number) {
                continue;
            }
            if deleting {
                warn!("{topic} is being deleted, partition {number} is not added");
                continue;
            }
            known.partitions.insert(number, Partition::new(assignment));
            added.push(TopicPartition::new(topic.clone(), number));
        }
        match added.is_empty() {
            true => Ok(()),
            false => self.on_new_partitions(added).await,
        }
    }

    async fn on_new_partitions(&mut self, partitions: Vec<TopicPartition>) -> Result<(), ControllerError> {
        for tp in &partitions {
            self.ctx.move_partition(tp, PartitionState::New);
            let replicas = self.ctx.partition(tp).map(|p| p.assignment.replicas.clone()).unwrap_or_default();
            for broker in replicas {
                self.ctx.move_replica(&(tp.clone(), broker), ReplicaState::New);
            }
        }
        let mut batch = Batch::default();
        self.bring_online(partitions.clone(), &mut batch).await?;
        for tp in &partitions {
            for broker in self.ctx.online_replicas(tp) {
                self.ctx.move_replica(&(tp.clone(), broker), ReplicaState::Online);
            }
        }
        self.send(batch);
        Ok(())
    }

    /// Leaders of IBP below 2.7-IV2 write their ISRs themselves; all brokers are told of them.
    async fn on_isr_change(&mut self) -> Result<(), ControllerError> {
        let (paths, mut partitions) = self.store.isr_changes().await?;
        partitions.retain(|tp| self.ctx.partition(tp).is_some());
        let states = self.store.states(&partitions).await?;
        for (tp, state) in partitions.iter().zip(states) {
            if let (Some(partition), Some(state)) = (self.ctx.partition_mut(tp), state) {
                partition.leadership = Some(state);
            }
        }
        let mut batch = Batch::default();
        batch.add_metadata(self.ctx.brokers.keys().copied().collect::<Vec<_>>(), partitions.clone());
        self.send(batch);
        self.store.delete_nodes(&self.ctx, &paths).await?;
        self.complete_grown(partitions).await
    }

    /// A broker that lost a log dir is told all of its replicas' roles again: its answer says which of them it has lost.
    async fn on_log_dir_event(&mut self) -> Result<(), ControllerError> {
        let (paths, mut brokers) = self.store.log_dir_events().await?;
        brokers.retain(|id| self.ctx.brokers.contains_key(id));
        if !brokers.is_empty() {
            info!("brokers with failed log dirs: {brokers:?}");
            let mut replicas = self.ctx.replicas_on(&brokers);
            replicas.retain(|(tp, _)| !self.ctx.is_dying(&tp.topic));
            let mut batch = Batch::default();
            self.replicas_online(&replicas, &mut batch);
            self.send(batch);
        }
        self.store.delete_nodes(&self.ctx, &paths).await
    }

    async fn on_response(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        request: ControlRequest,
        response: ControlResponse,
    ) -> Result<(), ControllerError> {
        if self.channels.epoch(broker) != Some(epoch) {
            return Ok(());
        }
        match (request, response) {
            (ControlRequest::LeaderAndIsr(request), ControlResponse::LeaderAndIsr(response)) => {
                self.on_leader_and_isr_response(broker, &request, &response).await
            }
            (ControlRequest::StopReplica(request), ControlResponse::StopReplica(response)) => {
                self.on_stop_replica_response(broker, &request, &response).await
            }
            (ControlRequest::UpdateMetadata(_), ControlResponse::UpdateMetadata(response)) => {
                warn_of_error("UpdateMetadata", broker, response.error_code);
                Ok(())
            }
            (request, response) => {
                warn!("broker {broker} answered {} with {response:?}", request.name());
                Ok(())
            }
        }
    }

    /// A replica whose log dir failed is offline, one that answers without an error is back.
    async fn on_leader_and_isr_response(
        &mut self,
        broker: BrokerId,
        request: &LeaderAndIsrRequest,
        response: &LeaderAndIsrResponse,
    ) -> Result<(), ControllerError> {
        if warn_of_error("LeaderAndIsr", broker, response.error_code) {
            return Ok(());
        }
        // The answer speaks only of the partitions that were asked about.
        let mut newly_failed = Vec::new();
        let dirs = self.ctx.offline_dirs.entry(broker).or_default();
        for (tp, code) in partition_errors(request, response) {
            if code == ErrorCode::KafkaStorageError {
                if dirs.insert(tp.clone()) {
                    newly_failed.push(tp);
                }
            } else {
                dirs.remove(&tp);
                if !code.is_none() {
                    warn!("broker {broker} could not apply LeaderAndIsr to {tp}: {code}");
                }
            }
        }
        if dirs.is_empty() {
            self.ctx.offline_dirs.remove(&broker);
        }
        match newly_failed.is_empty() {
            true => Ok(()),
            false => self.on_replicas_offline(newly_failed.into_iter().map(|tp| (tp, broker)).collect()).await,
        }
    }
}

/// Logs an error at the top of a response; answers whether there was one.
pub(super) fn warn_of_error(request: &str, broker: BrokerId, code: i16) -> bool {
    let code = ErrorCode::from_code(code);
    if !code.is_none() {
        warn!("broker {broker} refused {request}: {code}");
    }
    !code.is_none()
}

/// The errors of a LeaderAndIsr response, which names topics by id from version 5 on and by name before.
fn partition_errors(
    request: &LeaderAndIsrRequest,
    response: &LeaderAndIsrResponse,
) -> Vec<(TopicPartition, ErrorCode)> {
    let mut errors = Vec::new();
    for error in &response.partition_errors {
        let tp = TopicPartition::new(error.topic_name.0.as_str(), error.partition_index);
        errors.push((tp, ErrorCode::from_code(error.error_code)));
    }
    for topic in &response.topics {
        let named = request.topic_states.iter().find(|state| state.topic_id == topic.topic_id);
        let Some(name) = named.map(|state| Arc::<str>::from(state.topic_name.0.as_str())) else { continue };
        for error in &topic.partition_errors {
            let tp = TopicPartition::new(name.clone(), error.partition_index);
            errors.push((tp, ErrorCode::from_code(error.error_code)));
        }
    }
    errors
}
