//! Heartbeat (12), v0–4: a member lives, and learns whether it must join again.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;

/// Takes the sign of life.
pub async fn handle(ctx: &Context, _call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let instance_id = request.group_instance_id.as_deref();
    let result = ctx.groups.heartbeat(&request.group_id, request.generation_id, &request.member_id, instance_id);
    HeartbeatResponse::default().with_error_code(result.err().unwrap_or(ErrorCode::None).code())
}
