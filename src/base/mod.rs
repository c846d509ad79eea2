//! What every other room stands on: ids, the error table, clocks, waiting. Knows nothing of Kafka's wire, disk or ZooKeeper.

pub mod address;
pub mod blocking;
pub mod clock;
pub mod error;
pub mod ids;
pub mod loggers;
pub mod niceness;
pub mod purgatory;
pub mod quota;
pub mod topic_names;
pub mod watch;
