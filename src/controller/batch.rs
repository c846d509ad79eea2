//! Collects what brokers must be told in the course of one event, and makes one request of each kind for each broker.
//!
//! Order per broker: LeaderAndIsr, then UpdateMetadata, then StopReplica (`AbstractControllerBrokerRequestBatch`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::leader_and_isr_request::{
    LeaderAndIsrLiveLeader, LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use kafka_protocol::messages::stop_replica_request::{StopReplicaPartitionState, StopReplicaTopicState};
use kafka_protocol::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint, UpdateMetadataPartitionState, UpdateMetadataTopicState,
};
use kafka_protocol::messages::{
    BrokerId as WireBroker, LeaderAndIsrRequest, StopReplicaRequest, TopicName, UpdateMetadataRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::channels::{Channels, ControlRequest};
use super::context::{Context, PartitionState};
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::znodes::broker_ids::LiveBroker;
use crate::zk::znodes::topics::LeaderAndIsr;

/// Sent in StopReplica v3+ for a topic being deleted (`LeaderAndIsr.EpochDuringDelete`): the leader epoch is not checked.
const EPOCH_DURING_DELETE: i32 = -2;
/// Sent where the leader epoch is unknown (`LeaderAndIsr.NoEpoch`).
const NO_EPOCH: i32 = -1;

/// What to tell, by broker.
#[derive(Debug, Default)]
pub(super) struct Batch {
    leader_and_isr: BTreeMap<BrokerId, BTreeMap<TopicPartition, bool>>,
    metadata: BTreeSet<TopicPartition>,
    metadata_for: BTreeSet<BrokerId>,
    stop: BTreeMap<BrokerId, BTreeMap<TopicPartition, bool>>,
}

impl Batch {
    /// Tells these brokers of a partition's leader; `is_new` of one created with this. All brokers get its metadata.
    pub(super) fn add_leader_and_isr(
        &mut self,
        brokers: &[BrokerId],
        tp: &TopicPartition,
        is_new: bool,
        ctx: &Context,
    ) {
        for broker in brokers {
            let states = self.leader_and_isr.entry(*broker).or_default();
            *states.entry(tp.clone()).or_insert(false) |= is_new;
        }
        self.add_metadata(ctx.brokers.keys().copied(), [tp.clone()]);
    }

    /// Tells these brokers of the live brokers and of some partitions.
    pub(super) fn add_metadata(
        &mut self,
        brokers: impl IntoIterator<Item = BrokerId>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) {
        self.metadata_for.extend(brokers);
        self.metadata.extend(partitions);
    }

    /// Tells a broker to stop a replica, and to delete it or not.
    pub(super) fn add_stop_replica(&mut self, broker: BrokerId, tp: &TopicPartition, delete: bool) {
        *self.stop.entry(broker).or_default().entry(tp.clone()).or_insert(false) |= delete;
    }

    /// Puts all of it into the brokers' queues.
    pub(super) fn send(self, ctx: &Context, controller: BrokerId, channels: &Channels) {
        for (broker, partitions) in &self.leader_and_isr {
            if let Some(request) = leader_and_isr(ctx, controller, *broker, partitions, channels) {
                channels.send(*broker, ControlRequest::LeaderAndIsr(request));
            }
        }
        self.send_metadata(ctx, controller, channels);
        for (broker, partitions) in &self.stop {
            if let Some(request) = stop_replica(ctx, controller, *broker, partitions, channels) {
                channels.send(*broker, ControlRequest::StopReplica(request));
            }
        }
    }

    fn send_metadata(&self, ctx: &Context, controller: BrokerId, channels: &Channels) {
        if self.metadata_for.is_empty() {
            return;
        }
        let request = UpdateMetadataRequest::default()
            .with_controller_id(wire(controller))
            .with_controller_epoch(ctx.epoch.get())
            .with_topic_states(metadata_topics(ctx, &self.metadata))
            .with_live_brokers(ctx.brokers.values().map(metadata_broker).collect());
        for broker in &self.metadata_for {
            if let Some(epoch) = channels.epoch(*broker) {
                let request = request.clone().with_broker_epoch(epoch.get());
                channels.send(*broker, ControlRequest::UpdateMetadata(request));
            }
        }
    }
}

/// A broker's id in a request.
pub(super) fn wire(id: BrokerId) -> WireBroker {
    WireBroker(id.get())
}

/// A topic's name in a request.
pub(super) fn wire_topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn wire_all(ids: &[BrokerId]) -> Vec<WireBroker> {
    ids.iter().copied().map(wire).collect()
}

/// A topic's name and its partitions, each with what belongs to it.
type TopicGroup<T> = (Arc<str>, Vec<(i32, T)>);

/// Groups partitions, which come sorted, by their topic.
fn by_topic<'a, T>(partitions: impl Iterator<Item = (&'a TopicPartition, T)>) -> Vec<TopicGroup<T>> {
    let mut topics: Vec<TopicGroup<T>> = Vec::new();
    for (tp, value) in partitions {
        match topics.last_mut() {
            Some((topic, list)) if *topic == tp.topic => list.push((tp.partition, value)),
            _ => topics.push((tp.topic.clone(), vec![(tp.partition, value)])),
        }
    }
    topics
}

