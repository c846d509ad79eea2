//! The rest of what the controller reads and writes: reassignments, asked-for elections, producer ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use tracing::warn;

use super::context::Context;
use super::store::{ControllerError, Store};
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::znodes::cluster::{PRODUCER_ID_BLOCK_PATH, ProducerIdBlock};
use crate::zk::znodes::topics::{self, ReplicaAssignment, TopicNode};
use crate::zk::znodes::{admin, configs};
use crate::zk::{Node, Op, ZkError};

/// How many ids a block has.
const BLOCK_SIZE: i64 = 1000;
/// How often a node that someone else changed meanwhile is read and written anew.
const ATTEMPTS: usize = 10;

impl Store {
    /// What each of these topics sets for a key, or the default.
    pub(super) async fn topic_settings<T: FromStr + Copy>(
        &self,
        names: &[Arc<str>],
        key: &str,
        default: T,
    ) -> Result<HashMap<Arc<str>, T>, ZkError> {
        let paths: Vec<String> = names.iter().map(|name| configs::path(configs::EntityType::Topics, name)).collect();
        let nodes = self.zk.get_many(&paths).await?;
        let own = |path: &str, node: Option<Node>| -> Option<T> {
            configs::decode(path, &node?.data).ok()?.get(key)?.trim().to_ascii_lowercase().parse().ok()
        };
        let each = names.iter().zip(&paths).zip(nodes);
        Ok(each.map(|((name, path), node)| (name.clone(), own(path, node).unwrap_or(default))).collect())
    }

    /// A node that may not be there, watched for its coming, changing and going.
    async fn find_and_watch(&self, path: &str) -> Result<Option<Node>, ZkError> {
        match self.zk.exists_and_watch(path, &self.sink).await? {
            Some(_) => self.zk.find(path).await,
            None => Ok(None),
        }
    }

    /// The partitions for which 2.8's tool wants preferred leaders; watches for the next request.
    pub(super) async fn preferred_election(&self) -> Result<Option<Vec<TopicPartition>>, ZkError> {
        let path = admin::PREFERRED_ELECTION_PATH;
        let Some(node) = self.find_and_watch(path).await? else { return Ok(None) };
        let read = admin::decode_partitions(path, &node.data);
        Ok(Some(read.inspect_err(|error| warn!("{error}")).unwrap_or_default()))
    }

    /// Tells the tool that it is done.
    pub(super) async fn delete_preferred_election(&self, ctx: &Context) -> Result<(), ControllerError> {
        self.write(ctx, vec![Op::delete(admin::PREFERRED_ELECTION_PATH, None)]).await.map(drop)
    }

    /// The reassignments that 2.8's tool asks for; watches for the next request.
    pub(super) async fn reassignments(&self) -> Result<Vec<(TopicPartition, Vec<BrokerId>)>, ZkError> {
        let Some(node) = self.find_and_watch(admin::REASSIGN_PATH).await? else { return Ok(Vec::new()) };
        let read = admin::decode_reassignment(&node.data);
        Ok(read.inspect_err(|error| warn!("{error}")).unwrap_or_default())
    }

    /// Takes reassignments out of the node of 2.8's tool; the node goes with the last of them.
    pub(super) async fn forget_reassignments(
        &self,
        ctx: &Context,
        forget: impl Fn(&TopicPartition, &[BrokerId]) -> bool,
    ) -> Result<(), ControllerError> {
        let path = admin::REASSIGN_PATH;
        for _ in 0..ATTEMPTS {
            let Some(node) = self.zk.find(path).await? else { return Ok(()) };
            let asked = admin::decode_reassignment(&node.data).unwrap_or_default();
            let left: Vec<_> = asked.iter().filter(|(tp, target)| !forget(tp, target)).cloned().collect();
            let version = Some(node.stat.version);
            let op = match left.is_empty() {
                true => Op::delete(path, version),
                false if left.len() == asked.len() => return Ok(()),
                false => Op::set(path, admin::encode_reassignment(&left), version),
            };
            match self.write(ctx, vec![op]).await?.pop() {
                Some(Err(ZkError::BadVersion)) => {}
                Some(Err(error)) if error != ZkError::NoNode => return Err(error.into()),
                _ => return Ok(()),
            }
        }
        Err(ZkError::BadVersion.into())
    }

