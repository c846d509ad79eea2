//! Metadata (3), v0–12: brokers, the controller, topics with their partitions (KIP-4, KIP-516). Reads one snapshot of the
//! metadata cache; topics that do not exist are made if both the broker and the client allow it.

use std::collections::HashSet;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId as WireBroker, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicId};
use crate::base::topic_names;
use crate::replica::metadata_cache::{BrokerIds, MetadataSnapshot, PartitionMetadata, TopicMetadata};

/// What may be done to a topic when nobody is refused: a bit for each of Kafka's operations (`AclEntry.supportedOperations`).
const TOPIC_OPERATIONS: i32 = (1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 10) | (1 << 11);
/// The same for the cluster.
pub const CLUSTER_OPERATIONS: i32 = (1 << 5) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12);

/// From this version on unknown endpoints are no error of the partition's replicas.
const FIRST_WITH_ALL_REPLICAS: i16 = 1;
/// From this version on a leader without the client's listener is told as such.
const FIRST_WITH_LISTENER_NOT_FOUND: i16 = 6;
const FIRST_WITH_AUTHORIZED_OPERATIONS: i16 = 8;
const LAST_WITH_CLUSTER_OPERATIONS: i16 = 10;
/// From this version on topics may be asked for by id.
const FIRST_WITH_TOPIC_IDS: i16 = 12;
const FIRST_RETURNING_TOPIC_IDS: i16 = 10;

/// How long after its start a broker waits for the controller's first word before it answers.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Answers with what the metadata cache knows.
pub async fn handle(ctx: &Context, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let version = call.version();
    let view = View { ctx, listener: &call.connection.listener, version, request: &request };
    let mut response = MetadataResponse::default();
    ctx.replica_manager.metadata().first_update(FIRST_WORD).await;
    let snapshot = ctx.replica_manager.metadata().snapshot();
    response.brokers = brokers(&snapshot, view.listener);
    response.controller_id = WireBroker(snapshot.controller().unwrap_or(BrokerId::NONE).get());
    response.cluster_id = (version >= 2).then(|| StrBytes::from_string(ctx.cluster_id.clone()));
    if version < 1 {
        response.controller_id = WireBroker::default();
    }
    if (FIRST_WITH_AUTHORIZED_OPERATIONS..=LAST_WITH_CLUSTER_OPERATIONS).contains(&version)
        && request.include_cluster_authorized_operations
    {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response.topics = view.topics(&snapshot).await;
    response
}

/// Live brokers that the client can reach by its own listener.
fn brokers(snapshot: &MetadataSnapshot, listener: &str) -> Vec<MetadataResponseBroker> {
    let reachable = snapshot.brokers().filter_map(|broker| Some((broker, broker.endpoint(listener)?)));
    reachable
        .map(|(broker, endpoint)| {
            MetadataResponseBroker::default()
                .with_node_id(WireBroker(broker.id.get()))
                .with_host(endpoint.host.clone())
                .with_port(endpoint.port)
                .with_rack(broker.rack.clone())
        })
        .collect()
}

/// One request's way of looking at a snapshot.
struct View<'a> {
    ctx: &'a Context,
    listener: &'a str,
    version: i16,
    request: &'a MetadataRequest,
}

