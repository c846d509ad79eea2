//! The states of partitions: created, given leaders, taken offline, forgotten (`ZkPartitionStateMachine`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{error, info, warn};

use super::batch::Batch;
use super::context::{Context, PartitionState};
use super::election::{self, Candidates, Reason};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::znodes::topics::{LeaderAndIsr, PartitionState as LeaderState};

/// How often a state that a leader changed meanwhile is read and elected anew.
const MAX_ELECTION_ROUNDS: usize = 10;

impl Context {
    /// Moves a partition into `target` if it may come there from where it is.
    pub(super) fn move_partition(&mut self, tp: &TopicPartition, target: PartitionState) -> bool {
        let Some(partition) = self.partition_mut(tp) else { return false };
        if !partition.state.may_become(target) {
            error!("{tp} cannot go from {:?} to {target:?}", partition.state);
            return false;
        }
        partition.state = target;
        true
    }

    /// The state in which each partition starts under a new controller.
    pub(super) fn initialize_partition_states(&mut self) {
        let tps: Vec<_> = self.all_partitions().map(|(tp, _)| tp).collect();
        for tp in tps {
            let leader = self.partition(&tp).and_then(|p| p.leadership.as_ref()).map(|l| l.leader_and_isr.leader);
            let state = match leader {
                None => PartitionState::New,
                Some(leader) if self.is_replica_online(leader, &tp) => PartitionState::Online,
                Some(_) => PartitionState::Offline,
            };
            if let Some(partition) = self.partition_mut(&tp) {
                partition.state = state;
            }
        }
    }

    /// The replicas that may be elected, and that are told of it: a broker that is stopping or suspected takes part in its
    /// own replacement.
    fn candidates(&self, tp: &TopicPartition, reason: Option<Reason>) -> Vec<BrokerId> {
        if reason != Some(Reason::ControlledShutdown) {
            return self.online_replicas(tp);
        }
        let replicas = self.partition(tp).into_iter().flat_map(|partition| &partition.assignment.replicas);
        replicas.copied().filter(|id| self.brokers.contains_key(id)).collect()
    }

    /// The partitions without a leader that are not on their way out.
    pub(super) fn leaderless_partitions(&self) -> Vec<TopicPartition> {
        let leaderless = |state| matches!(state, PartitionState::New | PartitionState::Offline);
        let found = self.all_partitions().filter(|(tp, p)| leaderless(p.state) && !self.is_dying(&tp.topic));
        let mut found: Vec<_> = found.map(|(tp, _)| tp).collect();
        found.sort();
        found
    }
}

impl Controller {
    /// Finds leaders for these partitions: first ones for new partitions, elected ones for the rest.
    pub(super) async fn bring_online(
        &mut self,
        partitions: Vec<TopicPartition>,
        batch: &mut Batch,
    ) -> Result<(), ControllerError> {
        let is_new = |tp: &TopicPartition| self.ctx.partition(tp).is_some_and(|p| p.state == PartitionState::New);
        let (new, known): (Vec<_>, Vec<_>) = partitions.into_iter().partition(is_new);
        self.initialize_leaders(new, batch).await?;
        self.elect_leaders(known, None, batch).await.map(drop)
    }

    /// Brings every partition online that has no leader.
    pub(super) async fn bring_leaderless_online(&mut self, batch: &mut Batch) -> Result<(), ControllerError> {
        let partitions = self.ctx.leaderless_partitions();
        self.bring_online(partitions, batch).await
    }

    /// Brings those of a topic online that have no leader (`triggerOnlinePartitionStateChange`).
    pub(super) async fn bring_topic_online(&mut self, topic: &str, batch: &mut Batch) -> Result<(), ControllerError> {
        let mut partitions = self.ctx.leaderless_partitions();
        partitions.retain(|tp| &*tp.topic == topic);
        self.bring_online(partitions, batch).await
    }

