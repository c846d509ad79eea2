//! One partition on this broker: its log together with who leads it. Owns the one lock under which leadership and log
//! change together; appends and reads hold it shared, so that no write slips in under an old leader epoch. Never knows
//! ZooKeeper, requests of other partitions, or who is behind a connection.
//!
//! Invariant: log start <= high watermark <= log end; waiters are woken after what they wait for can be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use bytes::Bytes;
use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
use parking_lot::RwLock;

use super::fetch_session::FetchTarget;
use super::isr::{IsrEligibility, IsrProposal};
use super::leadership::{Change, Leadership, Role};
use super::lease::Lease;
use super::throttle::ReplicationThrottle;
use crate::base::clock::Clock;
use crate::base::error::ErrorCode;
use crate::base::ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
use crate::base::purgatory::{Event, WaitList, Watched};
use crate::log::disk::Disk;
use crate::log::error::LogError;
use crate::log::partition_log::{AppendError, AppendInfo, LogRead, PartitionLog, ReadUpTo};
use crate::log::producer_state::{Origin, Rules};
use crate::log::verification::Verification;

/// How a fetch reads, for all its partitions.
#[derive(Debug, Clone, Copy)]
pub struct ReadRules {
    /// Up to where.
    pub up_to: ReadUpTo,
    /// Whether only the leader may answer: followers, and consumers from before v11 (KIP-392).
    pub only_leader: bool,
}

/// How long what a producer sends may refer to records that were refused for the partition's state, in milliseconds.
const REFUSED_BEFORE_MS: i64 = 10_000;

/// What a read found.
#[derive(Debug)]
pub struct PartitionRead {
    /// The records, if there are any, and the log's offsets at that moment.
    pub log: LogRead,
    /// Where the reader's log left ours: the epoch and its end here (KIP-595). Then there are no records.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The follower that the consumer should ask instead (KIP-392). Then there are no records.
    pub preferred: Option<BrokerId>,
}

impl PartitionRead {
    /// Whether it says something that the reader waits for whether or not there are records.
    pub fn must_tell(&self) -> bool {
        self.diverging.is_some() || self.preferred.is_some()
    }

    /// Bytes of records.
    pub fn bytes(&self) -> usize {
        self.log.data.as_ref().map_or(0, |slice| slice.len)
    }
}

/// What an append did.
#[derive(Debug)]
pub struct Appended {
    /// What the log says of it.
    pub info: AppendInfo,
    /// Whether the high watermark is past it already.
    pub committed: bool,
}

#[derive(Debug)]
struct State {
    leadership: Leadership,
    log: Option<Arc<PartitionLog>>,
    offline: bool,
}

