//! What handlers may use: one struct, built by the server, shared by all connections.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::base::clock::Clock;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;
use crate::base::loggers::Loggers;
use crate::config::broker::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::coordinator::group::coordinator::GroupCoordinator;
use crate::coordinator::txn::coordinator::TxnCoordinator;
use crate::coordinator::txn::producer_ids::ProducerIds;
use crate::coordinator::txn::verifier::TxnVerifier;
use crate::replica::fetch_session::FetchSessions;
use crate::replica::manager::ReplicaManager;
use crate::zk::ZkClient;

/// Everything a handler needs. A room that serves requests adds one field here and fills it in `server.rs`.
pub struct Context {
    /// This broker's id.
    pub broker_id: BrokerId,
    /// The cluster's id, as ZooKeeper keeps it.
    pub cluster_id: String,
    /// The broker's configuration, as it was at the start.
    pub config: BrokerConfig,
    /// ZooKeeper, for what a user asks to be written there.
    pub zk: ZkClient,
    /// Whether this broker is the controller.
    pub controller: ControllerHandle,
    /// The broker's clock.
    pub clock: Arc<dyn Clock>,
    /// The runtime for what must not hold up a connection's thread.
    pub control: Handle,
    /// The partitions.
    pub replica_manager: Arc<ReplicaManager>,
    /// Incremental fetch sessions.
    pub fetch_sessions: FetchSessions,
    /// Ids for producers.
    pub producer_ids: Arc<ProducerIds>,
    /// Asks coordinators of transactions whether they know of them.
    pub txn_verifier: TxnVerifier,
    /// Consumer groups and their offsets.
    pub groups: Arc<GroupCoordinator>,
    /// Transactions.
    pub transactions: Arc<TxnCoordinator>,
    /// The levels of the broker's log.
    pub loggers: Arc<Loggers>,
}

impl Context {
    /// Makes a topic that a client asked for and that does not exist. The answer is for that client: usually
    /// LEADER_NOT_AVAILABLE, so that it asks again.
    pub async fn auto_create(&self, topic: &str) -> ErrorCode {
        super::auto_create::create(self, topic).await
    }
}
