//! AlterPartition (56), v0–3: leaders propose ISRs to the controller. Only brokers send it.

use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};

use super::{Call, Context};

/// Asks this broker's controller.
pub async fn handle(ctx: &Context, call: &Call, request: AlterPartitionRequest) -> AlterPartitionResponse {
    ctx.controller.alter_partition(request, call.version()).await
}
