//! What may be configured: THE tables of broker and topic keys, and what is read from files, environment and overrides.
//!
//! Invariant: every key of Kafka 3.9 (ZooKeeper mode) is known here; none is accepted and silently ignored, each one set
//! that Barnabas does not act on is named in a [`Warning`] or, where ignoring it would be unsafe, stops the start.
//! Knows nothing of ZooKeeper's client, of sockets or of logs.

pub mod broker;
mod broker_keys;
pub mod def;
pub mod describe;
pub mod dynamic;
mod known_keys;
pub mod listener;
pub mod properties;
#[cfg(test)]
mod reference;
pub mod rules;
mod suggest;
pub mod topic;
pub mod version;
pub mod zk_connect;

pub use broker::BrokerConfig;
pub use def::{ConfigError, Warning};
pub use topic::TopicConfig;
