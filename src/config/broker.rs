//! The broker's configuration as a whole: reading its layers, saying what becomes of each key, and what several keys
//! decide together. The keys themselves stand in `broker_keys` and `known_keys`, the rules between them in `rules`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::broker_keys::ACTED_KEYS;
pub use super::broker_keys::BrokerConfig;
use super::def::{ConfigError, KeyDef, Support, Value, Warning};
use super::known_keys::{KNOWN_KEYS, REMOVED_KEYS};
use super::listener::{Endpoint, SecurityProtocol};
use super::version::KafkaVersion;
use super::zk_connect::ZkConnect;
use super::{properties, rules, suggest};

/// What begins a key that holds for one listener only: `listener.name.<name>.`.
const LISTENER_PREFIX: &str = "listener.name.";

/// What the keys about listeners, ids and ZooKeeper come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) advertised: Vec<Endpoint>,
    pub(super) inter_broker_listener: String,
    pub(super) control_plane_listener: Option<String>,
    pub(super) zookeeper: Option<ZkConnect>,
    pub(super) per_ip_overrides: Vec<(String, i32)>,
}

impl BrokerConfig {
    /// Reads `files`, then `env` (empty to leave the environment out), then `overrides`; the later goes before the earlier.
    ///
    /// # Errors
    /// The first thing that must stop the start: an unreadable file, a bad value, keys at odds, a missing
    /// `zookeeper.connect`, something that cannot be ignored safely.
    pub fn load(
        files: &[&Path],
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let mut pairs = from_environment(env, &mut warnings);
        pairs.extend(overrides.iter().cloned());
        let (config, more) = Self::build(properties::layers(files, pairs)?)?;
        warnings.extend(more);
        if config.network.zookeeper.is_none() {
            let allowed = "host:port pairs, comma separated, with an optional /chroot behind the last".to_owned();
            return Err(ConfigError::Missing { key: "zookeeper.connect".to_owned(), allowed });
        }
        Ok((config, warnings))
    }

    /// A configuration of `pairs` over the defaults, without asking for `zookeeper.connect`.
    ///
    /// # Errors
    /// As [`BrokerConfig::load`].
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        let set = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Ok(Self::build(set)?.0)
    }

    fn build(set: BTreeMap<String, String>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        for (key, text) in &set {
            warnings.extend(look_at(key, text)?);
        }
        let mut config = Self::read(set)?;
        rules::apply(&mut config, &mut warnings)?;
        Ok((config, warnings))
    }

    /// What was set, by key, as written.
    pub fn set_values(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    /// Where to listen.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.network.endpoints
    }

    /// What to tell clients and brokers. An empty host stands for this machine's name, port 0 for the port that was bound.
    pub fn advertised_endpoints(&self) -> &[Endpoint] {
        &self.network.advertised
    }

    /// The name of the listener over which brokers talk to each other.
    pub fn inter_broker_listener(&self) -> &str {
        &self.network.inter_broker_listener
    }

    /// How that listener is secured.
    pub fn inter_broker_protocol(&self) -> SecurityProtocol {
        let name = self.inter_broker_listener();
        let found = self.network.endpoints.iter().find(|endpoint| endpoint.listener == name);
        found.map_or(SecurityProtocol::Plaintext, |endpoint| endpoint.protocol)
    }

    /// The listener that only the controller uses, if there is one.
    pub fn control_plane_listener(&self) -> Option<&str> {
        self.network.control_plane_listener.as_deref()
    }

    /// Where ZooKeeper is; always there after [`BrokerConfig::load`].
    pub fn zookeeper(&self) -> Option<&ZkConnect> {
        self.network.zookeeper.as_ref()
    }

    /// How long to wait for ZooKeeper at start, in milliseconds.
    pub fn zookeeper_connection_timeout(&self) -> i32 {
        self.zookeeper_connection_timeout_ms.unwrap_or(self.zookeeper_session_timeout_ms)
    }

    /// The folders for logs.
    pub fn log_directories(&self) -> Vec<PathBuf> {
        let text = self.log_dirs.as_deref().unwrap_or(&self.log_dir);
        text.split(',').map(str::trim).filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()
    }

    /// How long records are kept, in milliseconds; -1 for ever. The finest of the three keys decides.
    pub fn retention_ms(&self) -> i64 {
        let minutes = || self.log_retention_minutes.map(|m| i64::from(m) * 60_000);
        let ms = self.log_retention_ms.or_else(minutes).unwrap_or(i64::from(self.log_retention_hours) * 3_600_000);
        if ms < 0 { -1 } else { ms }
    }

    /// The age at which a segment is rolled, in milliseconds.
    pub fn roll_ms(&self) -> i64 {
        self.log_roll_ms.unwrap_or(i64::from(self.log_roll_hours) * 3_600_000)
    }

    /// How much may be taken off that age, in milliseconds.
    pub fn roll_jitter_ms(&self) -> i64 {
        self.log_roll_jitter_ms.unwrap_or(i64::from(self.log_roll_jitter_hours) * 3_600_000)
    }

    /// How long a record may stay unflushed, in milliseconds.
    pub fn flush_interval_ms(&self) -> i64 {
        self.log_flush_interval_ms.unwrap_or(self.log_flush_scheduler_interval_ms)
    }

    /// The version whose protocol this broker speaks to others.
    pub fn inter_broker_version(&self) -> KafkaVersion {
        KafkaVersion::parse(&self.inter_broker_protocol_version).unwrap_or(KafkaVersion::LATEST)
    }

    /// How many connections `host` (as written in `max.connections.per.ip.overrides`) may have, if it is named there.
    pub fn per_ip_overrides(&self) -> &[(String, i32)] {
        &self.network.per_ip_overrides
    }

    /// How many connections `listener` may have (`listener.name.<name>.max.connections`).
    pub fn listener_max_connections(&self, listener: &str) -> i32 {
        let key = format!("{LISTENER_PREFIX}{}.max.connections", listener.to_lowercase());
        self.set.get(&key).and_then(|text| text.trim().parse().ok()).unwrap_or(i32::MAX)
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        match Self::from_pairs::<String, String>([]) {
            Ok(config) => config,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

/// Every key of Kafka 3.9, those Barnabas acts on first.
pub fn keys() -> impl Iterator<Item = &'static KeyDef> {
    ACTED_KEYS.iter().chain(KNOWN_KEYS)
}

/// The key of that name, be it one that Kafka 3.0 removed.
pub fn key(name: &str) -> Option<&'static KeyDef> {
    keys().chain(REMOVED_KEYS).find(|def| def.name == name)
}

