//! AddOffsetsToTxn (25), v0–4: the partition of a group's offsets takes part in a transaction.

use std::collections::BTreeSet;

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::txn_names::{for_version, producer};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::base::topic_names::GROUP_METADATA_TOPIC;

const FIRST_WITH_FENCED: i16 = 2;

/// Adds the partition that the group's offsets live in.
pub async fn handle(ctx: &Context, call: &Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let offsets = TopicPartition::new(GROUP_METADATA_TOPIC, ctx.groups.partition_for(&request.group_id));
    let producer = producer(request.producer_id, request.producer_epoch);
    let partitions = BTreeSet::from([offsets]);
    let added = ctx.transactions.add_partitions(&request.transactional_id, producer, &partitions).await;
    let error = added.err().unwrap_or(ErrorCode::None);
    AddOffsetsToTxnResponse::default().with_error_code(for_version(error, call.version(), FIRST_WITH_FENCED).code())
}
