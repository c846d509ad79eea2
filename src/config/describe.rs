//! What DescribeConfigs tells of a key: its value, where that comes from, and what it would be otherwise (`ConfigHelper`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::broker::{self, BrokerConfig};
use super::def::{KeyDef, Kind, Value};
pub use super::dynamic::Dynamic;
use super::dynamic::{self, DYNAMIC_ONLY_KEYS, is_dynamic};
use super::topic::{self, TOPIC_KEYS, TopicKey};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Set for the topic.
    Topic,
    /// Set for this broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicCluster,
    /// From the file, the environment or `--override`.
    Static,
    /// Kafka's default.
    Default,
}

impl Source {
    /// The number DescribeConfigs gives it.
    pub const fn wire_code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicCluster => 3,
            Self::Static => 4,
            Self::Default => 5,
        }
    }
}

/// One place a value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The key there.
    pub name: &'static str,
    /// The value there; `None` if it is kept from view.
    pub value: Option<String>,
    /// The place.
    pub source: Source,
}

/// One key as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub name: &'static str,
    /// Its value; `None` if it has none or it is kept from view.
    pub value: Option<String>,
    /// Where that comes from.
    pub source: Source,
    /// All places that have a value, the one that counts first.
    pub synonyms: Vec<Synonym>,
    /// Its type.
    pub kind: Kind,
    /// Whether a change needs a restart.
    pub read_only: bool,
    /// Whether its value is kept from view.
    pub sensitive: bool,
    /// What it is for.
    pub doc: &'static str,
}

impl Entry {
    /// Whether nothing was set (what versions 0 of DescribeConfigs say instead of the source).
    pub fn is_default(&self) -> bool {
        self.source == Source::Default
    }
}

