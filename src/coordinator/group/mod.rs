//! Consumer groups of the classic protocol and their committed offsets, as Kafka 3.9's `GroupCoordinator` and
//! `GroupMetadataManager` keep them.
//!
//! [`state::Group`] and [`offsets::GroupOffsets`] are pure: they take events with the time and yield effects.
//! [`coordinator::GroupCoordinator`] is the shell around them: it finds the group, holds its lock, appends to
//! `__consumer_offsets`, answers those who wait, and keeps the deadlines.

pub mod admin;
pub mod commit;
pub mod config;
pub mod consumer_protocol;
pub mod coordinator;
pub mod effect;
pub mod join;
pub mod member;
pub mod offsets;
pub mod records;
pub mod replay;
pub mod state;
pub mod sync;
pub mod txn_commit;

mod leave;
mod loading;
mod persist;
mod rebalance;
mod timers;

use std::borrow::Cow;

use bytes::Bytes;

use crate::base::error::ErrorCode;
use crate::coordinator::batch_writer::BatchWriter;
use crate::protocol::batch::{BatchHeader, HEADER_LEN};
use crate::protocol::compress::{self, Codec, CompressError};

/// The most that one batch of the offsets topic may decompress to, in bytes. It was written by a coordinator; but the
/// disk may lie.
const MAX_BATCH: usize = 256 << 20;

/// The batch of one group's record.
fn batch_of_group(group_id: &str, value: &[u8], now_ms: i64, codec: Codec) -> Result<Bytes, ErrorCode> {
    let mut batch = BatchWriter::new(now_ms, codec);
    batch.put(|key| records::put_group_key(key, group_id), |out| out.extend_from_slice(value));
    batch.finish()
}

/// The records of a batch of magic 2, one after the other.
pub(super) fn decompressed<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, CompressError> {
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
