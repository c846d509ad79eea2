//! From the configuration to what each room is built with.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use tracing::info;

use super::settings::millis;
use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::log::cleaner::CleanerOptions;
use crate::log::log_config::LogConfig;
use crate::log::manager::{LogManager, ManagerOptions};
use crate::replica::topic_configs::default_log_config as topic_defaults;
use crate::zk::client::ZkClient;
use crate::zk::real::RealConnector;
use crate::zk::session::{create_persistent_paths, generate_broker_id, get_or_create_cluster_id};
use crate::zk::session_file::SessionFile;

/// A count from the configuration; what is not positive is none.
pub fn positive(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// What the log manager is opened with.
pub fn log_options(config: &BrokerConfig) -> ManagerOptions {
    ManagerOptions {
        recovery_threads_per_dir: positive(config.num_recovery_threads_per_data_dir),
        producer_expiration_ms: i64::from(config.producer_id_expiration_ms),
        ..ManagerOptions::new(config.log_directories())
    }
}

/// How compaction runs.
pub fn cleaner_options(config: &BrokerConfig) -> CleanerOptions {
    CleanerOptions {
        enabled: config.log_cleaner_enable,
        threads: positive(config.log_cleaner_threads),
        dedupe_buffer_size: u64::try_from(config.log_cleaner_dedupe_buffer_size).unwrap_or(0),
        io_buffer_size: positive(config.log_cleaner_io_buffer_size),
        load_factor: config.log_cleaner_io_buffer_load_factor,
        max_bytes_per_second: config.log_cleaner_io_max_bytes_per_second,
        backoff_ms: u64::try_from(config.log_cleaner_backoff_ms).unwrap_or(0),
    }
}

/// What holds for logs of topics without settings of their own.
pub fn default_log_config(config: &BrokerConfig) -> anyhow::Result<Arc<LogConfig>> {
    Ok(topic_defaults(config)?)
}

/// A session with ZooKeeper, the nodes every broker makes sure of, and the cluster's id.
pub async fn connect_zookeeper(config: &BrokerConfig) -> anyhow::Result<(ZkClient, String)> {
    let Some(connect) = config.zookeeper() else { bail!("zookeeper.connect is not set") };
    let text = format!("{}{}", connect.servers(), connect.chroot);
    let session_timeout = millis(i64::from(config.zookeeper_session_timeout_ms));
    let patience = millis(i64::from(config.zookeeper_connection_timeout()));
    let connector = Arc::new(RealConnector::new(&text, session_timeout));
    let connected = ZkClient::connect(connector, patience).await;
    let zk = connected.map_err(|error| anyhow::anyhow!("ZooKeeper at {text} cannot be reached: {error}"))?;
    let (made, id) = tokio::join!(create_persistent_paths(&zk), get_or_create_cluster_id(&zk));
    made.context("ZooKeeper's nodes cannot be made")?;
    let id = id.context("the cluster's id cannot be read from ZooKeeper")?;
    info!("connected to ZooKeeper at {text}, cluster {id}");
    Ok((zk, id))
}

/// Refuses log dirs of another broker before anything in them is touched.
pub fn check_broker_id(config: &BrokerConfig, logs: &LogManager) -> anyhow::Result<()> {
    let id = BrokerId(config.broker_id);
    let other = logs.stored_ids().into_iter().find_map(|(dir, meta)| Some((dir, meta.broker_id.filter(|o| *o != id)?)));
    match other {
        Some((dir, other)) if id.get() >= 0 => bail!(
            "{} belongs to broker.id {other}, but this broker has {id}: correct broker.id or log.dirs",
            dir.display()
        ),
        _ => Ok(()),
    }
}

/// This broker's id: `broker.id`, or what the log dirs say, or a fresh one from ZooKeeper.
pub async fn broker_id(config: &BrokerConfig, logs: &LogManager, zk: &ZkClient) -> anyhow::Result<BrokerId> {
    if config.broker_id >= 0 {
        return Ok(BrokerId(config.broker_id));
    }
    if let Some(stored) = logs.stored_ids().into_iter().find_map(|(_, meta)| meta.broker_id) {
        return Ok(stored);
    }
    if !config.broker_id_generation_enable {
        bail!("broker.id is not set, and broker.id.generation.enable is false");
    }
    let id = generate_broker_id(zk, config.reserved_broker_max_id).await;
    id.context("no broker id can be had from ZooKeeper")
}

/// The file of sessions, in the first log dir that works.
pub fn session_file(logs: &LogManager) -> Option<SessionFile> {
    let dirs = logs.log_dirs();
    dirs.iter().find(|dir| !dir.is_offline()).map(|dir| SessionFile::open(dir.path()))
}