/// Keys that stand for one value in several units, the finest first (`DynamicBrokerConfig.brokerConfigSynonyms`).
fn synonyms_of(name: &'static str) -> &'static [&'static str] {
    const GROUPS: &[&[&str]] = &[
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    ];
    GROUPS.iter().find(|group| group.contains(&name)).copied().unwrap_or_default()
}

/// Every place that says something of broker key `name`, in the order in which they count.
fn places(config: &BrokerConfig, set: &Dynamic, name: &'static str, sensitive: bool) -> Vec<Synonym> {
    let alone = [name];
    let names = match synonyms_of(name) {
        [] => &alone[..],
        group => group,
    };
    let mut all = Vec::new();
    let layers = [
        (Source::DynamicBroker, &set.broker),
        (Source::DynamicCluster, &set.cluster),
        (Source::Static, config.set_values()),
    ];
    let show = |text: &str| (!sensitive).then(|| text.trim().to_owned());
    for (source, values) in layers {
        let found = names.iter().filter_map(|name| Some((*name, values.get(*name)?)));
        all.extend(found.map(|(name, text)| Synonym { name, value: show(text), source }));
    }
    let defaults = names.iter().filter_map(|name| Some((*name, dynamic::key(name)?.default?)));
    all.extend(defaults.map(|(name, text)| Synonym { name, value: show(text), source: Source::Default }));
    all.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

fn shown(def: &KeyDef, text: Option<&str>) -> Option<String> {
    let text = text.filter(|_| !def.is_sensitive())?;
    Some(def.parse(text).unwrap_or_else(|_| Value::Text(text.to_owned())).to_string())
}

fn broker_entry(config: &BrokerConfig, dynamic: &Dynamic, def: &'static KeyDef) -> Entry {
    let synonyms = places(config, dynamic, def.name, def.is_sensitive());
    let layers = [&dynamic.broker, &dynamic.cluster, config.set_values()];
    let text = layers.iter().find_map(|values| values.get(def.name)).map(String::as_str).or(def.default);
    let id = config.broker_id.to_string();
    let text = if matches!(def.name, "broker.id" | "node.id") { Some(id.as_str()) } else { text };
    Entry {
        name: def.name,
        value: shown(def, text),
        source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
        synonyms,
        kind: def.kind,
        read_only: !is_dynamic(def.name),
        sensitive: def.is_sensitive(),
        doc: def.doc,
    }
}

/// Every key of the broker.
pub fn broker_entries(config: &BrokerConfig, dynamic: &Dynamic) -> Vec<Entry> {
    let only_dynamic = DYNAMIC_ONLY_KEYS.iter().filter(|def| dynamic.get(def.name).is_some());
    broker::keys().chain(only_dynamic).map(|def| broker_entry(config, dynamic, def)).collect()
}

/// What is set for all brokers while they run (the resource of type broker without a name).
pub fn cluster_entries(config: &BrokerConfig, dynamic: &Dynamic) -> Vec<Entry> {
    let all = broker::keys().chain(DYNAMIC_ONLY_KEYS);
    let set = all.filter(|def| dynamic.cluster.contains_key(def.name));
    set.map(|def| {
        let mut entry = broker_entry(config, dynamic, def);
        entry.value = shown(def, dynamic.cluster.get(def.name).map(String::as_str));
        entry.synonyms.retain(|synonym| synonym.source == Source::DynamicCluster);
        entry.source = Source::DynamicCluster;
        entry
    })
    .collect()
}

fn topic_entry(
    config: &BrokerConfig,
    dynamic: &Dynamic,
    now: &BrokerConfig,
    overrides: &BTreeMap<String, String>,
    key: &'static TopicKey,
) -> Entry {
    let def = &key.def;
    let own = overrides.get(def.name);
    let value = match own {
        Some(text) => shown(def, Some(text)),
        None => shown(def, Some(&topic::broker_default(now, key))),
    };
    let mut synonyms: Vec<Synonym> =
        own.map(|_| Synonym { name: def.name, value: value.clone(), source: Source::Topic }).into_iter().collect();
    if let Some(broker_key) = key.synonym {
        synonyms.extend(places(config, dynamic, broker_key, false));
    }
    Entry {
        name: def.name,
        value,
        source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
        synonyms,
        kind: def.kind,
        read_only: false,
        sensitive: false,
        doc: def.doc,
    }
}

/// Every key of a topic with these values of its own.
pub fn topic_entries(config: &BrokerConfig, dynamic: &Dynamic, overrides: &BTreeMap<String, String>) -> Vec<Entry> {
    let now = in_force(config, dynamic);
    TOPIC_KEYS.iter().map(|key| topic_entry(config, dynamic, &now, overrides, key)).collect()
}

/// What the broker acts on: dynamic values over the file's.
fn in_force<'a>(config: &'a BrokerConfig, dynamic: &Dynamic) -> Cow<'a, BrokerConfig> {
    if dynamic.is_empty() {
        return Cow::Borrowed(config);
    }
    config.with_dynamic(dynamic).map_or(Cow::Borrowed(config), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
        entries.iter().find(|entry| entry.name == name).expect("the key")
    }

    #[test]
    fn a_broker_key_says_where_its_value_comes_from() {
        let config = BrokerConfig::from_pairs([("num.partitions", "+4"), ("ssl.key.password", "x")]).expect("valid");
        let entries = broker_entries(&config, &Dynamic::default());
        let partitions = entry(&entries, "num.partitions");
        assert_eq!((partitions.value.as_deref(), partitions.source), (Some("4"), Source::Static));
        assert_eq!(partitions.synonyms.len(), 2);
        let password = entry(&entries, "ssl.key.password");
        assert!(password.sensitive && password.value.is_none() && password.synonyms[0].value.is_none());
        assert!(entry(&entries, "zookeeper.connect").value.is_none());
        assert!(entry(&entries, "log.segment.bytes").is_default());
    }

    #[test]
    fn dynamic_values_go_first() {
        let config = BrokerConfig::from_pairs([("log.retention.ms", "5")]).expect("valid");
        let set = |value: &str| BTreeMap::from([("log.retention.ms".to_owned(), value.to_owned())]);
        let dynamic = Dynamic { broker: set("7"), cluster: set("6") };
        let entries = broker_entries(&config, &dynamic);
        let retention = entry(&entries, "log.retention.ms");
        assert_eq!((retention.value.as_deref(), retention.source), (Some("7"), Source::DynamicBroker));
        let sources: Vec<Source> = retention.synonyms.iter().map(|s| s.source).collect();
        assert_eq!(sources, [Source::DynamicBroker, Source::DynamicCluster, Source::Static, Source::Default]);
        assert_eq!(cluster_entries(&config, &dynamic).len(), 1);
    }

    #[test]
    fn a_topic_key_shows_the_broker_behind_it() {
        let config = BrokerConfig::from_pairs([("log.retention.ms", "5")]).expect("valid");
        let overrides = BTreeMap::from([("segment.bytes".to_owned(), "1000".to_owned())]);
        let entries = topic_entries(&config, &Dynamic::default(), &overrides);
        let retention = entry(&entries, "retention.ms");
        assert_eq!((retention.value.as_deref(), retention.source), (Some("5"), Source::Static));
        assert_eq!(retention.synonyms[0].name, "log.retention.ms");
        let segment = entry(&entries, "segment.bytes");
        assert_eq!((segment.value.as_deref(), segment.source), (Some("1000"), Source::Topic));
        assert_eq!(segment.synonyms[1].name, "log.segment.bytes");
        assert!(entry(&entries, "cleanup.policy").is_default());
    }
}
