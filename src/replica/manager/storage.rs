//! Where partitions meet their logs: making and finding logs, taking partitions in and out of the map, what happens when a
//! disk fails or a topic's configuration changes, and the high watermarks on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tracing::error;

use super::{HostedTopic, ReplicaManager};
use crate::base::error::ErrorCode;
use crate::base::ids::{TopicId, TopicPartition};
use crate::config::broker::BrokerConfig;
use crate::config::def::ConfigError;
use crate::config::dynamic::Dynamic;
use crate::log::partition_log::PartitionLog;
use crate::replica::partition::Partition;
use crate::replica::topic_configs::Overrides;

impl ReplicaManager {
    /// The partition's log, made if there is none, with its high watermark as it was last checkpointed.
    pub(super) fn open_log(
        &self,
        tp: &TopicPartition,
        topic_id: TopicId,
        is_new: bool,
    ) -> Result<Arc<PartitionLog>, ErrorCode> {
        let id = Some(topic_id).filter(|id| !id.is_nil());
        let config = Arc::clone(&self.configs.get(&tp.topic).log);
        let opened = self.log_manager.get_or_create(tp, id, config, is_new, self.clock.now_ms());
        let log = opened.map_err(|error| {
            error!("{tp}: the log could not be opened: {error}");
            error.code()
        })?;
        if self.hosted(&tp.topic, tp.partition).is_none() {
            log.maybe_increment_high_watermark(self.log_manager.checkpointed_high_watermark(tp));
        }
        Ok(log)
    }

    /// Takes a partition into the map.
    pub(super) fn host(&self, partition: &Arc<Partition>, id: TopicId) {
        let tp = &partition.topic_partition;
        let mut hosted = self.hosted.write();
        let topic =
            hosted.entry(Arc::clone(&tp.topic)).or_insert_with(|| HostedTopic { id, partitions: BTreeMap::new() });
        if !id.is_nil() {
            topic.id = id;
        }
        topic.partitions.insert(tp.partition, Arc::clone(partition));
    }

    /// Takes a partition out of the map.
    pub(super) fn unhost(&self, tp: &TopicPartition) {
        let mut hosted = self.hosted.write();
        if let Some(topic) = hosted.get_mut(&tp.topic) {
            topic.partitions.remove(&tp.partition);
            if topic.partitions.is_empty() {
                hosted.remove(&tp.topic);
            }
        }
    }

    /// Marks the partitions whose logs lay in `dir`, which failed, as offline. Returns them.
    pub fn handle_log_dir_failure(&self, dir: &Path) -> Vec<TopicPartition> {
        let failed: Vec<_> = self
            .partitions()
            .into_iter()
            .filter(|partition| partition.log().is_some_and(|log| log.log_dir().path() == dir))
            .collect();
        failed.iter().for_each(|partition| partition.mark_offline());
        self.log_manager.drop_failed_futures();
        failed.iter().map(|partition| partition.topic_partition.clone()).collect()
    }

    /// Takes in a topic's overrides, wholly, and hands them to its logs.
    pub fn update_topic_config(&self, topic: &str, overrides: &Overrides) {
        let settings = self.configs.set_overrides(topic, overrides);
        self.log_manager.update_topic_config(topic, &settings.log);
        if let Some(hosted) = self.hosted.read().get(topic) {
            hosted.partitions.values().for_each(|partition| partition.set_min_isr(settings.topic.min_insync_replicas));
        }
    }

    /// Takes in what was set for brokers while they run, wholly; logs and partitions follow. Returns the broker's
    /// configuration as it holds now.
    ///
    /// # Errors
    /// [`ConfigError`] for values that are at odds with each other; then nothing changes.
    pub fn update_broker_config(&self, dynamic: Dynamic) -> Result<Arc<BrokerConfig>, ConfigError> {
        let broker = self.configs.set_dynamic(dynamic)?;
        self.throttle.set_rates(&self.configs.dynamic());
        self.log_manager.set_producer_expiration_ms(i64::from(broker.producer_id_expiration_ms));
        for log in self.log_manager.all() {
            log.update_config(Arc::clone(&self.configs.get(&log.topic_partition().topic).log));
        }
        for partition in self.partitions() {
            let settings = self.configs.get(&partition.topic_partition.topic);
            partition.set_min_isr(settings.topic.min_insync_replicas);
        }
        Ok(broker)
    }

    /// Writes the high watermarks of all partitions to disk, `replication-offset-checkpoint`. Blocks on the disk.
    pub fn checkpoint_high_watermarks(&self) {
        self.log_manager.checkpoint_high_watermarks();
    }
}
