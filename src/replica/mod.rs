//! Partitions of this broker as replicas: who leads, what is in sync, what may be read; the requests that read and write
//! them; what the controller told of the cluster. Knows logs and wire structs, never ZooKeeper and never the controller.

pub mod alter_partition;
pub mod broker_epochs;
pub mod fetch_session;
pub mod fetcher;
pub mod isr;
pub mod leadership;
pub mod lease;
pub mod manager;
pub mod metadata_cache;
pub mod partition;
pub mod selector;
pub mod throttle;
pub mod topic_configs;
