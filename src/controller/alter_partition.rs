//! AlterPartition: leaders propose ISRs, the controller decides and writes (`KafkaController.alterPartitions`, KIP-497,
//! KIP-704, KIP-841).
//!
//! Safer than ZooKeeper mode of the original, which drops the broker epochs of version 3: a replica whose broker was
//! registered anew since the leader last heard from it has to catch up as that new life before it may join (KIP-903).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::alter_partition_request::{PartitionData as Proposed, TopicData as ProposedTopic};
use kafka_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use tracing::{debug, info};

use super::batch::{Batch, wire, wire_topic};
use super::context::Context;
use super::requests::{Answer, answer};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, LeaderEpoch, TopicPartition};
use crate::zk::znodes::topics::LeaderAndIsr;

/// The first version that names topics by id and knows INELIGIBLE_REPLICA.
const FIRST_WITH_TOPIC_IDS: i16 = 2;
/// The first version that tells the broker epoch of each member.
const FIRST_WITH_BROKER_EPOCHS: i16 = 3;
/// `LeaderRecoveryState.RECOVERING`.
const RECOVERING: i8 = 1;

/// What becomes of one proposal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is refused.
    Refuse(ErrorCode),
    /// It is so already.
    AsIs(LeaderAndIsr),
    /// It is to be written.
    Write(LeaderAndIsr),
}

/// What each partition is answered with.
type Outcomes = BTreeMap<TopicPartition, Result<LeaderAndIsr, ErrorCode>>;

impl Controller {
    pub(super) async fn on_alter_partition(
        &mut self,
        request: AlterPartitionRequest,
        version: i16,
        to: Answer<AlterPartitionResponse>,
    ) -> Result<(), ControllerError> {
        if let Err(error) = self.ctx.check_broker_epoch(BrokerId(request.broker_id.0), request.broker_epoch) {
            answer(to, AlterPartitionResponse::default().with_error_code(error.code()));
            return Ok(());
        }
        let mut outcomes = Outcomes::new();
        let mut writes = Vec::new();
        for topic in &request.topics {
            let Some(name) = topic_name(&self.ctx, topic, version) else { continue };
            for proposed in &topic.partitions {
                let tp = TopicPartition::new(name.clone(), proposed.partition_index);
                match judge(&self.ctx, &tp, BrokerId(request.broker_id.0), proposed, version) {
                    Verdict::Write(state) => writes.push((tp, state)),
                    Verdict::AsIs(state) => drop(outcomes.insert(tp, Ok(state))),
                    Verdict::Refuse(error) => {
                        info!("broker {} may not change the ISR of {tp}: {error}", request.broker_id.0);
                        outcomes.insert(tp, Err(error));
                    }
                }
            }
        }
        let changed = self.write_isrs(writes, &mut outcomes).await?;
        let may_be_forgotten = |outcome: &Result<LeaderAndIsr, ErrorCode>| {
            matches!(outcome, Err(ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted))
        };
        if outcomes.values().any(may_be_forgotten) {
            // The leader forgets what it proposed; another controller may have taken in an earlier attempt.
            self.store.confirm(&self.ctx).await?;
        }
        answer(to, response(&self.ctx, &request, version, &outcomes));
        let mut batch = Batch::default();
        batch.add_metadata(self.ctx.brokers.keys().copied().collect::<Vec<_>>(), changed);
        self.send(batch);
        let answered_well = outcomes.into_iter().filter(|(_, outcome)| outcome.is_ok()).map(|(tp, _)| tp);
        self.complete_grown(answered_well.collect()).await
    }

    /// Writes what was accepted; returns the partitions that changed.
    async fn write_isrs(
        &mut self,
        writes: Vec<(TopicPartition, LeaderAndIsr)>,
        outcomes: &mut Outcomes,
    ) -> Result<Vec<TopicPartition>, ControllerError> {
        for (tp, _) in &writes {
            outcomes.insert(tp.clone(), Err(ErrorCode::UnknownServerError));
        }
        let updated = self.store.update_states(&self.ctx, writes).await?;
        for tp in updated.stale {
            outcomes.insert(tp, Err(ErrorCode::InvalidUpdateVersion));
        }
        let mut changed = Vec::with_capacity(updated.done.len());
        for (tp, state) in updated.done {
            debug!("{tp}: the ISR is now {:?}, partition epoch {}", state.isr, state.partition_epoch);
            self.ctx.set_leadership(&tp, state.clone());
            changed.push(tp.clone());
            outcomes.insert(tp, Ok(state));
        }
        Ok(changed)
    }
}

