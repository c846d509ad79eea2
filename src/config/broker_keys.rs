//! THE table of the broker keys Barnabas acts on, or is about to: one line each. The parser, the typed fields of [`BrokerConfig`],
//! DescribeConfigs and the warnings come from it; `known_keys` holds the rest of Kafka's keys.

use std::collections::BTreeMap;

use super::broker::Network;
use super::def::{ConfigError, FromValue, Importance, KeyDef, Kind, Mode, Support, Valid::*, Value};

macro_rules! default_of {
    (null) => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}
pub(crate) use default_of;

macro_rules! support_of {
    () => {
        Support::Acts
    };
    ($support:ident) => {
        Support::$support
    };
}

/// field: type = key, kind default, what it must meet, importance mode [NotYet, while nobody reads the field], doc;
macro_rules! broker_keys {
    ($($field:ident: $ty:ty = $name:literal, $kind:ident $default:tt, $valid:expr, $importance:ident $mode:ident $($support:ident)?, $doc:literal;)*) => {
        /// The keys that are fields.
        pub(super) static ACTED_KEYS: &[KeyDef] = &[$(KeyDef {
            name: $name,
            kind: Kind::$kind,
            default: default_of!($default),
            valid: $valid,
            importance: Importance::$importance,
            mode: Mode::$mode,
            support: support_of!($($support)?),
            doc: $doc,
        },)*];

        /// The broker's configuration: every key Barnabas acts on, or is about to, as a field, checked. What several keys decide together
        /// (listeners, retention, ...) are methods; prefer those.
        #[derive(Debug, Clone)]
        pub struct BrokerConfig {
            $(#[doc = $doc] pub $field: $ty,)*
            pub(super) network: Network,
            pub(super) set: BTreeMap<String, String>,
        }

        impl BrokerConfig {
            /// Reads the fields out of `set`; the rules between keys are checked elsewhere.
            pub(super) fn read(set: BTreeMap<String, String>) -> Result<Self, ConfigError> {
                let mut defs = ACTED_KEYS.iter();
                Ok(Self {
                    $($field: typed(defs.next(), &set)?,)*
                    network: Network::default(),
                    set,
                })
            }
        }
    };
}

/// The value of the next key of the table, in the type of its field.
fn typed<T: FromValue>(def: Option<&'static KeyDef>, set: &BTreeMap<String, String>) -> Result<T, ConfigError> {
    let Some(def) = def else { unreachable!("as many keys as fields") };
    let (text, value) = match set.get(def.name) {
        Some(text) => (text.as_str(), def.parse(text)?),
        None => ("", def.default_value()),
    };
    let value = if value == Value::Text(String::new()) && def.default.is_none() { Value::Null } else { value };
    T::from_value(value).ok_or_else(|| ConfigError::invalid(def, text))
}

broker_keys! {
    broker_id: i32 = "broker.id", Int "-1", Any, High ReadOnly, "This broker's id in the cluster. -1 asks ZooKeeper for one above reserved.broker.max.id.";
    broker_id_generation_enable: bool = "broker.id.generation.enable", Boolean "true", Any, Medium ReadOnly, "Whether a broker without broker.id gets a generated one.";
    reserved_broker_max_id: i32 = "reserved.broker.max.id", Int "1000", AtLeast(0), Medium ReadOnly, "The largest id that may be set by hand; generated ids start above it.";
    node_id: i32 = "node.id", Int "-1", Any, High ReadOnly, "The id under KRaft; with ZooKeeper it means the same as broker.id.";
    broker_rack: Option<String> = "broker.rack", String null, Any, Medium ReadOnly, "The rack this broker stands in, for spreading replicas and for clients that read nearby.";
    listeners: String = "listeners", String "PLAINTEXT://:9092", Any, High PerBroker, "Addresses to listen on, as NAME://host:port, comma separated. An empty host means every interface.";
    advertised_listeners: Option<String> = "advertised.listeners", String null, Any, High PerBroker, "Addresses clients and brokers are told to use. Defaults to listeners.";
    listener_security_protocol_map: String = "listener.security.protocol.map", String "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Any, Low PerBroker, "Which security protocol each listener name stands for, as NAME:PROTOCOL pairs.";
    control_plane_listener_name: Option<String> = "control.plane.listener.name", String null, Any, High ReadOnly, "A listener of its own for requests of the controller.";
    inter_broker_listener_name: Option<String> = "inter.broker.listener.name", String null, Any, Medium ReadOnly, "The listener over which brokers talk to each other. Not together with security.inter.broker.protocol.";
    security_inter_broker_protocol: String = "security.inter.broker.protocol", String "PLAINTEXT", OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), Medium ReadOnly, "The security protocol brokers use among themselves, when no listener name is given.";
    num_network_threads: i32 = "num.network.threads", Int "3", AtLeast(1), High ClusterWide, "Threads that serve connections.";
    queued_max_request_bytes: i64 = "queued.max.request.bytes", Long "-1", Any, Medium ReadOnly, "Bytes of requests that may be held at one time; -1 for no limit of bytes.";
    request_timeout_ms: i32 = "request.timeout.ms", Int "30000", Any, High ReadOnly, "How long a request to another broker may take.";
    socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes", Int "102400", Any, High ReadOnly, "SO_SNDBUF of accepted connections; -1 leaves it to the system.";
    socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes", Int "102400", Any, High ReadOnly, "SO_RCVBUF of accepted connections; -1 leaves it to the system.";
    socket_request_max_bytes: i32 = "socket.request.max.bytes", Int "104857600", AtLeast(1), High ReadOnly, "The longest request that is read; a longer one closes the connection.";
    socket_listen_backlog_size: i32 = "socket.listen.backlog.size", Int "50", AtLeast(1), Medium ReadOnly, "Connections the kernel may hold that are not accepted yet.";
    max_connections_per_ip: i32 = "max.connections.per.ip", Int "2147483647", AtLeast(0), Medium ClusterWide, "Connections from one address.";
    max_connections_per_ip_overrides: String = "max.connections.per.ip.overrides", String "", Any, Medium ClusterWide, "Other limits for some hosts, as host:count pairs, comma separated.";
    max_connections: i32 = "max.connections", Int "2147483647", AtLeast(0), Medium ClusterWide, "Connections on this broker; beyond it new ones wait, except on the inter-broker listener.";
    max_connection_creation_rate: i32 = "max.connection.creation.rate", Int "2147483647", AtLeast(0), Medium ClusterWide, "New connections a second; beyond it accepting waits.";
    connections_max_idle_ms: i64 = "connections.max.idle.ms", Long "600000", Any, Medium ReadOnly, "A connection that is silent for so long is closed.";
    socket_connection_setup_timeout_ms: i64 = "socket.connection.setup.timeout.ms", Long "10000", Any, Medium ReadOnly NotYet, "How long connecting to another broker may take the first time.";
    socket_connection_setup_timeout_max_ms: i64 = "socket.connection.setup.timeout.max.ms", Long "30000", Any, Medium ReadOnly NotYet, "How far that grows after failures.";
    zookeeper_connect: Option<String> = "zookeeper.connect", String null, Any, High ReadOnly, "ZooKeeper's servers as host:port, comma separated, with an optional chroot path behind the last.";
    zookeeper_session_timeout_ms: i32 = "zookeeper.session.timeout.ms", Int "18000", Any, High ReadOnly, "A broker silent for so long loses its ZooKeeper session.";
    zookeeper_connection_timeout_ms: Option<i32> = "zookeeper.connection.timeout.ms", Int null, Any, High ReadOnly, "How long to wait for ZooKeeper at start. Defaults to the session time-out.";
    zookeeper_max_in_flight_requests: i32 = "zookeeper.max.in.flight.requests", Int "10", AtLeast(1), High ReadOnly NotYet, "Requests that may be under way to ZooKeeper before more wait.";
    auto_create_topics_enable: bool = "auto.create.topics.enable", Boolean "true", Any, High ReadOnly, "Whether a client that asks for an unknown topic creates it.";
    delete_topic_enable: bool = "delete.topic.enable", Boolean "true", Any, High ReadOnly, "Whether topics may be deleted.";
    num_partitions: i32 = "num.partitions", Int "1", AtLeast(1), Medium ReadOnly, "Partitions of a topic created without a number.";
    default_replication_factor: i32 = "default.replication.factor", Int "1", Any, Medium ReadOnly, "Replicas of a topic created without a number.";
    auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable", Boolean "true", Any, High ReadOnly, "Whether leadership returns to preferred replicas by itself.";
    leader_imbalance_check_interval_seconds: i64 = "leader.imbalance.check.interval.seconds", Long "300", AtLeast(1), High ReadOnly, "How often that is checked.";
    leader_imbalance_per_broker_percentage: i32 = "leader.imbalance.per.broker.percentage", Int "10", Any, High ReadOnly, "The share of partitions of a broker that may be led elsewhere before it acts.";
    unclean_leader_election_enable: bool = "unclean.leader.election.enable", Boolean "false", Any, High ClusterWide, "Whether a replica outside the ISR may lead as a last resort, at the cost of records.";
    min_insync_replicas: i32 = "min.insync.replicas", Int "1", AtLeast(1), High ClusterWide, "Replicas that must have a record before acks=all is answered.";
    message_max_bytes: i32 = "message.max.bytes", Int "1048588", AtLeast(0), High ClusterWide, "The largest batch that is taken.";
    compression_type: String = "compression.type", String "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), High ClusterWide, "The codec records are stored in; producer keeps what came.";
    compression_gzip_level: i32 = "compression.gzip.level", Int "-1", MinusOneOr(1, 9), Medium ClusterWide, "The level when the broker compresses with gzip.";
    compression_lz4_level: i32 = "compression.lz4.level", Int "9", Between(1, 17), Medium ClusterWide, "The level when the broker compresses with lz4.";
    compression_zstd_level: i32 = "compression.zstd.level", Int "3", Between(-131072, 22), Medium ClusterWide, "The level when the broker compresses with zstd.";
    log_dir: String = "log.dir", String "/tmp/kafka-logs", Any, High ReadOnly, "Where logs are kept, when log.dirs is not set.";
    log_dirs: Option<String> = "log.dirs", String null, Any, High ReadOnly, "Folders where logs are kept, comma separated.";
    log_segment_bytes: i32 = "log.segment.bytes", Int "1073741824", AtLeast(14), High ClusterWide, "The size at which a segment is full.";
    log_roll_ms: Option<i64> = "log.roll.ms", Long null, Any, High ClusterWide, "The age at which a segment is rolled. Goes before log.roll.hours.";
    log_roll_hours: i32 = "log.roll.hours", Int "168", AtLeast(1), High ReadOnly, "The age in hours at which a segment is rolled.";
    log_roll_jitter_ms: Option<i64> = "log.roll.jitter.ms", Long null, Any, High ClusterWide, "At most so much is taken off the age, by chance. Goes before log.roll.jitter.hours.";
    log_roll_jitter_hours: i32 = "log.roll.jitter.hours", Int "0", AtLeast(0), High ReadOnly, "The same in hours.";
    log_retention_ms: Option<i64> = "log.retention.ms", Long null, Any, High ClusterWide, "How long records are kept; -1 for ever. Goes before minutes and hours.";
    log_retention_minutes: Option<i32> = "log.retention.minutes", Int null, Any, High ReadOnly, "The same in minutes. Goes before hours.";
    log_retention_hours: i32 = "log.retention.hours", Int "168", Any, High ReadOnly, "The same in hours.";
    log_retention_bytes: i64 = "log.retention.bytes", Long "-1", Any, High ClusterWide, "How large a partition may become before its oldest segments go; -1 for no limit.";
    log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms", Long "300000", AtLeast(1), Medium ReadOnly, "How often segments are looked over for what has expired.";
    log_cleanup_policy: Vec<String> = "log.cleanup.policy", List "delete", SomeOf(&["compact", "delete"]), Medium ClusterWide, "What becomes of old records: delete, compact, or both.";
    log_cleaner_enable: bool = "log.cleaner.enable", Boolean "true", Any, Medium ReadOnly, "Whether compaction runs.";
    log_cleaner_threads: i32 = "log.cleaner.threads", Int "1", AtLeast(0), Medium ClusterWide, "Threads that compact.";
    log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second", Double "1.7976931348623157E308", Any, Medium ClusterWide, "Bytes a second compaction may read and write.";
    log_cleaner_dedupe_buffer_size: i64 = "log.cleaner.dedupe.buffer.size", Long "134217728", Any, Medium ClusterWide, "Memory for the keys of a compaction, over all threads; at least 1 MiB for each.";
    log_cleaner_io_buffer_size: i32 = "log.cleaner.io.buffer.size", Int "524288", AtLeast(0), Medium ClusterWide, "Memory for the records of a compaction, over all threads; a batch that is larger gets what it needs.";
    log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor", Double "0.9", Any, Medium ClusterWide, "How full the table of keys may become.";
    log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms", Long "15000", AtLeast(0), Medium ClusterWide, "How long to rest when there is nothing to compact.";
    log_cleaner_min_cleanable_ratio: f64 = "log.cleaner.min.cleanable.ratio", Double "0.5", Fraction(0.0, 1.0), Medium ClusterWide, "The share of a log that must be dirty before it is compacted.";
    log_cleaner_delete_retention_ms: i64 = "log.cleaner.delete.retention.ms", Long "86400000", AtLeast(0), Medium ClusterWide, "How long tombstones are kept.";
    log_cleaner_min_compaction_lag_ms: i64 = "log.cleaner.min.compaction.lag.ms", Long "0", AtLeast(0), Medium ClusterWide, "A record younger than this is not compacted away.";
    log_cleaner_max_compaction_lag_ms: i64 = "log.cleaner.max.compaction.lag.ms", Long "9223372036854775807", AtLeast(1), Medium ClusterWide, "A record older than this must be compacted.";
    log_index_size_max_bytes: i32 = "log.index.size.max.bytes", Int "10485760", AtLeast(4), Medium ClusterWide, "The size at which an index is full.";
    log_index_interval_bytes: i32 = "log.index.interval.bytes", Int "4096", AtLeast(0), Medium ClusterWide, "Bytes of records between two entries of the offset index.";
    log_flush_interval_messages: i64 = "log.flush.interval.messages", Long "9223372036854775807", AtLeast(1), High ClusterWide, "Records appended to a partition before it is flushed.";
    log_flush_interval_ms: Option<i64> = "log.flush.interval.ms", Long null, Any, High ClusterWide, "The time a record may stay unflushed. Defaults to log.flush.scheduler.interval.ms.";
    log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms", Long "9223372036854775807", Any, High ReadOnly, "How often logs are looked over for what must be flushed.";
    log_flush_offset_checkpoint_interval_ms: i32 = "log.flush.offset.checkpoint.interval.ms", Int "60000", AtLeast(0), High ReadOnly, "How often recovery points are written down.";
    log_flush_start_offset_checkpoint_interval_ms: i32 = "log.flush.start.offset.checkpoint.interval.ms", Int "60000", AtLeast(0), High ReadOnly, "How often log start offsets are written down.";
    log_preallocate: bool = "log.preallocate", Boolean "false", Any, Medium ClusterWide, "Whether a new segment's file gets its whole size at once.";
    log_segment_delete_delay_ms: i64 = "log.segment.delete.delay.ms", Long "60000", AtLeast(0), High ClusterWide, "How long a deleted segment's file stays before it is removed.";
    log_message_format_version: String = "log.message.format.version", String "3.0-IV1", Version, Medium ReadOnly, "The format of stored records, as a version of Kafka. Without effect from inter.broker.protocol.version 3.0 on.";
    log_message_timestamp_type: String = "log.message.timestamp.type", String "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Medium ClusterWide, "Whether a record's time is the producer's or the time it was appended.";
    log_message_timestamp_difference_max_ms: i64 = "log.message.timestamp.difference.max.ms", Long "9223372036854775807", AtLeast(0), Medium ClusterWide, "How far a record's time may lie from the broker's, either way. Superseded by the two below.";
    log_message_timestamp_before_max_ms: i64 = "log.message.timestamp.before.max.ms", Long "9223372036854775807", AtLeast(0), Medium ClusterWide, "How far a record's time may lie before the broker's.";
    log_message_timestamp_after_max_ms: i64 = "log.message.timestamp.after.max.ms", Long "9223372036854775807", AtLeast(0), Medium ClusterWide, "How far a record's time may lie after the broker's.";
    log_message_downconversion_enable: bool = "log.message.downconversion.enable", Boolean "true", Any, Low ClusterWide, "Whether records are turned into older formats for older consumers.";
    num_recovery_threads_per_data_dir: i32 = "num.recovery.threads.per.data.dir", Int "1", AtLeast(1), High ClusterWide, "Threads for each folder that load logs at start and flush them at stop.";
    num_replica_fetchers: i32 = "num.replica.fetchers", Int "1", Any, High ClusterWide, "Connections to each leader over which followers fetch.";
    replica_fetch_backoff_ms: i32 = "replica.fetch.backoff.ms", Int "1000", AtLeast(0), Medium ReadOnly, "How long a follower rests after a failed fetch.";
    replica_fetch_max_bytes: i32 = "replica.fetch.max.bytes", Int "1048576", AtLeast(0), Medium ReadOnly, "Bytes a follower asks for of one partition.";
    replica_fetch_min_bytes: i32 = "replica.fetch.min.bytes", Int "1", Any, High ReadOnly, "Bytes a follower waits for.";
    replica_fetch_response_max_bytes: i32 = "replica.fetch.response.max.bytes", Int "10485760", AtLeast(0), Medium ReadOnly, "Bytes a follower asks for in one fetch.";
    replica_fetch_wait_max_ms: i32 = "replica.fetch.wait.max.ms", Int "500", Any, High ReadOnly, "How long a follower waits for them.";
    replica_high_watermark_checkpoint_interval_ms: i64 = "replica.high.watermark.checkpoint.interval.ms", Long "5000", Any, High ReadOnly, "How often high watermarks are written down.";
    replica_lag_time_max_ms: i64 = "replica.lag.time.max.ms", Long "30000", Any, High ReadOnly, "A follower that has not caught up for so long leaves the ISR.";
    replica_selector_class: Option<String> = "replica.selector.class", String null, OneOf(&["org.apache.kafka.common.replica.LeaderSelector", "org.apache.kafka.common.replica.RackAwareReplicaSelector"]), Medium ReadOnly, "The class that picks a replica for a consumer to read from: those of Kafka are known.";
    replica_socket_timeout_ms: i32 = "replica.socket.timeout.ms", Int "30000", Any, High ReadOnly, "How long a follower's fetch may take.";
    replica_socket_receive_buffer_bytes: i32 = "replica.socket.receive.buffer.bytes", Int "65536", Any, High ReadOnly NotYet, "SO_RCVBUF of a follower's connections.";
    controlled_shutdown_enable: bool = "controlled.shutdown.enable", Boolean "true", Any, Medium ReadOnly, "Whether a broker that stops first hands its leaderships on.";
    controlled_shutdown_max_retries: i32 = "controlled.shutdown.max.retries", Int "3", Any, Medium ReadOnly, "How often it tries.";
    controlled_shutdown_retry_backoff_ms: i64 = "controlled.shutdown.retry.backoff.ms", Long "5000", Any, Medium ReadOnly, "How long it waits between tries.";
    controller_socket_timeout_ms: i32 = "controller.socket.timeout.ms", Int "30000", Any, Medium ReadOnly, "How long a request of the controller may take.";
    inter_broker_protocol_version: String = "inter.broker.protocol.version", String "3.9-IV0", Version, Medium ReadOnly, "The version of Kafka whose protocol brokers speak among themselves.";
    fetch_max_bytes: i32 = "fetch.max.bytes", Int "57671680", AtLeast(1024), Medium ReadOnly, "Bytes in one answer to a fetch.";
    max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots", Int "1000", AtLeast(0), Medium ReadOnly, "Fetch sessions that are remembered.";
    group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms", Int "6000", Any, Medium ReadOnly, "The shortest session time-out a group member may ask for.";
    group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms", Int "1800000", Any, Medium ReadOnly, "The longest session time-out a group member may ask for.";
    group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms", Int "3000", Any, Medium ReadOnly, "How long a new group waits for more members before its first rebalance.";
    group_max_size: i32 = "group.max.size", Int "2147483647", AtLeast(1), Medium ReadOnly, "Members of one group.";
    offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes", Int "4096", Any, High ReadOnly, "The longest note a client may leave with an offset.";
    offsets_load_buffer_size: i32 = "offsets.load.buffer.size", Int "5242880", AtLeast(1), High ReadOnly, "Bytes read at a time while groups and offsets are loaded.";
    offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor", Short "3", AtLeast(1), High ReadOnly, "Replicas of __consumer_offsets.";
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions", Int "50", AtLeast(1), High ReadOnly, "Partitions of __consumer_offsets; not to be changed afterwards.";
    offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes", Int "104857600", AtLeast(1), High ReadOnly, "The segment size of __consumer_offsets.";
    offsets_topic_compression_codec: i32 = "offsets.topic.compression.codec", Int "0", Any, High ReadOnly, "The codec of offset commits, as a number.";
    offsets_retention_minutes: i32 = "offsets.retention.minutes", Int "10080", AtLeast(1), High ReadOnly, "How long offsets outlive their group.";
    offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms", Long "600000", AtLeast(1), High ReadOnly, "How often offsets are looked over for what has expired.";
    offsets_commit_timeout_ms: i32 = "offsets.commit.timeout.ms", Int "5000", AtLeast(1), High ReadOnly, "How long an offset commit waits for its replicas.";
    offsets_commit_required_acks: i16 = "offsets.commit.required.acks", Short "-1", Any, High ReadOnly, "The acks of an offset commit.";
    transactional_id_expiration_ms: i32 = "transactional.id.expiration.ms", Int "604800000", AtLeast(1), High ReadOnly, "How long an unused transactional id is remembered.";
    transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms", Int "900000", AtLeast(1), High ReadOnly, "The longest transaction time-out a producer may ask for.";
    transaction_state_log_min_isr: i32 = "transaction.state.log.min.isr", Int "2", AtLeast(1), High ReadOnly, "min.insync.replicas of __transaction_state.";
    transaction_state_log_load_buffer_size: i32 = "transaction.state.log.load.buffer.size", Int "5242880", AtLeast(1), High ReadOnly, "Bytes read at a time while transactions are loaded.";
    transaction_state_log_replication_factor: i16 = "transaction.state.log.replication.factor", Short "3", AtLeast(1), High ReadOnly, "Replicas of __transaction_state.";
    transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions", Int "50", AtLeast(1), High ReadOnly, "Partitions of __transaction_state.";
    transaction_state_log_segment_bytes: i32 = "transaction.state.log.segment.bytes", Int "104857600", AtLeast(1), High ReadOnly, "The segment size of __transaction_state.";
    transaction_abort_timed_out_transaction_cleanup_interval_ms: i32 = "transaction.abort.timed.out.transaction.cleanup.interval.ms", Int "10000", AtLeast(1), Low ReadOnly, "How often transactions are looked over for what has timed out.";
    transaction_remove_expired_transaction_cleanup_interval_ms: i32 = "transaction.remove.expired.transaction.cleanup.interval.ms", Int "3600000", AtLeast(1), Low ReadOnly, "How often transactional ids are looked over for what has expired.";
    transaction_partition_verification_enable: bool = "transaction.partition.verification.enable", Boolean "true", Any, Low ClusterWide, "Whether the coordinator is asked if a partition belongs to the transaction.";
    producer_id_expiration_ms: i32 = "producer.id.expiration.ms", Int "86400000", AtLeast(1), Low ClusterWide, "How long a partition remembers a producer that has stopped writing.";
    replication_quota_window_num: i32 = "replication.quota.window.num", Int "11", AtLeast(1), Low ReadOnly, "Windows over which the rates of replication throttles are taken.";
    replication_quota_window_size_seconds: i32 = "replication.quota.window.size.seconds", Int "1", AtLeast(1), Low ReadOnly, "How long such a window is.";
    alter_log_dirs_replication_quota_window_num: i32 = "alter.log.dirs.replication.quota.window.num", Int "11", AtLeast(1), Low ReadOnly, "Windows over which the rate of moves between log dirs is taken.";
    alter_log_dirs_replication_quota_window_size_seconds: i32 = "alter.log.dirs.replication.quota.window.size.seconds", Int "1", AtLeast(1), Low ReadOnly, "How long such a window is.";
}
