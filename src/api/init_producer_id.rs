//! InitProducerId (22), v0–5: ids for idempotent producers, ids and epochs for transactional ones (KIP-98); from v3 on a
//! producer may say who it was (KIP-360).

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};
use tracing::warn;

use super::txn_names::{for_version, producer};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::coordinator::txn::state::Producer;

const FIRST_WITH_FENCED: i16 = 4;
const NONE: i64 = -1;

/// Gives out a producer id and epoch.
pub async fn handle(ctx: &Context, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    match init(ctx, &request).await {
        Ok(producer) => {
            response.with_producer_id(WireProducerId(producer.id.get())).with_producer_epoch(producer.epoch.get())
        }
        Err(error) => response
            .with_error_code(for_version(error, call.version(), FIRST_WITH_FENCED).code())
            .with_producer_id(WireProducerId(NONE))
            .with_producer_epoch(-1),
    }
}

async fn init(ctx: &Context, request: &InitProducerIdRequest) -> Result<Producer, ErrorCode> {
    // Either both are known (KIP-360) or neither is.
    let expected = match (request.producer_id.0, request.producer_epoch) {
        (NONE, -1) => None,
        (NONE, _) | (_, -1) => return Err(ErrorCode::InvalidRequest),
        _ => Some(producer(request.producer_id, request.producer_epoch)),
    };
    if let Some(id) = &request.transactional_id {
        return ctx.transactions.init_producer_id(id, request.transaction_timeout_ms, expected).await;
    }
    let id = ctx.producer_ids.generate().await.map_err(|error| {
        warn!("no producer id: {error}");
        ErrorCode::CoordinatorLoadInProgress
    })?;
    Ok(Producer::new(id.get(), 0))
}
