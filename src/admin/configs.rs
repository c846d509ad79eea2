//! Configs that users change while brokers run: what comes of a change, and writing it to `/config/TYPE/NAME` together with
//! the notification that brokers watch (`AdminZkClient.changeEntityConfig`, `ConfigAdminManager`).

use std::collections::{BTreeMap, HashSet};

use super::AdminError;
use crate::base::error::ErrorCode;
use crate::config::def::{KeyDef, Kind};
use crate::zk::backend::{CreateMode, Op};
use crate::zk::client::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::configs::{self, EntityType};

/// Configs by name.
pub type Configs = BTreeMap<String, String>;

/// The configs of an entity as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// What is set.
    pub configs: Configs,
    /// The node's version; `None` if there is no node.
    version: Option<i32>,
}

/// What shall become of one config (`AlterConfigOp`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    Set(String),
    /// It falls back to its default.
    Delete,
    /// These items are added to its list.
    Append(String),
    /// These items are taken out of its list.
    Subtract(String),
}

/// The configs after `changes` (KIP-339). `key` knows a config's type and default.
///
/// # Errors
/// `InvalidRequest` if a config is named twice, `InvalidConfig` if one that is no list gets or loses items.
pub fn changed(
    before: &Configs,
    changes: &[(String, Change)],
    key: impl Fn(&str) -> Option<&'static KeyDef>,
) -> Result<Configs, AdminError> {
    let mut after = before.clone();
    let mut seen = HashSet::new();
    for (name, change) in changes {
        if !seen.insert(name) {
            let message = format!("Error due to duplicate config keys : {name}");
            return Err(AdminError::new(ErrorCode::InvalidRequest, message));
        }
        match change {
            Change::Set(value) => {
                after.insert(name.clone(), value.trim().to_owned());
            }
            Change::Delete => {
                after.remove(name);
            }
            Change::Append(items) => {
                let mut list = list_of(&after, name, "append", &key)?;
                let new: Vec<String> = split(items).filter(|item| !list.contains(item)).collect();
                list.extend(new);
                after.insert(name.clone(), list.join(","));
            }
            Change::Subtract(items) => {
                let mut list = list_of(&after, name, "subtract", &key)?;
                list.retain(|item| !split(items).any(|gone| gone == *item));
                after.insert(name.clone(), list.join(","));
            }
        }
    }
    Ok(after)
}

fn split(items: &str) -> impl Iterator<Item = String> {
    items.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty())
}

/// The items that a list holds now, by its default if it is not set.
fn list_of(
    configs: &Configs,
    name: &str,
    what: &str,
    key: impl Fn(&str) -> Option<&'static KeyDef>,
) -> Result<Vec<String>, AdminError> {
    let Some(def) = key(name).filter(|def| def.kind == Kind::List) else {
        let message = format!("Config value {what} is not allowed for config key: {name}");
        return Err(AdminError::new(ErrorCode::InvalidConfig, message));
    };
    Ok(split(configs.get(name).map_or(def.default.unwrap_or_default(), String::as_str)).collect())
}

/// The configs of an entity.
///
/// # Errors
/// ZooKeeper's, or a node that cannot be read.
pub async fn read(zk: &ZkClient, entity: EntityType, name: &str) -> Result<Stored, AdminError> {
    let path = configs::path(entity, name);
    Ok(match zk.find(&path).await? {
        Some(node) => Stored { configs: configs::decode(&path, &node.data)?, version: Some(node.stat.version) },
        None => Stored::default(),
    })
}

/// Writes `configs` in place of what was `read` and tells the brokers, in one step. `false` if somebody else changed
/// them meanwhile: then they must be read anew.
///
/// # Errors
/// ZooKeeper's.
pub async fn write(
    zk: &ZkClient,
    entity: EntityType,
    name: &str,
    read: &Stored,
    configs: &Configs,
) -> Result<bool, AdminError> {
    let (path, data) = (configs::path(entity, name), configs::encode(configs));
    let write = match read.version {
        Some(version) => Op::set(path, data, Some(version)),
        None => Op::create(path, data),
    };
    let tell = Op::Create {
        path: configs::change_path_prefix(),
        data: configs::encode_change(&format!("{}/{name}", entity.folder())),
        mode: CreateMode::PersistentSequential,
    };
    match zk.multi(vec![write, tell]).await? {
        Ok(_) => Ok(true),
        Err((0, ZkError::BadVersion | ZkError::NodeExists | ZkError::NoNode)) => Ok(false),
        Err((_, error)) => Err(error.into()),
    }
}

