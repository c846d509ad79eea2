//! The controller's loop: takes events off the queue, handles each to its end, resigns when it must.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::channels::{BrokerChannel, Channels};
use super::context::Context;
use super::event::{ControllerHandle, Event};
use super::store::{ControllerError, Elected, Store};
use super::suspicion::Vigil;
use crate::base::clock::Clock;
use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::base::watch;
use crate::zk::{SessionState, ZkClient, ZkError};

/// Wait before everything is read anew after an error that said nothing definite.
const RELOAD_BACKOFF: Duration = Duration::from_millis(200);
/// When a new controller first looks whether leaderships are balanced (`KafkaController.onControllerFailover`).
const FIRST_REBALANCE: Duration = Duration::from_secs(5);
/// How long a controller that stops waits for brokers to take what they were told.
const DRAIN_PATIENCE: Duration = Duration::from_millis(300);
/// How often an election is tried when nobody knows who won.
const MAX_ELECTION_ATTEMPTS: usize = 10;

/// What the controller needs to know of this broker's settings.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// This broker's id.
    pub broker_id: BrokerId,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `unclean.leader.election.enable` at the start, for topics that do not set their own.
    pub unclean_leader_election_enable: bool,
    /// `min.insync.replicas`, for topics that do not set their own.
    pub min_insync_replicas: i32,
    /// The listener that brokers use among themselves.
    pub inter_broker_listener: String,
    /// Whether topics get ids: IBP 2.8 and later.
    pub use_topic_ids: bool,
    /// `auto.leader.rebalance.enable` and what belongs to it; `None` if it is off.
    pub rebalance: Option<Rebalance>,
    /// The version of `/feature`: 2 from IBP 3.3, 1 from 2.7, `None` before.
    pub feature_version: Option<i32>,
}

/// When leaderships go back to preferred replicas by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalance {
    /// How often is looked, `leader.imbalance.check.interval.seconds`.
    pub interval: Duration,
    /// `leader.imbalance.per.broker.percentage`.
    pub percentage: i32,
}

impl ControllerConfig {
    /// Kafka's defaults for a broker of the newest version.
    pub fn new(broker_id: BrokerId) -> Self {
        Self {
            broker_id,
            delete_topic_enable: true,
            unclean_leader_election_enable: false,
            min_insync_replicas: 1,
            inter_broker_listener: "PLAINTEXT".into(),
            use_topic_ids: true,
            rebalance: Some(Rebalance { interval: Duration::from_secs(300), percentage: 10 }),
            feature_version: Some(2),
        }
    }
}

/// The controller of this broker, active or not.
pub(super) struct Controller {
    pub(super) config: ControllerConfig,
    pub(super) ctx: Context,
    pub(super) store: Store,
    pub(super) channels: Channels,
    pub(super) handle: ControllerHandle,
    pub(super) clock: Arc<dyn Clock>,
    next_rebalance: Instant,
    pub(super) vigil: Option<Vigil>,
}

