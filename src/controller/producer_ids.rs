//! AllocateProducerIds: blocks of producer ids for brokers (KIP-730, `KafkaController.processAllocateProducerIds`).

use kafka_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse, ProducerId as WireProducerId};
use tracing::{info, warn};

use super::requests::{Answer, answer};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;
use crate::zk::znodes::cluster::ProducerIdBlock;

impl Controller {
    pub(super) async fn on_allocate_producer_ids(
        &mut self,
        request: &AllocateProducerIdsRequest,
        to: Answer<AllocateProducerIdsResponse>,
    ) -> Result<(), ControllerError> {
        let broker = BrokerId(request.broker_id.0);
        let response = AllocateProducerIdsResponse::default();
        let known = self.ctx.brokers.contains_key(&broker);
        let refusal = match self.ctx.check_broker_epoch(broker, request.broker_epoch) {
            Err(_) if !known => Some(ErrorCode::BrokerIdNotRegistered),
            checked => checked.err(),
        };
        if let Some(error) = refusal {
            answer(to, response.with_error_code(error.code()));
            return Ok(());
        }
        match self.store.next_producer_id_block(&self.ctx, broker).await? {
            Ok(ProducerIdBlock { start, end, .. }) => {
                info!("broker {broker} gives out the producer ids {start} to {end}");
                let len = i32::try_from(end - start + 1).unwrap_or(i32::MAX);
                answer(to, response.with_producer_id_start(WireProducerId(start)).with_producer_id_len(len));
            }
            Err(why) => {
                warn!("broker {broker} gets no producer ids: {why}");
                answer(to, response.with_error_code(ErrorCode::UnknownServerError.code()));
            }
        }
        Ok(())
    }
}
