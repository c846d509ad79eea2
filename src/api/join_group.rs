//! JoinGroup (11), v0–9: a member joins its group's next generation; the answer waits for the others.

use std::sync::Arc;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::group_names::{client_host, owned, reason, text};
use super::{Call, Context};
use crate::coordinator::group::effect::JoinReply;
use crate::coordinator::group::join::own_protocols;
use crate::coordinator::group::member::JoinRequest;

/// From this version on the rebalance time-out is apart from the session's.
const FIRST_WITH_REBALANCE_TIMEOUT: i16 = 1;
/// From this version on new members are sent back for their id (KIP-394).
const FIRST_REQUIRING_MEMBER_ID: i16 = 4;
const FIRST_WITH_INSTANCE_ID: i16 = 5;
const FIRST_WITH_PROTOCOL_TYPE: i16 = 7;
const FIRST_WITH_SKIP_ASSIGNMENT: i16 = 9;

/// Lets the member join, and waits until its generation begins.
pub async fn handle(ctx: &Context, call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let (group_id, join) = (request.group_id.to_string(), join_request(call, &request));
    // The wait may be long: the request's frame is not to be held meanwhile.
    drop(request);
    let reply = ctx.groups.join(&group_id, join).await;
    answer(call.version(), reply)
}

fn join_request(call: &Call, request: &JoinGroupRequest) -> JoinRequest {
    let version = call.version();
    let has_own_timeout = version >= FIRST_WITH_REBALANCE_TIMEOUT;
    let protocols = request.protocols.iter().map(|protocol| (&*protocol.name, &*protocol.metadata));
    let prefix = request.group_instance_id.as_deref().unwrap_or_else(|| call.client_id());
    JoinRequest {
        member_id: Arc::from(&*request.member_id),
        new_member_id: Arc::from(format!("{prefix}-{}", uuid::Uuid::new_v4())),
        group_instance_id: owned(request.group_instance_id.as_ref()),
        client_id: Arc::from(call.client_id()),
        client_host: Arc::from(client_host(call.connection.peer)),
        rebalance_timeout_ms: if has_own_timeout { request.rebalance_timeout_ms } else { request.session_timeout_ms },
        session_timeout_ms: request.session_timeout_ms,
        protocol_type: Arc::from(&*request.protocol_type),
        protocols: own_protocols(protocols),
        require_known_member_id: version >= FIRST_REQUIRING_MEMBER_ID,
        reason: reason(request.reason.as_ref()).map(Arc::from),
        supports_skip_assignment: version >= FIRST_WITH_SKIP_ASSIGNMENT,
    }
}

fn answer(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let member = |member: crate::coordinator::group::effect::JoinMember| {
        let instance_id = member.group_instance_id.filter(|_| version >= FIRST_WITH_INSTANCE_ID);
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(instance_id.as_deref().map(text))
            .with_metadata(member.metadata)
    };
    let mut response = JoinGroupResponse::default()
        .with_error_code(reply.error.code())
        .with_generation_id(reply.generation)
        .with_leader(text(&reply.leader))
        .with_member_id(text(&reply.member_id))
        .with_members(reply.members.into_iter().map(member).collect());
    response.protocol_name = reply.protocol_name.as_deref().map(text);
    if version >= FIRST_WITH_PROTOCOL_TYPE {
        response.protocol_type = reply.protocol_type.as_deref().map(text);
    } else {
        response.protocol_name.get_or_insert_default();
    }
    response.skip_assignment = reply.skip_assignment && version >= FIRST_WITH_SKIP_ASSIGNMENT;
    response
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::base::error::ErrorCode;
    use crate::coordinator::group::effect::JoinMember;

    #[test]
    fn answers_fit_every_version() {
        let mut full = JoinReply::error("m", ErrorCode::None);
        full.protocol_type = Some("consumer".into());
        full.protocol_name = Some("range".into());
        full.skip_assignment = true;
        full.members =
            vec![JoinMember { member_id: "m".into(), group_instance_id: Some("i".into()), metadata: "x".into() }];
        for version in 0..=9 {
            for reply in [JoinReply::error("", ErrorCode::MemberIdRequired), full.clone()] {
                let mut out = bytes::BytesMut::new();
                answer(version, reply).encode(&mut out, version).expect("it can be encoded");
            }
        }
    }
}
