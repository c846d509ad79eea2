//! Deaths that are seen before ZooKeeper's session time-out: a broker whose process died while its host lives is
//! suspected, and so is a controller.
//!
//! A suspicion is never proof. What follows from it are ordinary steps that hold if the suspect is alive after all:
//!
//! - Of a broker: other members of the ISRs lead. Each state is written under the controller's epoch and the partition's,
//!   with a new leader epoch. The old leader, if it lives, commits nothing alone: its followers have left it for the new
//!   epoch, and the ISR cannot be changed without the partition epoch it does not know. It leaves the ISR only if enough
//!   others stay in it; else it stays until it lags or its session ends. A partition whose ISR is that broker alone stays
//!   with it. No unclean election follows from a suspicion.
//! - Of the controller: another broker replaces `/controller` and raises `/controller_epoch` in one multi, which fails if
//!   anybody else was elected since. The old controller's writes fail on that epoch, its requests are refused.
//!
//! A suspect that accepts connections again, or registers anew, is a broker like any other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tracing::{info, warn};

use super::batch::Batch;
use super::election::{self, Reason};
use super::event::Event;
use super::replica_sm::Replica;
use super::run::Controller;
use super::store::{ControllerError, Found};
use crate::base::ids::{BrokerEpoch, BrokerId, TopicPartition};
use crate::zk::znodes::topics::LeaderAndIsr;

/// A suspicion never leaves an ISR to one replica: the suspect may live, and that one's machine lose its power.
const LEAST_IN_SYNC: usize = 2;

/// A broker in one of its lives.
pub(super) type Life = (BrokerId, BrokerEpoch);

/// Watches over the controller; ends with it.
pub(super) struct Vigil {
    /// The czxid of its `/controller`.
    czxid: i64,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Controller {
    fn is_known(&self, (broker, epoch): Life) -> bool {
        self.ctx.brokers.get(&broker).is_some_and(|live| live.epoch == epoch)
    }

    /// A broker's process seems to have died.
    pub(super) async fn on_suspected(&mut self, life: Life) -> Result<(), ControllerError> {
        if !self.is_known(life) || self.ctx.suspected.insert(life.0, life.1).is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let left = self.move_from_suspect(life.0, &mut batch).await?;
        self.send(batch);
        warn!("broker {} ended its connections and refuses others: it leads {} partitions still", life.0, left.len());
        Ok(())
    }

    /// A suspected broker accepts connections again.
    pub(super) async fn on_trusted(&mut self, life: Life) -> Result<(), ControllerError> {
        if !self.is_known(life) || self.ctx.suspected.remove(&life.0).is_none() {
            return Ok(());
        }
        info!("broker {} accepts connections again", life.0);
        self.on_broker_startup(&[life.0].into()).await
    }

    /// Moves a suspect's leaderships, and takes it out of the ISRs in which enough others are. Returns the partitions that
    /// it still leads.
    pub(super) async fn move_from_suspect(
        &mut self,
        suspect: BrokerId,
        batch: &mut Batch,
    ) -> Result<Vec<TopicPartition>, ControllerError> {
        let (led, followed): (Vec<Replica>, Vec<Replica>) =
            self.movable_replicas(suspect).into_iter().partition(|(tp, _)| self.ctx.leads(suspect, tp));
        let led: Vec<TopicPartition> = led.into_iter().map(|(tp, _)| tp).collect();
        self.elect_leaders(led.clone(), Some(Reason::Suspicion), batch).await?;
        let followed: Vec<TopicPartition> = followed.into_iter().map(|(tp, _)| tp).collect();
        self.shrink_by_suspects(followed, batch).await?;
        Ok(led.into_iter().filter(|tp| self.ctx.leads(suspect, tp)).collect())
    }

    /// Nobody is told to stop: a suspect that lives follows on, and has everything when it is trusted again.
    async fn shrink_by_suspects(&mut self, tps: Vec<TopicPartition>, batch: &mut Batch) -> Result<(), ControllerError> {
        let least = self.least_in_sync(&tps).await?;
        let suspects = self.ctx.suspects();
        let trusted: Vec<BrokerId> = self.ctx.brokers.keys().copied().filter(|id| self.ctx.is_trusted(*id)).collect();
        let without = |tp: &TopicPartition, state: &LeaderAndIsr| {
            let least = *least.get(&tp.topic)?;
            let isr = election::without_suspects(&state.isr, &suspects, |id| trusted.contains(id), least);
            (isr.len() < state.isr.len()).then(|| state.new_leader_and_isr(state.leader, isr))
        };
        for tp in self.change_states(tps, without).await? {
            let told = self.ctx.online_replicas(&tp);
            batch.add_leader_and_isr(&told, &tp, false, &self.ctx);
        }
        Ok(())
    }

    /// How many must stay in sync when a suspect leaves, of each topic: those that acks=all asks for, two at least.
    pub(super) async fn least_in_sync(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<Arc<str>, usize>, ControllerError> {
        let mut topics: Vec<Arc<str>> = partitions.iter().map(|tp| tp.topic.clone()).collect();
        topics.dedup();
        let asked = self.store.topic_settings(&topics, "min.insync.replicas", self.config.min_insync_replicas).await?;
        let least = |min: i32| usize::try_from(min).unwrap_or(0).max(LEAST_IN_SYNC);
        Ok(asked.into_iter().map(|(topic, min)| (topic, least(min))).collect())
    }

    /// Watches over the controller that was found, unless that is done already.
    pub(super) async fn keep_vigil(&mut self, found: &Found) -> Result<(), ControllerError> {
        if self.vigil.as_ref().is_some_and(|vigil| vigil.czxid == found.czxid) {
            return Ok(());
        }
        self.vigil = None;
        let Some(broker) = self.store.broker(found.id).await? else { return Ok(()) };
        let (czxid, life) = (found.czxid, (broker.info.id, broker.epoch));
        let (channel, events) = (self.channels.channel.clone(), self.handle.queue.clone());
        let task = tokio::spawn(async move {
            channel.died(&broker).await;
            events.push(Event::ControllerSuspected { czxid, life });
        });
        self.vigil = Some(Vigil { czxid, task });
        Ok(())
    }

    /// Takes the place of a controller whose process seems to have died, if it still is the controller.
    pub(super) async fn take_over(&mut self, czxid: i64, life: Life) -> Result<(), ControllerError> {
        self.vigil = None;
        if self.is_active() {
            return Ok(());
        }
        warn!("the controller, broker {}, ended its connections and refuses others", life.0);
        match self.store.depose(czxid, self.config.broker_id, self.clock.now_ms()).await? {
            Some(elected) => {
                self.store.watch_controller().await?;
                self.become_controller(elected, BTreeMap::from([life])).await
            }
            None => {
                self.handle.queue.push(Event::Elect);
                Ok(())
            }
        }
    }
}
