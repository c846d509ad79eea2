//! [`InternalLog`] in memory, for tests, benches and the simulator: what is appended is kept as batches, acknowledgements
//! are given at once or when the test says so, and leadership and errors are in the test's hands.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::internal_log::{Acked, AppendOptions, Appended, InternalLog};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::protocol::batch::BatchHeader;

#[derive(Default)]
struct Partition {
    epoch: LeaderEpoch,
    is_leader: bool,
    batches: Vec<Bytes>,
    start: i64,
    end: i64,
}

#[derive(Default)]
struct State {
    partition_count: Option<i32>,
    partitions: BTreeMap<i32, Partition>,
    append_error: Option<ErrorCode>,
    holds_acks: bool,
    held: Vec<oneshot::Sender<Result<(), ErrorCode>>>,
    reads_fail: bool,
}

/// A log of one internal topic.
#[derive(Default)]
pub struct MemoryLog(Mutex<State>);

impl MemoryLog {
    /// A topic of `partitions` partitions, none of which is led.
    pub fn new(partitions: i32) -> Self {
        Self(Mutex::new(State { partition_count: Some(partitions), ..State::default() }))
    }

    /// Makes this broker the leader of a partition.
    pub fn lead(&self, partition: i32, epoch: LeaderEpoch) {
        let mut state = self.0.lock();
        let partition = state.partitions.entry(partition).or_default();
        (partition.is_leader, partition.epoch) = (true, epoch);
    }

    /// Takes the lead of a partition away.
    pub fn follow(&self, partition: i32) {
        self.0.lock().partitions.entry(partition).or_default().is_leader = false;
    }

    /// Lets every append fail, or none.
    pub fn fail_appends(&self, error: Option<ErrorCode>) {
        self.0.lock().append_error = error;
    }

    /// Lets every read fail, or none.
    pub fn fail_reads(&self, fail: bool) {
        self.0.lock().reads_fail = fail;
    }

    /// Holds acknowledgements back from now on, or gives them at once.
    pub fn hold_acks(&self, hold: bool) {
        self.0.lock().holds_acks = hold;
    }

    /// How many acknowledgements are held back.
    pub fn held(&self) -> usize {
        self.0.lock().held.len()
    }

    /// Gives all acknowledgements that are held back.
    pub fn release(&self, result: Result<(), ErrorCode>) {
        for sender in std::mem::take(&mut self.0.lock().held) {
            let _ = sender.send(result);
        }
    }

    /// All batches of a partition.
    pub fn batches(&self, partition: i32) -> Vec<Bytes> {
        self.0.lock().partitions.get(&partition).map(|p| p.batches.clone()).unwrap_or_default()
    }

    /// Appends a batch as if another coordinator or a client had.
    pub fn append_foreign(&self, partition: i32, batch: &[u8]) {
        append(self.0.lock().partitions.entry(partition).or_default(), batch);
    }
}

fn append(partition: &mut Partition, batch: &[u8]) -> i64 {
    let base = partition.end;
    let mut bytes = BytesMut::from(batch);
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&partition.epoch.get().to_be_bytes());
    let count = BatchHeader::read(&bytes).map_or(0, |header| header.last_offset_delta + 1);
    partition.end += i64::from(count);
    partition.batches.push(bytes.freeze());
    base
}

fn hold(state: &mut State) -> Acked {
    let (sender, receiver) = oneshot::channel();
    state.held.push(sender);
    Acked::Later(Box::pin(async move { receiver.await.unwrap_or(Err(ErrorCode::RequestTimedOut)) }))
}

fn led(state: &State, tp: &TopicPartition) -> Result<i32, ErrorCode> {
    match state.partitions.get(&tp.partition) {
        Some(partition) if partition.is_leader => Ok(tp.partition),
        _ => Err(ErrorCode::NotLeaderOrFollower),
    }
}

impl InternalLog for MemoryLog {
    fn partition_count(&self, _topic: &str) -> Option<i32> {
        self.0.lock().partition_count
    }

    fn append(&self, tp: &TopicPartition, batch: Bytes, options: AppendOptions) -> Result<Appended, ErrorCode> {
        let mut state = self.0.lock();
        let number = led(&state, tp)?;
        if let Some(error) = state.append_error {
            return Err(error);
        }
        let partition = state.partitions.entry(number).or_default();
        if partition.epoch != options.leader_epoch {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let base_offset = Offset(append(partition, &batch));
        if !state.holds_acks || options.required_acks == 0 {
            return Ok(Appended { base_offset, acked: Acked::Now(Ok(())) });
        }
        Ok(Appended { base_offset, acked: hold(&mut state) })
    }

    fn offset_range(&self, tp: &TopicPartition) -> Result<(Offset, Offset), ErrorCode> {
        let state = self.0.lock();
        let partition = &state.partitions[&led(&state, tp)?];
        Ok((Offset(partition.start), Offset(partition.end)))
    }

    fn replicated(&self, tp: &TopicPartition, _end: Offset, _timeout: Duration) -> Acked {
        let mut state = self.0.lock();
        if let Err(error) = led(&state, tp) {
            return Acked::Now(Err(error));
        }
        if !state.holds_acks {
            return Acked::Now(Ok(()));
        }
        hold(&mut state)
    }

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let state = self.0.lock();
        let partition = &state.partitions[&led(&state, tp)?];
        if state.reads_fail {
            return Err(ErrorCode::KafkaStorageError);
        }
        let mut out = BytesMut::new();
        for batch in &partition.batches {
            let is_wanted = BatchHeader::read(batch).is_some_and(|header| header.next_offset() > from);
            if is_wanted && (out.is_empty() || out.len() + batch.len() <= max_bytes) {
                out.extend_from_slice(batch);
            } else if is_wanted {
                break;
            }
        }
        Ok(out.freeze())
    }
}
