//! SyncGroup (14), v0–5: the leader brings everyone's assignment, the others wait for theirs.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::group_names::{owned, text};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::coordinator::group::effect::SyncReply;
use crate::coordinator::group::sync::SyncRequest;

/// From this version on the member must name protocol type and protocol (KIP-559).
const FIRST_WITH_PROTOCOL: i16 = 5;

/// Waits for the member's assignment.
pub async fn handle(ctx: &Context, call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let version = call.version();
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let reply = if version >= FIRST_WITH_PROTOCOL && !names_protocol {
        SyncReply::error(ErrorCode::InconsistentGroupProtocol)
    } else {
        let (group_id, sync) = (request.group_id.to_string(), sync_request(&request));
        // As with a join: the frame is not to be held.
        drop(request);
        ctx.groups.sync(&group_id, sync).await
    };
    answer(version, reply)
}

fn sync_request(request: &SyncGroupRequest) -> SyncRequest {
    // Copied, as an assignment outlives the request's frame.
    let assignment = request
        .assignments
        .iter()
        .map(|assigned| (Arc::from(&*assigned.member_id), Bytes::copy_from_slice(&assigned.assignment)));
    SyncRequest {
        generation: request.generation_id,
        member_id: Arc::from(&*request.member_id),
        group_instance_id: owned(request.group_instance_id.as_ref()),
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol_name: owned(request.protocol_name.as_ref()),
        assignment: assignment.collect(),
    }
}

fn answer(version: i16, reply: SyncReply) -> SyncGroupResponse {
    let mut response =
        SyncGroupResponse::default().with_error_code(reply.error.code()).with_assignment(reply.assignment);
    if version >= FIRST_WITH_PROTOCOL {
        response.protocol_type = reply.protocol_type.as_deref().map(text);
        response.protocol_name = reply.protocol_name.as_deref().map(text);
    }
    response
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn answers_fit_every_version() {
        let full = SyncReply {
            error: ErrorCode::None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignment: "x".into(),
        };
        for version in 0..=5 {
            for reply in [SyncReply::error(ErrorCode::RebalanceInProgress), full.clone()] {
                let mut out = bytes::BytesMut::new();
                answer(version, reply).encode(&mut out, version).expect("it can be encoded");
            }
        }
    }
}
