//! What is left of a message of magic 0 or 1, or of a compressed one that holds others. The slow way: such logs are old.

use std::ops::ControlFlow;

use super::filter::{Damaged, Fate, Outcome, Rules};
use super::offset_map::KeyOffset;
use crate::base::ids::Offset;
use crate::log::scan::EntryHeader;
use crate::protocol::batch;
use crate::protocol::compress::Codec;
use crate::protocol::deep::{self, DeepRecord};
use crate::protocol::legacy::{LegacyBuilder, LegacyMessage};
use crate::protocol::validate::DEFAULT_MAX_DECOMPRESSED_BYTES;

fn visit(header: &EntryHeader, entry: &[u8], mut each: impl FnMut(&DeepRecord<'_>)) -> Result<(), Damaged> {
    let damaged = |reason: String| Damaged { offset: header.base_offset, reason };
    if !batch::entry_is_valid(entry) {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    let visited = deep::for_each_record(entry, DEFAULT_MAX_DECOMPRESSED_BYTES, |record| {
        each(record);
        ControlFlow::<()>::Continue(())
    });
    visited.map(drop).map_err(|error| damaged(error.to_string()))
}

/// Appends the keys of an entry's messages, with their offsets.
///
/// # Errors
/// [`Damaged`].
pub fn keys(
    header: &EntryHeader,
    entry: &[u8],
    hasher: super::KeyHasher,
    out: &mut Vec<KeyOffset>,
) -> Result<(), Damaged> {
    visit(header, entry, |record| {
        if let Some(key) = record.key {
            out.push((hasher.hash(key), record.offset));
        }
    })
}

/// Decides on an entry. What is left of it, if that differs, is appended to `out`. These formats have no delete horizon:
/// `keeps_tombstones` says whether the segment is young enough for them.
///
/// # Errors
/// [`Damaged`].
pub fn entry(
    header: &EntryHeader,
    entry: &[u8],
    keeps_tombstones: bool,
    rules: &Rules<'_>,
    out: &mut Vec<u8>,
) -> Result<Outcome, Damaged> {
    let damaged = |reason: String| Damaged { offset: header.base_offset, reason };
    let (mut all, mut without_key) = (0_u64, 0);
    let mut keep: Vec<bool> = Vec::new();
    let mut found = Vec::new();
    visit(header, entry, |record| {
        all += 1;
        keep.push(match record.key {
            _ if record.offset > rules.map.latest_offset() => true,
            None => {
                without_key += 1;
                false
            }
            Some(key) => {
                found.clear();
                rules.map.get_all(&[rules.hasher.hash(key)], &mut found);
                let last = found.first().copied().unwrap_or(Offset::UNKNOWN);
                record.offset >= last && (record.value.is_some() || keeps_tombstones)
            }
        });
    })?;
    let kept = keep.iter().filter(|keep| **keep).count() as u64;
    let outcome = |fate| Outcome { fate, seen: all, kept, without_key, aborted: None };
    if kept == 0 {
        return Ok(outcome(Fate::Gone));
    }
    if kept == all {
        return Ok(outcome(Fate::Stays));
    }
    let outer = LegacyMessage::read(entry).map_err(|error| damaged(error.to_string()))?;
    let codec = outer.codec().unwrap_or(Codec::None);
    let stamp = outer.is_log_append_time().then_some(outer.timestamp);
    let mut builder = LegacyBuilder::new(outer.magic, codec.into(), stamp);
    let (mut at, mut max_timestamp, mut last_offset) = (0, -1, header.last_offset);
    visit(header, entry, |record| {
        if keep[at] {
            builder.append(record.offset, record.timestamp, record.key, record.value);
            max_timestamp = max_timestamp.max(record.timestamp);
            last_offset = record.offset;
        }
        at += 1;
    })?;
    out.extend_from_slice(&builder.build().map_err(|error| damaged(error.to_string()))?);
    Ok(outcome(Fate::Rewritten { max_timestamp, last_offset }))
}
