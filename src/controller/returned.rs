//! Brokers that went and came again while nobody was the controller. Their registrations look as if nothing had happened,
//! but what they had not flushed may be lost, so they must not lead, nor count as in sync, on what an earlier life of
//! theirs had. A controller that sees a broker come anew takes it out of its ISRs; a new controller finds those it did not
//! see by ZooKeeper's transaction ids: a state that was written before a member's broker was registered says nothing of
//! this life of it. (Kafka in ZooKeeper mode lets them lead.) A process that registered anew when its session was over, as
//! after ZooKeeper was away, has lost nothing: its registration names its first one. A controller that reads everything anew
//! knows besides whom it had not dealt with: what it wrote meanwhile, it wrote without knowing of that life.

use std::collections::BTreeMap;

use tracing::info;

use super::batch::Batch;
use super::context::Context;
use super::replica_sm::Replica;
use super::run::Controller;
use super::store::ControllerError;
use crate::base::ids::{BrokerEpoch, BrokerId, TopicPartition};

/// The transaction that last wrote each partition's state.
pub(super) type Written = BTreeMap<TopicPartition, i64>;

impl Context {
    /// The members of ISRs that came anew since. Where all who live did, they count as they are: nobody is better.
    fn returned_unseen(&self, written: &Written) -> Vec<Replica> {
        let mut found = Vec::new();
        for (tp, partition) in self.all_partitions().filter(|(tp, _)| !self.is_dying(&tp.topic)) {
            let (Some(leadership), Some(zxid)) = (&partition.leadership, written.get(&tp)) else { continue };
            let live = leadership.leader_and_isr.isr.iter().copied().filter(|id| self.is_replica_online(*id, &tp));
            let came_later = |id: &BrokerId| {
                self.unsettled.contains(id)
                    || self.brokers.get(id).is_some_and(|b| b.alive_since() > BrokerEpoch(*zxid))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ControllerEpoch, TopicId};
    use crate::controller::context::{Partition, Topic};
    use crate::zk::znodes::broker_ids::{BrokerInfo, LiveBroker};
    use crate::zk::znodes::topics::{LeaderAndIsr, PartitionState, ReplicaAssignment};

    /// The state was written after 2 came anew, by a controller that had not seen it.
    #[test]
    fn who_was_not_dealt_with_came_unseen_whenever_the_state_was_written() {
        let ids = vec![BrokerId(1), BrokerId(2)];
        let mut ctx = Context::new(ControllerEpoch(1), 1);
        for id in &ids {
            let info = BrokerInfo::new(*id, Vec::new(), 0);
            ctx.brokers.insert(*id, LiveBroker { info, epoch: BrokerEpoch(10 * i64::from(id.get())) });
        }
        let mut partition = Partition::new(ReplicaAssignment::new(ids.clone()));
        let leader_and_isr = LeaderAndIsr::initial(BrokerId(2), ids);
        partition.leadership = Some(PartitionState { leader_and_isr, controller_epoch: ControllerEpoch(1) });
        ctx.add_topic("t".into(), Topic { id: TopicId::from_u128(9), partitions: [(0, partition)].into() });
        let tp = TopicPartition::new("t", 0);
        let returned = |ctx: &Context, written| ctx.returned_unseen(&Written::from([(tp.clone(), written)]));
        assert_eq!(returned(&ctx, 15), [(tp.clone(), BrokerId(2))], "it registered later");
        assert!(returned(&ctx, 25).is_empty());
        ctx.unsettled.insert(BrokerId(2));
        assert_eq!(returned(&ctx, 25), [(tp.clone(), BrokerId(2))]);
    }
}
