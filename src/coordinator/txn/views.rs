//! What users see of transactions (KIP-664).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::coordinator::TxnCoordinator;
use super::records::TxnValue;
use super::state::{Producer, TxnState};
use crate::base::error::ErrorCode;

/// A transactional id in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The transactional id.
    pub id: Arc<str>,
    /// Who uses it.
    pub producer: Producer,
    /// What it is at.
    pub state: TxnState,
}

/// Which ids to list: those for which every filter holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only in these states; `None` for all.
    pub states: Option<BTreeSet<TxnState>>,
    /// Only of these producer ids; empty for all.
    pub producer_ids: BTreeSet<i64>,
    /// Only if the transaction began longer ago, in milliseconds; negative for all.
    pub longer_than_ms: i64,
}

impl Filter {
    fn holds(&self, value: &TxnValue, now_ms: i64) -> bool {
        value.state != TxnState::Dead
            && self.states.as_ref().is_none_or(|states| states.contains(&value.state))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&value.producer.id.get()))
            && (self.longer_than_ms < 0 || now_ms.saturating_sub(value.start_ms) > self.longer_than_ms)
    }
}

impl TxnCoordinator {
    /// An id as it stands.
    ///
    /// # Errors
    /// `TransactionalIdNotFound`, or why it is not served here.
    pub fn describe(&self, id: &str) -> Result<TxnValue, ErrorCode> {
        let cell = self.owner(id)?.get(id).ok_or(ErrorCode::TransactionalIdNotFound)?;
        let entry = cell.entry.lock();
        let value = entry.txn.value();
        if value.state == TxnState::Dead { Err(ErrorCode::TransactionalIdNotFound) } else { Ok(value.clone()) }
    }

    /// All ids that are coordinated here, in order within each partition.
    ///
    /// # Errors
    /// `CoordinatorLoadInProgress` while the list would not be whole, `CoordinatorNotAvailable` once the broker stops.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Listed>, ErrorCode> {
        if self.is_stopped() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if self.is_loading_any() {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let now_ms = self.clock.now_ms();
        let cells = self.partitions.slots.owned().into_iter().flat_map(|owned| owned.cells());
        let listed = cells.filter_map(|cell| {
            let entry = cell.entry.lock();
            let value = entry.txn.value();
            let listed = || Listed { id: Arc::clone(entry.txn.id()), producer: value.producer, state: value.state };
            filter.holds(value, now_ms).then(listed)
        });
        Ok(listed.collect())
    }
}