fn leader_and_isr(
    ctx: &Context,
    controller: BrokerId,
    broker: BrokerId,
    partitions: &BTreeMap<TopicPartition, bool>,
    channels: &Channels,
) -> Option<LeaderAndIsrRequest> {
    let epoch = channels.epoch(broker)?;
    let mut leaders = BTreeSet::new();
    let mut topics = Vec::new();
    for (topic, list) in by_topic(partitions.iter()) {
        let mut states = Vec::with_capacity(list.len());
        for (number, is_new) in list {
            let Some(partition) = ctx.topics.get(&topic).and_then(|t| t.partitions.get(&number)) else { continue };
            let Some(leadership) = &partition.leadership else { continue };
            let state = &leadership.leader_and_isr;
            leaders.insert(state.leader);
            states.push(
                LeaderAndIsrPartitionState::default()
                    .with_partition_index(number)
                    .with_controller_epoch(leadership.controller_epoch.get())
                    .with_leader(wire(state.leader))
                    .with_leader_epoch(state.leader_epoch.get())
                    .with_isr(wire_all(&state.isr))
                    .with_partition_epoch(state.partition_epoch)
                    .with_replicas(wire_all(&partition.assignment.replicas))
                    .with_adding_replicas(wire_all(&partition.assignment.adding))
                    .with_removing_replicas(wire_all(&partition.assignment.removing))
                    .with_is_new(*is_new)
                    .with_leader_recovery_state(state.leader_recovery_state),
            );
        }
        topics.push(
            LeaderAndIsrTopicState::default()
                .with_topic_name(wire_topic(&topic))
                .with_topic_id(ctx.topic_id(&topic))
                .with_partition_states(states),
        );
    }
    let live_leaders = leaders.iter().filter_map(|leader| ctx.brokers.get(leader));
    let live_leaders = live_leaders.map(|leader| live_leader(leader, &channels.inter_broker_listener)).collect();
    Some(
        LeaderAndIsrRequest::default()
            .with_controller_id(wire(controller))
            .with_controller_epoch(ctx.epoch.get())
            .with_broker_epoch(epoch.get())
            .with_topic_states(topics)
            .with_live_leaders(live_leaders),
    )
}

fn live_leader(broker: &LiveBroker, listener: &str) -> LeaderAndIsrLiveLeader {
    let endpoint = broker.info.endpoint(listener).or(broker.info.endpoints.first());
    LeaderAndIsrLiveLeader::default()
        .with_broker_id(wire(broker.info.id))
        .with_host_name(StrBytes::from_string(endpoint.map(|e| e.host.clone()).unwrap_or_default()))
        .with_port(endpoint.map_or(-1, |e| e.port))
}

