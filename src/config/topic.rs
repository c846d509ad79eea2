//! THE table of topic keys, and a topic's configuration: the broker's defaults with the topic's own values laid over them.
//!
//! One line each. The parser, the typed fields of [`TopicConfig`], DescribeConfigs and the checks of CreateTopics and
//! AlterConfigs come from it.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::broker::BrokerConfig;
use super::broker_keys::default_of;
use super::def::{ConfigError, Importance, KeyDef, Kind, Mode, Support, Valid::*, Value};
use super::suggest;
use super::version::KafkaVersion;

/// A topic key and the broker key that gives its default.
#[derive(Debug, Clone, Copy)]
pub struct TopicKey {
    /// The key.
    pub def: KeyDef,
    /// The broker key it defaults to; `None` where the table's own default holds.
    pub synonym: Option<&'static str>,
}

/// key, kind default, what it must meet, importance synonym, doc;
macro_rules! topic_keys {
    ($($name:literal, $kind:ident $default:literal, $valid:expr, $importance:ident $synonym:tt, $doc:literal;)*) => {
        /// Every topic key of Kafka 3.9.
        pub static TOPIC_KEYS: &[TopicKey] = &[$(TopicKey {
            def: KeyDef {
                name: $name,
                kind: Kind::$kind,
                default: Some($default),
                valid: $valid,
                importance: Importance::$importance,
                mode: Mode::ClusterWide,
                support: Support::Acts,
                doc: $doc,
            },
            synonym: default_of!($synonym),
        },)*];
    };
}

