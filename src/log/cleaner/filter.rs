//! What is left of one batch (`Cleaner.cleanInto`, `MemoryRecords.filterTo`; KIP-98, KIP-354, KIP-534). Bytes in, bytes
//! out; no files.
//!
//! Of the records with a key the last one stays; a tombstone, the last one of its key, until the delete horizon of its
//! batch, which the first cleaning that meets it sets. Offsets, sequence numbers and timestamps stay as they are: so what is
//! kept of an uncompressed batch is kept byte for byte, behind a header with another count and another checksum. Only where a
//! horizon takes the place of the base timestamp the records are written anew. A compressed batch is unpacked, and packed
//! again by the same codec if anything of it was dropped.

use std::collections::HashMap;

use super::offset_map::{KeyHasher, OffsetMap};
use super::transactions::{Control, Transactions};
use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::log::txn_index::AbortedTxn;
use crate::protocol::batch::{self, ATTRIBUTES_OFFSET, BatchHeader, COMPRESSION_MASK, DELETE_HORIZON_MASK, HEADER_LEN};
use crate::protocol::compress::{self, Codec};
use crate::protocol::records::{RecordError, put_varint, put_varlong, read_varint, read_varlong, varlong_len};
use crate::protocol::validate::DEFAULT_MAX_DECOMPRESSED_BYTES;

/// A buffer for unpacked records is not kept if it grew beyond this.
const KEPT_BUFFER: usize = 8 << 20;

/// Where a record lies among those of its batch, and what decides on it.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Where its length stands.
    start: usize,
    /// Where it begins behind the length.
    body: usize,
    /// Where it ends.
    end: usize,
    /// Where its offset stands, behind the timestamp.
    offset_at: usize,
    /// Its timestamp less the batch's.
    timestamp_delta: i64,
    /// Its offset less the batch's.
    offset_delta: i32,
    /// Its key, from where to where.
    key: Option<(usize, usize)>,
    has_value: bool,
}

impl Span {
    /// Reads the record at `*at` and moves `*at` behind it. Headers are not looked at.
    fn read(bytes: &[u8], at: &mut usize) -> Result<Self, RecordError> {
        let start = *at;
        let size = usize::try_from(read_varint(bytes, at)?).map_err(|_| RecordError::Structure)?;
        let body = *at;
        let end = body.checked_add(size).filter(|end| *end <= bytes.len()).ok_or(RecordError::Structure)?;
        let bytes = &bytes[..end];
        *at += 1;
        let timestamp_delta = read_varlong(bytes, at)?;
        let offset_at = *at;
        let offset_delta = read_varint(bytes, at)?;
        let key_len = read_varint(bytes, at)?;
        let key = match usize::try_from(key_len) {
            Ok(len) => {
                let from = *at;
                *at = from.checked_add(len).filter(|to| *to <= end).ok_or(RecordError::Structure)?;
                Some((from, *at))
            }
            Err(_) => None,
        };
        let has_value = read_varint(bytes, at)? >= 0;
        *at = end;
        Ok(Self { start, body, end, offset_at, timestamp_delta, offset_delta, key, has_value })
    }

    /// The key's bytes.
    pub fn key<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        self.key.map(|(from, to)| &body[from..to])
    }

    /// Its offset in a batch with this base.
    pub fn offset(&self, base: Offset) -> Offset {
        base.plus(self.offset_delta.into())
    }
}

/// Why a batch could not be read: it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {offset} is damaged: {reason}")]
pub struct Damaged {
    /// Its base offset.
    pub offset: Offset,
    /// What is wrong.
    pub reason: String,
}

/// The records of a batch, unpacked and found. Its buffers serve one batch after the other.
#[derive(Debug, Default)]
pub struct Unpacked {
    spans: Vec<Span>,
    buffer: Vec<u8>,
    is_compressed: bool,
}