    /// Writes the assignments of these partitions into their topics' nodes and leaves the other partitions as they are.
    pub(super) async fn set_assignments(
        &self,
        ctx: &Context,
        changed: &[(TopicPartition, ReplicaAssignment)],
    ) -> Result<(), ControllerError> {
        let mut by_topic: BTreeMap<Arc<str>, Vec<(i32, &ReplicaAssignment)>> = BTreeMap::new();
        for (tp, assignment) in changed {
            by_topic.entry(tp.topic.clone()).or_default().push((tp.partition, assignment));
        }
        let mut left: BTreeSet<Arc<str>> = by_topic.keys().cloned().collect();
        for _ in 0..ATTEMPTS {
            if left.is_empty() {
                return Ok(());
            }
            let names: Vec<Arc<str>> = left.iter().cloned().collect();
            let paths: Vec<String> = names.iter().map(|name| topics::path(name)).collect();
            let mut ops = Vec::with_capacity(names.len());
            let mut written = Vec::with_capacity(names.len());
            for (name, node) in names.into_iter().zip(self.zk.get_many(&paths).await?) {
                match node.as_ref().map(|node| (TopicNode::decode(&name, &node.data), node.stat.version)) {
                    Some((Ok(mut topic), version)) => {
                        for (number, assignment) in &by_topic[&name] {
                            topic.partitions.insert(*number, (*assignment).clone());
                        }
                        ops.push(Op::set(topics::path(&name), topic.encode(), Some(version)));
                        written.push(name);
                    }
                    Some((Err(error), _)) => return Err(error.into()),
                    None => drop(left.remove(&name)),
                }
            }
            for (name, answer) in written.into_iter().zip(self.write(ctx, ops).await?) {
                match answer {
                    Ok(_) | Err(ZkError::NoNode) => drop(left.remove(&name)),
                    Err(ZkError::BadVersion) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Err(ZkError::BadVersion.into())
    }

    /// The topics whose configurations changed, by the notifications from number `next` on, and the number that follows;
    /// watches for the next one.
    pub(super) async fn changed_topics(&self, next: i64) -> Result<(i64, BTreeSet<String>), ZkError> {
        let names = match self.zk.children_and_watch(configs::CHANGES_PATH, &self.sink).await {
            Err(ZkError::NoNode) => return Ok((next, BTreeSet::new())),
            names => names?,
        };
        let numbered = names.iter().filter_map(|name| Some((configs::change_number(name)?, name)));
        let new: Vec<(i64, &String)> = numbered.filter(|(number, _)| *number >= next).collect();
        let paths: Vec<String> = new.iter().map(|(_, name)| format!("{}/{name}", configs::CHANGES_PATH)).collect();
        let nodes = self.zk.get_many(&paths).await?;
        let entities = nodes.into_iter().flatten().filter_map(|node| configs::decode_change(&node.data).ok());
        let topics = entities.filter_map(|entity| Some(entity.strip_prefix("topics/")?.to_owned())).collect();
        let last = new.iter().map(|(number, _)| *number).max();
        Ok((last.map_or(next, |last| last + 1), topics))
    }

    /// Takes the next block of producer ids for a broker; the inner error says why there is none.
    pub(super) async fn next_producer_id_block(
        &self,
        ctx: &Context,
        broker: BrokerId,
    ) -> Result<Result<ProducerIdBlock, String>, ControllerError> {
        let path = PRODUCER_ID_BLOCK_PATH;
        for _ in 0..ATTEMPTS {
            let node = self.zk.find(path).await?;
            let start = match node.as_ref().filter(|node| !node.data.is_empty()) {
                None => 0,
                Some(node) => match ProducerIdBlock::decode(&node.data) {
                    Ok(block) => block.end.saturating_add(1),
                    Err(error) => return Ok(Err(error.to_string())),
                },
            };
            let Some(end) = start.checked_add(BLOCK_SIZE - 1) else {
                return Ok(Err("all producer ids have been given out".into()));
            };
            let block = ProducerIdBlock { broker: broker.get(), start, end };
            let op = match &node {
                Some(node) => Op::set(path, block.encode(), Some(node.stat.version)),
                None => Op::create(path, block.encode()),
            };
            match self.write(ctx, vec![op]).await?.pop() {
                Some(Ok(_)) => return Ok(Ok(block)),
                Some(Err(ZkError::BadVersion | ZkError::NodeExists)) | None => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(Err("brokers that take blocks themselves were always faster".into()))
    }
}
