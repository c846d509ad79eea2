//! `kafka-topics.sh --zookeeper`: right on the znodes, as 2.8's tool does it. The controller sees what changed and acts.

use std::collections::BTreeMap;

use anyhow::bail;

use super::Options;
use super::view::{Filter, Partition, Topic, Via, describe};
use crate::admin::AdminError;
use crate::admin::assignment::{Assignment, Candidate, Start};
use crate::admin::configs::{Configs, alter as change_configs};
use crate::admin::plan::{Cluster, NewTopic, more_partitions, new_topic};
use crate::admin::topics as admin;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, topic_id_to_base64};
use crate::base::topic_names::is_internal;
use crate::cli::zookeeper_client;
use crate::config::{BrokerConfig, ConfigError, TopicConfig};
use crate::zk::ZkClient;
use crate::zk::znodes::admin::delete_topic_path;
use crate::zk::znodes::configs::{self, EntityType};
use crate::zk::znodes::topics::{self, PartitionState, ReplicaAssignment, TopicNode};

/// Does what the options say.
pub async fn execute(options: &Options, connect: &str) -> anyhow::Result<()> {
    let zk = zookeeper_client::connect(connect).await?;
    let result = act(options, &zk).await;
    zk.close().await;
    result
}

async fn act(options: &Options, zk: &ZkClient) -> anyhow::Result<()> {
    if options.create {
        create(options, zk).await
    } else if options.alter {
        alter(options, zk).await
    } else if options.delete {
        delete(options, zk).await
    } else if options.list {
        list(options, zk).await
    } else {
        describe_topics(options, zk).await
    }
}

async fn names(zk: &ZkClient) -> anyhow::Result<Vec<String>> {
    Ok(zk.children(topics::PATH).await?)
}

async fn is_marked_for_deletion(zk: &ZkClient, topic: &str) -> anyhow::Result<bool> {
    Ok(zk.exists(&delete_topic_path(topic)).await?.is_some())
}

/// The live brokers; without their racks if those shall not count.
async fn candidates(options: &Options, zk: &ZkClient) -> anyhow::Result<Vec<Candidate>> {
    let mut brokers = admin::live_brokers(zk).await?;
    if options.disable_rack_aware {
        brokers.iter_mut().for_each(|broker| broker.rack = None);
    }
    let with = brokers.iter().filter(|broker| broker.rack.is_some()).count();
    if with != 0 && with != brokers.len() {
        bail!(
            "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica assignment \
             without rack information."
        );
    }
    Ok(brokers)
}

fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

async fn create(options: &Options, zk: &ZkClient) -> anyhow::Result<()> {
    let name = options.topic.clone().unwrap_or_default();
    let chosen = options.assignment()?.unwrap_or_default();
    // With an assignment the two numbers must not be given, as options that go together have been checked to be.
    let wanted = NewTopic {
        name: name.clone(),
        partitions: options.partitions.unwrap_or(-1),
        replication_factor: i16::try_from(options.replication_factor.unwrap_or(-1))?,
        assignment: (0..).zip(chosen.iter().map(|replicas| broker_ids(replicas))).collect::<Assignment>(),
        configs: options.configs()?,
    };
    let brokers = candidates(options, zk).await?;
    let config = BrokerConfig::default();
    if let Err(error) = admin::check_new(zk, &name).await {
        return if options.if_not_exists && error.code == ErrorCode::TopicAlreadyExists {
            Ok(())
        } else {
            Err(error.into())
        };
    }
    let plan = new_topic(&wanted, Cluster { brokers: &brokers, config: &config }, Start::random())?;
    match admin::create(zk, &[plan]).await.pop() {
        Some(Err(error)) if options.if_not_exists && error.code == ErrorCode::TopicAlreadyExists => Ok(()),
        Some(Err(error)) => Err(error.into()),
        _ => {
            println!("Created topic {name}.");
            Ok(())
        }
    }
}

async fn list(options: &Options, zk: &ZkClient) -> anyhow::Result<()> {
    for topic in options.select(names(zk).await?)? {
        let note = if is_marked_for_deletion(zk, &topic).await? { " - marked for deletion" } else { "" };
        println!("{topic}{note}");
    }
    Ok(())
}

async fn delete(options: &Options, zk: &ZkClient) -> anyhow::Result<()> {
    for topic in options.select_existing(names(zk).await?)? {
        if is_internal(&topic) {
            bail!("Topic {topic} is a kafka internal topic and is not allowed to be marked for deletion.");
        }
        if is_marked_for_deletion(zk, &topic).await? {
            println!("Topic {topic} is already marked for deletion.");
            continue;
        }
        admin::request_deletion(zk, &topic).await?;
        println!("Topic {topic} is marked for deletion.");
        println!("Note: This will have no impact if delete.topic.enable is not set to true.");
    }
    Ok(())
}