impl Unpacked {
    /// Finds the records of `entry`, a batch of magic 2, after its checksum is found right.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn read(&mut self, header: &BatchHeader, entry: &[u8]) -> Result<(), Damaged> {
        let damaged = |reason: String| Damaged { offset: header.base_offset, reason };
        if !batch::crc_is_valid(entry) {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        let codec = Codec::from_id(header.codec());
        let codec = codec.ok_or_else(|| damaged(format!("there is no compression type {}", header.codec())))?;
        self.is_compressed = codec != Codec::None && header.record_count > 0;
        self.spans.clear();
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        if self.is_compressed {
            let limit = DEFAULT_MAX_DECOMPRESSED_BYTES;
            let unpacked = compress::decompress(codec, 2, &entry[HEADER_LEN..], limit, &mut self.buffer);
            unpacked.map_err(|error| damaged(error.to_string()))?;
        }
        let body = if self.is_compressed { &self.buffer } else { &entry[HEADER_LEN..] };
        let mut at = 0;
        for _ in 0..header.record_count {
            self.spans.push(Span::read(body, &mut at).map_err(|error| damaged(error.to_string()))?);
        }
        if at < body.len() && header.record_count > 0 {
            return Err(damaged("bytes are left behind its last record".to_owned()));
        }
        Ok(())
    }

    /// The records' bytes, where `entry` is what was read.
    pub fn body<'a>(&'a self, entry: &'a [u8]) -> &'a [u8] {
        if self.is_compressed { &self.buffer } else { &entry[HEADER_LEN..] }
    }

    /// Where the records lie in [`Unpacked::body`].
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }
}

/// What is known of a producer that may write on: its last batch must not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// The last offset of its last batch of records, if that is known.
    pub last_data_offset: Option<Offset>,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// What counts for all batches of a cleaning.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The last offset of each key.
    pub map: &'a OffsetMap,
    /// What it was made with.
    pub hasher: KeyHasher,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// The producers of the log.
    pub producers: &'a HashMap<ProducerId, LastRecord>,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is left of it.
    Gone,
    /// It stays as it is.
    Stays,
    /// It stays as what was written to the caller's buffer.
    Rewritten {
        /// The largest timestamp that is left.
        max_timestamp: i64,
        /// Its last offset: that of the batch, though its record may be gone.
        last_offset: Offset,
    },
}

/// What happened to the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of it.
    pub fate: Fate,
    /// Records that it had.
    pub seen: u64,
    /// Records that are left.
    pub kept: u64,
    /// Records without a key, which a compacted log must not have.
    pub without_key: u64,
    /// An entry for the transaction index of the new segment.
    pub aborted: Option<AbortedTxn>,
}

/// What the transactions say of a batch.
#[derive(Debug, Clone, Copy, Default)]
struct Judged {
    /// Its records go, whatever their keys.
    discard: bool,
    /// It is a marker that no batch needs any more: its horizon is to be set.
    outlived: bool,
    aborted: Option<AbortedTxn>,
}

/// Goes from batch to batch. Its buffers serve them all.
#[derive(Debug, Default)]
pub struct Filter {
    unpacked: Unpacked,
    keep: Vec<bool>,
    hashes: Vec<u128>,
    found: Vec<Offset>,
    packed: Vec<u8>,
}

impl Filter {
    /// Decides on `entry`, a batch of magic 2. What is left of it, if that differs, is appended to `out`. `is_last` says that
    /// no other batch of the cleaned part follows: its last offset must not get lost.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn batch(
        &mut self,
        header: &BatchHeader,
        entry: &[u8],
        is_last: bool,
        rules: &Rules<'_>,
        transactions: &mut Transactions,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Damaged> {
        self.unpacked.read(header, entry)?;
        let judged = self.judge(header, entry, rules.now_ms, transactions);
        let seen = self.unpacked.spans.len();
        self.keep.clear();
        let without_key = match (judged.discard, header.is_control()) {
            (false, false) => self.choose(header, entry, rules),
            (discard, _) => {
                self.keep.resize(seen, !discard);
                0
            }
        };
        let kept = self.keep.iter().filter(|keep| **keep).count();
        let holds = is_last || holds_last_of_producer(header, rules.producers);
        let fate = if kept == 0 {
            empty(header, holds, out)
        } else {
            let sets_horizon = !header.has_delete_horizon() && (judged.outlived || self.keeps_tombstone(header));
            let horizon = sets_horizon.then(|| rules.now_ms.saturating_add(rules.delete_retention_ms));
            if kept == seen && horizon.is_none() {
                Fate::Stays
            } else {
                let max_timestamp = self.rewrite(header, entry, horizon, out)?;
                Fate::Rewritten { max_timestamp, last_offset: header.last_offset() }
            }
        };
        Ok(Outcome { fate, seen: seen as u64, kept: kept as u64, without_key, aborted: judged.aborted })
    }

