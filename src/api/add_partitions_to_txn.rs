//! AddPartitionsToTxn (24), v0–5: partitions take part in a transaction. Clients send v0 to v3, for one transaction; from v4
//! on brokers do, for many, and may only ask whether the partitions take part already (KIP-890).

use std::collections::BTreeMap;

use futures::future::join_all;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, TopicName};

use super::group_names::text;
use super::txn_names::{for_version, partitions, producer};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;

const FIRST_WITH_FENCED: i16 = 2;
const FIRST_BATCHED: i16 = 4;

type Errors = BTreeMap<TopicPartition, ErrorCode>;

/// Adds the partitions of each transaction, or verifies them.
pub async fn handle(ctx: &Context, call: &Call, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let version = call.version();
    let response = AddPartitionsToTxnResponse::default();
    if version < FIRST_BATCHED {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let errors = one(ctx, version, &transaction).await;
        return response.with_results_by_topic_v3_and_below(by_topic(&errors));
    }
    let all = join_all(request.transactions.iter().map(|transaction| one(ctx, version, transaction))).await;
    let results = request.transactions.into_iter().zip(all).map(|(transaction, errors)| {
        AddPartitionsToTxnResult::default()
            .with_transactional_id(transaction.transactional_id)
            .with_topic_results(by_topic(&errors))
    });
    response.with_results_by_transaction(results.collect())
}

async fn one(ctx: &Context, version: i16, transaction: &AddPartitionsToTxnTransaction) -> Errors {
    let wanted = partitions(&transaction.topics);
    let metadata = ctx.replica_manager.metadata().snapshot();
    if !wanted.iter().all(|tp| metadata.contains(tp)) {
        // One that does not exist fails the whole transaction.
        let error = |tp: &TopicPartition| match metadata.contains(tp) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        return wanted.iter().map(|tp| (tp.clone(), error(tp))).collect();
    }
    drop(metadata);
    let producer = producer(transaction.producer_id, transaction.producer_epoch);
    let id = transaction.transactional_id.as_str();
    let answers = if transaction.verify_only {
        ctx.transactions.verify_partitions(id, producer, &wanted)
    } else {
        let added = ctx.transactions.add_partitions(id, producer, &wanted).await;
        added.map(|()| vec![true; wanted.len()])
    };
    match answers {
        Ok(take_part) => {
            let error = |takes_part| if takes_part { ErrorCode::None } else { ErrorCode::TransactionAbortable };
            wanted.into_iter().zip(take_part.into_iter().map(error)).collect()
        }
        Err(error) => {
            let error = for_version(error, version, FIRST_WITH_FENCED);
            wanted.into_iter().map(|tp| (tp, error)).collect()
        }
    }
}

fn by_topic(errors: &Errors) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut topics: Vec<AddPartitionsToTxnTopicResult> = Vec::new();
    for (tp, error) in errors {
        let result = AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(tp.partition)
            .with_partition_error_code(error.code());
        match topics.last_mut() {
            Some(topic) if *topic.name == *tp.topic => topic.results_by_partition.push(result),
            _ => topics.push(
                AddPartitionsToTxnTopicResult::default()
                    .with_name(TopicName(text(&tp.topic)))
                    .with_results_by_partition(vec![result]),
            ),
        }
    }
    topics
}
