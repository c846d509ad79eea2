//! OffsetCommit (8), v0–9: a group's offsets into `__consumer_offsets`.
//!
//! Partitions that do not exist are refused one by one; the rest become one record batch. Versions 2 to 4 may say how
//! long the offsets are to be kept, version 1 when they were committed.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::coordinator::group::commit::{CommitEntry, CommitRequest};
use crate::coordinator::group::offsets::CommittedOffset;

/// The version that brings its own commit timestamps; -1 stands for the broker's time.
const VERSION_WITH_TIMESTAMP: i16 = 1;
/// No retention of its own: `offsets.retention.minutes` holds.
const DEFAULT_RETENTION: i64 = -1;

/// Commits the offsets.
pub async fn handle(ctx: &Context, call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let now_ms = ctx.clock.now_ms();
    let times = Times {
        now_ms,
        has_timestamps: call.version() == VERSION_WITH_TIMESTAMP,
        expire: (request.retention_time_ms != DEFAULT_RETENTION)
            .then(|| now_ms.saturating_add(request.retention_time_ms)),
    };
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let exists = |topic: &str, partition: i32| snapshot.partition(topic, partition).is_some();
    let known = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter().filter(|p| exists(&topic.name, p.partition_index));
        partitions.map(|p| entry(&topic.name, p, &times))
    });
    let entries = known.collect();
    let commit = CommitRequest {
        group_id: &request.group_id,
        generation: request.generation_id_or_member_epoch,
        member_id: &request.member_id,
        group_instance_id: request.group_instance_id.as_deref(),
        entries,
    };
    let mut codes = ctx.groups.commit_offsets(commit).await.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = if exists(&topic.name, partition.partition_index) {
                codes.next().unwrap_or(ErrorCode::UnknownServerError)
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetCommitResponse::default().with_topics(topics)
}

struct Times {
    now_ms: i64,
    has_timestamps: bool,
    expire: Option<i64>,
}

fn entry<'a>(topic: &'a str, partition: &OffsetCommitRequestPartition, times: &Times) -> CommitEntry<'a> {
    let own_timestamp = times.has_timestamps && partition.commit_timestamp != -1;
    CommitEntry {
        topic,
        partition: partition.partition_index,
        committed: CommittedOffset {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().into(),
            commit_timestamp: if own_timestamp { partition.commit_timestamp } else { times.now_ms },
            expire_timestamp: times.expire,
        },
    }
}
