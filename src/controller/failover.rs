//! What a new controller does first: reads the whole cluster, tells every broker how things stand, mends what is amiss.

use std::collections::BTreeMap;

use tracing::info;

use super::batch::Batch;
use super::context::{Partition, Topic};
use super::replica_sm::Replica;
use super::returned::Written;
use super::run::Controller;
use super::store::ControllerError;
use crate::base::ids::{TopicId, TopicPartition};
use crate::zk::znodes::topics::TopicNode;

impl Controller {
    /// Everything a broker is told here goes out in one request of each kind, so that a broker's first LeaderAndIsr
    /// names all of its partitions.
    pub(super) async fn on_failover(&mut self) -> Result<(), ControllerError> {
        self.store.delete_old_notifications(&self.ctx).await?;
        if let Some(version) = self.config.feature_version {
            self.store.ensure_feature_node(&self.ctx, version).await?;
        }
        self.store.isr_changes().await?; // for the watch
        self.store.log_dir_events().await?; // likewise
        // Whatever topics allow by now, all leaderless partitions are looked at below.
        self.ctx.next_config_change = self.store.changed_topics(0).await?.0;
        let written = self.initialize_context().await?;
        let returned = self.ctx.set_returned_aside(&written);
        // Brokers must know who lives before they are told whom to follow.
        let mut live = Batch::default();
        live.add_metadata(self.ctx.brokers.keys().copied(), []);
        self.send(live);
        let mut batch = Batch::default();
        batch.add_metadata(self.ctx.brokers.keys().copied(), []);
        let online = self.ctx.initialize_replica_states();
        self.ctx.initialize_partition_states();
        self.announce(&online, &mut batch);
        self.bring_leaderless_online(&mut batch).await?;
        self.take_returned_back(returned, &mut batch).await?;
        // A reassignment may have been called back, or have ended, without what follows from it.
        let strangers = self.ctx.strangers();
        strangers.iter().for_each(|(tp, broker)| batch.add_stop_replica(*broker, tp, true));
        self.remove_from_isr(strangers, &mut batch).await?;
        // Brokers that died while nobody was controller leave their ISRs now (`ReplicaStateMachine.startup`).
        let offline = self.ctx.offline_replicas();
        self.replicas_offline(&offline, &mut batch).await?;
        for suspect in self.ctx.suspects() {
            self.move_from_suspect(suspect, &mut batch).await?;
        }
        self.send(batch);
        self.stop_left_over(self.ctx.brokers.keys().copied().collect());
        self.resume_reassignments(|_| true).await?;
        self.on_reassignment_node().await?;
        self.resume_deletions().await?;
        self.on_preferred_election().await
    }

    /// Reads brokers, topics, partitions and deletions, all watched; answers when each partition's state was written.
    async fn initialize_context(&mut self) -> Result<Written, ControllerError> {
        for broker in self.store.brokers().await? {
            let is_suspected = self.ctx.suspected.get(&broker.info.id) == Some(&broker.epoch);
            self.channels.add(broker.clone(), is_suspected);
            self.ctx.brokers.insert(broker.info.id, broker);
        }
        // The others are over, or came again.
        let brokers = &self.ctx.brokers;
        self.ctx.suspected.retain(|id, epoch| brokers.get(id).is_some_and(|broker| broker.epoch == *epoch));
        let names = self.store.topics().await?;
        let mut nodes = self.store.topic_nodes(&names).await?;
        self.assign_topic_ids(&mut nodes).await?;
        for (name, node) in nodes {
            self.ctx.add_topic(name.into(), new_topic(node));
        }
        let written = self.read_leaders().await?;
        self.read_deletions().await?;
        let (brokers, topics) = (self.ctx.brokers.len(), self.ctx.topics.len());
        info!(
            "the cluster has {brokers} live brokers, {topics} topics, {} partitions",
            self.ctx.all_partitions().count()
        );
        Ok(written)
    }

    /// Topics from before IBP 2.8 get ids.
    pub(super) async fn assign_topic_ids(&self, nodes: &mut [(String, TopicNode)]) -> Result<(), ControllerError> {
        if !self.config.use_topic_ids {
            return Ok(());
        }
        let mut changed = Vec::new();
        for (name, node) in nodes.iter_mut().filter(|(_, node)| node.topic_id.is_none()) {
            node.topic_id = Some(TopicId::new_v4());
            changed.push((name.clone(), node.clone()));
        }
        match changed.is_empty() {
            true => Ok(()),
            false => self.store.set_topics(&self.ctx, &changed).await,
        }
    }

    async fn read_leaders(&mut self) -> Result<Written, ControllerError> {
        let tps: Vec<TopicPartition> = self.ctx.all_partitions().map(|(tp, _)| tp).collect();
        let states = self.store.dated_states(&tps).await?;
        let mut written = Written::new();
        for (tp, state) in tps.into_iter().zip(states) {
            if let (Some(partition), Some((state, zxid))) = (self.ctx.partition_mut(&tp), state) {
                partition.leadership = Some(state);
                written.insert(tp, zxid);
            }
        }
        Ok(written)
    }

    fn announce(&self, replicas: &[Replica], batch: &mut Batch) {
        for (tp, broker) in replicas {
            if self.ctx.partition(tp).is_some_and(|p| p.leadership.is_some()) {
                batch.add_leader_and_isr(&[*broker], tp, false, &self.ctx);
            }
        }
        let with_leader = self.ctx.all_partitions().filter(|(_, p)| p.leadership.is_some()).map(|(tp, _)| tp);
        batch.add_metadata([], with_leader);
    }

    /// Puts a batch into the brokers' queues.
    pub(super) fn send(&self, batch: Batch) {
        batch.send(&self.ctx, self.config.broker_id, &self.channels);
    }
}

/// A topic that was just read; its partitions are not yet created.
pub(super) fn new_topic(node: TopicNode) -> Topic {
    let partitions: BTreeMap<_, _> =
        node.partitions.into_iter().map(|(number, assignment)| (number, Partition::new(assignment))).collect();
    Topic { id: node.topic_id.unwrap_or_default(), partitions }
}
