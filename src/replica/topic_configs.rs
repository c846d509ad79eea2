//! Topics' configurations as this broker acts on them: the broker's defaults with each topic's overrides. Topics without
//! overrides share one. Owns no watch: what ZooKeeper says comes in through [`TopicConfigSource`] and
//! [`TopicConfigs::set_overrides`].

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::RwLock;

use super::throttle::ThrottledReplicas;
use crate::config::broker::BrokerConfig;
use crate::config::def::ConfigError;
use crate::config::dynamic::Dynamic;
use crate::config::topic::{CompressionType, TimestampType, TopicConfig};
use crate::log::log_config::LogConfig;
use crate::protocol::compress::{Codec, Compression};
use crate::protocol::validate;

/// So many topics are asked for before the first answer must be there.
const LOOKUPS_AT_ONCE: usize = 256;

/// A topic's overrides, key to value.
pub type Overrides = BTreeMap<String, String>;

/// What looking up a topic's overrides gives.
pub type OverridesFuture<'a> = Pin<Box<dyn Future<Output = Result<Overrides, String>> + Send + 'a>>;

/// Where a topic's overrides are kept: `/config/topics` in ZooKeeper, or a test's hands.
pub trait TopicConfigSource: Send + Sync {
    /// The overrides of `topic`; empty if it has none.
    fn overrides(&self, topic: &str) -> OverridesFuture<'_>;
}

/// A source that knows no overrides.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOverrides;

impl TopicConfigSource for NoOverrides {
    fn overrides(&self, _topic: &str) -> OverridesFuture<'_> {
        Box::pin(std::future::ready(Ok(Overrides::new())))
    }
}

/// A topic's configuration, and the part of it that its logs act on.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    /// All of it.
    pub topic: TopicConfig,
    /// What its logs share.
    pub log: Arc<LogConfig>,
    /// Replicas whose serving of followers is throttled.
    pub throttled_leaders: ThrottledReplicas,
    /// Replicas whose fetching is throttled.
    pub throttled_followers: ThrottledReplicas,
}

impl TopicSettings {
    fn new(topic: TopicConfig) -> Self {
        Self {
            log: Arc::new(log_config(&topic)),
            throttled_leaders: ThrottledReplicas::parse(&topic.leader_replication_throttled_replicas),
            throttled_followers: ThrottledReplicas::parse(&topic.follower_replication_throttled_replicas),
            topic,
        }
    }
}

/// What holds for the logs of topics without overrides.
///
/// # Errors
/// If the broker's own settings contradict each other.
pub fn default_log_config(broker: &BrokerConfig) -> Result<Arc<LogConfig>, ConfigError> {
    Ok(Arc::new(log_config(&TopicConfig::resolve(broker, &Overrides::new())?)))
}

/// What a log acts on.
fn log_config(topic: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: topic.segment_bytes,
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        segment_index_bytes: topic.segment_index_bytes,
        index_interval_bytes: topic.index_interval_bytes,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        delete: topic.delete,
        compact: topic.compact,
        min_cleanable_ratio: topic.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
        file_delete_delay_ms: topic.file_delete_delay_ms,
        flush_messages: topic.flush_messages,
        flush_ms: topic.flush_ms,
        max_message_bytes: topic.max_message_bytes,
        timestamp_type: match topic.message_timestamp_type {
            TimestampType::CreateTime => validate::TimestampType::CreateTime,
            TimestampType::LogAppendTime => validate::TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        compression: compression(topic),
        preallocate: topic.preallocate,
    }
}

fn compression(topic: &TopicConfig) -> validate::TargetCompression {
    let fixed = |codec, level| validate::TargetCompression::Fixed(Compression { codec, level });
    match topic.compression_type {
        CompressionType::Producer => validate::TargetCompression::Producer,
        CompressionType::Uncompressed => validate::TargetCompression::Fixed(Codec::None.into()),
        CompressionType::Gzip => fixed(Codec::Gzip, topic.compression_gzip_level),
        CompressionType::Snappy => validate::TargetCompression::Fixed(Codec::Snappy.into()),
        CompressionType::Lz4 => fixed(Codec::Lz4, topic.compression_lz4_level),
        CompressionType::Zstd => fixed(Codec::Zstd, topic.compression_zstd_level),
    }
}

/// A topic's overrides and what comes of them.
struct Known {
    overrides: Overrides,
    settings: Arc<TopicSettings>,
}

/// What holds now. Read for every request, changed when a configuration changes.
struct State {
    /// What was set for brokers while they run.
    dynamic: Arc<Dynamic>,
    /// That over what the broker was started with.
    broker: Arc<BrokerConfig>,
    defaults: Arc<TopicSettings>,
    known: HashMap<Arc<str>, Known>,
}

/// The configurations.
pub struct TopicConfigs {
    source: Arc<dyn TopicConfigSource>,
    started_with: BrokerConfig,
    state: RwLock<State>,
}

impl TopicConfigs {
    /// Configurations over the defaults of `broker`.
    pub fn new(broker: BrokerConfig, source: Arc<dyn TopicConfigSource>) -> Self {
        let defaults = match TopicConfig::resolve(&broker, &Overrides::new()) {
            Ok(defaults) => Arc::new(TopicSettings::new(defaults)),
            // The broker's own defaults were checked when its configuration was read.
            Err(error) => unreachable!("the broker's topic defaults: {error}"),
        };
        let now = Arc::new(broker.clone());
        let state = State { dynamic: Arc::default(), broker: now, defaults, known: HashMap::new() };
        Self { source, started_with: broker, state: RwLock::new(state) }
    }

