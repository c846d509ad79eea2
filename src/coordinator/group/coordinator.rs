//! The shell around groups: which offsets partitions this broker coordinates, the groups in them, the requests that wait,
//! the appends on their way, and the deadlines.
//!
//! A partition is loading or owned, at a leader epoch ([`crate::coordinator::slots`]); appends carry that epoch, so a
//! coordinator that was replaced writes nothing. Each group has a lock of its own, held while it decides and while its record
//! goes into the local log (so that records stand in the order of the decisions), never across an await. Order of locks:
//! slots, then what is about to be served and nobody has seen; a group, then the map it is in.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::batch_of_group;
use super::config::GroupConfig;
use super::effect::{Cx, Effect, JoinReply, Now, Store, SyncReply, Ticket};
use super::loading::Completed;
use super::member::JoinRequest;
use super::offsets::GroupOffsets;
use super::state::Group;
use super::sync::SyncRequest;
use super::timers::Timers;
use super::txn_commit::{OpenTransactions, open_transactions};
use crate::base::blocking;
use crate::base::clock::Clock;
use crate::base::error::ErrorCode;
use crate::base::topic_names::GROUP_METADATA_TOPIC;
use crate::coordinator::batch_writer::BatchWriter;
use crate::coordinator::internal_log::{Acked, AppendOptions, InternalLog};
use crate::coordinator::loading::Partitions;
use crate::coordinator::partitioner;
use crate::coordinator::reading;
use crate::coordinator::slots::{Held, Home};

/// The longest name that a group's record can hold, in bytes.
const MAX_NAME: usize = i16::MAX as usize;

/// Coordinates the groups whose offsets partitions this broker leads.
pub struct GroupCoordinator {
    pub(super) config: GroupConfig,
    pub(super) partitions: Partitions<OwnedPartition>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timers: Timers,
    /// What ended while it was being loaded.
    pub(super) completed: Mutex<Completed>,
    /// One copy of each topic's name for all groups.
    names: Mutex<HashSet<Arc<str>>>,
    pub(super) me: Weak<Self>,
}

/// A member that leaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leaving<'a> {
    /// Its id; empty if it is removed by its `group.instance.id`.
    pub member_id: &'a str,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<&'a str>,
    /// Why, in the client's words (KIP-800).
    pub reason: Option<&'a str>,
}

/// The groups of one offsets partition.
pub(crate) struct OwnedPartition {
    pub(super) home: Arc<Home>,
    /// `None` once the partition was given up, so that no group comes into being in it any more.
    groups: RwLock<Option<HashMap<Arc<str>, Arc<Cell>>>>,
    /// Locked with a group's lock held or none.
    pub(super) transactions: Mutex<OpenTransactions>,
}

impl Held for OwnedPartition {
    fn home(&self) -> &Home {
        &self.home
    }
}

impl OwnedPartition {
    pub(super) fn new(home: Arc<Home>, groups: HashMap<Arc<str>, Arc<Cell>>) -> Self {
        let transactions = Mutex::new(open_transactions(groups.iter()));
        Self { home, groups: RwLock::new(Some(groups)), transactions }
    }

    pub(super) fn get(&self, group_id: &str) -> Option<Arc<Cell>> {
        self.groups.read().as_ref()?.get(group_id).cloned()
    }

    pub(super) fn get_or_create(&self, group_id: &str) -> Result<Arc<Cell>, ErrorCode> {
        if let Some(cell) = self.get(group_id) {
            return Ok(cell);
        }
        let mut groups = self.groups.write();
        let groups = groups.as_mut().ok_or(ErrorCode::NotCoordinator)?;
        let id: Arc<str> = group_id.into();
        let cell = groups
            .entry(Arc::clone(&id))
            .or_insert_with(|| Arc::new(Cell::new(Arc::clone(&self.home), Group::new(id), GroupOffsets::default())));
        Ok(Arc::clone(cell))
    }

    pub(super) fn forget(&self, cell: &Arc<Cell>, group_id: &str) {
        if let Some(groups) = self.groups.write().as_mut()
            && groups.get(group_id).is_some_and(|known| Arc::ptr_eq(known, cell))
        {
            groups.remove(group_id);
        }
    }

    /// All groups, in no order.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        self.groups.read().iter().flat_map(HashMap::values).cloned().collect()
    }

    /// Closes the partition and gives its groups back.
    pub(super) fn close(&self) -> Vec<Arc<Cell>> {
        self.groups.write().take().map(|groups| groups.into_values().collect()).unwrap_or_default()
    }
}