async fn alter(options: &Options, zk: &ZkClient) -> anyhow::Result<()> {
    for topic in options.select_existing(names(zk).await?)? {
        if !options.config.is_empty() || !options.delete_config.is_empty() {
            println!(
                "WARNING: Altering topic configuration from this script has been deprecated and may be removed in future releases."
            );
            println!("         Going forward, please use kafka-configs.sh for this functionality");
            alter_configs(options, zk, &topic).await?;
            println!("Updated config for topic {topic}.");
        }
        if let Some(total) = options.partitions {
            if is_internal(&topic) {
                bail!("The number of partitions for the internal topic {topic} cannot be changed.");
            }
            println!(
                "WARNING: If partitions are increased for a topic that has a key, the partition logic or ordering of the \
                 messages will be affected"
            );
            add_partitions(options, zk, &topic, total).await?;
            println!("Adding partitions succeeded!");
        }
    }
    Ok(())
}

async fn topic_configs(zk: &ZkClient, topic: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let path = configs::path(EntityType::Topics, topic);
    Ok(match zk.find(&path).await? {
        Some(node) => configs::decode(&path, &node.data)?,
        None => BTreeMap::new(),
    })
}

/// Writes the topic's configs and tells the brokers (`AdminZkClient.changeTopicConfig`).
async fn alter_configs(options: &Options, zk: &ZkClient, topic: &str) -> anyhow::Result<()> {
    let (added, deleted) = (options.configs()?, options.configs_to_delete()?);
    let change = |before: &Configs| {
        let mut all = before.clone();
        all.extend(added.clone());
        deleted.iter().for_each(|name| drop(all.remove(*name)));
        let refused = |error: ConfigError| AdminError::new(ErrorCode::InvalidConfig, error.to_string());
        TopicConfig::validate(&BrokerConfig::default(), &all).map_err(refused)?;
        Ok(all)
    };
    Ok(change_configs(zk, EntityType::Topics, topic, false, change).await?)
}

async fn add_partitions(options: &Options, zk: &ZkClient, topic: &str, total: i32) -> anyhow::Result<()> {
    let (node, version) = admin::read(zk, topic).await?;
    let existing: Assignment = node.partitions.iter().map(|(number, part)| (*number, part.replicas.clone())).collect();
    let chosen = options.assignment()?.map(|all| {
        let added = all.iter().skip(existing.len());
        added.map(|replicas| broker_ids(replicas)).collect::<Vec<_>>()
    });
    let brokers = candidates(options, zk).await?;
    let added = more_partitions(topic, &existing, total, chosen.as_deref(), &brokers, Start::random())?;
    Ok(admin::add_partitions(zk, topic, node, version, &added).await?)
}

async fn describe_topics(options: &Options, zk: &ZkClient) -> anyhow::Result<()> {
    let filter = Filter {
        under_replicated: options.under_replicated_partitions,
        unavailable: options.unavailable_partitions,
        overridden: options.topics_with_overrides,
        ..Filter::default()
    };
    let live: Vec<i32> = admin::live_brokers(zk).await?.iter().map(|broker| broker.id.get()).collect();
    for name in options.select_existing(names(zk).await?)? {
        match shown(zk, &name).await? {
            Some(topic) => print!("{}", describe(&topic, filter, Via::ZooKeeper, &live)),
            None => println!("Topic {name} doesn't exist!"),
        }
    }
    Ok(())
}

/// The topic as its znodes show it; `None` if it has just gone.
async fn shown(zk: &ZkClient, name: &str) -> anyhow::Result<Option<Topic>> {
    let Some(node) = zk.find(&topics::path(name)).await? else { return Ok(None) };
    let topic = TopicNode::decode(name, &node.data)?;
    let numbers: Vec<i32> = topic.partitions.keys().copied().collect();
    let paths: Vec<String> = numbers.iter().map(|number| topics::state_path(name, *number)).collect();
    let mut partitions = Vec::new();
    for ((number, part), state) in topic.partitions.iter().zip(zk.get_many(&paths).await?) {
        let state =
            state.map(|node| PartitionState::decode(name, *number, &node.data, node.stat.version)).transpose()?;
        partitions.push(partition(*number, part, state));
    }
    Ok(Some(Topic {
        name: name.to_owned(),
        id: topic.topic_id.map(topic_id_to_base64),
        partitions,
        configs: topic_configs(zk, name).await?.into_iter().collect(),
        min_isr: None,
        marked_for_deletion: is_marked_for_deletion(zk, name).await?,
    }))
}

