//! The way of records that cannot stay as they are: another magic, another codec, or messages of magic 0 and 1, whose
//! offsets lie in each of them. All of this copies.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::scan::Faults;
use super::{Entry, EntryList, TimestampType, ValidateContext, ValidateError, Validated, ValidatedBatch, empty};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::protocol::batch::{self, BatchHeader};
use crate::protocol::builder::{BatchBuilder, BatchSpec};
use crate::protocol::compress::{Codec, CompressError, Compression};
use crate::protocol::deep::{DeepError, DeepRecord, for_each_record};
use crate::protocol::legacy::{self, LegacyBuilder};

impl From<DeepError> for ValidateError {
    fn from(error: DeepError) -> Self {
        match error {
            DeepError::Compress(error) => error.into(),
            DeepError::Entry(error) => error.into(),
            other => Self::invalid(other.to_string()),
        }
    }
}

/// Records that are written anew are held in memory, unlike those that are only checked: so many bytes are allowed at
/// least, and so many times the largest batch.
const HELD_BYTES: usize = 64 << 20;
const HELD_BATCHES: usize = 64;

fn limit(ctx: &ValidateContext) -> usize {
    ctx.max_message_bytes.saturating_mul(HELD_BATCHES).max(HELD_BYTES).min(ctx.max_decompressed_bytes)
}

/// Converts and compresses as the topic wants.
pub(super) fn assign(
    entries: &EntryList,
    source: Codec,
    target: Compression,
    ctx: &ValidateContext,
) -> Result<Validated, ValidateError> {
    if ctx.magic < 2 && target.codec == Codec::Zstd {
        return Err(ValidateError::new(
            ErrorCode::UnsupportedCompressionType,
            format!("message format {} has no zstd", ctx.magic),
        ));
    }
    let same_magic = entries[0].header.magic == ctx.magic;
    let mut result = match (same_magic, source, target.codec) {
        (true, Codec::None, Codec::None) if ctx.magic < 2 => stamp_messages(entries, ctx)?,
        (true, source, codec) if ctx.magic == 1 && source == codec => stamp_wrapper(&entries[0], target, ctx)?,
        _ => rebuild(entries, target, ctx)?,
    };
    result.source_codec = source;
    Ok(result)
}

/// Uncompressed messages that only get their offsets, and their timestamps if the broker sets those.
fn stamp_messages(entries: &EntryList, ctx: &ValidateContext) -> Result<Validated, ValidateError> {
    let stamped = ctx.timestamp_type == TimestampType::LogAppendTime;
    let mut result = empty(ctx);
    let mut offset = ctx.next_offset;
    for entry in entries {
        let mut timestamp = -1;
        check_entry(entry, ctx, |record| {
            timestamp = record.timestamp;
            ControlFlow::Continue(())
        })?;
        let stamp = if stamped { ctx.now_ms } else { timestamp };
        let mut bytes = entry.bytes.to_vec();
        legacy::patch(&mut bytes, offset, Some((stamp, stamped)));
        push(&mut result, &bytes.into(), 1)?;
        offset = offset.next();
    }
    if stamped && ctx.magic > 0 {
        result.offset_of_max_timestamp = ctx.next_offset;
        result.log_append_time = Some(ctx.now_ms);
    }
    Ok(result)
}

/// A compressed message of magic 1: it stays, if the offsets inside count up from 0 as they should. Some old clients get
/// those wrong, and then it is written anew.
fn stamp_wrapper(entry: &Entry, target: Compression, ctx: &ValidateContext) -> Result<Validated, ValidateError> {
    let stamped = ctx.timestamp_type == TimestampType::LogAppendTime;
    let (mut count, mut max_timestamp, mut in_order) = (0_i64, -1, true);
    check_entry(entry, ctx, |record| {
        in_order &= record.offset.get() == count;
        count += 1;
        max_timestamp = max_timestamp.max(record.timestamp);
        ControlFlow::Continue(())
    })?;
    if !in_order {
        return rebuild(&EntryList::from_iter([entry.clone()]), target, ctx);
    }
    let mut bytes = entry.bytes.to_vec();
    let last = ctx.next_offset.plus(count - 1);
    legacy::patch(&mut bytes, last, Some((if stamped { ctx.now_ms } else { max_timestamp }, stamped)));
    let mut result = empty(ctx);
    push(&mut result, &bytes.into(), count)?;
    result.log_append_time = stamped.then_some(ctx.now_ms);
    Ok(result)
}

