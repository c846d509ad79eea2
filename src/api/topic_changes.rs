//! What the handlers that change topics share: who may serve them, and waiting until the cluster shows the change.

use std::collections::HashSet;
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
            drop(changes.borrow_and_update());
            if holds(&metadata.snapshot()) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(patience, waiting).await;
    holds(&metadata.snapshot())
}

/// Waits until everything that was begun shows in the cluster; what does not in time is answered so, though it goes on.
/// `shows` is asked of the outcomes that are no errors, by their place.
pub async fn await_changes<T>(
    ctx: &Context,
    timeout_ms: i32,
    outcomes: &mut [Result<T, AdminError>],
    shows: impl Fn(&MetadataSnapshot, usize, &T) -> bool,
) {
    let open = |now: &MetadataSnapshot, n: usize, outcome: &Result<T, AdminError>| {
        outcome.as_ref().is_ok_and(|begun| !shows(now, n, begun))
    };
    let all = |now: &MetadataSnapshot| !outcomes.iter().enumerate().any(|(n, outcome)| open(now, n, outcome));
    if wait_for(ctx, patience(timeout_ms), all).await {
        return;
    }
    let now = ctx.replica_manager.metadata().snapshot();
    for (n, outcome) in outcomes.iter_mut().enumerate() {
        if open(&now, n, outcome) {
            *outcome = Err(timed_out());
        }
    }
}

/// The names that come more than once.
pub fn named_twice<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
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

#[cfg(test)]
mod tests {
    use super::named_twice;

    #[test]
    fn names_that_come_again_are_found() {
        let twice = named_twice(["a", "b", "a", "c", "a", "c"].into_iter());
        assert_eq!(twice, ["a", "c"].into());
    }
}