/// A group with its offsets and those who wait for it.
pub(super) struct Cell {
    pub(super) home: Arc<Home>,
    pub(super) entry: Mutex<Entry>,
}

/// What a group's lock guards.
pub(super) struct Entry {
    pub(super) group: Group,
    pub(super) offsets: GroupOffsets,
    waiting: HashMap<Ticket, Waiter>,
    last_ticket: u64,
    /// When the timers will look at the group; `i64::MAX` if they will not.
    pub(super) wake_at: i64,
}

enum Waiter {
    Join(oneshot::Sender<JoinReply>),
    Sync(oneshot::Sender<SyncReply>),
}

impl Cell {
    pub(super) fn new(home: Arc<Home>, group: Group, offsets: GroupOffsets) -> Self {
        let entry = Entry { group, offsets, waiting: HashMap::new(), last_ticket: 0, wake_at: i64::MAX };
        Self { home, entry: Mutex::new(entry) }
    }
}

impl Entry {
    fn wait(&mut self, waiter: Waiter) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, waiter);
        ticket
    }

    /// Answers a waiting request; it may have lost its connection meanwhile.
    fn answer_join(&mut self, ticket: Ticket, reply: JoinReply) {
        if let Some(Waiter::Join(sender)) = self.waiting.remove(&ticket) {
            let _ = sender.send(reply);
        }
    }

    fn answer_sync(&mut self, ticket: Ticket, reply: SyncReply) {
        if let Some(Waiter::Sync(sender)) = self.waiting.remove(&ticket) {
            let _ = sender.send(reply);
        }
    }
}