    async fn initialize_leaders(&mut self, new: Vec<TopicPartition>, batch: &mut Batch) -> Result<(), ControllerError> {
        let mut states = Vec::with_capacity(new.len());
        for tp in new {
            match election::elect_first(&self.ctx.first_in_sync(&tp)) {
                Some(state) => states.push((tp, state)),
                None => warn!("{tp} stays without a leader: none of its replicas is alive"),
            }
        }
        if states.is_empty() {
            return Ok(());
        }
        let created = self.store.create_states(&self.ctx, &states).await?;
        for ((tp, state), created) in states.into_iter().zip(created) {
            if created {
                let live = state.isr.clone();
                self.ctx.set_leadership(&tp, state);
                self.ctx.move_partition(&tp, PartitionState::Online);
                batch.add_leader_and_isr(&live, &tp, true, &self.ctx);
            }
        }
        Ok(())
    }

    /// Elects leaders and tells who was elected. `reason` is `None` for an offline election, where whether an unclean one
    /// is allowed depends on the topic.
    ///
    /// The first round goes by what the controller knows: what someone else wrote since fails on the partition epoch and
    /// is read for the next round, as is every partition for which nobody could be elected.
    pub(super) async fn elect_leaders(
        &mut self,
        mut partitions: Vec<TopicPartition>,
        reason: Option<Reason>,
        batch: &mut Batch,
    ) -> Result<BTreeMap<TopicPartition, BrokerId>, ControllerError> {
        let mut leaders = BTreeMap::new();
        for round in 0..MAX_ELECTION_ROUNDS {
            if partitions.is_empty() {
                return Ok(leaders);
            }
            let states = match round {
                0 => self.known_states(&partitions).await?,
                _ => self.store.states(&partitions).await?,
            };
            let (elected, undecided) = self.elect_round(&partitions, states, reason, round > 0).await?;
            let updated = self.store.update_states(&self.ctx, elected).await?;
            for (tp, state) in updated.done {
                info!("{tp} is led by {} in epoch {}, ISR {:?}", state.leader, state.leader_epoch, state.isr);
                leaders.insert(tp.clone(), state.leader);
                self.ctx.set_leadership(&tp, state);
                self.ctx.move_partition(&tp, PartitionState::Online);
                let told = self.ctx.candidates(&tp, reason);
                batch.add_leader_and_isr(&told, &tp, false, &self.ctx);
            }
            partitions = updated.stale;
            if round == 0 {
                partitions.extend(undecided);
            }
        }
        if !partitions.is_empty() {
            error!("gave up electing leaders for {} partitions whose states keep changing", partitions.len());
        }
        Ok(leaders)
    }

    /// What the controller knows of these partitions; read from ZooKeeper if it does not know all of them.
    async fn known_states(&self, tps: &[TopicPartition]) -> Result<Vec<Option<LeaderState>>, ControllerError> {
        let known = |tp| Some(Some(self.ctx.partition(tp)?.leadership.clone()?));
        match tps.iter().map(known).collect::<Option<Vec<_>>>() {
            Some(states) => Ok(states),
            None => Ok(self.store.states(tps).await?),
        }
    }

