//! The shell around transactional ids: which partitions of `__transaction_state` this broker coordinates, the ids in them,
//! and the changes on their way into the log.
//!
//! A partition is loading or owned, at a leader epoch ([`crate::coordinator::slots`]); appends carry that epoch, so a
//! coordinator that was replaced writes nothing, and markers carry it as the coordinator epoch. Each id has a lock of its
//! own, held while it decides and while its record goes into the local log, never across an await. Order of locks: a
//! transactional id, then the markers; the slots and the map of ids are held for a look only.
//!
//! A request that was begun is carried through whether or not its connection lives: the acknowledgement is awaited by a
//! task of the runtime, and the answer is handed over to whoever still waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, info, warn};

use super::config::TxnConfig;
use super::markers::{MarkerChannel, Markers};
use super::producer_ids::ProducerIds;
use super::records::{MAX_NAME, put_key, put_value};
use super::state::{End, Init, Producer, Transaction, Transition};
use crate::base::clock::Clock;
use crate::base::error::ErrorCode;
use crate::base::ids::{ProducerId, TopicPartition};
use crate::base::topic_names::TRANSACTION_STATE_TOPIC;
use crate::coordinator::batch_writer::BatchWriter;
use crate::coordinator::internal_log::{Acked, AppendOptions, InternalLog};
use crate::coordinator::loading::{Loads, Partitions};
use crate::coordinator::partitioner;
use crate::coordinator::slots::{Held, Home};
use crate::protocol::compress::Codec;

/// How long to wait before the end of a transaction is stored again.
const APPEND_RETRY: Duration = Duration::from_millis(100);
/// An InitProducerId that finds, each time with a fresh producer id, that it needs one gives up after so many.
const INIT_ATTEMPTS: usize = 3;

/// What a coordinator is built over.
pub struct Surroundings {
    /// Where the records go.
    pub log: Arc<dyn InternalLog>,
    /// Where producer ids come from.
    pub producer_ids: Arc<ProducerIds>,
    /// How markers reach the leaders of partitions.
    pub channel: Arc<dyn MarkerChannel>,
    /// The broker's clock.
    pub clock: Arc<dyn Clock>,
    /// Where acknowledgements are awaited and partitions loaded.
    pub runtime: Handle,
}

/// Coordinates the transactions whose state partitions this broker leads.
pub struct TxnCoordinator {
    pub(super) config: TxnConfig,
    pub(super) partitions: Partitions<OwnedPartition>,
    pub(super) channel: Arc<dyn MarkerChannel>,
    pub(super) clock: Arc<dyn Clock>,
    producer_ids: Arc<ProducerIds>,
    /// Locked for a decision only.
    pub(super) markers: Mutex<Markers>,
    /// Rings when there are new markers.
    pub(super) marker_bell: Notify,
    pub(super) me: Weak<Self>,
}

/// The ids of one state partition.
pub(crate) struct OwnedPartition {
    pub(super) home: Arc<Home>,
    /// `None` once the partition was given up, so that no id comes into being in it any more.
    ids: RwLock<Option<BTreeMap<Arc<str>, Arc<Cell>>>>,
}

/// A transactional id. Its lock is held for a decision and an append to the local log.
pub(super) struct Cell {
    pub(super) home: Arc<Home>,
    pub(super) entry: Mutex<Entry>,
}

/// What an id's lock guards.
pub(super) struct Entry {
    pub(super) txn: Transaction,
    /// Whether this broker no longer leads its partition in that epoch.
    pub(super) is_lost: bool,
}

impl Cell {
    pub(super) fn new(home: Arc<Home>, txn: Transaction) -> Self {
        Self { home, entry: Mutex::new(Entry { txn, is_lost: false }) }
    }
}

impl Held for OwnedPartition {
    fn home(&self) -> &Home {
        &self.home
    }
}

