//! What happens when a log dir fails: its partitions go offline, the controller is told, and without any log dir left the
//! broker ends, as nothing can be served or kept (Kafka's `LogDirFailureHandler`).

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::log::manager::LogManager;
use crate::replica::manager::ReplicaManager;
use crate::zk::backend::CreateMode;
use crate::zk::client::ZkClient;
use crate::zk::znodes::notifications::{LOG_DIR_EVENT_PATH, LOG_DIR_EVENT_PREFIX, encode_log_dir_event};

/// Acts on failures from now on, on a runtime: the failure comes up in the midst of an append, with locks held. Notifies
/// what is returned when no log dir is left.
pub fn watch(logs: &Arc<LogManager>, manager: &Arc<ReplicaManager>, zk: &ZkClient, on: &Handle) -> Arc<Notify> {
    let none_left = Arc::new(Notify::new());
    let (manager, zk, on, notify) = (Arc::downgrade(manager), zk.clone(), on.clone(), Arc::clone(&none_left));
    // Why it failed was logged where it happened.
    logs.on_dir_failure(move |dir, _reason| {
        if let Some(manager) = manager.upgrade() {
            on.spawn(handle(dir.to_path_buf(), manager, zk.clone(), Arc::clone(&notify)));
        }
    });
    none_left
}

async fn handle(dir: PathBuf, manager: Arc<ReplicaManager>, zk: ZkClient, none_left: Arc<Notify>) {
    let partitions = manager.handle_log_dir_failure(&dir);
    error!("{} partitions in {} are offline", partitions.len(), dir.display());
    if manager.log_manager().log_dirs().iter().all(|dir| dir.is_offline()) {
        none_left.notify_one();
        return;
    }
    let prefix = format!("{LOG_DIR_EVENT_PATH}/{LOG_DIR_EVENT_PREFIX}");
    let data = encode_log_dir_event(manager.broker_id());
    if let Err(error) = zk.create(&prefix, &data, CreateMode::PersistentSequential).await {
        warn!("the controller could not be told of the failed log dir: {error}");
    }
}
