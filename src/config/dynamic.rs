//! Broker configs that change while brokers run (KIP-226): which they are, and what comes of laying them over the file's.
//! A value for one broker goes before one for all brokers, and both before what was set at the start.
//!
//! Invariant: a key is accepted here only if a change of it takes effect without a restart.

use std::collections::BTreeMap;

use super::broker::{self, BrokerConfig};
use super::def::{ConfigError, Importance, KeyDef, Kind, Mode, Support, Valid, Value};
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
    "advertised.listeners",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleaner.threads",
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
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "message.max.bytes",
    "min.insync.replicas",
    "num.network.threads",
    "num.replica.fetchers",
    "producer.id.expiration.ms",
    "transaction.partition.verification.enable",
    "unclean.leader.election.enable",
];

/// Keys that Kafka lets change while brokers run and that cannot have an effect so here, and why.
const WAITS: &[(&str, &str)] = &[
    ("listener.security.protocol.map", AT_START),
    ("listeners", AT_START),
    (
        "num.recovery.threads.per.data.dir",
        "logs are loaded while ZooKeeper is still being connected; set it in server.properties, it holds from the next start on",
    ),
];
const AT_START: &str = "sockets are opened at a start; set it in server.properties and restart the broker";

/// Threads that may only become twice as many or half as many at a time (`DynamicThreadPool`, `DataPlaneAcceptor`,
/// `LogCleaner`).
const IN_STEPS: &[&str] = &["log.cleaner.threads", "num.network.threads", "num.replica.fetchers"];

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
    TAKES_EFFECT.contains(&name)
        || DYNAMIC_ONLY_KEYS.iter().any(|def| def.name == name)
        || broker::of_listener(name).is_some()
}

/// The key of that name, be it one that can only be set while brokers run, or for one listener.
pub fn key(name: &str) -> Option<&'static KeyDef> {
    let only_dynamic = || DYNAMIC_ONLY_KEYS.iter().find(|def| def.name == name);
    broker::key(name).or_else(only_dynamic).or_else(|| broker::of_listener(name))
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
        return Err(ConfigError::NotDynamic { key: name.to_owned(), why: why_not(def) });
    }
    def.parse(text).map(drop)
}

fn why_not(def: &KeyDef) -> String {
    let listed = WAITS.iter().find(|(name, _)| *name == def.name).map(|(_, why)| (*why).to_owned());
    listed.unwrap_or_else(|| match def.support {
        Support::Moot(why) => format!("it has no effect in Barnabas, as {why}"),
        Support::NotYet | Support::Refused => "Barnabas does not act on it yet".to_owned(),
        Support::Acts => "set it in server.properties and restart the broker".to_owned(),
    })
}

/// Checks one key that shall be set for all brokers.
///
/// # Errors
/// As [`check`], and if each broker needs a value of its own.
pub fn check_for_all(name: &str, text: &str) -> Result<(), ConfigError> {
    check(name, text)?;
    match is_per_broker(name) {
        true => Err(ConfigError::conflict(name, text, "it can only be set for one broker at a time, by its id")),
        false => Ok(()),
    }
}

fn is_per_broker(name: &str) -> bool {
    key(name).is_some_and(|def| def.mode == Mode::PerBroker)
}

/// Checks what would come of a change against what holds `now`: how many threads there are changes in steps.
///
/// # Errors
/// [`ConfigError`] if there would be less than half or more than twice as many.
pub fn check_steps(now: &BrokerConfig, new: &BrokerConfig) -> Result<(), ConfigError> {
    for name in IN_STEPS {
        let count = |config: &BrokerConfig| match (config.set_values().get(*name), key(name)) {
            (Some(text), Some(def)) => def.parse(text).ok(),
            (None, Some(def)) => Some(def.default_value()),
            (_, None) => None,
        };
        let (Some(Value::Whole(before)), Some(Value::Whole(after))) = (count(now), count(new)) else { continue };
        let broken = match after {
            after if after == before => continue,
            after if after <= 0 => "value should be at least 1".to_owned(),
            after if after < before / 2 => format!("value should be at least half the current value {before}"),
            after if after > before * 2 => {
                format!("value should not be greater than double the current value {before}")
            }
            _ => continue,
        };
        return Err(ConfigError::conflict(name, after, broken));
    }
    Ok(())
}

