//! Broker configs that change while brokers run (KIP-226): which they are, and what comes of laying them over the file's.
//! A value for one broker goes before one for all brokers, and both before what was set at the start.
//!
//! Invariant: a key is accepted here only if a change of it takes effect without a restart.

use std::collections::BTreeMap;

use super::broker::{self, BrokerConfig};
use super::def::{ConfigError, Importance, KeyDef, Kind, Mode, Support, Valid};
use super::suggest;

/// What was set in ZooKeeper while brokers run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// For this broker (`/config/brokers/N`).
    pub broker: BTreeMap<String, String>,
    /// For all brokers (`/config/brokers/<default>`).
    pub cluster: BTreeMap<String, String>,
}

impl Dynamic {
    /// What holds for `name`, if anything was set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.broker.get(name).or_else(|| self.cluster.get(name)).map(String::as_str)
    }

    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        self.broker.is_empty() && self.cluster.is_empty()
    }
}

/// The keys of the broker's table that Kafka lets change while brokers run and that Barnabas acts on at once. The others
/// that Kafka lets change wait for the next start here, so setting them is refused.
const TAKES_EFFECT: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.message.downconversion.enable",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.difference.max.ms",
    "log.message.timestamp.type",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "message.max.bytes",
    "min.insync.replicas",
];

/// Bytes a second that throttled followers are served.
pub const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// Bytes a second that throttled replicas here fetch.
pub const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
/// Bytes a second that moves between log dirs copy.
pub const LOG_DIRS_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

const fn rate(name: &'static str, doc: &'static str) -> KeyDef {
    KeyDef {
        name,
        kind: Kind::Long,
        default: None,
        valid: Valid::AtLeast(0),
        importance: Importance::Medium,
        mode: Mode::ClusterWide,
        support: Support::Acts,
        doc,
    }
}

/// Keys that stand in no file: they can only be set while brokers run (`DynamicConfig.Broker`).
pub static DYNAMIC_ONLY_KEYS: &[KeyDef] = &[
    rate(
        LEADER_RATE,
        "Bytes a second that this broker serves to followers of the replicas that their topics throttle; no limit if not set.",
    ),
    rate(
        FOLLOWER_RATE,
        "Bytes a second that this broker fetches for the replicas that their topics throttle; no limit if not set.",
    ),
    rate(LOG_DIRS_RATE, "Bytes a second that moves between the log dirs of this broker copy; no limit if not set."),
];

/// Whether a change of the key takes effect while the broker runs.
pub fn is_dynamic(name: &str) -> bool {
    TAKES_EFFECT.contains(&name) || DYNAMIC_ONLY_KEYS.iter().any(|def| def.name == name)
}

/// The key of that name, be it one that can only be set while brokers run.
pub fn key(name: &str) -> Option<&'static KeyDef> {
    broker::key(name).or_else(|| DYNAMIC_ONLY_KEYS.iter().find(|def| def.name == name))
}

/// Checks one key that shall be set while brokers run.
///
/// # Errors
/// [`ConfigError`] if it is unknown, has another type, or takes effect only at a start.
pub fn check(name: &str, text: &str) -> Result<(), ConfigError> {
    let Some(def) = key(name) else {
        let nearest = suggest::nearest(name, TAKES_EFFECT.iter().copied()).map(str::to_owned);
        return Err(ConfigError::Unknown { key: name.to_owned(), scope: "broker", nearest });
    };
    if !is_dynamic(name) {
        return Err(ConfigError::NotDynamic { key: name.to_owned() });
    }
    def.parse(text).map(drop)
}

impl BrokerConfig {
    /// The configuration with what was set while brokers run laid over it. Keys that take no effect so, or whose values
    /// are not valid, are passed over: a broker of another version may have taken them.
    ///
    /// # Errors
    /// [`ConfigError`] for keys that are at odds with each other.
    pub fn with_dynamic(&self, dynamic: &Dynamic) -> Result<Self, ConfigError> {
        let layers = [&dynamic.cluster, &dynamic.broker];
        let set = layers.into_iter().flatten();
        let set = set.filter(|(name, text)| broker::key(name).is_some() && check(name, text).is_ok());
        let mut all = self.set_values().clone();
        all.extend(set.map(|(name, text)| (name.clone(), text.clone())));
        let mut config = Self::from_pairs(all)?;
        // A generated id is set nowhere.
        (config.broker_id, config.node_id) = (self.broker_id, self.node_id);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_changes_here_may_change_in_kafka() {
        for name in TAKES_EFFECT {
            let def = broker::key(name).unwrap_or_else(|| panic!("{name} is no key"));
            assert_ne!(def.mode, Mode::ReadOnly, "{name}");
        }
    }

    #[test]
    fn the_broker_goes_before_all_brokers_and_both_before_the_file() {
        let file =
            BrokerConfig::from_pairs([("log.segment.bytes", "100"), ("log.retention.hours", "1")]).expect("valid");
        let cluster = set(&[("log.segment.bytes", "200"), ("log.retention.ms", "5"), ("min.insync.replicas", "2")]);
        let dynamic = Dynamic { broker: set(&[("log.segment.bytes", "300")]), cluster };
        let config = file.with_dynamic(&dynamic).expect("valid");
        assert_eq!((config.log_segment_bytes, config.retention_ms(), config.min_insync_replicas), (300, 5, 2));
        assert_eq!(dynamic.get("log.segment.bytes"), Some("300"));
    }

    #[test]
    fn what_takes_no_effect_is_refused_and_passed_over() {
        for (name, text) in [("log.dirs", "/x"), ("num.network.threads", "9"), ("log.segment.bytes", "x"), ("no", "1")]
        {
            assert!(check(name, text).is_err(), "{name}");
            let dynamic = Dynamic { broker: set(&[(name, text)]), cluster: BTreeMap::new() };
            let config = BrokerConfig::default().with_dynamic(&dynamic).expect("valid");
            assert_eq!(config.set_values(), BrokerConfig::default().set_values());
        }
        assert!(check("log.segment.bytes", "100").is_ok());
        assert!(check(LEADER_RATE, "5").is_ok() && check(LEADER_RATE, "-1").is_err());
    }
}
