//! Producer ids, and in time the transactions that use them.

pub mod producer_ids;
pub mod verifier;