/// The first version whose senders (3.2) get over an error that they do not know.
const FIRST_THAT_RETRIES: i16 = 1;

impl Context {
    /// Refuses what an earlier life of a broker sends (KIP-380), or one that is not registered.
    pub(super) fn check_broker_epoch(&self, broker: BrokerId, epoch: i64) -> Result<(), ErrorCode> {
        match self.brokers.get(&broker) {
            Some(live) if live.epoch == BrokerEpoch(epoch) => Ok(()),
            live => {
                let now = live.map(|live| live.epoch);
                info!("a request of broker {broker} in epoch {epoch} is refused: its epoch is {now:?}");
                Err(ErrorCode::StaleBrokerEpoch)
            }
        }
    }
}

fn topic_name(ctx: &Context, topic: &ProposedTopic, version: i16) -> Option<Arc<str>> {
    match version {
        FIRST_WITH_TOPIC_IDS.. => ctx.topic_name(topic.topic_id).cloned(),
        _ => Some(topic.topic_name.0.as_str().into()),
    }
}

/// Decides on one proposal of the broker `sender`.
fn judge(ctx: &Context, tp: &TopicPartition, sender: BrokerId, proposed: &Proposed, version: i16) -> Verdict {
    let known = ctx.partition(tp).and_then(|partition| Some((partition, partition.leadership.as_ref()?)));
    let Some((partition, leadership)) = known else { return Verdict::Refuse(ErrorCode::UnknownTopicOrPartition) };
    let current = &leadership.leader_and_isr;
    let state = LeaderAndIsr {
        leader: sender,
        leader_epoch: LeaderEpoch(proposed.leader_epoch),
        isr: members(proposed, version).map(|(id, _)| id).collect(),
        leader_recovery_state: proposed.leader_recovery_state,
        partition_epoch: proposed.partition_epoch,
    };
    // A leader that is ahead of this controller shall look for a newer one.
    if state.partition_epoch > current.partition_epoch || state.leader_epoch > current.leader_epoch {
        return Verdict::Refuse(ErrorCode::NotController);
    }
    if state.leader_epoch < current.leader_epoch {
        return Verdict::Refuse(ErrorCode::FencedLeaderEpoch);
    }
    // Before the partition epoch is looked at: a proposal that comes twice is answered alike both times.
    if (LeaderAndIsr { partition_epoch: current.partition_epoch, ..state.clone() }) == *current {
        return Verdict::AsIs(current.clone());
    }
    if state.partition_epoch != current.partition_epoch {
        return Verdict::Refuse(ErrorCode::InvalidUpdateVersion);
    }
    let replicas = &partition.assignment.replicas;
    if sender != current.leader || !is_sound(&state, replicas) || !may_recover(current, &state) {
        return Verdict::Refuse(ErrorCode::InvalidRequest);
    }
    if members(proposed, version).all(|(id, epoch)| is_eligible(ctx, id, epoch, &current.isr)) {
        return Verdict::Write(state);
    }
    match version {
        FIRST_WITH_TOPIC_IDS.. => Verdict::Refuse(ErrorCode::IneligibleReplica),
        FIRST_THAT_RETRIES.. => Verdict::Refuse(ErrorCode::OperationNotAttempted),
        // What 2.8 does with an error that it does not know leaves the partition's ISR as it is for ever. The ISR that
        // holds, under a new partition epoch, lets it propose again.
        _ => Verdict::Write(LeaderAndIsr { isr: current.isr.clone(), ..state }),
    }
}

/// The proposed members, with their broker epochs as far as the leader knows them.
fn members(proposed: &Proposed, version: i16) -> impl Iterator<Item = (BrokerId, BrokerEpoch)> {
    let (with_epochs, without) = match version {
        FIRST_WITH_BROKER_EPOCHS.. => (proposed.new_isr_with_epochs.as_slice(), &[][..]),
        _ => (&[][..], proposed.new_isr.as_slice()),
    };
    let with_epochs = with_epochs.iter().map(|member| (member.broker_id.0, member.broker_epoch));
    let without = without.iter().map(|id| (id.0, BrokerEpoch::NONE.get()));
    with_epochs.chain(without).map(|(id, epoch)| (BrokerId(id), BrokerEpoch(epoch)))
}

