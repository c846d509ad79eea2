//! All partitions of a broker on its `log.dirs` (`LogManager`): loading, creating, deleting, checkpoints, the regular
//! chores. The chores are plain functions that the server calls with the time.
//!
//! A log dir whose disk fails goes offline alone; the others serve on. Never knows who leads a partition.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::{Mutex, RwLock};

use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, Offset, TopicId, TopicPartition};
use crate::log::checkpoint;
use crate::log::error::LogError;
use crate::log::files;
use crate::log::log_config::LogConfig;
use crate::log::log_dir::LogDir;
use crate::log::meta::{self, DirLock, MetaProperties};
use crate::log::partition_log::{OpenParams, PartitionLog};

mod chores;
mod cleaning;
mod delete;
mod load;
mod moves;
mod stop;

pub use load::LoadSummary;

/// What the manager is opened with.
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads_per_dir: usize,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
}

impl ManagerOptions {
    /// Kafka's defaults for the given log dirs.
    pub fn new(log_dirs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            log_dirs: log_dirs.into_iter().map(Into::into).collect(),
            recovery_threads_per_dir: 1,
            producer_expiration_ms: 86_400_000,
        }
    }
}

/// A log dir as the manager holds it.
#[derive(Debug)]
struct ManagedDir {
    log_dir: Arc<LogDir>,
    meta: Mutex<Option<MetaProperties>>,
    /// The broker epoch in the mark of the last orderly stop.
    previous_epoch: Mutex<Option<BrokerEpoch>>,
    high_watermarks: Mutex<BTreeMap<TopicPartition, Offset>>,
    /// What was last written to the checkpoint files, so that an idle broker writes nothing. Held across the writes, so
    /// that an older state never overwrites a newer one.
    written: Mutex<Written>,
    _lock: Option<DirLock>,
}

#[derive(Debug, Default)]
struct Written {
    recovery_points: Option<Vec<(TopicPartition, Offset)>>,
    log_starts: Option<Vec<(TopicPartition, Offset)>>,
    high_watermarks: Option<Vec<(TopicPartition, Offset)>>,
    cleaned: Option<Vec<(TopicPartition, Offset)>>,
}

/// The logs of a broker.
#[derive(Debug)]
pub struct LogManager {
    options: ManagerOptions,
    /// `producer.id.expiration.ms` as it holds now.
    producer_expiration_ms: AtomicI64,
    dirs: Vec<ManagedDir>,
    // Held for look-ups and changes of the map only.
    logs: RwLock<HashMap<TopicPartition, Arc<PartitionLog>>>,
    // Logs on their way to another log dir. Held for look-ups and changes of the map only.
    futures: RwLock<BTreeMap<TopicPartition, Arc<PartitionLog>>>,
    /// Log dirs that were asked for before the partition came.
    preferred: Mutex<BTreeMap<TopicPartition, Arc<LogDir>>>,
    // Held while a log is created or deleted, so that a partition gets one folder.
    creation: Mutex<()>,
}

impl LogManager {
    /// Creates the log dirs that are missing, locks them and reads their `meta.properties`. A log dir that cannot be
    /// used is offline from the beginning.
    ///
    /// # Errors
    /// If another broker holds one of them, or none can be used.
    pub fn open(options: ManagerOptions) -> Result<Self, LogError> {
        let mut dirs = Vec::with_capacity(options.log_dirs.len());
        for path in &options.log_dirs {
            dirs.push(open_dir(path)?);
        }
        if dirs.iter().all(|dir| dir.log_dir.is_offline()) {
            let first = options.log_dirs.first().cloned().unwrap_or_default();
            return Err(LogError::corrupt(&first, "none of the log.dirs can be used"));
        }
        Ok(Self {
            producer_expiration_ms: AtomicI64::new(options.producer_expiration_ms),
            options,
            dirs,
            logs: RwLock::default(),
            futures: RwLock::default(),
            preferred: Mutex::default(),
            creation: Mutex::new(()),
        })
    }

    /// Tells `listener` whenever a log dir goes offline: its path and why.
    pub fn on_dir_failure(&self, listener: impl Fn(&Path, &str) + Send + Sync + 'static) {
        let listener = Arc::new(listener);
        for dir in &self.dirs {
            let listener = listener.clone();
            dir.log_dir.set_listener(Box::new(move |path, reason| listener(path, reason)));
        }
    }

    /// The ids in the `meta.properties` of the log dirs that have one.
    pub fn stored_ids(&self) -> Vec<(PathBuf, MetaProperties)> {
        let stored =
            self.dirs.iter().filter_map(|dir| Some((dir.log_dir.path().to_path_buf(), dir.meta.lock().clone()?)));
        stored.collect()
    }

