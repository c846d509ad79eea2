//! Partitions on disk: segments, indexes, producer state, leader epochs, checkpoints, recovery, retention.
//!
//! Owns every file under `log.dirs`, byte-compatible with Kafka's (2.8 to 3.9). Invariants: log start <= high watermark
//! <= log end; a batch is either whole in the file or not there; the recovery point never passes what was flushed.
//! Never knows: sockets, requests, ZooKeeper, who leads a partition.

pub mod checkpoint;
pub mod cleaner;
pub mod disk;
pub mod epochs;
pub mod error;
pub(crate) mod faults;
pub mod files;
pub mod index;
pub mod log_config;
pub mod log_dir;
pub mod manager;
pub mod meta;
pub mod partition_log;
pub mod producer_snapshot;
pub mod producer_state;
pub mod recovery;
pub mod scan;
pub mod segment;
pub mod tail;
pub mod txn_index;
pub mod verification;