/// The leader and nobody but replicas, each once.
fn is_sound(state: &LeaderAndIsr, replicas: &[BrokerId]) -> bool {
    let once = |(at, id): (usize, &BrokerId)| !state.isr[..at].contains(id);
    state.isr.contains(&state.leader)
        && state.isr.iter().all(|id| replicas.contains(id))
        && state.isr.iter().enumerate().all(once)
}

/// A leader that was elected uncleanly is alone in the ISR until it has recovered, and recovers once (KIP-704).
fn may_recover(current: &LeaderAndIsr, state: &LeaderAndIsr) -> bool {
    state.leader_recovery_state != RECOVERING || (state.isr.len() == 1 && current.leader_recovery_state == RECOVERING)
}

/// Alive, not about to stop, and still the life of the broker that the leader knows. A suspect may stay, not join.
fn is_eligible(ctx: &Context, member: BrokerId, epoch: BrokerEpoch, isr: &[BrokerId]) -> bool {
    let same_life = || epoch == BrokerEpoch::NONE || ctx.brokers.get(&member).is_some_and(|live| live.epoch == epoch);
    let may_be = if isr.contains(&member) { ctx.is_live(member) } else { ctx.is_trusted(member) };
    may_be && same_life()
}

fn response(
    ctx: &Context,
    request: &AlterPartitionRequest,
    version: i16,
    outcomes: &Outcomes,
) -> AlterPartitionResponse {
    let topics = request.topics.iter().map(|topic| {
        let name = topic_name(ctx, topic, version);
        let partitions = topic.partitions.iter().map(|proposed| {
            let tp = name.clone().map(|name| TopicPartition::new(name, proposed.partition_index));
            let unknown = Err(ErrorCode::UnknownTopicId);
            partition_response(proposed.partition_index, tp.and_then(|tp| outcomes.get(&tp)).unwrap_or(&unknown))
        });
        let response = TopicData::default().with_partitions(partitions.collect());
        match version {
            FIRST_WITH_TOPIC_IDS.. => response.with_topic_id(topic.topic_id),
            _ => response.with_topic_name(wire_topic(topic.topic_name.0.as_str())),
        }
    });
    AlterPartitionResponse::default().with_topics(topics.collect())
}

