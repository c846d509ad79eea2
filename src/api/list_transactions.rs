//! ListTransactions (66), v0–1: the transactional ids that this broker coordinates, by state and producer id (KIP-664) and
//! by how long they have had a transaction (KIP-994, v1).

use std::collections::BTreeSet;

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId as WireProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::group_names::text;
use super::{Call, Context};
use crate::coordinator::txn::state::TxnState;
use crate::coordinator::txn::views::{Filter, Listed};

/// Lists the ids for which every filter holds.
pub async fn handle(ctx: &Context, _call: &Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let mut states = BTreeSet::new();
    let mut unknown = Vec::new();
    for name in &request.state_filters {
        match TxnState::from_name(name) {
            Some(state) => drop(states.insert(state)),
            None => unknown.push(name.clone()),
        }
    }
    let filter = Filter {
        states: (!request.state_filters.is_empty()).then_some(states),
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        longer_than_ms: request.duration_filter,
    };
    let response = ListTransactionsResponse::default();
    match ctx.transactions.list(&filter) {
        Ok(listed) => {
            response.with_unknown_state_filters(unknown).with_transaction_states(listed.iter().map(shown).collect())
        }
        Err(error) => response.with_error_code(error.code()),
    }
}

fn shown(listed: &Listed) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(TransactionalId(text(&listed.id)))
        .with_producer_id(WireProducerId(listed.producer.id.get()))
        .with_transaction_state(StrBytes::from_static_str(listed.state.name()))
}
