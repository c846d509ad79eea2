//! The records of `__transaction_state`, in the original's schemas (`TransactionLogKey/Value`), so that a JVM broker takes
//! a partition over from us and back.
//!
//! A key begins with its version, 0. A value without bytes is a tombstone. Written are values of version 0, as 3.9 does
//! while `transaction.version` is 0, which it always is in ZooKeeper mode; the flexible version 1 is read too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::state::{Producer, TxnState};
use crate::base::ids::TopicPartition;
use crate::coordinator::wire::{Malformed, Reader, put_string};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const FLEXIBLE_VERSION: i16 = 1;

/// The longest transactional id and topic name that a record can hold, in bytes.
pub const MAX_NAME: usize = i16::MAX as usize;

/// A transactional id as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnValue {
    /// Who may use it.
    pub producer: Producer,
    /// How long a transaction may be under way.
    pub timeout_ms: i32,
    /// What it is at.
    pub state: TxnState,
    /// Which partitions take part, or still wait for their marker.
    pub partitions: BTreeSet<TopicPartition>,
    /// When it last changed, in milliseconds since 1970.
    pub last_update_ms: i64,
    /// When the transaction began; -1 if none has.
    pub start_ms: i64,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A transactional id.
    Transaction(&'a str),
    /// Of a later version: to be passed over.
    Unknown(i16),
}

impl<'a> Key<'a> {
    /// Reads a record's key.
    ///
    /// # Errors
    /// If the bytes do not follow the schema.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.i16()? {
            KEY_VERSION => Ok(Self::Transaction(reader.string(false)?)),
            version => Ok(Self::Unknown(version)),
        }
    }
}

/// Writes the key of a transactional id behind what is in `out`.
pub fn put_key(out: &mut BytesMut, id: &str) {
    out.put_i16(KEY_VERSION);
    put_string(out, id);
}

/// Writes a value behind what is in `out`. Kafka groups the partitions by topic in no order; here they are sorted.
pub fn put_value(out: &mut BytesMut, value: &TxnValue) {
    out.put_i16(VALUE_VERSION);
    out.put_i64(value.producer.id.get());
    out.put_i16(value.producer.epoch.get());
    out.put_i32(value.timeout_ms);
    out.put_i8(value.state.id());
    if value.state == TxnState::Empty {
        out.put_i32(-1);
    } else {
        put_partitions(out, &value.partitions);
    }
    out.put_i64(value.last_update_ms);
    out.put_i64(value.start_ms);
}

fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<TopicPartition>) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for tp in partitions {
        topics.entry(&tp.topic).or_default().push(tp.partition);
    }
    let count = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
    out.put_i32(count(topics.len()));
    for (topic, partitions) in topics {
        put_string(out, topic);
        out.put_i32(count(partitions.len()));
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
    }
}

