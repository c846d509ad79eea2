//! The messages of magic 0 and 1, which came before record batches (KIP-32, KIP-31): a view of one, and writing sets of
//! them. A compressed message holds a message set in its value; see [`deep`](super::deep) for reading those.

use bytes::Bytes;

use super::batch::{LOG_OVERHEAD, MAGIC_OFFSET, crc32, field};
use super::compress::{self, Codec, CompressError, Compression};
use crate::base::ids::Offset;

/// Bytes of a message of magic 0 beside its key and value, behind offset and size.
const OVERHEAD_V0: usize = 14;
/// Bytes of the timestamp that magic 1 added.
const TIMESTAMP_LEN: usize = 8;
/// Where a message's CRC stands in its entry; it covers what follows it.
const CRC_OFFSET: usize = 12;
/// Where the attributes stand.
const ATTRIBUTES_OFFSET: usize = 17;
/// Where the timestamp of magic 1 stands.
const TIMESTAMP_OFFSET: usize = 18;
/// The attribute bit for timestamps set by the broker.
const TIMESTAMP_TYPE_MASK: u8 = 0x08;

/// Why a message could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LegacyError {
    /// A length in it goes beyond its end.
    #[error("a message's fields go beyond its end")]
    Fields,
    /// Its magic is neither 0 nor 1.
    #[error("a message has magic {0}")]
    Magic(i8),
    /// A compressed message without a value.
    #[error("a compressed message has no value")]
    NullValue,
    /// A compressed message that holds none.
    #[error("a compressed message holds no message")]
    Empty,
    /// A compressed message inside a compressed one.
    #[error("a compressed message holds another one")]
    Nested,
    /// A codec that does not exist, or zstd, which needs magic 2.
    #[error("a message of magic {magic} has the compression type {codec}")]
    Codec {
        /// The message's magic.
        magic: i8,
        /// The codec's number.
        codec: u8,
    },
}

/// A message as a view of its entry. Its CRC has not been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyMessage<'a> {
    /// The offset in its entry.
    pub offset: Offset,
    /// 0 or 1.
    pub magic: i8,
    attributes: u8,
    /// Its timestamp; -1 for magic 0.
    pub timestamp: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, if it has one: for a compressed message the messages in it.
    pub value: Option<&'a [u8]>,
    entry: &'a [u8],
}

impl<'a> LegacyMessage<'a> {
    /// Reads the message that fills `entry`, which begins with its offset.
    ///
    /// # Errors
    /// [`LegacyError`].
    pub fn read(entry: &'a [u8]) -> Result<Self, LegacyError> {
        if entry.len() < LOG_OVERHEAD + OVERHEAD_V0 {
            return Err(LegacyError::Fields);
        }
        let magic = i8::from_be_bytes([entry[MAGIC_OFFSET]]);
        let (timestamp, mut at) = match magic {
            0 => (-1, TIMESTAMP_OFFSET),
            1 if entry.len() < LOG_OVERHEAD + OVERHEAD_V0 + TIMESTAMP_LEN => return Err(LegacyError::Fields),
            1 => (i64::from_be_bytes(field(entry, TIMESTAMP_OFFSET)), TIMESTAMP_OFFSET + TIMESTAMP_LEN),
            _ => return Err(LegacyError::Magic(magic)),
        };
        let key = take(entry, &mut at)?;
        let value = take(entry, &mut at)?;
        let offset = Offset(i64::from_be_bytes(field(entry, 0)));
        Ok(Self { offset, magic, attributes: entry[ATTRIBUTES_OFFSET], timestamp, key, value, entry })
    }

    /// The codec.
    ///
    /// # Errors
    /// [`LegacyError::Codec`].
    pub fn codec(&self) -> Result<Codec, LegacyError> {
        let id = self.attributes & 0x07;
        match Codec::from_id(i16::from(id)) {
            None | Some(Codec::Zstd) => Err(LegacyError::Codec { magic: self.magic, codec: id }),
            Some(codec) => Ok(codec),
        }
    }

    /// Whether the broker set its timestamp.
    pub fn is_log_append_time(&self) -> bool {
        self.magic > 0 && self.attributes & TIMESTAMP_TYPE_MASK != 0
    }

    /// Whether its CRC is right.
    pub fn crc_is_valid(&self) -> bool {
        crc32(&self.entry[MAGIC_OFFSET..]) == u32::from_be_bytes(field(self.entry, CRC_OFFSET))
    }
}

fn take<'a>(entry: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, LegacyError> {
    if entry.len() - *at < 4 {
        return Err(LegacyError::Fields);
    }
    let len = i32::from_be_bytes(field(entry, *at));
    *at += 4;
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    let bytes = entry.get(*at..).and_then(|rest| rest.get(..len)).ok_or(LegacyError::Fields)?;
    *at += len;
    Ok(Some(bytes))
}

/// Gives the message in `entry` another offset, and for magic 1 another timestamp and type, with the CRC that goes with
/// them. The entry must have been read as a message before.
pub fn patch(entry: &mut [u8], offset: Offset, stamp: Option<(i64, bool)>) {
    entry[..8].copy_from_slice(&offset.get().to_be_bytes());
    let Some((timestamp, log_append_time)) = stamp.filter(|_| entry[MAGIC_OFFSET] == 1) else { return };
    let attributes = entry[ATTRIBUTES_OFFSET];
    let typed = if log_append_time { attributes | TIMESTAMP_TYPE_MASK } else { attributes & !TIMESTAMP_TYPE_MASK };
    entry[ATTRIBUTES_OFFSET] = typed;
    entry[TIMESTAMP_OFFSET..TIMESTAMP_OFFSET + TIMESTAMP_LEN].copy_from_slice(&timestamp.to_be_bytes());
    seal(entry);
}

