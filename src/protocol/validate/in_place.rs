//! The way of a magic-2 batch whose records need not change: only its header is written anew.

use smallvec::smallvec;

use super::scan::{Faults, summarize};
use super::{Entry, TimestampType, ValidateContext, ValidateError, Validated, ValidatedBatch};
use crate::base::ids::Offset;
use crate::protocol::batch::{ATTRIBUTES_OFFSET, BatchHeader, HEADER_LEN, TIMESTAMP_TYPE_MASK, crc32c_of};
use crate::protocol::compress::Codec;
use crate::protocol::records::Records;

/// Checks the one batch's records and writes its header anew.
pub(super) fn assign(entry: &Entry, ctx: &ValidateContext) -> Result<Validated, ValidateError> {
    let body = entry.bytes.slice(HEADER_LEN..);
    if entry.codec != Codec::None {
        return Err(ValidateError::invalid("compressed records are not there yet"));
    }
    let summary = summarize(&entry.header, &body)?;
    if !summary.is_clean(&entry.header, ctx) {
        find_faults(&entry.header, crate::protocol::records::records(&body, entry.header.record_count), ctx)?;
    }
    if !summary.offsets_are_in_order() {
        return Err(ValidateError::invalid("the offset deltas of a batch must count up from 0"));
    }
    let max_timestamp =
        if entry.header.is_log_append_time() { entry.header.max_timestamp } else { summary.max_timestamp };
    let header = final_header(&entry.header, &body, max_timestamp, ctx);
    Ok(finish(ValidatedBatch::new(header, body), entry.codec, ctx))
}

fn find_faults(header: &BatchHeader, records: Records<'_>, ctx: &ValidateContext) -> Result<(), ValidateError> {
    let mut faults = Faults::default();
    for record in records {
        let record = record?;
        let timestamp = match header.is_log_append_time() {
            true => header.max_timestamp,
            false => header.base_timestamp.wrapping_add(record.timestamp_delta),
        };
        faults.check(header.is_log_append_time(), timestamp, record.key.is_some(), ctx);
    }
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
