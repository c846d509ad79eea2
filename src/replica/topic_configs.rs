//! Topics' configurations as this broker acts on them: the broker's defaults with each topic's overrides. Topics without
//! overrides share one. Owns no watch: what ZooKeeper says comes in through [`TopicConfigSource`] and
//! [`TopicConfigs::set_overrides`].

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::broker::BrokerConfig;
use crate::config::topic::TopicConfig;

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

/// The configurations.
pub struct TopicConfigs {
    source: Arc<dyn TopicConfigSource>,
    broker: BrokerConfig,
    defaults: Arc<TopicConfig>,
    known: RwLock<HashMap<Arc<str>, Arc<TopicConfig>>>,
}

impl TopicConfigs {
    /// Configurations over the defaults of `broker`.
    pub fn new(broker: BrokerConfig, source: Arc<dyn TopicConfigSource>) -> Self {
        let defaults = match TopicConfig::resolve(&broker, &Overrides::new()) {
            Ok(defaults) => Arc::new(defaults),
            // The broker's own defaults were checked when its configuration was read.
            Err(error) => unreachable!("the broker's topic defaults: {error}"),
        };
        Self { source, broker, defaults, known: RwLock::new(HashMap::new()) }
    }

    /// What holds for topics without overrides.
    pub fn defaults(&self) -> &Arc<TopicConfig> {
        &self.defaults
    }

    /// The configuration of `topic` as far as it is known; the defaults if nothing is.
    pub fn get(&self, topic: &str) -> Arc<TopicConfig> {
        self.known.read().get(topic).unwrap_or(&self.defaults).clone()
    }

    /// Looks up what is not known yet. A failure is logged, and the defaults hold until the next change comes.
    pub async fn learn(&self, topics: &[Arc<str>]) {
        for topic in topics {
            if self.known.read().contains_key(topic) {
                continue;
            }
            match self.source.overrides(topic).await {
                Ok(overrides) => drop(self.set_overrides(topic, &overrides)),
                Err(error) => tracing::warn!("the configuration of topic {topic} could not be read: {error}"),
            }
        }
    }

    /// Takes in the overrides of `topic`, wholly. Values that are not valid are logged and the topic keeps what it has.
    /// Returns what holds now.
    pub fn set_overrides(&self, topic: &str, overrides: &Overrides) -> Arc<TopicConfig> {
        let config = if overrides.is_empty() {
            Arc::clone(&self.defaults)
        } else {
            match TopicConfig::resolve(&self.broker, overrides) {
                Ok(config) => Arc::new(config),
                Err(error) => {
                    tracing::warn!("the configuration of topic {topic} is not valid: {error}");
                    return self.get(topic);
                }
            }
        };
        self.known.write().insert(Arc::from(topic), Arc::clone(&config));
        config
    }

    /// Forgets a topic that is gone.
    pub fn forget(&self, topic: &str) {
        self.known.write().remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_laid_over_the_defaults() {
        let broker = BrokerConfig::from_pairs([("zookeeper.connect", "localhost:2181")]).expect("a broker's config");
        let configs = TopicConfigs::new(broker, Arc::new(NoOverrides));
        let overrides = Overrides::from([("min.insync.replicas".to_owned(), "2".to_owned())]);
        assert_eq!(configs.set_overrides("a", &overrides).min_insync_replicas, 2);
        assert_eq!(configs.get("b").min_insync_replicas, 1);
        let bad = Overrides::from([("min.insync.replicas".to_owned(), "x".to_owned())]);
        assert_eq!(configs.set_overrides("a", &bad).min_insync_replicas, 2, "a bad value changes nothing");
        assert!(Arc::ptr_eq(&configs.set_overrides("a", &Overrides::new()), configs.defaults()));
    }
}
