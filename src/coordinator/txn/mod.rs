//! Transactions, as Kafka 3.9's `TransactionCoordinator` keeps them in ZooKeeper mode (KIP-98, KIP-360, KIP-447, KIP-588,
//! KIP-664, part 1 of KIP-890), and the producer ids that they and idempotent producers use.
//!
//! [`state::Transaction`] and [`markers::Markers`] are pure: they decide over plain data with the time passed in.
//! [`coordinator::TxnCoordinator`] is the shell around them: it finds the transactional id, holds its lock, appends to
//! `__transaction_state` and hands markers to a [`markers::MarkerChannel`].

pub mod config;
pub mod coordinator;
pub mod markers;
pub mod producer_ids;
pub mod records;
pub mod replay;
pub mod state;
pub mod verifier;
pub mod views;

mod expiry;
mod loading;
mod sending;
