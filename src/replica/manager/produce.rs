//! Appending what producers send, and waiting for the replicas with acks=all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::ReplicaManager;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::purgatory::{Event, Watch, Woken};
use crate::base::topic_names;
use crate::log::partition_log::AppendError;
use crate::log::producer_state::{Origin, Rules};
use crate::log::verification::Verification;
use crate::protocol::validate::RejectedRecord;
use crate::replica::partition::Partition;

/// An append that is in the leader's log but not yet in all in-sync replicas.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The partition.
    pub partition: Arc<Partition>,
    /// What the high watermark must reach.
    pub required_offset: Offset,
}

/// What became of one partition's records.
#[derive(Debug)]
pub struct AppendResult {
    /// The error, if they were not written.
    pub error: ErrorCode,
    /// What exactly was wrong.
    pub message: Option<String>,
    /// The records at fault (KIP-467).
    pub rejected: Vec<RejectedRecord>,
    /// The first record's offset, or -1.
    pub base_offset: Offset,
    /// The broker's time, if the topic keeps that; else -1.
    pub log_append_time: i64,
    /// The partition's log start, or -1.
    pub log_start_offset: Offset,
    /// What acks=all still waits for.
    pub pending: Option<Pending>,
}

impl AppendResult {
    /// Records that were refused.
    pub fn failed(error: ErrorCode, message: Option<String>) -> Self {
        Self {
            error,
            message,
            rejected: Vec::new(),
            base_offset: Offset::UNKNOWN,
            log_append_time: -1,
            log_start_offset: Offset::UNKNOWN,
            pending: None,
        }
    }
}

impl ReplicaManager {
    /// Whether `acks` is one of 0, 1 and -1.
    pub fn is_valid_required_acks(acks: i16) -> bool {
        matches!(acks, -1..=1)
    }

    /// Whether the coordinator is asked before a transaction begins in a partition
    /// (`transaction.partition.verification.enable`).
    pub fn verifies_transactions(&self) -> bool {
        self.configs.broker().transaction_partition_verification_enable
    }

    /// Appends a client's records to the partition's log. With `required_acks` of -1 the result's `pending` says what is
    /// still to be waited for; with a single in-sync replica that is nothing. `verification` is what transactional records
    /// must have on their side.
    pub fn append_records(
        &self,
        topic: &str,
        partition: i32,
        records: Bytes,
        required_acks: i16,
        internal_topics_allowed: bool,
        verification: Verification,
    ) -> AppendResult {
        let rules = Rules { origin: Origin::Client, verification };
        if !internal_topics_allowed && topic_names::is_internal(topic) {
            let message = format!("clients cannot append to the internal topic {topic}");
            return AppendResult::failed(ErrorCode::InvalidTopicException, Some(message));
        }
        match self.partition(topic, partition) {
            Ok(partition) => self.append_to(&partition, records, rules, required_acks, LeaderEpoch::NONE),
            Err(error) => AppendResult::failed(error, None),
        }
    }

    /// Appends to a partition in hand; `expected_epoch` as in [`Partition::append_records_to_leader`].
    pub fn append_to(
        &self,
        partition: &Arc<Partition>,
        records: Bytes,
        rules: impl Into<Rules>,
        required_acks: i16,
        expected_epoch: LeaderEpoch,
    ) -> AppendResult {
        let now_ms = self.clock.now_ms();
        let appended = partition.append_records_to_leader(records, rules, required_acks, expected_epoch, now_ms);
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => return self.refused(partition, error),
        };
        let wait = required_acks == -1 && !appended.committed;
        AppendResult {
            error: ErrorCode::None,
            message: None,
            rejected: Vec::new(),
            base_offset: appended.info.first_offset,
            log_append_time: appended.info.log_append_time.unwrap_or(-1),
            log_start_offset: appended.info.log_start_offset,
            pending: wait.then(|| Pending {
                partition: Arc::clone(partition),
                required_offset: appended.info.last_offset.next(),
            }),
        }
    }

    fn refused(&self, partition: &Partition, error: AppendError) -> AppendResult {
        let code = error.code();
        let log_start = || partition.log().map_or(Offset::UNKNOWN, |log| log.log_start_offset());
        // As `ReplicaManager.appendToLocalLog`: these tell no log start.
        let known = matches!(
            code,
            ErrorCode::InvalidRecord
                | ErrorCode::InvalidTimestamp
                | ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::UnsupportedForMessageFormat
        );
        AppendResult {
            log_start_offset: if known { log_start() } else { Offset::UNKNOWN },
            // What failed on the disk is for the operator, not for clients.
            message: (code != ErrorCode::KafkaStorageError).then(|| error.to_string()),
            rejected: match error {
                AppendError::Invalid(invalid) => invalid.rejected,
                AppendError::Log(_) => Vec::new(),
            },
            ..AppendResult::failed(code, None)
        }
    }

    /// Waits until every one of `pending` is replicated or failed, or the time is up; one answer for each.
    pub async fn wait_replicated(&self, pending: &[Pending], timeout: Duration) -> Vec<Result<(), ErrorCode>> {
        let deadline = Instant::now() + timeout;
        let mut watch = Watch::new(Event::HIGH_WATERMARK, pending.len());
        pending.iter().for_each(|p| watch.add(Arc::clone(&p.partition)));
        let mut answers: Vec<Option<Result<(), ErrorCode>>> = vec![None; pending.len()];
        loop {
            watch.begin_look();
            for (answer, p) in answers.iter_mut().zip(pending).filter(|(answer, _)| answer.is_none()) {
                *answer = p.partition.check_replicated(p.required_offset);
            }
            if answers.iter().all(Option::is_some) || self.is_stopping() {
                break;
            }
            watch.expect(1);
            if watch.wait(deadline).await == Woken::TimedOut {
                break;
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(ErrorCode::RequestTimedOut))).collect()
    }
}