/// Checks every record of one entry and passes it on; the error, if any record was at fault, comes at its end.
fn check_entry(
    entry: &Entry,
    ctx: &ValidateContext,
    mut each: impl FnMut(&DeepRecord<'_>) -> ControlFlow<ValidateError>,
) -> Result<(), ValidateError> {
    let mut faults = Faults::default();
    let header = &entry.header;
    let wrapped = header.magic < 2 && entry.codec != Codec::None;
    let stopped = for_each_record(&entry.bytes, limit(ctx), |record| {
        if let Some(message) = record.message.filter(|_| wrapped) {
            if message.magic != header.magic {
                faults.wrong_magic(message.magic, header.magic);
                return ControlFlow::Continue(());
            }
            if !message.crc_is_valid() {
                let text = "a message inside a compressed one is corrupt: its CRC is wrong";
                return ControlFlow::Break(ValidateError::new(ErrorCode::CorruptMessage, text));
            }
        }
        let sound = faults.check(header.is_log_append_time(), record.timestamp, record.key.is_some(), ctx);
        if sound { each(record) } else { ControlFlow::Continue(()) }
    })?;
    match stopped {
        Some(error) => Err(error),
        None => faults.finish(),
    }
}

/// Writes all records anew, into one batch or message set.
fn rebuild(entries: &EntryList, target: Compression, ctx: &ValidateContext) -> Result<Validated, ValidateError> {
    let mut writer = Writer::new(&entries[0].header, target, ctx);
    let mut offset = ctx.next_offset;
    let limit = limit(ctx);
    for entry in entries {
        check_entry(entry, ctx, |record| {
            if offset.since(ctx.next_offset) >= i64::from(i32::MAX) || writer.len() > limit {
                return ControlFlow::Break(CompressError::TooLarge(limit).into());
            }
            writer.append(offset, record);
            offset = offset.next();
            ControlFlow::Continue(())
        })?;
    }
    let bytes = writer.build()?;
    let count = offset.since(ctx.next_offset);
    let mut result = empty(ctx);
    let single = ctx.magic == 2 || target.codec != Codec::None;
    for entry in batch::entries(&bytes) {
        let (header, entry) = entry?;
        super::check_size(header.size, ctx)?;
        push(&mut result, &bytes.slice_ref(entry), if single { count } else { 1 })?;
    }
    result.rewritten = true;
    result.log_append_time = (ctx.timestamp_type == TimestampType::LogAppendTime).then_some(ctx.now_ms);
    Ok(result)
}

/// Adds a finished entry of `count` records to what is returned.
fn push(result: &mut Validated, bytes: &Bytes, count: i64) -> Result<(), ValidateError> {
    let mut header =
        BatchHeader::read_any(bytes).ok_or_else(|| ValidateError::invalid("a converted batch cannot be read"))?;
    if header.magic < 2 {
        // A message's own offset is that of its last record.
        header.base_offset = header.base_offset.plus(1 - count);
        header.record_count = i32::try_from(count).unwrap_or(i32::MAX);
        header.last_offset_delta = header.record_count - 1;
        header.leader_epoch = LeaderEpoch::NONE;
    }
    if header.max_timestamp > result.max_timestamp {
        result.max_timestamp = header.max_timestamp;
        result.offset_of_max_timestamp = header.last_offset();
    }
    result.last_offset = header.last_offset();
    result.record_count += count;
    result.size += bytes.len();
    result.batches.push(ValidatedBatch::whole(header, bytes.clone()));
    Ok(())
}

/// Where rebuilt records go.
enum Writer {
    Batch(Box<BatchBuilder>),
    Messages(LegacyBuilder, usize),
}

impl Writer {
    fn new(first: &BatchHeader, compression: Compression, ctx: &ValidateContext) -> Self {
        let log_append_time = (ctx.timestamp_type == TimestampType::LogAppendTime).then_some(ctx.now_ms);
        if ctx.magic < 2 {
            return Self::Messages(LegacyBuilder::new(ctx.magic, compression, log_append_time), 0);
        }
        Self::Batch(Box::new(BatchBuilder::new(BatchSpec {
            base_offset: ctx.next_offset,
            leader_epoch: ctx.leader_epoch,
            compression,
            log_append_time,
            producer_id: first.producer_id,
            producer_epoch: first.producer_epoch,
            base_sequence: first.base_sequence,
            transactional: first.is_transactional(),
            control: first.is_control(),
            delete_horizon: None,
        })))
    }

    fn append(&mut self, offset: Offset, record: &DeepRecord<'_>) {
        match self {
            Self::Batch(builder) => {
                builder.append_at(offset, record.timestamp, record.key, record.value, record.headers);
            }
            Self::Messages(builder, size) => {
                *size += 34 + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                builder.append(offset, record.timestamp, record.key, record.value);
            }
        }
    }

    /// How many bytes there are before compression.
    fn len(&self) -> usize {
        match self {
            Self::Batch(builder) => builder.uncompressed_size(),
            Self::Messages(_, size) => *size,
        }
    }

    fn build(self) -> Result<Bytes, CompressError> {
        match self {
            Self::Batch(builder) => Ok(builder.build()?.1),
            Self::Messages(builder, _) => builder.build(),
        }
    }
}
