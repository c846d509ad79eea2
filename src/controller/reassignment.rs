//! Reassignment: a partition's replicas move from one set of brokers to another (KIP-455,
//! `KafkaController.onPartitionReassignment`).
//!
//! ```text
//!   asked for   topic node: replicas = target + origin, adding, removing
//!   A           all of them are told in a new leader epoch; the added ones catch up and join the ISR
//!   B           once the target is in the ISR: a leader out of the target, the others stopped and deleted,
//!               topic node: replicas = target
//! ```
//!
//! What is under way stands in the topics' nodes alone, so that another controller goes on from there; every step may
//! be taken twice. Partitions are dealt with together: few multis, one request of each kind for each broker.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use super::batch::Batch;
use super::context::{Context, Partition, ReplicaState};
use super::election::Reason;
use super::replica_sm::Replica;
use super::requests::{Outcome, Outcomes, Targets};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::znodes::topics::{LeaderAndIsr, ReplicaAssignment};

/// A partition and where it shall be.
type Move = (TopicPartition, ReplicaAssignment);

impl Context {
    /// The reassignments under way, of these partitions if any are named.
    pub(super) fn reassignments(&self, of: Option<&[TopicPartition]>) -> BTreeMap<TopicPartition, ReplicaAssignment> {
        let named = of.map(|tps| tps.iter().collect::<BTreeSet<_>>());
        let under_way = self.all_partitions().filter(|(tp, partition)| {
            partition.assignment.is_being_reassigned() && named.as_ref().is_none_or(|named| named.contains(tp))
        });
        under_way.map(|(tp, partition)| (tp, partition.assignment.clone())).collect()
    }

    /// Whether every replica of the target is in sync (`isReassignmentComplete`).
    fn is_complete(&self, (tp, assignment): &Move) -> bool {
        let isr = self.partition(tp).and_then(|p| p.leadership.as_ref()).map(|l| &l.leader_and_isr.isr);
        let in_sync = |target: &BrokerId| isr.is_some_and(|isr| isr.contains(target));
        !assignment.is_being_reassigned() || assignment.target_replicas().iter().all(in_sync)
    }

    fn set_assignment(&mut self, (tp, assignment): &Move) {
        if let Some(partition) = self.partition_mut(tp) {
            partition.assignment = assignment.clone();
        }
    }

    /// Whether a broker leads a partition.
    pub(super) fn leads(&self, broker: BrokerId, tp: &TopicPartition) -> bool {
        let leadership = self.partition(tp).and_then(|partition| partition.leadership.as_ref());
        leadership.is_some_and(|l| l.leader_and_isr.leader == broker)
    }
}

/// A replica that was added, and is alone in the ISR by now, cannot be given up by another target: nobody that is left
/// could lead. `KafkaController` gives it up; as `PartitionReassignmentRevert` in clusters without ZooKeeper.
fn keeping_a_leader(partition: &Partition, planned: ReplicaAssignment) -> Result<ReplicaAssignment, Outcome> {
    let isr = partition.leadership.as_ref().map(|leadership| &leadership.leader_and_isr.isr);
    match isr {
        Some(isr) if !isr.iter().any(|id| planned.replicas.contains(id)) => {
            let message = format!("Only {isr:?} are in sync, and none of them would be left.");
            Err(Outcome::failed(ErrorCode::InvalidReplicaAssignment, message))
        }
        _ => Ok(planned),
    }
}

impl Controller {
    /// AlterPartitionReassignments. The latest word counts: what the znode of a tool says of the same partitions is taken
    /// out of it.
    pub(super) async fn alter_reassignments(&mut self, targets: Targets) -> Result<Outcomes, ControllerError> {
        let mut outcomes = Outcomes::new();
        let mut moves = Vec::new();
        for (tp, target) in targets {
            match self.plan(&tp, target.as_deref(), true) {
                Ok(assignment) => {
                    outcomes.insert(tp.clone(), Outcome::DONE);
                    moves.push((tp, assignment));
                }
                Err(outcome) => drop(outcomes.insert(tp, outcome)),
            }
        }
        let taken: BTreeSet<TopicPartition> = moves.iter().map(|(tp, _)| tp.clone()).collect();
        self.store.forget_reassignments(&self.ctx, |tp, _| taken.contains(tp)).await?;
        self.reassign(moves).await?;
        Ok(outcomes)
    }

    /// The znode of 2.8's kafka-reassign-partitions came or changed. What it asks for and is under way is let be.
    pub(super) async fn on_reassignment_node(&mut self) -> Result<(), ControllerError> {
        let asked = self.store.reassignments().await?;
        let (mut moves, mut failed) = (Vec::new(), BTreeSet::new());
        for (tp, target) in asked {
            let current = self.ctx.partition(&tp).map(|partition| &partition.assignment);
            if current.is_some_and(|a| a.is_being_reassigned() && a.target_replicas() == target) {
                continue;
            }
            match self.plan(&tp, Some(&target), false) {
                Ok(assignment) => moves.push((tp, assignment)),
                Err(outcome) => {
                    warn!("{tp} is not reassigned to {target:?}: {}", outcome.message.unwrap_or_default());
                    failed.insert(tp);
                }
            }
        }
        if !failed.is_empty() {
            self.store.forget_reassignments(&self.ctx, |tp, _| failed.contains(tp)).await?;
        }
        self.reassign(moves).await
    }

