//! DescribeGroups (15), v0–5: state, protocol and members of groups.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::group_names::{GROUP_OPERATIONS, text};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::coordinator::group::admin::{GroupDescription, MemberDescription};

const FIRST_WITH_AUTHORIZED_OPERATIONS: i16 = 3;
const FIRST_WITH_INSTANCE_ID: i16 = 4;

/// Describes each group asked for; one that does not exist is described as dead.
pub async fn handle(ctx: &Context, call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let version = call.version();
    let wants_operations = request.include_authorized_operations && version >= FIRST_WITH_AUTHORIZED_OPERATIONS;
    let groups = request.groups.into_iter().map(|group_id| {
        let mut out = match ctx.groups.describe(&group_id) {
            Ok(description) => described(version, description),
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        if wants_operations && out.error_code == ErrorCode::None.code() {
            out.authorized_operations = GROUP_OPERATIONS;
        }
        out.with_group_id(group_id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn described(version: i16, group: GroupDescription) -> DescribedGroup {
    let member = |member: MemberDescription| {
        let instance_id = member.group_instance_id.filter(|_| version >= FIRST_WITH_INSTANCE_ID);
        DescribedGroupMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(instance_id.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    };
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(group.members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::coordinator::group::state::GroupState;

    #[test]
    fn answers_fit_every_version() {
        let member = MemberDescription {
            member_id: "m".into(),
            group_instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            metadata: "x".into(),
            assignment: "y".into(),
        };
        let group = GroupDescription { state: GroupState::Stable, members: vec![member], ..GroupDescription::dead() };
        for version in 0..=5 {
            let mut out = bytes::BytesMut::new();
            let response = DescribeGroupsResponse::default().with_groups(vec![described(version, group.clone())]);
            response.encode(&mut out, version).expect("it can be encoded");
        }
    }
}
