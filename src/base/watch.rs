//! The newest value of something, for many who wait for it to change. As `tokio::sync::watch`, but those who wait are woken
//! in the order in which they began to wait: tokio's own wakes them by chance, and a simulated history must repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

struct Shared<T> {
    value: RwLock<T>, // held for a look or a replacement only
    /// Counts the values.
    version: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
}

/// Sets the value. When it goes, those who wait are told.
pub struct Sender<T>(Arc<Shared<T>>);

/// Sees the value.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The sender is gone: the value will not change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody will change the value any more")]
pub struct Closed;

/// A value and one who sees it.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A value that nobody sees yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// One more who sees the value; the present one counts as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { shared: Arc::clone(&self.0), seen: self.0.version.load(Ordering::SeqCst) }
    }

    /// The value. Let go of it at once.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.0.value.read()
    }

    /// Replaces the value and tells all who wait; the old one comes back.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|slot| std::mem::swap(slot, &mut value));
        value
    }

    /// Changes the value and tells all who wait.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        {
            let mut slot = self.0.value.write();
            change(&mut slot);
            // Under the lock, so that who sees the value sees its number too.
            self.0.version.fetch_add(1, Ordering::SeqCst);
        }
        self.0.changed.notify_waiters();
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sender").field(&*self.borrow()).finish()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// The value. Let go of it at once.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.shared.value.read()
    }

    /// The value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version.load(Ordering::SeqCst);
        value
    }

    /// Waits for a value that was not seen yet, which then counts as seen.
    ///
    /// # Errors
    /// [`Closed`] if none will come.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let shared = Arc::clone(&self.shared);
        loop {
            // Registered before the look, so that what changes in between is not missed.
            let mut told = std::pin::pin!(shared.changed.notified());
            told.as_mut().enable();
            let version = shared.version.load(Ordering::SeqCst);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if shared.closed.load(Ordering::SeqCst) {
                return Err(Closed);
            }
            told.await;
        }
    }

    /// Waits until the value is as it is wanted; it counts as seen then, and a copy comes back.
    ///
    /// # Errors
    /// [`Closed`] if it will not become so.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<T, Closed>
    where
        T: Clone,
    {
        loop {
            let found = Some(self.borrow_and_update()).filter(|value| wanted(value)).map(|value| value.clone());
            match found {
                Some(value) => return Ok(value),
                None => self.changed().await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[tokio::test]
    async fn who_waits_is_told_of_the_newest_value_and_of_the_end() {
        let (sender, mut receiver) = channel(1);
        let mut other = receiver.clone();
        assert_eq!((sender.send_replace(2), sender.send_replace(3)), (1, 2));
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow(), 3);
        let waiting = tokio::spawn(async move { receiver.changed().await });
        tokio::task::yield_now().await;
        assert_eq!(other.wait_for(|value| *value == 3).await, Ok(3));
        drop(sender);
        assert_eq!(waiting.await.unwrap(), Err(Closed));
        assert!(other.wait_for(|value| *value == 4).await.is_err());
    }

    #[tokio::test]
    async fn they_are_woken_in_the_order_in_which_they_began_to_wait() {
        let (sender, receiver) = channel(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|number| {
                let (mut receiver, order) = (receiver.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    order.lock().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send_replace(1);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
    }
}
