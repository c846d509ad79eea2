//! What new connections are dealt out to, in turn: network threads, each with the registry of its connections. Their number
//! may change while the server runs (`num.network.threads`). Owns no thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::Shutdown;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tracing::debug;

use super::buffers;
use super::connection::Registry;

/// How often buffers that nobody uses are let go.
const TRIM: Duration = Duration::from_secs(5);
/// How often it is looked whether the connections of a thread that goes have ended.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// A thread's runtime and its connections.
pub(super) type Lane = (Handle, Arc<Registry>);

#[derive(Default)]
struct State {
    /// Those that get new connections; never empty once the server accepts.
    open: Vec<Lane>,
    /// Those that get no more, and whose connections end.
    leaving: Vec<Lane>,
}

/// The lanes of some listeners. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    state: Arc<RwLock<State>>, // read for each new connection, written when the number changes
    max_idle: Option<Duration>,
}

impl Lanes {
    /// None yet. Connections that are silent for `max_idle` will be closed.
    pub(super) fn new(max_idle: Option<Duration>) -> Self {
        Self { state: Arc::default(), max_idle }
    }

    /// Deals connections out to these threads too.
    pub fn add(&self, threads: &[Handle]) {
        for thread in threads {
            let registry = Arc::new(Registry::default());
            // Ends with the thread.
            thread.spawn(sweep(Arc::clone(&registry), self.max_idle));
            self.state.write().open.push((thread.clone(), registry));
        }
    }

    /// Deals no more connections out to the last `count` threads, of which one stays at least. Their connections end once
    /// what they are at is answered, at the latest after `patience`; then the threads may be stopped. Answers how many
    /// these are.
    pub async fn remove(&self, count: usize, patience: Duration) -> usize {
        let leaving = {
            let mut state = self.state.write();
            let left = state.open.len().saturating_sub(count).max(1).min(state.open.len());
            let leaving = state.open.split_off(left);
            state.leaving.extend(leaving.iter().cloned());
            leaving
        };
        let deadline = Instant::now() + patience;
        // Again and again, as a connection that was just accepted may come in late.
        while leaving.iter().any(|(_, registry)| !registry.is_empty()) && Instant::now() < deadline {
            leaving.iter().for_each(|(_, registry)| registry.shutdown_all(Shutdown::Read));
            tokio::time::sleep(DRAIN_CHECK).await;
        }
        leaving.iter().for_each(|(_, registry)| registry.shutdown_all(Shutdown::Both));
        let is_leaving = |lane: &Lane| leaving.iter().any(|(_, registry)| Arc::ptr_eq(registry, &lane.1));
        self.state.write().leaving.retain(|lane| !is_leaving(lane));
        leaving.len()
    }

    /// How many threads get new connections.
    pub fn len(&self) -> usize {
        self.state.read().open.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lane of connection `number`.
    pub(super) fn pick(&self, number: u64) -> Option<Lane> {
        let state = self.state.read();
        let place = number.checked_rem(u64::try_from(state.open.len()).ok()?)?;
        state.open.get(usize::try_from(place).ok()?).cloned()
    }

    /// Shuts down all connections in one or both directions.
    pub(super) fn shutdown_all(&self, how: Shutdown) {
        let state = self.state.read();
        state.open.iter().chain(&state.leaving).for_each(|(_, registry)| registry.shutdown_all(how));
    }
}

/// Ticks the registry's clock, closes what has been idle for too long, and lets unused buffers go.
async fn sweep(registry: Arc<Registry>, max_idle: Option<Duration>) {
    let every = max_idle.map_or(TRIM, |idle| (idle / 8).clamp(Duration::from_millis(10), TRIM));
    let idle_ticks = max_idle.map_or(u32::MAX, |idle| idle.as_nanos().div_ceil(every.as_nanos()) as u32);
    let mut trimmed = Instant::now();
    loop {
        tokio::time::sleep(every).await;
        let closed = registry.sweep(idle_ticks);
        if closed > 0 {
            debug!("closed {closed} idle connections");
        }
        if trimmed.elapsed() >= TRIM {
            buffers::trim();
            trimmed = Instant::now();
        }
    }
}
