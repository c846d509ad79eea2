//! DeleteGroups (42), v0–2: removes groups without members, with their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;

/// Deletes each group asked for.
pub async fn handle(ctx: &Context, _call: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|group_id| {
        let result = ctx.groups.delete_group(&group_id);
        let error = result.err().unwrap_or(ErrorCode::None);
        DeletableGroupResult::default().with_group_id(group_id).with_error_code(error.code())
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
