//! Every node Kafka keeps in ZooKeeper: its path, what is written to it, what is read from it.
//!
//! Written byte for byte as Kafka 3.9 writes it (field order too), read as leniently as Kafka reads it: unknown fields
//! are skipped, missing optional ones take their defaults, older versions are understood. Paths are relative to the
//! chroot. Corresponds to `ZkData.scala`.

pub mod admin;
pub mod broker_ids;
pub mod cluster;
pub mod configs;
pub mod consumers;
pub mod controller;
pub mod notifications;
pub mod topics;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ZkError;

/// The persistent nodes that a broker creates at its start, with all above them.
///
/// `/latest_producer_id_block` is not among them: Kafka creates it with null data, which it tells from empty data.
pub const PERSISTENT_PATHS: [&str; 13] = [
    "/consumers",
    broker_ids::PATH,
    topics::PATH,
    configs::CHANGES_PATH,
    admin::DELETE_TOPICS_PATH,
    broker_ids::SEQID_PATH,
    notifications::ISR_CHANGE_PATH,
    notifications::LOG_DIR_EVENT_PATH,
    "/config/topics",
    "/config/clients",
    "/config/users",
    "/config/brokers",
    "/config/ips",
];

/// Encodes as compact JSON, fields in the order of declaration.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default() // cannot fail: the structs here hold only strings, numbers, lists, maps
}

pub(crate) fn from_json<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T, ZkError> {
    serde_json::from_slice(data).map_err(|error| corrupt(path, error))
}

pub(crate) fn corrupt(path: &str, reason: impl ToString) -> ZkError {
    ZkError::Corrupt { path: path.to_owned(), reason: reason.to_string() }
}

/// The ten-digit number at the end of a sequential node's name.
pub(crate) fn sequence_number(name: &str, prefix: &str) -> Option<i64> {
    name.strip_prefix(prefix)?.parse().ok()
}
