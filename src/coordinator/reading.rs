//! Reading a partition of an internal topic back, in the order of its log: the walk over the log, and the records of what was
//! read. Knows neither groups nor transactions.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::internal_log::InternalLog;
use super::slots::Home;
use super::wire::Malformed;
use crate::base::error::ErrorCode;
use crate::base::ids::{Offset, TopicPartition};
use crate::protocol::batch::{BatchHeader, HEADER_LEN, crc_is_valid, entries};
use crate::protocol::compress::{self, Codec, CompressError};
use crate::protocol::records::{Record, records};

/// How often a long loading says how far it has come.
pub const REPORT: Duration = Duration::from_secs(5);
/// The most that one batch of an internal topic may decompress to, in bytes. It was written by a coordinator; but the disk
/// may lie.
const MAX_BATCH: usize = 256 << 20;

/// How far a partition was read.
#[derive(Debug, Clone, Copy)]
pub struct ReadUp {
    /// The log's end.
    pub end: Offset,
    /// How many records there were.
    pub records: u64,
}

/// Hands on the records of a partition from its start to its end, read in chunks of about `max_bytes`, as long as `goes_on`;
/// `what` it holds is logged. What cannot be read is passed over with a warning, as one bad record must not take the others
/// down.
///
/// # Errors
/// As [`InternalLog::read`].
pub fn read_all(
    log: &dyn InternalLog,
    home: &Home,
    what: &str,
    max_bytes: usize,
    goes_on: impl Fn() -> bool,
    mut take: impl FnMut(&BatchHeader, Offset, &Record<'_>) -> Result<(), Malformed>,
) -> Result<ReadUp, ErrorCode> {
    let tp = &home.tp;
    let (mut next, mut end) = log.offset_range(tp)?;
    debug!(partition = %tp, epoch = %home.epoch, from = %next, to = %end, "loading {what}");
    let (mut reported, mut records) = (Instant::now(), 0);
    while next < end && goes_on() {
        let chunk = log.read(tp, next, max_bytes)?;
        let reached = each_batch(tp, &chunk, next, |header, bytes| {
            records_of(tp, header, bytes, |offset, record| {
                records += 1;
                take(header, offset, record)
            });
        });
        if reached <= next {
            // Compaction may have taken the last records before the end.
            break;
        }
        next = reached;
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            info!(partition = %tp, at = %next, to = %end, records, "loading {what}");
        }
        if next >= end {
            end = log.offset_range(tp)?.1;
        }
    }
    Ok(ReadUp { end, records })
}

/// Hands on the batches of `chunk` from `from` on. Gives the offset after the last; `from` if there was none.
fn each_batch(tp: &TopicPartition, chunk: &[u8], from: Offset, mut take: impl FnMut(&BatchHeader, &[u8])) -> Offset {
    let mut next = from;
    for entry in entries(chunk) {
        let Ok((header, bytes)) = entry else {
            error!(partition = %tp, at = %next, "no record batch where one should begin");
            break;
        };
        if header.next_offset() <= from {
            continue;
        }
        next = header.next_offset();
        take(&header, bytes);
    }
    next
}

fn records_of(
    tp: &TopicPartition,
    header: &BatchHeader,
    bytes: &[u8],
    mut take: impl FnMut(Offset, &Record<'_>) -> Result<(), Malformed>,
) {
    if header.magic != 2 || !crc_is_valid(bytes) {
        return error!(partition = %tp, at = %header.base_offset, "a batch is damaged or too old to be read");
    }
    let body = match decompressed(header, bytes) {
        Ok(body) => body,
        Err(cause) => return error!(partition = %tp, at = %header.base_offset, %cause, "a batch cannot be read"),
    };
    for record in records(&body, header.record_count) {
        let Ok(record) = record else {
            return error!(partition = %tp, at = %header.base_offset, "a batch's records cannot be read");
        };
        let offset = header.base_offset.plus(i64::from(record.offset_delta));
        if let Err(cause) = take(offset, &record) {
            warn!(partition = %tp, at = %offset, %cause, "a record cannot be read");
        }
    }
}

/// The records of a batch of magic 2, one after the other.
fn decompressed<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, CompressError> {
    let body = &batch[HEADER_LEN..];
    match Codec::from_id(header.codec()) {
        Some(Codec::None) => Ok(Cow::Borrowed(body)),
        Some(codec) => {
            let mut out = Vec::new();
            compress::decompress(codec, header.magic, body, MAX_BATCH, &mut out)?;
            Ok(Cow::Owned(out))
        }
        None => Err(CompressError::Malformed { codec: Codec::None, reason: "unknown codec".to_owned() }),
    }
}

/// The one copy of a name that `names` keeps.
pub fn intern(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    match names.get(name) {
        Some(known) => Arc::clone(known),
        None => {
            let name: Arc<str> = name.into();
            names.insert(Arc::clone(&name));
            name
        }
    }
}