    /// What the transactions say of a batch.
    fn judge(&self, header: &BatchHeader, entry: &[u8], now_ms: i64, transactions: &mut Transactions) -> Judged {
        if !header.is_control() {
            return Judged { discard: transactions.on_batch(header), ..Judged::default() };
        }
        let control = transactions.on_control(header, self.unpacked.body(entry));
        let outlived = control == Control::Discardable;
        Judged {
            discard: outlived && horizon_has_passed(header, now_ms),
            outlived,
            aborted: match control {
                Control::Aborts(txn) => Some(txn),
                Control::Discardable | Control::Needed => None,
            },
        }
    }

    /// Whether a tombstone is among what is kept.
    fn keeps_tombstone(&self, header: &BatchHeader) -> bool {
        let mut spans = self.unpacked.spans.iter().zip(&self.keep);
        !header.is_control() && spans.any(|(span, keep)| *keep && !span.has_value)
    }

    /// Decides on the records one by one; returns how many had no key.
    fn choose(&mut self, header: &BatchHeader, entry: &[u8], rules: &Rules<'_>) -> u64 {
        let body = self.unpacked.body(entry);
        let (base, latest) = (header.base_offset, rules.map.latest_offset());
        self.hashes.clear();
        let known = |span: &&Span| span.offset(base) <= latest;
        let keys = self.unpacked.spans.iter().filter(known).filter_map(|span| span.key(body));
        self.hashes.extend(keys.map(|key| rules.hasher.hash(key)));
        self.found.clear();
        rules.map.get_all(&self.hashes, &mut self.found);
        let mut found = self.found.iter();
        let keeps_tombstones = !horizon_has_passed(header, rules.now_ms);
        let mut without_key = 0;
        for span in &self.unpacked.spans {
            let offset = span.offset(base);
            let keep = if offset > latest {
                true
            } else if span.key.is_none() {
                without_key += 1;
                false
            } else {
                let last = found.next().copied().unwrap_or(Offset::UNKNOWN);
                offset >= last && (span.has_value || keeps_tombstones)
            };
            self.keep.push(keep);
        }
        without_key
    }

    /// Writes the batch with the records that are kept; returns the largest of their timestamps.
    fn rewrite(
        &mut self,
        header: &BatchHeader,
        entry: &[u8],
        horizon: Option<i64>,
        out: &mut Vec<u8>,
    ) -> Result<i64, Damaged> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        let body = if self.unpacked.is_compressed { &self.unpacked.buffer } else { &entry[HEADER_LEN..] };
        let target = if self.unpacked.is_compressed {
            self.packed.clear();
            &mut self.packed
        } else {
            &mut *out
        };
        let (spans, keep) = (&self.unpacked.spans, &self.keep);
        let max_delta = match horizon {
            Some(horizon) => put_shifted(body, spans, keep, header.base_timestamp.wrapping_sub(horizon), target),
            None => put_runs(body, spans, keep, target),
        };
        if self.unpacked.is_compressed {
            let codec = Codec::from_id(header.codec()).unwrap_or_default();
            let packed = compress::compress(codec.into(), 2, &self.packed, out);
            packed.map_err(|error| Damaged { offset: header.base_offset, reason: error.to_string() })?;
        }
        let stamped = header.is_log_append_time();
        let max_timestamp = if stamped { header.max_timestamp } else { header.base_timestamp.wrapping_add(max_delta) };
        let count = keep.iter().filter(|keep| **keep).count();
        let new = BatchHeader {
            attributes: header.attributes | if horizon.is_some() { DELETE_HORIZON_MASK } else { 0 },
            base_timestamp: horizon.unwrap_or(header.base_timestamp),
            max_timestamp,
            record_count: i32::try_from(count).unwrap_or(i32::MAX),
            ..*header
        };
        seal(new, &mut out[start..]);
        Ok(max_timestamp)
    }
}

