//! Down-conversion: records as an old consumer can read them (Kafka's `RecordsUtil.downConvert` and
//! `LazyDownConversionRecords`). What goes up, on the way into the log, is in [`validate`](super::validate).

use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::{self, BatchHeader, HEADER_LEN};
use super::builder::{BatchBuilder, BatchSpec};
use super::compress::{Codec, CompressError, Compression};
use super::deep::{DeepError, for_each_record};
use super::legacy::LegacyBuilder;
use crate::base::error::ErrorCode;
use crate::base::ids::Offset;

/// Why records could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Zstd does not exist below magic 2.
    #[error("batches compressed with zstd cannot be converted for old consumers")]
    Zstd,
    /// A batch could not be read.
    #[error(transparent)]
    Read(#[from] DeepError),
    /// A batch could not be written.
    #[error(transparent)]
    Write(#[from] CompressError),
    /// The conversion would take more memory than allowed, in bytes.
    #[error("the converted records would have more than {0} bytes")]
    TooLarge(usize),
}

impl ConvertError {
    /// The code for the consumer.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Zstd => ErrorCode::UnsupportedCompressionType,
            Self::Read(_) => ErrorCode::CorruptMessage,
            Self::Write(_) | Self::TooLarge(_) => ErrorCode::UnknownServerError,
        }
    }
}

/// The magic a consumer of that Fetch version can read at most: 0 before v2, 1 before v4 (KIP-31, KIP-98).
pub const fn magic_for_fetch(version: i16) -> i8 {
    match version {
        ..=1 => 0,
        2..=3 => 1,
        _ => 2,
    }
}

/// Whether any entry of `records` is of a higher magic than `magic`.
pub fn needs_down_conversion(records: &[u8], magic: i8) -> bool {
    batch::entries(records).flatten().any(|(header, _)| header.magic > magic)
}

/// Converts `records` for a consumer that reads up to `magic` and asked for `fetch_offset`. Offsets stay; control batches
/// go, as do headers below magic 2 and uncompressed records before the fetch offset. Batches of that magic or less are
/// copied. A batch that is not there whole is left out; where that or the control batches leave nothing, a message is told
/// that is longer than the answer, so that the consumer asks for more. At most `limit` bytes are made.
///
/// # Errors
/// [`ConvertError`].
pub fn down_convert(records: &[u8], magic: i8, fetch_offset: Offset, limit: usize) -> Result<Bytes, ConvertError> {
    let mut out = Vec::new();
    for entry in batch::entries(records) {
        let (header, entry) = entry.map_err(DeepError::from)?;
        if header.magic <= magic {
            out.extend_from_slice(entry);
        } else if magic >= 2 || !header.is_control() {
            out.extend_from_slice(&convert_entry(&header, entry, magic, fetch_offset, limit)?);
        }
        if out.len() > limit {
            return Err(ConvertError::TooLarge(limit));
        }
    }
    if out.is_empty() && !records.is_empty() {
        out.extend_from_slice(&overflow_message(records.len()));
    }
    Ok(out.into())
}

fn convert_entry(
    header: &BatchHeader,
    entry: &[u8],
    magic: i8,
    fetch_offset: Offset,
    limit: usize,
) -> Result<Bytes, ConvertError> {
    let codec = Codec::from_id(header.codec()).ok_or(DeepError::Codec(header.codec()))?;
    if codec == Codec::Zstd && magic < 2 {
        return Err(ConvertError::Zstd);
    }
    let stamp = header.is_log_append_time().then_some(header.max_timestamp);
    let mut target = Target::new(magic, codec.into(), stamp);
    let broken = for_each_record(entry, limit, |record| {
        if codec == Codec::None && record.offset < fetch_offset {
            return ControlFlow::Continue(());
        }
        target.append(record.offset, record.timestamp, record.key, record.value);
        if target.len() > limit { ControlFlow::Break(ConvertError::TooLarge(limit)) } else { ControlFlow::Continue(()) }
    })?;
    match broken {
        Some(error) => Err(error),
        None => Ok(target.build()?),
    }
}

/// Where converted records go.
enum Target {
    Legacy(LegacyBuilder, usize),
    Batch(Box<Option<BatchBuilder>>, BatchSpec),
}

impl Target {
    fn new(magic: i8, compression: Compression, log_append_time: Option<i64>) -> Self {
        if magic < 2 {
            return Self::Legacy(LegacyBuilder::new(magic, compression, log_append_time), 0);
        }
        Self::Batch(Box::new(None), BatchSpec { compression, log_append_time, ..BatchSpec::default() })
    }

