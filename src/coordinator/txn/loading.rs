//! Partitions of `__transaction_state` come and go with their leadership: serving the ids of one, giving them up.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::info;

use super::coordinator::{Cell, OwnedPartition, TxnCoordinator};
use super::replay::Replay;
use super::state::Transaction;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::topic_names::TRANSACTION_STATE_TOPIC;
use crate::coordinator::loading::{self, Loaded, Loads, Partitions};
use crate::coordinator::wire::Malformed;
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

impl Loads for TxnCoordinator {
    const TOPIC: &'static str = TRANSACTION_STATE_TOPIC;
    const WHAT: &'static str = "transactional ids";
    type Replay = Replay;
    type Owned = OwnedPartition;

    fn partitions(&self) -> &Partitions<OwnedPartition> {
        &self.partitions
    }

    fn myself(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    fn take(&self, replay: &mut Replay, header: &BatchHeader, _: Offset, record: &Record<'_>) -> Result<(), Malformed> {
        replay.take(header, record)
    }

    fn resign(&self, partition: i32, epoch: LeaderEpoch) {
        self.on_resignation(partition, Some(epoch));
    }

    fn serve(&self, loaded: Loaded<Replay>) {
        let Loaded { home, replay, records, started } = loaded;
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
        if !self.partitions.slots.serve(&owned, || ()) {
            return;
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
}

impl TxnCoordinator {
    /// This broker leads `partition` of the state topic at `epoch`: its ids are loaded, then served, and transactions that
    /// were about to end do. Older news than what is known is passed over.
    pub fn on_election(&self, partition: i32, epoch: LeaderEpoch) {
        let (is_news, former) = self.partitions.slots.elect(partition, epoch);
        self.give_up(partition, former);
        if is_news {
            loading::queue(self, partition, epoch);
        }
    }

    /// This broker no longer leads `partition`; `epoch` says since when, if known.
    pub fn on_resignation(&self, partition: i32, epoch: Option<LeaderEpoch>) {
        self.give_up(partition, self.partitions.slots.resign(partition, epoch));
    }

    fn give_up(&self, partition: i32, former: Option<Arc<OwnedPartition>>) {
        if let Some(owned) = former {
            owned.close();
            self.markers.lock().resign(partition);
            info!(partition = %owned.home.tp, epoch = %owned.home.epoch, "gave up transactional ids");
        }
    }

    /// Whether any partition is being loaded, so that a list of transactions is not whole.
    pub fn is_loading_any(&self) -> bool {
        self.partitions.slots.is_loading_any()
    }

    /// Whether a partition's ids are served here.
    pub fn is_served(&self, partition: i32) -> bool {
        self.partitions.slots.get(partition).is_ok()
    }
}