/// How often a change is tried again after somebody else was faster.
const ATTEMPTS: u32 = 10;

/// Reads an entity's configs, has `change` say what they shall be, and writes that; again from the start if somebody
/// else changed them meanwhile. Writes nothing if `validate_only`.
///
/// # Errors
/// What `change` says; ZooKeeper's.
pub async fn alter(
    zk: &ZkClient,
    entity: EntityType,
    name: &str,
    validate_only: bool,
    change: impl Fn(&Configs) -> Result<Configs, AdminError>,
) -> Result<(), AdminError> {
    for _ in 0..ATTEMPTS {
        let stored = read(zk, entity, name).await?;
        let wanted = change(&stored.configs)?;
        if validate_only || write(zk, entity, name, &stored, &wanted).await? {
            return Ok(());
        }
    }
    let message = format!("The configs of {} {name} are being changed by somebody else; try again.", entity.folder());
    Err(AdminError::new(ErrorCode::RequestTimedOut, message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::topic;
    use crate::zk::memory::MemoryZk;
    use crate::zk::session::create_persistent_paths;

    fn change(before: &Configs, name: &str, change: Change) -> Result<Configs, AdminError> {
        changed(before, &[(name.to_owned(), change)], |name| topic::key(name).map(|key| &key.def))
    }

    #[test]
    fn lists_gain_and_lose_items() {
        let policy = "cleanup.policy";
        let appended = change(&Configs::new(), policy, Change::Append("compact,delete".into())).expect("a list");
        assert_eq!(appended[policy], "delete,compact", "what the default holds is not added twice");
        let again = change(&appended, policy, Change::Append("compact".into())).expect("a list");
        assert_eq!(again[policy], appended[policy]);
        let left = change(&appended, policy, Change::Subtract("delete".into())).expect("a list");
        assert_eq!(left[policy], "compact");
        assert_eq!(change(&left, policy, Change::Delete).expect("gone"), Configs::new());
        for wrong in ["retention.ms", "no.such"] {
            let error = change(&left, wrong, Change::Append("1".into())).expect_err("no list");
            assert_eq!(error.message, format!("Config value append is not allowed for config key: {wrong}"));
        }
        let twice = [("a".to_owned(), Change::Delete), ("a".to_owned(), Change::Delete)];
        assert_eq!(changed(&left, &twice, |_| None).expect_err("twice").code, ErrorCode::InvalidRequest);
    }

    #[tokio::test]
    async fn a_change_is_written_with_its_notification_unless_somebody_was_faster() {
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(1)).await.expect("a session");
        create_persistent_paths(&zk).await.expect("paths");
        let set = |value: &str| Configs::from([("retention.ms".to_owned(), value.to_owned())]);
        let first = read(&zk, EntityType::Topics, "t").await.expect("read");
        assert!(write(&zk, EntityType::Topics, "t", &first, &set("1")).await.expect("written"));
        assert!(!write(&zk, EntityType::Topics, "t", &first, &set("2")).await.expect("late"));
        alter(&zk, EntityType::Topics, "t", true, |_| Ok(set("3"))).await.expect("valid");
        assert_eq!(read(&zk, EntityType::Topics, "t").await.expect("read").configs, set("1"));
        alter(&zk, EntityType::Topics, "t", false, |_| Ok(set("3"))).await.expect("written");
        assert_eq!(read(&zk, EntityType::Topics, "t").await.expect("read").configs, set("3"));
        assert_eq!(zk.children(configs::CHANGES_PATH).await.expect("children").len(), 2);
    }
}
