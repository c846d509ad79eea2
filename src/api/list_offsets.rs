//! ListOffsets (2), v0–9: offsets by timestamp (KIP-79), the earliest and the latest. v0 answers with a list.

use std::collections::HashSet;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::partition_log::ReadUpTo;
use crate::replica::manager::{
    EARLIEST, EARLIEST_LOCAL, FoundOffset, LATEST, LATEST_TIERED, MAX_TIMESTAMP, OffsetQuery, ReplicaManager,
};

/// A consumer's replica id.
const CONSUMER: i32 = -1;
/// A consumer that debugs: it sees the log end, and followers may answer it.
const DEBUGGING_CONSUMER: i32 = -2;
const READ_COMMITTED: i8 = 1;
const FIRST_WITH_EPOCHS: i16 = 4;
/// From this version on OFFSET_NOT_AVAILABLE is known to clients.
const FIRST_WITH_NOT_AVAILABLE: i16 = 5;

/// Answers each partition by itself.
pub async fn handle(ctx: &Context, call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let version = call.version();
    let rules = Rules { version, replica_id: request.replica_id.0, isolation_level: request.isolation_level };
    let twice = if version >= 1 { named_twice(&request.topics) } else { HashSet::new() };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let result = if twice.contains(&(topic.name.as_str(), asked.partition_index)) {
                Err(ErrorCode::InvalidRequest)
            } else if version == 0 {
                partitions.push(rules.answer_v0(&ctx.replica_manager, &topic.name, asked));
                continue;
            } else {
                rules.find(ctx, &topic.name, asked).await
            };
            partitions.push(rules.answer(asked.partition_index, result));
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Partitions named more than once in a request: each gets INVALID_REQUEST.
fn named_twice(topics: &[ListOffsetsTopic]) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let all = topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t.name.as_str(), p.partition_index)));
    all.filter(|one| !seen.insert(*one)).collect()
}

struct Rules {
    version: i16,
    replica_id: i32,
    isolation_level: i8,
}

impl Rules {
    fn up_to(&self) -> ReadUpTo {
        if self.replica_id != CONSUMER {
            ReadUpTo::LogEnd
        } else if self.isolation_level == READ_COMMITTED {
            ReadUpTo::LastStableOffset
        } else {
            ReadUpTo::HighWatermark
        }
    }

    fn only_leader(&self) -> bool {
        self.replica_id != DEBUGGING_CONSUMER
    }

    /// Negative timestamps mean something only from some version on.
    fn understands(&self, timestamp: i64) -> bool {
        match timestamp {
            LATEST | EARLIEST => true,
            MAX_TIMESTAMP => self.version >= 7,
            EARLIEST_LOCAL => self.version >= 8,
            LATEST_TIERED => self.version >= 9,
            timestamp => timestamp >= 0,
        }
    }

    async fn find(&self, ctx: &Context, topic: &str, asked: &ListOffsetsPartition) -> Result<FoundOffset, ErrorCode> {
        if !self.understands(asked.timestamp) {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let query = OffsetQuery {
            partition: asked.partition_index,
            timestamp: asked.timestamp,
            up_to: self.up_to(),
            leader_epoch: LeaderEpoch(asked.current_leader_epoch),
            only_leader: self.only_leader(),
        };
        if asked.timestamp < 0 && asked.timestamp != MAX_TIMESTAMP {
            return ctx.replica_manager.list_offset(topic, query);
        }
        // Index and log pages may have to come from the disk.
        let (manager, topic) = (ctx.replica_manager.clone(), topic.to_owned());
        let found = tokio::task::spawn_blocking(move || manager.list_offset(&topic, query)).await;
        found.unwrap_or(Err(ErrorCode::UnknownServerError))
    }

    fn answer(&self, index: i32, result: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
        let (error, found) = match result {
            Ok(found) => (ErrorCode::None, found),
            Err(ErrorCode::OffsetNotAvailable) if self.version < FIRST_WITH_NOT_AVAILABLE => {
                (ErrorCode::LeaderNotAvailable, FoundOffset::NONE)
            }
            Err(error) => (error, FoundOffset::NONE),
        };
        let mut out = ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(error.code())
            .with_timestamp(found.timestamp)
            .with_offset(found.offset.get());
        if self.version >= FIRST_WITH_EPOCHS {
            out.leader_epoch = found.leader_epoch.get();
        }
        out
    }

    fn answer_v0(
        &self,
        manager: &ReplicaManager,
        topic: &str,
        asked: &ListOffsetsPartition,
    ) -> ListOffsetsPartitionResponse {
        let max = usize::try_from(asked.max_num_offsets).unwrap_or(0);
        let (partition, timestamp) = (asked.partition_index, asked.timestamp);
        let only_leader = self.only_leader();
        let answer = match self.understands(timestamp) {
            true => manager.list_offsets_legacy(topic, partition, timestamp, max, only_leader),
            false => Err(ErrorCode::UnsupportedVersion),
        };
        let (error, offsets) = match answer {
            Ok(offsets) => (ErrorCode::None, offsets),
            Err(error) => (error, Vec::new()),
        };
        ListOffsetsPartitionResponse::default()
            .with_partition_index(partition)
            .with_error_code(error.code())
            .with_old_style_offsets(offsets.into_iter().map(Offset::get).collect())
    }
}