    /// Takes up again what is under way, as far as its assignment is of interest.
    pub(super) async fn resume_reassignments(
        &mut self,
        of_interest: impl Fn(&ReplicaAssignment) -> bool,
    ) -> Result<(), ControllerError> {
        let mut moves: Vec<Move> = self.ctx.reassignments(None).into_iter().collect();
        moves.retain(|(_, assignment)| of_interest(assignment));
        self.reassign(moves).await
    }

    /// ISRs changed: reassignments that waited for that come to their end.
    pub(super) async fn complete_grown(&mut self, partitions: Vec<TopicPartition>) -> Result<(), ControllerError> {
        let assignment = |tp: TopicPartition| {
            let assignment = self.ctx.partition(&tp)?.assignment.clone();
            assignment.is_being_reassigned().then_some((tp, assignment))
        };
        let mut moves: Vec<Move> = partitions.into_iter().filter_map(assignment).collect();
        moves.retain(|one| self.ctx.is_complete(one));
        self.reassign(moves).await
    }

    /// The assignment on the way to a target, or why it cannot be. Tools that write the znode may name brokers that are
    /// down.
    fn plan(
        &self,
        tp: &TopicPartition,
        target: Option<&[BrokerId]>,
        alive: bool,
    ) -> Result<ReplicaAssignment, Outcome> {
        let refuse = |code, message: String| Err(Outcome::failed(code, message));
        let partition = self.ctx.partition(tp).filter(|_| !self.ctx.is_to_be_deleted(&tp.topic));
        let Some(partition) = partition else {
            return refuse(ErrorCode::UnknownTopicOrPartition, "The partition does not exist.".into());
        };
        let current = &partition.assignment;
        let Some(target) = target else {
            if !current.is_being_reassigned() {
                let message = "There is no reassignment of the partition to be cancelled.".into();
                return refuse(ErrorCode::NoReassignmentInProgress, message);
            }
            return keeping_a_leader(partition, current.reassign_to(&current.origin_replicas()));
        };
        let invalid = ErrorCode::InvalidReplicaAssignment;
        if target.is_empty() {
            return refuse(invalid, "The list of replicas is empty.".into());
        }
        if target.iter().enumerate().any(|(at, id)| target[..at].contains(id)) {
            return refuse(invalid, format!("The list of replicas {target:?} names a broker twice."));
        }
        if target.iter().any(|id| *id < BrokerId(0)) {
            return refuse(invalid, format!("The list of replicas {target:?} holds a number that is no broker's id."));
        }
        let planned = current.reassign_to(target);
        let dead: Vec<_> = planned.adding.iter().filter(|id| alive && !self.ctx.is_trusted(**id)).collect();
        match dead.is_empty() {
            true => keeping_a_leader(partition, planned),
            false => refuse(invalid, format!("The brokers {dead:?} of the list of replicas are not alive.")),
        }
    }

    /// Takes each partition as far towards its target as it goes now.
    async fn reassign(&mut self, moves: Vec<Move>) -> Result<(), ControllerError> {
        if moves.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        self.write_assignments(&moves, &mut batch).await?;
        let (complete, incomplete): (Vec<_>, Vec<_>) = moves.into_iter().partition(|one| self.ctx.is_complete(one));
        self.announce_reassignments(&incomplete, &mut batch).await?;
        // Leaders that write their ISRs themselves (IBP below 2.7-IV2) may have been ahead of what was known here.
        let (late, _): (Vec<_>, Vec<_>) = incomplete.into_iter().partition(|one| self.ctx.is_complete(one));
        let complete = [complete, late].concat();
        let done = self.finish_replicas(&complete, &mut batch).await?;
        // Before the nodes say that it is done: another controller would not stop the replicas that are left over.
        self.send(batch);
        if done.is_empty() {
            return Ok(());
        }
        self.store.set_assignments(&self.ctx, &done).await?;
        info!("{} reassignments are done", done.len());
        let by_partition: BTreeMap<TopicPartition, Vec<BrokerId>> =
            done.into_iter().map(|(tp, assignment)| (tp, assignment.replicas)).collect();
        self.store
            .forget_reassignments(&self.ctx, |tp, target| by_partition.get(tp).is_some_and(|t| t == target))
            .await?;
        // Deletions may have waited for this.
        match self.ctx.topics_to_be_deleted.is_empty() {
            true => Ok(()),
            false => Box::pin(self.resume_deletions()).await,
        }
    }

