//! AllocateProducerIds (67), v0: the controller gives a broker a block of producer ids (KIP-730). Only brokers send it.

use kafka_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};

use super::{Call, Context};

/// Asks this broker's controller.
pub async fn handle(ctx: &Context, _call: &Call, request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse {
    ctx.controller.allocate_producer_ids(request).await
}
