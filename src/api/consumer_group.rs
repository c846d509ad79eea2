//! ConsumerGroupHeartbeat (68) and ConsumerGroupDescribe (69), v0: the next protocol of groups (KIP-848). A broker in
//! ZooKeeper mode advertises both and refuses them, so that clients fall back to the classic protocol.

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};

use super::{Call, Context};
use crate::base::error::ErrorCode;

/// Refuses a member of the next protocol.
pub async fn heartbeat(
    _ctx: &Context,
    _call: &Call,
    _request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code())
}

/// Refuses to describe groups of the next protocol.
pub async fn describe(
    _ctx: &Context,
    _call: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let refused = |group_id| {
        DescribedGroup::default().with_group_id(group_id).with_error_code(ErrorCode::UnsupportedVersion.code())
    };
    ConsumerGroupDescribeResponse::default().with_groups(request.group_ids.into_iter().map(refused).collect())
}