fn metadata_broker(broker: &LiveBroker) -> UpdateMetadataBroker {
    let endpoints = broker.info.endpoints.iter().map(|endpoint| {
        UpdateMetadataEndpoint::default()
            .with_host(StrBytes::from_string(endpoint.host.clone()))
            .with_port(endpoint.port)
            .with_listener(StrBytes::from_string(endpoint.listener.clone()))
            .with_security_protocol(endpoint.security_protocol_id())
    });
    UpdateMetadataBroker::default()
        .with_id(wire(broker.info.id))
        .with_endpoints(endpoints.collect())
        .with_rack(broker.info.rack.clone().map(StrBytes::from_string))
}

fn metadata_topics(ctx: &Context, partitions: &BTreeSet<TopicPartition>) -> Vec<UpdateMetadataTopicState> {
    let topics = by_topic(partitions.iter().map(|tp| (tp, ())));
    let topic_state = |(topic, list): TopicGroup<()>| {
        let is_dying = ctx.is_dying(&topic);
        let partition = |(number, ())| metadata_partition(ctx, &topic, number, is_dying);
        let states = list.into_iter().filter_map(partition).collect();
        UpdateMetadataTopicState::default()
            .with_topic_name(wire_topic(&topic))
            .with_topic_id(ctx.topic_id(&topic))
            .with_partition_states(states)
    };
    topics.into_iter().map(topic_state).collect()
}

fn metadata_partition(
    ctx: &Context,
    topic: &Arc<str>,
    number: i32,
    is_dying: bool,
) -> Option<UpdateMetadataPartitionState> {
    let partition = ctx.topics.get(topic)?.partitions.get(&number)?;
    let leadership = partition.leadership.as_ref()?;
    let state = &leadership.leader_and_isr;
    let leader = if is_dying { LeaderAndIsr::LEADER_DURING_DELETE } else { state.leader };
    let tp = TopicPartition::new(topic.clone(), number);
    let replicas = &partition.assignment.replicas;
    let offline: Vec<_> = replicas.iter().copied().filter(|id| !ctx.is_replica_online(*id, &tp)).collect();
    Some(
        UpdateMetadataPartitionState::default()
            .with_partition_index(number)
            .with_controller_epoch(leadership.controller_epoch.get())
            .with_leader(wire(leader))
            .with_leader_epoch(state.leader_epoch.get())
            .with_isr(wire_all(&state.isr))
            .with_zk_version(state.partition_epoch)
            .with_replicas(wire_all(replicas))
            .with_offline_replicas(wire_all(&offline)),
    )
}

fn stop_replica(
    ctx: &Context,
    controller: BrokerId,
    broker: BrokerId,
    partitions: &BTreeMap<TopicPartition, bool>,
    channels: &Channels,
) -> Option<StopReplicaRequest> {
    let epoch = channels.epoch(broker)?;
    let topic_state = |(topic, list): TopicGroup<&bool>| {
        let states = list.into_iter().map(|(number, delete)| {
            StopReplicaPartitionState::default()
                .with_partition_index(number)
                .with_leader_epoch(stop_epoch(ctx, &topic, number))
                .with_delete_partition(*delete)
        });
        StopReplicaTopicState::default().with_topic_name(wire_topic(&topic)).with_partition_states(states.collect())
    };
    Some(
        StopReplicaRequest::default()
            .with_controller_id(wire(controller))
            .with_controller_epoch(ctx.epoch.get())
            .with_broker_epoch(epoch.get())
            .with_topic_states(by_topic(partitions.iter()).into_iter().map(topic_state).collect()),
    )
}

/// KIP-570: the epoch that lets a broker tell a late StopReplica.
fn stop_epoch(ctx: &Context, topic: &Arc<str>, number: i32) -> i32 {
    if ctx.is_dying(topic) {
        return EPOCH_DURING_DELETE;
    }
    let partition = ctx.topics.get(topic).and_then(|t| t.partitions.get(&number));
    let epoch = |partition: &super::context::Partition| match partition.state {
        PartitionState::NonExistent => None,
        _ => partition.leadership.as_ref().map(|l| l.leader_and_isr.leader_epoch.get()),
    };
    partition.and_then(epoch).unwrap_or(NO_EPOCH)
}
