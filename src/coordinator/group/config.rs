//! The broker's settings for groups and committed offsets.

use std::time::Duration;

use crate::config::broker::BrokerConfig;
use crate::protocol::compress::Codec;

/// What the group coordinator acts on, each field named after its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first join of an empty group waits for others.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`, in members.
    pub max_size: i32,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as the original does.
    pub offset_metadata_max_bytes: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.commit.timeout.ms`.
    pub offset_commit_timeout: Duration,
    /// `offsets.commit.required.acks`.
    pub offset_commit_required_acks: i16,
    /// `offsets.load.buffer.size`, in bytes.
    pub offsets_load_buffer_size: usize,
    /// `offsets.topic.num.partitions`: counts until the topic exists.
    pub offsets_topic_num_partitions: i32,
    /// `offsets.topic.compression.codec`.
    pub codec: Codec,
}

impl From<&BrokerConfig> for GroupConfig {
    fn from(config: &BrokerConfig) -> Self {
        let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(1).max(1));
        Self {
            min_session_timeout_ms: config.group_min_session_timeout_ms,
            max_session_timeout_ms: config.group_max_session_timeout_ms,
            initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
            max_size: config.group_max_size,
            offset_metadata_max_bytes: config.offset_metadata_max_bytes,
            offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval: millis(config.offsets_retention_check_interval_ms),
            offset_commit_timeout: millis(i64::from(config.offsets_commit_timeout_ms)),
            offset_commit_required_acks: config.offsets_commit_required_acks,
            offsets_load_buffer_size: usize::try_from(config.offsets_load_buffer_size).unwrap_or(usize::MAX),
            offsets_topic_num_partitions: config.offsets_topic_num_partitions,
            codec: codec(config.offsets_topic_compression_codec),
        }
    }
}

/// A number that names no codec leaves the offsets uncompressed.
fn codec(id: i32) -> Codec {
    i16::try_from(id).ok().and_then(Codec::from_id).unwrap_or_default()
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval: Duration::from_millis(600_000),
            offset_commit_timeout: Duration::from_millis(5_000),
            offset_commit_required_acks: -1,
            offsets_load_buffer_size: 5 * 1024 * 1024,
            offsets_topic_num_partitions: 50,
            codec: Codec::None,
        }
    }
}
