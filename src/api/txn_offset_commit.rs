//! TxnOffsetCommit (28), v0–4: offsets that hold once the transaction is committed (KIP-98). From v3 on the client says
//! which member of the group it is, in which generation, and is fenced like one (KIP-447).

use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::offset_commit::code_of;
use super::txn_verification::verify_commit;
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::coordinator::group::commit::CommitEntry;
use crate::coordinator::group::offsets::CommittedOffset;
use crate::coordinator::group::txn_commit::TxnCommitRequest;
use crate::coordinator::txn::verifier::Producer;

/// Writes the offsets, as part of the transaction.
pub async fn handle(ctx: &Context, call: &Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let now_ms = ctx.clock.now_ms();
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let exists = |topic: &str, partition: i32| snapshot.partition(topic, partition).is_some();
    let all = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (&**topic.name, p)));
    let known = all.filter(|(topic, p)| exists(topic, p.partition_index));
    let entries: Vec<CommitEntry<'_>> = known.map(|(topic, p)| entry(topic, p, now_ms)).collect();
    let count = entries.len();
    let codes = if entries.is_empty() {
        Vec::new()
    } else {
        commit(ctx, call.version(), &request, entries).await.unwrap_or_else(|error| vec![error; count])
    };
    let mut codes = codes.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = code_of(exists(&topic.name, partition.partition_index), &mut codes);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    TxnOffsetCommitResponse::default().with_topics(topics)
}

async fn commit(
    ctx: &Context,
    version: i16,
    request: &TxnOffsetCommitRequest,
    entries: Vec<CommitEntry<'_>>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let producer = Producer {
        transactional_id: &request.transactional_id,
        id: ProducerId(request.producer_id.0),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let (tp, begun) = ctx.groups.begin_txn_commit(&request.group_id, producer.id, producer.epoch)?;
    let verification = verify_commit(ctx, version, producer, tp, begun).await?;
    let commit = TxnCommitRequest {
        group_id: &request.group_id,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        generation: request.generation_id,
        member_id: &request.member_id,
        group_instance_id: request.group_instance_id.as_deref(),
        entries,
        verification,
    };
    Ok(ctx.groups.commit_txn_offsets(commit).await)
}

fn entry<'a>(topic: &'a str, partition: &TxnOffsetCommitRequestPartition, now_ms: i64) -> CommitEntry<'a> {
    CommitEntry {
        topic,
        partition: partition.partition_index,
        committed: CommittedOffset {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().into(),
            commit_timestamp: now_ms,
            expire_timestamp: None,
        },
    }
}
