//! Partitions of the offsets topic come and go with their leadership: serving the groups of one, giving them up.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::info;

use super::coordinator::{Cell, GroupCoordinator, OwnedPartition};
use super::replay::Replay;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, ProducerId};
use crate::base::topic_names::GROUP_METADATA_TOPIC;
use crate::coordinator::loading::{self, Loaded, Loads, Partitions};
use crate::coordinator::wire::Malformed;
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

/// Transactions that ended in partitions while these were being loaded, and whether they were committed.
#[derive(Default)]
pub(super) struct Completed(HashMap<i32, HashMap<ProducerId, bool>>);

impl Completed {
    pub(super) fn note(&mut self, partition: i32, producer: ProducerId, commit: bool) {
        // The first counts: nothing new is committed to a partition that is being loaded.
        self.0.entry(partition).or_default().entry(producer).or_insert(commit);
    }

    fn take(&mut self, partition: i32) -> HashMap<ProducerId, bool> {
        self.0.remove(&partition).unwrap_or_default()
    }
}

impl Loads for GroupCoordinator {
    const TOPIC: &'static str = GROUP_METADATA_TOPIC;
    const WHAT: &'static str = "groups and offsets";
    type Replay = Replay;
    type Owned = OwnedPartition;

    fn partitions(&self) -> &Partitions<OwnedPartition> {
        &self.partitions
    }

    fn myself(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    fn take(
        &self,
        replay: &mut Replay,
        header: &BatchHeader,
        offset: Offset,
        record: &Record<'_>,
    ) -> Result<(), Malformed> {
        replay.take(header, offset, record, |topic| self.intern(topic))
    }

    fn resign(&self, partition: i32, epoch: LeaderEpoch) {
        self.on_resignation(partition, Some(epoch));
    }

    fn serve(&self, loaded: Loaded<Replay>) {
        let Loaded { home, replay, records, started } = loaded;
        let mut offsets = 0;
        let mut groups = HashMap::new();
        for (group, held) in replay.finish(&home.tp) {
            offsets += held.len();
            groups.insert(Arc::clone(group.id()), Arc::new(Cell::new(Arc::clone(&home), group, held)));
        }
        let count = groups.len();
        let owned = Arc::new(OwnedPartition::new(Arc::clone(&home), groups));
        // Before anybody can add to the producer's next transaction.
        let complete = || {
            let completed = self.completed.lock().take(home.tp.partition);
            completed.into_iter().for_each(|(producer, commit)| self.complete(&owned, producer, commit));
        };
        if !self.partitions.slots.serve(&owned, complete) {
            return;
        }
        for cell in owned.cells() {
            self.update(&cell, |entry, cx| entry.group.on_loaded(cx));
        }
        if records > 0 {
            let ms = started.elapsed().as_millis();
            info!(partition = %home.tp, epoch = %home.epoch, records, groups = count, offsets, ms, "groups and offsets loaded");
        }
    }
}

impl GroupCoordinator {
    /// This broker leads `partition` of the offsets topic at `epoch`: its groups are loaded, then served. Older news than
    /// what is known is passed over.
    pub fn on_election(&self, partition: i32, epoch: LeaderEpoch) {
        let (is_news, former) = self.partitions.slots.elect(partition, epoch);
        if let Some(owned) = former {
            self.unload(&owned, ErrorCode::NotCoordinator);
        }
        if is_news {
            // Whatever ended until now is in the log.
            self.completed.lock().take(partition);
            loading::queue(self, partition, epoch);
        }
    }

    /// This broker no longer leads `partition`; `epoch` says since when, if known. Its groups are forgotten here, and
    /// those who wait are sent to look for their coordinator.
    pub fn on_resignation(&self, partition: i32, epoch: Option<LeaderEpoch>) {
        if let Some(owned) = self.partitions.slots.resign(partition, epoch) {
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

    /// Whether any partition is being loaded, so that a list of groups is not whole.
    pub fn is_loading_any(&self) -> bool {
        self.partitions.slots.is_loading_any()
    }

    /// Whether a partition's groups are served here.
    pub fn is_served(&self, partition: i32) -> bool {
        self.partitions.slots.get(partition).is_ok()
    }
}