fn seal(entry: &mut [u8]) {
    let crc = crc32(&entry[MAGIC_OFFSET..]);
    entry[CRC_OFFSET..MAGIC_OFFSET].copy_from_slice(&crc.to_be_bytes());
}

/// What a written message has beside key and value.
#[derive(Debug, Clone, Copy)]
struct Head {
    magic: i8,
    offset: Offset,
    timestamp: i64,
    codec: Codec,
    log_append_time: bool,
}

fn put(out: &mut Vec<u8>, head: Head, key: Option<&[u8]>, value: Option<&[u8]>) {
    let start = out.len();
    out.extend_from_slice(&head.offset.get().to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.push(head.magic.cast_unsigned());
    let typed = if head.log_append_time && head.magic > 0 { TIMESTAMP_TYPE_MASK } else { 0 };
    out.push(u8::try_from(head.codec.id()).unwrap_or(0) | typed);
    if head.magic > 0 {
        out.extend_from_slice(&head.timestamp.to_be_bytes());
    }
    for bytes in [key, value] {
        let len = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(bytes.unwrap_or_default());
    }
    let size = i32::try_from(out.len() - start - LOG_OVERHEAD).unwrap_or(i32::MAX);
    out[start + 8..start + LOG_OVERHEAD].copy_from_slice(&size.to_be_bytes());
    seal(&mut out[start..]);
}

/// Writes a message set: one message for each record, or one compressed message around them all.
#[derive(Debug)]
pub struct LegacyBuilder {
    magic: i8,
    compression: Compression,
    log_append_time: Option<i64>,
    base_offset: Option<Offset>,
    last_offset: Offset,
    max_timestamp: i64,
    set: Vec<u8>,
}

impl LegacyBuilder {
    /// An empty set of `magic` (0 or 1); with `log_append_time` all messages bear that time.
    pub fn new(magic: i8, compression: Compression, log_append_time: Option<i64>) -> Self {
        let (base_offset, last_offset) = (None, Offset(-1));
        Self { magic, compression, log_append_time, base_offset, last_offset, max_timestamp: -1, set: Vec::new() }
    }

    /// Appends a record; offsets must grow.
    pub fn append(&mut self, offset: Offset, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let base = *self.base_offset.get_or_insert(offset);
        let relative = self.magic > 0 && self.compression.codec != Codec::None;
        let head = Head {
            magic: self.magic,
            offset: if relative { Offset(offset.since(base)) } else { offset },
            timestamp: self.log_append_time.unwrap_or(timestamp),
            codec: Codec::None,
            log_append_time: self.log_append_time.is_some(),
        };
        put(&mut self.set, head, key, value);
        self.last_offset = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.base_offset.is_none()
    }

    /// Finishes the set.
    ///
    /// # Errors
    /// [`CompressError::Refused`].
    pub fn build(self) -> Result<Bytes, CompressError> {
        if self.compression.codec == Codec::None || self.is_empty() {
            return Ok(self.set.into());
        }
        let mut packed = Vec::new();
        compress::compress(self.compression, self.magic, &self.set, &mut packed)?;
        let head = Head {
            magic: self.magic,
            offset: self.last_offset,
            timestamp: self.log_append_time.unwrap_or(self.max_timestamp),
            codec: self.compression.codec,
            log_append_time: self.log_append_time.is_some(),
        };
        let mut out = Vec::with_capacity(packed.len() + 64);
        put(&mut out, head, None, Some(&packed));
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::batch::entry_is_valid;

    proptest! {
        #[test]
        fn messages_read_back(magic in 0_i8..2, offset: i64, timestamp: i64, key: Option<Vec<u8>>, value: Option<Vec<u8>>) {
            let mut builder = LegacyBuilder::new(magic, Compression::default(), None);
            builder.append(Offset(offset), timestamp, key.as_deref(), value.as_deref());
            let set = builder.build().expect("builds");
            prop_assert!(entry_is_valid(&set));
            let message = LegacyMessage::read(&set).expect("reads");
            prop_assert!(message.crc_is_valid());
            prop_assert_eq!((message.offset, message.magic), (Offset(offset), magic));
            prop_assert_eq!(message.timestamp, if magic == 0 { -1 } else { timestamp });
            prop_assert_eq!((message.key, message.value), (key.as_deref(), value.as_deref()));
        }

        #[test]
        fn random_bytes_never_panic(entry: Vec<u8>, magic in 0_u8..3) {
            let mut entry = entry;
            if let Some(byte) = entry.get_mut(MAGIC_OFFSET) {
                *byte = magic;
            }
            if let Ok(message) = LegacyMessage::read(&entry) {
                let _ = (message.codec(), message.crc_is_valid());
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol_guide() {
        let mut builder = LegacyBuilder::new(1, Compression::default(), None);
        builder.append(Offset(3), 5, Some(b"k"), None);
        let set = builder.build().expect("builds");
        let expected = [
            &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 23][..],
            &set[12..16],
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, b'k', 0xff, 0xff, 0xff, 0xff],
        ];
        assert_eq!(set[..], expected.concat());
    }

    #[test]
    fn a_patched_message_is_valid() {
        let mut builder = LegacyBuilder::new(1, Compression::default(), None);
        builder.append(Offset(3), 5, Some(b"k"), Some(b"v"));
        let mut set = builder.build().expect("builds").to_vec();
        patch(&mut set, Offset(8), Some((77, true)));
        let message = LegacyMessage::read(&set).expect("reads");
        assert!(message.crc_is_valid() && message.is_log_append_time());
        assert_eq!((message.offset, message.timestamp), (Offset(8), 77));
    }
}