    /// What to write, and for which partitions nobody may lead. Nobody out of sync is elected unless the states are
    /// `fresh`.
    async fn elect_round(
        &self,
        partitions: &[TopicPartition],
        states: Vec<Option<LeaderState>>,
        reason: Option<Reason>,
        fresh: bool,
    ) -> Result<(Vec<(TopicPartition, LeaderAndIsr)>, Vec<TopicPartition>), ControllerError> {
        let unclean = match reason {
            None if fresh => self.unclean_allowed(partitions, &states).await?,
            _ => HashMap::new(),
        };
        let least_left = match reason {
            Some(Reason::Suspicion) => self.least_in_sync(partitions).await?,
            _ => HashMap::new(),
        };
        let shutting_down: Vec<BrokerId> = self.ctx.shutting_down.iter().copied().collect();
        let suspected = self.ctx.suspects();
        let (mut elected, mut undecided) = (Vec::new(), Vec::new());
        for (tp, state) in partitions.iter().zip(states) {
            let Some(state) = state else {
                warn!("{tp} has no state in ZooKeeper, no leader can be elected");
                continue;
            };
            if state.controller_epoch > self.ctx.epoch {
                return Err(ControllerError::Moved);
            }
            let Some(partition) = self.ctx.partition(tp) else { continue };
            let live = self.ctx.candidates(tp, reason);
            let unclean = unclean.get(&tp.topic).is_some_and(|unclean| *unclean);
            let reason = reason.unwrap_or(Reason::Offline { unclean });
            let replicas = match reason {
                Reason::Reassignment => partition.assignment.target_replicas(),
                _ => partition.assignment.replicas.clone(),
            };
            let least_left = least_left.get(&tp.topic).copied().unwrap_or_default();
            let (shutting_down, suspected) = (&shutting_down, &suspected);
            let candidates = Candidates { replicas: &replicas, live: &live, shutting_down, suspected, least_left };
            match election::elect(&state.leader_and_isr, candidates, reason) {
                Some(state) => elected.push((tp.clone(), state)),
                None => undecided.push(tp.clone()),
            }
            if fresh && undecided.last() == Some(tp) {
                let isr = state.leader_and_isr.isr;
                warn!("no replica of {tp} may lead: replicas {replicas:?}, alive {live:?}, in sync {isr:?}");
            }
        }
        Ok((elected, undecided))
    }

    /// Writes what `change` makes of each partition's state and notes it; returns the partitions that changed. Starts
    /// from what the controller knows, and reads again what someone else changed meanwhile.
    pub(super) async fn change_states(
        &mut self,
        mut tps: Vec<TopicPartition>,
        change: impl Fn(&TopicPartition, &LeaderAndIsr) -> Option<LeaderAndIsr>,
    ) -> Result<Vec<TopicPartition>, ControllerError> {
        let mut changed = Vec::new();
        for round in 0..MAX_ELECTION_ROUNDS {
            if tps.is_empty() {
                return Ok(changed);
            }
            let states = match round {
                0 => self.known_states(&tps).await?,
                _ => self.store.states(&tps).await?,
            };
            let mut adjusted = Vec::new();
            for (tp, state) in tps.iter().zip(states) {
                let Some(state) = state else { continue };
                if state.controller_epoch > self.ctx.epoch {
                    return Err(ControllerError::Moved);
                }
                adjusted.extend(change(tp, &state.leader_and_isr).map(|state| (tp.clone(), state)));
            }
            let updated = self.store.update_states(&self.ctx, adjusted).await?;
            for (tp, state) in updated.done {
                self.ctx.set_leadership(&tp, state);
                changed.push(tp);
            }
            tps = updated.stale;
        }
        error!("gave up changing {} partitions whose states keep changing", tps.len());
        Ok(changed)
    }

    /// Asked only for partitions of whose ISR nobody is alive.
    async fn unclean_allowed(
        &self,
        partitions: &[TopicPartition],
        states: &[Option<LeaderState>],
    ) -> Result<HashMap<Arc<str>, bool>, ControllerError> {
        let mut topics: Vec<Arc<str>> = Vec::new();
        for (tp, state) in partitions.iter().zip(states) {
            let Some(state) = state else { continue };
            let alive = state.leader_and_isr.isr.iter().any(|id| self.ctx.is_replica_online(*id, tp));
            if !alive && topics.last() != Some(&tp.topic) {
                topics.push(tp.topic.clone());
            }
        }
        let default = self.handle.status.unclean.load(Ordering::Acquire);
        Ok(self.store.topic_settings(&topics, "unclean.leader.election.enable", default).await?)
    }
}