    /// Puts the assignments in place; replicas that another target makes unneeded are stopped and deleted.
    async fn write_assignments(&mut self, moves: &[Move], batch: &mut Batch) -> Result<(), ControllerError> {
        let current = |tp| self.ctx.partition(tp).map(|partition| partition.assignment.clone()).unwrap_or_default();
        let changed: Vec<Move> = moves.iter().filter(|(tp, wanted)| current(tp) != *wanted).cloned().collect();
        let mut unneeded = Vec::new();
        for (tp, wanted) in &changed {
            let left = current(tp).replicas.into_iter().filter(|id| !wanted.replicas.contains(id));
            unneeded.extend(left.map(|id| (tp.clone(), id)));
        }
        self.store.set_assignments(&self.ctx, &changed).await?;
        for one in &changed {
            info!("{} goes from {:?} to {:?}", one.0, one.1.origin_replicas(), one.1.target_replicas());
            self.ctx.set_assignment(one);
        }
        self.remove_replicas(&unneeded, batch).await
    }

    /// Phase A: all replicas are told in a new leader epoch, the added ones that they are new.
    async fn announce_reassignments(&mut self, moves: &[Move], batch: &mut Batch) -> Result<(), ControllerError> {
        let tps = moves.iter().map(|(tp, _)| tp.clone()).collect();
        let raised: BTreeSet<TopicPartition> = self.raise_epochs(tps).await?.into_iter().collect();
        for (tp, assignment) in moves {
            if !raised.contains(tp) {
                warn!("{tp} has no state in ZooKeeper: its reassignment waits");
                continue;
            }
            let (adding, others): (Vec<BrokerId>, Vec<BrokerId>) =
                self.ctx.online_replicas(tp).into_iter().partition(|id| assignment.adding.contains(id));
            batch.add_leader_and_isr(&others, tp, false, &self.ctx);
            batch.add_leader_and_isr(&adding, tp, true, &self.ctx);
            for id in &assignment.adding {
                let known = self.ctx.partition(tp).map(|partition| partition.replica_state(*id));
                if known == Some(ReplicaState::NonExistent) {
                    self.ctx.move_replica(&(tp.clone(), *id), ReplicaState::New);
                }
            }
        }
        Ok(())
    }

    async fn raise_epochs(&mut self, tps: Vec<TopicPartition>) -> Result<Vec<TopicPartition>, ControllerError> {
        let raise = |_: &TopicPartition, s: &LeaderAndIsr| Some(s.new_leader_and_isr(s.leader, s.isr.clone()));
        self.change_states(tps, raise).await
    }

    /// Phase B up to the topic's node: leaders out of the target, the others gone. Returns the final assignments.
    async fn finish_replicas(&mut self, moves: &[Move], batch: &mut Batch) -> Result<Vec<Move>, ControllerError> {
        let (mut done, mut removed, mut online) = (Vec::new(), Vec::new(), Vec::new());
        let (mut stay, mut leave) = (Vec::new(), Vec::new());
        for (tp, assignment) in moves {
            online.extend(assignment.adding.iter().map(|id| (tp.clone(), *id)));
            removed.extend(assignment.removing.iter().map(|id| (tp.clone(), *id)));
            let last = (tp.clone(), ReplicaAssignment::new(assignment.target_replicas()));
            self.ctx.set_assignment(&last);
            let leader = self.ctx.partition(tp).and_then(|p| p.leadership.as_ref()).map(|l| l.leader_and_isr.leader);
            let fits = |id| last.1.replicas.contains(&id) && self.ctx.is_replica_online(id, tp);
            let group = if leader.is_some_and(fits) { &mut stay } else { &mut leave };
            group.push(tp.clone());
            done.push(last);
        }
        online.retain(|(tp, id)| self.ctx.is_replica_online(*id, tp));
        for replica in &online {
            self.ctx.move_replica(replica, ReplicaState::Online);
        }
        for tp in self.raise_epochs(stay).await? {
            let told = self.ctx.online_replicas(&tp);
            batch.add_leader_and_isr(&told, &tp, false, &self.ctx);
        }
        self.elect_leaders(leave, Some(Reason::Reassignment), batch).await?;
        self.remove_replicas(&removed, batch).await?;
        Ok(done)
    }

    /// Takes replicas out of the ISR, stops and deletes them. It is not waited for: a broker that is down keeps its log.
    async fn remove_replicas(&mut self, replicas: &[Replica], batch: &mut Batch) -> Result<(), ControllerError> {
        for replica in replicas.iter() {
            let state = self.ctx.partition(&replica.0).map(|partition| partition.replica_state(replica.1));
            if state == Some(ReplicaState::NonExistent) {
                self.ctx.move_replica(replica, ReplicaState::New);
            }
        }
        self.replicas_offline(replicas, batch).await?;
        for replica in replicas {
            for state in [ReplicaState::DeletionStarted, ReplicaState::DeletionSuccessful, ReplicaState::NonExistent] {
                self.ctx.move_replica(replica, state);
            }
            batch.add_stop_replica(replica.1, &replica.0, true);
        }
        Ok(())
    }
}
