//! Coordinators: state machines that live in the partitions of internal topics. Owns consumer groups and committed
//! offsets (`__consumer_offsets`), and transactions (`__transaction_state`). Knows the log only through
//! [`internal_log::InternalLog`], and neither sockets nor ZooKeeper.

pub(crate) mod batch_writer;
pub mod group;
pub mod internal_log;
pub(crate) mod loading;
pub mod memory_log;
pub mod partitioner;
pub(crate) mod reading;
pub mod replica_log;
pub(crate) mod slots;
pub mod txn;
pub(crate) mod wire;
