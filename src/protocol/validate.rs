//! What a leader checks and changes in records before they go to the log (Kafka's `LogValidator`, and the checks of
//! `UnifiedLog.analyzeAndValidateRecords` and `ProduceRequest.validateRecords`). Pure: bytes and a context in, batches
//! with their final offsets or an error out.
//!
//! Invariant: when nothing but offsets, leader epoch and timestamp type changes, the records themselves are the caller's
//! bytes, neither copied nor, when uncompressed, touched more than once beside their CRC.

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use super::batch::{self, BatchHeader, HEADER_LEN};
use super::compress::{Codec, Compression};
use super::records::RecordError;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};

mod in_place;
mod rewrite;
mod scan;
mod stream;

/// Whose timestamps a topic keeps (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at the time of the append.
    LogAppendTime,
}

/// Who appends (Kafka's `AppendOrigin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendOrigin {
    /// A producer: all checks.
    #[default]
    Client,
    /// A coordinator of this broker: control batches are allowed, counts are trusted.
    Coordinator,
}

/// How a topic stores batches (`compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetCompression {
    /// As the producer sent them.
    #[default]
    Producer,
    /// With this codec; batches of another codec are compressed anew.
    Fixed(Compression),
}

impl TargetCompression {
    fn of(self, source: Codec) -> Compression {
        match self {
            Self::Producer => source.into(),
            Self::Fixed(compression) => compression,
        }
    }
}

