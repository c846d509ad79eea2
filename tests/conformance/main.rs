//! The broker from outside, without socket or ZooKeeper: requests as clients send them, through the dispatcher of a broker
//! in this process, in every version and with every error code; the protocol room against `kafka-protocol` where that is
//! right, and against hostile bytes.

mod harness;

mod configs;
mod delete_records;
mod fetch;
mod groups;
mod hostile;
mod list_offsets;
mod log_dirs;
mod metadata;
mod produce;
mod records;
mod replication;
mod sweep;
mod transactional;
mod transactions;
mod versions;
