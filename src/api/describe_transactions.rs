//! DescribeTransactions (65), v0: transactional ids as they stand (KIP-664).

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId as WireProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::group_names::text;
use super::{Call, Context};
use crate::base::ids::TopicPartition;
use crate::coordinator::txn::records::TxnValue;

/// Describes each id.
pub async fn handle(ctx: &Context, _call: &Call, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let describe = |id: TransactionalId| {
        let described = ctx.transactions.describe(&id);
        let state = TransactionState::default().with_transactional_id(id);
        match described {
            Ok(value) => shown(state, &value),
            Err(error) => state.with_error_code(error.code()),
        }
    };
    let states = request.transactional_ids.into_iter().map(describe);
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn shown(state: TransactionState, value: &TxnValue) -> TransactionState {
    state
        .with_transaction_state(StrBytes::from_static_str(value.state.name()))
        .with_transaction_timeout_ms(value.timeout_ms)
        .with_transaction_start_time_ms(value.start_ms)
        .with_producer_id(WireProducerId(value.producer.id.get()))
        .with_producer_epoch(value.producer.epoch.get())
        .with_topics(by_topic(value.partitions.iter()))
}

fn by_topic<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> Vec<TopicData> {
    let mut topics: Vec<TopicData> = Vec::new();
    for tp in partitions {
        match topics.last_mut() {
            Some(topic) if *topic.topic == *tp.topic => topic.partitions.push(tp.partition),
            _ => topics
                .push(TopicData::default().with_topic(TopicName(text(&tp.topic))).with_partitions(vec![tp.partition])),
        }
    }
    topics
}