/// Copies what is kept as it stands, neighbours together. Returns the largest timestamp, less the batch's.
fn put_runs(body: &[u8], spans: &[Span], keep: &[bool], out: &mut Vec<u8>) -> i64 {
    let mut max = i64::MIN;
    let mut run: Option<(usize, usize)> = None;
    for (span, _) in spans.iter().zip(keep).filter(|(_, keep)| **keep) {
        max = max.max(span.timestamp_delta);
        run = match run {
            Some((from, to)) if to == span.start => Some((from, span.end)),
            before => {
                before.iter().for_each(|(from, to)| out.extend_from_slice(&body[*from..*to]));
                Some((span.start, span.end))
            }
        };
    }
    run.iter().for_each(|(from, to)| out.extend_from_slice(&body[*from..*to]));
    max
}

/// Writes what is kept with timestamps that count from another base, which lies `shift` before the old one. Returns the
/// largest timestamp, less the old base.
fn put_shifted(body: &[u8], spans: &[Span], keep: &[bool], shift: i64, out: &mut Vec<u8>) -> i64 {
    let mut max = i64::MIN;
    for (span, _) in spans.iter().zip(keep).filter(|(_, keep)| **keep) {
        max = max.max(span.timestamp_delta);
        let delta = span.timestamp_delta.wrapping_add(shift);
        let size = 1 + varlong_len(delta) + (span.end - span.offset_at);
        put_varint(out, i32::try_from(size).unwrap_or(i32::MAX));
        out.push(body[span.body]);
        put_varlong(out, delta);
        out.extend_from_slice(&body[span.offset_at..span.end]);
    }
    max
}

/// What becomes of a batch of which no record is kept. It `holds` what must not get lost, or not.
fn empty(header: &BatchHeader, holds: bool, out: &mut Vec<u8>) -> Fate {
    if !holds {
        return Fate::Gone;
    }
    if header.record_count == 0 {
        return Fate::Stays;
    }
    put_empty(header, out);
    Fate::Rewritten { max_timestamp: header.max_timestamp, last_offset: header.last_offset() }
}

/// Writes a batch without records, which holds its place, its producer's sequence and its epoch.
fn put_empty(header: &BatchHeader, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    let attributes = header.attributes & !(COMPRESSION_MASK | DELETE_HORIZON_MASK);
    seal(BatchHeader { attributes, base_timestamp: -1, record_count: 0, ..*header }, &mut out[start..]);
}

/// Puts the header before what follows it, with the size and checksum of the whole.
fn seal(header: BatchHeader, whole: &mut [u8]) {
    let header = BatchHeader { size: whole.len(), ..header };
    whole[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    let crc = batch::crc32c(&whole[ATTRIBUTES_OFFSET..]);
    whole[..HEADER_LEN].copy_from_slice(&BatchHeader { crc, ..header }.to_bytes());
}

fn horizon_has_passed(header: &BatchHeader, now_ms: i64) -> bool {
    header.has_delete_horizon() && header.base_timestamp <= now_ms
}

/// Whether the batch tells the last sequence number of a producer that may write on; where a producer's last word was a
/// marker, its epoch.
fn holds_last_of_producer(header: &BatchHeader, producers: &HashMap<ProducerId, LastRecord>) -> bool {
    header.has_producer_id()
        && producers.get(&header.producer_id).is_some_and(|last| match last.last_data_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        })
}
