//! How the controller's requests reach brokers: one queue and one task for each broker, in order, retried until the
//! broker answers or its registration goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse, UpdateMetadataRequest,
    UpdateMetadataResponse,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::event::{Event, EventQueue};
use super::lane::{Pending, merge_stop_replica};
use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::zk::znodes::broker_ids::LiveBroker;

/// Wait before a request that did not get through is sent again.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// A request from the controller to a broker.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlRequest {
    /// Who leads, who follows.
    LeaderAndIsr(LeaderAndIsrRequest),
    /// What clients are to be told.
    UpdateMetadata(UpdateMetadataRequest),
    /// Which replicas to stop, and which of them to delete.
    StopReplica(StopReplicaRequest),
}

impl ControlRequest {
    /// Kafka's name of the request.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LeaderAndIsr(_) => "LeaderAndIsr",
            Self::UpdateMetadata(_) => "UpdateMetadata",
            Self::StopReplica(_) => "StopReplica",
        }
    }
}

/// A broker's answer to a [`ControlRequest`], of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlResponse {
    /// To LeaderAndIsr.
    LeaderAndIsr(LeaderAndIsrResponse),
    /// To UpdateMetadata.
    UpdateMetadata(UpdateMetadataResponse),
    /// To StopReplica.
    StopReplica(StopReplicaResponse),
}

/// Carries requests to brokers: in process to this one, over the network to others.
///
/// For one broker the controller never has more than one request under way. An `Err` means that nobody knows whether
/// the request arrived; it is sent again, so that a broker must take each as a statement of what is, not as a change.
pub trait BrokerChannel: Send + Sync + 'static {
    /// Sends one request and waits for its answer; `Err` says why none came.
    fn send(&self, broker: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>>;

    /// Resolves once the broker's process is seen to have died while its host lives: a connection to it that stood was
    /// ended, and others are refused. Never for want of an answer. A channel that cannot tell never resolves.
    fn died(&self, _broker: &LiveBroker) -> BoxFuture<'_, ()> {
        futures::future::pending().boxed()
    }

    /// Resolves once the broker accepts connections again.
    fn returned(&self, _broker: &LiveBroker) -> BoxFuture<'_, ()> {
        futures::future::pending().boxed()
    }
}

/// One broker's queue: filled by the loop, emptied by the broker's task.
#[derive(Default)]
struct Queue {
    pending: Mutex<Pending>, // locked to put in and to take out only
    filled: Notify,
    emptied: Notify,
}

impl Queue {
    async fn next(&self) -> ControlRequest {
        loop {
            let next = self.pending.lock().pop();
            match next {
                Some(request) => return request,
                None => {
                    // The one before was answered, or this is the start.
                    self.emptied.notify_waiters();
                    self.filled.notified().await;
                }
            }
        }
    }

    /// Waits until all that was put in was answered.
    async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.pending.lock().is_idle() {
                return;
            }
            emptied.await;
        }
    }
}

struct Lane {
    epoch: BrokerEpoch,
    queue: Arc<Queue>,
    tasks: [JoinHandle<()>; 2],
}

/// All brokers' queues. A queue holds what was decided since the broker last answered, merged, and goes with the broker's
/// registration; what is left are the replicas that the broker was to stop.
pub(super) struct Channels {
    pub(super) channel: Arc<dyn BrokerChannel>,
    events: Arc<EventQueue>,
    lanes: BTreeMap<BrokerId, Lane>,
    /// What brokers had not answered when their queues went.
    unstopped: BTreeMap<BrokerId, StopReplicaRequest>,
    /// The listener that brokers use among themselves.
    pub(super) inter_broker_listener: String,
}

impl Channels {
    pub(super) fn new(channel: Arc<dyn BrokerChannel>, events: Arc<EventQueue>, inter_broker_listener: String) -> Self {
        Self { channel, events, lanes: BTreeMap::new(), unstopped: BTreeMap::new(), inter_broker_listener }
    }