fn partition(index: i32, part: &ReplicaAssignment, state: Option<PartitionState>) -> Partition {
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect();
    let state = state.map(|state| state.leader_and_isr);
    Partition {
        index,
        leader: state.as_ref().map(|state| state.leader.get()).filter(|leader| *leader >= 0),
        replicas: numbers(&part.replicas),
        isr: state.map_or_else(Vec::new, |state| numbers(&state.isr)),
        // 2.8's tool does not tell of reassignments here.
        reassignment: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::zk::backend::CreateMode;
    use crate::zk::memory::MemoryZk;
    use crate::zk::session::create_persistent_paths;
    use crate::zk::znodes::broker_ids::{self, BrokerInfo, Endpoint};

    async fn cluster(brokers: &[i32]) -> ZkClient {
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(1)).await.expect("connected");
        create_persistent_paths(&zk).await.expect("paths");
        for id in brokers {
            let info = BrokerInfo::new(BrokerId(*id), vec![Endpoint::plaintext("h", 9092)], 0);
            zk.create(&broker_ids::path(BrokerId(*id)), &info.encode(), CreateMode::Ephemeral).await.expect("created");
        }
        zk
    }

    async fn tool(zk: &ZkClient, line: &str) -> anyhow::Result<()> {
        let args = ["kafka-topics", "--zookeeper", "z"].into_iter().chain(line.split_whitespace());
        act(&Options::try_parse_from(args).expect("options"), zk).await
    }

    #[tokio::test]
    async fn topics_are_created_changed_and_deleted_on_the_znodes() {
        let zk = cluster(&[1, 2]).await;
        let create = "--create --topic t --partitions 2 --replication-factor 2 --config retention.ms=5";
        tool(&zk, create).await.expect("created");
        assert_eq!(tool(&zk, create).await.expect_err("twice").to_string(), "Topic 't' already exists.");
        tool(&zk, &format!("{create} --if-not-exists")).await.expect("no error");
        let topic = shown(&zk, "t").await.expect("read").expect("there");
        assert_eq!(
            (topic.partitions.len(), topic.partitions[0].replicas.len(), topic.partitions[0].leader),
            (2, 2, None)
        );
        assert_eq!(topic.configs, [("retention.ms".to_owned(), "5".to_owned())]);

        tool(&zk, "--alter --topic t --partitions 3 --config segment.bytes=100 --delete-config retention.ms")
            .await
            .expect("altered");
        let topic = shown(&zk, "t").await.expect("read").expect("there");
        assert_eq!((topic.partitions.len(), topic.configs.len()), (3, 1));
        let changes = zk.children(configs::CHANGES_PATH).await.expect("children");
        let change = zk.get(&format!("{}/{}", configs::CHANGES_PATH, changes[0])).await.expect("read");
        assert_eq!(configs::decode_change(&change.data).expect("a change"), "topics/t");

        tool(&zk, "--delete --topic t").await.expect("marked");
        assert!(shown(&zk, "t").await.expect("read").expect("there").marked_for_deletion);
        tool(&zk, "--delete --topic t").await.expect("already marked");
        assert!(tool(&zk, "--delete --topic u").await.is_err());
        tool(&zk, "--delete --topic u --if-exists").await.expect("no error");
    }

    #[tokio::test]
    async fn what_cannot_be_is_said() {
        let zk = cluster(&[]).await;
        let error =
            tool(&zk, "--create --topic t --partitions 1 --replication-factor 1").await.expect_err("no brokers");
        assert_eq!(error.to_string(), "Replication factor: 1 larger than available brokers: 0.");
        tool(&zk, "--list").await.expect("an empty list");
        let error = tool(&zk, "--describe --topic t").await.expect_err("no topic").to_string();
        assert_eq!(error, "Topic 't' does not exist as expected");
    }

    #[tokio::test]
    async fn replicas_may_be_chosen() {
        let zk = cluster(&[1, 2]).await;
        tool(&zk, "--create --topic t --replica-assignment 2:1,1:2").await.expect("created");
        tool(&zk, "--alter --topic t --partitions 3 --replica-assignment 2:1,1:2,1:2").await.expect("altered");
        let topic = shown(&zk, "t").await.expect("read").expect("there");
        let replicas: Vec<_> = topic.partitions.iter().map(|part| part.replicas.clone()).collect();
        assert_eq!(replicas, [[2, 1], [1, 2], [1, 2]]);
    }
}
