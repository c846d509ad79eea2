//! From this broker to those that coordinate transactions, over the inter-broker listener: one connection to each, made
//! when it is needed and made anew when it has failed. Knows nothing of what is asked.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::AddPartitionsToTxnRequest;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::settings::millis;
use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::coordinator::txn::verifier::{Answer, FIRST_TO_VERIFY, TransactionCoordinators};
use crate::network::client::{ApiVersions, Connection, Options};
use crate::replica::manager::ReplicaManager;

/// A connection to one broker, and what that broker understands.
struct Link {
    address: String,
    connection: Connection,
    versions: ApiVersions,
}

/// Connections to coordinators.
pub struct NetworkCoordinators {
    manager: Arc<ReplicaManager>,
    listener: String,
    options: Options,
    /// Where connections live: the threads of requests come and go.
    runtime: Handle,
    links: Mutex<HashMap<BrokerId, Arc<Link>>>, // locked for looks only
}

impl NetworkCoordinators {
    /// None yet; addresses come from what `manager` knows of the cluster.
    pub fn new(config: &BrokerConfig, manager: Arc<ReplicaManager>, runtime: Handle) -> Self {
        let timeout = millis(i64::from(config.request_timeout_ms));
        let client_id = StrBytes::from_string(format!("AddPartitionsToTxnSenderThread-{}", manager.broker_id()));
        let options = Options { client_id, connect_timeout: timeout, request_timeout: timeout, ..Options::default() };
        let listener = config.inter_broker_listener().to_owned();
        Self { manager, listener, options, runtime, links: Mutex::default() }
    }

    fn address(&self, broker: BrokerId) -> Result<String, String> {
        let snapshot = self.manager.metadata().snapshot();
        let endpoint = snapshot.endpoint(broker, &self.listener);
        let endpoint = endpoint.ok_or_else(|| format!("no address of broker {broker} is known"))?;
        let bracketed = endpoint.host.contains(':');
        let host = if bracketed { format!("[{}]", endpoint.host) } else { endpoint.host.to_string() };
        Ok(format!("{host}:{}", endpoint.port))
    }

    async fn link(&self, broker: BrokerId) -> Result<Arc<Link>, String> {
        let address = self.address(broker)?;
        let known = self.links.lock().get(&broker).cloned();
        if let Some(link) = known.filter(|link| link.address == address && !link.connection.is_closed()) {
            return Ok(link);
        }
        let options = self.options.clone();
        let connecting = async move {
            let connection = Connection::connect_with(&address, options).await.map_err(|error| error.to_string())?;
            let versions = connection.api_versions().await.map_err(|error| error.to_string())?;
            Ok(Arc::new(Link { address, connection, versions }))
        };
        let connected: Result<Arc<Link>, String> =
            self.runtime.spawn(connecting).await.unwrap_or_else(|error| Err(error.to_string()));
        let link = connected?;
        self.links.lock().insert(broker, Arc::clone(&link));
        Ok(link)
    }

    async fn try_ask(&self, broker: BrokerId, request: &AddPartitionsToTxnRequest) -> Result<Answer, String> {
        let link = self.link(broker).await?;
        let version = link.versions.latest::<AddPartitionsToTxnRequest>().filter(|latest| *latest >= FIRST_TO_VERIFY);
        let Some(version) = version else { return Ok(Answer::Unsupported) };
        let answer = link.connection.send(request, version).await;
        answer.map(Answer::Answered).map_err(|error| error.to_string())
    }
}

impl TransactionCoordinators for NetworkCoordinators {
    fn ask(&self, broker: BrokerId, request: AddPartitionsToTxnRequest) -> BoxFuture<'_, Answer> {
        async move { self.try_ask(broker, &request).await.unwrap_or_else(Answer::Lost) }.boxed()
    }
}