    /// Checks that the log dirs belong to this broker and cluster, and notes the ids where there were none.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] naming the file and both ids.
    pub fn check_ids(&self, broker_id: BrokerId, cluster_id: &str) -> Result<(), LogError> {
        for dir in self.live_dirs() {
            let path = dir.log_dir.path();
            let meta = dir.meta.lock().clone().unwrap_or_default();
            let file = path.join(files::META_PROPERTIES);
            if let Some(stored) = meta.broker_id.filter(|stored| *stored != broker_id) {
                let message = format!(
                    "the folder belongs to broker.id {stored}, but this broker has {broker_id}: correct broker.id or log.dirs"
                );
                return Err(LogError::corrupt(&file, message));
            }
            if let Some(stored) = meta.cluster_id.as_deref().filter(|stored| *stored != cluster_id) {
                let message = format!(
                    "the folder belongs to cluster {stored}, but ZooKeeper's cluster is {cluster_id}: \
                     correct zookeeper.connect or log.dirs"
                );
                return Err(LogError::corrupt(&file, message));
            }
            if meta.broker_id.is_none() || meta.cluster_id.is_none() {
                dir.log_dir.watch(meta::write_meta_properties(path, broker_id, cluster_id))?;
                let ids = MetaProperties { broker_id: Some(broker_id), cluster_id: Some(cluster_id.to_owned()) };
                *dir.meta.lock() = Some(ids);
            }
        }
        Ok(())
    }

    /// The epoch with which the broker stopped in order the last time: the smallest of all log dirs, `None` if one of
    /// them was not closed in order (KIP-966 asks for it).
    pub fn previous_broker_epoch(&self) -> Option<BrokerEpoch> {
        self.dirs.iter().map(|dir| *dir.previous_epoch.lock()).min().flatten()
    }

    fn live_dirs(&self) -> impl Iterator<Item = &ManagedDir> {
        self.dirs.iter().filter(|dir| !dir.log_dir.is_offline())
    }

    /// The log dirs and whether each is online.
    pub fn log_dirs(&self) -> Vec<Arc<LogDir>> {
        self.dirs.iter().map(|dir| dir.log_dir.clone()).collect()
    }

    /// The log of a partition, if it has one here.
    pub fn get(&self, tp: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.logs.read().get(tp).cloned()
    }

    /// All logs.
    pub fn all(&self) -> Vec<Arc<PartitionLog>> {
        self.logs.read().values().cloned().collect()
    }

    /// How many logs there are.
    pub fn len(&self) -> usize {
        self.logs.read().len()
    }

    /// Whether there is no log.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The logs in one log dir.
    pub fn logs_in(&self, log_dir: &Arc<LogDir>) -> Vec<Arc<PartitionLog>> {
        self.logs.read().values().filter(|log| Arc::ptr_eq(log.log_dir(), log_dir)).cloned().collect()
    }

    /// The log of a partition; created in the log dir with the fewest partitions if there is none. `is_new` says that the
    /// partition never had a log here: then it may be created although a log dir, which might hold it, is offline.
    ///
    /// # Errors
    /// `KafkaStorageError` where no log dir can take it; `InconsistentTopicId` where the log has another topic's id.
    pub fn get_or_create(
        &self,
        tp: &TopicPartition,
        topic_id: Option<TopicId>,
        config: Arc<LogConfig>,
        is_new: bool,
        now_ms: i64,
    ) -> Result<Arc<PartitionLog>, LogError> {
        let _creation = self.creation.lock();
        let log = match self.get(tp) {
            Some(log) => log,
            None => self.create(tp, config, is_new, now_ms)?,
        };
        if let Some(id) = topic_id.filter(|id| !id.is_nil()) {
            log.assign_topic_id(id)?;
        }
        Ok(log)
    }

