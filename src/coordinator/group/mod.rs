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

use bytes::Bytes;

use crate::base::error::ErrorCode;
use crate::coordinator::batch_writer::BatchWriter;
use crate::protocol::compress::Codec;

/// The batch of one group's record.
fn batch_of_group(group_id: &str, value: &[u8], now_ms: i64, codec: Codec) -> Result<Bytes, ErrorCode> {
    let mut batch = BatchWriter::new(now_ms, codec);
    batch.put(|key| records::put_group_key(key, group_id), |out| out.extend_from_slice(value));
    batch.finish()
}