impl View<'_> {
    async fn topics(&self, snapshot: &MetadataSnapshot) -> Vec<MetadataResponseTopic> {
        let Some(asked) = self.asked() else {
            return snapshot.topics().map(|topic| self.topic(snapshot, topic)).collect();
        };
        if self.version < FIRST_WITH_TOPIC_IDS && asked.iter().any(|t| t.name.is_none() || !t.topic_id.is_nil()) {
            return asked.iter().map(|t| self.failed(t, ErrorCode::InvalidRequest)).collect();
        }
        if asked.iter().any(|t| !t.topic_id.is_nil()) {
            return asked.iter().map(|t| self.by_id(snapshot, t)).collect();
        }
        let mut answers = Vec::with_capacity(asked.len());
        let mut missing: Vec<StrBytes> = Vec::new();
        // A topic named twice is answered once.
        let mut seen = HashSet::with_capacity(asked.len());
        for name in asked.iter().filter_map(|t| t.name.as_ref()).filter(|name| seen.insert(*name)) {
            match snapshot.topic(name) {
                Some(topic) => answers.push(self.topic(snapshot, topic)),
                None => missing.push(name.0.clone()),
            }
        }
        answers.extend(self.missing(missing).await);
        answers
    }

    /// The topics asked for; `None` for all: null, or in v0 an empty list.
    fn asked(&self) -> Option<&[MetadataRequestTopic]> {
        self.request.topics.as_deref().filter(|topics| self.version > 0 || !topics.is_empty())
    }

    fn by_id(&self, snapshot: &MetadataSnapshot, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
        let found = snapshot.topic_name(asked.topic_id).and_then(|name| snapshot.topic(name));
        match found {
            Some(topic) => self.topic(snapshot, topic),
            None => self.failed(asked, ErrorCode::UnknownTopicId),
        }
    }

    /// Topics that do not exist: made, where that is allowed, or told as unknown.
    async fn missing(&self, names: Vec<StrBytes>) -> Vec<MetadataResponseTopic> {
        let may_create =
            self.ctx.config.auto_create_topics_enable && (self.version < 4 || self.request.allow_auto_topic_creation);
        let mut answers = Vec::with_capacity(names.len());
        for name in names {
            let error = match topic_names::validate(&name) {
                Err(_) => ErrorCode::InvalidTopicException,
                Ok(()) if may_create => self.ctx.auto_create(&name).await,
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
            };
            let is_internal = self.version >= 1 && topic_names::is_internal(&name);
            answers.push(
                MetadataResponseTopic::default()
                    .with_error_code(error.code())
                    .with_name(Some(TopicName(name)))
                    .with_is_internal(is_internal),
            );
        }
        answers
    }

    fn failed(&self, asked: &MetadataRequestTopic, error: ErrorCode) -> MetadataResponseTopic {
        let id = if self.version >= FIRST_RETURNING_TOPIC_IDS { asked.topic_id } else { TopicId::nil() };
        let name = asked.name.clone().or_else(|| (self.version < FIRST_WITH_TOPIC_IDS).then(TopicName::default));
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
    }

    fn topic(&self, snapshot: &MetadataSnapshot, topic: &TopicMetadata) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().map(|(&index, p)| self.partition(snapshot, index, p)).collect();
        let mut out =
            MetadataResponseTopic::default().with_name(Some(TopicName(topic.name.clone()))).with_partitions(partitions);
        if self.version >= 1 {
            out.is_internal = topic_names::is_internal(&topic.name);
        }
        if self.version >= FIRST_RETURNING_TOPIC_IDS {
            out.topic_id = topic.id;
        }
        if self.version >= FIRST_WITH_AUTHORIZED_OPERATIONS && self.request.include_topic_authorized_operations {
            out.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        out
    }

    /// `ZkMetadataCache.getPartitionMetadata`: a leader that is dead or cannot be reached by this listener is told as
    /// an error; v0 also hides replicas that cannot be reached.
    fn partition(&self, snapshot: &MetadataSnapshot, index: i32, p: &PartitionMetadata) -> MetadataResponsePartition {
        let reachable = |id: &BrokerId| snapshot.endpoint(*id, self.listener).is_some();
        let all = self.version >= FIRST_WITH_ALL_REPLICAS;
        let shown = |ids: &BrokerIds| -> Vec<WireBroker> {
            ids.iter().filter(|id| all || reachable(id)).map(|id| WireBroker(id.get())).collect()
        };
        let (replicas, isr) = (shown(&p.replicas), shown(&p.isr));
        let (error, leader) = if reachable(&p.leader) {
            let hidden = replicas.len() < p.replicas.len() || isr.len() < p.isr.len();
            (if hidden { ErrorCode::ReplicaNotAvailable } else { ErrorCode::None }, p.leader)
        } else if snapshot.broker(p.leader).is_some() && self.version >= FIRST_WITH_LISTENER_NOT_FOUND {
            (ErrorCode::ListenerNotFound, BrokerId::NONE)
        } else {
            (ErrorCode::LeaderNotAvailable, BrokerId::NONE)
        };
        let mut out = MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(index)
            .with_leader_id(WireBroker(leader.get()))
            .with_replica_nodes(replicas)
            .with_isr_nodes(isr);
        if self.version >= 5 {
            out.offline_replicas = p.offline_replicas.iter().map(|id| WireBroker(id.get())).collect();
        }
        if self.version >= 7 {
            out.leader_epoch = p.leader_epoch.get();
        }
        out
    }
}
