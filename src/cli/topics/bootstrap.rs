//! `kafka-topics.sh --bootstrap-server`: through the brokers, as 3.9's tool does it.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    ListPartitionReassignmentsRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::Options;
use super::view::{Filter, Partition, Topic, Via, describe};
use crate::base::error::ErrorCode;
use crate::base::ids::{topic_id_from_base64, topic_id_to_base64};
use crate::base::topic_names::is_internal;
use crate::cli::cluster::{Cluster, refusal, topic_name};
use crate::cli::properties;

/// The type of a topic among the resources of DescribeConfigs.
const TOPIC_RESOURCE: i8 = 2;
/// The source of a config that nobody has set.
const DEFAULT_SOURCE: i8 = 5;
/// Partitions a topic gets, and replicas a partition gets, when the broker's default is asked for (KIP-464).
const BROKER_DEFAULT: i32 = -1;

/// Adding and removing replicas, by topic and partition.
type Reassignments = BTreeMap<(String, i32), (Vec<i32>, Vec<i32>)>;

/// Does what the options say.
pub async fn execute(options: &Options) -> anyhow::Result<()> {
    let config = options.command_config.as_deref().map(properties::read_file).transpose()?.unwrap_or_default();
    let mut cluster = Cluster::connect(options.bootstrap_server.as_deref().unwrap_or_default(), &config).await?;
    if options.create {
        create(options, &mut cluster).await
    } else if options.alter {
        alter(options, &mut cluster).await
    } else if options.delete {
        delete(options, &mut cluster).await
    } else if options.list {
        println!("{}", options.select(names(&cluster).await?)?.join("\n"));
        Ok(())
    } else {
        describe_topics(options, &mut cluster).await
    }
}

fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

async fn names(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let metadata = cluster.metadata(None).await?;
    Ok(metadata.topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect())
}

async fn create(options: &Options, cluster: &mut Cluster) -> anyhow::Result<()> {
    let name = options.topic.as_deref().unwrap_or_default();
    let configs = options.configs()?.into_iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name))
            .with_value(Some(StrBytes::from_string(value)))
    });
    let assigned = options.assignment()?;
    let assignments = assigned.iter().flatten().zip(0..).map(|(replicas, partition)| {
        CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(broker_ids(replicas))
    });
    let factor = options.replication_factor.unwrap_or(BROKER_DEFAULT);
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(options.partitions.unwrap_or(BROKER_DEFAULT))
        .with_replication_factor(i16::try_from(factor)?)
        .with_assignments(assignments.collect())
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(cluster.timeout_ms());
    let answer = cluster.controller().await?.ask(|_| request).await?;
    let result = answer.topics.first().ok_or_else(|| anyhow!("the broker's answer is empty"))?;
    match refusal(result.error_code, result.error_message.as_ref()) {
        None => println!("Created topic {name}."),
        Some(_) if options.if_not_exists && result.error_code == ErrorCode::TopicAlreadyExists.code() => {}
        Some(error) => return Err(error),
    }
    Ok(())
}

async fn alter(options: &Options, cluster: &mut Cluster) -> anyhow::Result<()> {
    let topics = options.select_existing(names(cluster).await?)?;
    let (count, assigned) = (options.partitions.unwrap_or_default(), options.assignment()?);
    let mut wanted = Vec::new();
    for found in &cluster.metadata(Some(&topics)).await?.topics {
        let existing = found.partitions.len();
        let added = assigned.as_ref().map(|all| {
            let new = all.iter().skip(existing);
            new.map(|replicas| CreatePartitionsAssignment::default().with_broker_ids(broker_ids(replicas))).collect()
        });
        let name = found.name.clone().unwrap_or_default();
        wanted.push(CreatePartitionsTopic::default().with_name(name).with_count(count).with_assignments(added));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let request = CreatePartitionsRequest::default().with_topics(wanted).with_timeout_ms(cluster.timeout_ms());
    let answer = cluster.controller().await?.ask(|_| request).await?;
    let error = answer.results.iter().find_map(|result| refusal(result.error_code, result.error_message.as_ref()));
    error.map_or(Ok(()), Err)
}

async fn delete(options: &Options, cluster: &mut Cluster) -> anyhow::Result<()> {
    let topics = options.select_existing(names(cluster).await?)?;
    if topics.is_empty() {
        return Ok(());
    }
    let timeout = cluster.timeout_ms();
    let build = |version| {
        let names = topics.iter().map(|topic| topic_name(topic));
        let request = DeleteTopicsRequest::default().with_timeout_ms(timeout);
        match version {
            0..=5 => request.with_topic_names(names.collect()),
            _ => request.with_topics(names.map(|name| DeleteTopicState::default().with_name(Some(name))).collect()),
        }
    };
    let answer = cluster.controller().await?.ask(build).await?;
    let error = answer.responses.iter().find_map(|result| refusal(result.error_code, result.error_message.as_ref()));
    error.map_or(Ok(()), Err)
}

async fn describe_topics(options: &Options, cluster: &mut Cluster) -> anyhow::Result<()> {
    let all = cluster.metadata(None).await?;
    let live: Vec<i32> = all.brokers.iter().map(|broker| broker.node_id.0).collect();
    if options.partition_size_limit_per_response.is_some() {
        eprintln!(
            "Warning: --partition-size-limit-per-response has no effect: in ZooKeeper mode one answer holds them all."
        );
    }
    let wanted = wanted_topics(options, &all.topics)?;
    let reassignments = reassignments(cluster).await?;
    let filter = Filter {
        under_replicated: options.under_replicated_partitions,
        unavailable: options.unavailable_partitions,
        under_min_isr: options.under_min_isr_partitions,
        at_min_isr: options.at_min_isr_partitions,
        overridden: options.topics_with_overrides,
    };
    for (found, configs) in wanted.iter().zip(configs(cluster, &wanted).await?) {
        print!("{}", describe(&shown(found, configs, &reassignments)?, filter, Via::Broker, &live));
    }
    Ok(())
}

/// The topics that `--topic-id` or `--topic` mean.
fn wanted_topics<'a>(
    options: &Options,
    all: &'a [MetadataResponseTopic],
) -> anyhow::Result<Vec<&'a MetadataResponseTopic>> {
    if let Some(text) = &options.topic_id {
        let id = topic_id_from_base64(text).ok_or_else(|| anyhow!("{text} is not a topic id"))?;
        let hidden = |name: &str| options.exclude_internal && is_internal(name);
        let found =
            all.iter().find(|topic| topic.topic_id == id && !topic.name.as_ref().is_some_and(|name| hidden(name)));
        return match found {
            Some(topic) => Ok(vec![topic]),
            None if options.if_exists => Ok(Vec::new()),
            None => bail!("TopicId '{text}' does not exist as expected"),
        };
    }
    let names = all.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect();
    let names = options.select_existing(names)?;
    let find = |name: &String| all.iter().find(|topic| topic.name.as_ref().is_some_and(|other| other.as_str() == name));
    Ok(names.iter().filter_map(find).collect())
}

