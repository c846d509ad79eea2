//! What handlers may use: one struct, built by the server, shared by all connections.

/// Everything a handler needs. A room that serves requests adds one field here and fills it in `server.rs`.
pub struct Context {
    /// This broker's id.
    pub broker_id: crate::base::ids::BrokerId,
    /// The cluster's id, as ZooKeeper keeps it.
    pub cluster_id: String,
}
