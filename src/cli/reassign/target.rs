//! Whom the tool works on: the brokers, or ZooKeeper as 2.8's tool may.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId as Wire,
    IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Options;
use super::plan::{Assignment, Ongoing};
use crate::admin::assignment::Candidate;
use crate::admin::{configs, topics as admin_topics};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::cli::cluster::{Cluster, refusal, topic_name};
use crate::cli::{properties, zookeeper_client};
use crate::zk::client::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::admin::{REASSIGN_PATH, decode_reassignment, encode_reassignment};
use crate::zk::znodes::configs::EntityType;
use crate::zk::znodes::topics::{self, TopicNode};

/// Configs of one topic or broker to set, or with `None` to take away.
pub(super) type ConfigChanges = Vec<(&'static str, Option<String>)>;

/// The brokers, or ZooKeeper.
pub(super) enum Target {
    Brokers(Box<Cluster>),
    ZooKeeper(ZkClient),
}

impl Target {
    pub(super) async fn connect(options: &Options) -> anyhow::Result<Self> {
        match (&options.bootstrap_server, &options.zookeeper) {
            (Some(bootstrap), _) => {
                let config = options.command_config.as_deref().map(properties::read_file).transpose()?;
                Ok(Self::Brokers(Box::new(Cluster::connect(bootstrap, &config.unwrap_or_default()).await?)))
            }
            (None, Some(connect)) => Ok(Self::ZooKeeper(zookeeper_client::connect(connect).await?)),
            (None, None) => bail!("Please specify --bootstrap-server"),
        }
    }

    pub(super) async fn close(self) {
        if let Self::ZooKeeper(zk) = self {
            zk.close().await;
        }
    }

    /// The brokers, where they are needed.
    pub(super) fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        match self {
            Self::Brokers(cluster) => Ok(cluster),
            Self::ZooKeeper(_) => {
                bail!("bootstrap-server needs to be provided when replica reassignments are present.")
            }
        }
    }

    /// The live brokers and their racks.
    pub(super) async fn brokers(&self) -> anyhow::Result<Vec<Candidate>> {
        match self {
            Self::Brokers(cluster) => {
                let metadata = cluster.metadata(Some(&[])).await?;
                let candidate = |id: i32, rack: Option<&StrBytes>| Candidate {
                    id: BrokerId(id),
                    rack: rack.map(StrBytes::to_string),
                };
                let mut brokers: Vec<Candidate> =
                    metadata.brokers.iter().map(|b| candidate(b.node_id.0, b.rack.as_ref())).collect();
                brokers.sort_by_key(|broker| broker.id);
                Ok(brokers)
            }
            Self::ZooKeeper(zk) => Ok(admin_topics::live_brokers(zk).await?),
        }
    }

    /// The replicas of all partitions of `topics`; topics that do not exist are left out.
    pub(super) async fn assignment(&self, topics: &BTreeSet<String>) -> anyhow::Result<Assignment> {
        let mut found = Assignment::new();
        match self {
            _ if topics.is_empty() => {}
            Self::Brokers(cluster) => {
                let names: Vec<String> = topics.iter().cloned().collect();
                for topic in cluster.metadata(Some(&names)).await?.topics {
                    match ErrorCode::from_code(topic.error_code) {
                        ErrorCode::UnknownTopicOrPartition => continue,
                        ErrorCode::None | ErrorCode::LeaderNotAvailable => {}
                        code => bail!("{code}"),
                    }
                    let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
                    for partition in topic.partitions {
                        let replicas = partition.replica_nodes.iter().map(|id| id.0).collect();
                        found.insert(TopicPartition::new(name.as_str(), partition.partition_index), replicas);
                    }
                }
            }
            Self::ZooKeeper(zk) => {
                for name in topics {
                    let Some(node) = zk.find(&topics::path(name)).await? else { continue };
                    for (number, assigned) in TopicNode::decode(name, &node.data)?.partitions {
                        let replicas = assigned.replicas.iter().map(|id| id.get()).collect();
                        found.insert(TopicPartition::new(name.as_str(), number), replicas);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The reassignments that are under way.
    pub(super) async fn under_way(&mut self) -> anyhow::Result<BTreeMap<TopicPartition, Ongoing>> {
        let mut found = BTreeMap::new();
        match self {
            Self::Brokers(cluster) => {
                let timeout = cluster.timeout_ms();
                let build = |_| ListPartitionReassignmentsRequest::default().with_timeout_ms(timeout).with_topics(None);
                let error = |answer: &ListPartitionReassignmentsResponse| answer.error_code;
                let answer = cluster.ask_controller(build, error).await?;
                if let Some(error) = refusal(answer.error_code, answer.error_message.as_ref()) {
                    return Err(error);
                }
                let ids = |ids: &[Wire]| ids.iter().map(|id| id.0).collect::<Vec<i32>>();
                for topic in &answer.topics {
                    for part in &topic.partitions {
                        let ongoing = Ongoing {
                            replicas: ids(&part.replicas),
                            adding: ids(&part.adding_replicas),
                            removing: ids(&part.removing_replicas),
                        };
                        found.insert(TopicPartition::new(topic.name.as_str(), part.partition_index), ongoing);
                    }
                }
            }
            Self::ZooKeeper(zk) => {
                if let Some(node) = zk.find(REASSIGN_PATH).await? {
                    for (tp, replicas) in decode_reassignment(&node.data)? {
                        let replicas = replicas.iter().map(|id| id.get()).collect();
                        found.insert(tp, Ongoing { replicas, ..Ongoing::default() });
                    }
                }
            }
        }
        Ok(found)
    }

    /// Begins reassignments, or with `None` ends them. Returns the errors by partition.
    pub(super) async fn reassign(
        &mut self,
        wanted: &BTreeMap<TopicPartition, Option<Vec<i32>>>,
    ) -> anyhow::Result<BTreeMap<TopicPartition, String>> {
        match self {
            Self::Brokers(cluster) => reassign_by_brokers(cluster, wanted).await,
            Self::ZooKeeper(zk) => {
                let listed: Vec<_> = wanted
                    .iter()
                    .map(|(tp, replicas)| {
                        let replicas = replicas.iter().flatten().map(|id| BrokerId(*id)).collect();
                        (tp.clone(), replicas)
                    })
                    .collect();
                match zk.create_recursive(REASSIGN_PATH, &encode_reassignment(&listed)).await {
                    Ok(()) => Ok(BTreeMap::new()),
                    Err(ZkError::NodeExists) => bail!("another reassignment was begun at the same time; try again"),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Changes configs of topics and of brokers.
    pub(super) async fn change_configs(
        &mut self,
        topics: &BTreeMap<String, ConfigChanges>,
        brokers: &BTreeMap<i32, ConfigChanges>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Brokers(cluster) => {
                for (name, changes) in topics {
                    change_by_broker(cluster, Resource::Topic(name), changes).await?;
                }
                for (id, changes) in brokers {
                    change_by_broker(cluster, Resource::Broker(*id), changes).await?;
                }
            }
            Self::ZooKeeper(zk) => {
                for (name, changes) in topics {
                    change_in_zookeeper(zk, EntityType::Topics, name, changes).await?;
                }
                for (id, changes) in brokers {
                    change_in_zookeeper(zk, EntityType::Brokers, &id.to_string(), changes).await?;
                }
            }
        }
        Ok(())
    }
}

async fn reassign_by_brokers(
    cluster: &mut Cluster,
    wanted: &BTreeMap<TopicPartition, Option<Vec<i32>>>,
) -> anyhow::Result<BTreeMap<TopicPartition, String>> {
    let mut topics: Vec<ReassignableTopic> = Vec::new();
    for (tp, replicas) in wanted {
        let replicas = replicas.as_ref().map(|replicas| replicas.iter().map(|id| Wire(*id)).collect());
        let partition = ReassignablePartition::default().with_partition_index(tp.partition).with_replicas(replicas);
        match topics.last_mut().filter(|topic| *topic.name.as_str() == *tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics
                .push(ReassignableTopic::default().with_name(topic_name(&tp.topic)).with_partitions(vec![partition])),
        }
    }
    let timeout = cluster.timeout_ms();
    let build = |_| AlterPartitionReassignmentsRequest::default().with_timeout_ms(timeout).with_topics(topics.clone());
    let error = |answer: &AlterPartitionReassignmentsResponse| answer.error_code;
    let answer = cluster.ask_controller(build, error).await?;
    if let Some(error) = refusal(answer.error_code, answer.error_message.as_ref()) {
        return Err(error);
    }
    let mut errors = BTreeMap::new();
    for topic in &answer.responses {
        for part in &topic.partitions {
            if let Some(error) = refusal(part.error_code, part.error_message.as_ref()) {
                errors.insert(TopicPartition::new(topic.name.as_str(), part.partition_index), error.to_string());
            }
        }
    }
    Ok(errors)
}

enum Resource<'a> {
    Topic(&'a str),
    Broker(i32),
}

/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;

async fn change_by_broker(
    cluster: &mut Cluster,
    resource: Resource<'_>,
    changes: &ConfigChanges,
) -> anyhow::Result<()> {
    let configs = changes.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.clone().map(StrBytes::from_string))
    });
    // `ConfigResource.Type`: a topic is 2, a broker 4, and only that broker changes its own.
    let (kind, name, node) = match resource {
        Resource::Topic(name) => (2, name.to_owned(), cluster.any()),
        Resource::Broker(id) => (4, id.to_string(), cluster.broker(id).await?),
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = node.ask(|_| request).await?;
    let answered = answer.responses.first().ok_or_else(|| anyhow!("the broker's answer is empty"))?;
    refusal(answered.error_code, answered.error_message.as_ref()).map_or(Ok(()), Err)
}

async fn change_in_zookeeper(
    zk: &ZkClient,
    entity: EntityType,
    name: &str,
    changes: &ConfigChanges,
) -> anyhow::Result<()> {
    let change = |before: &configs::Configs| {
        let mut after = before.clone();
        for (key, value) in changes {
            match value {
                Some(value) => drop(after.insert((*key).to_owned(), value.clone())),
                None => drop(after.remove(*key)),
            }
        }
        Ok(after)
    };
    // What is not set needs no taking away, and a topic that is gone gets no node.
    if changes.iter().all(|(_, value)| value.is_none()) {
        let stored = configs::read(zk, entity, name).await?;
        if changes.iter().all(|(key, _)| !stored.configs.contains_key(*key)) {
            return Ok(());
        }
    }
    Ok(configs::alter(zk, entity, name, false, change).await?)
}
