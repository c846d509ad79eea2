//! EndTxn (26), v0–4: a producer commits or aborts.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::txn_names::{for_version, producer};
use super::{Call, Context};
use crate::base::error::ErrorCode;

const FIRST_WITH_FENCED: i16 = 2;

/// Ends the transaction; answered once that is stored, before the markers are written.
pub async fn handle(ctx: &Context, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let producer = producer(request.producer_id, request.producer_epoch);
    let ended = ctx.transactions.end_transaction(&request.transactional_id, producer, request.committed).await;
    let error = ended.err().unwrap_or(ErrorCode::None);
    EndTxnResponse::default().with_error_code(for_version(error, call.version(), FIRST_WITH_FENCED).code())
}
