//! Connections from this broker to others over the inter-broker listener: one to each, made when it is needed, and made anew
//! when it has failed or the broker is elsewhere. Knows nothing of what is sent.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::settings::millis;
use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::network::client::{ApiVersions, ClientError, Connection, Options};
use crate::replica::manager::ReplicaManager;

/// A connection to one broker.
pub struct Link {
    address: String,
    /// The connection.
    pub connection: Connection,
    versions: OnceCell<ApiVersions>,
}

impl Link {
    /// What that broker understands; it is asked once.
    ///
    /// # Errors
    /// Why it did not say.
    pub async fn versions(&self) -> Result<&ApiVersions, ClientError> {
        self.versions.get_or_try_init(|| self.connection.api_versions()).await
    }
}

/// Connections to any broker of the cluster.
pub struct BrokerLinks {
    manager: Arc<ReplicaManager>,
    listener: String,
    options: Options,
    /// Where connections live: the threads of requests come and go.
    runtime: Handle,
    links: Mutex<HashMap<BrokerId, Arc<Link>>>, // locked for looks only
}

impl BrokerLinks {
    /// None yet; addresses come from what `manager` knows of the cluster. To the others this broker is `client_id`.
    pub fn new(config: &BrokerConfig, manager: Arc<ReplicaManager>, runtime: Handle, client_id: StrBytes) -> Self {
        let timeout = millis(i64::from(config.request_timeout_ms));
        let options = Options { client_id, connect_timeout: timeout, request_timeout: timeout, ..Options::default() };
        let listener = config.inter_broker_listener().to_owned();
        Self { manager, listener, options, runtime, links: Mutex::default() }
    }

    /// The listener on which others are reached.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// The connection to `broker`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn link(&self, broker: BrokerId) -> Result<Arc<Link>, String> {
        let address = self.manager.metadata().snapshot().address(broker, &self.listener);
        let address = address.ok_or_else(|| format!("no address of broker {broker} is known"))?;
        let known = self.links.lock().get(&broker).cloned();
        if let Some(link) = known.filter(|link| link.address == address && !link.connection.is_closed()) {
            return Ok(link);
        }
        let options = self.options.clone();
        let connecting = async move {
            let connection = Connection::connect_with(&address, options).await.map_err(|error| error.to_string())?;
            Ok(Arc::new(Link { address, connection, versions: OnceCell::new() }))
        };
        let connected: Result<Arc<Link>, String> =
            self.runtime.spawn(connecting).await.unwrap_or_else(|error| Err(error.to_string()));
        let link = connected?;
        self.links.lock().insert(broker, Arc::clone(&link));
        Ok(link)
    }
}