impl State {
    fn log(&self) -> Result<&Arc<PartitionLog>, ErrorCode> {
        match &self.log {
            _ if self.offline => Err(ErrorCode::KafkaStorageError),
            Some(log) => Ok(log),
            None => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    fn leader_log(&self) -> Result<&Arc<PartitionLog>, ErrorCode> {
        let log = self.log()?;
        if self.leadership.is_leader() { Ok(log) } else { Err(ErrorCode::NotLeaderOrFollower) }
    }

    /// The log for a reader that knows `epoch`, from a leader if it must be.
    fn log_for(&self, epoch: LeaderEpoch, only_leader: bool) -> Result<&Arc<PartitionLog>, ErrorCode> {
        if self.offline {
            return Err(ErrorCode::KafkaStorageError);
        }
        self.leadership.check_epoch(epoch)?;
        if only_leader { self.leader_log() } else { self.log() }
    }
}

mod deletion;
mod follower;
mod isr;

/// What all partitions of a broker have in common.
#[derive(Clone)]
pub struct PartitionContext {
    /// This broker.
    pub me: BrokerId,
    /// `replica.lag.time.max.ms`.
    pub max_lag_ms: i64,
    /// The broker's clock.
    pub clock: Arc<dyn Clock>,
    /// Who may be in an ISR.
    pub eligible: Arc<dyn IsrEligibility>,
    /// How fast throttled replicas may be fetched.
    pub throttle: Arc<ReplicationThrottle>,
    /// Whether what the controller said last surely holds.
    pub lease: Arc<Lease>,
}

/// One partition. Shared by all requests.
pub struct Partition {
    /// Its name.
    pub topic_partition: TopicPartition,
    me: BrokerId,
    max_lag_ms: i64,
    clock: Arc<dyn Clock>,
    eligible: Arc<dyn IsrEligibility>,
    throttle: Arc<ReplicationThrottle>,
    lease: Arc<Lease>,
    min_isr: AtomicI32,
    /// When records were last refused for the partition's state, in ms since 1970.
    refused_ms: AtomicI64,
    state: RwLock<State>,
    waiters: WaitList,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition").field("name", &self.topic_partition).field("state", &self.state).finish()
    }
}

impl Watched for Partition {
    fn wait_list(&self) -> &WaitList {
        &self.waiters
    }
}

impl Partition {
    /// A partition that nobody leads yet.
    pub fn new(topic_partition: TopicPartition, context: &PartitionContext) -> Self {
        let state = State { leadership: Leadership::unknown(), log: None, offline: false };
        Self {
            topic_partition,
            me: context.me,
            max_lag_ms: context.max_lag_ms,
            clock: Arc::clone(&context.clock),
            eligible: Arc::clone(&context.eligible),
            throttle: Arc::clone(&context.throttle),
            lease: Arc::clone(&context.lease),
            min_isr: AtomicI32::new(1),
            refused_ms: AtomicI64::new(i64::MIN),
            state: RwLock::new(state),
            waiters: WaitList::new(),
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Takes a new `min.insync.replicas`.
    pub fn set_min_isr(&self, min_isr: i32) {
        self.min_isr.store(min_isr, Ordering::Relaxed);
    }

    /// The log, if there is one on a disk that works.
    pub fn log(&self) -> Option<Arc<PartitionLog>> {
        self.state.read().log().ok().cloned()
    }

    /// A copy of what is known of the leadership.
    pub fn leadership(&self) -> Leadership {
        self.state.read().leadership.clone()
    }

    /// The leader epoch, -1 before the first LeaderAndIsr.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.read().leadership.leader_epoch
    }

    /// Whether this broker leads.
    pub fn is_leader(&self) -> bool {
        self.state.read().leadership.is_leader()
    }

    /// Whether `broker` is in the ISR.
    pub fn is_in_sync(&self, broker: BrokerId) -> bool {
        self.state.read().leadership.isr.contains(&broker)
    }

    /// Whether its disk failed.
    pub fn is_offline(&self) -> bool {
        self.state.read().offline
    }

    /// The topic's id as the log keeps it.
    pub fn topic_id(&self) -> Option<TopicId> {
        self.state.read().log.as_ref().and_then(|log| log.topic_id())
    }

    /// Leads from now on, with `log`. Returns what changed.
    pub fn make_leader(&self, request: &LeaderAndIsrPartitionState, log: Arc<PartitionLog>, now_ms: i64) -> Change {
        let mut state = self.state.write();
        let log_end = log.log_end_offset();
        let change = state.leadership.make_leader(self.me, request, log_end, now_ms);
        if change == Change::Stale {
            return change;
        }
        if change == Change::NewEpoch {
            log.assign_epoch_at_end(LeaderEpoch(request.leader_epoch));
        }
        self.advance_high_watermark(&state.leadership, &log, now_ms);
        state.log = Some(log);
        state.offline = false;
        drop(state);
        self.waiters.wake(Event::STATE, 1);
        change
    }

    /// Follows from now on, with `log`. Returns what changed.
    pub fn make_follower(&self, request: &LeaderAndIsrPartitionState, log: Arc<PartitionLog>) -> Change {
        let mut state = self.state.write();
        let change = state.leadership.make_follower(request);
        if change == Change::Stale {
            return change;
        }
        state.log = Some(log);
        state.offline = false;
        drop(state);
        self.waiters.wake(Event::STATE, 1);
        change
    }

    /// The disk failed: every request gets KAFKA_STORAGE_ERROR until the broker is told anew.
    pub fn mark_offline(&self) {
        let mut state = self.state.write();
        state.offline = true;
        state.log = None;
        drop(state);
        self.waiters.wake(Event::STATE, 1);
    }

    /// Puts another log in the place of the current one: nothing is appended and no leader changes while `replace` has
    /// the current one and returns the other, or `None` to leave it.
    ///
    /// # Errors
    /// What `replace` returns; the log stays then.
    pub fn replace_log(
        &self,
        replace: impl FnOnce(&Arc<PartitionLog>) -> Result<Option<Arc<PartitionLog>>, LogError>,
    ) -> Result<bool, LogError> {
        let mut state = self.state.write();
        let Ok(current) = state.log().map(Arc::clone) else { return Ok(false) };
        let Some(log) = replace(&current)? else { return Ok(false) };
        state.log = Some(log);
        drop(state);
        self.waiters.wake(Event::STATE, 1);
        Ok(true)
    }

    /// How many requests wait for this partition.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Makes all who wait look again.
    pub fn wake_all(&self) {
        self.waiters.wake(Event::STATE, 1);
    }

    /// No replica here any more. Returns the log for deletion.
    pub fn stop(&self) -> Option<Arc<PartitionLog>> {
        let mut state = self.state.write();
        state.leadership.role = Role::None;
        state.leadership.leader = None;
        let log = state.log.take();
        drop(state);
        self.waiters.wake(Event::STATE, 1);
        log
    }

    /// What an append of the producer's transactional records must have on its side, before the coordinator is asked
    /// whether it knows of the transaction: a guard, or nothing new where one is open.
    ///
    /// # Errors
    /// If this broker does not lead.
    pub fn begin_verification(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
    ) -> Result<Verification, ErrorCode> {
        let (state, now_ms) = (self.state.read(), self.now_ms());
        let log = state.leader_log().inspect_err(|_| self.refused_ms.store(now_ms, Ordering::Relaxed))?;
        let guard = log.begin_verification(producer, epoch, sequence, now_ms);
        Ok(guard.map_or(Verification::Open, Verification::Guarded))
    }

    /// Appends as leader. `expected_epoch` other than -1 must be the current one: coordinators write only under the
    /// epoch they were loaded for. `required_acks` of -1 asks for `min.insync.replicas`.
    pub fn append_records_to_leader(
        &self,
        records: Bytes,
        rules: impl Into<Rules>,
        required_acks: i16,
        expected_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let rules: Rules = rules.into();
        let state = self.state.read();
        let log = self.log_for_append(&state, required_acks, expected_epoch, now_ms).map_err(|code| {
            self.refused_ms.store(now_ms, Ordering::Relaxed);
            refused(code)
        })?;
        let info = log
            .append_as_leader(records, state.leadership.leader_epoch, rules, now_ms)
            .map_err(|error| self.refused_alike(error, now_ms))?;
        let advanced = self.advance_high_watermark(&state.leadership, log, now_ms);
        let committed = log.high_watermark() > info.last_offset;
        drop(state);
        let events = if advanced { Event::LOG_END.and(Event::HIGH_WATERMARK) } else { Event::LOG_END };
        // A marker lets readers of committed records see more than its own bytes.
        let counts = rules.origin == Origin::Client;
        let amount = if counts { i64::try_from(info.size).unwrap_or(i64::MAX) } else { i64::MAX };
        self.waiters.wake(events, amount);
        Ok(Appended { info, committed })
    }

    fn log_for_append<'a>(
        &self,
        state: &'a State,
        required_acks: i16,
        expected_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<&'a Arc<PartitionLog>, ErrorCode> {
        let log = state.leader_log()?;
        let is_expected = expected_epoch == LeaderEpoch::NONE || expected_epoch == state.leadership.leader_epoch;
        if !is_expected || !self.surely_leads(&state.leadership, now_ms) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if required_acks == -1 && !state.leadership.has_min_isr(self.min_isr.load(Ordering::Relaxed)) {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(log)
    }

    /// Whether nobody else can have been made leader without this broker knowing.
    fn surely_leads(&self, leadership: &Leadership, now_ms: i64) -> bool {
        self.lease.holds(self.clock.monotonic_ms())
            || leadership.is_followed(now_ms.saturating_sub(self.lease.fetched_within_ms()))
    }

    /// A producer that keeps several requests under way sent the next ones before it could know that the first was refused,
    /// because this broker did not lead yet or too few were in sync. When that is over by then, these are not a gap in the sequence, which would make
    /// the producer begin a new epoch and send twice what other leaders have (seen with librdkafka): they are refused as
    /// the first was, and all come again in their order. The original answers OUT_OF_ORDER_SEQUENCE_NUMBER.
    fn refused_alike(&self, error: AppendError, now_ms: i64) -> AppendError {
        let since = now_ms.saturating_sub(self.refused_ms.load(Ordering::Relaxed));
        let alike = error.code() == ErrorCode::OutOfOrderSequenceNumber && (0..=REFUSED_BEFORE_MS).contains(&since);
        if alike { refused(ErrorCode::NotLeaderOrFollower) } else { error }
    }

    /// Raises the high watermark to what the replicas allow; whether it moved. With no follower in sync that is the log
    /// end. Never while fewer are in sync than `min.insync.replicas` asks for (KIP-966, from 3.7 on).
    fn advance_high_watermark(&self, leadership: &Leadership, log: &PartitionLog, now_ms: i64) -> bool {
        if !leadership.has_min_isr(self.min_isr.load(Ordering::Relaxed)) {
            return false;
        }
        let reached = leadership.high_watermark(log.log_end_offset(), now_ms, self.max_lag_ms, &*self.eligible);
        log.maybe_increment_high_watermark(reached).is_some()
    }

    /// Whether every in-sync replica has the log before `offset`, and enough of them (`checkEnoughReplicasReachOffset`):
    /// `None` while not.
    pub fn check_replicated(&self, offset: Offset) -> Option<Result<(), ErrorCode>> {
        let state = self.state.read();
        let log = match state.leader_log() {
            Ok(log) => log,
            Err(error) => return Some(Err(error)),
        };
        if log.high_watermark() < offset {
            return None;
        }
        let enough = state.leadership.has_min_isr(self.min_isr.load(Ordering::Relaxed));
        Some(if enough { Ok(()) } else { Err(ErrorCode::NotEnoughReplicasAfterAppend) })
    }

    /// Reads for a fetch: at most `max_bytes`, but at least one batch if `min_one` (KIP-74). `None` where the disk would
    /// have to be waited for and `disk` forbids it.
    pub fn read_records(
        &self,
        target: &FetchTarget,
        rules: ReadRules,
        max_bytes: usize,
        min_one: bool,
        disk: Disk,
    ) -> Result<Option<PartitionRead>, ErrorCode> {
        // The state is let go before the log is read: a read that waits for the disk must not keep leaders from
        // changing, nor appends behind such a change.
        let log = Arc::clone(self.state.read().log_for(target.current_leader_epoch, rules.only_leader)?);
        if target.last_fetched_epoch != LeaderEpoch::NONE
            && let Some(diverging) = divergence(&log, target)?
        {
            // A read at the log end finds nothing but the offsets.
            let log = log.read(log.log_end_offset(), 0, false, ReadUpTo::LogEnd)?;
            return Ok(Some(PartitionRead { log, diverging: Some(diverging), preferred: None }));
        }
        let read = match disk {
            Disk::Wait => Some(log.read(target.fetch_offset, max_bytes, min_one, rules.up_to)?),
            Disk::NoWait => log.read_cached(target.fetch_offset, max_bytes, min_one, rules.up_to)?,
        };
        Ok(read.map(|log| PartitionRead { log, diverging: None, preferred: None }))
    }

    /// The offsets alone, for a consumer that should ask `preferred` instead (`Partition.fetchOffsetSnapshot`).
    pub fn redirect(&self, target: &FetchTarget, preferred: BrokerId) -> Result<PartitionRead, ErrorCode> {
        let log = Arc::clone(self.state.read().log_for(target.current_leader_epoch, false)?);
        let log = log.read(log.log_end_offset(), 0, false, ReadUpTo::LogEnd)?;
        Ok(PartitionRead { log, diverging: None, preferred: Some(preferred) })
    }

    /// Takes in what a follower's fetch says of its log; wakes those who wait for the high watermark. Returns a change of
    /// the ISR to propose, if there is one; `my_epoch` is that of this broker. An error if that broker is no replica, or
    /// an earlier life of one.
    pub fn update_follower_fetch_state(
        &self,
        (broker, epoch): (BrokerId, BrokerEpoch),
        my_epoch: BrokerEpoch,
        target: &FetchTarget,
        now_ms: i64,
    ) -> Result<Option<IsrProposal>, ErrorCode> {
        let mut state = self.state.write();
        let log = Arc::clone(state.leader_log()?);
        let (offset, start, end) = (target.fetch_offset, target.log_start_offset, log.log_end_offset());
        let start_rose = state.leadership.follower_log_start(broker) != Some(start);
        if !state.leadership.update_follower_fetch_state(broker, epoch, offset, start, end, now_ms) {
            // The assignment of the sender may be newer than ours: then it should ask again (`followerReplicaOrThrow`).
            let knows_epoch = target.current_leader_epoch != LeaderEpoch::NONE;
            return Err(if knows_epoch { ErrorCode::UnknownLeaderEpoch } else { ErrorCode::NotLeaderOrFollower });
        }
        let before = log.high_watermark();
        let leadership = &mut state.leadership;
        let expanded = leadership.propose_expand(broker, before, &*self.eligible);
        if let Some(isr) = &expanded {
            tracing::info!("{}: proposes the ISR {isr:?}: broker {broker} is at {offset}", self.topic_partition);
        }
        let lost = offset < before && leadership.isr.contains(&broker);
        let shrunk = if lost { leadership.propose_shrink(self.me, end, before, now_ms, self.max_lag_ms) } else { None };
        if let Some(isr) = &shrunk {
            tracing::warn!(
                "{}: proposes the ISR {isr:?}: broker {broker} is at {offset}, it lost what was committed",
                self.topic_partition
            );
        }
        let proposed = expanded.or(shrunk);
        let proposal = proposed.and_then(|_| leadership.proposal(&self.topic_partition, self.me, my_epoch));
        let advanced = self.advance_high_watermark(&state.leadership, &log, now_ms);
        drop(state);
        if advanced {
            // How many bytes came is not known here: whoever waits looks.
            let offsets = log.high_watermark().since(before);
            self.waiters.wake(Event::HIGH_WATERMARK, offsets.max(1).saturating_mul(i64::from(i32::MAX)));
        }
        if start_rose {
            self.waiters.wake(Event::LOG_START, 1);
        }
        Ok(proposal)
    }

    /// The log, leader epoch and epoch start for a reader that knows `epoch`.
    pub fn log_and_epoch(
        &self,
        epoch: LeaderEpoch,
        only_leader: bool,
    ) -> Result<(Arc<PartitionLog>, LeaderEpoch, Offset), ErrorCode> {
        let state = self.state.read();
        let log = state.log_for(epoch, only_leader)?;
        Ok((Arc::clone(log), state.leadership.leader_epoch, state.leadership.epoch_start_offset))
    }
}

fn refused(code: ErrorCode) -> AppendError {
    LogError::refused(code, code.message()).into()
}

/// Whether the reader's last record stands in our log too (`Partition.fetchRecords`): the epoch and its end here if not.
fn divergence(log: &PartitionLog, target: &FetchTarget) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    if target.fetch_offset < log.log_start_offset() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let (epoch, end) = log.end_offset_for_epoch(target.last_fetched_epoch).ok_or(ErrorCode::OffsetOutOfRange)?;
    let diverges = epoch < target.last_fetched_epoch || end < target.fetch_offset;
    Ok(diverges.then_some((epoch, end)))
}
