//! What brokers say to each other, over the simulated network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barnabas::base::ids::{BrokerEpoch, BrokerId};
use barnabas::controller::{BrokerChannel, ControlRequest, ControlResponse};
use barnabas::replica::manager::ReplicaManager;
use barnabas::zk::znodes::broker_ids::LiveBroker;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::kernel::Sim;
use crate::network::{Broken, Connection};

const LEADER_AND_ISR: i16 = 7;
const UPDATE_METADATA: i16 = 8;
const STOP_REPLICA: i16 = 4;

/// How long the controller waits for a broker's answer.
const TIMEOUT: Duration = Duration::from_millis(300);

/// The controller's requests.
pub struct SimChannel {
    sim: Sim,
    manager: Arc<ReplicaManager>,
    connections: Mutex<BTreeMap<BrokerId, (BrokerEpoch, Arc<Connection>)>>,
}

impl SimChannel {
    pub fn new(sim: Sim, manager: Arc<ReplicaManager>) -> Self {
        Self { sim, manager, connections: Mutex::default() }
    }

    async fn here(&self, request: ControlRequest) -> ControlResponse {
        match request {
            ControlRequest::LeaderAndIsr(request) => {
                ControlResponse::LeaderAndIsr(self.manager.become_leader_or_follower(&request, LEADER_AND_ISR).await)
            }
            ControlRequest::UpdateMetadata(request) => {
                ControlResponse::UpdateMetadata(self.manager.update_metadata(&request).await)
            }
            ControlRequest::StopReplica(request) => {
                ControlResponse::StopReplica(self.manager.stop_replica(&request, STOP_REPLICA).await)
            }
        }
    }

    fn connection(&self, broker: &LiveBroker) -> Arc<Connection> {
        let mut connections = self.connections.lock();
        match connections.get(&broker.info.id) {
            Some((epoch, connection)) if *epoch == broker.epoch && connection.is_open() => Arc::clone(connection),
            _ => {
                let connection = Connection::open(&self.sim, self.manager.broker_id().get(), broker.info.id.get());
                let connection = Arc::new(connection);
                connections.insert(broker.info.id, (broker.epoch, Arc::clone(&connection)));
                connection
            }
        }
    }
}

async fn over(connection: &Connection, request: ControlRequest) -> Result<ControlResponse, Broken> {
    Ok(match request {
        ControlRequest::LeaderAndIsr(request) => {
            ControlResponse::LeaderAndIsr(connection.call(LEADER_AND_ISR, &request).await?)
        }
        ControlRequest::UpdateMetadata(request) => {
            ControlResponse::UpdateMetadata(connection.call(UPDATE_METADATA, &request).await?)
        }
        ControlRequest::StopReplica(request) => {
            ControlResponse::StopReplica(connection.call(STOP_REPLICA, &request).await?)
        }
    })
}

impl BrokerChannel for SimChannel {
    fn send(&self, broker: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        if broker.info.id == self.manager.broker_id() {
            return self.here(request).map(Ok).boxed();
        }
        let id = broker.info.id;
        let connection = self.connection(broker);
        async move {
            let answer = tokio::time::timeout(TIMEOUT, over(&connection, request)).await;
            if !matches!(answer, Ok(Ok(_))) {
                self.connections.lock().remove(&id);
            }
            match answer {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(Broken)) => Err("the connection broke".to_owned()),
                Err(_) => Err("no answer in time".to_owned()),
            }
        }
        .boxed()
    }
}
