//! What the handlers that change topics share: who may serve them, and waiting until the cluster shows the change.

use std::time::Duration;

use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::admin::AdminError;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;
use crate::replica::metadata_cache::MetadataSnapshot;

/// The error of requests that only the controller serves, if this broker is not it.
pub fn not_controller(ctx: &Context) -> Option<AdminError> {
    let message = "This is not the correct controller for this cluster.";
    (!ctx.controller.is_active()).then(|| AdminError::new(ErrorCode::NotController, message))
}

/// The longest a request may wait, in its own words: negative is not at all.
pub fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// Waits until `holds` of the cluster as this broker knows it; whether it came to that in time.
pub async fn wait_for(ctx: &Context, patience: Duration, holds: impl Fn(&MetadataSnapshot) -> bool) -> bool {
    let metadata = ctx.replica_manager.metadata();
    let mut changes = metadata.changes();
    let waiting = async {
        loop {
            changes.borrow_and_update();
            if holds(&metadata.snapshot()) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(patience, waiting).await;
    holds(&metadata.snapshot())
}

/// Whether the first `count` partitions of a topic have leaders.
pub fn has_leaders(snapshot: &MetadataSnapshot, topic: &str, count: usize) -> bool {
    snapshot.topic(topic).is_some_and(|topic| {
        topic.partitions.len() >= count && topic.partitions.values().all(|p| p.leader > BrokerId::NONE)
    })
}

/// A text of the answer.
pub fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The error of an operation that was begun but not seen to end.
pub fn timed_out() -> AdminError {
    AdminError::new(ErrorCode::RequestTimedOut, "The request timed out; the operation goes on in the background.")
}
