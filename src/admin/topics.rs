//! Writing topics to ZooKeeper: creating, deleting, adding partitions. The controller takes it from there.

use futures::future::join_all;

use super::plan::{TopicPlan, check_collisions};
use super::{AdminError, assignment};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicId;
use crate::zk::backend::Op;
use crate::zk::client::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::configs::{self, EntityType};
use crate::zk::znodes::topics::{self, ReplicaAssignment, TopicNode};
use crate::zk::znodes::{admin, broker_ids};

/// The live brokers with their racks, as candidates for replicas.
///
/// # Errors
/// ZooKeeper's.
pub async fn live_brokers(zk: &ZkClient) -> Result<Vec<assignment::Candidate>, AdminError> {
    let names = zk.children(broker_ids::PATH).await?;
    let ids: Vec<_> = names.iter().filter_map(|name| name.parse().ok()).map(crate::base::ids::BrokerId).collect();
    let paths: Vec<_> = ids.iter().map(|id| broker_ids::path(*id)).collect();
    let nodes = zk.get_many(&paths).await?;
    let mut brokers = Vec::with_capacity(ids.len());
    for (id, node) in ids.into_iter().zip(nodes) {
        // A broker may go between the two questions.
        let Some(node) = node else { continue };
        let info = broker_ids::BrokerInfo::decode(id, &node.data)?;
        brokers.push(assignment::Candidate { id, rack: info.rack });
    }
    Ok(brokers)
}

/// Whether a topic of that name could be created: none has the name, or one that differs only in '.' and '_'.
///
/// # Errors
/// `TopicAlreadyExists`, `InvalidTopicException`.
pub async fn check_new(zk: &ZkClient, name: &str) -> Result<(), AdminError> {
    if zk.exists(&topics::path(name)).await?.is_some() {
        return Err(already_exists(name));
    }
    if name.contains(['.', '_']) {
        let existing = zk.children(topics::PATH).await?;
        check_collisions(name, existing.iter().map(String::as_str))?;
    }
    Ok(())
}

fn already_exists(name: &str) -> AdminError {
    AdminError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."))
}

/// Creates the topics, pipelined; each has an answer of its own: its id.
pub async fn create(zk: &ZkClient, plans: &[TopicPlan]) -> Vec<Result<TopicId, AdminError>> {
    join_all(plans.iter().map(|plan| create_one(zk, plan))).await
}

async fn create_one(zk: &ZkClient, plan: &TopicPlan) -> Result<TopicId, AdminError> {
    check_new(zk, &plan.name).await?;
    let id = TopicId::new_v4();
    let assignments = plan.assignment.iter();
    let node = TopicNode {
        topic_id: Some(id),
        partitions: assignments.map(|(number, replicas)| (*number, ReplicaAssignment::new(replicas.clone()))).collect(),
    };
    let (config_path, config) = (configs::path(EntityType::Topics, &plan.name), configs::encode(&plan.configs));
    let topic = Op::create(topics::path(&plan.name), node.encode());
    // Configs before the topic, so that the controller finds them; in one step, so that a crash leaves nothing behind.
    match zk.multi(vec![Op::create(&config_path, config.clone()), topic.clone()]).await? {
        Ok(_) => return Ok(id),
        Err((0, ZkError::NodeExists)) => {}
        Err((_, ZkError::NodeExists)) => return Err(already_exists(&plan.name)),
        Err((_, error)) => return Err(error.into()),
    }
    // Configs of an earlier topic of that name were left behind, or someone creates the same topic.
    match zk.multi(vec![Op::set(&config_path, config, None), topic]).await? {
        Ok(_) => Ok(id),
        Err((_, ZkError::NodeExists)) => Err(already_exists(&plan.name)),
        Err((_, error)) => Err(error.into()),
    }
}

