//! The record batch of magic 2 (KIP-98) as a view over bytes: its header fields, its CRC, walking from batch to batch.
//!
//! The base offset and the partition leader epoch lie outside the CRC, so a leader assigns offsets by writing 12 bytes.

use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes of base offset and length, before every batch and every legacy message of a log.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes of a batch's header up to its first record.
pub const HEADER_LEN: usize = 61;
/// Where the magic byte stands, in every format.
pub const MAGIC_OFFSET: usize = 16;
/// Where the leader epoch stands (4 bytes).
pub const LEADER_EPOCH_OFFSET: usize = 12;
/// Where the CRC stands (4 bytes); it covers everything from [`ATTRIBUTES_OFFSET`] on.
pub const CRC_OFFSET: usize = 17;
/// Where the attributes stand (2 bytes).
pub const ATTRIBUTES_OFFSET: usize = 21;
/// Where the largest timestamp stands (8 bytes).
pub const MAX_TIMESTAMP_OFFSET: usize = 35;

/// The length of the smallest legacy message (magic 0, no key, no value).
const MIN_ENTRY_LENGTH: usize = 14;

/// The attribute bit for timestamps set by the broker (LogAppendTime).
pub const TIMESTAMP_TYPE_MASK: i16 = 0x08;
/// The attribute bit for a batch of a transaction.
pub const TRANSACTIONAL_MASK: i16 = 0x10;
/// The attribute bit for a control batch.
pub const CONTROL_MASK: i16 = 0x20;
/// The attribute bit for a delete horizon in place of the base timestamp.
pub const DELETE_HORIZON_MASK: i16 = 0x40;
/// The attribute bits of the codec.
pub const COMPRESSION_MASK: i16 = 0x07;

/// The fields of a batch header, read once. Plain data: what is in it has not been checked against the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record (as written; compaction may have removed that record).
    pub base_offset: Offset,
    /// Bytes of the whole batch, with the 12 of base offset and length.
    pub size: usize,
    /// The leader epoch under which it was appended.
    pub leader_epoch: LeaderEpoch,
    /// The format: 2, or 0 and 1 for a legacy message (see [`BatchHeader::read_any`]).
    pub magic: i8,
    /// CRC-32C of everything behind it (magic 0 and 1: CRC-32).
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// The last record's offset less the base offset.
    pub last_offset_delta: i32,
    /// The first record's timestamp, or the delete horizon.
    pub base_timestamp: i64,
    /// The largest timestamp in the batch.
    pub max_timestamp: i64,
    /// The idempotent producer's id, or -1.
    pub producer_id: ProducerId,
    /// The idempotent producer's epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number, or -1.
    pub base_sequence: i32,
    /// How many records follow; -1 where it is not known (a compressed legacy message read shallowly).
    pub record_count: i32,
}