impl BrokerConfig {
    /// The configuration with what was set while brokers run laid over it. Keys that take no effect so, or whose values
    /// are not valid, are passed over: a broker of another version may have taken them.
    ///
    /// # Errors
    /// [`ConfigError`] for keys that are at odds with each other.
    pub fn with_dynamic(&self, dynamic: &Dynamic) -> Result<Self, ConfigError> {
        let for_all = dynamic.cluster.iter().filter(|(name, _)| !is_per_broker(name));
        let set = for_all.chain(&dynamic.broker);
        let stands_in_files = |name: &str| broker::key(name).or_else(|| broker::of_listener(name)).is_some();
        let set = set.filter(|(name, text)| stands_in_files(name) && check(name, text).is_ok());
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
            assert_eq!(def.support, Support::Acts, "{name}");
        }
        // The rest is refused, each with a reason: what takes effect at a start only must say more than that.
        let rest = broker::keys().filter(|def| def.mode != Mode::ReadOnly && !is_dynamic(def.name));
        for def in rest.filter(|def| def.support == Support::Acts) {
            assert!(WAITS.iter().any(|(name, _)| *name == def.name), "{}", def.name);
        }
        assert!(WAITS.iter().all(|(name, _)| !is_dynamic(name)));
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
        for (name, text) in [("log.dirs", "/x"), ("num.io.threads", "9"), ("log.segment.bytes", "x"), ("no", "1")] {
            assert!(check(name, text).is_err(), "{name}");
            let dynamic = Dynamic { broker: set(&[(name, text)]), cluster: BTreeMap::new() };
            let config = BrokerConfig::default().with_dynamic(&dynamic).expect("valid");
            assert_eq!(config.set_values(), BrokerConfig::default().set_values());
        }
        assert!(check("log.segment.bytes", "100").is_ok());
        assert!(check(LEADER_RATE, "5").is_ok() && check(LEADER_RATE, "-1").is_err());
        for (name, text, why) in [
            ("num.io.threads", "9", "it has no effect in Barnabas, as threads that wait for disks come and go"),
            ("log.cleaner.enable", "false", "set it in server.properties and restart the broker"),
            ("log.dirs", "/x", "set it in server.properties and restart the broker"),
        ] {
            let said = check(name, text).expect_err(name).to_string();
            assert!(said.starts_with(&format!("{name} cannot be changed while the broker runs: {why}")), "{said}");
        }
    }

    #[test]
    fn what_each_broker_needs_for_itself_is_not_set_for_all() {
        let (key, value) = ("advertised.listeners", "PLAINTEXT://a:1");
        assert!(check(key, value).is_ok() && check_for_all(key, value).is_err());
        assert!(check_for_all("log.segment.bytes", "100").is_ok());
        let advertised = |dynamic: &Dynamic| {
            BrokerConfig::default().with_dynamic(dynamic).expect("valid").advertised_endpoints()[0].host.clone()
        };
        assert_eq!(advertised(&Dynamic { cluster: set(&[(key, value)]), ..Dynamic::default() }), "");
        assert_eq!(advertised(&Dynamic { broker: set(&[(key, value)]), ..Dynamic::default() }), "a");
    }

    #[test]
    fn threads_become_more_or_fewer_in_steps() {
        let with = |count: &str| BrokerConfig::from_pairs([("num.network.threads", count)]).expect("valid");
        for (now, new, fits) in
            [("4", "2", true), ("4", "8", true), ("4", "1", false), ("4", "9", false), ("1", "1", true)]
        {
            assert_eq!(check_steps(&with(now), &with(new)).is_ok(), fits, "{now} to {new}");
        }
        let cleaners = BrokerConfig::from_pairs([("log.cleaner.threads", "3")]).expect("valid");
        assert!(check_steps(&BrokerConfig::default(), &cleaners).is_err(), "one by default");
        let fetchers = BrokerConfig::from_pairs([("num.replica.fetchers", "3")]).expect("valid");
        let said = check_steps(&BrokerConfig::default(), &fetchers).expect_err("one by default").to_string();
        assert!(said.contains("value should not be greater than double the current value 1"), "{said}");
    }
}