    fn append(&mut self, offset: Offset, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        match self {
            Self::Legacy(builder, size) => {
                *size += HEADER_LEN + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                builder.append(offset, timestamp, key, value);
            }
            Self::Batch(builder, spec) => builder
                .get_or_insert_with(|| BatchBuilder::new(BatchSpec { base_offset: offset, ..*spec }))
                .append_at(offset, timestamp, key, value, Default::default()),
        }
    }

    /// About how many bytes there are.
    fn len(&self) -> usize {
        match self {
            Self::Legacy(_, size) => *size,
            Self::Batch(builder, _) => builder.as_ref().as_ref().map_or(0, BatchBuilder::uncompressed_size),
        }
    }

    fn build(self) -> Result<Bytes, CompressError> {
        match self {
            Self::Legacy(builder, _) => builder.build(),
            Self::Batch(builder, _) => builder.map_or(Ok(Bytes::new()), |builder| Ok(builder.build()?.1)),
        }
    }
}

/// The start of a message that claims to be longer than what was read.
fn overflow_message(read: usize) -> [u8; batch::LOG_OVERHEAD] {
    let mut message = [0xff; batch::LOG_OVERHEAD];
    let size = i32::try_from(read.saturating_add(1).max(HEADER_LEN)).unwrap_or(i32::MAX);
    message[8..].copy_from_slice(&size.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::records::Headers;

    fn batch(codec: Codec, base: i64, control: bool) -> Bytes {
        let spec = BatchSpec { base_offset: Offset(base), compression: codec.into(), control, ..BatchSpec::default() };
        let mut builder = BatchBuilder::new(spec);
        builder.append_with_headers(100, Some(b"k"), Some(b"one"), [(&b"h"[..], None)]);
        builder.append_at(Offset(base + 5), 200, None, Some(b"two"), Headers::default());
        builder.build().expect("builds").1
    }

    type Plain = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

    fn read(set: &[u8], magic: i8) -> Vec<Plain> {
        let mut found = Vec::new();
        for entry in batch::entries(set) {
            let (header, entry) = entry.expect("an entry");
            assert_eq!(header.magic, magic);
            assert!(batch::entry_is_valid(entry));
            let visited = for_each_record(entry, 1 << 20, |record| {
                let copy = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                found.push((record.offset.get(), record.timestamp, copy(record.key), copy(record.value)));
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(visited, Ok(None));
        }
        found
    }

    #[test]
    fn batches_become_message_sets() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4] {
            for magic in [0, 1] {
                let set = [batch(codec, 10, false), batch(codec, 16, true), batch(codec, 20, false)].concat();
                let torn = [&set[..], &set[..50]].concat();
                let converted = down_convert(&torn, magic, Offset(15), 1 << 20).expect("converts");
                let time = |time| if magic == 0 { -1 } else { time };
                let all: Vec<Plain> = [10, 20]
                    .into_iter()
                    .flat_map(|base| {
                        let one = (base, time(100), Some(b"k".to_vec()), Some(b"one".to_vec()));
                        [one, (base + 5, time(200), None, Some(b"two".to_vec()))]
                    })
                    .collect();
                // Uncompressed records before the fetch offset are left out.
                let from = usize::from(codec == Codec::None);
                assert_eq!(read(&converted, magic), all[from..]);
                assert_eq!(down_convert(&converted, magic, Offset(0), 1 << 20), Ok(converted));
            }
        }
    }

    #[test]
    fn zstd_and_floods_are_refused() {
        assert_eq!(down_convert(&batch(Codec::Zstd, 0, false), 1, Offset(0), 1 << 20), Err(ConvertError::Zstd));
        assert!(down_convert(&batch(Codec::None, 0, false), 1, Offset(0), 10).is_err());
    }

    #[test]
    fn where_nothing_is_left_the_consumer_is_told_of_more() {
        for records in [batch(Codec::None, 3, true), batch(Codec::None, 3, false).slice(..40)] {
            let converted = down_convert(&records, 1, Offset(0), 1 << 20).expect("converts");
            assert_eq!(converted.len(), 12);
            assert_eq!(batch::entries(&converted).count(), 0);
        }
        assert_eq!(down_convert(&[], 1, Offset(0), 10), Ok(Bytes::new()));
    }
}
