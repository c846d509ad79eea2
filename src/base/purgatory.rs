//! Delayed operations: a request that must wait (a fetch for data, a produce for its followers) watches the partitions it
//! depends on and sleeps in its own connection's task until one of them changes, or its time runs out. No thread, no
//! queue of timers of its own.
//!
//! Each watched thing owns a [`WaitList`]. Waking a list on which nobody waits costs one atomic load. A [`Watch`] that
//! was woken stays registered, so that it can go on waiting without registering again; dropping it takes it off all lists.
//!
//! The order that no wake-up is lost by: the waiter registers, *then* looks; the waker changes, *then* wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What happened to a watched thing, as a bit each. A waiter names the ones it cares for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event(pub u8);

impl Event {
    /// The log end moved: what a follower waits for.
    pub const LOG_END: Self = Self(1);
    /// The high watermark moved: what a consumer and a produce with acks=all wait for.
    pub const HIGH_WATERMARK: Self = Self(2);
    /// Leadership, log or existence changed: whoever waits must look again.
    pub const STATE: Self = Self(4);
    /// A replica's log start moved: what a DeleteRecords waits for.
    pub const LOG_START: Self = Self(8);

    /// Both of them.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn touches(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How a [`Watch::wait`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something changed, enough for the waiter to look again.
    Changed,
    /// The deadline passed.
    TimedOut,
}

/// One waiting operation, shared by the lists it stands on.
#[derive(Debug)]
struct Waiter {
    interest: Event,
    /// How much must still come before it is worth waking the task: bytes for a fetch, 1 for anything.
    missing: AtomicI64,
    notify: Notify,
}

impl Waiter {
    fn tell(&self, event: Event, amount: i64) {
        if event.touches(Event::STATE) {
            self.notify.notify_one();
        } else if event.touches(self.interest) {
            let before = self.missing.fetch_sub(amount, Ordering::Relaxed);
            if before <= amount {
                self.notify.notify_one();
            }
        }
    }
}

/// Entries with stable places, so that taking one off does not search.
#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Arc<Waiter>>>,
    free: Vec<u32>,
}

/// More than any events bring while a task looks: they are counted without waking it.
const LOOKING: i64 = i64::MAX / 2;

/// Above this many places an emptied list gives its memory back.
const KEPT_SLOTS: usize = 4;

impl Slots {
    fn insert(&mut self, waiter: Arc<Waiter>) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = Some(waiter);
            return slot;
        }
        self.entries.push(Some(waiter));
        u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, slot: u32) {
        self.entries[slot as usize] = None;
        self.free.push(slot);
        if self.free.len() == self.entries.len() && self.entries.len() > KEPT_SLOTS {
            *self = Self::default();
        }
    }
}

/// The waiters of one watched thing. The lock guards only the list itself and is never held while a task runs.
#[derive(Debug, Default)]
pub struct WaitList {
    waiting: AtomicUsize,
    slots: Mutex<Slots>,
}

