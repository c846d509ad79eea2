//! The controller's requests: LeaderAndIsr, StopReplica, UpdateMetadata, in process or over the wire. One at a time, each
//! fenced by controller epoch and broker epoch (KIP-380) and by leader epoch (KIP-570).

use std::sync::Arc;

use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
use kafka_protocol::messages::leader_and_isr_response::{LeaderAndIsrPartitionError, LeaderAndIsrTopicError};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    BrokerId as WireBroker, LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    TopicName, UpdateMetadataRequest, UpdateMetadataResponse,
};
use kafka_protocol::protocol::StrBytes;
use tracing::{debug, info, warn};

use super::{LeadershipChange, ReplicaManager};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, ControllerEpoch, LeaderEpoch, TopicId, TopicPartition};
use crate::replica::fetcher::Follow;
use crate::replica::leadership::Change;
use crate::replica::metadata_cache::partitions;
use crate::replica::partition::Partition;

/// The leader epoch of a StopReplica that deletes the topic: any epoch must yield (`LeaderAndIsr.EpochDuringDelete`).
const EPOCH_DURING_DELETE: i32 = -2;
/// The first LeaderAndIsr that groups partitions by topic and tells topic ids.
const FIRST_BY_TOPIC: i16 = 2;
const FIRST_WITH_TOPIC_IDS: i16 = 5;

/// One partition of a LeaderAndIsr, free of the request's shape.
struct Assignment<'a> {
    topic: Arc<str>,
    topic_id: TopicId,
    state: &'a LeaderAndIsrPartitionState,
}

/// One partition of a StopReplica.
struct Stop {
    topic_partition: TopicPartition,
    leader_epoch: LeaderEpoch,
    delete: bool,
}

impl ReplicaManager {
    /// Makes this broker leader or follower of the partitions in `request` (`ReplicaManager.becomeLeaderOrFollower`).
    pub async fn become_leader_or_follower(&self, request: &LeaderAndIsrRequest, version: i16) -> LeaderAndIsrResponse {
        let mut newest = self.control.lock().await;
        if let Err(error) = self.fence(&mut newest, request.controller_epoch, request.broker_epoch) {
            return LeaderAndIsrResponse::default().with_error_code(error.code());
        }
        let assignments = assignments(request, version);
        let mut topics: Vec<Arc<str>> = assignments.iter().map(|a| Arc::clone(&a.topic)).collect();
        topics.dedup();
        self.configs.learn(&topics).await;
        // Making thousands of logs takes long; other tasks of this runtime go on meanwhile.
        let results = blocking(|| {
            let mut follows = Vec::new();
            let results = assignments.iter().map(|a| self.assign(a, &mut follows)).collect::<Vec<_>>();
            if let Some(fetchers) = self.fetchers.get() {
                fetchers.add(follows);
                fetchers.stop_idle();
            }
            results
        });
        self.lease.told(BrokerEpoch(request.broker_epoch));
        drop(newest);
        leader_and_isr_response(&assignments, &results, version)
    }

    /// The partition's error, after it became what the controller wants. What is to be fetched goes to `follows`.
    fn assign(&self, assignment: &Assignment<'_>, follows: &mut Vec<Follow>) -> ErrorCode {
        match self.try_assign(assignment) {
            Ok(follow) => {
                follows.extend(follow);
                ErrorCode::None
            }
            Err(error) => error,
        }
    }

