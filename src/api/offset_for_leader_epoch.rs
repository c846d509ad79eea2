//! OffsetForLeaderEpoch (23), v0–4: where an epoch ends in the leader's log (KIP-101, KIP-279, KIP-320). Followers below
//! 2.7-IV1 and consumers that check for truncation ask it.

use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};

/// Answers for each partition; only its leader knows.
pub async fn handle(ctx: &Context, _call: &Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut result = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone());
        for asked in topic.partitions {
            let (current, epoch) = (LeaderEpoch(asked.current_leader_epoch), LeaderEpoch(asked.leader_epoch));
            let found =
                ctx.replica_manager.offset_for_leader_epoch(&topic.topic, asked.partition, current, epoch, true);
            let (error, end) = match found {
                Ok(end) => (ErrorCode::None, end),
                Err(error) => (error, None),
            };
            let (epoch, offset) = end.unwrap_or((LeaderEpoch::NONE, Offset::UNKNOWN));
            result.partitions.push(
                EpochEndOffset::default()
                    .with_partition(asked.partition)
                    .with_error_code(error.code())
                    .with_leader_epoch(epoch.get())
                    .with_end_offset(offset.get()),
            );
        }
        response.topics.push(result);
    }
    response
}