impl WaitList {
    /// A list on which nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the waiters that `event` happened and brought `amount` more (bytes; 1 where nothing is counted). Call it
    /// after the change can be seen.
    pub fn wake(&self, event: Event, amount: i64) {
        // Orders the caller's change before the load; pairs with the fence in `register`.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        for waiter in self.slots.lock().entries.iter().flatten() {
            waiter.tell(event, amount);
        }
    }

    /// How many operations wait here.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn register(&self, waiter: &Arc<Waiter>) -> u32 {
        let slot = self.slots.lock().insert(Arc::clone(waiter));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        slot
    }

    fn deregister(&self, slot: u32) {
        self.slots.lock().remove(slot);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that can be waited on.
pub trait Watched {
    /// Its waiters.
    fn wait_list(&self) -> &WaitList;
}

impl<T: Watched> Watched for Arc<T> {
    fn wait_list(&self) -> &WaitList {
        T::wait_list(self)
    }
}

impl Watched for WaitList {
    fn wait_list(&self) -> &WaitList {
        self
    }
}

/// One operation's registrations.
pub struct Watch<T: Watched> {
    waiter: Arc<Waiter>,
    watched: Vec<(T, u32)>,
}

impl<T: Watched> Watch<T> {
    /// An operation that cares for `interest` and expects to watch `capacity` things. It is woken at the first event
    /// until [`Watch::expect`] says otherwise.
    pub fn new(interest: Event, capacity: usize) -> Self {
        let waiter = Waiter { interest, missing: AtomicI64::new(1), notify: Notify::new() };
        Self { waiter: Arc::new(waiter), watched: Vec::with_capacity(capacity) }
    }

    /// Watches one more thing. Whatever happens to it from now on is not missed.
    pub fn add(&mut self, watched: T) {
        let slot = watched.wait_list().register(&self.waiter);
        self.watched.push((watched, slot));
    }

    /// Call before looking at the watched things, if [`Watch::expect`] is to follow: what they bring from here on is
    /// counted, whether the look sees it already or not.
    pub fn begin_look(&self) {
        self.waiter.missing.store(LOOKING, Ordering::Relaxed);
    }

    /// Sleep through events until they have brought `missing` in sum (at least 1) since [`Watch::begin_look`].
    pub fn expect(&self, missing: i64) {
        let change = missing.clamp(1, LOOKING) - LOOKING;
        if self.waiter.missing.fetch_add(change, Ordering::Relaxed) + change <= 0 {
            self.waiter.notify.notify_one();
        }
    }

    /// Sleeps until something changed since the last call, or until `deadline`.
    pub async fn wait(&self, deadline: Instant) -> Woken {
        match tokio::time::timeout_at(deadline, self.waiter.notify.notified()).await {
            Ok(()) => Woken::Changed,
            Err(_) => Woken::TimedOut,
        }
    }
}

impl<T: Watched> Drop for Watch<T> {
    fn drop(&mut self) {
        for (watched, slot) in &self.watched {
            watched.wait_list().deregister(*slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn an_event_after_registration_is_not_missed() {
        let list = Arc::new(WaitList::new());
        let mut watch = Watch::new(Event::HIGH_WATERMARK, 1);
        watch.add(Arc::clone(&list));
        list.wake(Event::HIGH_WATERMARK, 1);
        assert_eq!(watch.wait(soon()).await, Woken::Changed);
    }

    #[tokio::test]
    async fn a_waiter_sleeps_until_enough_has_come() {
        let list = Arc::new(WaitList::new());
        let mut watch = Watch::new(Event::HIGH_WATERMARK, 1);
        watch.add(Arc::clone(&list));
        watch.begin_look();
        watch.expect(100);
        list.wake(Event::HIGH_WATERMARK, 60);
        list.wake(Event::LOG_END, 1_000);
        assert_eq!(watch.wait(Instant::now()).await, Woken::TimedOut);
        list.wake(Event::HIGH_WATERMARK, 40);
        assert_eq!(watch.wait(soon()).await, Woken::Changed);
    }

    #[tokio::test]
    async fn what_comes_during_a_look_counts() {
        let list = Arc::new(WaitList::new());
        let mut watch = Watch::new(Event::HIGH_WATERMARK, 1);
        watch.add(Arc::clone(&list));
        watch.begin_look();
        list.wake(Event::HIGH_WATERMARK, 10);
        watch.expect(10);
        assert_eq!(watch.wait(soon()).await, Woken::Changed);
        watch.begin_look();
        list.wake(Event::HIGH_WATERMARK, 9);
        watch.expect(10);
        assert_eq!(watch.wait(Instant::now()).await, Woken::TimedOut);
    }

    #[tokio::test]
    async fn a_change_of_state_wakes_everyone() {
        let list = Arc::new(WaitList::new());
        let mut watch = Watch::new(Event::LOG_END, 1);
        watch.add(Arc::clone(&list));
        watch.begin_look();
        watch.expect(i64::MAX);
        list.wake(Event::STATE, 1);
        assert_eq!(watch.wait(soon()).await, Woken::Changed);
    }

    #[tokio::test]
    async fn dropping_a_watch_leaves_no_trace() {
        let lists: Vec<_> = (0..1_000).map(|_| Arc::new(WaitList::new())).collect();
        let mut watch = Watch::new(Event::HIGH_WATERMARK, lists.len());
        lists.iter().for_each(|list| watch.add(Arc::clone(list)));
        assert!(lists.iter().all(|list| list.len() == 1));
        drop(watch);
        assert!(lists.iter().all(|list| list.is_empty()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_between_threads() {
        let list = Arc::new(WaitList::new());
        let value = Arc::new(AtomicI64::new(0));
        let (l, v) = (Arc::clone(&list), Arc::clone(&value));
        let writer = std::thread::spawn(move || {
            for _ in 0..2_000 {
                v.fetch_add(1, Ordering::Relaxed);
                l.wake(Event::HIGH_WATERMARK, 1);
            }
        });
        for target in (0..=2_000).step_by(20) {
            let mut watch = Watch::new(Event::HIGH_WATERMARK, 1);
            watch.add(Arc::clone(&list));
            while value.load(Ordering::Relaxed) < target {
                assert_eq!(watch.wait(soon()).await, Woken::Changed);
            }
        }
        writer.join().expect("the writer ends");
    }
}
