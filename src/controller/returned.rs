//! Brokers that went and came again while nobody was the controller. Their registrations look as if nothing had happened,
//! but what they had not flushed may be lost, so they must not lead, nor count as in sync, on what an earlier life of
//! theirs had. A controller that sees a broker come anew takes it out of its ISRs; so each state that it writes names the
//! lives in which it knew the members, and a new controller finds those that it, or its predecessor, did not see. Kafka
//! does not write them (and lets such brokers lead): there ZooKeeper's transaction ids have to do. A state that was written
//! before a member's broker was registered says nothing of this life of it. A process that registered anew when its session
//! was over, as after ZooKeeper was away, has lost nothing: its registration names its first one.

use std::collections::BTreeMap;

use tracing::info;

use super::batch::Batch;
use super::context::Context;
use super::replica_sm::Replica;
use super::run::Controller;
use super::store::ControllerError;
use crate::base::ids::{BrokerEpoch, BrokerId, TopicPartition};
use crate::zk::znodes::topics::{LeaderAndIsr, PartitionState};

/// The transaction that last wrote each partition's state.
pub(super) type Written = BTreeMap<TopicPartition, i64>;

impl Context {
    /// What is written of a partition: with the lives in which the members of its ISR are known. One that is not online
    /// here has none, whoever registered meanwhile.
    pub(super) fn state_node(&self, tp: &TopicPartition, leader_and_isr: &LeaderAndIsr) -> PartitionState {
        let life = |id: &BrokerId| match self.brokers.get(id) {
            Some(broker) if self.is_replica_online(*id, tp) => broker.epoch,
            _ => BrokerEpoch::NONE,
        };
        let isr_lives = leader_and_isr.isr.iter().map(life).collect();
        PartitionState { leader_and_isr: leader_and_isr.clone(), controller_epoch: self.epoch, isr_lives }
    }

    /// The members of ISRs that came anew since. Where all who live did, they count as they are: nobody is better.
    fn returned_unseen(&self, written: &Written) -> Vec<Replica> {
        let mut found = Vec::new();
        for (tp, partition) in self.all_partitions().filter(|(tp, _)| !self.is_dying(&tp.topic)) {
            let (Some(leadership), Some(zxid)) = (&partition.leadership, written.get(&tp)) else { continue };
            let isr = &leadership.leader_and_isr.isr;
            let live = isr.iter().copied().filter(|id| self.is_replica_online(*id, &tp));
            let came_later = |id: &BrokerId| {
                let life = isr.iter().position(|member| member == id).and_then(|at| leadership.isr_lives.get(at));
                let seen = life.copied().unwrap_or(BrokerEpoch(*zxid));
                self.brokers.get(id).is_some_and(|broker| broker.alive_since() > seen)
            };
            let (returned, seen): (Vec<_>, Vec<_>) = live.partition(came_later);
            if !seen.is_empty() {
                found.extend(returned.into_iter().map(|id| (tp.clone(), id)));
            }
        }
        found
    }

    /// Lets these replicas count as offline; answers which they are.
    pub(super) fn set_returned_aside(&mut self, written: &Written) -> Vec<Replica> {
        let returned = self.returned_unseen(written);
        for (tp, broker) in &returned {
            info!("broker {broker} came anew unseen: it leaves the ISR of {tp} until it has caught up");
            self.offline_dirs.entry(*broker).or_default().insert(tp.clone());
        }
        returned
    }
}

impl Controller {
    /// After leaders were elected without them: they leave their ISRs, and follow.
    pub(super) async fn take_returned_back(
        &mut self,
        returned: Vec<Replica>,
        batch: &mut Batch,
    ) -> Result<(), ControllerError> {
        self.remove_from_isr(returned.clone(), batch).await?;
        for (tp, broker) in &returned {
            if let Some(dirs) = self.ctx.offline_dirs.get_mut(broker) {
                dirs.remove(tp);
            }
        }
        self.ctx.offline_dirs.retain(|_, dirs| !dirs.is_empty());
        self.replicas_online(&returned, batch);
        Ok(())
    }
}