topic_keys! {
    "cleanup.policy", List "delete", SomeOf(&["compact", "delete"]), Medium "log.cleanup.policy", "What becomes of old records: delete, compact, or both.";
    "compression.type", String "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Medium "compression.type", "The codec records are stored in; producer keeps what came.";
    "compression.gzip.level", Int "-1", MinusOneOr(1, 9), Medium "compression.gzip.level", "The level when the broker compresses with gzip.";
    "compression.lz4.level", Int "9", Between(1, 17), Medium "compression.lz4.level", "The level when the broker compresses with lz4.";
    "compression.zstd.level", Int "3", Between(-131072, 22), Medium "compression.zstd.level", "The level when the broker compresses with zstd.";
    "delete.retention.ms", Long "86400000", AtLeast(0), Medium "log.cleaner.delete.retention.ms", "How long tombstones of a compacted topic are kept.";
    "file.delete.delay.ms", Long "60000", AtLeast(0), Medium "log.segment.delete.delay.ms", "How long a deleted segment's file stays before it is removed.";
    "flush.messages", Long "9223372036854775807", AtLeast(1), Medium "log.flush.interval.messages", "Records appended to a partition before it is flushed.";
    "flush.ms", Long "9223372036854775807", AtLeast(0), Medium "log.flush.interval.ms", "The time a record may stay unflushed.";
    "follower.replication.throttled.replicas", List "", ThrottledReplicas, Medium null, "Replicas whose fetching is throttled, as partition:broker pairs, or * for all.";
    "index.interval.bytes", Int "4096", AtLeast(0), Medium "log.index.interval.bytes", "Bytes of records between two entries of the offset index.";
    "leader.replication.throttled.replicas", List "", ThrottledReplicas, Medium null, "Replicas whose serving of followers is throttled, as partition:broker pairs, or * for all.";
    "local.retention.bytes", Long "-2", AtLeast(-2), Medium "log.local.retention.bytes", "How many bytes of a tiered partition stay on the local disk; -2 for retention.bytes.";
    "local.retention.ms", Long "-2", AtLeast(-2), Medium "log.local.retention.ms", "How long records of a tiered partition stay on the local disk; -2 for retention.ms.";
    "max.compaction.lag.ms", Long "9223372036854775807", AtLeast(1), Medium "log.cleaner.max.compaction.lag.ms", "A record older than this must be compacted.";
    "max.message.bytes", Int "1048588", AtLeast(0), Medium "message.max.bytes", "The largest batch that is taken.";
    "message.downconversion.enable", Boolean "true", Any, Low "log.message.downconversion.enable", "Whether records are turned into older formats for older consumers.";
    "message.format.version", String "3.0-IV1", Version, Medium "log.message.format.version", "The format of stored records, as a version of Kafka. Without effect from inter.broker.protocol.version 3.0 on.";
    "message.timestamp.after.max.ms", Long "9223372036854775807", AtLeast(0), Medium "log.message.timestamp.after.max.ms", "How far a record's time may lie after the broker's.";
    "message.timestamp.before.max.ms", Long "9223372036854775807", AtLeast(0), Medium "log.message.timestamp.before.max.ms", "How far a record's time may lie before the broker's.";
    "message.timestamp.difference.max.ms", Long "9223372036854775807", AtLeast(0), Medium "log.message.timestamp.difference.max.ms", "How far a record's time may lie from the broker's, either way. Superseded by the two above.";
    "message.timestamp.type", String "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Medium "log.message.timestamp.type", "Whether a record's time is the producer's or the time it was appended.";
    "min.cleanable.dirty.ratio", Double "0.5", Fraction(0.0, 1.0), Medium "log.cleaner.min.cleanable.ratio", "The share of a log that must be dirty before it is compacted.";
    "min.compaction.lag.ms", Long "0", AtLeast(0), Medium "log.cleaner.min.compaction.lag.ms", "A record younger than this is not compacted away.";
    "min.insync.replicas", Int "1", AtLeast(1), Medium "min.insync.replicas", "Replicas that must have a record before acks=all is answered.";
    "preallocate", Boolean "false", Any, Medium "log.preallocate", "Whether a new segment's file gets its whole size at once.";
    "remote.log.copy.disable", Boolean "false", Any, Medium null, "Whether a tiered topic stops copying segments to remote storage.";
    "remote.log.delete.on.disable", Boolean "false", Any, Medium null, "Whether turning tiering off deletes what is in remote storage.";
    "remote.storage.enable", Boolean "false", Any, Medium null, "Whether old segments move to remote storage.";
    "retention.bytes", Long "-1", Any, Medium "log.retention.bytes", "How large a partition may become before its oldest segments go; -1 for no limit.";
    "retention.ms", Long "604800000", AtLeast(-1), Medium "log.retention.ms", "How long records are kept; -1 for ever.";
    "segment.bytes", Int "1073741824", AtLeast(14), Medium "log.segment.bytes", "The size at which a segment is full.";
    "segment.index.bytes", Int "10485760", AtLeast(4), Medium "log.index.size.max.bytes", "The size at which an index is full.";
    "segment.jitter.ms", Long "0", AtLeast(0), Medium "log.roll.jitter.ms", "At most so much is taken off segment.ms, by chance.";
    "segment.ms", Long "604800000", AtLeast(1), Medium "log.roll.ms", "The age at which a segment is rolled.";
    "unclean.leader.election.enable", Boolean "false", Any, Medium "unclean.leader.election.enable", "Whether a replica outside the ISR may lead as a last resort, at the cost of records.";
}

/// What a topic's records are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    /// Uncompressed.
    Uncompressed,
    /// gzip, codec 1.
    Gzip,
    /// snappy, codec 2.
    Snappy,
    /// lz4, codec 3.
    Lz4,
    /// zstd, codec 4.
    Zstd,
}

impl CompressionType {
    /// The codec's number in a batch's attributes; `None` to keep the producer's.
    pub const fn codec(self) -> Option<u8> {
        match self {
            Self::Producer => None,
            Self::Uncompressed => Some(0),
            Self::Gzip => Some(1),
            Self::Snappy => Some(2),
            Self::Lz4 => Some(3),
            Self::Zstd => Some(4),
        }
    }
}

