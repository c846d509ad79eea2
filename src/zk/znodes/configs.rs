//! `/config/TYPE/NAME`, dynamic configs, and `/config/changes`, which tells brokers of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{from_json, sequence_number, to_json};
use crate::zk::error::ZkError;

/// The parent of the notifications.
pub const CHANGES_PATH: &str = "/config/changes";
/// The prefix of a notification's name.
pub const CHANGE_PREFIX: &str = "config_change_";
/// The name of the default entity.
pub const DEFAULT_ENTITY: &str = "<default>";

/// What dynamic configs belong to (`ConfigType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityType {
    /// A topic.
    Topics,
    /// A broker, by id.
    Brokers,
    /// A client id, for quotas.
    Clients,
    /// A user, for quotas and SCRAM credentials.
    Users,
    /// An address, for connection rates.
    Ips,
}

impl EntityType {
    /// The name of its folder below `/config`.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Brokers => "brokers",
            Self::Clients => "clients",
            Self::Users => "users",
            Self::Ips => "ips",
        }
    }

    /// The type with that folder.
    pub fn from_folder(folder: &str) -> Option<Self> {
        [Self::Topics, Self::Brokers, Self::Clients, Self::Users, Self::Ips].into_iter().find(|t| t.folder() == folder)
    }
}

/// The node with the configs of one entity.
pub fn path(entity: EntityType, name: &str) -> String {
    format!("/config/{}/{name}", entity.folder())
}

/// The data of a config node: what overrides the defaults.
pub fn encode(configs: &BTreeMap<String, String>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a> {
        version: i32,
        config: &'a BTreeMap<String, String>,
    }
    to_json(&Written { version: 1, config: configs })
}

/// Reads a config node. A node without data holds none, as with Kafka.
pub fn decode(path: &str, data: &[u8]) -> Result<BTreeMap<String, String>, ZkError> {
    #[derive(Deserialize)]
    struct Read {
        config: BTreeMap<String, serde_json::Value>,
    }
    if data.is_empty() {
        return Ok(BTreeMap::new());
    }
    let read: Read = from_json(path, data)?;
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(read.config.into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// The path under which a notification is created, to which ZooKeeper adds the number.
pub fn change_path_prefix() -> String {
    format!("{CHANGES_PATH}/{CHANGE_PREFIX}")
}

/// The number of a notification, by its name.
pub fn change_number(name: &str) -> Option<i64> {
    sequence_number(name, CHANGE_PREFIX)
}

/// The data of a notification, version 2: `topics/T`, `brokers/0`, `users/U/clients/C`.
pub fn encode_change(entity_path: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a> {
        version: i32,
        entity_path: &'a str,
    }
    to_json(&Written { version: 2, entity_path })
}

/// Reads a notification of version 1 or 2 as the path of its entity below `/config`.
pub fn decode_change(data: &[u8]) -> Result<String, ZkError> {
    #[derive(Deserialize)]
    struct Read {
        entity_path: Option<String>,
        entity_type: Option<String>,
        entity_name: Option<String>,
    }
    let read: Read = from_json(CHANGES_PATH, data)?;
    match (read.entity_path, read.entity_type, read.entity_name) {
        (Some(path), _, _) => Ok(path),
        (None, Some(entity_type), Some(name)) => Ok(format!("{entity_type}/{name}")),
        _ => Err(super::corrupt(CHANGES_PATH, "a notification that names no entity")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_written_as_kafka_writes_them() {
        assert_eq!(encode(&BTreeMap::new()), br#"{"version":1,"config":{}}"#);
        let configs = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        assert_eq!(encode(&configs), br#"{"version":1,"config":{"retention.ms":"5"}}"#);
        assert_eq!(decode("/x", &encode(&configs)).unwrap(), configs);
        assert_eq!(decode("/x", b"").unwrap(), BTreeMap::new());
        assert_eq!(decode("/x", br#"{"version":1,"config":{"a":7}}"#).unwrap()["a"], "7");
    }

    #[test]
    fn changes_of_both_versions_are_read() {
        assert_eq!(encode_change("topics/T"), br#"{"version":2,"entity_path":"topics/T"}"#);
        assert_eq!(decode_change(&encode_change("topics/T")).unwrap(), "topics/T");
        let v1 = br#"{"version":1,"entity_type":"topics","entity_name":"T"}"#;
        assert_eq!(decode_change(v1).unwrap(), "topics/T");
        assert_eq!(change_number("config_change_0000000012"), Some(12));
        assert_eq!(change_number("other"), None);
    }
}
