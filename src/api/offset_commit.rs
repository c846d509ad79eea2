//! OffsetCommit (8), v0–9: a group's offsets into `__consumer_offsets`.
//!
//! Partitions that do not exist are refused one by one; the rest become one record batch. Versions 2 to 4 may say how
//! long the offsets are to be kept, version 1 when they were committed. Version 0 writes to ZooKeeper.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::{Call, Context, zookeeper_offsets};
use crate::base::error::ErrorCode;
use crate::coordinator::group::commit::{CommitEntry, CommitRequest};
use crate::coordinator::group::offsets::CommittedOffset;

/// The version that brings its own commit timestamps; -1 stands for the broker's time.
const VERSION_WITH_TIMESTAMP: i16 = 1;
/// The version whose offsets live in ZooKeeper.
const VERSION_IN_ZOOKEEPER: i16 = 0;
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
    let all = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (&**topic.name, p)));
    let known: Vec<Asked<'_>> = all.filter(|(topic, p)| exists(topic, p.partition_index)).collect();
    let mut codes = if known.is_empty() {
        // Nor is a group made for what is not committed.
        Vec::new().into_iter()
    } else if call.version() == VERSION_IN_ZOOKEEPER {
        commit_to_zookeeper(ctx, &request, &known).await.into_iter()
    } else {
        let commit = CommitRequest {
            group_id: &request.group_id,
            generation: request.generation_id_or_member_epoch,
            member_id: &request.member_id,
            group_instance_id: request.group_instance_id.as_deref(),
            entries: known.into_iter().map(|(topic, p)| entry(topic, p, &times)).collect(),
        };
        ctx.groups.commit_offsets(commit).await.into_iter()
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = code_of(exists(&topic.name, partition.partition_index), &mut codes);
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

/// The answer for a partition: the next of those for partitions that exist, or that it does not.
pub(super) fn code_of(exists: bool, codes: &mut impl Iterator<Item = ErrorCode>) -> ErrorCode {
    match exists {
        true => codes.next().unwrap_or(ErrorCode::UnknownServerError),
        false => ErrorCode::UnknownTopicOrPartition,
    }
}

/// A topic, and a partition of it to commit for.
type Asked<'a> = (&'a str, &'a OffsetCommitRequestPartition);

async fn commit_to_zookeeper(ctx: &Context, request: &OffsetCommitRequest, known: &[Asked<'_>]) -> Vec<ErrorCode> {
    let mut codes = Vec::new();
    for &(topic, partition) in known {
        let commit = zookeeper_offsets::Commit {
            topic,
            partition: partition.partition_index,
            offset: partition.committed_offset,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default(),
        };
        codes.push(zookeeper_offsets::commit(ctx, &request.group_id, &commit).await);
    }
    codes
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