impl FromStr for CompressionType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "producer" => Self::Producer,
            "uncompressed" => Self::Uncompressed,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return Err(()),
        })
    }
}

/// Whose clock a record's timestamp is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when the record was appended.
    LogAppendTime,
}

/// A topic's configuration. Times are in milliseconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the key of that name in the table above")]
pub struct TopicConfig {
    /// `cleanup.policy` names `compact`.
    pub compact: bool,
    /// `cleanup.policy` names `delete`.
    pub delete: bool,
    pub compression_type: CompressionType,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub leader_replication_throttled_replicas: Vec<String>,
    pub follower_replication_throttled_replicas: Vec<String>,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    pub message_downconversion_enable: bool,
    /// The record format that `message.format.version` asks for: 0, 1 or 2; always 2 from IBP 3.0 on.
    pub magic: i8,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    /// -1 for no limit.
    pub retention_bytes: i64,
    /// -1 for ever.
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
}

/// The topic key of that name.
pub fn key(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.def.name == name)
}

/// The default of a topic key on this broker, as text.
pub fn broker_default(config: &BrokerConfig, key: &TopicKey) -> String {
    match key.synonym {
        Some("log.roll.ms") => config.roll_ms().to_string(),
        Some("log.roll.jitter.ms") => config.roll_jitter_ms().to_string(),
        Some("log.retention.ms") => config.retention_ms().to_string(),
        Some("log.flush.interval.ms") => config.flush_interval_ms().to_string(),
        Some("log.message.format.version") if config.inter_broker_version() >= KafkaVersion::ALWAYS_MAGIC_2 => {
            KafkaVersion::ALWAYS_MAGIC_2.to_string()
        }
        Some(name) => match config.set_values().get(name) {
            Some(text) => text.trim().to_owned(),
            None => super::broker::key(name).and_then(|def| def.default).unwrap_or_default().to_owned(),
        },
        None => key.def.default.unwrap_or_default().to_owned(),
    }
}

/// One topic's values, still as [`Value`]s.
struct Reader<'a> {
    broker: &'a BrokerConfig,
    overrides: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Result<Value, ConfigError> {
        let Some(key) = key(name) else { unreachable!("{name} is in the table") };
        match self.overrides.get(name) {
            Some(text) => key.def.parse(text),
            None => key.def.parse(&broker_default(self.broker, key)),
        }
    }

    fn get<T: super::def::FromValue>(&self, name: &str) -> Result<T, ConfigError> {
        let value = self.value(name)?;
        let text = value.to_string();
        T::from_value(value).ok_or_else(|| ConfigError::not_allowed(name, text, "another type"))
    }

    /// The newer key where it is set to something, else the older one that held for both directions (KIP-937).
    fn timestamp_limit(&self, name: &str) -> Result<i64, ConfigError> {
        let limit: i64 = self.get(name)?;
        if limit == i64::MAX { self.get("message.timestamp.difference.max.ms") } else { Ok(limit) }
    }

    fn magic(&self) -> Result<i8, ConfigError> {
        let version: String = self.get("message.format.version")?;
        if self.broker.inter_broker_version() >= KafkaVersion::ALWAYS_MAGIC_2 {
            return Ok(2);
        }
        Ok(KafkaVersion::parse(&version).map_or(2, KafkaVersion::magic))
    }

    fn compression(&self) -> Result<CompressionType, ConfigError> {
        let text: String = self.get("compression.type")?;
        text.parse().map_err(|()| ConfigError::not_allowed("compression.type", &text, "a codec"))
    }

    fn timestamp_type(&self) -> Result<TimestampType, ConfigError> {
        let text: String = self.get("message.timestamp.type")?;
        Ok(if text == "LogAppendTime" { TimestampType::LogAppendTime } else { TimestampType::CreateTime })
    }
}