/// What is being reassigned; nothing where the broker does not tell.
async fn reassignments(cluster: &mut Cluster) -> anyhow::Result<Reassignments> {
    let controller = cluster.controller().await?;
    if controller.version_of::<ListPartitionReassignmentsRequest>().is_none() {
        return Ok(Reassignments::new());
    }
    let timeout = cluster.timeout_ms();
    let build = |_| ListPartitionReassignmentsRequest::default().with_timeout_ms(timeout).with_topics(None);
    let answer = controller.ask(build).await?;
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let mut all = Reassignments::new();
    for topic in &answer.topics {
        for part in &topic.partitions {
            let (adding, removing) = (numbers(&part.adding_replicas), numbers(&part.removing_replicas));
            all.insert((topic.name.to_string(), part.partition_index), (adding, removing));
        }
    }
    Ok(all)
}

/// What is not a default, and `min.insync.replicas`.
struct Configs {
    set: Vec<(String, String)>,
    min_isr: Option<usize>,
}

async fn configs(cluster: &Cluster, topics: &[&MetadataResponseTopic]) -> anyhow::Result<Vec<Configs>> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let resource = |topic: &&MetadataResponseTopic| {
        let name = topic.name.as_ref().map(|name| name.0.clone()).unwrap_or_default();
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(name)
            .with_configuration_keys(None)
    };
    let request = DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
    let answer = cluster.any().ask(|_| request).await?;
    let mut all = Vec::new();
    for topic in topics {
        let name = topic.name.as_ref().map(|name| name.as_str()).unwrap_or_default();
        let result = answer.results.iter().find(|result| result.resource_name.as_str() == name);
        let result = result.ok_or_else(|| anyhow!("the broker says nothing of the configs of {name}"))?;
        if let Some(error) = refusal(result.error_code, result.error_message.as_ref()) {
            return Err(error);
        }
        let value = |entry: &Option<StrBytes>| entry.as_ref().map_or_else(|| "null".to_owned(), StrBytes::to_string);
        // Version 0 says whether, later ones say why.
        let is_default = |source: i8, flag: bool| if source == -1 { flag } else { source == DEFAULT_SOURCE };
        let set = result.configs.iter().filter(|entry| !is_default(entry.config_source, entry.is_default));
        let min = result.configs.iter().find(|entry| entry.name.as_str() == "min.insync.replicas");
        all.push(Configs {
            set: set.map(|entry| (entry.name.to_string(), value(&entry.value))).collect(),
            min_isr: min.and_then(|entry| value(&entry.value).parse().ok()),
        });
    }
    Ok(all)
}

fn shown(found: &MetadataResponseTopic, configs: Configs, reassignments: &Reassignments) -> anyhow::Result<Topic> {
    // No partition of it may have a leader yet; that is no reason not to show it.
    if found.error_code != ErrorCode::LeaderNotAvailable.code()
        && let Some(error) = refusal(found.error_code, None)
    {
        return Err(error);
    }
    let name = found.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let mut partitions: Vec<Partition> = found
        .partitions
        .iter()
        .map(|part| Partition {
            index: part.partition_index,
            leader: Some(part.leader_id.0).filter(|id| *id >= 0),
            replicas: numbers(&part.replica_nodes),
            isr: numbers(&part.isr_nodes),
            reassignment: reassignments.get(&(name.clone(), part.partition_index)).cloned(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let id = (!found.topic_id.is_nil()).then(|| topic_id_to_base64(found.topic_id));
    Ok(Topic { name, id, partitions, configs: configs.set, min_isr: configs.min_isr, marked_for_deletion: false })
}
