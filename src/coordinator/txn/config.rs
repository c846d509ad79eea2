//! The broker's settings for transactions.

use std::time::Duration;

use crate::config::broker::BrokerConfig;

/// What the transaction coordinator acts on, each field named after its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnConfig {
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: i32,
    /// `transaction.state.log.num.partitions`: counts until the topic exists.
    pub num_partitions: i32,
    /// `transaction.state.log.load.buffer.size`, in bytes.
    pub load_buffer_size: usize,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_interval: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiry_interval: Duration,
    /// `request.timeout.ms`: how long tombstones, and a log that was taken over, wait for their replicas.
    pub request_timeout: Duration,
}

impl From<&BrokerConfig> for TxnConfig {
    fn from(config: &BrokerConfig) -> Self {
        Self {
            id_expiration_ms: i64::from(config.transactional_id_expiration_ms),
            max_timeout_ms: config.transaction_max_timeout_ms,
            num_partitions: config.transaction_state_log_num_partitions,
            load_buffer_size: usize::try_from(config.transaction_state_log_load_buffer_size).unwrap_or(usize::MAX),
            abort_interval: millis(config.transaction_abort_timed_out_transaction_cleanup_interval_ms),
            expiry_interval: millis(config.transaction_remove_expired_transaction_cleanup_interval_ms),
            request_timeout: millis(config.request_timeout_ms),
        }
    }
}

impl Default for TxnConfig {
    fn default() -> Self {
        Self {
            id_expiration_ms: 7 * 24 * 60 * 60_000,
            max_timeout_ms: 900_000,
            num_partitions: 50,
            load_buffer_size: 5 * 1024 * 1024,
            abort_interval: millis(10_000),
            expiry_interval: millis(3_600_000),
            request_timeout: millis(30_000),
        }
    }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(1).max(1))
}
