//! All partitions of this broker. Owns the map from names to partitions, the fences of control requests, and what of them
//! lies on disks that failed. Requests come in by `produce`, `fetch`, `offsets`; the controller by `control`. Never knows
//! ZooKeeper: topic configs come in through [`TopicConfigSource`], what must go up through [`ReplicaListener`].

mod control;
mod delete_records;
mod fetch;
mod log_dir_moves;
mod log_dirs;
mod offsets;
mod produce;
mod replication;
mod storage;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;

pub use delete_records::{DeleteRecords, DeletedRecords};
pub use fetch::{FetchParams, FetchResult};
pub use log_dirs::{LogDirDescription, ReplicaInfo};
pub use offsets::{EARLIEST, EARLIEST_LOCAL, FoundOffset, LATEST, LATEST_TIERED, MAX_TIMESTAMP, OffsetQuery};
pub use produce::{AppendResult, Pending};

use super::alter_partition::AlterPartitionQueue;
use super::broker_epochs::{BrokerEpochs, LiveBrokers};
use super::fetcher::FetcherManager;
use super::lease::Lease;
use super::metadata_cache::MetadataCache;
use super::partition::{Partition, PartitionContext};
use super::selector::ReplicaSelector;
use super::throttle::ReplicationThrottle;
use super::topic_configs::{TopicConfigSource, TopicConfigs};
use crate::base::clock::Clock;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, TopicId, TopicPartition};
use crate::config::broker::BrokerConfig;
use crate::log::manager::LogManager;

/// How much later than its wait a follower's next fetch may come, in milliseconds.
const FETCH_SLACK_MS: i64 = 1_500;

/// What a partition became on this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadershipChange {
    /// This broker leads it in that epoch.
    Leads(TopicPartition, LeaderEpoch),
    /// Another broker leads it in that epoch.
    Follows(TopicPartition, LeaderEpoch),
    /// It has no replica here any more; the epoch of the request, or -1.
    Stopped(TopicPartition, LeaderEpoch),
}

/// Who is told of changes above this room: the coordinators. Called after the change holds; must not block.
pub trait ReplicaListener: Send + Sync {
    /// A partition changed its leader, or went away.
    fn leadership_changed(&self, change: LeadershipChange);
    /// Partitions were deleted from the cluster.
    fn partitions_deleted(&self, partitions: &[TopicPartition]);
}

/// One topic's partitions here.
#[derive(Debug)]
struct HostedTopic {
    id: TopicId,
    partitions: BTreeMap<i32, Arc<Partition>>,
}

/// The partitions of this broker.
pub struct ReplicaManager {
    me: BrokerId,
    context: PartitionContext,
    fetch_max_bytes: i32,
    selector: ReplicaSelector,
    clock: Arc<dyn Clock>,
    log_manager: Arc<LogManager>,
    metadata: Arc<MetadataCache>,
    configs: Arc<TopicConfigs>,
    throttle: Arc<ReplicationThrottle>,
    lease: Arc<Lease>,
    broker_epoch: Arc<AtomicI64>,
    broker_epochs: Arc<BrokerEpochs>,
    fetchers: OnceLock<FetcherManager>,
    isr_changes: Arc<AlterPartitionQueue>,
    /// What runs until [`ReplicaManager::stop_replication`]; locked there and at the start.
    replication_tasks: Mutex<Vec<JoinHandle<()>>>,
    listener: OnceLock<Box<dyn ReplicaListener>>,
    stopping: AtomicBool,
    /// Whether what may wait for the disk is done in turn with everything else.
    waits_in_turn: AtomicBool,
    /// Read for every request, written when a partition comes or goes. Held for lookups only.
    hosted: RwLock<HashMap<Arc<str>, HostedTopic>>,
    /// Serializes control requests; holds the newest controller epoch seen. Held across the making of logs, so it is an
    /// asynchronous lock.
    control: tokio::sync::Mutex<ControllerEpoch>,
}

