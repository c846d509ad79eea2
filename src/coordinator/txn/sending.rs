//! Sends the markers of transactions that are about to end, and ends them when all are written.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::coordinator::{Cell, Entry, OwnedPartition, TxnCoordinator};
use super::markers::{Marker, News, TxnRef, request};
use super::state::TxnState;
use crate::base::ids::{BrokerId, TopicPartition};

/// However little is due, look again now and then.
const IDLE: Duration = Duration::from_secs(60);
/// Of so many failures in a row one is said aloud.
const LOUD: u64 = 100;

impl TxnCoordinator {
    /// A transaction is about to end, and that is stored: its markers are to be sent.
    pub(super) fn begin_completion(&self, cell: &Arc<Cell>, entry: &mut Entry) {
        let value = entry.txn.value();
        if value.partitions.is_empty() {
            return self.complete(cell, entry, &[]);
        }
        let home = &cell.home;
        let of = TxnRef { partition: home.tp.partition, epoch: home.epoch, id: Arc::clone(entry.txn.id()) };
        let marker = Marker {
            of,
            producer: value.producer,
            commit: value.state == TxnState::PrepareCommit,
            partitions: value.partitions.clone(),
        };
        self.markers.lock().add(marker, self.clock.monotonic_ms());
        self.marker_bell.notify_one();
    }

    /// These partitions need no marker any more; after the last one the end is stored.
    fn complete(&self, cell: &Arc<Cell>, entry: &mut Entry, partitions: &[TopicPartition]) {
        let now_ms = self.clock.now_ms();
        let transition = if partitions.is_empty() {
            entry.txn.completion(now_ms)
        } else {
            entry.txn.acknowledge(partitions, now_ms)
        };
        if let Some(transition) = transition {
            drop(self.store(cell, entry, transition));
        }
    }

    /// The id, if its partition is still served in that epoch.
    fn find(&self, of: &TxnRef) -> Option<Arc<Cell>> {
        self.owner_of(of)?.get(&of.id)
    }

    fn is_wanted(&self, of: &TxnRef) -> bool {
        self.owner_of(of).is_some()
    }

    fn owner_of(&self, of: &TxnRef) -> Option<Arc<OwnedPartition>> {
        self.partitions.slots.get(of.partition).ok().filter(|owned| owned.home.epoch == of.epoch)
    }

    fn hear(&self, news: News) {
        match news {
            News::Settled(of, partitions) => {
                let Some(cell) = self.find(&of) else {
                    return debug!(id = %of.id, epoch = %of.epoch, "a marker is written for a transaction of a former epoch");
                };
                let mut entry = cell.entry.lock();
                if !entry.is_lost {
                    self.complete(&cell, &mut entry, &partitions);
                }
            }
            News::Superseded(of, error) => {
                warn!(id = %of.id, epoch = %of.epoch, %error, "a later coordinator ends this transaction: no more markers");
            }
        }
    }

    /// Sends what is due. Says when to come back, if nothing else happens.
    pub(super) fn send_due(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.monotonic_ms();
        let (news, ready, next) = {
            let mut markers = self.markers.lock();
            let news = markers.route_due(now, |of| self.is_wanted(of), |partition| self.channel.route(partition));
            (news, markers.take_ready(), markers.next_due())
        };
        for news in news {
            if let News::Settled(of, partitions) = &news {
                info!(id = %of.id, ?partitions, "these partitions are gone, and need no marker");
            }
            self.hear(news);
        }
        for (broker, sent) in ready {
            self.partitions.runtime.spawn(Arc::clone(self).send_to(broker, sent));
        }
        let wait = next?.saturating_sub(now).max(0);
        Some(Duration::from_millis(wait.unsigned_abs()))
    }

    async fn send_to(self: Arc<Self>, broker: BrokerId, sent: Vec<Marker>) {
        let answer = self.channel.send(broker, request(&sent)).await;
        let now = self.clock.monotonic_ms();
        let news = match answer {
            Ok(response) => self.markers.lock().answered(broker, sent, &response, now),
            Err(why) => {
                let markers = sent.len();
                let failures = self.markers.lock().failed(broker, sent, now);
                if failures % LOUD == 1 {
                    info!(%broker, markers, failures, "markers did not get through, are sent again: {why}");
                } else {
                    debug!(%broker, markers, failures, "markers did not get through, are sent again: {why}");
                }
                Vec::new()
            }
        };
        news.into_iter().for_each(|news| self.hear(news));
        self.marker_bell.notify_one();
    }

    pub(super) async fn run_markers(self: &Arc<Self>) {
        loop {
            let wait = self.send_due().unwrap_or(IDLE);
            tokio::select! {
                biased;
                () = self.marker_bell.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
