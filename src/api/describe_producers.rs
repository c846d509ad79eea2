//! DescribeProducers (61), v0: what a replica knows of the producers that wrote to a partition, and which of them have a
//! transaction open (KIP-664).

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId as WireProducerId};

use super::group_names::text;
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{Offset, ProducerId};
use crate::log::producer_state::ProducerEntry;

/// Describes the producers of each partition asked for.
pub async fn handle(ctx: &Context, _call: &Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let rows = topic.partition_indexes.iter().map(|&index| partition(ctx, &topic.name, index)).collect();
        TopicResponse::default().with_name(topic.name).with_partitions(rows)
    });
    let topics = topics.collect();
    DescribeProducersResponse::default().with_topics(topics)
}

fn partition(ctx: &Context, topic: &str, index: i32) -> PartitionResponse {
    let row = PartitionResponse::default().with_partition_index(index);
    let found = ctx.replica_manager.partition(topic, index).and_then(|partition| {
        if partition.is_offline() {
            return Err(ErrorCode::KafkaStorageError);
        }
        partition.log().ok_or(ErrorCode::NotLeaderOrFollower)
    });
    match found {
        Ok(log) => row.with_active_producers(log.active_producers().iter().map(producer).collect()),
        Err(error) => row.with_error_code(error.code()).with_error_message(Some(text(error.message()))),
    }
}

fn producer((id, entry): &(ProducerId, ProducerEntry)) -> ProducerState {
    ProducerState::default()
        .with_producer_id(WireProducerId(id.get()))
        .with_producer_epoch(i32::from(entry.epoch.get()))
        .with_last_sequence(entry.last_sequence())
        .with_last_timestamp(entry.last_timestamp)
        .with_coordinator_epoch(entry.coordinator_epoch)
        .with_current_txn_start_offset(entry.current_txn_first_offset.unwrap_or(Offset::UNKNOWN).get())
}
