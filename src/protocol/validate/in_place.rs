//! The way of a magic-2 batch whose records need not change: only its header is written anew.

use smallvec::smallvec;

use super::scan::{Faults, Summary};
use super::{Entry, TimestampType, ValidateContext, ValidateError, Validated, ValidatedBatch, stream};
use crate::base::ids::Offset;
use crate::protocol::batch::{ATTRIBUTES_OFFSET, BatchHeader, HEADER_LEN, TIMESTAMP_TYPE_MASK, crc32c_of};
use crate::protocol::compress::Codec;
use crate::protocol::records::{RecordError, records};

/// Checks the one batch's records and writes its header anew.
pub(super) fn assign(entry: &Entry, ctx: &ValidateContext) -> Result<Validated, ValidateError> {
    let header = &entry.header;
    let body = entry.bytes.slice(HEADER_LEN..);
    let mut summary = Summary::new(header);
    for_each(entry, &body, ctx, |timestamp_delta, offset_delta, has_key| {
        summary.add(timestamp_delta, offset_delta, has_key);
    })?;
    if !summary.is_clean(header, ctx) {
        find_faults(entry, &body, ctx)?;
    }
    if !summary.offsets_are_in_order() {
        return Err(ValidateError::invalid("the offset deltas of a batch must count up from 0"));
    }
    let max_timestamp = if header.is_log_append_time() { header.max_timestamp } else { summary.max_timestamp };
    let header = final_header(header, &body, max_timestamp, ctx);
    Ok(finish(ValidatedBatch::new(header, body), entry.codec, ctx))
}

/// Calls `each` with timestamp delta, offset delta and whether there is a key.
#[inline]
fn for_each(
    entry: &Entry,
    body: &[u8],
    ctx: &ValidateContext,
    mut each: impl FnMut(i64, i32, bool),
) -> Result<(), ValidateError> {
    if entry.header.record_count < 0 {
        return Err(RecordError::Count(entry.header.record_count).into());
    }
    if entry.codec != Codec::None {
        return stream::for_each(entry.codec, &entry.header, body, ctx.max_decompressed_bytes, each);
    }
    for record in records(body, entry.header.record_count) {
        let record = record?;
        each(record.timestamp_delta, record.offset_delta, record.key.is_some());
    }
    Ok(())
}

fn find_faults(entry: &Entry, body: &[u8], ctx: &ValidateContext) -> Result<(), ValidateError> {
    let mut faults = Faults::default();
    let stamped = entry.header.is_log_append_time();
    for_each(entry, body, ctx, |timestamp_delta, _, has_key| {
        let timestamp = match stamped {
            true => entry.header.max_timestamp,
            false => entry.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        faults.check(stamped, timestamp, has_key, ctx);
    })?;
    faults.finish()
}

/// The header with offset, epoch, timestamp type, largest timestamp, and the CRC that goes with them.
fn final_header(header: &BatchHeader, body: &[u8], max_timestamp: i64, ctx: &ValidateContext) -> BatchHeader {
    let mut last = *header;
    last.base_offset = ctx.next_offset;
    last.leader_epoch = ctx.leader_epoch;
    match ctx.timestamp_type {
        TimestampType::LogAppendTime => {
            last.attributes |= TIMESTAMP_TYPE_MASK;
            last.max_timestamp = ctx.now_ms;
        }
        TimestampType::CreateTime => {
            last.attributes &= !TIMESTAMP_TYPE_MASK;
            last.max_timestamp = max_timestamp;
        }
    }
    if last.attributes != header.attributes || last.max_timestamp != header.max_timestamp {
        last.crc = crc32c_of(&[&last.to_bytes()[ATTRIBUTES_OFFSET..], body]);
    }
    last
}

/// What is told of a single batch.
pub(super) fn finish(batch: ValidatedBatch, source_codec: Codec, ctx: &ValidateContext) -> Validated {
    let header = batch.header;
    let stamped = ctx.timestamp_type == TimestampType::LogAppendTime;
    Validated {
        first_offset: header.base_offset,
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp,
        offset_of_max_timestamp: if header.max_timestamp >= 0 { header.last_offset() } else { Offset(-1) },
        log_append_time: stamped.then_some(ctx.now_ms),
        record_count: i64::from(header.record_count),
        size: batch.size(),
        rewritten: false,
        source_codec,
        batches: smallvec![batch],
    }
}