fn partition_response(number: i32, outcome: &Result<LeaderAndIsr, ErrorCode>) -> PartitionData {
    let response = PartitionData::default().with_partition_index(number);
    match outcome {
        Err(error) => response.with_error_code(error.code()),
        Ok(state) => response
            .with_leader_id(wire(state.leader))
            .with_leader_epoch(state.leader_epoch.get())
            .with_isr(state.isr.iter().copied().map(wire).collect())
            .with_leader_recovery_state(state.leader_recovery_state)
            .with_partition_epoch(state.partition_epoch),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId as WireBroker;
    use kafka_protocol::messages::alter_partition_request::BrokerState;

    use super::*;
    use crate::base::ids::{ControllerEpoch, TopicId};
    use crate::controller::context::{Partition, Topic};
    use crate::zk::znodes::broker_ids::{BrokerInfo, LiveBroker};
    use crate::zk::znodes::topics::{PartitionState, ReplicaAssignment};

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    /// Partition 0 of `t`: replicas 1, 2, 3, led by 1 in epoch 5, partition epoch 8. Broker N has epoch 100 + N.
    fn context(isr: &[i32]) -> Context {
        let mut ctx = Context::new(ControllerEpoch(1), 1);
        for id in 1..=4 {
            let info = BrokerInfo::new(BrokerId(id), Vec::new(), 0);
            ctx.brokers.insert(BrokerId(id), LiveBroker { info, epoch: BrokerEpoch(100 + i64::from(id)) });
        }
        let mut partition = Partition::new(ReplicaAssignment::new(ids(&[1, 2, 3])));
        let initial = LeaderAndIsr::initial(BrokerId(1), ids(isr));
        let leader_and_isr = LeaderAndIsr { leader_epoch: LeaderEpoch(5), partition_epoch: 8, ..initial };
        partition.leadership =
            Some(PartitionState { leader_and_isr, controller_epoch: ControllerEpoch(1), isr_lives: Vec::new() });
        let topic = Topic { id: TopicId::from_u128(9), partitions: [(0, partition)].into() };
        ctx.add_topic("t".into(), topic);
        ctx
    }

    fn proposed(leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Proposed {
        let states = isr
            .iter()
            .map(|id| BrokerState::default().with_broker_id(WireBroker(*id)).with_broker_epoch(100 + i64::from(*id)));
        Proposed::default()
            .with_leader_epoch(leader_epoch)
            .with_partition_epoch(partition_epoch)
            .with_new_isr(isr.iter().copied().map(WireBroker).collect())
            .with_new_isr_with_epochs(states.collect())
    }

    fn verdict(ctx: &Context, proposed: &Proposed, version: i16) -> Result<Vec<BrokerId>, ErrorCode> {
        match judge(ctx, &TopicPartition::new("t", 0), BrokerId(1), proposed, version) {
            Verdict::Refuse(error) => Err(error),
            Verdict::Write(state) => Ok(state.isr),
            Verdict::AsIs(_) => Err(ErrorCode::None),
        }
    }

    #[test]
    fn epochs_decide_before_anything_else() {
        let ctx = context(&[1, 2]);
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1]), 3), Ok(ids(&[1])));
        assert_eq!(verdict(&ctx, &proposed(5, 9, &[1]), 3), Err(ErrorCode::NotController));
        assert_eq!(verdict(&ctx, &proposed(6, 8, &[1]), 3), Err(ErrorCode::NotController));
        assert_eq!(verdict(&ctx, &proposed(4, 8, &[1]), 3), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(verdict(&ctx, &proposed(5, 7, &[1]), 3), Err(ErrorCode::InvalidUpdateVersion));
        assert_eq!(verdict(&ctx, &proposed(5, 7, &[1, 2]), 3), Err(ErrorCode::None), "it is so already");
        let unknown = judge(&ctx, &TopicPartition::new("t", 1), BrokerId(1), &proposed(5, 8, &[1]), 3);
        assert_eq!(unknown, Verdict::Refuse(ErrorCode::UnknownTopicOrPartition));
    }

    #[test]
    fn only_live_replicas_in_their_present_life_may_join() {
        let mut ctx = context(&[1]);
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 2, 3]), 3), Ok(ids(&[1, 2, 3])));
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 4]), 3), Err(ErrorCode::InvalidRequest), "4 is no replica");
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[2]), 3), Err(ErrorCode::InvalidRequest), "without the leader");
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 2, 2]), 3), Err(ErrorCode::InvalidRequest), "2 twice");
        let mut restarted = proposed(5, 8, &[1, 2]);
        restarted.new_isr_with_epochs[1].broker_epoch = 77;
        assert_eq!(verdict(&ctx, &restarted, 3), Err(ErrorCode::IneligibleReplica), "KIP-903");
        restarted.new_isr_with_epochs[1].broker_epoch = -1;
        assert_eq!(verdict(&ctx, &restarted, 3), Ok(ids(&[1, 2])), "the leader does not know its epoch");
        ctx.shutting_down.insert(BrokerId(2));
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 2]), 3), Err(ErrorCode::IneligibleReplica));
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 2]), 1), Err(ErrorCode::OperationNotAttempted));
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 2]), 0), Ok(ids(&[1])), "2.8 hears of the ISR that holds");
        ctx.brokers.remove(&BrokerId(3));
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 3]), 2), Err(ErrorCode::IneligibleReplica));
    }

    #[test]
    fn a_leader_recovers_once_and_alone() {
        let mut ctx = context(&[1]);
        let mut recovering = proposed(5, 8, &[1]);
        recovering.leader_recovery_state = RECOVERING;
        assert_eq!(verdict(&ctx, &recovering, 3), Err(ErrorCode::InvalidRequest));
        let tp = TopicPartition::new("t", 0);
        let mut state = context(&[1]).partition(&tp).unwrap().leadership.clone().unwrap().leader_and_isr;
        state.leader_recovery_state = RECOVERING;
        ctx.set_leadership(&tp, state);
        assert_eq!(verdict(&ctx, &proposed(5, 8, &[1, 2]), 3), Ok(ids(&[1, 2])), "recovered, and another may join");
        let mut both = proposed(5, 8, &[1, 2]);
        both.leader_recovery_state = RECOVERING;
        assert_eq!(verdict(&ctx, &both, 3), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn stale_broker_epochs_are_refused() {
        let ctx = context(&[1]);
        assert_eq!(ctx.check_broker_epoch(BrokerId(1), 101), Ok(()));
        assert_eq!(ctx.check_broker_epoch(BrokerId(1), 100), Err(ErrorCode::StaleBrokerEpoch));
        assert_eq!(ctx.check_broker_epoch(BrokerId(9), 1), Err(ErrorCode::StaleBrokerEpoch));
    }
}
