//! Deleting records on request, and waiting until all replicas start above them (`DelayedDeleteRecords`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ReplicaManager;
use crate::base::error::ErrorCode;
use crate::base::ids::Offset;
use crate::base::purgatory::{Event, Watch, Woken};
use crate::base::topic_names;
use crate::replica::partition::Partition;

/// What one partition's records are to be deleted up to.
#[derive(Debug, Clone, Copy)]
pub struct DeleteRecords<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The first offset that stays; none for the high watermark.
    pub before: Option<Offset>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedRecords {
    /// The error, if it was not done, or not everywhere in time.
    pub error: ErrorCode,
    /// Where the replicas start, the lowest of them; -1 if not known.
    pub low_watermark: Offset,
}

impl DeletedRecords {
    fn failed(error: ErrorCode) -> Self {
        Self { error, low_watermark: Offset::UNKNOWN }
    }

    fn of(result: Result<Offset, ErrorCode>) -> Self {
        result.map_or_else(Self::failed, |low_watermark| Self { error: ErrorCode::None, low_watermark })
    }
}

/// What is waited for.
struct Waiting {
    at: usize,
    partition: Arc<Partition>,
    required: Offset,
}

impl ReplicaManager {
    /// Deletes records of partitions led here, and waits until every replica has, or until `timeout` is over. One result for
    /// each, in order.
    pub async fn delete_records(&self, wanted: &[DeleteRecords<'_>], timeout: Duration) -> Vec<DeletedRecords> {
        let deadline = Instant::now() + timeout;
        let mut results = Vec::with_capacity(wanted.len());
        let mut waiting = Vec::new();
        for one in wanted {
            let begun = self.begin_deletion(one);
            results.push(match begun {
                Ok((partition, required, low_watermark)) => {
                    let done = low_watermark >= required;
                    if !done {
                        waiting.push(Waiting { at: results.len(), partition, required });
                    }
                    let error = if done { ErrorCode::None } else { ErrorCode::RequestTimedOut };
                    DeletedRecords { error, low_watermark }
                }
                Err(error) => DeletedRecords::failed(error),
            });
        }
        if !waiting.is_empty() {
            self.wait_deleted(waiting, &mut results, deadline).await;
        }
        results
    }

    fn begin_deletion(&self, one: &DeleteRecords<'_>) -> Result<(Arc<Partition>, Offset, Offset), ErrorCode> {
        if topic_names::is_internal(one.topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let partition = self.partition(one.topic, one.partition)?;
        let required = partition.delete_records_on_leader(one.before).map_err(|error| error.code())?;
        let low_watermark = self.low_watermark(&partition)?;
        Ok((partition, required, low_watermark))
    }

    /// Where the replicas of a partition start that is led here, that in another log dir it moves to included.
    fn low_watermark(&self, partition: &Partition) -> Result<Offset, ErrorCode> {
        let snapshot = self.metadata.snapshot();
        let low_watermark = partition.low_watermark(|broker| snapshot.broker(broker).is_some())?;
        let future = self.log_manager.future(&partition.topic_partition);
        Ok(future.map_or(low_watermark, |log| low_watermark.min(log.log_start_offset())))
    }

    async fn wait_deleted(&self, mut waiting: Vec<Waiting>, results: &mut [DeletedRecords], deadline: Instant) {
        let mut watch = Watch::new(Event::LOG_START, waiting.len());
        waiting.iter().for_each(|one| watch.add(Arc::clone(&one.partition)));
        loop {
            watch.begin_look();
            waiting.retain(|one| match self.low_watermark(&one.partition) {
                Ok(low_watermark) if low_watermark < one.required => true,
                result => {
                    results[one.at] = DeletedRecords::of(result);
                    false
                }
            });
            if waiting.is_empty() || self.is_stopping() {
                return;
            }
            watch.expect(1);
            if watch.wait(deadline).await == Woken::TimedOut {
                return;
            }
        }
    }
}
