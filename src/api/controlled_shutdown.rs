//! ControlledShutdown (7), v0–3: a broker that is about to stop asks the controller to move its leaderships. Only brokers
//! send it.

use kafka_protocol::messages::{ControlledShutdownRequest, ControlledShutdownResponse};

use super::{Call, Context};

/// Asks this broker's controller.
pub async fn handle(ctx: &Context, _call: &Call, request: ControlledShutdownRequest) -> ControlledShutdownResponse {
    ctx.controller.controlled_shutdown(request).await
}
