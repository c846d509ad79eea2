//! Partitions of `__transaction_state` come and go with their leadership: loading all ids of one, giving them up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use super::coordinator::{Cell, OwnedPartition, Slot, TxnCoordinator};
use super::replay::Replay;
use super::state::Transaction;
use crate::base::blocking;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, TopicPartition};
use crate::base::topic_names::TRANSACTION_STATE_TOPIC;
use crate::coordinator::internal_log::Acked;
use crate::coordinator::reading::{Home, RETRY, ReadUp, read_all};
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

/// A partition that was read.
struct Read {
    home: Arc<Home>,
    replay: Replay,
    up_to: ReadUp,
    started: Instant,
}

impl TxnCoordinator {
    /// This broker leads `partition` of the state topic at `epoch`: its ids are loaded, then served, and transactions that
    /// were about to end do. Older news than what is known is passed over.
    pub fn on_election(&self, partition: i32, epoch: LeaderEpoch) {
        let former = {
            let mut slots = self.slots.write();
            if self.is_stopped() || slots.get(&partition).is_some_and(|slot| slot.epoch() >= epoch) {
                return;
            }
            slots.insert(partition, Slot::Loading(epoch))
        };
        self.give_up(partition, former);
        self.queue_loading(partition, epoch);
    }

    /// This broker no longer leads `partition`; `epoch` says since when, if known.
    pub fn on_resignation(&self, partition: i32, epoch: Option<LeaderEpoch>) {
        let former = {
            let mut slots = self.slots.write();
            match slots.get(&partition) {
                Some(slot) if epoch.is_none_or(|epoch| epoch >= slot.epoch()) => slots.remove(&partition),
                _ => None,
            }
        };
        self.give_up(partition, former);
    }

    fn give_up(&self, partition: i32, former: Option<Slot>) {
        if let Some(Slot::Owned(owned)) = former {
            owned.close();
            self.markers.lock().resign(partition);
            info!(partition = %owned.home.tp, epoch = %owned.home.epoch, "gave up transactional ids");
        }
    }

    /// Lets one of few loaders read the partition.
    fn queue_loading(&self, partition: i32, epoch: LeaderEpoch) {
        let Some(me) = self.myself() else { return };
        if self.loaders.lock().push(partition, epoch) {
            blocking::spawn(&self.runtime, move || me.run_loader());
        }
    }

    fn run_loader(&self) {
        loop {
            let next = self.loaders.lock().next();
            let Some((partition, epoch)) = next else { return };
            self.load(partition, epoch);
        }
    }

    fn is_loading(&self, partition: i32, epoch: LeaderEpoch) -> bool {
        matches!(self.slots.read().get(&partition), Some(Slot::Loading(at)) if *at == epoch)
    }

    fn load(&self, partition: i32, epoch: LeaderEpoch) {
        if !self.is_loading(partition, epoch) {
            return;
        }
        let home = Arc::new(Home { tp: TopicPartition::new(TRANSACTION_STATE_TOPIC, partition), epoch });
        let started = Instant::now();
        match self.replay(&home) {
            Ok((replay, up_to)) => self.await_replicas(Read { home, replay, up_to, started }),
            Err(error) => self.load_failed(&home, error),
        }
    }

    /// If loading fails, it is begun anew later, unless the leadership has gone meanwhile.
    fn load_failed(&self, home: &Home, error: ErrorCode) {
        let (partition, epoch) = (home.tp.partition, home.epoch);
        if error == ErrorCode::NotLeaderOrFollower {
            warn!(partition = %home.tp, %epoch, "loading ends: the partition is not led here");
            return self.on_resignation(partition, Some(epoch));
        }
        error!(partition = %home.tp, %epoch, %error, "loading transactional ids failed; once more");
        let Some(me) = self.myself() else { return };
        self.runtime.spawn(async move {
            tokio::time::sleep(RETRY).await;
            me.queue_loading(partition, epoch);
        });
    }

    fn replay(&self, home: &Home) -> Result<(Replay, ReadUp), ErrorCode> {
        let mut replay = Replay::default();
        let goes_on = || self.is_loading(home.tp.partition, home.epoch);
        let take = |header: &BatchHeader, _, record: &Record<'_>| replay.take(header, record);
        let up_to = read_all(&*self.log, home, "transactional ids", self.config.load_buffer_size, goes_on, take)?;
        Ok((replay, up_to))
    }

    /// What was read is acted on only once every in-sync replica has it. Kafka sends the markers of a PrepareCommit that
    /// nobody else may have; a leader that comes after, without that record, could then let the same transaction abort.
    fn await_replicas(&self, read: Read) {
        match self.log.replicated(&read.home.tp, read.up_to.end, self.config.request_timeout) {
            Acked::Now(Ok(())) => self.serve(read),
            Acked::Now(Err(error)) => self.load_failed(&read.home, error),
            Acked::Later(acked) => {
                let Some(me) = self.myself() else { return };
                self.runtime.spawn(async move {
                    match acked.await {
                        Ok(()) => me.serve(read),
                        Err(error) => me.load_failed(&read.home, error),
                    }
                });
            }
        }
    }

    fn serve(&self, read: Read) {
        let Read { home, replay, up_to, started } = read;
        let records = up_to.records;
        let ids: BTreeMap<_, _> = replay
            .finish()
            .into_iter()
            .map(|(id, value)| {
                let txn = Transaction::from_record(Arc::clone(&id), value);
                (id, Arc::new(Cell::new(Arc::clone(&home), txn)))
            })
            .collect();
        let count = ids.len();
        let owned = Arc::new(OwnedPartition::new(Arc::clone(&home), ids));
        {
            let mut slots = self.slots.write();
            match slots.get(&home.tp.partition) {
                Some(Slot::Loading(at)) if *at == home.epoch => {
                    slots.insert(home.tp.partition, Slot::Owned(Arc::clone(&owned)));
                }
                _ => return,
            }
        }
        let mut ending = 0;
        for cell in owned.cells() {
            let mut entry = cell.entry.lock();
            if !entry.is_lost && entry.txn.on_loaded() {
                ending += 1;
                self.begin_completion(&cell, &mut entry);
            }
        }
        if records > 0 {
            let ms = started.elapsed().as_millis();
            info!(partition = %home.tp, epoch = %home.epoch, records, ids = count, ending, ms, "transactional ids loaded");
        }
    }

    /// Whether any partition is being loaded, so that a list of transactions is not whole.
    pub fn is_loading_any(&self) -> bool {
        self.slots.read().values().any(|slot| matches!(slot, Slot::Loading(_)))
    }

    /// Whether a partition's ids are served here.
    pub fn is_served(&self, partition: i32) -> bool {
        matches!(self.slots.read().get(&partition), Some(Slot::Owned(_)))
    }
}
