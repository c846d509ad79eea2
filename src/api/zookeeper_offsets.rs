//! Version 0 of OffsetCommit and OffsetFetch: offsets that live in ZooKeeper, as those of the oldest consumers do.

use tracing::warn;

use super::Context;
use crate::base::error::ErrorCode;
use crate::zk::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::consumers::{decode_offset, encode_offset, offset_path};

/// One partition's offset, with the note that has no place in ZooKeeper but a limit nevertheless.
pub struct Commit<'a> {
    /// The topic, which exists.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The client's note; dropped.
    pub metadata: &'a str,
}

/// Writes an offset down.
pub async fn commit(ctx: &Context, group: &str, commit: &Commit<'_>) -> ErrorCode {
    let max = usize::try_from(ctx.groups.config().offset_metadata_max_bytes).unwrap_or(0);
    if commit.metadata.encode_utf16().count() > max {
        return ErrorCode::OffsetMetadataTooLarge;
    }
    let Some(path) = offset_path(group, commit.topic, commit.partition) else { return ErrorCode::InvalidGroupId };
    match write(&ctx.zk, &path, &encode_offset(commit.offset)).await {
        Ok(()) => ErrorCode::None,
        Err(error) => {
            warn!(path, %error, "an offset could not be written to ZooKeeper");
            ErrorCode::UnknownServerError
        }
    }
}

async fn write(zk: &ZkClient, path: &str, data: &[u8]) -> Result<(), ZkError> {
    match zk.set(path, data, None).await {
        Err(ZkError::NoNode) => {}
        result => return result.map(|_| ()),
    }
    match zk.create_recursive(path, data).await {
        // Someone else was quicker: the later write holds.
        Err(ZkError::NodeExists) => zk.set(path, data, None).await.map(|_| ()),
        result => result,
    }
}

/// Reads an offset. One that was never committed is told as an unknown partition, as the original does in version 0.
pub async fn fetch(ctx: &Context, group: &str, topic: &str, partition: i32) -> Result<i64, ErrorCode> {
    let path = offset_path(group, topic, partition).ok_or(ErrorCode::InvalidGroupId)?;
    let read = async {
        let Some(node) = ctx.zk.find(&path).await? else { return Ok(None) };
        decode_offset(&path, &node.data).map(Some)
    };
    match read.await {
        Ok(Some(offset)) => Ok(offset),
        Ok(None) => Err(ErrorCode::UnknownTopicOrPartition),
        Err(error) => {
            warn!(path, %error, "an offset could not be read from ZooKeeper");
            Err(ErrorCode::UnknownServerError)
        }
    }
}
