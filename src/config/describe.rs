//! What DescribeConfigs tells of a key: its value, where that comes from, and what it would be otherwise (`ConfigHelper`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

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
    pub name: Cow<'static, str>,
    /// The value there; `None` if it is kept from view.
    pub value: Option<String>,
    /// The place.
    pub source: Source,
}

/// One key as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub name: Cow<'static, str>,
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

/// Every place that says something of broker key `name`, in the order in which they count. What is not set for one listener
/// is what holds for all.
fn places(config: &BrokerConfig, set: &Dynamic, name: Cow<'static, str>, def: &'static KeyDef) -> Vec<Synonym> {
    let (group, sensitive) = (synonyms_of(def.name), def.is_sensitive());
    let names: Vec<Cow<'static, str>> = match group {
        [] if name == def.name => vec![name.clone()],
        [] => vec![name.clone(), def.name.into()],
        group => group.iter().map(|name| (*name).into()).collect(),
    };
    let mut all = Vec::new();
    let layers = [
        (Source::DynamicBroker, &set.broker),
        (Source::DynamicCluster, &set.cluster),
        (Source::Static, config.set_values()),
    ];
    let show = |text: &str| (!sensitive).then(|| text.trim().to_owned());
    for (source, values) in layers {
        let found = names.iter().filter_map(|name| Some((name.clone(), values.get(name.as_ref())?)));
        all.extend(found.map(|(name, text)| Synonym { name, value: show(text), source }));
    }
    let of_all = names.iter().filter(|name| group.contains(&name.as_ref()) || **name == def.name);
    let defaults = of_all.filter_map(|name| Some((name.clone(), dynamic::key(name)?.default?)));
    all.extend(defaults.map(|(name, text)| Synonym { name, value: show(text), source: Source::Default }));
    all.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

fn shown(def: &KeyDef, text: Option<&str>) -> Option<String> {
    let text = text.filter(|_| !def.is_sensitive())?;
    Some(def.parse(text).unwrap_or_else(|_| Value::Text(text.to_owned())).to_string())
}

fn broker_entry(config: &BrokerConfig, dynamic: &Dynamic, def: &'static KeyDef) -> Entry {
    named_entry(config, dynamic, def.name.into(), def)
}

/// The entry of `name`, which is `def`'s or, for one listener, ends so.
fn named_entry(config: &BrokerConfig, dynamic: &Dynamic, name: Cow<'static, str>, def: &'static KeyDef) -> Entry {
    let synonyms = places(config, dynamic, name.clone(), def);
    let layers = [&dynamic.broker, &dynamic.cluster, config.set_values()];
    let text = layers.iter().find_map(|values| values.get(name.as_ref())).map(String::as_str).or(def.default);
    let id = config.broker_id.to_string();
    let text = if matches!(def.name, "broker.id" | "node.id") { Some(id.as_str()) } else { text };
    Entry {
        value: shown(def, text),
        source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
        synonyms,
        kind: def.kind,
        // Kafka's table of what may change has no names of listeners.
        read_only: name != def.name || !is_dynamic(def.name),
        name,
        sensitive: def.is_sensitive(),
        doc: def.doc,
    }
}

/// Every key of the broker.
pub fn broker_entries(config: &BrokerConfig, dynamic: &Dynamic) -> Vec<Entry> {
    let only_dynamic = DYNAMIC_ONLY_KEYS.iter().filter(|def| dynamic.get(def.name).is_some());
    let mut entries: Vec<Entry> =
        broker::keys().chain(only_dynamic).map(|def| broker_entry(config, dynamic, def)).collect();
    let layers = [&dynamic.broker, &dynamic.cluster, config.set_values()];
    entries.extend(of_listeners(config, dynamic, &layers));
    entries
}

/// What is set for one listener in any of these layers.
fn of_listeners<'a>(
    config: &'a BrokerConfig,
    dynamic: &'a Dynamic,
    layers: &[&'a BTreeMap<String, String>],
) -> impl Iterator<Item = Entry> + use<'a> {
    let names: BTreeSet<&String> = layers.iter().flat_map(|values| values.keys()).collect();
    let found = names.into_iter().filter_map(|name| Some((name, broker::of_listener(name)?)));
    found.map(|(name, def)| named_entry(config, dynamic, name.clone().into(), def))
}

/// What is set for all brokers while they run (the resource of type broker without a name).
pub fn cluster_entries(config: &BrokerConfig, dynamic: &Dynamic) -> Vec<Entry> {
    let all = broker::keys().chain(DYNAMIC_ONLY_KEYS);
    let set = all.filter(|def| dynamic.cluster.contains_key(def.name));
    let entries = set.map(|def| broker_entry(config, dynamic, def));
    let entries = entries.chain(of_listeners(config, dynamic, &[&dynamic.cluster]));
    let set = entries.filter_map(|entry| Some((dynamic::key(&entry.name)?, entry)));
    set.map(|(def, mut entry)| {
        entry.value = shown(def, dynamic.cluster.get(entry.name.as_ref()).map(String::as_str));
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
    let mut synonyms: Vec<Synonym> = own
        .map(|_| Synonym { name: def.name.into(), value: value.clone(), source: Source::Topic })
        .into_iter()
        .collect();
    if let Some(broker_key) = key.synonym {
        let places = dynamic::key(broker_key).map(|def| places(config, dynamic, broker_key.into(), def));
        synonyms.extend(places.unwrap_or_default());
    }
    Entry {
        name: def.name.into(),
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
    fn what_is_set_for_a_listener_is_shown_before_what_is_for_all() {
        let (own, all) = ("listener.name.plaintext.max.connections", "max.connections");
        let config = BrokerConfig::from_pairs([(all, "9")]).expect("valid");
        let broker = BTreeMap::from([(own.to_owned(), "5".to_owned())]);
        let dynamic = Dynamic { cluster: broker.clone(), broker };
        let entries = broker_entries(&config, &dynamic);
        let found = entry(&entries, own);
        let places: Vec<(&str, Source)> = found.synonyms.iter().map(|s| (s.name.as_ref(), s.source)).collect();
        let expected = [
            (own, Source::DynamicBroker),
            (own, Source::DynamicCluster),
            (all, Source::Static),
            (all, Source::Default),
        ];
        assert_eq!((found.value.as_deref(), &places[..]), (Some("5"), &expected[..]));
        assert_eq!(entry(&cluster_entries(&config, &dynamic), own).synonyms.len(), 1);
        assert_eq!(entry(&entries, all).synonyms.len(), 2);
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