/// Reads a fixed-size field; the caller has checked that it is there.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads a magic-2 header. `None` if fewer than [`HEADER_LEN`] bytes are there or the magic is not 2.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_LEN || bytes[MAGIC_OFFSET] != 2 {
            return None;
        }
        let length = i32::from_be_bytes(field(bytes, 8));
        Some(Self {
            base_offset: Offset(i64::from_be_bytes(field(bytes, 0))),
            size: usize::try_from(length).ok()?.checked_add(LOG_OVERHEAD)?,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, LEADER_EPOCH_OFFSET))),
            magic: 2,
            crc: u32::from_be_bytes(field(bytes, CRC_OFFSET)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_OFFSET)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_OFFSET)),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(bytes, 51))),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        })
    }

    /// Reads the header of an entry of any magic. A legacy message is read shallowly, as Kafka's `FileLogInputStream`
    /// does: `base_offset` is the offset in its entry, which for a compressed one is that of its *last* record, the
    /// timestamps are the outer message's (-1 for magic 0), and what the format lacks is -1.
    pub fn read_any(bytes: &[u8]) -> Option<Self> {
        match *bytes.get(MAGIC_OFFSET)? {
            2 => Self::read(bytes),
            magic @ (0 | 1) => Self::read_legacy(bytes, magic),
            _ => None,
        }
    }

    fn read_legacy(bytes: &[u8], magic: u8) -> Option<Self> {
        let overhead = if magic == 0 { 18 } else { 26 };
        if bytes.len() < overhead {
            return None;
        }
        let length = i32::from_be_bytes(field(bytes, 8));
        // Magic 0 has no timestamp and so no type of it.
        let attributes = i16::from(bytes[17] & if magic == 0 { 0x07 } else { 0x0f });
        let timestamp = if magic == 0 { -1 } else { i64::from_be_bytes(field(bytes, 18)) };
        Some(Self {
            base_offset: Offset(i64::from_be_bytes(field(bytes, 0))),
            size: usize::try_from(length).ok()?.checked_add(LOG_OVERHEAD)?,
            leader_epoch: LeaderEpoch::NONE,
            magic: i8::try_from(magic).ok()?,
            crc: u32::from_be_bytes(field(bytes, 12)),
            attributes,
            last_offset_delta: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            record_count: if attributes & COMPRESSION_MASK == 0 { 1 } else { -1 },
        })
    }

    /// Writes the header's bytes, as [`BatchHeader::read`] reads them. The CRC is written as it stands in `self`.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let length = i32::try_from(self.size - LOG_OVERHEAD).unwrap_or(i32::MAX);
        out[0..8].copy_from_slice(&self.base_offset.get().to_be_bytes());
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.get().to_be_bytes());
        out[16] = 2;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.get().to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.get().to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// The last record's offset.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record's.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// The codec's number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; others are invalid.
    pub fn codec(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    /// Whether the broker set the timestamps (LogAppendTime).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_MASK != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_MASK != 0
    }

    /// Whether it holds a transaction marker or another control record.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_MASK != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_MASK != 0
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// The last record's sequence number; sequence numbers wrap from the largest i32 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            self.base_sequence
        } else {
            increment_sequence(self.base_sequence, self.last_offset_delta)
        }
    }
}

/// The sequence number `by` records on, wrapping from the largest i32 to 0 (KIP-98).
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    let wide = i64::from(sequence) + i64::from(by);
    i32::try_from(wide % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}

/// What is wrong with the bytes where an entry should begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The length is less than the smallest message has.
    #[error("record size {0} is less than the smallest message's")]
    TooSmall(i32),
    /// The magic is none of 0, 1, 2.
    #[error("invalid magic {0}")]
    Magic(i8),
}

/// The size in bytes and the magic of the entry (batch or legacy message) at the start of `bytes`; `None` if fewer bytes
/// are there than tell it ([`LOG_OVERHEAD`] + 5). The entry may be longer than `bytes`.
///
/// # Errors
/// [`EntryError`] where no entry can begin like that (Kafka's `ByteBufferLogInputStream::nextBatchSize`).
pub fn peek(bytes: &[u8]) -> Result<Option<(usize, i8)>, EntryError> {
    if bytes.len() < LOG_OVERHEAD {
        return Ok(None);
    }
    let length = i32::from_be_bytes(field(bytes, 8));
    let size = match usize::try_from(length) {
        Ok(length) if length >= MIN_ENTRY_LENGTH => length + LOG_OVERHEAD,
        _ => return Err(EntryError::TooSmall(length)),
    };
    match bytes.get(MAGIC_OFFSET) {
        None => Ok(None),
        Some(&magic @ 0..=1) => Ok(Some((size, i8::from_be_bytes([magic])))),
        // A batch's header does not fit in the length: no batch, whatever its bytes.
        Some(2) if size < HEADER_LEN => Err(EntryError::TooSmall(length)),
        Some(2) => Ok(Some((size, 2))),
        Some(&magic) => Err(EntryError::Magic(i8::from_be_bytes([magic]))),
    }
}

