//! The states of replicas: told their role, taken out of the ISR, stopped, deleted (`ZkReplicaStateMachine`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tracing::error;

use super::batch::Batch;
use super::context::{Context, ReplicaState};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::znodes::topics::LeaderAndIsr;

/// A replica: a partition, and the broker that has it.
pub(super) type Replica = (TopicPartition, BrokerId);

impl Context {
    /// Moves a replica into `target` if it may come there from where it is.
    pub(super) fn move_replica(&mut self, (tp, broker): &Replica, target: ReplicaState) -> bool {
        let Some(partition) = self.partition_mut(tp) else { return false };
        let state = partition.replica_state(*broker);
        if !state.may_become(target) {
            error!("the replica of {tp} on {broker} cannot go from {state:?} to {target:?}");
            return false;
        }
        partition.set_replica_state(*broker, target);
        true
    }

    /// The state in which each replica starts under a new controller; answers those on live brokers.
    pub(super) fn initialize_replica_states(&mut self) -> Vec<Replica> {
        let tps: Vec<_> = self.all_partitions().map(|(tp, _)| tp).collect();
        let mut online = Vec::new();
        for tp in tps {
            let replicas = self.partition(&tp).map(|p| p.assignment.replicas.clone()).unwrap_or_default();
            for broker in replicas {
                let alive = self.is_replica_online(broker, &tp);
                let state = if alive { ReplicaState::Online } else { ReplicaState::DeletionIneligible };
                if let Some(partition) = self.partition_mut(&tp) {
                    partition.set_replica_state(broker, state);
                }
                if alive {
                    online.push((tp.clone(), broker));
                }
            }
        }
        online
    }

    /// Members of ISRs that are no replicas any more: the controller that took them away did not come to say so.
    pub(super) fn strangers(&self) -> Vec<Replica> {
        let mut found = Vec::new();
        for (tp, partition) in self.all_partitions().filter(|(tp, _)| !self.is_dying(&tp.topic)) {
            let isr = partition.leadership.iter().flat_map(|leadership| &leadership.leader_and_isr.isr);
            let strange = isr.filter(|id| !partition.assignment.replicas.contains(id) && !self.leads(**id, &tp));
            found.extend(strange.map(|id| (tp.clone(), *id)));
        }
        found
    }

    /// Replicas on brokers that are not registered, but for those of topics that are to be deleted.
    pub(super) fn offline_replicas(&self) -> Vec<Replica> {
        let staying = self.all_partitions().filter(|(tp, _)| !self.is_dying(&tp.topic));
        staying
            .flat_map(|(tp, p)| p.assignment.replicas.iter().map(move |broker| (tp.clone(), *broker)))
            .filter(|(_, broker)| !self.brokers.contains_key(broker))
            .collect()
    }
}

impl Controller {
    /// Tells live replicas their role, as far as their partitions have a leader.
    pub(super) fn replicas_online(&mut self, replicas: &[Replica], batch: &mut Batch) {
        for replica in replicas {
            let (tp, broker) = replica;
            if !self.ctx.move_replica(replica, ReplicaState::Online) {
                continue;
            }
            if self.ctx.partition(tp).is_some_and(|p| p.leadership.is_some()) {
                batch.add_leader_and_isr(&[*broker], tp, false, &self.ctx);
            }
        }
    }

    /// Stops replicas and takes them out of their ISRs.
    pub(super) async fn replicas_offline(
        &mut self,
        replicas: &[Replica],
        batch: &mut Batch,
    ) -> Result<(), ControllerError> {
        let mut leaving = Vec::new();
        for replica in replicas {
            if self.ctx.move_replica(replica, ReplicaState::Offline) {
                batch.add_stop_replica(replica.1, &replica.0, false);
                leaving.push(replica.clone());
            }
        }
        self.remove_from_isr(leaving, batch).await
    }

    /// Takes replicas out of the ISRs of their partitions.
    pub(super) async fn remove_from_isr(
        &mut self,
        mut leaving: Vec<Replica>,
        batch: &mut Batch,
    ) -> Result<(), ControllerError> {
        leaving.retain(|(tp, broker)| {
            let leadership = self.ctx.partition(tp).and_then(|p| p.leadership.as_ref());
            let in_isr = leadership.is_some_and(|l| l.leader_and_isr.isr.contains(broker));
            in_isr && !self.ctx.is_dying(&tp.topic)
        });
        // One round per replica of the same partition: each changes the state the next one starts from.
        while !leaving.is_empty() {
            let mut round = BTreeMap::new();
            leaving.retain(|(tp, broker)| match round.entry(tp.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(*broker);
                    false
                }
                Entry::Occupied(_) => true,
            });
            let without = |tp: &TopicPartition, state: &LeaderAndIsr| without_replica(state, *round.get(tp)?);
            for tp in self.change_states(round.keys().cloned().collect(), without).await? {
                let live = self.ctx.online_replicas(&tp);
                batch.add_leader_and_isr(&live, &tp, false, &self.ctx);
            }
        }
        Ok(())
    }
}

/// The state after a replica left the ISR; `None` if nothing changes. The last member of an ISR stays in it, so that
/// only a replica with all acknowledged records may lead later.
fn without_replica(state: &LeaderAndIsr, replica: BrokerId) -> Option<LeaderAndIsr> {
    if !state.isr.contains(&replica) {
        return None;
    }
    let leader = if state.leader == replica { LeaderAndIsr::NO_LEADER } else { state.leader };
    let isr: Vec<_> = match state.isr.len() {
        1 => state.isr.clone(),
        _ => state.isr.iter().copied().filter(|id| *id != replica).collect(),
    };
    Some(state.new_leader_and_isr(leader, isr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_replica_stays_in_the_isr() {
        let state = LeaderAndIsr::initial(BrokerId(1), vec![BrokerId(1), BrokerId(2)]);
        let one_left = without_replica(&state, BrokerId(1)).unwrap();
        assert_eq!((one_left.leader, one_left.isr.clone()), (LeaderAndIsr::NO_LEADER, vec![BrokerId(2)]));
        let none_left = without_replica(&one_left, BrokerId(2)).unwrap();
        assert_eq!(none_left.isr, vec![BrokerId(2)]);
        assert_eq!(without_replica(&state, BrokerId(3)), None);
    }
}
