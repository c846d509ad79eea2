//! Whether this broker may still be what the controller made it: its registration in ZooKeeper was seen to hold a short
//! while ago, and the controller has spoken to it in this registration. Time is passed in; who asks ZooKeeper is the
//! server room. Without the lease a leader may have been deposed without knowing it, as one that was cut off or frozen for
//! longer than its session: then it takes writes only while everyone who could have been elected fetches from it
//! ([`crate::replica::leadership::Leadership::is_followed`]). The original takes writes with acks=1 in that state, and loses them.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::base::ids::BrokerEpoch;

/// The lease of one broker, shared by its partitions.
#[derive(Debug)]
pub struct Lease {
    /// Until when the registration surely holds, on the monotonic clock, in milliseconds.
    until_ms: AtomicI64,
    /// The epoch of this broker's registration.
    registered: AtomicI64,
    /// The newest registration that a controller told its leaderships.
    told: AtomicI64,
    /// How long ago a follower's last fetch may be to count, in milliseconds.
    fetched_within_ms: i64,
}

impl Lease {
    /// A lease without an end, until it is extended for the first time.
    pub fn new(fetched_within_ms: i64) -> Self {
        let none = || AtomicI64::new(BrokerEpoch::NONE.get());
        Self { until_ms: AtomicI64::new(i64::MAX), registered: none(), told: none(), fetched_within_ms }
    }

    /// The registration was seen; it surely holds until then.
    pub fn extend(&self, until_ms: i64) {
        self.until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// The broker registered anew: what it led before may be led by others.
    pub fn registered(&self, epoch: BrokerEpoch) {
        self.registered.store(epoch.get(), Ordering::SeqCst);
    }

    /// A controller told what the registration of that epoch leads and follows, perhaps before this broker learnt that it
    /// is registered. Controllers before KIP-380 name no epoch: then it is the present one.
    pub fn told(&self, epoch: BrokerEpoch) {
        let present = self.registered.load(Ordering::SeqCst);
        let epoch = if epoch == BrokerEpoch::NONE { present } else { epoch.get() };
        self.told.fetch_max(epoch, Ordering::SeqCst);
    }

    /// Whether the lease holds at `now_ms` of the monotonic clock.
    pub fn holds(&self, now_ms: i64) -> bool {
        let told = self.told.load(Ordering::SeqCst) >= self.registered.load(Ordering::SeqCst);
        told && now_ms < self.until_ms.load(Ordering::SeqCst)
    }

    /// How long ago a follower's last fetch may be to count, in milliseconds.
    pub fn fetched_within_ms(&self) -> i64 {
        self.fetched_within_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_a_while_and_for_one_registration() {
        let lease = Lease::new(2_000);
        assert!(lease.holds(1_000_000), "nobody looks after it");
        lease.extend(500);
        assert!(lease.holds(499) && !lease.holds(500));
        lease.extend(900);
        lease.registered(BrokerEpoch(7));
        assert!(!lease.holds(600), "the controller has not spoken yet");
        lease.told(BrokerEpoch(7));
        assert!(lease.holds(600));
        lease.told(BrokerEpoch(9));
        lease.registered(BrokerEpoch(9));
        assert!(lease.holds(600), "the controller was the first to know");
        lease.registered(BrokerEpoch(12));
        lease.told(BrokerEpoch::NONE);
        assert!(lease.holds(600), "an old controller");
    }
}