/// What [`validate_and_assign`] needs to know of the partition and the time.
#[derive(Debug, Clone, Copy)]
pub struct ValidateContext {
    /// The time of the append, in milliseconds since 1970.
    pub now_ms: i64,
    /// The offset that the first record gets.
    pub next_offset: Offset,
    /// The leader epoch the batches get.
    pub leader_epoch: LeaderEpoch,
    /// Who appends.
    pub origin: AppendOrigin,
    /// The topic's message format: 2, or 1 and 0 under an old `inter.broker.protocol.version`.
    pub magic: i8,
    /// The topic's `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms` (KIP-937).
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms` (KIP-937).
    pub timestamp_after_max_ms: i64,
    /// The topic's `compression.type` and level.
    pub compression: TargetCompression,
    /// Whether `cleanup.policy` holds `compact`: then every record needs a key.
    pub compacted: bool,
    /// `max.message.bytes`: the largest batch, in bytes.
    pub max_message_bytes: usize,
    /// `segment.bytes`: the largest record set.
    pub max_segment_bytes: usize,
    /// The most that the records of one batch may decompress to, in bytes.
    pub max_decompressed_bytes: usize,
}

/// The default of [`ValidateContext::max_decompressed_bytes`]: what a record set can have at most on the wire.
pub const DEFAULT_MAX_DECOMPRESSED_BYTES: usize = i32::MAX as usize;

impl Default for ValidateContext {
    /// Kafka's defaults, at the start of an empty log.
    fn default() -> Self {
        Self {
            now_ms: 0,
            next_offset: Offset(0),
            leader_epoch: LeaderEpoch(0),
            origin: AppendOrigin::Client,
            magic: 2,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            compression: TargetCompression::Producer,
            compacted: false,
            max_message_bytes: 1_048_588,
            max_segment_bytes: 1 << 30,
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
        }
    }
}

/// One batch as it goes to the log: [`ValidatedBatch::head`], then [`ValidatedBatch::body`].
#[derive(Debug, Clone)]
pub struct ValidatedBatch {
    /// The final header. For a legacy entry (magic 0 or 1) `base_offset` is that of its first record,
    /// `last_offset_delta` leads to that of its last, and `record_count` is known.
    pub header: BatchHeader,
    head: [u8; HEADER_LEN],
    head_len: u8,
    /// What follows the head: the caller's bytes if nothing in them had to change.
    pub body: Bytes,
}

impl ValidatedBatch {
    fn new(header: BatchHeader, body: Bytes) -> Self {
        Self { head: header.to_bytes(), head_len: HEADER_LEN as u8, header, body }
    }

    /// An entry whose bytes stand as they are, head included.
    fn whole(header: BatchHeader, entry: Bytes) -> Self {
        Self { header, head: [0; HEADER_LEN], head_len: 0, body: entry }
    }

    /// The bytes before the body: a magic-2 header, or nothing for an entry that is whole in the body.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// The entry's size in bytes.
    pub fn size(&self) -> usize {
        self.head().len() + self.body.len()
    }
}

/// Checked records with their offsets, to be written in order.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The batches; none if no whole batch was sent.
    pub batches: SmallVec<[ValidatedBatch; 1]>,
    /// The first record's offset; the context's next offset if there is none.
    pub first_offset: Offset,
    /// The last record's offset; one below [`Validated::first_offset`] if there is none.
    pub last_offset: Offset,
    /// The largest timestamp; -1 if none has one.
    pub max_timestamp: i64,
    /// The last offset of the batch that holds the largest timestamp (what the time index points to); -1 if none has one.
    pub offset_of_max_timestamp: Offset,
    /// The broker's time, if the topic keeps that.
    pub log_append_time: Option<i64>,
    /// How many records there are.
    pub record_count: i64,
    /// The size of all batches in bytes.
    pub size: usize,
    /// Whether records were converted or compressed anew.
    pub rewritten: bool,
    /// The codec the producer used.
    pub source_codec: Codec,
}

/// A record that is the reason why its batch was refused (KIP-467: Produce v8 and later tells them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its place in the batch, from 0.
    pub batch_index: i32,
    /// Why.
    pub message: Cow<'static, str>,
}

/// At most so many rejected records are told in one answer.
pub const MAX_REJECTED_RECORDS: usize = 10_000;

/// Why records were refused. Nothing of them may be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValidateError {
    /// The code for the producer.
    pub code: ErrorCode,
    /// The message for the producer, in a sentence without a full stop.
    pub message: Cow<'static, str>,
    /// The records at fault, where it is down to single ones.
    pub rejected: Vec<RejectedRecord>,
}

impl ValidateError {
    fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), rejected: Vec::new() }
    }

    fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }
}

impl From<RecordError> for ValidateError {
    fn from(error: RecordError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<batch::EntryError> for ValidateError {
    fn from(error: batch::EntryError) -> Self {
        Self::new(ErrorCode::CorruptMessage, error.to_string())
    }
}

/// Checks what a Produce request of `version` may hold for one partition: from v3 exactly one batch of magic 2, and zstd
/// only from v7 (`ProduceRequest.validateRecords`). Cheap: reads one header.
///
/// # Errors
/// [`ErrorCode::InvalidRecord`], [`ErrorCode::UnsupportedCompressionType`], or [`ErrorCode::CorruptMessage`] where no
/// batch can begin.
pub fn check_produce(version: i16, records: &[u8]) -> Result<(), ValidateError> {
    if version < 3 {
        return Ok(());
    }
    let mut entries = batch::entries(records);
    let Some(first) = entries.next() else {
        return Err(ValidateError::invalid(format!(
            "a produce request of version {version} must have a record batch for each partition"
        )));
    };
    let (header, _) = first?;
    if header.magic != 2 {
        return Err(ValidateError::invalid(format!(
            "a produce request of version {version} may hold only batches of magic 2, not {}",
            header.magic
        )));
    }
    if version < 7 && header.codec() == Codec::Zstd.id() {
        return Err(ValidateError::new(
            ErrorCode::UnsupportedCompressionType,
            format!("a produce request of version {version} may not use zstd"),
        ));
    }
    if entries.next().is_some() {
        return Err(ValidateError::invalid(format!(
            "a produce request of version {version} may hold only one batch for each partition"
        )));
    }
    Ok(())
}

/// An entry of the record set being checked.
#[derive(Clone)]
struct Entry {
    header: BatchHeader,
    codec: Codec,
    bytes: Bytes,
}

type EntryList = SmallVec<[Entry; 1]>;

/// Checks `records` as a leader does, gives them offsets from `ctx.next_offset` on, and converts or compresses them as
/// the topic wants. A torn batch at the end is dropped.
///
/// # Errors
/// [`ValidateError`] with the code the original would answer with: MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE,
/// CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP, UNSUPPORTED_FOR_MESSAGE_FORMAT, UNSUPPORTED_COMPRESSION_TYPE.
pub fn validate_and_assign(records: Bytes, ctx: &ValidateContext) -> Result<Validated, ValidateError> {
    let entries = check_entries(&records, ctx)?;
    let Some(first) = entries.first() else { return Ok(empty(ctx)) };
    let source = entries.iter().rev().map(|entry| entry.codec).find(|codec| *codec != Codec::None).unwrap_or_default();
    if entries.len() > 1 && (first.header.magic == 2 || source != Codec::None) {
        return Err(ValidateError::invalid("there is more than one compressed batch, or batch of magic 2"));
    }
    for entry in &entries {
        check_batch(&first.header, &entry.header, ctx)?;
    }
    let target = ctx.compression.of(source);
    let keep_control = source == Codec::None && first.header.is_control();
    let validated = if first.header.magic == 2 && ctx.magic == 2 && (target.codec == source || keep_control) {
        in_place::assign(&entries[0], ctx)?
    } else {
        rewrite::assign(&entries, source, target, ctx)?
    };
    if validated.size > ctx.max_segment_bytes {
        return Err(ValidateError::new(
            ErrorCode::RecordListTooLarge,
            format!(
                "the records have {} bytes, more than the segment size of {}",
                validated.size, ctx.max_segment_bytes
            ),
        ));
    }
    Ok(validated)
}

/// Checks what a follower got from its leader: whole entries with right CRCs, offsets and epochs as they are. Nothing is
/// changed; a torn batch at the end is dropped. That offsets continue the log is for the log to check.
///
/// # Errors
/// [`ErrorCode::CorruptMessage`], or [`ErrorCode::InvalidRecord`] where offsets are negative or do not increase.
pub fn validate_replicated(records: &Bytes) -> Result<Validated, ValidateError> {
    let mut batches = SmallVec::new();
    let mut result = empty(&ValidateContext::default());
    let mut last: Option<Offset> = None;
    for entry in batch::entries(records) {
        let (header, bytes) = entry?;
        check_crc(&header, bytes)?;
        if header.base_offset.get() < 0 || header.last_offset() < header.base_offset {
            return Err(ValidateError::invalid(format!("a batch claims to begin at {}", header.base_offset)));
        }
        if last.is_some_and(|last| header.last_offset() <= last) {
            return Err(ValidateError::invalid(format!("offsets do not increase at {}", header.base_offset)));
        }
        if last.is_none() {
            result.first_offset = header.base_offset;
        }
        last = Some(header.last_offset());
        if header.max_timestamp > result.max_timestamp {
            result.max_timestamp = header.max_timestamp;
            result.offset_of_max_timestamp = header.last_offset();
        }
        result.record_count += i64::from(header.record_count.max(0));
        result.size += bytes.len();
        batches.push(ValidatedBatch::whole(header, records.slice_ref(bytes)));
    }
    if let Some(last) = last {
        result.last_offset = last;
    }
    result.batches = batches;
    Ok(result)
}

fn empty(ctx: &ValidateContext) -> Validated {
    Validated {
        batches: SmallVec::new(),
        first_offset: ctx.next_offset,
        last_offset: ctx.next_offset.plus(-1),
        max_timestamp: -1,
        offset_of_max_timestamp: Offset(-1),
        log_append_time: None,
        record_count: 0,
        size: 0,
        rewritten: false,
        source_codec: Codec::None,
    }
}

/// The shallow checks of every entry before any record is read: size, place, CRC, codec.
fn check_entries(records: &Bytes, ctx: &ValidateContext) -> Result<EntryList, ValidateError> {
    let mut list = EntryList::new();
    for entry in batch::entries(records) {
        let (header, bytes) = entry?;
        if header.magic == 2 && ctx.origin == AppendOrigin::Client && header.base_offset.get() != 0 {
            return Err(ValidateError::invalid(format!(
                "the base offset of an appended batch must be 0, not {}",
                header.base_offset
            )));
        }
        check_size(header.size, ctx)?;
        check_crc(&header, bytes)?;
        let codec = Codec::from_id(header.codec())
            .ok_or_else(|| ValidateError::invalid(format!("there is no compression type {}", header.codec())))?;
        list.push(Entry { header, codec, bytes: records.slice_ref(bytes) });
    }
    Ok(list)
}

fn check_size(size: usize, ctx: &ValidateContext) -> Result<(), ValidateError> {
    if size <= ctx.max_message_bytes {
        return Ok(());
    }
    Err(ValidateError::new(
        ErrorCode::MessageTooLarge,
        format!("a batch has {size} bytes, more than the {} that max.message.bytes allows", ctx.max_message_bytes),
    ))
}

fn check_crc(header: &BatchHeader, entry: &[u8]) -> Result<(), ValidateError> {
    if batch::entry_is_valid(entry) {
        return Ok(());
    }
    Err(ValidateError::new(
        ErrorCode::CorruptMessage,
        format!("a record is corrupt: its stored CRC {:#010x} is not that of its bytes", header.crc),
    ))
}

/// The checks of a batch's header (Kafka's `LogValidator.validateBatch`).
fn check_batch(first: &BatchHeader, header: &BatchHeader, ctx: &ValidateContext) -> Result<(), ValidateError> {
    if first.magic != header.magic {
        return Err(ValidateError::invalid(format!(
            "a batch of magic {} follows one of magic {}",
            header.magic, first.magic
        )));
    }
    if ctx.origin == AppendOrigin::Client {
        check_client_batch(header)?;
    }
    if ctx.magic < 2 && (header.is_transactional() || header.has_producer_id()) {
        return Err(ValidateError::new(
            ErrorCode::UnsupportedForMessageFormat,
            format!("idempotent and transactional records do not go with message format {}", ctx.magic),
        ));
    }
    Ok(())
}

fn check_client_batch(header: &BatchHeader) -> Result<(), ValidateError> {
    if header.magic == 2 {
        let count_from_offsets = i64::from(header.last_offset_delta) + 1;
        if count_from_offsets <= 0 {
            return Err(ValidateError::invalid(format!("the last offset delta is {}", header.last_offset_delta)));
        }
        if header.record_count <= 0 {
            return Err(ValidateError::invalid(format!("the record count is {}", header.record_count)));
        }
        if count_from_offsets != i64::from(header.record_count) {
            return Err(ValidateError::invalid(format!(
                "the last offset delta {} and the record count {} contradict each other",
                header.last_offset_delta, header.record_count
            )));
        }
    }
    if header.magic == 2 && header.is_control() {
        return Err(ValidateError::invalid("clients may not write control records"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(ValidateError::invalid(format!(
            "producer {} sent the invalid sequence number {}",
            header.producer_id, header.base_sequence
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
