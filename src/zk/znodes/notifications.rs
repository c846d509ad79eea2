//! Sequential nodes by which brokers tell the controller: `/isr_change_notification`, `/log_dir_event_notification`.

use serde::{Deserialize, Serialize};

use super::{from_json, sequence_number, to_json};
use crate::base::ids::BrokerId;
use crate::zk::error::ZkError;

/// The parent of the notifications of changed ISRs (IBP below 2.7-IV2).
pub const ISR_CHANGE_PATH: &str = "/isr_change_notification";
/// The prefix of their names.
pub const ISR_CHANGE_PREFIX: &str = "isr_change_";
/// The parent of the notifications of failed log dirs.
pub const LOG_DIR_EVENT_PATH: &str = "/log_dir_event_notification";
/// The prefix of their names.
pub const LOG_DIR_EVENT_PREFIX: &str = "log_dir_event_";

pub use super::admin::{decode_partitions as decode_isr_change, encode_partitions as encode_isr_change};

/// The number of an ISR notification, by its name.
pub fn isr_change_number(name: &str) -> Option<i64> {
    sequence_number(name, ISR_CHANGE_PREFIX)
}

#[derive(Serialize, Deserialize)]
struct LogDirEvent {
    #[serde(default)]
    version: i32,
    broker: i32,
    event: i32,
}

/// The data of a log dir notification: a log dir of that broker failed.
pub fn encode_log_dir_event(broker: BrokerId) -> Vec<u8> {
    to_json(&LogDirEvent { version: 1, broker: broker.get(), event: 1 })
}

/// Reads which broker lost a log dir.
pub fn decode_log_dir_event(data: &[u8]) -> Result<BrokerId, ZkError> {
    from_json::<LogDirEvent>(LOG_DIR_EVENT_PATH, data).map(|event| BrokerId(event.broker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_dir_events_are_written_as_kafka_writes_them() {
        assert_eq!(encode_log_dir_event(BrokerId(2)), br#"{"version":1,"broker":2,"event":1}"#);
        assert_eq!(decode_log_dir_event(br#"{"version":1,"broker":2,"event":1}"#).unwrap(), BrokerId(2));
        assert_eq!(isr_change_number("isr_change_0000000003"), Some(3));
    }
}
