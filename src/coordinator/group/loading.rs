//! Partitions of the offsets topic come and go with their leadership: loading all groups of one, giving them up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use super::coordinator::{Cell, GroupCoordinator, OwnedPartition, Slot};
use super::replay::Replay;
use crate::base::blocking;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, ProducerId, TopicPartition};
use crate::base::topic_names::GROUP_METADATA_TOPIC;
use crate::coordinator::reading::{Home, LoadQueue, RETRY, ReadUp, read_all};
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

/// Partitions that wait to be read, and what happens to them meanwhile.
#[derive(Default)]
pub(super) struct Loaders {
    queue: LoadQueue,
    /// Transactions that ended in partitions while these were being read, and whether they were committed.
    completed: HashMap<i32, HashMap<ProducerId, bool>>,
}

impl Loaders {
    pub(super) fn note_completed(&mut self, partition: i32, producer: ProducerId, commit: bool) {
        // The first counts: nothing new is committed to a partition that is being read.
        self.completed.entry(partition).or_default().entry(producer).or_insert(commit);
    }
}

impl GroupCoordinator {
    /// This broker leads `partition` of the offsets topic at `epoch`: its groups are loaded, then served. Older news than
    /// what is known is passed over.
    pub fn on_election(&self, partition: i32, epoch: LeaderEpoch) {
        let former = {
            let mut slots = self.slots.write();
            if slots.get(&partition).is_some_and(|slot| slot.epoch() >= epoch) {
                return;
            }
            // Whatever ended before is in the log by now.
            self.loaders.lock().completed.remove(&partition);
            slots.insert(partition, Slot::Loading(epoch))
        };
        if let Some(Slot::Owned(owned)) = former {
            self.unload(&owned, ErrorCode::NotCoordinator);
        }
        self.queue_loading(partition, epoch);
    }

    /// Lets one of few loaders read the partition.
    fn queue_loading(&self, partition: i32, epoch: LeaderEpoch) {
        let Some(me) = self.myself() else { return };
        if self.loaders.lock().queue.push(partition, epoch) {
            blocking::spawn(&self.runtime, move || me.run_loader());
        }
    }

    fn run_loader(&self) {
        loop {
            let next = self.loaders.lock().queue.next();
            let Some((partition, epoch)) = next else { return };
            self.load(partition, epoch);
        }
    }

    /// This broker no longer leads `partition`; `epoch` says since when, if known. Its groups are forgotten here, and
    /// those who wait are sent to look for their coordinator.
    pub fn on_resignation(&self, partition: i32, epoch: Option<LeaderEpoch>) {
        let former = {
            let mut slots = self.slots.write();
            match slots.get(&partition) {
                Some(slot) if epoch.is_none_or(|epoch| epoch >= slot.epoch()) => slots.remove(&partition),
                _ => None,
            }
        };
        if let Some(Slot::Owned(owned)) = former {
            self.unload(&owned, ErrorCode::NotCoordinator);
            info!(partition = %owned.home.tp, epoch = %owned.home.epoch, "gave up groups and offsets");
        }
    }

    pub(super) fn unload(&self, owned: &OwnedPartition, error: ErrorCode) {
        for cell in owned.close() {
            self.update(&cell, |entry, cx| {
                entry.group.die(error, cx);
                entry.offsets = super::offsets::GroupOffsets::default();
            });
        }
    }

    fn is_loading(&self, partition: i32, epoch: LeaderEpoch) -> bool {
        matches!(self.slots.read().get(&partition), Some(Slot::Loading(at)) if *at == epoch)
    }

    /// Reads a partition; if that fails, it is read again later, unless its leadership has gone meanwhile.
    fn load(&self, partition: i32, epoch: LeaderEpoch) {
        if !self.is_loading(partition, epoch) {
            return;
        }
        let home = Arc::new(Home { tp: TopicPartition::new(GROUP_METADATA_TOPIC, partition), epoch });
        let started = Instant::now();
        match self.replay(&home) {
            Ok((replay, up_to)) => self.serve(&home, replay, up_to.records, started),
            Err(ErrorCode::NotLeaderOrFollower) => {
                warn!(partition = %home.tp, %epoch, "loading ends: the partition is not led here");
                self.on_resignation(partition, Some(epoch));
            }
            Err(error) => {
                error!(partition = %home.tp, %epoch, %error, "loading groups and offsets failed; once more");
                let Some(me) = self.myself() else { return };
                self.runtime.spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    me.queue_loading(partition, epoch);
                });
            }
        }
    }

    fn replay(&self, home: &Home) -> Result<(Replay, ReadUp), ErrorCode> {
        let mut replay = Replay::default();
        let goes_on = || self.is_loading(home.tp.partition, home.epoch);
        let take = |header: &BatchHeader, offset, record: &Record<'_>| {
            replay.take(header, offset, record, |topic| self.intern(topic))
        };
        let up_to =
            read_all(&*self.log, home, "groups and offsets", self.config.offsets_load_buffer_size, goes_on, take)?;
        Ok((replay, up_to))
    }

    fn serve(&self, home: &Arc<Home>, replay: Replay, records: u64, started: Instant) {
        let mut offsets = 0;
        let mut groups = HashMap::new();
        for (group, held) in replay.finish(&home.tp) {
            offsets += held.len();
            groups.insert(Arc::clone(group.id()), Arc::new(Cell::new(Arc::clone(home), group, held)));
        }
        let (partition, count) = (home.tp.partition, groups.len());
        let owned = Arc::new(OwnedPartition::new(Arc::clone(home), groups));
        let completed = {
            let mut slots = self.slots.write();
            match slots.get(&partition) {
                Some(Slot::Loading(at)) if *at == home.epoch => {
                    slots.insert(partition, Slot::Owned(Arc::clone(&owned)));
                }
                _ => return,
            }
            self.loaders.lock().completed.remove(&partition).unwrap_or_default()
        };
        completed.into_iter().for_each(|(producer, commit)| self.complete(&owned, producer, commit));
        for cell in owned.cells() {
            self.update(&cell, |entry, cx| entry.group.on_loaded(cx));
        }
        if records > 0 {
            let ms = started.elapsed().as_millis();
            info!(partition = %home.tp, epoch = %home.epoch, records, groups = count, offsets, ms, "groups and offsets loaded");
        }
    }

    /// Whether any partition is being loaded, so that a list of groups is not whole.
    pub fn is_loading_any(&self) -> bool {
        self.slots.read().values().any(|slot| matches!(slot, Slot::Loading(_)))
    }

    /// Whether a partition's groups are served here.
    pub fn is_served(&self, partition: i32) -> bool {
        matches!(self.slots.read().get(&partition), Some(Slot::Owned(_)))
    }
}
