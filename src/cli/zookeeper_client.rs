//! The ZooKeeper session of the tools that take `--zookeeper`, as 2.8's do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::config::zk_connect::ZkConnect;
use crate::zk::client::ZkClient;
use crate::zk::real::RealConnector;

/// The session's time-out, and how long to wait for a connection, as in the original.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the servers that `--zookeeper` names; a chroot that is missing stays missing.
///
/// # Errors
/// If that cannot be read, or none of them answers.
pub async fn connect(connect: &str) -> anyhow::Result<ZkClient> {
    let connect = ZkConnect::parse(connect).with_context(|| format!("--zookeeper {connect}"))?;
    let connector = RealConnector::new(&connect.to_string(), TIMEOUT).without_making_chroot();
    ZkClient::connect(Arc::new(connector), TIMEOUT)
        .await
        .with_context(|| format!("cannot connect to ZooKeeper at {connect}"))
}
