//! Followers' fetchers (`ReplicaFetcherManager`): `num.replica.fetchers` for each leader, each with its share of the
//! partitions, a fetch session and one request under way. What to do is decided by [`state`], [`session`] and
//! [`truncation`], which are plain data; [`task`] is the loop around them, [`leader`] the way to the leader.
//!
//! A partition belongs to one fetcher at most. Never knows the controller, nor what a partition is besides its log.

pub mod follower_log;
pub mod leader;
pub mod session;
pub mod state;
mod task;
pub mod truncation;
pub mod versions;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::info;

use self::leader::LeaderConnector;
use self::session::FetchSession;
use self::state::{FetcherState, NewPartition, StateConfig};
use self::task::{Fetcher, FetcherSettings, Task};
use self::versions::FetchVersions;
use self::wire::FetchLimits;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::config::broker::BrokerConfig;

/// A fetcher's name: its leader and its number.
type Key = (BrokerId, usize);

/// A partition to follow, and whom.
pub struct Follow {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Its leader.
    pub leader: BrokerId,
    /// How.
    pub new: NewPartition,
}

#[derive(Default)]
struct Fetchers {
    /// `num.replica.fetchers`, at least one.
    per_leader: usize,
    running: BTreeMap<Key, Arc<Fetcher>>,
    of: BTreeMap<TopicPartition, Key>,
    stopped: bool,
}

/// All fetchers of this broker.
pub struct FetcherManager {
    state: StateConfig,
    settings: Arc<FetcherSettings>,
    connector: Arc<dyn LeaderConnector>,
    runtime: Handle,
    /// Changed by control requests only, one at a time; locked while partitions change hands.
    fetchers: Mutex<Fetchers>,
}

impl FetcherManager {
    /// Fetchers of broker `me` that run on `runtime`. `broker_epoch` is that of its registration.
    pub fn new(
        me: BrokerId,
        config: &BrokerConfig,
        broker_epoch: Arc<AtomicI64>,
        connector: Arc<dyn LeaderConnector>,
        runtime: Handle,
    ) -> Self {
        let versions = FetchVersions::of(config.inter_broker_version());
        let limits = FetchLimits {
            me,
            max_wait_ms: config.replica_fetch_wait_max_ms,
            min_bytes: config.replica_fetch_min_bytes,
            max_bytes: config.replica_fetch_response_max_bytes,
        };
        Self {
            state: StateConfig {
                partition_max_bytes: config.replica_fetch_max_bytes,
                max_delay_ms: i64::from(config.replica_fetch_backoff_ms),
                truncates_on_fetch: versions.truncates_on_fetch,
            },
            settings: Arc::new(FetcherSettings { limits, versions, broker_epoch }),
            connector,
            runtime,
            fetchers: Mutex::new(Fetchers { per_leader: count(config.num_replica_fetchers), ..Fetchers::default() }),
        }
    }

    /// Follows these from now on, in the epochs named. May wait for the disk: a log without epochs is cut at its high
    /// watermark first.
    pub fn add(&self, follows: Vec<Follow>) {
        let mut fetchers = self.fetchers.lock();
        if fetchers.stopped {
            return;
        }
        let mut batches: BTreeMap<Key, Vec<(TopicPartition, NewPartition)>> = BTreeMap::new();
        for Follow { topic_partition: tp, leader, new } in follows {
            let key = (leader, fetcher_of(&tp, fetchers.per_leader));
            if let Some(old) = fetchers.of.insert(tp.clone(), key).filter(|old| *old != key)
                && let Some(fetcher) = fetchers.running.get(&old)
            {
                fetcher.remove(&tp);
            }
            batches.entry(key).or_default().push((tp, new));
        }
        for (key, batch) in batches {
            let fetcher = fetchers.running.entry(key).or_insert_with(|| self.start(key));
            fetcher.add(batch);
        }
    }

    fn start(&self, (leader, number): Key) -> Arc<Fetcher> {
        info!("starts fetcher {number} from broker {leader}");
        let fetcher = Arc::new(Fetcher::new(FetcherState::new(self.state)));
        let task = Task {
            fetcher: Arc::clone(&fetcher),
            leader,
            endpoint: self.connector.endpoint(leader, number),
            settings: Arc::clone(&self.settings),
            session: FetchSession::new(),
            start: Instant::now(),
            failing: false,
        };
        self.runtime.spawn(task.run());
        fetcher
    }

    /// Leaves a partition alone: once this returns no fetcher writes to its log.
    pub fn remove(&self, tp: &TopicPartition) {
        let mut fetchers = self.fetchers.lock();
        let fetchers = &mut *fetchers;
        if let Some(fetcher) = fetchers.of.remove(tp).and_then(|key| fetchers.running.get(&key)) {
            fetcher.remove(tp);
        }
    }

    /// Has `num.replica.fetchers` fetchers for each leader from now on. Answers which partitions belong to another one so:
    /// they are to be added anew (`resizeThreadPool`).
    pub fn resize(&self, per_leader: i32) -> Vec<TopicPartition> {
        let mut fetchers = self.fetchers.lock();
        fetchers.per_leader = count(per_leader);
        let now = |tp: &TopicPartition| fetcher_of(tp, fetchers.per_leader);
        fetchers.of.iter().filter(|(tp, (_, number))| now(tp) != *number).map(|(tp, _)| tp.clone()).collect()
    }

    /// Ends the fetchers that have nothing to do (`shutdownIdleFetcherThreads`).
    pub fn stop_idle(&self) {
        self.fetchers.lock().running.retain(|(leader, number), fetcher| {
            let idle = fetcher.is_idle();
            if idle {
                info!("ends fetcher {number} from broker {leader}: it has no partitions");
                fetcher.stop();
            }
            !idle
        });
    }

    /// How many fetchers run.
    pub fn len(&self) -> usize {
        self.fetchers.lock().running.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all for good: once this returns no log is written to any more.
    pub fn shutdown(&self) {
        let mut fetchers = self.fetchers.lock();
        fetchers.stopped = true;
        fetchers.of.clear();
        std::mem::take(&mut fetchers.running).values().for_each(|fetcher| fetcher.stop());
    }
}

fn count(per_leader: i32) -> usize {
    usize::try_from(per_leader).unwrap_or(1).max(1)
}

/// Which of a leader's fetchers a partition belongs to (`AbstractFetcherManager.getFetcherId`).
fn fetcher_of(tp: &TopicPartition, fetchers: usize) -> usize {
    let hash = tp.topic.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let place = hash.wrapping_mul(31).wrapping_add(tp.partition).checked_abs().unwrap_or(0);
    usize::try_from(place).unwrap_or(0) % fetchers.max(1)
}

#[cfg(test)]
mod tests;
