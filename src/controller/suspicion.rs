//! Deaths that are seen before ZooKeeper's session time-out: a broker whose process died while its host lives is
//! suspected, and so is a controller.
//!
//! A suspicion is never proof. What follows from it are ordinary steps that hold if the suspect is alive after all:
//!
//! - Of a broker: other members of the ISRs lead, as if it had asked to stop. Each state is written under the controller's
//!   epoch and the partition's, with a new leader epoch. The old leader, if it lives, commits nothing alone: its followers
//!   have left it for the new epoch, and the ISR cannot be changed without the partition epoch it does not know. A
//!   partition whose ISR is that broker alone stays with it. No unclean election follows from a suspicion.
//! - Of the controller: another broker replaces `/controller` and raises `/controller_epoch` in one multi, which fails if
//!   anybody else was elected since. The old controller's writes fail on that epoch, its requests are refused.
//!
//! A suspect that accepts connections again, or registers anew, is a broker like any other.

use tracing::{info, warn};

use super::event::Event;
use super::run::Controller;
use super::store::{ControllerError, Found};
use crate::base::ids::{BrokerEpoch, BrokerId};

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
        if !self.is_known(life) || !self.ctx.suspected.insert(life.0) {
            return Ok(());
        }
        let left = self.move_away(life.0).await?;
        warn!("broker {} ended its connections and refuses others: it leads {} partitions still", life.0, left.len());
        Ok(())
    }

    /// A suspected broker accepts connections again.
    pub(super) async fn on_trusted(&mut self, life: Life) -> Result<(), ControllerError> {
        if !self.is_known(life) || !self.ctx.suspected.remove(&life.0) {
            return Ok(());
        }
        info!("broker {} accepts connections again", life.0);
        self.on_broker_startup(&[life.0].into()).await
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
                self.become_controller(elected, Some(life)).await
            }
            None => {
                self.handle.queue.push(Event::Elect);
                Ok(())
            }
        }
    }
}