    fn try_assign(&self, assignment: &Assignment<'_>) -> Result<Option<Follow>, ErrorCode> {
        let state = assignment.state;
        let tp = TopicPartition::new(Arc::clone(&assignment.topic), state.partition_index);
        let known = self.hosted(&tp.topic, tp.partition);
        if known.as_ref().is_some_and(|partition| partition.is_offline()) {
            return Err(ErrorCode::KafkaStorageError);
        }
        let ours = known.as_ref().and_then(|partition| partition.topic_id()).unwrap_or(TopicId::nil());
        if !assignment.topic_id.is_nil() && !ours.is_nil() && ours != assignment.topic_id {
            warn!("{tp}: the controller names topic id {}, the log has {ours}", assignment.topic_id);
            return Err(ErrorCode::InconsistentTopicId);
        }
        if known.as_ref().is_some_and(|partition| state.leader_epoch < partition.leader_epoch().get()) {
            return Err(ErrorCode::StaleControllerEpoch);
        }
        if !state.replicas.contains(&WireBroker(self.me.get())) {
            warn!("{tp}: the controller sends a state whose replicas {:?} do not name this broker", state.replicas);
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let partition = known.unwrap_or_else(|| Arc::new(Partition::new(tp.clone(), &self.context)));
        let log = self.open_log(&tp, assignment.topic_id, state.is_new).inspect_err(|_| {
            partition.mark_offline();
            self.host(&partition, assignment.topic_id);
        })?;
        partition.set_min_isr(self.configs.get(&tp.topic).topic.min_insync_replicas);
        // Hosted first: those who are told of the new role look the partition up at once.
        self.host(&partition, assignment.topic_id);
        let follows = self.take_role(&partition, state, log);
        Ok(if follows { self.follow(&partition, assignment.topic_id) } else { None })
    }

    /// Leads or follows; whether it follows a leader that a fetcher does not know of yet. The fetcher of the old leader is
    /// stopped before the role changes.
    fn take_role(
        &self,
        partition: &Arc<Partition>,
        state: &LeaderAndIsrPartitionState,
        log: Arc<crate::log::partition_log::PartitionLog>,
    ) -> bool {
        let (tp, epoch) = (&partition.topic_partition, LeaderEpoch(state.leader_epoch));
        if epoch > partition.leader_epoch() {
            self.stop_fetching(tp);
        }
        if state.leader.0 == self.me.get() {
            if partition.make_leader(state, log, self.clock.now_ms()) == Change::NewEpoch {
                debug!("{tp}: leads from epoch {epoch} on");
                self.tell(LeadershipChange::Leads(tp.clone(), epoch));
            }
        } else if partition.make_follower(state, log) == Change::NewEpoch {
            debug!("{tp}: follows {} from epoch {epoch} on", state.leader.0);
            self.tell(LeadershipChange::Follows(tp.clone(), epoch));
            return true;
        }
        false
    }

    fn stop_fetching(&self, tp: &TopicPartition) {
        if let Some(fetchers) = self.fetchers.get() {
            fetchers.remove(tp);
        }
    }

    /// Stops replicas and deletes their logs where asked (`ReplicaManager.stopReplicas`).
    pub async fn stop_replica(&self, request: &StopReplicaRequest, version: i16) -> StopReplicaResponse {
        let mut newest = self.control.lock().await;
        if let Err(error) = self.fence(&mut newest, request.controller_epoch, request.broker_epoch) {
            return StopReplicaResponse::default().with_error_code(error.code());
        }
        let stops = stops(request, version);
        let results = blocking(|| stops.iter().map(|stop| self.stop(stop)).collect::<Vec<_>>());
        drop(newest);
        let errors = stops.iter().zip(results).map(|(stop, error)| {
            StopReplicaPartitionError::default()
                .with_topic_name(name(&stop.topic_partition.topic))
                .with_partition_index(stop.topic_partition.partition)
                .with_error_code(error.code())
        });
        StopReplicaResponse::default().with_partition_errors(errors.collect())
    }

    fn stop(&self, stop: &Stop) -> ErrorCode {
        let tp = &stop.topic_partition;
        let hosted = self.hosted(&tp.topic, tp.partition);
        if let Some(partition) = &hosted {
            if partition.is_offline() {
                return ErrorCode::KafkaStorageError;
            }
            let sentinel = stop.leader_epoch.get() == EPOCH_DURING_DELETE || stop.leader_epoch == LeaderEpoch::NONE;
            if !sentinel && stop.leader_epoch < partition.leader_epoch() {
                return ErrorCode::FencedLeaderEpoch;
            }
            self.stand_down(partition, stop.leader_epoch);
        }
        if !stop.delete {
            return ErrorCode::None;
        }
        self.unhost(tp);
        match self.log_manager.delete(tp, self.clock.now_ms()) {
            Ok(()) => ErrorCode::None,
            Err(error) => {
                warn!("{tp}: the log could not be deleted: {error}");
                error.code()
            }
        }
    }

    /// Neither leads nor follows any more.
    fn stand_down(&self, partition: &Partition, epoch: LeaderEpoch) {
        let tp = &partition.topic_partition;
        self.stop_fetching(tp);
        partition.stop();
        self.tell(LeadershipChange::Stopped(tp.clone(), epoch));
    }

    /// Replicas that were taken from this broker while its controller could not tell it to stop them, and that nobody will
    /// tell it of any more: another controller, or this one after the broker registered anew, speaks of what is assigned
    /// only. The log stays, as it does in Kafka, which goes on believing to lead.
    fn stop_what_moved_away(&self, request: &UpdateMetadataRequest) {
        let elsewhere = partitions(request).filter(|(.., state)| !state.replicas.contains(&WireBroker(self.me.get())));
        for (topic, _, state) in elsewhere {
            let Some(partition) = self.hosted(topic, state.partition_index) else { continue };
            let epoch = LeaderEpoch(state.leader_epoch);
            let is_stopped = partition.is_offline() || partition.log().is_none();
            if !is_stopped && epoch > partition.leader_epoch() {
                info!("{topic}-{}: is on {:?} now and stopped here", state.partition_index, state.replicas);
                self.stand_down(&partition, epoch);
            }
        }
    }

    /// Takes in the controller's picture of the cluster (`ReplicaManager.maybeUpdateMetadataCache`).
    pub async fn update_metadata(&self, request: &UpdateMetadataRequest) -> UpdateMetadataResponse {
        let mut newest = self.control.lock().await;
        if let Err(error) = self.fence(&mut newest, request.controller_epoch, request.broker_epoch) {
            return UpdateMetadataResponse::default().with_error_code(error.code());
        }
        let before: Vec<_> = self.metadata.snapshot().brokers().map(|broker| broker.id).collect();
        let deleted = self.metadata.update(request);
        let same = self.metadata.snapshot().brokers().map(|broker| broker.id).eq(before);
        self.stop_what_moved_away(request);
        drop(newest);
        if !same {
            self.live_brokers_changed();
        }
        if !deleted.is_empty() {
            let snapshot = self.metadata.snapshot();
            for tp in deleted.iter().filter(|tp| snapshot.topic(&tp.topic).is_none()) {
                self.configs.forget(&tp.topic);
            }
            if let Some(listener) = self.listener.get() {
                listener.partitions_deleted(&deleted);
            }
        }
        UpdateMetadataResponse::default()
    }

    /// Refuses what an old controller, or a controller that means an earlier life of this broker, sends.
    fn fence(&self, newest: &mut ControllerEpoch, epoch: i32, broker_epoch: i64) -> Result<(), ErrorCode> {
        if broker_epoch != BrokerEpoch::NONE.get() && BrokerEpoch(broker_epoch) < self.broker_epoch() {
            info!("a control request for broker epoch {broker_epoch} is refused: it is {} now", self.broker_epoch());
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if epoch < newest.get() {
            info!("a control request of controller epoch {epoch} is refused: {newest} is the newest seen");
            return Err(ErrorCode::StaleControllerEpoch);
        }
        *newest = ControllerEpoch(epoch);
        Ok(())
    }
}

/// Runs what waits for the disk. On the control runtime the other tasks move to another thread meanwhile; a runtime of one
/// thread (tests) has nowhere to move them.
fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn name(topic: &Arc<str>) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_string()))
}

