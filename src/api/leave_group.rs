//! LeaveGroup (13), v0–5: one member leaves or, from v3 on, several are removed, static ones by their instance id
//! (KIP-345).

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::group_names::reason;
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::coordinator::group::coordinator::Leaving;

/// From this version on members are listed.
const FIRST_WITH_MEMBERS: i16 = 3;

/// Takes the members out of the group.
pub async fn handle(ctx: &Context, call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let group_id: &str = &request.group_id;
    if call.version() < FIRST_WITH_MEMBERS {
        let results = ctx.groups.leave(group_id, &[Leaving { member_id: &request.member_id, ..Leaving::default() }]);
        let error = match results.map(|results| results.into_iter().next()) {
            Ok(Some(Err(error))) | Err(error) => error,
            Ok(_) => ErrorCode::None,
        };
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    let members: Vec<Leaving<'_>> = request
        .members
        .iter()
        .map(|member| Leaving {
            member_id: &member.member_id,
            group_instance_id: member.group_instance_id.as_deref(),
            reason: reason(member.reason.as_ref()),
        })
        .collect();
    match ctx.groups.leave(group_id, &members) {
        Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
        Ok(results) => LeaveGroupResponse::default().with_members(
            request
                .members
                .into_iter()
                .zip(results)
                .map(|(member, result)| {
                    MemberResponse::default()
                        .with_member_id(member.member_id)
                        .with_group_instance_id(member.group_instance_id)
                        .with_error_code(result.err().unwrap_or(ErrorCode::None).code())
                })
                .collect(),
        ),
    }
}
