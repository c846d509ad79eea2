//! Ties the controller to brokers: to this one by a call in the same process, to others over the network, in the same
//! requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::protocol::Request;
use tokio::sync::Mutex;

use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::config::broker::BrokerConfig;
use crate::controller::{BrokerChannel, ControlRequest, ControlResponse, ControllerConfig};
use crate::network::client::Connection;
use crate::replica::manager::ReplicaManager;
use crate::zk::znodes::broker_ids::LiveBroker;

/// The versions of Kafka 3.9 (IBP 3.9).
const LEADER_AND_ISR_VERSION: i16 = 7;
const UPDATE_METADATA_VERSION: i16 = 8;
const STOP_REPLICA_VERSION: i16 = 4;

/// What the controller wants to know of the configuration.
pub fn controller_config(config: &BrokerConfig, broker_id: BrokerId) -> ControllerConfig {
    ControllerConfig {
        broker_id,
        delete_topic_enable: config.delete_topic_enable,
        unclean_leader_election_enable: config.unclean_leader_election_enable,
        inter_broker_listener: config.inter_broker_listener().to_owned(),
        use_topic_ids: true,
        feature_version: Some(2),
    }
}

/// A life of a broker: its id and the epoch of its registration.
type Life = (BrokerId, BrokerEpoch);

/// The controller's way to all brokers.
pub struct ControlPlane {
    me: BrokerId,
    manager: Arc<ReplicaManager>,
    listener: String,
    timeout: Duration,
    /// One connection for each other broker, made anew for each life of it. Held while one is made.
    connections: Mutex<HashMap<BrokerId, (BrokerEpoch, Arc<Connection>)>>,
}

impl ControlPlane {
    /// To `manager` for this broker, over the inter-broker listener to others.
    pub fn new(config: &BrokerConfig, me: BrokerId, manager: Arc<ReplicaManager>) -> Self {
        Self {
            me,
            manager,
            listener: config.inter_broker_listener().to_owned(),
            timeout: super::settings::millis(i64::from(config.controller_socket_timeout_ms)),
            connections: Mutex::default(),
        }
    }

    async fn call_own(&self, request: ControlRequest) -> ControlResponse {
        match request {
            ControlRequest::LeaderAndIsr(request) => ControlResponse::LeaderAndIsr(
                self.manager.become_leader_or_follower(&request, LEADER_AND_ISR_VERSION).await,
            ),
            ControlRequest::UpdateMetadata(request) => {
                ControlResponse::UpdateMetadata(self.manager.update_metadata(&request).await)
            }
            ControlRequest::StopReplica(request) => {
                ControlResponse::StopReplica(self.manager.stop_replica(&request, STOP_REPLICA_VERSION).await)
            }
        }
    }

    async fn call_other(&self, broker: &LiveBroker, request: ControlRequest) -> Result<ControlResponse, String> {
        match request {
            ControlRequest::LeaderAndIsr(request) => {
                self.ask(broker, &request, LEADER_AND_ISR_VERSION).await.map(ControlResponse::LeaderAndIsr)
            }
            ControlRequest::UpdateMetadata(request) => {
                self.ask(broker, &request, UPDATE_METADATA_VERSION).await.map(ControlResponse::UpdateMetadata)
            }
            ControlRequest::StopReplica(request) => {
                self.ask(broker, &request, STOP_REPLICA_VERSION).await.map(ControlResponse::StopReplica)
            }
        }
    }

    async fn ask<R: Request>(&self, broker: &LiveBroker, request: &R, version: i16) -> Result<R::Response, String> {
        let life: Life = (broker.info.id, broker.epoch);
        let connection = self.connection(broker, life).await?;
        let answer = connection.send(request, version).await;
        if answer.is_err() {
            self.connections.lock().await.remove(&life.0);
        }
        answer.map_err(|error| error.to_string())
    }

    async fn connection(&self, broker: &LiveBroker, life: Life) -> Result<Arc<Connection>, String> {
        let mut connections = self.connections.lock().await;
        if let Some((epoch, connection)) = connections.get(&life.0)
            && *epoch == life.1
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let endpoint = broker.info.endpoint(&self.listener);
        let endpoint = endpoint.ok_or_else(|| format!("broker {} has no listener {}", life.0, self.listener))?;
        let address = format!("{}:{}", endpoint.host, endpoint.port);
        let made = Connection::connect(&address, self.timeout).await.map_err(|error| error.to_string())?;
        let made = Arc::new(made);
        connections.insert(life.0, (life.1, made.clone()));
        Ok(made)
    }
}

impl BrokerChannel for ControlPlane {
    fn send(&self, broker: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        if broker.info.id == self.me {
            return self.call_own(request).map(Ok).boxed();
        }
        let broker = broker.clone();
        async move { self.call_other(&broker, request).await }.boxed()
    }
}