    /// What holds for topics without overrides.
    pub fn defaults(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.state.read().defaults)
    }

    /// The broker's configuration as it holds now.
    pub fn broker(&self) -> Arc<BrokerConfig> {
        Arc::clone(&self.state.read().broker)
    }

    /// What was set for brokers while they run.
    pub fn dynamic(&self) -> Arc<Dynamic> {
        Arc::clone(&self.state.read().dynamic)
    }

    /// The configuration of `topic` as far as it is known; the defaults if nothing is.
    pub fn get(&self, topic: &str) -> Arc<TopicSettings> {
        let state = self.state.read();
        Arc::clone(state.known.get(topic).map_or(&state.defaults, |known| &known.settings))
    }

    /// Takes in what was set for brokers while they run, wholly; every topic's defaults follow.
    ///
    /// # Errors
    /// [`ConfigError`] for values that are at odds with each other; then what held before holds on.
    pub fn set_dynamic(&self, dynamic: Dynamic) -> Result<Arc<BrokerConfig>, ConfigError> {
        let broker = Arc::new(self.started_with.with_dynamic(&dynamic)?);
        let defaults = Arc::new(TopicSettings::new(TopicConfig::resolve(&broker, &Overrides::new())?));
        let mut state = self.state.write();
        for (topic, known) in &mut state.known {
            known.settings = match settings(&broker, &defaults, &known.overrides) {
                Ok(settings) => settings,
                Err(error) => {
                    tracing::warn!("the configuration of topic {topic} is not valid any more: {error}");
                    continue;
                }
            };
        }
        (state.dynamic, state.defaults) = (Arc::new(dynamic), defaults);
        state.broker = Arc::clone(&broker);
        Ok(broker)
    }

    /// Looks up what is not known yet. A failure is logged, and the defaults hold until the next change comes.
    pub async fn learn(&self, topics: &[Arc<str>]) {
        let unknown: Vec<&Arc<str>> = {
            let state = self.state.read();
            topics.iter().filter(|topic| !state.known.contains_key(&***topic)).collect()
        };
        for some in unknown.chunks(LOOKUPS_AT_ONCE) {
            let found = join_all(some.iter().map(|topic| self.source.overrides(topic))).await;
            for (topic, overrides) in some.iter().zip(found) {
                match overrides {
                    Ok(overrides) => drop(self.set_overrides(topic, &overrides)),
                    Err(error) => tracing::warn!("the configuration of topic {topic} could not be read: {error}"),
                }
            }
        }
    }

    /// Takes in the overrides of `topic`, wholly. Values that are not valid are logged and the topic keeps what it has.
    /// Returns what holds now.
    pub fn set_overrides(&self, topic: &str, overrides: &Overrides) -> Arc<TopicSettings> {
        let mut state = self.state.write();
        let settings = match settings(&state.broker, &state.defaults, overrides) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::warn!("the configuration of topic {topic} is not valid: {error}");
                return Arc::clone(state.known.get(topic).map_or(&state.defaults, |known| &known.settings));
            }
        };
        let known = Known { overrides: overrides.clone(), settings: Arc::clone(&settings) };
        state.known.insert(Arc::from(topic), known);
        settings
    }

    /// Forgets a topic that is gone.
    pub fn forget(&self, topic: &str) {
        self.state.write().known.remove(topic);
    }
}

/// What comes of `overrides`; topics without any share one.
fn settings(
    broker: &BrokerConfig,
    defaults: &Arc<TopicSettings>,
    overrides: &Overrides,
) -> Result<Arc<TopicSettings>, ConfigError> {
    if overrides.is_empty() {
        return Ok(Arc::clone(defaults));
    }
    Ok(Arc::new(TopicSettings::new(TopicConfig::resolve(broker, overrides)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_laid_over_the_defaults() {
        let broker = BrokerConfig::from_pairs([("zookeeper.connect", "localhost:2181")]).expect("a broker's config");
        let configs = TopicConfigs::new(broker, Arc::new(NoOverrides));
        let overrides = Overrides::from([("min.insync.replicas".to_owned(), "2".to_owned())]);
        assert_eq!(configs.set_overrides("a", &overrides).topic.min_insync_replicas, 2);
        assert_eq!(configs.get("b").topic.min_insync_replicas, 1);
        let bad = Overrides::from([("min.insync.replicas".to_owned(), "x".to_owned())]);
        assert_eq!(configs.set_overrides("a", &bad).topic.min_insync_replicas, 2, "a bad value changes nothing");
        assert!(Arc::ptr_eq(&configs.set_overrides("a", &Overrides::new()), &configs.defaults()));
    }

    #[test]
    fn what_brokers_are_told_while_they_run_becomes_the_default_of_topics() {
        let configs = TopicConfigs::new(BrokerConfig::default(), Arc::new(NoOverrides));
        let overrides = |name: &str, value: &str| Overrides::from([(name.to_owned(), value.to_owned())]);
        configs.set_overrides("own", &overrides("min.insync.replicas", "3"));
        configs.set_overrides("other", &overrides("segment.bytes", "100"));
        configs.set_overrides("none", &Overrides::new());
        let dynamic = Dynamic { cluster: overrides("min.insync.replicas", "2"), ..Dynamic::default() };
        configs.set_dynamic(dynamic).expect("valid");
        let min_isr = |topic: &str| configs.get(topic).topic.min_insync_replicas;
        assert_eq!((min_isr("own"), min_isr("other"), min_isr("none"), min_isr("new")), (3, 2, 2, 2));
        assert_eq!(configs.broker().min_insync_replicas, 2);
        configs.set_dynamic(Dynamic::default()).expect("valid");
        assert_eq!((min_isr("own"), min_isr("other"), min_isr("none"), min_isr("new")), (3, 1, 1, 1));
    }
}