    /// Opens a queue for a broker, or a new one for a new life of it, and watches over it; `suspected` tells that its
    /// process seems to have died.
    pub(super) fn add(&mut self, broker: LiveBroker, suspected: bool) {
        let (id, epoch) = (broker.info.id, broker.epoch);
        self.remove(id);
        let queue = Arc::new(Queue::default());
        let watching = watch(broker.clone(), suspected, self.channel.clone(), self.events.clone());
        let telling = run(broker, queue.clone(), self.channel.clone(), self.events.clone());
        self.lanes.insert(id, Lane { epoch, queue, tasks: [tokio::spawn(telling), tokio::spawn(watching)] });
    }

    /// Waits until all brokers have answered all they were told, for `patience` at most.
    pub(super) async fn drain(&self, patience: Duration) {
        let all = futures::future::join_all(self.lanes.values().map(|lane| lane.queue.drained()));
        if tokio::time::timeout(patience, all).await.is_err() {
            debug!("not all brokers have answered what they were told");
        }
    }

    /// Drops a broker's queue and what is in it, but for what [`Channels::take_unstopped`] answers.
    pub(super) fn remove(&mut self, broker: BrokerId) {
        let Some(lane) = self.lanes.remove(&broker) else { return };
        lane.tasks.iter().for_each(JoinHandle::abort);
        let stops = self.unstopped.remove(&broker).into_iter().chain(lane.queue.pending.lock().take_stops());
        if let Some(stops) = stops.reduce(merge_stop_replica) {
            self.unstopped.insert(broker, stops);
        }
    }

    /// Drops all queues, as [`Channels::remove`].
    pub(super) fn close(&mut self) {
        let brokers: Vec<_> = self.lanes.keys().copied().collect();
        brokers.into_iter().for_each(|broker| self.remove(broker));
    }

    /// Drops all queues and forgets what was in them.
    pub(super) fn clear(&mut self) {
        self.close();
        self.unstopped.clear();
    }

    /// The replicas that a broker was to stop and did not answer for in an earlier registration. Whoever asks is to see to
    /// it.
    pub(super) fn take_unstopped(&mut self, broker: BrokerId) -> Option<StopReplicaRequest> {
        self.unstopped.remove(&broker)
    }

    /// The epoch that requests to a broker carry; `None` if it has no queue.
    pub(super) fn epoch(&self, broker: BrokerId) -> Option<BrokerEpoch> {
        self.lanes.get(&broker).map(|lane| lane.epoch)
    }

    /// Puts a request in a broker's queue.
    pub(super) fn send(&self, broker: BrokerId, request: ControlRequest) {
        match self.lanes.get(&broker) {
            Some(lane) => {
                lane.queue.pending.lock().push(request);
                lane.queue.filled.notify_one();
            }
            None => debug!("no {} to broker {broker}, which is not alive", request.name()),
        }
    }
}

/// Tells of a broker's deaths and returns, in turn.
async fn watch(broker: LiveBroker, mut suspected: bool, channel: Arc<dyn BrokerChannel>, events: Arc<EventQueue>) {
    loop {
        if suspected {
            channel.returned(&broker).await;
            events.push(Event::Trusted(broker.info.id, broker.epoch));
        } else {
            channel.died(&broker).await;
            events.push(Event::Suspected(broker.info.id, broker.epoch));
        }
        suspected = !suspected;
    }
}

async fn run(broker: LiveBroker, queue: Arc<Queue>, channel: Arc<dyn BrokerChannel>, events: Arc<EventQueue>) {
    loop {
        let request = queue.next().await;
        let mut tries = 0_u32;
        let response = loop {
            match channel.send(&broker, request.clone()).await {
                Ok(response) => break response,
                Err(why) if tries == 0 => {
                    warn!("{} to broker {} did not get through, is sent again: {why}", request.name(), broker.info.id);
                }
                Err(why) => debug!("{} to broker {} did not get through: {why}", request.name(), broker.info.id),
            }
            tries = tries.saturating_add(1);
            tokio::time::sleep(RETRY_BACKOFF).await;
        };
        events.push(Event::Response {
            broker: broker.info.id,
            epoch: broker.epoch,
            request: Box::new(request),
            response,
        });
    }
}