/// Reads a value. `intern` gives the shared copy of a topic's name.
///
/// # Errors
/// If the bytes do not follow the schema of the version they name, or it is not known.
pub fn decode_value(bytes: &[u8], mut intern: impl FnMut(&str) -> Arc<str>) -> Result<TxnValue, Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if !(0..=FLEXIBLE_VERSION).contains(&version) {
        return Err(Malformed::Version(version));
    }
    let flexible = version >= FLEXIBLE_VERSION;
    let producer = Producer::new(reader.i64()?, reader.i16()?);
    let timeout_ms = reader.i32()?;
    let state = reader.i8()?;
    let state = TxnState::from_id(state).ok_or(Malformed::Enum(state))?;
    let mut partitions = BTreeSet::new();
    for _ in 0..reader.array_len(flexible)? {
        let topic = intern(reader.string(flexible)?);
        for _ in 0..reader.array_len(flexible)? {
            partitions.insert(TopicPartition::new(Arc::clone(&topic), reader.i32()?));
        }
        reader.skip_tags(flexible)?;
    }
    let (last_update_ms, start_ms) = (reader.i64()?, reader.i64()?);
    // Among the tags of version 1 are the producer ids before and after, which only version 2 of transactions uses.
    reader.skip_tags(flexible)?;
    Ok(TxnValue { producer, timeout_ms, state, partitions, last_update_ms, start_ms })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for word in text.split_whitespace() {
            match word.strip_prefix('"') {
                Some(quoted) => out.extend_from_slice(quoted.trim_end_matches('"').as_bytes()),
                None => out.extend(
                    (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).expect("hex")),
                ),
            }
        }
        out
    }

    fn value(state: TxnState, partitions: &[(&str, i32)]) -> TxnValue {
        TxnValue {
            producer: Producer::new(0x0102, 7),
            timeout_ms: 60_000,
            state,
            partitions: partitions.iter().map(|&(topic, partition)| TopicPartition::new(topic, partition)).collect(),
            last_update_ms: 0x0a0b,
            start_ms: 0x0c,
        }
    }

    fn encoded(value: &TxnValue) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_value(&mut out, value);
        out.to_vec()
    }

    fn decoded(bytes: &[u8]) -> Result<TxnValue, Malformed> {
        decode_value(bytes, |topic| Arc::from(topic))
    }

    #[test]
    fn keys_are_the_original_s() {
        let mut out = BytesMut::new();
        put_key(&mut out, "txn");
        assert_eq!(out, golden(r#"0000 0003 "txn""#));
        assert_eq!(Key::decode(&out), Ok(Key::Transaction("txn")));
        assert_eq!(Key::decode(&golden("0001 00")), Ok(Key::Unknown(1)));
        assert_eq!(Key::decode(&[0]), Err(Malformed::Truncated));
    }

    #[test]
    fn values_are_of_version_0() {
        let ongoing = value(TxnState::Ongoing, &[("b", 0), ("a", 2), ("a", 1)]);
        let bytes = golden(
            r#"0000 0000000000000102 0007 0000ea60 01
               00000002 0001 "a" 00000002 00000001 00000002 0001 "b" 00000001 00000000
               0000000000000a0b 000000000000000c"#,
        );
        assert_eq!(encoded(&ongoing), bytes);
        assert_eq!(decoded(&bytes), Ok(ongoing));
    }

    #[test]
    fn nobody_takes_part_in_an_empty_one_and_none_are_left_in_a_complete_one() {
        let empty = TxnValue { start_ms: -1, ..value(TxnState::Empty, &[]) };
        let bytes = golden("0000 0000000000000102 0007 0000ea60 00 ffffffff 0000000000000a0b ffffffffffffffff");
        assert_eq!(encoded(&empty), bytes);
        assert_eq!(decoded(&bytes), Ok(empty));
        let complete = value(TxnState::CompleteCommit, &[]);
        let bytes = golden("0000 0000000000000102 0007 0000ea60 04 00000000 0000000000000a0b 000000000000000c");
        assert_eq!(encoded(&complete), bytes);
        assert_eq!(decoded(&bytes), Ok(complete));
    }

    #[test]
    fn the_flexible_version_is_read() {
        let bytes = golden(
            r#"0001 0000000000000102 0007 0000ea60 02 02 02 "a" 03 00000001 00000002 00
               0000000000000a0b 000000000000000c 02 00 08 0000000000000001 02 02 0002"#,
        );
        assert_eq!(decoded(&bytes), Ok(value(TxnState::PrepareCommit, &[("a", 1), ("a", 2)])));
        let without = golden("0001 0000000000000102 0007 0000ea60 04 01 0000000000000a0b 000000000000000c 00");
        assert_eq!(decoded(&without), Ok(value(TxnState::CompleteCommit, &[])));
        assert_eq!(decoded(&golden("0002")), Err(Malformed::Version(2)));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let mut bytes = encoded(&value(TxnState::Ongoing, &[("a", 1)]));
        for len in 0..bytes.len() {
            assert!(decoded(&bytes[..len]).is_err(), "{len}");
        }
        bytes[16] = 9;
        assert_eq!(decoded(&bytes), Err(Malformed::Enum(9)));
        bytes[16] = 1;
        bytes[17] = 0x7f;
        assert_eq!(decoded(&bytes), Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn values_read_back(
            id in any::<i64>(), epoch in any::<i16>(), timeout_ms in any::<i32>(), state in 0_i8..8,
            topics in prop::collection::btree_set(("[a-z]{1,9}", any::<i32>()), 0..20),
            last_update_ms in any::<i64>(), start_ms in any::<i64>(),
        ) {
            let state = TxnState::from_id(state).expect("a state");
            let topics = if state == TxnState::Empty { BTreeSet::new() } else { topics };
            let partitions = topics.into_iter().map(|(topic, partition)| TopicPartition::new(topic, partition)).collect();
            let value =
                TxnValue { producer: Producer::new(id, epoch), timeout_ms, state, partitions, last_update_ms, start_ms };
            prop_assert_eq!(decoded(&encoded(&value)), Ok(value));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decoded(&bytes);
            let _ = Key::decode(&bytes);
        }
    }
}