/// Starts the loop. It stands for election whenever `registered` tells of a new registration of this broker, and
/// whenever there is no controller. The loop ends after [`ControllerHandle::shut_down`].
pub fn start(
    config: ControllerConfig,
    zk: ZkClient,
    mut registered: watch::Receiver<Option<BrokerEpoch>>,
    channel: Arc<dyn BrokerChannel>,
    clock: Arc<dyn Clock>,
) -> (ControllerHandle, JoinHandle<()>) {
    let handle = ControllerHandle::default();
    let queue = handle.queue.clone();
    handle.status.unclean.store(config.unclean_leader_election_enable, Ordering::Release);
    let mut state = zk.state();
    tokio::spawn(async move {
        loop {
            // Biased, so that a simulated run can be repeated; neither can starve the other.
            let news = tokio::select! {
                biased;
                changed = registered.changed() => changed.map(|()| Some(Event::Elect)),
                changed = state.changed() => changed.map(|()| match *state.borrow_and_update() {
                    SessionState::Open { .. } => None,
                    SessionState::Expired { .. } | SessionState::Closed => Some(Event::SessionExpired),
                }),
            };
            match news {
                Ok(Some(event)) => queue.push(event),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    });
    let store = Store::new(zk, handle.queue.clone());
    let channels = Channels::new(channel, handle.queue.clone(), config.inter_broker_listener.clone());
    let (ctx, next_rebalance) = (Context::default(), Instant::now());
    let vigil = None;
    let controller = Controller { config, ctx, store, channels, handle: handle.clone(), clock, next_rebalance, vigil };
    handle.queue.push(Event::Elect);
    let task = tokio::spawn(controller.run());
    (handle, task)
}

impl Controller {
    async fn run(mut self) {
        loop {
            let event = self.next_event().await;
            if matches!(event, Event::Shutdown) {
                if self.is_active() {
                    // What was decided last, as who leads what this broker led, is not to wait for another controller.
                    self.channels.drain(DRAIN_PATIENCE).await;
                    self.store.resign(&self.ctx).await;
                }
                self.resign("the broker stops");
                self.handle.queue.close();
                return;
            }
            match self.handle_event(event).await {
                Ok(()) => {}
                Err(ControllerError::Moved) => {
                    self.resign("another controller has been elected");
                    self.handle.queue.push(Event::Elect);
                }
                Err(ControllerError::ZooKeeper(error)) if error.ends_session() => {
                    warn!("the controller waits for a new ZooKeeper session: {error}");
                    self.resign("the ZooKeeper session is over");
                }
                Err(ControllerError::ZooKeeper(error)) => {
                    error!("the controller reads everything anew: {error}");
                    tokio::time::sleep(RELOAD_BACKOFF).await;
                    self.handle.queue.push(Event::Reload);
                }
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let rebalance = self.config.rebalance.filter(|_| self.is_active());
        let Some(rebalance) = rebalance else { return self.handle.queue.next().await };
        tokio::select! {
            biased;
            event = self.handle.queue.next() => event,
            () = tokio::time::sleep_until(self.next_rebalance) => {
                self.next_rebalance = Instant::now() + rebalance.interval;
                Event::AutoRebalance
            }
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.handle.is_active()
    }

    async fn handle_event(&mut self, event: Event) -> Result<(), ControllerError> {
        match event {
            Event::Elect | Event::Reload => self.elect(matches!(event, Event::Reload)).await,
            Event::SessionExpired => {
                self.resign("the ZooKeeper session is over");
                self.handle.status.controller.store(BrokerId::NONE.get(), Ordering::Release);
                Ok(())
            }
            Event::ControllerSuspected { czxid, life } => self.take_over(czxid, life).await,
            _ if !self.is_active() => Ok(()),
            event => self.handle_active(event).await,
        }
    }

    /// Looks who is controller, and becomes it if nobody is.
    async fn elect(&mut self, reload: bool) -> Result<(), ControllerError> {
        for _ in 0..MAX_ELECTION_ATTEMPTS {
            let found = self.store.watch_controller().await?;
            let id = found.as_ref().map_or(BrokerId::NONE, |found| found.id);
            self.handle.status.controller.store(id.get(), Ordering::Release);
            match found {
                Some(found) if found.mine && self.is_active() && !reload => return Ok(()),
                Some(found) if found.mine => {
                    let elected = self.store.current_epoch().await?;
                    // Had another broker taken over in between, then this were its epoch, and its fence.
                    if self.store.watch_controller().await?.is_none_or(|still| still.czxid != found.czxid) {
                        continue;
                    }
                    let suspected = std::mem::take(&mut self.ctx.suspected);
                    return self.become_controller(elected, suspected).await;
                }
                Some(found) => {
                    self.resign(&format!("broker {id} is the controller"));
                    return self.keep_vigil(&found).await;
                }
                None => {
                    self.resign("there is no controller");
                    if let Some(elected) = self.store.elect(self.config.broker_id, self.clock.now_ms()).await? {
                        self.store.watch_controller().await?;
                        return self.become_controller(elected, BTreeMap::new()).await;
                    }
                }
            }
        }
        Err(ZkError::Unknown("no controller could be elected".into()).into())
    }

    /// `suspected` are the brokers whose processes are known to have died, as it seems.
    pub(super) async fn become_controller(
        &mut self,
        elected: Elected,
        suspected: BTreeMap<BrokerId, BrokerEpoch>,
    ) -> Result<(), ControllerError> {
        self.vigil = None;
        // Who watched over brokers until now is gone; what they saw last counts, and is watched from there on.
        self.channels.close();
        let suspected = self.handle.queue.take_suspicions(suspected);
        self.ctx = Context::new(elected.epoch, elected.epoch_zk_version);
        self.ctx.suspected = suspected;
        let status = &self.handle.status;
        status.controller.store(self.config.broker_id.get(), Ordering::Release);
        status.epoch.store(elected.epoch.get(), Ordering::Release);
        status.active.store(true, Ordering::Release);
        let interval = self.config.rebalance.map_or(FIRST_REBALANCE, |rebalance| rebalance.interval);
        self.next_rebalance = Instant::now() + FIRST_REBALANCE.min(interval);
        info!("broker {} is the controller, epoch {}", self.config.broker_id, elected.epoch);
        self.on_failover().await
    }

    fn resign(&mut self, why: &str) {
        if self.handle.status.active.swap(false, Ordering::AcqRel) {
            info!("broker {} is the controller no more: {why}", self.config.broker_id);
        }
        self.channels.clear();
        self.ctx = Context::default();
    }
}
