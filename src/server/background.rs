//! Chores: retention, flushes, checkpoints. Each runs on a thread that may wait for the disk, never twice at a time.

use std::sync::Arc;
use std::sync::mpsc::{self, TrySendError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::base::niceness;
use crate::config::broker::BrokerConfig;
use crate::replica::manager::ReplicaManager;

/// Kafka's scheduler begins with these chores only then (`LogManager.InitialTaskDelayMs`).
const INITIAL_DELAY: Duration = Duration::from_secs(30);
/// How often it is looked whether a log is due for a flush.
const FLUSH_CHECK: Duration = Duration::from_secs(1);
/// How often files whose delay is over are removed.
const REMOVAL_CHECK: Duration = Duration::from_secs(1);
/// How often moves between log dirs go on.
const MOVE_CHECK: Duration = Duration::from_millis(100);
/// `producer.id.expiration.check.interval.ms`, an internal key of Kafka's.
const PRODUCER_EXPIRATION_CHECK: Duration = Duration::from_secs(600);

/// How often descriptors that nobody uses are given back.
const UNUSED_FILES_CHECK: Duration = Duration::from_secs(30);

/// Starts the chores; aborting the tasks stops them.
pub fn start(config: &BrokerConfig, manager: &Arc<ReplicaManager>, on: &Handle) -> Vec<JoinHandle<()>> {
    let ms = |value: i64| Duration::from_millis(u64::try_from(value).unwrap_or(0).max(1));
    let every = |first: Duration, period: Duration, chore: fn(&ReplicaManager)| {
        on.spawn(repeat(first, period, Arc::clone(manager), chore))
    };
    let retention = ms(config.log_retention_check_interval_ms);
    let recovery_points = ms(i64::from(config.log_flush_offset_checkpoint_interval_ms));
    let log_starts = ms(i64::from(config.log_flush_start_offset_checkpoint_interval_ms));
    let high_watermarks = ms(config.replica_high_watermark_checkpoint_interval_ms);
    vec![
        every(INITIAL_DELAY.min(retention), retention, |m| {
            m.log_manager().run_retention(m.clock().now_ms());
        }),
        every(FLUSH_CHECK, FLUSH_CHECK, |m| m.log_manager().run_flushes(m.clock().now_ms())),
        on.spawn(remove_files(Arc::clone(manager))),
        every(UNUSED_FILES_CHECK, UNUSED_FILES_CHECK, |m| m.log_manager().close_unused_files()),
        every(MOVE_CHECK, MOVE_CHECK, ReplicaManager::move_between_log_dirs),
        every(recovery_points, recovery_points, |m| m.log_manager().checkpoint_recovery_points()),
        every(log_starts, log_starts, |m| m.log_manager().checkpoint_log_starts()),
        every(high_watermarks, high_watermarks, |m| m.log_manager().checkpoint_high_watermarks()),
        every(PRODUCER_EXPIRATION_CHECK, PRODUCER_EXPIRATION_CHECK, |m| {
            m.log_manager().expire_producers(m.clock().now_ms());
        }),
    ]
}

async fn repeat(first: Duration, period: Duration, manager: Arc<ReplicaManager>, chore: fn(&ReplicaManager)) {
    tokio::time::sleep(first).await;
    loop {
        let manager = Arc::clone(&manager);
        if let Err(error) = tokio::task::spawn_blocking(move || chore(&manager)).await {
            tracing::error!("a chore failed: {error}");
        }
        tokio::time::sleep(period).await;
    }
}

/// Removes files whose delay is over. The kernel is busy for long with what it has cached of a large one, so that happens on a
/// thread that gives way to those that serve clients. It ends with this task.
async fn remove_files(manager: Arc<ReplicaManager>) {
    let (ask, asked) = mpsc::sync_channel(1);
    let clock = Arc::clone(manager.clock());
    let remover = move || {
        niceness::give_way();
        while let Ok(now_ms) = asked.recv() {
            manager.log_manager().remove_due(now_ms);
        }
    };
    if let Err(error) = thread::Builder::new().name("remover".to_owned()).spawn(remover) {
        tracing::error!("no thread for the removal of files, which stay until the next start: {error}");
        return;
    }
    loop {
        tokio::time::sleep(REMOVAL_CHECK).await;
        // While it is at work it need not be asked.
        if let Err(TrySendError::Disconnected(_)) = ask.try_send(clock.now_ms()) {
            tracing::error!("the removal of files has failed; what is left stays until the next start");
            return;
        }
    }
}