/// Asks the controller to delete a topic.
///
/// # Errors
/// `UnknownTopicOrPartition`; a topic that is being deleted already is no error.
pub async fn request_deletion(zk: &ZkClient, name: &str) -> Result<(), AdminError> {
    if zk.exists(&topics::path(name)).await?.is_none() {
        let message = format!("This server does not host this topic-partition: topic '{name}' does not exist.");
        return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, message));
    }
    match zk.create_recursive(&admin::delete_topic_path(name), b"").await {
        Ok(()) | Err(ZkError::NodeExists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A topic's node with its version, for a change of it.
///
/// # Errors
/// `UnknownTopicOrPartition`.
pub async fn read(zk: &ZkClient, name: &str) -> Result<(TopicNode, i32), AdminError> {
    let Some(node) = zk.find(&topics::path(name)).await? else {
        let message = format!("The topic '{name}' does not exist.");
        return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    Ok((TopicNode::decode(name, &node.data)?, node.stat.version))
}

/// Adds partitions to the topic read at `version`.
///
/// # Errors
/// `InvalidRequest` if somebody changed the topic meanwhile.
pub async fn add_partitions(
    zk: &ZkClient,
    name: &str,
    mut topic: TopicNode,
    version: i32,
    added: &assignment::Assignment,
) -> Result<(), AdminError> {
    for (number, replicas) in added {
        topic.partitions.insert(*number, ReplicaAssignment::new(replicas.clone()));
    }
    match zk.set(&topics::path(name), &topic.encode(), Some(version)).await {
        Ok(_) => Ok(()),
        Err(ZkError::BadVersion) => {
            let message = format!("The topic '{name}' was changed by somebody else at the same time; try again.");
            Err(AdminError::new(ErrorCode::InvalidRequest, message))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::base::ids::BrokerId;
    use crate::zk::memory::MemoryZk;
    use crate::zk::session::create_persistent_paths;

    async fn client() -> ZkClient {
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(1)).await.unwrap();
        create_persistent_paths(&zk).await.unwrap();
        zk
    }

    fn plan(name: &str) -> TopicPlan {
        TopicPlan {
            name: name.to_owned(),
            assignment: BTreeMap::from([(0, vec![BrokerId(1)])]),
            configs: BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]),
        }
    }

    #[tokio::test]
    async fn a_topic_is_created_once_with_its_configs() {
        let zk = client().await;
        let answers = create(&zk, &[plan("a.b"), plan("a.b"), plan("c")]).await;
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert_eq!(answers[1].as_ref().unwrap_err().code, ErrorCode::TopicAlreadyExists);
        assert_eq!(create(&zk, &[plan("a_b")]).await[0].as_ref().unwrap_err().code, ErrorCode::InvalidTopicException);
        let path = configs::path(EntityType::Topics, "a.b");
        let node = zk.get(&path).await.unwrap();
        assert_eq!(configs::decode(&path, &node.data).unwrap()["retention.ms"], "5");
    }

    #[tokio::test]
    async fn configs_that_were_left_behind_are_replaced() {
        let zk = client().await;
        zk.create_recursive(&configs::path(EntityType::Topics, "t"), b"{}").await.unwrap();
        assert!(create(&zk, &[plan("t")]).await[0].is_ok());
        let path = configs::path(EntityType::Topics, "t");
        assert_eq!(configs::decode(&path, &zk.get(&path).await.unwrap().data).unwrap()["retention.ms"], "5");
    }

    #[tokio::test]
    async fn partitions_are_added_only_to_the_topic_that_was_read() {
        let zk = client().await;
        create(&zk, &[plan("t")]).await[0].as_ref().unwrap();
        let (node, version) = read(&zk, "t").await.unwrap();
        let added = BTreeMap::from([(1, vec![BrokerId(2)])]);
        add_partitions(&zk, "t", node.clone(), version, &added).await.unwrap();
        assert_eq!(read(&zk, "t").await.unwrap().0.partitions.len(), 2);
        let late = add_partitions(&zk, "t", node, version, &added).await.unwrap_err();
        assert_eq!(late.code, ErrorCode::InvalidRequest);
    }

    #[tokio::test]
    async fn only_topics_that_exist_are_deleted() {
        let zk = client().await;
        assert_eq!(request_deletion(&zk, "t").await.unwrap_err().code, ErrorCode::UnknownTopicOrPartition);
        create(&zk, &[plan("t")]).await[0].as_ref().unwrap();
        request_deletion(&zk, "t").await.unwrap();
        request_deletion(&zk, "t").await.unwrap();
        assert!(zk.exists(&admin::delete_topic_path("t")).await.unwrap().is_some());
    }
}
