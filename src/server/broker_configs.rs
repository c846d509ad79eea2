//! Broker configs out of ZooKeeper, for this broker and for all: read at the start and whenever `/config/changes` tells of
//! them, and handed to whatever acts on them (`BrokerConfigHandler`, `DynamicBrokerConfig`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{info, warn};

use super::live_config::LiveConfig;
use super::settings;
use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::config::dynamic::{self, Dynamic};
use crate::network::limits::ConnectionQuotas;
use crate::replica::manager::ReplicaManager;
use crate::zk::client::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::configs::{self, DEFAULT_ENTITY, EntityType};

/// Reads this broker's dynamic configs and puts them in force.
pub struct BrokerConfigs {
    zk: ZkClient,
    id: BrokerId,
    manager: Arc<ReplicaManager>,
    connections: ConnectionQuotas,
    /// What else follows, once it runs.
    live: Option<LiveConfig>,
}

impl BrokerConfigs {
    /// For broker `id`, whose partitions are `manager`'s and whose connections count in `connections`.
    pub fn new(zk: ZkClient, id: BrokerId, manager: Arc<ReplicaManager>, connections: ConnectionQuotas) -> Self {
        Self { zk, id, manager, connections, live: None }
    }

    /// Changes reach `live` too from now on; it was started with what held then.
    pub fn reach(&mut self, live: LiveConfig) {
        self.live = Some(live);
    }

    /// Whether a change of the entity of that name, below `/config/brokers`, concerns this broker.
    pub fn concerns(&self, name: &str) -> bool {
        name == DEFAULT_ENTITY || name.parse() == Ok(self.id.get())
    }

    /// Reads what is set for this broker and for all, and puts it in force. What is not valid is said and passed over.
    ///
    /// # Errors
    /// ZooKeeper's.
    pub async fn load(&self) -> Result<(), ZkError> {
        let (own, all) = (self.id.to_string(), DEFAULT_ENTITY);
        let (broker, cluster) = tokio::try_join!(self.read(&own), self.read(all))?;
        let found = Dynamic { broker, cluster };
        if found == *self.manager.configs().dynamic() {
            return Ok(());
        }
        for (name, text) in found.cluster.iter().chain(&found.broker) {
            if let Err(error) = dynamic::check(name, text) {
                warn!("a config of brokers that ZooKeeper holds is passed over: {error}");
            }
        }
        info!("set while brokers run: {:?} for this broker, {:?} for all", found.broker, found.cluster);
        let before = self.manager.configs().broker();
        match self.manager.update_broker_config(found) {
            Ok(now) => {
                self.limit_connections(&before, &now).await;
                if let Some(live) = &self.live {
                    live.apply(&before, &now).await;
                }
            }
            Err(error) => warn!("the configs of brokers that ZooKeeper holds are not valid together: {error}"),
        }
        Ok(())
    }

    async fn read(&self, name: &str) -> Result<BTreeMap<String, String>, ZkError> {
        let path = configs::path(EntityType::Brokers, name);
        let Some(node) = self.zk.find(&path).await? else { return Ok(BTreeMap::new()) };
        Ok(configs::decode(&path, &node.data).unwrap_or_else(|error| {
            warn!("the configs of broker {name} cannot be read: {error}");
            BTreeMap::new()
        }))
    }

    /// Hosts among the overrides are looked up, which may take long; so only where something changed.
    async fn limit_connections(&self, before: &BrokerConfig, now: &Arc<BrokerConfig>) {
        let of = |config: &BrokerConfig| {
            let overrides = config.max_connections_per_ip_overrides.clone();
            let listeners =
                config.endpoints().iter().map(|endpoint| config.listener_max_connections(&endpoint.listener));
            let in_all = (config.max_connections, config.max_connections_per_ip, config.max_connection_creation_rate);
            (in_all, overrides, listeners.collect::<Vec<_>>())
        };
        if of(before) == of(now) {
            return;
        }
        let now = Arc::clone(now);
        match tokio::task::spawn_blocking(move || settings::connection_limits(&now)).await {
            Ok(Ok(limits)) => self.connections.update(limits),
            Ok(Err(error)) => warn!("the limits of connections stay as they are: {error}"),
            Err(error) => warn!("the limits of connections stay as they are: {error}"),
        }
    }
}
