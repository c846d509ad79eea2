//! What the controller reads from and writes to ZooKeeper. Every write is fenced by the version of `/controller_epoch`.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tracing::warn;

use super::context::Context;
use super::event::{Event, EventQueue};
use crate::base::ids::{BrokerEpoch, BrokerId, ControllerEpoch, TopicPartition};
use crate::zk::znodes::broker_ids::{self, BrokerInfo, LiveBroker};
use crate::zk::znodes::topics::{self, LeaderAndIsr, PartitionState, TopicNode};
use crate::zk::znodes::{admin, configs, controller, notifications};
use crate::zk::{Op, OpResult, WatchEvent, WatchKind, WatchSink, ZkClient, ZkError};

/// Why the controller could not go on with an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    /// Another controller was elected.
    #[error("another controller has been elected")]
    Moved,
    /// ZooKeeper failed.
    #[error(transparent)]
    ZooKeeper(#[from] ZkError),
}

/// This broker won an election.
pub(super) struct Elected {
    pub(super) epoch: ControllerEpoch,
    pub(super) epoch_zk_version: i32,
}

/// The controller as `/controller` tells.
pub(super) struct Found {
    pub(super) id: BrokerId,
    /// Whether the node is of this session.
    pub(super) mine: bool,
    /// Tells this term from others.
    pub(super) czxid: i64,
}

/// The answer to a batch of state updates.
#[derive(Default)]
pub(super) struct Updated {
    /// Written, with the new partition epoch.
    pub(super) done: Vec<(TopicPartition, LeaderAndIsr)>,
    /// Changed by someone else since they were read.
    pub(super) stale: Vec<TopicPartition>,
}

/// ZooKeeper for the controller.
pub(super) struct Store {
    pub(super) zk: ZkClient,
    pub(super) sink: WatchSink,
}

impl Store {
    pub(super) fn new(zk: ZkClient, events: Arc<EventQueue>) -> Self {
        let sink: WatchSink = Arc::new(move |event| {
            if let Some(event) = event_of(&event) {
                events.push(event);
            }
        });
        Self { zk, sink }
    }

    fn fence(ctx: &Context) -> Op {
        Op::check(controller::EPOCH_PATH, ctx.epoch_zk_version)
    }

