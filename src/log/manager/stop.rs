//! Stopping in order, so that the next start need not look into the logs.

use std::fs::File;
use std::sync::Arc;

use super::{LogManager, ManagedDir};
use crate::base::ids::BrokerEpoch;
use crate::log::error::{IoContext, LogError};
use crate::log::meta;
use crate::log::partition_log::PartitionLog;

/// With more dirty logs than this, one sync of the file system is cheaper than one for each file.
pub(super) const SYNC_WHOLE_FILE_SYSTEM: usize = 16;

impl LogManager {
    /// Brings everything to the disk, writes the checkpoints and the mark of an orderly stop (with `broker_epoch`), and
    /// closes all logs. A log dir that fails on the way gets no mark and is recovered by the next start.
    pub fn shutdown(&self, broker_epoch: BrokerEpoch) {
        let started = std::time::Instant::now();
        self.checkpoint_high_watermarks();
        std::thread::scope(|scope| {
            for dir in self.live_dirs() {
                scope.spawn(|| {
                    if let Err(error) = dir.log_dir.watch(close_all(dir, &self.logs_in(&dir.log_dir))) {
                        tracing::error!("{} was not closed in order: {error}", dir.log_dir.path().display());
                    }
                });
            }
        });
        self.checkpoint_recovery_points();
        self.checkpoint_log_starts();
        for dir in self.live_dirs() {
            let path = dir.log_dir.path();
            if let Err(error) = dir.log_dir.watch(meta::write_clean_shutdown(path, broker_epoch)) {
                tracing::error!("the mark of an orderly stop could not be written: {error}");
            }
        }
        tracing::info!("closed {} logs in {:?}", self.len(), started.elapsed());
    }
}

fn close_all(dir: &ManagedDir, logs: &[Arc<PartitionLog>]) -> Result<(), LogError> {
    let dirty: Vec<&Arc<PartitionLog>> = logs.iter().filter(|log| log.is_dirty()).collect();
    for log in logs {
        log.write_out()?;
    }
    if dirty.len() > SYNC_WHOLE_FILE_SYSTEM {
        sync_all(dir, &dirty)?;
    }
    logs.iter().try_for_each(|log| log.close())
}

/// Brings many logs to the disk with one sync of the file system.
pub(super) fn sync_all(dir: &ManagedDir, logs: &[&Arc<PartitionLog>]) -> Result<(), LogError> {
    for log in logs {
        log.write_out()?;
    }
    let marks: Vec<_> = logs.iter().map(|log| log.sync_mark()).collect();
    let path = dir.log_dir.path();
    let root = File::open(path).during("open", path)?;
    nix::unistd::syncfs(&root).map_err(std::io::Error::from).during("sync the file system of", path)?;
    for (log, (end, truncations)) in logs.iter().zip(marks) {
        log.mark_synced(end, truncations);
    }
    Ok(())
}
