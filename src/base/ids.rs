//! The broker's numbers and names as types of their own, so that an offset is never taken for an epoch.

use std::fmt;
use std::sync::Arc;

/// Declares a newtype over an integer with the sentinels Kafka uses on the wire.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, as it goes on the wire or to disk.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The value that follows this one. Wraps, as in Java: bytes from outside may hold any number.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.wrapping_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

number! {
    /// A broker's id, `broker.id`.
    BrokerId(i32)
}
number! {
    /// A record's place in a partition's log. Log start <= high watermark <= log end.
    Offset(i64)
}
number! {
    /// Counts the leaders of one partition; every leader write carries it.
    LeaderEpoch(i32)
}
number! {
    /// The czxid of a broker's registration znode: tells one life of a broker from the next (KIP-380).
    BrokerEpoch(i64)
}
number! {
    /// Counts the controllers of the cluster; fences every control request.
    ControllerEpoch(i32)
}
number! {
    /// Names an idempotent or transactional producer (KIP-98).
    ProducerId(i64)
}
number! {
    /// Counts the lives of one producer id.
    ProducerEpoch(i16)
}

impl BrokerId {
    /// No broker, or an ordinary consumer where a replica id is asked for.
    pub const NONE: Self = Self(-1);
}

impl Offset {
    /// No offset known.
    pub const UNKNOWN: Self = Self(-1);
    /// The first offset of a log.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records on. Wraps, as in Java.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How many offsets lie from `earlier` to here. Wraps, as in Java.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl LeaderEpoch {
    /// No epoch known: records of magic below 2, or requests from before KIP-320.
    pub const NONE: Self = Self(-1);
}

impl BrokerEpoch {
    /// Sent by brokers from before KIP-380.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// Not an idempotent producer.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// Not an idempotent producer.
    pub const NONE: Self = Self(-1);
}

/// One partition of one topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A topic's id (KIP-516): 16 bytes, written as 22 characters of URL-safe base64. All zero where there is none.
pub type TopicId = uuid::Uuid;

/// Writes a topic id as Kafka does in znodes and `partition.metadata`.
pub fn topic_id_to_base64(id: TopicId) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Reads what [`topic_id_to_base64`] wrote; `None` if it is not 16 bytes of URL-safe base64.
pub fn topic_id_from_base64(text: &str) -> Option<TopicId> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    TopicId::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_written_as_kafka_writes_them() {
        let text = "5sE70Q4ERBm5cytzUjvVRQ";
        let id = topic_id_from_base64(text).expect("a valid id");
        assert_eq!(topic_id_to_base64(id), text);
        assert_eq!(topic_id_from_base64("short"), None);
    }
}