fn assignments(request: &LeaderAndIsrRequest, version: i16) -> Vec<Assignment<'_>> {
    if version < FIRST_BY_TOPIC {
        let states = request.ungrouped_partition_states.iter();
        let one = |state| Assignment { topic: Arc::from(topic_of(state)), topic_id: TopicId::nil(), state };
        return states.map(one).collect();
    }
    let topics = request.topic_states.iter();
    topics
        .flat_map(|topic| {
            let name: Arc<str> = Arc::from(topic.topic_name.as_str());
            let topic_id = topic.topic_id;
            topic.partition_states.iter().map(move |state| Assignment { topic: Arc::clone(&name), topic_id, state })
        })
        .collect()
}

fn topic_of(state: &LeaderAndIsrPartitionState) -> &str {
    state.topic_name.as_str()
}

fn leader_and_isr_response(
    assignments: &[Assignment<'_>],
    results: &[ErrorCode],
    version: i16,
) -> LeaderAndIsrResponse {
    let mut response = LeaderAndIsrResponse::default();
    for (assignment, error) in assignments.iter().zip(results) {
        let mut entry = LeaderAndIsrPartitionError::default()
            .with_partition_index(assignment.state.partition_index)
            .with_error_code(error.code());
        if version < FIRST_WITH_TOPIC_IDS {
            entry.topic_name = name(&assignment.topic);
            response.partition_errors.push(entry);
            continue;
        }
        match response.topics.last_mut().filter(|topic| topic.topic_id == assignment.topic_id) {
            Some(topic) => topic.partition_errors.push(entry),
            None => response.topics.push(
                LeaderAndIsrTopicError::default().with_topic_id(assignment.topic_id).with_partition_errors(vec![entry]),
            ),
        }
    }
    response
}

/// The partitions of a StopReplica in any of its three shapes.
fn stops(request: &StopReplicaRequest, version: i16) -> Vec<Stop> {
    let stop = |topic: &Arc<str>, partition, epoch, delete| Stop {
        topic_partition: TopicPartition::new(Arc::clone(topic), partition),
        leader_epoch: LeaderEpoch(epoch),
        delete,
    };
    let mut stops = Vec::new();
    match version {
        0 => stops.extend(
            request
                .ungrouped_partitions
                .iter()
                .map(|p| stop(&Arc::from(p.topic_name.as_str()), p.partition_index, -1, request.delete_partitions)),
        ),
        1..=2 => {
            for topic in &request.topics {
                let name = Arc::from(topic.name.as_str());
                let partitions = topic.partition_indexes.iter();
                stops.extend(partitions.map(|&p| stop(&name, p, -1, request.delete_partitions)));
            }
        }
        _ => {
            for topic in &request.topic_states {
                let name = Arc::from(topic.topic_name.as_str());
                let states = topic.partition_states.iter();
                stops.extend(states.map(|p| stop(&name, p.partition_index, p.leader_epoch, p.delete_partition)));
            }
        }
    }
    stops
}