    pub(super) async fn write(
        &self,
        ctx: &Context,
        ops: Vec<Op>,
    ) -> Result<Vec<Result<OpResult, ZkError>>, ControllerError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        match self.zk.write_fenced(&Self::fence(ctx), ops).await {
            Err(ZkError::BadVersion | ZkError::NoNode) => Err(ControllerError::Moved),
            answer => Ok(answer?),
        }
    }

    /// Makes sure that nobody else was elected until now: what this controller knows is how things stand.
    pub(super) async fn confirm(&self, ctx: &Context) -> Result<(), ControllerError> {
        match self.zk.multi(vec![Self::fence(ctx)]).await? {
            Ok(_) => Ok(()),
            Err((_, ZkError::BadVersion | ZkError::NoNode)) => Err(ControllerError::Moved),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Who the controller is; watches for the next change.
    pub(super) async fn watch_controller(&self) -> Result<Option<Found>, ZkError> {
        self.zk.exists_and_watch(controller::PATH, &self.sink).await?;
        let Some(node) = self.zk.find(controller::PATH).await? else { return Ok(None) };
        let mine = node.stat.ephemeral_owner == self.zk.session_id()?;
        Ok(Some(Found { id: controller::decode(&node.data)?, mine, czxid: node.stat.czxid }))
    }

    /// The epoch under which a controller node of this session was created.
    pub(super) async fn current_epoch(&self) -> Result<Elected, ZkError> {
        let node = self.zk.get(controller::EPOCH_PATH).await?;
        Ok(Elected { epoch: controller::decode_epoch(&node.data)?, epoch_zk_version: node.stat.version })
    }

    /// Tries to become controller. `None` if another broker was faster, or if nobody knows: look at the node again.
    pub(super) async fn elect(&self, broker: BrokerId, now_ms: i64) -> Result<Option<Elected>, ZkError> {
        let (epoch, version) = match self.zk.find(controller::EPOCH_PATH).await? {
            Some(node) => (controller::decode_epoch(&node.data)?, node.stat.version),
            None => {
                let data = controller::encode_epoch(controller::INITIAL_EPOCH);
                match self.zk.create(controller::EPOCH_PATH, &data, crate::zk::CreateMode::Persistent).await {
                    Ok(_) => (controller::INITIAL_EPOCH, 0),
                    Err(ZkError::NodeExists) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        };
        let epoch = epoch.next();
        let ops = vec![
            Op::create_ephemeral(controller::PATH, controller::encode(broker, now_ms)),
            Op::set(controller::EPOCH_PATH, controller::encode_epoch(epoch), Some(version)),
        ];
        match self.zk.multi(ops).await {
            Ok(Ok(_)) => Ok(Some(Elected { epoch, epoch_zk_version: version + 1 })),
            Ok(Err((_, ZkError::NodeExists | ZkError::BadVersion))) | Err(ZkError::Unknown(_)) => Ok(None),
            Ok(Err((_, error))) | Err(error) => Err(error),
        }
    }

    /// Takes the place of the controller whose node has that czxid. `None` if it is the controller no more, or if nobody
    /// knows: look at the node again.
    ///
    /// The epoch is read first: whoever was elected since has raised it, and then all of the multi fails.
    pub(super) async fn depose(&self, czxid: i64, broker: BrokerId, now_ms: i64) -> Result<Option<Elected>, ZkError> {
        let Some(epoch_node) = self.zk.find(controller::EPOCH_PATH).await? else { return Ok(None) };
        let Some(node) = self.zk.find(controller::PATH).await? else { return Ok(None) };
        // A persistent node is that of a KRaft controller.
        if node.stat.czxid != czxid || node.stat.ephemeral_owner == 0 {
            return Ok(None);
        }
        let epoch = controller::decode_epoch(&epoch_node.data)?.next();
        let version = epoch_node.stat.version;
        let ops = vec![
            Op::delete(controller::PATH, Some(node.stat.version)),
            Op::create_ephemeral(controller::PATH, controller::encode(broker, now_ms)),
            Op::set(controller::EPOCH_PATH, controller::encode_epoch(epoch), Some(version)),
        ];
        match self.zk.multi(ops).await {
            Ok(Ok(_)) => Ok(Some(Elected { epoch, epoch_zk_version: version + 1 })),
            Ok(Err((_, ZkError::NoNode | ZkError::NodeExists | ZkError::BadVersion))) | Err(ZkError::Unknown(_)) => {
                Ok(None)
            }
            Ok(Err((_, error))) | Err(error) => Err(error),
        }
    }

    /// Gives the controllership back, if it is still this one.
    pub(super) async fn resign(&self, ctx: &Context) {
        let ops = vec![Self::fence(ctx), Op::delete(controller::PATH, None)];
        if let Err(error) = self.zk.multi(ops).await {
            warn!("could not delete {}: {error}", controller::PATH);
        }
    }

    /// The live brokers; watches for the next change, and for changes of registrations.
    pub(super) async fn brokers(&self) -> Result<Vec<LiveBroker>, ZkError> {
        let names = self.zk.children_and_watch(broker_ids::PATH, &self.sink).await?;
        let ids: Vec<BrokerId> = names.iter().filter_map(|name| name.parse().ok()).map(BrokerId).collect();
        let paths: Vec<String> = ids.iter().map(|id| broker_ids::path(*id)).collect();
        let nodes = self.zk.get_many_and_watch(&paths, &self.sink).await?;
        let mut brokers = Vec::with_capacity(ids.len());
        for (id, node) in ids.into_iter().zip(nodes) {
            let Some(node) = node else { continue };
            match BrokerInfo::decode(id, &node.data) {
                Ok(info) => brokers.push(LiveBroker { info, epoch: BrokerEpoch(node.stat.czxid) }),
                Err(error) => warn!("broker {id} is left out: {error}"),
            }
        }
        Ok(brokers)
    }

    /// One live broker.
    pub(super) async fn broker(&self, id: BrokerId) -> Result<Option<LiveBroker>, ZkError> {
        let Some(node) = self.zk.find(&broker_ids::path(id)).await? else { return Ok(None) };
        let info = BrokerInfo::decode(id, &node.data).inspect_err(|error| warn!("broker {id}: {error}")).ok();
        Ok(info.map(|info| LiveBroker { info, epoch: BrokerEpoch(node.stat.czxid) }))
    }

    /// The names of all topics; watches for the next change.
    pub(super) async fn topics(&self) -> Result<Vec<String>, ZkError> {
        self.zk.children_and_watch(topics::PATH, &self.sink).await
    }

    /// The nodes of these topics, watched. Topics that are gone or unreadable are left out.
    pub(super) async fn topic_nodes(&self, names: &[String]) -> Result<Vec<(String, TopicNode)>, ZkError> {
        let paths: Vec<String> = names.iter().map(|name| topics::path(name)).collect();
        let nodes = self.zk.get_many_and_watch(&paths, &self.sink).await?;
        let mut read = Vec::with_capacity(names.len());
        for (name, node) in names.iter().zip(nodes) {
            let Some(node) = node else { continue };
            match TopicNode::decode(name, &node.data) {
                Ok(topic) => read.push((name.clone(), topic)),
                Err(error) => warn!("topic {name} is left out: {error}"),
            }
        }
        Ok(read)
    }

    /// Replaces topics' nodes.
    pub(super) async fn set_topics(&self, ctx: &Context, nodes: &[(String, TopicNode)]) -> Result<(), ControllerError> {
        let ops = nodes.iter().map(|(name, node)| Op::set(topics::path(name), node.encode(), None)).collect();
        for (answer, (name, _)) in self.write(ctx, ops).await?.into_iter().zip(nodes) {
            if let Err(error) = answer {
                warn!("the node of topic {name} was not replaced: {error}");
            }
        }
        Ok(())
    }

    /// The states of these partitions, as far as they have one.
    pub(super) async fn states(&self, tps: &[TopicPartition]) -> Result<Vec<Option<PartitionState>>, ZkError> {
        Ok(self.dated_states(tps).await?.into_iter().map(|state| Some(state?.0)).collect())
    }

    /// The same, each with the transaction that wrote it last.
    pub(super) async fn dated_states(
        &self,
        tps: &[TopicPartition],
    ) -> Result<Vec<Option<(PartitionState, i64)>>, ZkError> {
        let paths: Vec<String> = tps.iter().map(|tp| topics::state_path(&tp.topic, tp.partition)).collect();
        let nodes = self.zk.get_many(&paths).await?;
        let mut states = Vec::with_capacity(tps.len());
        for (tp, node) in tps.iter().zip(nodes) {
            let decode = |node: crate::zk::Node| {
                let state = PartitionState::decode(&tp.topic, tp.partition, &node.data, node.stat.version)
                    .inspect_err(|error| tracing::error!("{tp} stays as it is: {error}"));
                Some((state.ok()?, node.stat.mzxid))
            };
            states.push(node.and_then(decode));
        }
        Ok(states)
    }

    /// Creates the state nodes of new partitions and what is missing above them. Answers which were created.
    pub(super) async fn create_states(
        &self,
        ctx: &Context,
        states: &[(TopicPartition, LeaderAndIsr)],
    ) -> Result<Vec<bool>, ControllerError> {
        let mut ops = Vec::with_capacity(states.len() * 2 + 1);
        let mut state_ops = Vec::with_capacity(states.len());
        let mut parent_of: Option<&Arc<str>> = None;
        for (tp, leader_and_isr) in states {
            if parent_of != Some(&tp.topic) && !has_states(ctx, &tp.topic) {
                ops.push(Op::create(topics::partitions_path(&tp.topic), ""));
            }
            parent_of = Some(&tp.topic);
            ops.push(Op::create(topics::partition_path(&tp.topic, tp.partition), ""));
            state_ops.push(ops.len());
            let state = ctx.state_node(tp, leader_and_isr);
            ops.push(Op::create(topics::state_path(&tp.topic, tp.partition), state.encode()));
        }
        let answers = self.write(ctx, ops).await?;
        let created = |at: usize| match answers.get(at) {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                warn!("the state of {} was not created: {error}", states[0].0);
                false
            }
            None => false,
        };
        Ok(state_ops.into_iter().map(created).collect())
    }

    /// Replaces state nodes that still have the partition epoch they were read with.
    pub(super) async fn update_states(
        &self,
        ctx: &Context,
        states: Vec<(TopicPartition, LeaderAndIsr)>,
    ) -> Result<Updated, ControllerError> {
        let ops = states.iter().map(|(tp, leader_and_isr)| {
            let state = ctx.state_node(tp, leader_and_isr);
            let path = topics::state_path(&tp.topic, tp.partition);
            Op::set(path, state.encode(), Some(leader_and_isr.partition_epoch))
        });
        let answers = self.write(ctx, ops.collect()).await?;
        let mut updated = Updated::default();
        for ((tp, mut leader_and_isr), answer) in states.into_iter().zip(answers) {
            match answer {
                Ok(_) => {
                    leader_and_isr.partition_epoch += 1;
                    updated.done.push((tp, leader_and_isr));
                }
                Err(ZkError::BadVersion) => updated.stale.push(tp),
                Err(error) => warn!("the state of {tp} was not changed: {error}"),
            }
        }
        Ok(updated)
    }

    /// The topics that are marked for deletion; watches for the next change.
    pub(super) async fn topics_to_delete(&self) -> Result<Vec<String>, ZkError> {
        self.zk.children_and_watch(admin::DELETE_TOPICS_PATH, &self.sink).await
    }

    /// Takes the deletion marks off these topics.
    pub(super) async fn delete_marks(&self, ctx: &Context, names: &[String]) -> Result<(), ControllerError> {
        let ops = names.iter().map(|name| Op::delete(admin::delete_topic_path(name), None)).collect();
        self.write(ctx, ops).await.map(|_| ())
    }

    /// Removes all nodes of a topic whose replicas are gone: its own, its configs, the deletion mark, in that order.
    pub(super) async fn delete_topic(&self, ctx: &Context, name: &str) -> Result<(), ControllerError> {
        let numbers = self.zk.children(&topics::partitions_path(name)).await?;
        let partitions = numbers.iter().map(|number| format!("{}/{number}", topics::partitions_path(name)));
        let mut paths: Vec<String> = partitions.flat_map(|path| [format!("{path}/state"), path]).collect();
        paths.extend([topics::partitions_path(name), topics::path(name)]);
        if !self.delete_in_order(ctx, &paths).await? {
            // Something else lies below the topic.
            let mut all = self.zk.subtree(&topics::path(name)).await?;
            all.reverse(); // children first
            if !self.delete_in_order(ctx, &all).await? {
                return Err(ZkError::NotEmpty.into());
            }
        }
        let last = [configs::path(configs::EntityType::Topics, name), admin::delete_topic_path(name)];
        self.delete_in_order(ctx, &last).await.map(|_| ())
    }

    /// Deletes nodes that may be gone already; false if one of them has children.
    async fn delete_in_order(&self, ctx: &Context, paths: &[String]) -> Result<bool, ControllerError> {
        let ops = paths.iter().map(|path| Op::delete(path.clone(), None)).collect();
        let mut all = true;
        for answer in self.write(ctx, ops).await? {
            match answer {
                Ok(_) | Err(ZkError::NoNode) => {}
                Err(ZkError::NotEmpty) => all = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(all)
    }

    /// The ISR notifications, with the partitions they name; watches for the next one.
    pub(super) async fn isr_changes(&self) -> Result<(Vec<String>, Vec<TopicPartition>), ZkError> {
        let parent = notifications::ISR_CHANGE_PATH;
        let names = self.zk.children_and_watch(parent, &self.sink).await?;
        let paths: Vec<String> = names.iter().map(|name| format!("{parent}/{name}")).collect();
        let nodes = self.zk.get_many(&paths).await?;
        let read = paths.iter().zip(nodes).filter_map(|(path, node)| {
            notifications::decode_isr_change(path, &node?.data).inspect_err(|error| warn!("{error}")).ok()
        });
        let partitions = read.flatten().collect();
        Ok((paths, partitions))
    }

    /// The log dir notifications, with the brokers they name; watches for the next one.
    pub(super) async fn log_dir_events(&self) -> Result<(Vec<String>, BTreeSet<BrokerId>), ZkError> {
        let parent = notifications::LOG_DIR_EVENT_PATH;
        let names = self.zk.children_and_watch(parent, &self.sink).await?;
        let paths: Vec<String> = names.iter().map(|name| format!("{parent}/{name}")).collect();
        let nodes = self.zk.get_many(&paths).await?;
        let decode = |data: &[u8]| notifications::decode_log_dir_event(data).inspect_err(|error| warn!("{error}")).ok();
        let brokers = nodes.into_iter().flatten().filter_map(|node| decode(&node.data)).collect();
        Ok((paths, brokers))
    }

    /// Deletes nodes, whether or not they are there.
    pub(super) async fn delete_nodes(&self, ctx: &Context, paths: &[String]) -> Result<(), ControllerError> {
        let ops = paths.iter().map(|path| Op::delete(path.clone(), None)).collect();
        self.write(ctx, ops).await.map(|_| ())
    }

    /// Removes the notifications that an earlier controller left; a new one reads everything anyway.
    pub(super) async fn delete_old_notifications(&self, ctx: &Context) -> Result<(), ControllerError> {
        let parents = [notifications::ISR_CHANGE_PATH, notifications::LOG_DIR_EVENT_PATH];
        let mut paths = Vec::new();
        for (parent, names) in parents.iter().zip(join_all(parents.iter().map(|path| self.zk.children(path))).await) {
            paths.extend(names?.into_iter().map(|name| format!("{parent}/{name}")));
        }
        self.delete_nodes(ctx, &paths).await
    }

    /// Creates the feature node of a cluster that has none (IBP 2.7 and later).
    pub(super) async fn ensure_feature_node(&self, ctx: &Context, version: i32) -> Result<(), ControllerError> {
        use crate::zk::znodes::cluster;
        if self.zk.exists(cluster::FEATURE_PATH).await?.is_some() {
            return Ok(());
        }
        let op = Op::create(cluster::FEATURE_PATH, cluster::encode_no_features(version));
        self.write(ctx, vec![op]).await.map(|_| ())
    }
}

/// Whether a topic had a partition with a state before, so that the parent of its partitions exists.
fn has_states(ctx: &Context, topic: &str) -> bool {
    ctx.topics.get(topic).is_some_and(|topic| topic.partitions.values().any(|p| p.leadership.is_some()))
}

fn event_of(event: &WatchEvent) -> Option<Event> {
    let path = event.path.as_str();
    Some(match path {
        controller::PATH => Event::Elect,
        broker_ids::PATH => Event::BrokerChange,
        topics::PATH => Event::TopicChange,
        admin::DELETE_TOPICS_PATH => Event::TopicDeletion,
        admin::PREFERRED_ELECTION_PATH => Event::PreferredElection,
        admin::REASSIGN_PATH => Event::Reassignment,
        configs::CHANGES_PATH => Event::ConfigChange,
        notifications::ISR_CHANGE_PATH => Event::IsrChangeNotification,
        notifications::LOG_DIR_EVENT_PATH => Event::LogDirFailure,
        _ if event.kind != WatchKind::DataChanged => return None,
        _ => match topics::topic_of_path(path) {
            Some(topic) => Event::PartitionModification(topic.into()),
            None => Event::BrokerModification(BrokerId(path.strip_prefix("/brokers/ids/")?.parse().ok()?)),
        },
    })
}