/// Walks from entry to entry of a record set; ends before an entry that is not there whole. Nothing is checked but what
/// [`peek`] checks; after an error it ends.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// The entries of `bytes`.
pub fn entries(bytes: &[u8]) -> Entries<'_> {
    Entries { bytes, position: 0 }
}

impl Entries<'_> {
    /// Where the next entry begins: after a full walk, how many bytes whole entries have.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        match peek(rest) {
            Ok(Some((size, _))) if size <= rest.len() => {
                let entry = &rest[..size];
                let Some(header) = BatchHeader::read_any(entry) else {
                    self.bytes = &self.bytes[..self.position];
                    return Some(Err(EntryError::TooSmall(i32::from_be_bytes(field(rest, 8)))));
                };
                self.position += size;
                Some(Ok((header, entry)))
            }
            Ok(_) => None,
            Err(error) => {
                self.bytes = &self.bytes[..self.position];
                Some(Err(error))
            }
        }
    }
}

/// Whether the CRC of the entry in `entry` (the whole of it), of any magic, is right.
pub fn entry_is_valid(entry: &[u8]) -> bool {
    match entry.get(MAGIC_OFFSET) {
        Some(2) => crc_is_valid(entry),
        Some(0 | 1) => crc32(&entry[16..]) == u32::from_be_bytes(field(entry, 12)),
        _ => false,
    }
}

/// CRC-32 (IEEE), which legacy messages carry.
pub fn crc32(bytes: &[u8]) -> u32 {
    // The upper half of the checksum's u64 is always zero for a 32-bit CRC.
    #[allow(clippy::cast_possible_truncation)]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32;
    crc
}

/// Whether the CRC of the magic-2 batch in `batch` (the whole of it) is right.
pub fn crc_is_valid(batch: &[u8]) -> bool {
    batch.len() >= HEADER_LEN && crc32c(&batch[ATTRIBUTES_OFFSET..]) == u32::from_be_bytes(field(batch, CRC_OFFSET))
}

/// CRC-32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The upper half of the checksum's u64 is always zero for a 32-bit CRC.
    #[allow(clippy::cast_possible_truncation)]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}

/// CRC-32C of several pieces as if they were one.
pub fn crc32c_of(pieces: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    // The upper half of the checksum's u64 is always zero for a 32-bit CRC.
    #[allow(clippy::cast_possible_truncation)]
    let crc = digest.finalize() as u32;
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        let header = BatchHeader {
            base_offset: Offset(7),
            size: 100,
            leader_epoch: LeaderEpoch(3),
            magic: 2,
            crc: 0xdead_beef,
            attributes: 0x1c,
            last_offset_delta: 4,
            base_timestamp: 11,
            max_timestamp: 12,
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(1),
            base_sequence: i32::MAX,
            record_count: 5,
        };
        assert_eq!(BatchHeader::read(&header.to_bytes()), Some(header));
        assert_eq!(header.last_sequence(), 3);
        assert_eq!(BatchHeader::read(&header.to_bytes()[..60]), None);
    }

    #[test]
    fn crc_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn entries_stop_at_a_torn_tail_and_at_nonsense() {
        let mut bytes = vec![0; 14 + 12];
        bytes[11] = 14;
        let one = bytes.clone();
        bytes.extend_from_slice(&one[..20]);
        let mut walk = entries(&bytes);
        assert!(walk.next().is_some_and(|entry| entry.is_ok_and(|(header, _)| header.magic == 0)));
        assert!(walk.next().is_none());
        assert_eq!(walk.position(), one.len());

        bytes[26 + 16] = 3;
        let mut walk = entries(&bytes);
        assert!(walk.next().is_some_and(|entry| entry.is_ok()));
        assert_eq!(walk.next().map(|entry| entry.err()), Some(Some(EntryError::Magic(3))));
        assert!(walk.next().is_none());
        assert_eq!(peek(&[0xff; 17]), Err(EntryError::TooSmall(-1)));
    }
}
