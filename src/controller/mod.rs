//! The controller: the one broker that decides, for the whole cluster, who leads which partition.
//!
//! Owns the cluster's state as the controller sees it ([`context`]), the decisions ([`election`], the state machines),
//! and the requests that tell brokers of them. Invariants: everything happens on one loop fed by one queue, so there
//! are no locks; every write to ZooKeeper carries a check of `/controller_epoch`; what brokers are told was written to
//! ZooKeeper before. It never knows logs or clients, and talks to its own broker in the same requests as to any other.
//!
//! Follows `kafka.controller` of Kafka 3.9 in names and in what brokers and ZooKeeper see.

mod alter_partition;
pub mod batch;
pub mod channels;
pub mod context;
mod deletion;
pub mod election;
mod elections;
pub mod event;
mod failover;
mod handlers;
mod lane;
mod partition_sm;
mod producer_ids;
mod reassignment;
mod replica_sm;
mod requests;
mod returned;
mod run;
mod shutdown;
mod store;
mod store_admin;
mod suspicion;

pub use channels::{BrokerChannel, ControlRequest, ControlResponse};
pub use elections::ElectionType;
pub use event::ControllerHandle;
pub use requests::{Outcome, Outcomes};
pub use run::{ControllerConfig, Rebalance, start};

#[cfg(test)]
mod tests;
