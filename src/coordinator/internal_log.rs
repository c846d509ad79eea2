//! What a coordinator asks of the log its state lives in. The replica room implements it over its partitions; tests and
//! the simulator over memory.
//!
//! ```text
//!   coordinator                     InternalLog
//!   leads partition P at epoch E
//!     read(P, start..end) ------->  every record, before the first group is served
//!     append(P, E, batch) ------->  in the local log at once, in the order of the calls
//!                <-- Appended::acked once every in-sync replica has it, or the time is up
//! ```
//!
//! Contract: an append under an epoch other than the partition's current one fails and writes nothing; two appends that
//! return in some order stand in the log in that order; offsets rise.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::verification::Verification;

/// Whether the replicas that must have an append have it.
pub enum Acked {
    /// Known already.
    Now(Result<(), ErrorCode>),
    /// To be waited for. Dropping the future does not undo the append.
    Later(Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send + 'static>>),
}

impl fmt::Debug for Acked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(result) => f.debug_tuple("Now").field(result).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// What became of an append.
#[derive(Debug)]
pub struct Appended {
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// Whether it is acknowledged as the caller wished.
    pub acked: Acked,
}

/// How an append is to be acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    /// The epoch under which the caller believes to lead the partition.
    pub leader_epoch: LeaderEpoch,
    /// -1 for all in-sync replicas, 0 or 1 for the leader alone.
    pub required_acks: i16,
    /// How long to wait for them.
    pub timeout: Duration,
}

/// The log of an internal topic, as its coordinator sees it.
pub trait InternalLog: Send + Sync + 'static {
    /// How many partitions `topic` has; `None` while there is no such topic.
    fn partition_count(&self, topic: &str) -> Option<i32>;

    /// Appends one batch to the local log and returns without waiting for other replicas.
    ///
    /// # Errors
    /// `NotLeaderOrFollower` if this broker does not lead the partition at that epoch; whatever else the log says.
    fn append(&self, partition: &TopicPartition, batch: Bytes, options: AppendOptions) -> Result<Appended, ErrorCode>;

    /// What the first record of the producer's transaction in the partition must have on its side (KIP-890): nothing where
    /// transactions are not verified.
    ///
    /// # Errors
    /// `NotLeaderOrFollower` if this broker does not lead the partition.
    fn begin_verification(
        &self,
        _partition: &TopicPartition,
        _producer: ProducerId,
        _epoch: ProducerEpoch,
    ) -> Result<Verification, ErrorCode> {
        Ok(Verification::Off)
    }

    /// Appends a batch of a transaction, which has `verification` on its side.
    ///
    /// # Errors
    /// As [`InternalLog::append`], and `InvalidTxnState` where the transaction is not the one that was verified.
    fn append_transactional(
        &self,
        partition: &TopicPartition,
        batch: Bytes,
        options: AppendOptions,
        _verification: Verification,
    ) -> Result<Appended, ErrorCode> {
        self.append(partition, batch, options)
    }

    /// The log's start and end offsets, if this broker leads the partition.
    ///
    /// # Errors
    /// `NotLeaderOrFollower` if it does not.
    fn offset_range(&self, partition: &TopicPartition) -> Result<(Offset, Offset), ErrorCode>;

    /// Whether every in-sync replica has what stands before `end`. A log may end in records that a former leader never saw
    /// acknowledged: another leader may not have them, so what is built on them must wait for this.
    fn replicated(&self, partition: &TopicPartition, end: Offset, timeout: Duration) -> Acked;

    /// Whole batches from the one that holds `from`, up to the log end and about `max_bytes` (one batch at the least).
    /// Empty at the log end. May block on the disk.
    ///
    /// # Errors
    /// `NotLeaderOrFollower`, `OffsetOutOfRange`, `KafkaStorageError`.
    fn read(&self, partition: &TopicPartition, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode>;
}
