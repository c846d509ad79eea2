//! InitProducerId (22), v0–5: ids for idempotent producers (KIP-98). There are no transactions yet: a transactional id is
//! refused, and finally so, lest its producer try for ever.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};
use tracing::warn;

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::ProducerId;

/// Gives out a producer id with epoch 0.
pub async fn handle(ctx: &Context, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match init(ctx, call, &request).await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(WireProducerId(id.get())).with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1),
    }
}

async fn init(ctx: &Context, call: &Call, request: &InitProducerIdRequest) -> Result<ProducerId, ErrorCode> {
    // Either both are known (KIP-360) or neither is.
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_ref() {
        Some(id) if id.is_empty() => return Err(ErrorCode::InvalidRequest),
        Some(id) => {
            warn!(
                "{} asks for transactions (transactional.id {}), which do not exist yet",
                call.connection.id,
                id.as_str()
            );
            return Err(ErrorCode::UnsupportedVersion);
        }
        None => {}
    }
    ctx.producer_ids.generate().await.map_err(|error| {
        warn!("no producer id: {error}");
        ErrorCode::CoordinatorLoadInProgress
    })
}
