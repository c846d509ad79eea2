//! ControlledShutdown: a broker that is about to stop asks for its leaderships to be moved first
//! (`KafkaController.doControlledShutdown`).
//!
//! All of its partitions are dealt with at once: the states in few pipelined multis, and one request of each kind for
//! each broker. From then on the broker counts as stopping: it is elected for nothing and joins no ISR.

use std::collections::BTreeSet;

use kafka_protocol::messages::controlled_shutdown_response::RemainingPartition;
use kafka_protocol::messages::{ControlledShutdownRequest, ControlledShutdownResponse};
use tracing::info;

use super::batch::{Batch, wire_topic};
use super::election::Reason;
use super::replica_sm::Replica;
use super::requests::{Answer, answer};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, TopicPartition};

impl Controller {
    pub(super) async fn on_controlled_shutdown(
        &mut self,
        request: &ControlledShutdownRequest,
        to: Answer<ControlledShutdownResponse>,
    ) -> Result<(), ControllerError> {
        let broker = BrokerId(request.broker_id.0);
        if let Err(error) = self.may_shut_down(broker, BrokerEpoch(request.broker_epoch)) {
            info!("broker {broker} wants to stop, in epoch {}: {error}", request.broker_epoch);
            answer(to, ControlledShutdownResponse::default().with_error_code(error.code()));
            return Ok(());
        }
        self.ctx.shutting_down.insert(broker);
        let remaining = self.move_away(broker).await?;
        info!("broker {broker} stops; {} partitions have nobody else to lead them", remaining.len());
        let remaining = remaining.into_iter().map(|tp| {
            RemainingPartition::default().with_topic_name(wire_topic(&tp.topic)).with_partition_index(tp.partition)
        });
        answer(to, ControlledShutdownResponse::default().with_remaining_partitions(remaining.collect()));
        Ok(())
    }

    /// Brokers from before KIP-380 tell no epoch.
    fn may_shut_down(&self, broker: BrokerId, epoch: BrokerEpoch) -> Result<(), ErrorCode> {
        match self.ctx.brokers.get(&broker) {
            None => Err(ErrorCode::BrokerNotAvailable),
            Some(live) if epoch != BrokerEpoch::NONE && epoch < live.epoch => Err(ErrorCode::StaleBrokerEpoch),
            Some(_) => Ok(()),
        }
    }

    /// Moves a broker's leaderships and takes it out of all ISRs, as far as that leaves anybody in them. Returns the
    /// partitions that it still leads.
    async fn move_away(&mut self, broker: BrokerId) -> Result<Vec<TopicPartition>, ControllerError> {
        let (led, followed): (Vec<Replica>, Vec<Replica>) =
            self.movable_replicas(broker).into_iter().partition(|(tp, _)| self.ctx.leads(broker, tp));
        let led: Vec<TopicPartition> = led.into_iter().map(|(tp, _)| tp).collect();
        let mut batch = Batch::default();
        self.elect_leaders(led.clone(), Some(Reason::ControlledShutdown), &mut batch).await?;
        self.replicas_offline(&followed, &mut batch).await?;
        self.send(batch);
        Ok(led.into_iter().filter(|tp| self.ctx.leads(broker, tp)).collect())
    }

    /// The broker's replicas of partitions that others have too, and that stay.
    pub(super) fn movable_replicas(&self, broker: BrokerId) -> Vec<Replica> {
        let mut replicas = self.ctx.replicas_on(&BTreeSet::from([broker]));
        replicas.retain(|(tp, _)| {
            let partition = self.ctx.partition(tp);
            let movable = partition.is_some_and(|p| p.assignment.replicas.len() > 1 && p.leadership.is_some());
            movable && !self.ctx.is_dying(&tp.topic)
        });
        replicas
    }
}
