//! What handlers may use: one struct, built by the server, shared by all connections.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::base::clock::Clock;
use crate::base::ids::BrokerId;
use crate::coordinator::group::coordinator::GroupCoordinator;

/// Everything a handler needs. A room that serves requests adds one field here and fills it in `server.rs`.
pub struct Context {
    /// This broker's id.
    pub broker_id: BrokerId,
    /// The cluster's id, as ZooKeeper keeps it.
    pub cluster_id: String,
    /// The broker's clock.
    pub clock: Arc<dyn Clock>,
    /// The runtime for what must not hold up a connection's thread.
    pub control: Handle,
    /// Consumer groups and their offsets.
    pub groups: Arc<GroupCoordinator>,
}
