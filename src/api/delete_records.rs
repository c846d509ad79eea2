//! DeleteRecords (21), v0–2: raises the log start of partitions led here (KIP-107). Answered when no replica that lives has
//! older records any more, or when the time is up.

use std::time::Duration;

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::Offset;
use crate::replica::manager::{DeleteRecords, DeletedRecords};

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// Deletes the records before an offset of each partition.
pub async fn handle(ctx: &Context, _call: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let exists = |topic: &str, partition: i32| snapshot.partition(topic, partition).is_some();
    let all = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (&**topic.name, p)));
    let wanted: Vec<DeleteRecords<'_>> = all
        .filter(|(topic, p)| exists(topic, p.partition_index))
        .map(|(topic, p)| DeleteRecords {
            topic,
            partition: p.partition_index,
            before: (p.offset != HIGH_WATERMARK).then_some(Offset(p.offset)),
        })
        .collect();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut results = ctx.replica_manager.delete_records(&wanted, timeout).await.into_iter();
    let unknown = DeletedRecords { error: ErrorCode::UnknownTopicOrPartition, low_watermark: Offset::UNKNOWN };
    let topics = request.topics.iter().map(|topic| {
        let rows = topic.partitions.iter().map(|p| {
            let asked = exists(&topic.name, p.partition_index);
            let result = if asked { results.next().unwrap_or(unknown) } else { unknown };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(p.partition_index)
                .with_low_watermark(result.low_watermark.get())
                .with_error_code(result.error.code())
        });
        let rows = rows.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(rows)
    });
    let topics = topics.collect();
    DeleteRecordsResponse::default().with_topics(topics)
}
