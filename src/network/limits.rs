//! How many connections there may be: in all, by one listener, from one address, and new ones in a second; and how many bytes of
//! requests may be on their way in. Decides and counts; opens and closes nothing.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The limits on connections, as configured. The defaults are Kafka's: none.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// `max.connections`: over all listeners.
    pub max_connections: usize,
    /// `listener.name.<name>.max.connections`, by the listener's name.
    pub per_listener: HashMap<String, usize>,
    /// The listener that brokers use among themselves, if there are others: what is for all listeners does not hold it up.
    pub protected: Option<String>,
    /// `max.connections.per.ip`.
    pub max_per_ip: usize,
    /// `max.connections.per.ip.overrides`.
    pub per_ip_overrides: HashMap<IpAddr, usize>,
    /// `max.connection.creation.rate`: new connections in a second.
    pub max_creation_rate: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let none = i32::MAX as usize;
        Self {
            max_connections: none,
            per_listener: HashMap::new(),
            protected: None,
            max_per_ip: none,
            per_ip_overrides: HashMap::new(),
            max_creation_rate: none,
        }
    }
}

/// Reads `max.connections.per.ip.overrides`: `host:count` pairs with commas between them; hosts are looked up, so
/// this may block. The error names the pair that could not be read.
pub fn parse_overrides(text: &str) -> Result<HashMap<IpAddr, usize>, String> {
    let mut overrides = HashMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (host, count) = pair.rsplit_once(':').ok_or_else(|| format!("'{pair}' is not host:count"))?;
        let count = count.trim().parse().map_err(|_| format!("'{pair}': '{count}' is not a number"))?;
        let host = host.trim().trim_matches(['[', ']']);
        let addresses = (host, 0).to_socket_addrs().map_err(|error| format!("'{pair}': {error}"))?;
        overrides.extend(addresses.map(|address| (address.ip().to_canonical(), count)));
    }
    Ok(overrides)
}

#[derive(Debug)]
struct Counts {
    limits: ConnectionLimits,
    total: usize,
    per_listener: HashMap<Arc<str>, usize>,
    per_ip: HashMap<IpAddr, usize>,
    creation: CreationRate,
}

impl Counts {
    fn is_protected(&self, listener: &str) -> bool {
        self.limits.protected.as_deref() == Some(listener)
    }

    /// Whether another connection must wait for a place (`connectionSlotAvailable`).
    fn is_full(&self, listener: &str) -> bool {
        let allowed = self.limits.per_listener.get(listener);
        let taken = self.per_listener.get(listener).copied().unwrap_or(0);
        allowed.is_some_and(|allowed| taken >= *allowed)
            || (self.total >= self.limits.max_connections && !self.is_protected(listener))
    }
}

/// Counts the connections of all listeners against the limits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionQuotas {
    inner: Arc<QuotasInner>,
}

#[derive(Debug)]
struct QuotasInner {
    /// Acceptors and network threads both count; the lock is held for a few additions only.
    counts: Mutex<Counts>,
    freed: Notify,
}

/// What becomes of a new connection.
#[derive(Debug)]
pub enum Admission {
    /// It is in; it counts until the slot is dropped.
    Admitted(Slot),
    /// There are as many as `max.connections` allows, for all or for the listener: wait until one goes.
    Full,
    /// Its address has as many as it may have: close it.
    TooManyFromAddress(usize),
}

/// One connection's place in the count.
#[derive(Debug)]
pub struct Slot {
    quotas: Arc<QuotasInner>,
    listener: Arc<str>,
    ip: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.quotas.counts.lock();
        counts.total -= 1;
        if let Some(count) = counts.per_listener.get_mut(&self.listener) {
            *count -= 1;
        }
        if let Some(count) = counts.per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
        drop(counts);
        self.quotas.freed.notify_waiters();
    }
}

impl ConnectionQuotas {
    /// Begins with no connection.
    pub fn new(limits: ConnectionLimits) -> Self {
        let creation = CreationRate::new(limits.max_creation_rate, Instant::now());
        let counts = Counts { limits, total: 0, per_listener: HashMap::new(), per_ip: HashMap::new(), creation };
        Self { inner: Arc::new(QuotasInner { counts: Mutex::new(counts), freed: Notify::new() }) }
    }

