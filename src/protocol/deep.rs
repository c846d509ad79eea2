//! Every record of an entry, whatever its magic and codec, with its offset and timestamp worked out: for conversion, for
//! searching an offset by time, and for the coordinators that read their logs.

use std::ops::ControlFlow;

use super::batch::{self, BatchHeader, EntryError, HEADER_LEN, MAGIC_OFFSET};
use super::compress::{self, Codec, CompressError};
use super::legacy::{LegacyError, LegacyMessage};
use super::records::{Headers, RecordError, records};
use crate::base::ids::Offset;

/// A record with its offset and timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeepRecord<'a> {
    /// Its offset in the log.
    pub offset: Offset,
    /// Its timestamp in milliseconds, of the entry's timestamp type; -1 if it has none.
    pub timestamp: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
    /// Its headers; none before magic 2.
    pub headers: Headers<'a>,
    /// The message it was read from, before magic 2.
    pub message: Option<LegacyMessage<'a>>,
}

/// Why the records of an entry could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeepError {
    /// The entry is no batch or message, or one in it is none.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A record of magic 2 is malformed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A message of magic 0 or 1 is malformed.
    #[error(transparent)]
    Message(#[from] LegacyError),
    /// The records could not be decompressed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// There is no such codec.
    #[error("there is no compression type {0}")]
    Codec(i16),
}

/// Calls `visit` for every record of `entry` (the whole of it) in order until it breaks, and returns what it broke with.
/// What a compressed entry decompresses to is held in memory, at most `limit` bytes. CRCs are not checked.
///
/// # Errors
/// [`DeepError`]; records before the fault have been visited by then.
pub fn for_each_record<B>(
    entry: &[u8],
    limit: usize,
    mut visit: impl FnMut(&DeepRecord<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, DeepError> {
    match entry.get(MAGIC_OFFSET) {
        Some(0 | 1) => visit_legacy(entry, limit, &mut visit),
        _ => visit_batch(entry, limit, &mut visit),
    }
}

fn visit_batch<B>(
    entry: &[u8],
    limit: usize,
    visit: &mut impl FnMut(&DeepRecord<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, DeepError> {
    let header = BatchHeader::read(entry).ok_or(EntryError::TooSmall(0))?;
    let codec = Codec::from_id(header.codec()).ok_or(DeepError::Codec(header.codec()))?;
    let mut unpacked = Vec::new();
    let body = if codec == Codec::None {
        &entry[HEADER_LEN..]
    } else {
        compress::decompress(codec, 2, &entry[HEADER_LEN..], limit, &mut unpacked)?;
        &unpacked
    };
    for record in records(body, header.record_count) {
        let record = record?;
        let deep = DeepRecord {
            offset: Offset(header.base_offset.get().wrapping_add(record.offset_delta.into())),
            timestamp: match header.is_log_append_time() {
                true => header.max_timestamp,
                false => header.base_timestamp.wrapping_add(record.timestamp_delta),
            },
            key: record.key,
            value: record.value,
            headers: record.headers,
            message: None,
        };
        if let ControlFlow::Break(result) = visit(&deep) {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

fn visit_legacy<B>(
    entry: &[u8],
    limit: usize,
    visit: &mut impl FnMut(&DeepRecord<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, DeepError> {
    let outer = LegacyMessage::read(entry)?;
    let codec = outer.codec()?;
    if codec == Codec::None {
        return Ok(match visit(&deep(outer, outer.offset, outer.timestamp)) {
            ControlFlow::Break(result) => Some(result),
            ControlFlow::Continue(()) => None,
        });
    }
    let mut set = Vec::new();
    compress::decompress(codec, outer.magic, outer.value.ok_or(LegacyError::NullValue)?, limit, &mut set)?;
    let base = base_of_inner(&outer, &set)?;
    for inner in batch::entries(&set) {
        let inner = LegacyMessage::read(inner?.1)?;
        if inner.codec()? != Codec::None {
            return Err(LegacyError::Nested.into());
        }
        let timestamp = if outer.is_log_append_time() && inner.magic > 0 { outer.timestamp } else { inner.timestamp };
        if let ControlFlow::Break(result) = visit(&deep(inner, base.plus(inner.offset.get()), timestamp)) {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

/// What the offsets inside a compressed message count from: 0 for magic 0, where they are absolute. In magic 1 the outer
/// offset is that of the last message; some producers leave it 0, and then the inner ones are taken as they are (as
/// Kafka's `AbstractLegacyRecordBatch` does).
fn base_of_inner(outer: &LegacyMessage<'_>, set: &[u8]) -> Result<Offset, DeepError> {
    let mut last = None;
    for inner in batch::entries(set) {
        last = Some(inner?.0.base_offset);
    }
    let last = last.ok_or(LegacyError::Empty)?;
    if outer.magic == 0 || outer.offset.get() == 0 {
        return Ok(Offset(0));
    }
    Ok(Offset(outer.offset.get().wrapping_sub(last.get()).max(0)))
}

fn deep(message: LegacyMessage<'_>, offset: Offset, timestamp: i64) -> DeepRecord<'_> {
    let headers = Headers::default();
    DeepRecord { offset, timestamp, key: message.key, value: message.value, headers, message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::builder::{BatchBuilder, BatchSpec};
    use crate::protocol::legacy::LegacyBuilder;

    const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];

    fn offsets(set: &[u8]) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        for entry in batch::entries(set) {
            let (_, entry) = entry.expect("an entry");
            let visited = for_each_record(entry, 1 << 20, |record| {
                found.push((record.offset.get(), record.timestamp));
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(visited, Ok(None));
        }
        found
    }

    #[test]
    fn offsets_and_timestamps_come_out_of_every_format() {
        for codec in CODECS {
            for magic in [0, 1] {
                let mut builder = LegacyBuilder::new(magic, codec.into(), None);
                for offset in [5, 6, 9] {
                    builder.append(Offset(offset), offset * 10, Some(b"k"), Some(b"v"));
                }
                let time = |time| if magic == 0 { -1 } else { time };
                assert_eq!(offsets(&builder.build().expect("builds")), [(5, time(50)), (6, time(60)), (9, time(90))]);
            }
            let mut stamped = LegacyBuilder::new(1, codec.into(), Some(77));
            stamped.append(Offset(5), 1, None, None);
            stamped.append(Offset(6), 2, None, None);
            assert_eq!(offsets(&stamped.build().expect("builds")), [(5, 77), (6, 77)]);
            let spec = BatchSpec { base_offset: Offset(5), compression: codec.into(), ..BatchSpec::default() };
            let mut batch = BatchBuilder::new(spec);
            batch.append(50, None, None);
            batch.append_at(Offset(9), 90, None, None, Headers::default());
            assert_eq!(offsets(&batch.build().expect("builds").1), [(5, 50), (9, 90)]);
        }
    }

    #[test]
    fn a_visit_may_end_early() {
        let mut batch = BatchBuilder::new(BatchSpec::default());
        batch.append(50, None, None);
        batch.append(90, None, None);
        let (_, bytes) = batch.build().expect("builds");
        let first = for_each_record(&bytes, 0, |record| ControlFlow::Break(record.timestamp));
        assert_eq!(first, Ok(Some(50)));
    }
}