impl ReplicaManager {
    /// A manager over the logs of `log_manager`, hosting nothing until the controller says so.
    pub fn new(
        broker_id: BrokerId,
        config: &BrokerConfig,
        clock: Arc<dyn Clock>,
        log_manager: Arc<LogManager>,
        source: Arc<dyn TopicConfigSource>,
    ) -> Self {
        let metadata = Arc::new(MetadataCache::new());
        let broker_epochs = Arc::new(BrokerEpochs::new());
        let eligible = LiveBrokers { metadata: Arc::clone(&metadata), epochs: Arc::clone(&broker_epochs) };
        let configs = Arc::new(TopicConfigs::new(config.clone(), source));
        // A follower that finds nothing new asks again after this wait.
        let lease = Arc::new(Lease::new(i64::from(config.replica_fetch_wait_max_ms) + FETCH_SLACK_MS));
        let throttle = Arc::new(ReplicationThrottle::new(broker_id, config, Arc::clone(&configs)));
        Self {
            me: broker_id,
            context: PartitionContext {
                me: broker_id,
                max_lag_ms: config.replica_lag_time_max_ms,
                clock: Arc::clone(&clock),
                eligible: Arc::new(eligible),
                throttle: Arc::clone(&throttle),
                lease: Arc::clone(&lease),
            },
            fetch_max_bytes: config.fetch_max_bytes,
            selector: ReplicaSelector::of(config.replica_selector_class.as_deref()),
            clock,
            log_manager,
            metadata,
            configs,
            throttle,
            lease,
            broker_epoch: Arc::new(AtomicI64::new(BrokerEpoch::NONE.get())),
            broker_epochs,
            fetchers: OnceLock::new(),
            isr_changes: Arc::default(),
            replication_tasks: Mutex::new(Vec::new()),
            listener: OnceLock::new(),
            stopping: AtomicBool::new(false),
            waits_in_turn: AtomicBool::new(false),
            hosted: RwLock::new(HashMap::new()),
            control: tokio::sync::Mutex::new(ControllerEpoch(-1)),
        }
    }

    /// Sets who is told of changes; the first call counts.
    pub fn set_listener(&self, listener: Box<dyn ReplicaListener>) {
        let _ = self.listener.set(listener);
    }

    /// Lets what may wait for the disk be done in turn with everything else from now on, on the one thread there is: a
    /// second one would do it by chance sooner or later. For the simulator; a broker's connections would wait with it.
    pub fn wait_in_turn(&self) {
        self.waits_in_turn.store(true, Ordering::SeqCst);
    }

    /// Does what may wait for the disk on a thread that may, so that the other tasks of this one go on.
    pub fn apart<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
        match self.waits_in_turn.load(Ordering::SeqCst) {
            true => tokio::spawn(async { work() }),
            false => tokio::task::spawn_blocking(work),
        }
    }

    /// This broker's id.
    pub fn broker_id(&self) -> BrokerId {
        self.me
    }

    /// Sets the epoch of this broker's registration; older control requests are refused from now on (KIP-380).
    pub fn set_broker_epoch(&self, epoch: BrokerEpoch) {
        self.lease.registered(epoch);
        self.broker_epoch.store(epoch.get(), Ordering::SeqCst);
    }

    /// The epoch of this broker's registration, -1 before it.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        load_epoch(&self.broker_epoch)
    }

    /// Whether what the controller said last surely holds.
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// What is known of the cluster.
    pub fn metadata(&self) -> &Arc<MetadataCache> {
        &self.metadata
    }

    /// Topic configs as this broker knows them.
    pub fn configs(&self) -> &TopicConfigs {
        &self.configs
    }

    /// The throttles of replication and of moves between log dirs.
    pub fn throttle(&self) -> &Arc<ReplicationThrottle> {
        &self.throttle
    }

    /// The logs.
    pub fn log_manager(&self) -> &Arc<LogManager> {
        &self.log_manager
    }

    /// The broker's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A partition hosted here, whether it leads or follows.
    ///
    /// # Errors
    /// `NotLeaderOrFollower` if it exists elsewhere, `UnknownTopicOrPartition` if nowhere.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(found) = self.hosted(topic, partition) {
            return Ok(found);
        }
        let known = self.metadata.snapshot().partition(topic, partition).is_some();
        Err(if known { ErrorCode::NotLeaderOrFollower } else { ErrorCode::UnknownTopicOrPartition })
    }

    fn hosted(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.hosted.read().get(topic)?.partitions.get(&partition).cloned()
    }

    /// The id of a topic hosted here; nil if it has none.
    pub fn topic_id(&self, topic: &str) -> TopicId {
        self.hosted.read().get(topic).map_or(TopicId::nil(), |hosted| hosted.id)
    }

    /// The shared copy of a hosted topic's name.
    pub fn topic_key(&self, topic: &str) -> Option<Arc<str>> {
        self.hosted.read().get_key_value(topic).map(|(name, _)| Arc::clone(name))
    }

    /// All partitions hosted here, in no order.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.hosted.read().values().flat_map(|topic| topic.partitions.values().cloned()).collect()
    }

    /// The same by name and number, for what others can see the order of.
    fn sorted_partitions(&self) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions();
        partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
        partitions
    }

    /// The broker stops: fetches that wait are answered with what there is, and none waits from now on.
    pub fn stop_waiting(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.partitions().iter().for_each(|partition| partition.wake_all());
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn tell(&self, change: LeadershipChange) {
        if let Some(listener) = self.listener.get() {
            listener.leadership_changed(change);
        }
    }
}

fn load_epoch(epoch: &AtomicI64) -> BrokerEpoch {
    BrokerEpoch(epoch.load(Ordering::SeqCst))
}