impl GroupCoordinator {
    /// A coordinator of no partition yet. Appends that have to be waited for, and loading, run on `runtime`.
    pub fn new(config: GroupConfig, log: Arc<dyn InternalLog>, clock: Arc<dyn Clock>, runtime: Handle) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            partitions: Partitions::new(log, runtime, config.offsets_load_buffer_size),
            config,
            clock,
            timers: Timers::default(),
            completed: Mutex::default(),
            names: Mutex::new(HashSet::new()),
            me: Weak::clone(me),
        })
    }

    /// The broker's settings for groups.
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// The partition of the offsets topic that `group_id` belongs to.
    pub fn partition_for(&self, group_id: &str) -> i32 {
        let count = self
            .partitions
            .log
            .partition_count(GROUP_METADATA_TOPIC)
            .unwrap_or(self.config.offsets_topic_num_partitions);
        partitioner::partition_for(group_id, count)
    }

    /// Serves nobody any more: every request is answered with `CoordinatorNotAvailable`, those who wait too.
    pub fn stop(&self) {
        for owned in self.partitions.slots.close() {
            self.unload(&owned, ErrorCode::CoordinatorNotAvailable);
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { wall_ms: self.clock.now_ms(), mono_ms: self.clock.monotonic_ms() }
    }

    /// The shared copy of a topic's name.
    pub(super) fn intern(&self, topic: &str) -> Arc<str> {
        reading::intern(&mut self.names.lock(), topic)
    }

    /// Drops names that no group uses any more.
    pub(super) fn purge_names(&self) {
        self.names.lock().retain(|name| Arc::strong_count(name) > 1);
    }

    /// The partition that `group_id` belongs to, if it is served here.
    pub(super) fn owner(&self, group_id: &str) -> Result<Arc<OwnedPartition>, ErrorCode> {
        if group_id.len() > MAX_NAME {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.partitions.slots.get(self.partition_for(group_id))
    }

    /// The same for what takes a real group: its id may not be empty.
    pub(super) fn owner_of_named(&self, group_id: &str) -> Result<Arc<OwnedPartition>, ErrorCode> {
        if group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { self.owner(group_id) }
    }

    pub(super) fn get_or_create(&self, group_id: &str) -> Result<Arc<Cell>, ErrorCode> {
        self.owner(group_id)?.get_or_create(group_id)
    }

    /// A member joins. Answered when its rebalance is complete.
    pub async fn join(&self, group_id: &str, request: JoinRequest) -> JoinReply {
        let member_id = Arc::clone(&request.member_id);
        match self.begin_join(group_id, request) {
            Ok(answer) => answer.await.unwrap_or_else(|_| JoinReply::error(member_id, ErrorCode::NotCoordinator)),
            Err(error) => JoinReply::error(member_id, error),
        }
    }

    fn begin_join(&self, group_id: &str, request: JoinRequest) -> Result<oneshot::Receiver<JoinReply>, ErrorCode> {
        let owner = self.owner_of_named(group_id)?;
        let allowed = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        if !names_fit(&request) {
            return Err(ErrorCode::InvalidRequest);
        }
        let cell = if request.member_id.is_empty() {
            owner.get_or_create(group_id)?
        } else {
            owner.get(group_id).ok_or(ErrorCode::UnknownMemberId)?
        };
        let (sender, answer) = oneshot::channel();
        self.update(&cell, |entry, cx| {
            let ticket = entry.wait(Waiter::Join(sender));
            entry.group.join(request, ticket, cx);
        });
        Ok(answer)
    }

    /// A member asks for its assignment; the leader brings everyone's.
    pub async fn sync(&self, group_id: &str, request: SyncRequest) -> SyncReply {
        match self.begin_sync(group_id, request) {
            Ok(answer) => answer.await.unwrap_or_else(|_| SyncReply::error(ErrorCode::NotCoordinator)),
            Err(error) => SyncReply::error(error),
        }
    }

    fn begin_sync(&self, group_id: &str, request: SyncRequest) -> Result<oneshot::Receiver<SyncReply>, ErrorCode> {
        let owner = match self.owner_of_named(group_id) {
            // The rebalance under way was lost with the former coordinator; old clients do not know the true error.
            Err(ErrorCode::CoordinatorLoadInProgress) => return Err(ErrorCode::RebalanceInProgress),
            owner => owner?,
        };
        let cell = owner.get(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let (sender, answer) = oneshot::channel();
        self.update(&cell, |entry, cx| {
            let ticket = entry.wait(Waiter::Sync(sender));
            entry.group.sync(request, ticket, cx);
        });
        Ok(answer)
    }

    /// A member lives.
    ///
    /// # Errors
    /// `RebalanceInProgress` asks it to join again; the others say why it is no member.
    pub fn heartbeat(
        &self,
        group_id: &str,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let owner = match self.owner_of_named(group_id) {
            // Its state is on the way: nobody is to lose heart.
            Err(ErrorCode::CoordinatorLoadInProgress) => return Ok(()),
            owner => owner?,
        };
        let cell = owner.get(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        self.touch(&cell, |entry, cx| entry.group.heartbeat(generation, member_id, instance_id, cx))
    }

    /// Members leave, each with its `group.instance.id` and its reason, if it gives them. One result for each, in order.
    ///
    /// # Errors
    /// If the group is not served here.
    pub fn leave(&self, group_id: &str, members: &[Leaving<'_>]) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        let owner = self.owner_of_named(group_id)?;
        let Some(cell) = owner.get(group_id) else {
            return Ok(vec![Err(ErrorCode::UnknownMemberId); members.len()]);
        };
        self.update(&cell, |entry, cx| {
            if entry.group.state() == super::state::GroupState::Dead {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
            let leave = |leaving: &Leaving<'_>| {
                cx.client_reason = leaving.reason.map(Arc::from);
                entry.group.leave(leaving.member_id, leaving.group_instance_id, cx)
            };
            Ok(members.iter().map(leave).collect())
        })
    }

    /// Lets `event` happen to a group, carries out what follows from it, and keeps its deadline.
    pub(super) fn update<R>(&self, cell: &Arc<Cell>, event: impl FnOnce(&mut Entry, &mut Cx<'_>) -> R) -> R {
        let mut entry = cell.entry.lock();
        let (result, effects) = self.decide(&mut entry, event);
        self.carry_out(cell, &mut entry, effects);
        self.schedule(cell, &mut entry);
        result
    }

    /// The same for events that can only put deadlines off.
    pub(super) fn touch<R>(&self, cell: &Arc<Cell>, event: impl FnOnce(&mut Entry, &mut Cx<'_>) -> R) -> R {
        let mut entry = cell.entry.lock();
        let (result, effects) = self.decide(&mut entry, event);
        debug_assert!(effects.is_empty());
        result
    }

    fn decide<R>(&self, entry: &mut Entry, event: impl FnOnce(&mut Entry, &mut Cx<'_>) -> R) -> (R, Vec<Effect>) {
        let mut effects = Vec::new();
        let mut cx = Cx { now: self.now(), config: &self.config, client_reason: None, effects: &mut effects };
        let result = event(entry, &mut cx);
        (result, effects)
    }

    fn carry_out(&self, cell: &Arc<Cell>, entry: &mut Entry, effects: Vec<Effect>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            match effect {
                Effect::Join(ticket, reply) => entry.answer_join(ticket, reply),
                Effect::Sync(ticket, reply) => entry.answer_sync(ticket, reply),
                Effect::Store(store) => queue.extend(self.store(cell, entry, store)),
            }
        }
    }

    /// Appends a group's record. What follows from it is given back if it is acknowledged at once, else done later.
    fn store(&self, cell: &Arc<Cell>, entry: &mut Entry, store: Store) -> Vec<Effect> {
        let batch = batch_of_group(entry.group.id(), &store.value, self.clock.now_ms(), self.config.codec);
        let appended =
            batch.and_then(|batch| self.partitions.log.append(&cell.home.tp, batch, self.append_options(&cell.home)));
        let result = match appended.map(|appended| appended.acked) {
            Err(error) => Err(error),
            Ok(Acked::Now(result)) => result,
            Ok(Acked::Later(acked)) => {
                if let Some(me) = self.me.upgrade() {
                    let cell = Arc::clone(cell);
                    self.partitions.runtime.spawn(async move {
                        let result = acked.await.map_err(store_error);
                        me.update(&cell, |entry, cx| entry.group.on_stored(store.then, result, cx));
                    });
                }
                return Vec::new();
            }
        };
        self.decide(entry, |entry, cx| entry.group.on_stored(store.then, result.map_err(store_error), cx)).1
    }

    /// An empty batch for the offsets topic.
    pub(super) fn batch(&self) -> BatchWriter {
        BatchWriter::new(self.clock.now_ms(), self.config.codec)
    }

    pub(super) fn append_options(&self, home: &Home) -> AppendOptions {
        AppendOptions {
            leader_epoch: home.epoch,
            required_acks: self.config.offset_commit_required_acks,
            timeout: self.config.offset_commit_timeout,
        }
    }

    fn schedule(&self, cell: &Arc<Cell>, entry: &mut Entry) {
        if let Some(at) = entry.group.next_deadline()
            && at < entry.wake_at
        {
            entry.wake_at = at;
            self.timers.push(at, Arc::downgrade(cell));
        }
    }

    /// Does what is due and says when to come back, in milliseconds from now.
    pub fn run_due(&self) -> Option<Duration> {
        let now = self.clock.monotonic_ms();
        while let Some((at, cell)) = self.timers.pop_due(now) {
            let Some(cell) = cell.upgrade() else { continue };
            let is_live = {
                let mut entry = cell.entry.lock();
                let is_live = entry.wake_at == at;
                if is_live {
                    entry.wake_at = i64::MAX;
                }
                is_live
            };
            if is_live {
                self.update(&cell, |entry, cx| entry.group.on_time(cx));
                self.drop_stillborn(&cell);
            }
        }
        let wait = self.timers.next()?.saturating_sub(now).max(0);
        Some(Duration::from_millis(wait.unsigned_abs()))
    }

    /// Serves deadlines and expiry until dropped. One task of the control runtime.
    pub async fn run(self: Arc<Self>) {
        let mut expiry = tokio::time::interval(self.config.offsets_retention_check_interval);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        expiry.reset();
        // However little is due, look again now and then.
        let idle = Duration::from_secs(3_600);
        loop {
            let wait = self.run_due().unwrap_or(idle);
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => {}
                () = self.timers.earlier() => {}
                _ = expiry.tick() => {
                    let me = Arc::clone(&self);
                    if let Err(error) = blocking::spawn(&self.partitions.runtime, move || me.expire()).await {
                        tracing::error!(%error, "looking for expired offsets failed");
                    }
                }
            }
        }
    }
}

/// Whether every name fits into the group's record. Kafka fails later, when it writes that record.
fn names_fit(request: &JoinRequest) -> bool {
    let names = [&request.member_id, &request.new_member_id, &request.client_id, &request.protocol_type];
    names.into_iter().chain(&request.group_instance_id).all(|name| name.len() <= MAX_NAME)
        && request.protocols.iter().all(|protocol| protocol.name.len() <= MAX_NAME)
}

/// What a client is told when a group's record could not be stored (`GroupMetadataManager.storeGroup`).
fn store_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
