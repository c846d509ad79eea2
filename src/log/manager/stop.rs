//! Stopping in order, so that the next start need not look into the logs.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

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
        let started = Instant::now();
        self.checkpoint_high_watermarks();
        std::thread::scope(|scope| {
            for dir in self.live_dirs() {
                scope.spawn(|| {
                    let mut logs = self.logs_in(&dir.log_dir);
                    logs.extend(self.futures_in(&dir.log_dir));
                    if let Err(error) = dir.log_dir.watch(close_all(dir, &logs)) {
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
    let began = Instant::now();
    if dirty.len() > SYNC_WHOLE_FILE_SYSTEM {
        sync_twice(dir, logs, &dirty)?;
    }
    let synced = began.elapsed();
    on_all(logs, |log| log.close())?;
    tracing::debug!("{}: {} dirty logs synced in {synced:?}", dir.log_dir.path().display(), dirty.len());
    Ok(())
}

/// Has the disk write the records while the rest is being written out, and then what that added.
fn sync_twice(dir: &ManagedDir, logs: &[Arc<PartitionLog>], dirty: &[&Arc<PartitionLog>]) -> Result<(), LogError> {
    let path = dir.log_dir.path();
    let root = File::open(path).during("open", path)?;
    std::thread::scope(|scope| {
        let records = scope.spawn(|| sync_file_system(&root, path));
        on_all(logs, |log| log.write_out())?;
        joined(records)
    })?;
    sync_all(dir, dirty)
}

/// Does `work` with every log, on as many threads as there are processors. The first failure ends it.
fn on_all<L: Sync>(logs: &[L], work: impl Fn(&L) -> Result<(), LogError> + Sync) -> Result<(), LogError> {
    let next = AtomicUsize::new(0);
    let work_off = || {
        while let Some(log) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(log).inspect_err(|_| next.store(logs.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(logs.len());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work_off)).collect();
        let mut result = work_off();
        for other in others {
            result = result.and(joined(other));
        }
        result
    })
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, Result<(), LogError>>) -> Result<(), LogError> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Brings many logs to the disk with one sync of the file system.
pub(super) fn sync_all(dir: &ManagedDir, logs: &[&Arc<PartitionLog>]) -> Result<(), LogError> {
    for log in logs {
        log.write_out()?;
    }
    let marks: Vec<_> = logs.iter().map(|log| log.sync_mark()).collect();
    let path = dir.log_dir.path();
    let root = File::open(path).during("open", path)?;
    sync_file_system(&root, path)?;
    for (log, mark) in logs.iter().zip(marks) {
        log.mark_synced(mark);
    }
    Ok(())
}

fn sync_file_system(root: &File, path: &Path) -> Result<(), LogError> {
    nix::unistd::syncfs(root).map_err(std::io::Error::from).during("sync the file system of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_worked_on_once_and_a_failure_is_told() {
        let counts: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        let count = |count: &AtomicUsize| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        on_all(&counts, count).expect("no failure");
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        on_all::<AtomicUsize>(&[], |_| Ok(())).expect("nothing to do");

        let numbers: Vec<usize> = (0..1000).collect();
        for bad in [0, 1, 500, 999] {
            let fail = |number: &usize| match *number == bad {
                true => Err(LogError::corrupt(Path::new("x"), "bad")),
                false => Ok(()),
            };
            assert!(on_all(&numbers, fail).is_err(), "{bad}");
        }
    }
}
