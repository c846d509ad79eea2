//! What the controller reacts to, and its one queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::channels::{ControlRequest, ControlResponse};
use super::requests::Request;
use crate::base::ids::{BrokerEpoch, BrokerId, ControllerEpoch};

/// Something that happened. Events without a payload of their own stand at most once in the queue: their handlers read
/// ZooKeeper anew anyway.
#[derive(Debug)]
pub(super) enum Event {
    /// Stand for election: at start, after registering in a new session, or because `/controller` changed.
    Elect,
    /// The session is over, and with it this controllership.
    SessionExpired,
    /// The outcome of a write is unknown: read everything anew, if still controller.
    Reload,
    /// `/brokers/ids` changed.
    BrokerChange,
    /// A broker changed its registration.
    BrokerModification(BrokerId),
    /// `/brokers/topics` changed.
    TopicChange,
    /// A topic's node changed: partitions were added.
    PartitionModification(Arc<str>),
    /// `/admin/delete_topics` changed.
    TopicDeletion,
    /// Leaders changed ISRs in ZooKeeper themselves (IBP below 2.7-IV2).
    IsrChangeNotification,
    /// Brokers lost log dirs.
    LogDirFailure,
    /// `/admin/preferred_replica_election` came or went.
    PreferredElection,
    /// It is time to look whether leaderships are balanced.
    AutoRebalance,
    /// Configurations changed: replicas out of sync may be allowed to lead a topic from now on.
    ConfigChange,
    /// Replicas out of sync may lead from now on, of all topics that do not say otherwise.
    UncleanLeaders,
    /// `/admin/reassign_partitions` came, changed or went.
    Reassignment,
    /// A broker's process seems to have died, in that life of it.
    Suspected(BrokerId, BrokerEpoch),
    /// It accepts connections again.
    Trusted(BrokerId, BrokerEpoch),
    /// The process of the controller with that `/controller` seems to have died.
    ControllerSuspected {
        /// The node's czxid.
        czxid: i64,
        /// The broker.
        life: (BrokerId, BrokerEpoch),
    },
    /// A broker answered.
    Response {
        /// Who.
        broker: BrokerId,
        /// In which life.
        epoch: BrokerEpoch,
        /// What it was asked.
        request: Box<ControlRequest>,
        /// What it answered.
        response: ControlResponse,
    },
    /// A broker or a client asks. Dropped unanswered by a controller that is not active.
    Request(Request),
    /// Stop: resign and end the loop.
    Shutdown,
}

impl Event {
    fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PartitionModification(a), Self::PartitionModification(b)) => a == b,
            (Self::BrokerModification(a), Self::BrokerModification(b)) => a == b,
            // Their order says how things stand.
            (Self::Suspected(..) | Self::Trusted(..) | Self::ControllerSuspected { .. }, _) => false,
            (Self::Response { .. } | Self::Request(_), _) | (_, Self::Response { .. } | Self::Request(_)) => false,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// The queue. Bounded by its contents: one of each event per topic or broker, one response per request under way, one
/// request per connection.
#[derive(Default)]
pub(super) struct EventQueue {
    events: Mutex<VecDeque<Event>>, // pushed from watch callbacks and channel tasks, taken by the loop
    closed: AtomicBool,             // set under the lock, once the loop has ended
    arrived: Notify,
}

impl EventQueue {
    /// Adds an event, unless it says nothing that a queued one does not say. What ends a controllership goes first, and what
    /// begins it anew.
    pub(super) fn push(&self, event: Event) {
        let mut events = self.events.lock();
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        if events.iter().any(|queued| queued.is_same_as(&event)) {
            return;
        }
        match event {
            // Until everything is read anew nothing can be answered: what was written last is not known.
            Event::SessionExpired | Event::Shutdown | Event::Reload => events.push_front(event),
            event => events.push_back(event),
        }
        drop(events);
        self.arrived.notify_one();
    }

    /// Drops what is queued, and what comes after: the loop has ended, and who asked shall not wait.
    pub(super) fn close(&self) {
        let mut events = self.events.lock();
        self.closed.store(true, Ordering::Relaxed);
        events.clear();
    }

    /// Takes out who seemed to have died or to have come back; what of `suspected` is left by that.
    pub(super) fn take_suspicions(
        &self,
        mut suspected: BTreeMap<BrokerId, BrokerEpoch>,
    ) -> BTreeMap<BrokerId, BrokerEpoch> {
        self.events.lock().retain(|event| match event {
            Event::Suspected(broker, epoch) => {
                suspected.insert(*broker, *epoch);
                false
            }
            Event::Trusted(broker, epoch) => {
                if suspected.get(broker) == Some(epoch) {
                    suspected.remove(broker);
                }
                false
            }
            _ => true,
        });
        suspected
    }

    /// Whether nothing is queued.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.events.lock().is_empty()
    }

    /// Takes the next event.
    pub(super) async fn next(&self) -> Event {
        loop {
            let next = self.events.lock().pop_front();
            match next {
                Some(event) => return event,
                None => self.arrived.notified().await,
            }
        }
    }
}

/// What others see of the controller on this broker.
#[derive(Clone, Default)]
pub struct ControllerHandle {
    pub(super) queue: Arc<EventQueue>,
    pub(super) status: Arc<Status>,
}

pub(super) struct Status {
    pub(super) active: AtomicBool,
    pub(super) epoch: AtomicI32,
    pub(super) controller: AtomicI32,
    /// `unclean.leader.election.enable` as it holds now, for topics that do not set their own.
    pub(super) unclean: AtomicBool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            active: AtomicBool::new(false),
            epoch: AtomicI32::new(0),
            controller: AtomicI32::new(-1),
            unclean: AtomicBool::new(false),
        }
    }
}

impl ControllerHandle {
    /// Whether this broker is the controller, as far as it knows; what it then writes is fenced by the epoch.
    pub fn is_active(&self) -> bool {
        self.status.active.load(Ordering::Acquire)
    }

    /// The epoch of this broker's last controllership.
    pub fn epoch(&self) -> ControllerEpoch {
        ControllerEpoch(self.status.epoch.load(Ordering::Acquire))
    }

    /// Who is the controller, as last read from `/controller`; `None` if nobody is.
    pub fn controller_id(&self) -> Option<BrokerId> {
        Some(BrokerId(self.status.controller.load(Ordering::Acquire))).filter(|id| *id != BrokerId::NONE)
    }

    /// Whether replicas out of sync may lead topics that do not say so themselves (`unclean.leader.election.enable`). Once
    /// they may, partitions without a leader get one (`enableDefaultUncleanLeaderElection`).
    pub fn allow_unclean_leaders(&self, allowed: bool) {
        if !self.status.unclean.swap(allowed, Ordering::AcqRel) && allowed {
            self.queue.push(Event::UncleanLeaders);
        }
    }

    /// Ends the controller's loop. If it is active it resigns by deleting its node first.
    pub fn shut_down(&self) {
        self.queue.push(Event::Shutdown);
    }
}
