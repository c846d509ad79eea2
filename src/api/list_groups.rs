//! ListGroups (16), v0–5: the groups that this broker coordinates, by state (KIP-518) and type (KIP-848).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::group_names::text;
use super::{Call, Context};
use crate::base::error::ErrorCode;

const FIRST_WITH_STATES: i16 = 4;
const FIRST_WITH_TYPES: i16 = 5;
/// The one type of group there is here.
const CLASSIC: &str = "classic";

/// Lists the groups; while a partition is being loaded, those that are there, with an error.
pub async fn handle(ctx: &Context, call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let version = call.version();
    let is_wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let mut response = ListGroupsResponse::default();
    if ctx.groups.is_stopped() {
        return response.with_error_code(ErrorCode::CoordinatorNotAvailable.code());
    }
    if ctx.groups.is_loading_any() {
        response.error_code = ErrorCode::CoordinatorLoadInProgress.code();
    }
    if !is_wanted(&request.types_filter, CLASSIC) {
        return response;
    }
    for group in ctx.groups.list() {
        if !is_wanted(&request.states_filter, group.state.name()) {
            continue;
        }
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(&group.group_id)))
            .with_protocol_type(text(&group.protocol_type));
        if version >= FIRST_WITH_STATES {
            listed.group_state = StrBytes::from_static_str(group.state.name());
        }
        if version >= FIRST_WITH_TYPES {
            listed.group_type = StrBytes::from_static_str(CLASSIC);
        }
        response.groups.push(listed);
    }
    response
}
