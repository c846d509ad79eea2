//! What happens when a log dir fails: its partitions go offline, the controller is told, and without any log dir left the
//! process ends, as nothing can be served or kept.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::{error, warn};

use crate::log::manager::LogManager;
use crate::replica::manager::ReplicaManager;
use crate::zk::backend::CreateMode;
use crate::zk::client::ZkClient;
use crate::zk::znodes::notifications::{LOG_DIR_EVENT_PATH, LOG_DIR_EVENT_PREFIX, encode_log_dir_event};

/// The exit code when the last log dir failed (`Exit.halt(1)` of Kafka's `LogDirFailureHandler`).
const NO_LOG_DIR_LEFT: i32 = 1;

/// Acts on failures from now on, on a runtime: the failure comes up in the midst of an append, with locks held.
pub fn watch(logs: &Arc<LogManager>, manager: &Arc<ReplicaManager>, zk: &ZkClient, on: &Handle) {
    let (manager, zk, on) = (Arc::downgrade(manager), zk.clone(), on.clone());
    logs.on_dir_failure(move |dir, reason| {
        error!("log dir {} failed and is offline: {reason}", dir.display());
        if let Some(manager) = manager.upgrade() {
            on.spawn(handle(dir.to_path_buf(), manager, zk.clone()));
        }
    });
}

async fn handle(dir: PathBuf, manager: Arc<ReplicaManager>, zk: ZkClient) {
    let partitions = manager.handle_log_dir_failure(&dir);
    error!("{} partitions in {} are offline", partitions.len(), dir.display());
    if manager.log_manager().log_dirs().iter().all(|dir| dir.is_offline()) {
        error!("no log dir is left: the broker ends");
        std::process::exit(NO_LOG_DIR_LEFT);
    }
    let prefix = format!("{LOG_DIR_EVENT_PATH}/{LOG_DIR_EVENT_PREFIX}");
    let data = encode_log_dir_event(manager.broker_id());
    if let Err(error) = zk.create(&prefix, &data, CreateMode::PersistentSequential).await {
        warn!("the controller could not be told of the failed log dir: {error}");
    }
}
