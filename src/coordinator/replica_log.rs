//! [`InternalLog`] over this broker's own partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::internal_log::{Acked, AppendOptions, Appended, InternalLog};
use crate::base::error::ErrorCode;
use crate::base::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::partition_log::{PartitionLog, ReadUpTo};
use crate::log::producer_state::{Origin, Rules};
use crate::log::verification::Verification;
use crate::replica::manager::{Pending, ReplicaManager};

/// The logs of internal topics, as the replica room has them.
pub struct ReplicaLog {
    manager: Arc<ReplicaManager>,
}

impl ReplicaLog {
    /// The logs of `manager`.
    pub fn new(manager: Arc<ReplicaManager>) -> Self {
        Self { manager }
    }

    fn leader_log(&self, tp: &TopicPartition) -> Result<Arc<PartitionLog>, ErrorCode> {
        let partition = self.manager.partition(&tp.topic, tp.partition)?;
        if !partition.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        partition.log().ok_or(ErrorCode::KafkaStorageError)
    }
}

impl InternalLog for ReplicaLog {
    fn partition_count(&self, topic: &str) -> Option<i32> {
        let count = self.manager.metadata().snapshot().partition_count(topic)?;
        i32::try_from(count).ok()
    }

    fn append(&self, tp: &TopicPartition, batch: Bytes, options: AppendOptions) -> Result<Appended, ErrorCode> {
        self.append_transactional(tp, batch, options, Verification::Off)
    }

    fn begin_verification(
        &self,
        tp: &TopicPartition,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<Verification, ErrorCode> {
        if !self.manager.verifies_transactions() {
            return Ok(Verification::Off);
        }
        // Offset commits bear no sequence numbers.
        self.manager.partition(&tp.topic, tp.partition)?.begin_verification(producer, epoch, -1)
    }

    fn append_transactional(
        &self,
        tp: &TopicPartition,
        batch: Bytes,
        options: AppendOptions,
        verification: Verification,
    ) -> Result<Appended, ErrorCode> {
        let partition = self.manager.partition(&tp.topic, tp.partition)?;
        let acks = options.required_acks;
        let rules = Rules { origin: Origin::Coordinator, verification };
        let result = self.manager.append_to(&partition, batch, rules, acks, options.leader_epoch);
        if !result.error.is_none() {
            return Err(result.error);
        }
        let acked = match result.pending {
            None => Acked::Now(Ok(())),
            Some(pending) => {
                let manager = Arc::clone(&self.manager);
                Acked::Later(Box::pin(async move {
                    let mut answers = manager.wait_replicated(&[pending], options.timeout).await;
                    answers.pop().unwrap_or(Err(ErrorCode::UnknownServerError))
                }))
            }
        };
        Ok(Appended { base_offset: result.base_offset, acked })
    }

    fn offset_range(&self, tp: &TopicPartition) -> Result<(Offset, Offset), ErrorCode> {
        let log = self.leader_log(tp)?;
        Ok((log.log_start_offset(), log.log_end_offset()))
    }

    fn replicated(&self, tp: &TopicPartition, end: Offset, timeout: Duration) -> Acked {
        let partition = match self.manager.partition(&tp.topic, tp.partition) {
            Ok(partition) => partition,
            Err(error) => return Acked::Now(Err(error)),
        };
        // Fewer replicas than min.insync.replicas asks for have it, but all that may lead next.
        let all_have_it = |result| if result == Err(ErrorCode::NotEnoughReplicasAfterAppend) { Ok(()) } else { result };
        if let Some(result) = partition.check_replicated(end) {
            return Acked::Now(all_have_it(result));
        }
        let manager = Arc::clone(&self.manager);
        Acked::Later(Box::pin(async move {
            let pending = Pending { partition, required_offset: end };
            let mut answers = manager.wait_replicated(&[pending], timeout).await;
            all_have_it(answers.pop().unwrap_or(Err(ErrorCode::UnknownServerError)))
        }))
    }

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let read = self.leader_log(tp)?.read(from, max_bytes, true, ReadUpTo::LogEnd).map_err(|e| e.code())?;
        let Some(slice) = read.data else { return Ok(Bytes::new()) };
        let mut bytes = vec![0; slice.len];
        std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.position)
            .map_err(|_| ErrorCode::KafkaStorageError)?;
        Ok(bytes.into())
    }
}