impl TopicConfig {
    /// The topic's configuration on this broker. Unknown names are passed over, as a newer broker may have written them.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that is not allowed.
    pub fn resolve(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { broker, overrides };
        let policy: Vec<String> = read.get("cleanup.policy")?;
        let config = Self {
            compact: policy.iter().any(|word| word == "compact"),
            delete: policy.iter().any(|word| word == "delete"),
            compression_type: read.compression()?,
            compression_gzip_level: read.get("compression.gzip.level")?,
            compression_lz4_level: read.get("compression.lz4.level")?,
            compression_zstd_level: read.get("compression.zstd.level")?,
            delete_retention_ms: read.get("delete.retention.ms")?,
            file_delete_delay_ms: read.get("file.delete.delay.ms")?,
            flush_messages: read.get("flush.messages")?,
            flush_ms: read.get("flush.ms")?,
            index_interval_bytes: read.get("index.interval.bytes")?,
            leader_replication_throttled_replicas: read.get("leader.replication.throttled.replicas")?,
            follower_replication_throttled_replicas: read.get("follower.replication.throttled.replicas")?,
            max_compaction_lag_ms: read.get("max.compaction.lag.ms")?,
            max_message_bytes: read.get("max.message.bytes")?,
            message_downconversion_enable: read.get("message.downconversion.enable")?,
            magic: read.magic()?,
            message_timestamp_after_max_ms: read.timestamp_limit("message.timestamp.after.max.ms")?,
            message_timestamp_before_max_ms: read.timestamp_limit("message.timestamp.before.max.ms")?,
            message_timestamp_type: read.timestamp_type()?,
            min_cleanable_dirty_ratio: read.get("min.cleanable.dirty.ratio")?,
            min_compaction_lag_ms: read.get("min.compaction.lag.ms")?,
            min_insync_replicas: read.get("min.insync.replicas")?,
            preallocate: read.get("preallocate")?,
            retention_bytes: read.get("retention.bytes")?,
            retention_ms: read.get("retention.ms")?,
            segment_bytes: read.get("segment.bytes")?,
            segment_index_bytes: read.get("segment.index.bytes")?,
            segment_jitter_ms: read.get("segment.jitter.ms")?,
            segment_ms: read.get("segment.ms")?,
            unclean_leader_election_enable: read.get("unclean.leader.election.enable")?,
        };
        config.check()?;
        Ok(config)
    }

    /// What CreateTopics and AlterConfigs ask: as [`TopicConfig::resolve`], and every name must be known.
    ///
    /// # Errors
    /// [`ConfigError`] for a name that is not a topic key, a value that is not allowed, or what cannot be done here.
    pub fn validate(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for (name, text) in overrides {
            let Some(key) = key(name) else {
                let nearest = suggest::nearest(name, TOPIC_KEYS.iter().map(|key| key.def.name)).map(str::to_owned);
                return Err(ConfigError::Unknown { key: name.clone(), scope: "topic", nearest });
            };
            let value = key.def.parse(text)?;
            if name == "remote.storage.enable" && value == Value::Bool(true) {
                let why = "old segments would never leave the local disk".to_owned();
                return Err(ConfigError::Unsupported { key: name.clone(), value: text.clone(), why });
            }
        }
        Self::resolve(broker, overrides)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.compact && !self.delete {
            return Err(ConfigError::not_allowed("cleanup.policy", "", "delete, compact, or both"));
        }
        if self.compact && self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            let rule = format!("it must not be above max.compaction.lag.ms, which is {}", self.max_compaction_lag_ms);
            return Err(ConfigError::conflict("min.compaction.lag.ms", self.min_compaction_lag_ms, rule));
        }
        Ok(())
    }
}

impl Default for TopicConfig {
    /// What a topic gets on a broker of defaults.
    fn default() -> Self {
        match Self::resolve(&BrokerConfig::default(), &BTreeMap::new()) {
            Ok(config) => config,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

#[cfg(test)]
#[path = "topic_tests.rs"]
mod tests;
