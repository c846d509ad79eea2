//! What time alone does: transactions that take too long are aborted, ids that nobody uses are forgotten.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use super::coordinator::{Cell, OwnedPartition, TxnCoordinator};
use super::records::put_key;
use crate::base::blocking;
use crate::base::error::ErrorCode;
use crate::coordinator::batch_writer::BatchWriter;
use crate::coordinator::internal_log::{Acked, AppendOptions};
use crate::protocol::compress::Codec;

/// The most bytes of ids in one batch of tombstones.
const MAX_BATCH_BYTES: usize = 256 * 1024;

impl TxnCoordinator {
    pub(super) async fn run_time_outs(self: &Arc<Self>) {
        self.repeat(self.config.abort_interval, |me| {
            me.abort_timed_out();
        })
        .await;
    }

    pub(super) async fn run_expiry(self: &Arc<Self>) {
        self.repeat(self.config.expiry_interval, |me| {
            me.expire_ids();
        })
        .await;
    }

    async fn repeat(self: &Arc<Self>, period: std::time::Duration, chore: fn(&Self)) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            ticks.tick().await;
            let me = Arc::clone(self);
            // An append may wait for the disk.
            if let Err(error) = blocking::spawn(&self.partitions.runtime, move || chore(&me)).await {
                tracing::error!(%error, "looking over transactional ids failed");
            }
        }
    }

    /// Aborts what has been under way for longer than its producer allowed, and fences the producer off. Says how many.
    pub fn abort_timed_out(&self) -> usize {
        let now_ms = self.clock.now_ms();
        let mut aborted = 0;
        for cell in self.partitions.slots.owned().iter().flat_map(|owned| owned.cells()) {
            let mut entry = cell.entry.lock();
            if entry.is_lost || !entry.txn.is_timed_out(now_ms) {
                continue;
            }
            let (id, timeout_ms) = (Arc::clone(entry.txn.id()), entry.txn.value().timeout_ms);
            info!(%id, timeout_ms, "a transaction takes too long, is aborted and its producer fenced off");
            let transition = entry.txn.fence(now_ms);
            // Should it fail, the next look tries again.
            drop(self.store(&cell, &mut entry, transition));
            aborted += 1;
        }
        aborted
    }

    /// Forgets ids that nobody has used for `transactional.id.expiration.ms`. Says how many were due.
    pub fn expire_ids(&self) -> usize {
        let now_ms = self.clock.now_ms();
        let mut expired = 0;
        for owned in self.partitions.slots.owned() {
            let is_due = |cell: &Arc<Cell>| {
                let mut entry = cell.entry.lock();
                !entry.is_lost && entry.txn.expire(now_ms, self.config.id_expiration_ms)
            };
            let due: Vec<Arc<Cell>> = owned.cells().into_iter().filter(is_due).collect();
            expired += due.len();
            for batch in in_batches(due) {
                self.bury(&owned, batch, now_ms);
            }
        }
        expired
    }

    /// Stores the tombstones of these ids, and forgets them once that is acknowledged.
    fn bury(&self, owned: &Arc<OwnedPartition>, dead: Vec<(Arc<str>, Arc<Cell>)>, now_ms: i64) {
        let mut batch = BatchWriter::new(now_ms, Codec::None);
        dead.iter().for_each(|(id, _)| batch.put_tombstone(|key| put_key(key, id)));
        let options =
            AppendOptions { leader_epoch: owned.home.epoch, required_acks: -1, timeout: self.config.request_timeout };
        let appended = batch.finish().and_then(|batch| self.partitions.log.append(&owned.home.tp, batch, options));
        match appended.map(|appended| appended.acked) {
            Err(error) => buried(owned, &dead, Err(error)),
            Ok(Acked::Now(result)) => buried(owned, &dead, result),
            Ok(Acked::Later(acked)) => {
                let owned = Arc::clone(owned);
                self.partitions.runtime.spawn(async move { buried(&owned, &dead, acked.await) });
            }
        }
    }
}

fn buried(owned: &OwnedPartition, dead: &[(Arc<str>, Arc<Cell>)], result: Result<(), ErrorCode>) {
    match result {
        Ok(()) => info!(partition = %owned.home.tp, ids = dead.len(), "transactional ids have expired"),
        Err(error) => warn!(partition = %owned.home.tp, ids = dead.len(), %error, "transactional ids could not expire"),
    }
    for (id, cell) in dead {
        let is_gone = {
            let mut entry = cell.entry.lock();
            !entry.is_lost && entry.txn.on_buried(result.is_ok())
        };
        if is_gone {
            debug!(%id, "a transactional id has expired");
            owned.forget(cell, id);
        }
    }
}

fn in_batches(cells: Vec<Arc<Cell>>) -> Vec<Vec<(Arc<str>, Arc<Cell>)>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for cell in cells {
        let id = Arc::clone(cell.entry.lock().txn.id());
        bytes += id.len() + 16;
        match batches.last_mut() {
            Some(batch) if bytes <= MAX_BATCH_BYTES => batch.push((id, cell)),
            _ => {
                bytes = id.len() + 16;
                batches.push(vec![(id, cell)]);
            }
        }
    }
    batches
}
