//! Requests: THE table of API keys and one file for each key's handler. Owns the way from a frame to an answer: header,
//! version check, decoding behind the shape guard, handler, encoding. Wire error codes are decided here and below; no
//! handler knows a socket or a file.

mod auto_create;
mod broker_loggers;
mod call;
mod context;
mod dispatcher;

mod group_names;
mod table;
mod topic_changes;
mod txn_names;
mod txn_verification;
mod zookeeper_offsets;

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod allocate_producer_ids;
pub mod alter_configs;
pub mod alter_partition;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod consumer_group;
pub mod control;
pub mod controlled_shutdown;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod reassignments;
pub mod sync_group;
pub mod txn_offset_commit;
pub mod write_txn_markers;

pub use call::Call;
pub use context::Context;
pub use dispatcher::Dispatcher;
pub use table::{Api, HandlerFuture, advertised, find};