    /// Changes the limits; connections beyond them stay.
    pub fn update(&self, limits: ConnectionLimits) {
        let mut counts = self.inner.counts.lock();
        counts.creation = CreationRate::new(limits.max_creation_rate, Instant::now());
        counts.limits = limits;
        drop(counts);
        self.inner.freed.notify_waiters();
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.inner.counts.lock().total
    }

    /// Asks for a place for a connection by `listener` from `ip`.
    pub fn admit(&self, listener: &Arc<str>, ip: IpAddr) -> Admission {
        let ip = ip.to_canonical();
        let mut counts = self.inner.counts.lock();
        let allowed = counts.limits.per_ip_overrides.get(&ip).copied().unwrap_or(counts.limits.max_per_ip);
        if counts.per_ip.get(&ip).copied().unwrap_or(0) >= allowed {
            return Admission::TooManyFromAddress(allowed);
        }
        if counts.is_full(listener) {
            return Admission::Full;
        }
        counts.total += 1;
        *counts.per_listener.entry(Arc::clone(listener)).or_default() += 1;
        *counts.per_ip.entry(ip).or_default() += 1;
        Admission::Admitted(Slot { quotas: self.inner.clone(), listener: Arc::clone(listener), ip })
    }

    /// Like [`Self::admit`], but waits while there are as many connections as `max.connections` allows. `Err` carries
    /// the limit of the address that it is over.
    pub async fn admit_when_free(&self, listener: &Arc<str>, ip: IpAddr) -> Result<Slot, usize> {
        loop {
            let freed = self.inner.freed.notified();
            tokio::pin!(freed);
            // Enabled before looking, so that a place freed in between is not missed.
            freed.as_mut().enable();
            match self.admit(listener, ip) {
                Admission::Admitted(slot) => return Ok(slot),
                Admission::TooManyFromAddress(limit) => return Err(limit),
                Admission::Full => freed.await,
            }
        }
    }

    /// Counts a new connection by `listener` against `max.connection.creation.rate` and says how long to wait before the
    /// next.
    pub fn creation_delay(&self, listener: &str, now: Instant) -> Duration {
        let mut counts = self.inner.counts.lock();
        if counts.is_protected(listener) { Duration::ZERO } else { counts.creation.take(now) }
    }

    /// Resolves once there is no connection.
    pub async fn none_left(&self) {
        loop {
            let freed = self.inner.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            freed.await;
        }
    }
}

/// A bucket that fills with `rate` tokens in a second and holds as many.
#[derive(Debug)]
struct CreationRate {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl CreationRate {
    fn new(rate: usize, now: Instant) -> Self {
        let rate = rate.max(1) as f64;
        Self { rate, tokens: rate, filled: now }
    }

    /// Takes one token, on credit if there is none, and returns the time until the debt is paid.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.rate) - 1.0;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }
}

/// `queued.max.request.bytes`: how many bytes of incomplete or unhandled requests there may be.
///
/// As in Kafka's SimpleMemoryPool, a request is let in while anything is left, so that one larger than the limit can
/// pass too.
#[derive(Debug)]
pub struct RequestMemory {
    limit: i64,
    used: AtomicI64,
    freed: Notify,
}

/// Bytes that one request holds of [`RequestMemory`].
#[derive(Debug)]
pub struct Reserved {
    memory: Arc<RequestMemory>,
    bytes: i64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.memory.freed.notify_waiters();
    }
}

