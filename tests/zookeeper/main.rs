//! The ZooKeeper room against real servers: the client's contract, registration, expiry, chroots, an ensemble that
//! loses a member, and the controller's speed with thousands of partitions.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod controller;
mod expire;
mod registration;

use std::sync::Arc;
use std::time::{Duration, Instant};

use barnabas::zk::ZkClient;
use barnabas::zk::real::RealConnector;

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SESSION: Duration = Duration::from_secs(4);

async fn connect(to: &str) -> ZkClient {
    ZkClient::connect(Arc::new(RealConnector::new(to, SESSION)), PATIENCE).await.expect("a session")
}

/// Waits until the condition holds.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs what starts a runtime of its own, such as the helpers that look into ZooKeeper.
fn outside<T>(look: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(look)
}