    fn create(
        &self,
        tp: &TopicPartition,
        config: Arc<LogConfig>,
        is_new: bool,
        now_ms: i64,
    ) -> Result<Arc<PartitionLog>, LogError> {
        if !is_new && let Some(offline) = self.dirs.iter().find(|dir| dir.log_dir.is_offline()) {
            return Err(LogError::Offline(offline.log_dir.path().to_path_buf()));
        }
        let mut preferred = self.take_preferred(tp);
        loop {
            let Some(log_dir) = preferred.take().or_else(|| self.least_loaded()) else {
                return Err(LogError::refused(ErrorCode::KafkaStorageError, "all log dirs are offline"));
            };
            let params = OpenParams {
                tp: tp.clone(),
                dir: Arc::from(log_dir.path().join(tp.to_string())),
                log_dir: log_dir.clone(),
                config: config.clone(),
                log_start: Offset::ZERO,
                recovery_point: Offset::ZERO,
                cleaned: None,
                clean: true,
                now_ms,
                producer_expiration_ms: self.producer_expiration_ms(),
            };
            match PartitionLog::open(&params) {
                Ok(log) => {
                    let log = Arc::new(log);
                    self.logs.write().insert(tp.clone(), log.clone());
                    self.forget_predecessor(tp, &log_dir);
                    tracing::debug!(partition = %tp, "created a log in {}", log_dir.path().display());
                    return Ok(log);
                }
                // The failure took that log dir offline: the next one may do.
                Err(LogError::Storage { .. } | LogError::Offline(_)) if log_dir.is_offline() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The checkpoints may still speak of a deleted partition of the same name; after a crash they would be taken for
    /// this one's.
    fn forget_predecessor(&self, tp: &TopicPartition, log_dir: &Arc<LogDir>) {
        let Some(dir) = self.dirs.iter().find(|dir| Arc::ptr_eq(&dir.log_dir, log_dir)) else { return };
        let known = {
            let written = dir.written.lock();
            let names = |offsets: &Option<Vec<(TopicPartition, Offset)>>| {
                let above = |at: usize| offsets.as_ref().is_some_and(|o| o[at].1 > Offset::ZERO);
                let found = offsets.as_ref().and_then(|o| o.binary_search_by(|(known, _)| known.cmp(tp)).ok());
                found.is_some_and(above)
            };
            names(&written.recovery_points) || names(&written.log_starts) || names(&written.cleaned)
        };
        if known {
            self.checkpoint_dir(dir);
        }
    }

    fn least_loaded(&self) -> Option<Arc<LogDir>> {
        if self.dirs.len() == 1 {
            return self.live_dirs().next().map(|dir| dir.log_dir.clone());
        }
        let logs = self.logs.read();
        let count = |dir: &ManagedDir| logs.values().filter(|log| Arc::ptr_eq(log.log_dir(), &dir.log_dir)).count();
        self.live_dirs().min_by_key(|dir| count(dir)).map(|dir| dir.log_dir.clone())
    }

    /// The high watermark that was checkpointed for a partition before the start, or 0.
    pub fn checkpointed_high_watermark(&self, tp: &TopicPartition) -> Offset {
        let found = self.dirs.iter().find_map(|dir| dir.high_watermarks.lock().get(tp).copied());
        found.unwrap_or(Offset::ZERO)
    }

    /// Puts new settings in force for all partitions of `topic`.
    pub fn update_topic_config(&self, topic: &str, config: &Arc<LogConfig>) {
        let logs = self.logs.read();
        let of_topic = logs.iter().filter(|(tp, _)| &*tp.topic == topic);
        of_topic.for_each(|(_, log)| log.update_config(config.clone()));
        let futures = self.futures.read();
        let of_topic = futures.iter().filter(|(tp, _)| &*tp.topic == topic);
        of_topic.for_each(|(_, log)| log.update_config(config.clone()));
    }
}

fn open_dir(path: &Path) -> Result<ManagedDir, LogError> {
    let log_dir = Arc::new(LogDir::new(path));
    let mut dir = ManagedDir {
        log_dir: log_dir.clone(),
        meta: Mutex::default(),
        previous_epoch: Mutex::new(None),
        high_watermarks: Mutex::default(),
        written: Mutex::default(),
        _lock: None,
    };
    let usable = std::fs::create_dir_all(path).map_err(|e| LogError::storage("create", path, e));
    let usable = usable.and_then(|()| DirLock::acquire(path)).and_then(|lock| {
        let Some(lock) = lock else {
            return Err(LogError::corrupt(
                &path.join(files::LOCK),
                "another broker is using this folder: stop it, or correct log.dirs",
            ));
        };
        Ok((lock, meta::read_meta_properties(path)?, checkpoint::read_offsets(&path.join(files::HIGH_WATERMARKS))))
    });
    match usable {
        Ok((lock, meta, high_watermarks)) => {
            dir._lock = Some(lock);
            *dir.meta.get_mut() = meta;
            *dir.high_watermarks.get_mut() = high_watermarks.unwrap_or_else(|error| {
                tracing::error!("{error}; high watermarks begin at the log start");
                BTreeMap::new()
            });
        }
        Err(error @ LogError::Storage { .. }) => log_dir.take_offline(&error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(dir)
}

#[cfg(test)]
mod cleaning_tests;
#[cfg(test)]
mod move_tests;
#[cfg(test)]
mod tests;