impl RequestMemory {
    /// A limit in bytes; zero or less means none.
    pub fn new(limit: i64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicI64::new(0), freed: Notify::new() })
    }

    /// Whether there is a limit at all.
    pub fn is_limited(&self) -> bool {
        self.limit > 0
    }

    /// Waits until anything is left, then takes `bytes`.
    pub async fn reserve(self: &Arc<Self>, bytes: usize) -> Reserved {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (!self.is_limited() || used < self.limit).then_some(used.saturating_add(bytes))
            });
            if taken.is_ok() {
                return Reserved { memory: self.clone(), bytes };
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Arc<str> {
        Arc::from("PLAINTEXT")
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn places_are_counted_by_address_and_in_all() {
        let limits = ConnectionLimits {
            max_connections: 3,
            max_per_ip: 2,
            per_ip_overrides: HashMap::from([(ip(9), 0)]),
            ..ConnectionLimits::default()
        };
        let quotas = ConnectionQuotas::new(limits);
        let first = quotas.admit(&listener(), ip(1));
        let _second = quotas.admit(&listener(), ip(1));
        assert!(matches!(quotas.admit(&listener(), ip(1)), Admission::TooManyFromAddress(2)));
        assert!(matches!(quotas.admit(&listener(), ip(9)), Admission::TooManyFromAddress(0)));
        let _third = quotas.admit(&listener(), ip(2));
        assert!(matches!(quotas.admit(&listener(), ip(3)), Admission::Full));
        assert_eq!(quotas.connections(), 3);
        drop(first);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        let again = quotas.admit(&listener(), mapped);
        assert!(matches!(again, Admission::Admitted(_)));
        assert!(matches!(quotas.admit(&listener(), ip(1)), Admission::TooManyFromAddress(2)));
    }

    #[test]
    fn a_listener_has_a_limit_of_its_own_and_brokers_are_let_in() {
        let (outer, inner): (Arc<str>, Arc<str>) = (Arc::from("OUTER"), Arc::from("INNER"));
        let quotas = ConnectionQuotas::new(ConnectionLimits {
            max_connections: 2,
            per_listener: HashMap::from([("OUTER".to_owned(), 1), ("INNER".to_owned(), 2)]),
            protected: Some("INNER".to_owned()),
            max_creation_rate: 1,
            ..ConnectionLimits::default()
        });
        let first = quotas.admit(&outer, ip(1));
        assert!(matches!(quotas.admit(&outer, ip(2)), Admission::Full), "the listener's");
        let _inner: Vec<_> = (0..2).map(|_| quotas.admit(&inner, ip(3))).collect();
        assert_eq!(quotas.connections(), 3, "more than there may be of others");
        assert!(matches!(quotas.admit(&inner, ip(4)), Admission::Full), "its own limit holds");
        drop(first);
        assert!(matches!(quotas.admit(&outer, ip(1)), Admission::Full), "as many as there may be in all");
        let now = Instant::now();
        let delays = [&outer, &outer, &inner].map(|listener| quotas.creation_delay(listener, now).is_zero());
        assert_eq!(delays, [true, false, true]);
    }

    #[test]
    fn overrides_are_read() {
        let overrides = parse_overrides("127.0.0.1:5, [::1]:7").expect("two pairs");
        assert_eq!(overrides[&IpAddr::from([127, 0, 0, 1])], 5);
        assert_eq!(overrides[&"::1".parse::<IpAddr>().expect("an address")], 7);
        assert!(parse_overrides("127.0.0.1").is_err());
        assert!(parse_overrides("127.0.0.1:x").is_err());
        assert!(parse_overrides("").expect("none").is_empty());
    }

    #[test]
    fn the_creation_rate_holds_after_the_first_burst() {
        let start = Instant::now();
        let mut rate = CreationRate::new(10, start);
        let mut now = start;
        for _ in 0..10 {
            assert_eq!(rate.take(now), Duration::ZERO);
        }
        for _ in 0..30 {
            now += rate.take(now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((2.9..3.1).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn a_full_house_waits_for_a_place() {
        let quotas = ConnectionQuotas::new(ConnectionLimits { max_connections: 1, ..ConnectionLimits::default() });
        let slot = quotas.admit_when_free(&listener(), ip(1)).await.expect("the first");
        let waiting = tokio::spawn({
            let quotas = quotas.clone();
            async move { quotas.admit_when_free(&listener(), ip(2)).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slot);
        assert!(waiting.await.expect("the task ended"));
    }

    #[tokio::test]
    async fn request_bytes_are_bounded() {
        let memory = RequestMemory::new(100);
        let first = memory.reserve(1000).await;
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move { drop(memory.reserve(1).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.expect("the task ended");
        let _unlimited = RequestMemory::new(-1).reserve(usize::MAX).await;
    }
}
