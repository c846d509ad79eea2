//! Which partitions of an internal topic are coordinated here, and at which leader epoch: a partition's slot is Loading from
//! its election on, and Owned once its records are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, TopicPartition};

/// A partition of an internal topic and the epoch under which it is led here.
#[derive(Debug)]
pub struct Home {
    /// The partition.
    pub tp: TopicPartition,
    /// The epoch.
    pub epoch: LeaderEpoch,
}

/// What is held of one partition.
pub trait Held {
    /// Which it is.
    fn home(&self) -> &Home;
}

/// What becomes of one partition of an internal topic here.
enum Slot<P> {
    /// Its records are being read.
    Loading(LeaderEpoch),
    /// What is in it is served.
    Owned(Arc<P>),
}

impl<P: Held> Slot<P> {
    fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Loading(epoch) => *epoch,
            Self::Owned(owned) => owned.home().epoch,
        }
    }

    fn owned(self) -> Option<Arc<P>> {
        match self {
            Self::Loading(_) => None,
            Self::Owned(owned) => Some(owned),
        }
    }
}

/// The slots of all partitions; `None` once the broker stops.
// Written when leadership changes, read by every request.
pub struct Slots<P>(RwLock<Option<BTreeMap<i32, Slot<P>>>>);

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Self(RwLock::new(Some(BTreeMap::new())))
    }
}

impl<P: Held> Slots<P> {
    /// The partition is led here at `epoch`: from now on it is being loaded. Gives whether that is news, and what was served
    /// of it at an older epoch.
    pub fn elect(&self, partition: i32, epoch: LeaderEpoch) -> (bool, Option<Arc<P>>) {
        match &mut *self.0.write() {
            Some(slots) if slots.get(&partition).is_none_or(|slot| slot.epoch() < epoch) => {
                (true, slots.insert(partition, Slot::Loading(epoch)).and_then(Slot::owned))
            }
            _ => (false, None),
        }
    }

    /// The partition is no longer led here; `epoch` says since when, if known. Gives what was served of it.
    pub fn resign(&self, partition: i32, epoch: Option<LeaderEpoch>) -> Option<Arc<P>> {
        let mut slots = self.0.write();
        let slots = slots.as_mut()?;
        let is_known = epoch.is_none_or(|epoch| slots.get(&partition).is_some_and(|slot| epoch >= slot.epoch()));
        if is_known { slots.remove(&partition)?.owned() } else { None }
    }

    /// Serves a partition that was loaded, `prepared` before anybody can see it; not if its leadership has gone meanwhile.
    pub fn serve(&self, owned: &Arc<P>, prepare: impl FnOnce()) -> bool {
        let home = owned.home();
        let mut slots = self.0.write();
        match slots.as_mut().and_then(|slots| slots.get_mut(&home.tp.partition)) {
            Some(slot @ Slot::Loading(_)) if slot.epoch() == home.epoch => {
                prepare();
                *slot = Slot::Owned(Arc::clone(owned));
                true
            }
            _ => false,
        }
    }

    /// The broker stops: nothing is coordinated here from now on. Gives what was served.
    pub fn close(&self) -> Vec<Arc<P>> {
        self.0.write().take().into_iter().flatten().filter_map(|(_, slot)| slot.owned()).collect()
    }

    /// Whether the broker stops.
    pub fn is_closed(&self) -> bool {
        self.0.read().is_none()
    }

    /// The partition, if it is served here.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` once the broker stops; `NotCoordinator`, `CoordinatorLoadInProgress`.
    pub fn get(&self, partition: i32) -> Result<Arc<P>, ErrorCode> {
        match self.0.read().as_ref().ok_or(ErrorCode::CoordinatorNotAvailable)?.get(&partition) {
            None => Err(ErrorCode::NotCoordinator),
            Some(Slot::Loading(_)) => Err(ErrorCode::CoordinatorLoadInProgress),
            Some(Slot::Owned(owned)) => Ok(Arc::clone(owned)),
        }
    }

    /// The same; while it is being loaded, `note` is taken before it can be served.
    pub fn get_or_note(&self, partition: i32, note: impl FnOnce()) -> Option<Arc<P>> {
        match self.0.read().as_ref()?.get(&partition)? {
            Slot::Loading(_) => {
                note();
                None
            }
            Slot::Owned(owned) => Some(Arc::clone(owned)),
        }
    }

    /// Whether the partition is being loaded at that epoch.
    pub fn is_loading(&self, partition: i32, epoch: LeaderEpoch) -> bool {
        let slots = self.0.read();
        matches!(slots.as_ref().and_then(|slots| slots.get(&partition)), Some(Slot::Loading(at)) if *at == epoch)
    }

    /// Whether any partition is being loaded, so that a list of what is coordinated here is not whole.
    pub fn is_loading_any(&self) -> bool {
        self.0.read().iter().flatten().any(|(_, slot)| matches!(slot, Slot::Loading(_)))
    }

    /// All partitions that are served here, in order.
    pub fn owned(&self) -> Vec<Arc<P>> {
        let slots = self.0.read();
        let owned = slots.iter().flat_map(BTreeMap::values).filter_map(|slot| match slot {
            Slot::Owned(owned) => Some(Arc::clone(owned)),
            Slot::Loading(_) => None,
        });
        owned.collect()
    }
}
