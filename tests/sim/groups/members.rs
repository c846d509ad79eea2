//! Who sends members into the group and out of it: they are killed and come back, stand still for longer than their session,
//! are replaced meanwhile, or leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::member::Member;
use crate::clients::Client;

/// How many members there are at a time; that of slot 0 is static.
pub const SLOTS: usize = 3;
/// Between what is done to members, in ms.
const PEACE: (u64, u64) = (100, 900);
/// How long members stand still, in ms: for less than their session, or more.
const FREEZE: (u64, u64) = (200, 1_800);
/// How long it takes until one that was killed is back, in ms.
const ABSENCE: (u64, u64) = (0, 700);

/// What a member is told to do by who sends it.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// To stand still for so many ms, and then to go on as if nothing had been.
    Freeze(u64),
    /// To leave, and go home.
    Leave,
}

/// What all members share.
#[derive(Clone)]
pub struct Members {
    pub client: Client,
    state: Arc<Mutex<State>>,
    is_calm: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    /// How many members there have been.
    members: u64,
    /// How many ids were asked for.
    ids: u64,
    newest: [u64; SLOTS],
    /// What ends the newest.
    running: [Option<AbortHandle>; SLOTS],
    orders: BTreeMap<u64, Order>,
}

impl Members {
    pub fn new(client: Client) -> Self {
        Self { client, state: Arc::default(), is_calm: Arc::default() }
    }

    /// The newest member of a slot.
    pub fn newest(&self, slot: usize) -> u64 {
        self.state.lock().newest[slot]
    }

    /// Nobody comes or goes any more.
    pub fn be_calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// Members come and go until it is calm.
    pub async fn come_and_go(self) {
        (0..SLOTS).for_each(|slot| self.spawn(slot));
        loop {
            let pause = self.pick(PEACE);
            sleep(Duration::from_millis(pause)).await;
            if self.is_calm() {
                return;
            }
            let slot = usize::try_from(self.pick((0, 2))).unwrap_or(0);
            match self.pick((0, 9)) {
                0..=2 => {
                    self.kill(slot);
                    sleep(Duration::from_millis(self.pick(ABSENCE))).await;
                    self.spawn(slot);
                }
                3..=5 => self.order(slot, Order::Freeze(self.pick(FREEZE))),
                6..=7 => {
                    self.order(slot, Order::Freeze(self.pick(FREEZE)));
                    self.spawn(slot);
                }
                8 => {
                    self.order(slot, Order::Leave);
                    self.spawn(slot);
                }
                _ => {}
            }
        }
    }

    fn pick(&self, range: (u64, u64)) -> u64 {
        self.client.sim.core().pick(range)
    }

    fn note(&self, slot: usize, line: &str) {
        self.client.sim.note(&format!("member {} of slot {slot} {line}", self.newest(slot)));
    }

    /// Tells the newest member of a slot what to do.
    pub fn order(&self, slot: usize, order: Order) {
        self.note(slot, &format!("is told to {order:?}"));
        let newest = self.newest(slot);
        self.state.lock().orders.insert(newest, order);
    }

    /// What a member was told to do since it looked last.
    pub fn take_order(&self, name: u64) -> Option<Order> {
        self.state.lock().orders.remove(&name)
    }

    /// A client id that nobody had before. Ids of members begin with it, so that their order, by which the coordinator
    /// chooses among them, does not depend on the chance in them.
    pub fn client_id(&self) -> String {
        let mut state = self.state.lock();
        state.ids += 1;
        format!("worker-{:04}", state.ids)
    }

    /// Sends a member in, the newest of its slot. Only where clients run.
    pub fn spawn(&self, slot: usize) {
        let task = tokio::spawn(self.member(slot).run());
        self.state.lock().running[slot] = Some(task.abort_handle());
    }

    /// Kills the newest member of a slot.
    pub fn kill(&self, slot: usize) {
        self.note(slot, "is killed");
        self.state.lock().running[slot].take().iter().for_each(AbortHandle::abort);
    }

    /// A member, the newest of its slot; it does not run yet.
    fn member(&self, slot: usize) -> Member {
        let mut state = self.state.lock();
        state.members += 1;
        state.newest[slot] = state.members;
        Member::new(self.clone(), slot, state.members)
    }

    /// Looks what offsets are committed, for ever.
    pub async fn audit(self) {
        let mut asker = Member::new(self.clone(), 0, 0);
        loop {
            if asker.coordinator().await.is_some()
                && let Ok(found) = asker.committed((0..super::PARTITIONS).collect()).await
            {
                self.client.ledger.lock().groups.audited = found;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
