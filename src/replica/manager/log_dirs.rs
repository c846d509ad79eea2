//! What lies in which log dir: the answer to DescribeLogDirs (`ReplicaManager.describeLogDirs`).

use std::path::PathBuf;
use std::sync::Arc;

use super::ReplicaManager;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::log::log_dir::LogDir;
use crate::log::partition_log::PartitionLog;

/// The lag of a future log that has no current one (`DescribeLogDirsResponse.INVALID_OFFSET_LAG`).
const UNKNOWN_LAG: i64 = -1;

/// A log in a log dir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// Whose log it is.
    pub partition: TopicPartition,
    /// Bytes of its segments.
    pub size: u64,
    /// How far it lies behind: a follower's log behind the high watermark, a future one behind the current one.
    pub offset_lag: i64,
    /// Whether it is on its way to become the partition's log.
    pub is_future: bool,
}

/// A log dir and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirDescription {
    /// Where it is.
    pub path: PathBuf,
    /// `KafkaStorageError` if its disk has failed.
    pub error: ErrorCode,
    /// Bytes of its file system, if that answers (KIP-827).
    pub total_bytes: Option<u64>,
    /// Bytes that are still free there for this broker.
    pub usable_bytes: Option<u64>,
    /// The logs in it, by name.
    pub replicas: Vec<ReplicaInfo>,
}

impl ReplicaManager {
    /// Describes every log dir with those of its logs that are `wanted`. Asks the file systems, so it may block.
    pub fn describe_log_dirs(&self, wanted: impl Fn(&TopicPartition) -> bool) -> Vec<LogDirDescription> {
        self.log_manager.log_dirs().iter().map(|dir| self.describe_log_dir(dir, &wanted)).collect()
    }

    fn describe_log_dir(&self, dir: &Arc<LogDir>, wanted: &impl Fn(&TopicPartition) -> bool) -> LogDirDescription {
        let path = std::path::absolute(dir.path()).unwrap_or_else(|_| dir.path().to_path_buf());
        let space = if dir.is_offline() { None } else { dir.space().ok() };
        let mut description = LogDirDescription {
            path,
            error: ErrorCode::None,
            total_bytes: space.map(|(total, _)| total),
            usable_bytes: space.map(|(_, usable)| usable),
            replicas: Vec::new(),
        };
        if dir.is_offline() {
            description.error = ErrorCode::KafkaStorageError;
            return description;
        }
        let logs = self.log_manager.logs_in(dir);
        let logs = logs.iter().filter(|log| wanted(log.topic_partition()));
        description.replicas = logs.map(|log| current(log)).collect();
        let futures = self.log_manager.futures_in(dir);
        let futures = futures.iter().filter(|log| wanted(log.topic_partition()));
        description.replicas.extend(futures.map(|log| self.future(log)));
        description.replicas.sort_by(|a, b| a.partition.cmp(&b.partition));
        description
    }
}

impl ReplicaManager {
    fn future(&self, log: &PartitionLog) -> ReplicaInfo {
        let partition = log.topic_partition();
        let current = self.log_manager.get(partition);
        ReplicaInfo {
            size: log.size(),
            offset_lag: current.map_or(UNKNOWN_LAG, |current| current.log_end_offset().since(log.log_end_offset())),
            is_future: true,
            partition: partition.clone(),
        }
    }
}

fn current(log: &PartitionLog) -> ReplicaInfo {
    ReplicaInfo {
        partition: log.topic_partition().clone(),
        size: log.size(),
        offset_lag: log.high_watermark().since(log.log_end_offset()).max(0),
        is_future: false,
    }
}