impl OwnedPartition {
    pub(super) fn new(home: Arc<Home>, ids: BTreeMap<Arc<str>, Arc<Cell>>) -> Self {
        Self { home, ids: RwLock::new(Some(ids)) }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Cell>> {
        self.ids.read().as_ref()?.get(id).cloned()
    }

    fn get_or_create(&self, id: &str, now_ms: i64) -> Result<Arc<Cell>, ErrorCode> {
        let mut ids = self.ids.write();
        let ids = ids.as_mut().ok_or(ErrorCode::NotCoordinator)?;
        let id: Arc<str> = id.into();
        let new = || Arc::new(Cell::new(Arc::clone(&self.home), Transaction::new(Arc::clone(&id), now_ms)));
        Ok(Arc::clone(ids.entry(Arc::clone(&id)).or_insert_with(new)))
    }

    pub(super) fn forget(&self, cell: &Arc<Cell>, id: &str) {
        if let Some(ids) = self.ids.write().as_mut()
            && ids.get(id).is_some_and(|known| Arc::ptr_eq(known, cell))
        {
            ids.remove(id);
        }
    }

    /// All ids, in order.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        self.ids.read().iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Closes the partition: its ids do nothing more here.
    pub(super) fn close(&self) {
        for cell in self.ids.write().take().unwrap_or_default().into_values() {
            cell.entry.lock().is_lost = true;
        }
    }
}

/// What a client waits for: that a change is stored.
type Stored = oneshot::Receiver<Result<(), ErrorCode>>;

/// An InitProducerId that was begun.
enum Begun {
    NeedsProducerId,
    /// Once stored, this producer is given out; without one, the client is to come again.
    Waits(Stored, Option<Producer>),
}

impl TxnCoordinator {
    /// A coordinator of no partition yet.
    pub fn new(config: TxnConfig, around: Surroundings) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            partitions: Partitions::new(around.log, around.runtime, config.load_buffer_size),
            config,
            channel: around.channel,
            clock: around.clock,
            producer_ids: around.producer_ids,
            markers: Mutex::default(),
            marker_bell: Notify::new(),
            me: Weak::clone(me),
        })
    }

    /// The partition of the state topic that `id` belongs to.
    pub fn partition_for(&self, id: &str) -> i32 {
        let count = self.partitions.log.partition_count(TRANSACTION_STATE_TOPIC).unwrap_or(self.config.num_partitions);
        partitioner::partition_for(id, count)
    }

    /// Serves deadlines, expiry and markers until dropped. One task of the control runtime.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.run_markers(), self.run_time_outs(), self.run_expiry());
    }

    /// Serves nobody any more.
    pub fn stop(&self) {
        self.partitions.slots.close().iter().for_each(|owned| owned.close());
        *self.markers.lock() = Markers::default();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.partitions.slots.is_closed()
    }

    /// The partition that `id` belongs to, if it is served here.
    pub(super) fn owner(&self, id: &str) -> Result<Arc<OwnedPartition>, ErrorCode> {
        if id.is_empty() || id.len() > MAX_NAME {
            return Err(ErrorCode::InvalidRequest);
        }
        self.partitions.slots.get(self.partition_for(id))
    }

    /// An id in use.
    fn known(&self, id: &str) -> Result<Arc<Cell>, ErrorCode> {
        self.owner(id)?.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    /// InitProducerId with a transactional id: a producer comes, and whoever used the id before is fenced off.
    ///
    /// # Errors
    /// `ConcurrentTransactions` while something is under way; the others say why there is no producer for it.
    pub async fn init_producer_id(
        &self,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        if id.is_empty() || id.len() > MAX_NAME {
            return Err(ErrorCode::InvalidRequest);
        }
        if timeout_ms <= 0 || timeout_ms > self.config.max_timeout_ms {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let mut fresh = None;
        for _ in 0..INIT_ATTEMPTS {
            match self.begin_init(id, timeout_ms, expected, fresh)? {
                Begun::NeedsProducerId => {
                    let generated = self.producer_ids.generate().await;
                    fresh = Some(generated.map_err(|error| {
                        warn!(id, "no producer id: {error}");
                        ErrorCode::CoordinatorLoadInProgress
                    })?);
                }
                Begun::Waits(stored, producer) => {
                    wait(stored).await?;
                    let producer = producer.ok_or(ErrorCode::ConcurrentTransactions)?;
                    info!(id, producer_id = %producer.id, epoch = %producer.epoch, "a transactional id is ready for its producer");
                    return Ok(producer);
                }
            }
        }
        Err(ErrorCode::ConcurrentTransactions)
    }

    fn begin_init(
        &self,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh: Option<ProducerId>,
    ) -> Result<Begun, ErrorCode> {
        let owner = self.owner(id)?;
        let now_ms = self.clock.now_ms();
        let cell = match owner.get(id) {
            Some(cell) => cell,
            None if fresh.is_none() => return Ok(Begun::NeedsProducerId),
            None => owner.get_or_create(id, now_ms)?,
        };
        let mut entry = cell.entry.lock();
        entry.check()?;
        Ok(match entry.txn.init(expected, timeout_ms, fresh, now_ms)? {
            Init::NeedsProducerId => Begun::NeedsProducerId,
            Init::Store(transition) => {
                let producer = transition.value.producer;
                Begun::Waits(self.store(&cell, &mut entry, transition), Some(producer))
            }
            Init::Abort(transition) => {
                info!(id, "a new producer comes: what the former has under way is aborted");
                Begun::Waits(self.store(&cell, &mut entry, transition), None)
            }
        })
    }

    /// Partitions take part in the producer's transaction from now on; the first ones begin it.
    ///
    /// # Errors
    /// Why they do not.
    pub async fn add_partitions(
        &self,
        id: &str,
        producer: Producer,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<(), ErrorCode> {
        let cell = self.known(id)?;
        let begun = {
            let mut entry = cell.entry.lock();
            entry.check()?;
            let transition = entry.txn.add_partitions(producer, partitions, self.clock.now_ms())?;
            transition.map(|transition| self.store(&cell, &mut entry, transition))
        };
        match begun {
            Some(stored) => wait(stored).await,
            None => Ok(()),
        }
    }

    /// Whether partitions take part in the producer's transaction (KIP-890), one answer for each, in order.
    ///
    /// # Errors
    /// Why it has none.
    pub fn verify_partitions<'a>(
        &self,
        id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<bool>, ErrorCode> {
        let cell = self.known(id)?;
        let entry = cell.entry.lock();
        entry.check()?;
        entry.txn.verify(producer, partitions)
    }

    /// The producer commits or aborts. Once this is stored it is so, and the client need not wait for the markers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn end_transaction(&self, id: &str, producer: Producer, commit: bool) -> Result<(), ErrorCode> {
        let cell = self.known(id)?;
        let begun = {
            let mut entry = cell.entry.lock();
            entry.check()?;
            match entry.txn.end(producer, commit, self.clock.now_ms())? {
                End::Done => None,
                End::Store(transition) => Some(self.store(&cell, &mut entry, transition)),
            }
        };
        match begun {
            Some(stored) => wait(stored).await,
            None => Ok(()),
        }
    }

    /// Appends an id's record; what follows from it is done when it is acknowledged.
    pub(super) fn store(&self, cell: &Arc<Cell>, entry: &mut Entry, transition: Transition) -> Stored {
        let (sender, stored) = oneshot::channel();
        let acked = self.append(cell, entry.txn.id(), &transition);
        match acked {
            Err(error) => drop(sender.send(self.on_stored(cell, entry, transition, Err(error)))),
            Ok(Acked::Now(result)) => drop(sender.send(self.on_stored(cell, entry, transition, result))),
            Ok(Acked::Later(acked)) => {
                if let Some(me) = self.myself() {
                    let cell = Arc::clone(cell);
                    self.partitions.runtime.spawn(async move {
                        let result = acked.await;
                        let result = me.on_stored(&cell, &mut cell.entry.lock(), transition, result);
                        // The client may have gone.
                        let _ = sender.send(result);
                    });
                }
            }
        }
        stored
    }

    fn append(&self, cell: &Cell, id: &str, transition: &Transition) -> Result<Acked, ErrorCode> {
        let mut batch = BatchWriter::new(self.clock.now_ms(), Codec::None);
        batch.put(|key| put_key(key, id), |out| put_value(out, &transition.value));
        // As long as the transaction itself may take.
        let timeout = Duration::from_millis(u64::try_from(transition.value.timeout_ms).unwrap_or(0));
        let options = AppendOptions { leader_epoch: cell.home.epoch, required_acks: -1, timeout };
        Ok(self.partitions.log.append(&cell.home.tp, batch.finish()?, options)?.acked)
    }

    /// A change was stored, or could not be.
    fn on_stored(
        &self,
        cell: &Arc<Cell>,
        entry: &mut Entry,
        transition: Transition,
        result: Result<(), ErrorCode>,
    ) -> Result<(), ErrorCode> {
        if entry.is_lost {
            return Err(ErrorCode::NotCoordinator);
        }
        let state = transition.value.state;
        match result.map_err(store_error) {
            Ok(()) => {
                debug!(id = %entry.txn.id(), state = state.name(), "a transactional id's state is stored");
                if entry.txn.on_stored(transition) {
                    self.begin_completion(cell, entry);
                }
                Ok(())
            }
            // Its markers are written: nothing else can follow.
            Err(error) if state.is_complete() && error != ErrorCode::NotCoordinator => {
                warn!(id = %entry.txn.id(), state = state.name(), %error, "the end of a transaction is stored again");
                self.store_later(cell, transition);
                Err(error)
            }
            Err(error) => {
                info!(id = %entry.txn.id(), state = state.name(), %error, "a transactional id's state could not be stored");
                entry.txn.on_store_failed(&transition);
                Err(error)
            }
        }
    }

    fn store_later(&self, cell: &Arc<Cell>, transition: Transition) {
        let Some(me) = self.myself() else { return };
        let cell = Arc::clone(cell);
        self.partitions.runtime.spawn(async move {
            tokio::time::sleep(APPEND_RETRY).await;
            let mut entry = cell.entry.lock();
            if !entry.is_lost && !me.is_stopped() {
                drop(me.store(&cell, &mut entry, transition));
            }
        });
    }
}

impl Entry {
    fn check(&self) -> Result<(), ErrorCode> {
        if self.is_lost { Err(ErrorCode::NotCoordinator) } else { Ok(()) }
    }
}

/// Nobody answers any more if the runtime ends.
async fn wait(stored: Stored) -> Result<(), ErrorCode> {
    stored.await.unwrap_or(Err(ErrorCode::NotCoordinator))
}

/// What a client is told when a record could not be stored (`TransactionStateManager.appendTransactionToLog`).
pub(super) fn store_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}

#[cfg(test)]
mod tests;