/// The key that `name` sets for one listener, where Barnabas acts on it: `listener.name.<name>.max.connections`.
pub fn of_listener(name: &str) -> Option<&'static KeyDef> {
    let (_, rest) = name.strip_prefix(LISTENER_PREFIX)?.split_once('.')?;
    (rest == "max.connections").then(|| key(rest)).flatten()
}

/// What the environment sets. What other tools mean by `KAFKA_...` is left alone.
fn from_environment(
    env: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<Warning>,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (variable, value) in env {
        let Some(name) = properties::key_of_variable(&variable) else { continue };
        if properties::is_launcher_variable(&variable) {
            continue;
        }
        // Case is lost in a variable's name; and PORT is what an orchestrator sets for a service named kafka, so the removed
        // keys are not taken from here.
        match keys().find(|def| def.name.eq_ignore_ascii_case(&name)) {
            Some(def) => pairs.push((def.name.to_owned(), value)),
            None if name.starts_with(LISTENER_PREFIX) => pairs.push((name, value)),
            None => {
                warnings.push(Warning(format!("{variable} in the environment is ignored: {name} is no broker config")))
            }
        }
    }
    pairs
}

/// Checks one key that is set, and says what the user should know of it.
fn look_at(key_name: &str, text: &str) -> Result<Option<Warning>, ConfigError> {
    let Some(def) = key(key_name) else { return look_at_unlisted(key_name, text) };
    let value = def.parse(text)?;
    let removed = REMOVED_KEYS.iter().any(|other| other.name == key_name);
    Ok(match def.support {
        Support::Acts if removed => {
            Some(Warning(format!("{key_name} was removed in Kafka 3.0; use listeners and advertised.listeners")))
        }
        Support::Acts => None,
        Support::NotYet if removed => Some(Warning(format!("{key_name} was removed in Kafka 3.0 and has no effect"))),
        Support::NotYet => Some(not_yet(key_name)),
        Support::Moot(_) if value == def.default_value() => None,
        Support::Moot(why) => Some(Warning(format!("{key_name} has no effect in Barnabas: {why}"))),
        Support::Refused if is_harmless(def, &value) => None,
        Support::Refused => {
            return Err(ConfigError::Unsupported {
                key: key_name.to_owned(),
                value: text.to_owned(),
                why: def.doc.to_owned(),
            });
        }
    })
}

fn not_yet(key_name: &str) -> Warning {
    Warning(format!("{key_name} is known to Kafka; Barnabas does not act on it yet"))
}

fn is_harmless(def: &KeyDef, value: &Value) -> bool {
    *value == def.default_value() || *value == Value::Text(String::new()) || *value == Value::List(Vec::new())
}

/// A key of one listener, or one that nobody knows.
fn look_at_unlisted(key_name: &str, text: &str) -> Result<Option<Warning>, ConfigError> {
    if let Some(def) = of_listener(key_name) {
        return def.parse(text).map(|_| None);
    }
    if let Some((_, rest)) = key_name.strip_prefix(LISTENER_PREFIX).and_then(|rest| rest.split_once('.')) {
        // The mechanism may stand between: listener.name.<name>.<mechanism>.sasl.jaas.config.
        if key(rest).is_some() || rest.split_once('.').is_some_and(|(_, inner)| key(inner).is_some()) {
            return Ok(Some(not_yet(key_name)));
        }
    }
    let near = suggest::nearest(key_name, keys().map(|def| def.name)).unwrap_or_default();
    Ok(Some(Warning(format!("{key_name} is not a known config and is ignored; the nearest known one is {near}"))))
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
