//! OffsetDelete (47), v0: removes committed offsets of topics that a group no longer subscribes to (KIP-496).

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;

/// Deletes the offsets.
pub async fn handle(ctx: &Context, _call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let exists = |topic: &str, partition: i32| snapshot.partition(topic, partition).is_some();
    let all =
        request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (&**topic.name, p.partition_index)));
    let known: Vec<(&str, i32)> = all.filter(|&(topic, partition)| exists(topic, partition)).collect();
    let mut codes = match ctx.groups.delete_offsets(&request.group_id, &known) {
        Ok(codes) => codes.into_iter(),
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut response = OffsetDeleteResponse::default();
    for topic in &request.topics {
        let mut out = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
        for partition in &topic.partitions {
            let code = if exists(&topic.name, partition.partition_index) {
                codes.next().unwrap_or(ErrorCode::UnknownServerError)
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            out.partitions.push(
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code.code()),
            );
        }
        response.topics.push(out);
    }
    response
}
