//! What brokers say to each other, over the simulated network: the controller's requests, followers' fetches, and leaders'
//! proposals of ISRs, markers and questions about transactions.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{BrokerEpoch, BrokerId, TopicPartition};
use barnabas::controller::{BrokerChannel, ControlRequest, ControlResponse, ControllerHandle};
use barnabas::coordinator::group::coordinator::GroupCoordinator;
use barnabas::coordinator::txn::coordinator::TxnCoordinator;
use barnabas::coordinator::txn::markers::{MarkerChannel, Route};
use barnabas::coordinator::txn::verifier::{Answer as Verified, FIRST_TO_VERIFY, TransactionCoordinators};
use barnabas::replica::alter_partition::{AlterPartitionSender, BuildRequest};
use barnabas::replica::fetcher::leader::{Answer, LeaderConnector, LeaderEndpoint};
use barnabas::replica::manager::{LeadershipChange, ReplicaListener, ReplicaManager};
use barnabas::server::transactions;
use barnabas::server::upward::Upward;
use barnabas::zk::znodes::broker_ids::LiveBroker;
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AlterPartitionResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::Request;
use parking_lot::Mutex;

use crate::kernel::{Node, Sim};
use crate::network::Connection;
use crate::old::Truncated;

/// Connections to other brokers, and to this one, one to each.
struct Peers {
    sim: Sim,
    node: Node,
    connections: Mutex<BTreeMap<BrokerId, Arc<Connection>>>,
}

impl Peers {
    fn new(sim: Sim, node: Node) -> Self {
        Self { sim, node, connections: Mutex::default() }
    }

    fn connection(&self, broker: BrokerId) -> Arc<Connection> {
        let mut connections = self.connections.lock();
        let known = connections.get(&broker).filter(|connection| connection.is_open()).cloned();
        known.unwrap_or_else(|| {
            let connection = Arc::new(Connection::open(&self.sim, self.node, broker.get()));
            connections.insert(broker, Arc::clone(&connection));
            connection
        })
    }

    async fn ask<R: Request>(&self, broker: BrokerId, version: i16, request: &R) -> Result<R::Response, String> {
        let answer = self.connection(broker).ask(version, request).await;
        if answer.is_err() {
            self.connections.lock().remove(&broker);
        }
        answer
    }
}

const WRITE_TXN_MARKERS: i16 = 1;

/// Markers to the leaders of partitions.
pub struct SimMarkers {
    peers: Peers,
    manager: Arc<ReplicaManager>,
}

impl SimMarkers {
    pub fn new(sim: Sim, manager: Arc<ReplicaManager>) -> Self {
        Self { peers: Peers::new(sim, manager.broker_id().get()), manager }
    }
}

impl MarkerChannel for SimMarkers {
    fn route(&self, partition: &TopicPartition) -> Route {
        transactions::route(&self.manager.metadata().snapshot(), LISTENER, partition)
    }

    fn send(
        &self,
        broker: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> BoxFuture<'_, Result<WriteTxnMarkersResponse, String>> {
        async move { self.peers.ask(broker, WRITE_TXN_MARKERS, &request).await }.boxed()
    }
}

/// Questions to the coordinators of transactions.
pub struct SimCoordinators(Peers);

impl SimCoordinators {
    pub fn new(sim: Sim, node: Node) -> Self {
        Self(Peers::new(sim, node))
    }
}

impl TransactionCoordinators for SimCoordinators {
    fn ask(&self, broker: BrokerId, request: AddPartitionsToTxnRequest) -> BoxFuture<'_, Verified> {
        async move {
            if self.0.sim.core().old.verifies_nothing {
                return Verified::Unsupported;
            }
            let answer = self.0.ask(broker, FIRST_TO_VERIFY, &request).await;
            answer.map_or_else(Verified::Lost, Verified::Answered)
        }
        .boxed()
    }
}

/// Tells the coordinators, as `server::upward` does. They hold the replica manager, which holds this: it lets them go, or no
/// process would ever give its logs up.
pub struct SimUpward(pub Weak<GroupCoordinator>, pub Weak<TxnCoordinator>);

impl SimUpward {
    fn tell(&self, news: impl FnOnce(Upward)) {
        if let (Some(groups), Some(transactions)) = (self.0.upgrade(), self.1.upgrade()) {
            news(Upward::new(groups, transactions));
        }
    }
}

impl ReplicaListener for SimUpward {
    fn leadership_changed(&self, change: LeadershipChange) {
        self.tell(|upward| upward.leadership_changed(change));
    }

    fn partitions_deleted(&self, partitions: &[TopicPartition]) {
        self.tell(|upward| upward.partitions_deleted(partitions));
    }
}

/// The listener of all brokers.
pub const LISTENER: &str = "PLAINTEXT";

const LEADER_AND_ISR: i16 = 7;
const UPDATE_METADATA: i16 = 8;
const STOP_REPLICA: i16 = 4;

const ALTER_PARTITION: i16 = 3;
const BEFORE_BROKER_EPOCHS: i16 = 2;

/// How often is looked whether another broker's process lives.
const LOOK: Duration = Duration::from_millis(50);

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

async fn over(connection: &Connection, request: ControlRequest) -> Result<ControlResponse, String> {
    Ok(match request {
        ControlRequest::LeaderAndIsr(request) => {
            ControlResponse::LeaderAndIsr(connection.ask(LEADER_AND_ISR, &request).await?)
        }
        ControlRequest::UpdateMetadata(request) => {
            ControlResponse::UpdateMetadata(connection.ask(UPDATE_METADATA, &request).await?)
        }
        ControlRequest::StopReplica(request) => {
            ControlResponse::StopReplica(connection.ask(STOP_REPLICA, &request).await?)
        }
    })
}

impl SimChannel {
    /// Waits until the machine of a broker refuses connections, or until it accepts them.
    async fn until(&self, broker: &LiveBroker, refuses: bool) {
        loop {
            tokio::time::sleep(LOOK).await;
            let refused = self.sim.core().refuses(self.manager.broker_id().get(), broker.info.id.get());
            if refused == Some(refuses) {
                return;
            }
        }
    }
}

impl BrokerChannel for SimChannel {
    fn died(&self, broker: &LiveBroker) -> BoxFuture<'_, ()> {
        let broker = broker.clone();
        async move { self.until(&broker, true).await }.boxed()
    }

    fn returned(&self, broker: &LiveBroker) -> BoxFuture<'_, ()> {
        let broker = broker.clone();
        async move { self.until(&broker, false).await }.boxed()
    }

    fn send(&self, broker: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        let request = self.sim.core().old.control_request(request);
        if broker.info.id == self.manager.broker_id() {
            return self.here(request).map(Ok).boxed();
        }
        let id = broker.info.id;
        let connection = self.connection(broker);
        async move {
            let answer = over(&connection, request).await;
            if answer.is_err() {
                self.connections.lock().remove(&id);
            }
            answer
        }
        .boxed()
    }
}

/// Ways to leaders.
pub struct SimLeaders {
    pub sim: Sim,
    pub node: Node,
}

impl LeaderConnector for SimLeaders {
    fn endpoint(&self, leader: BrokerId, _fetcher: usize) -> Box<dyn LeaderEndpoint> {
        let (sim, node, leader) = (self.sim.clone(), self.node, leader.get());
        Box::new(SimLeader { sim, node, leader, connection: None, truncated: Truncated::default() })
    }
}

struct SimLeader {
    sim: Sim,
    node: Node,
    leader: Node,
    connection: Option<Connection>,
    truncated: Truncated,
}

impl SimLeader {
    async fn ask<R: Request>(&mut self, request: R, version: i16) -> Result<R::Response, String> {
        let connection = self.connection.take().filter(Connection::is_open);
        let connection = connection.unwrap_or_else(|| Connection::open(&self.sim, self.node, self.leader));
        let response = connection.ask(version, &request).await?;
        self.connection = Some(connection);
        Ok(response)
    }
}

impl LeaderEndpoint for SimLeader {
    fn fetch(&mut self, mut request: FetchRequest, version: i16) -> Answer<'_, FetchResponse> {
        let old = self.sim.core().old;
        old.fetch_request(&mut request, &self.truncated);
        async move {
            let mut response = self.ask(request.clone(), version).await?;
            old.fetch_response(&request, &mut response, &mut self.truncated);
            Ok(response)
        }
        .boxed()
    }

    fn list_offsets(&mut self, request: ListOffsetsRequest, version: i16) -> Answer<'_, ListOffsetsResponse> {
        self.ask(request, version).boxed()
    }

    fn offsets_for_leader_epoch(
        &mut self,
        request: OffsetForLeaderEpochRequest,
        version: i16,
    ) -> Answer<'_, OffsetForLeaderEpochResponse> {
        self.ask(request, version).boxed()
    }

    fn reset(&mut self) {
        self.connection = None;
    }
}

/// The way to the controller, as `server::controller_channel` finds it: in this process, or where ZooKeeper says it is.
pub struct SimIsrChanges {
    pub sim: Sim,
    pub node: Node,
    pub controller: ControllerHandle,
}

impl AlterPartitionSender for SimIsrChanges {
    fn alter_partition<'a>(
        &'a self,
        max_version: i16,
        build: BuildRequest<'a>,
    ) -> BoxFuture<'a, Result<(i16, AlterPartitionResponse), String>> {
        let newest = if self.sim.core().old.hides_broker_epochs { BEFORE_BROKER_EPOCHS } else { ALTER_PARTITION };
        let version = max_version.min(newest);
        let request = build(version);
        async move {
            let response = if self.controller.is_active() {
                self.controller.alter_partition(request, version).await
            } else {
                let to = self.controller.controller_id().ok_or("nobody is the controller")?;
                Connection::open(&self.sim, self.node, to.get()).ask(version, &request).await?
            };
            match ErrorCode::from_code(response.error_code) {
                ErrorCode::NotController => Err("it is not the controller".to_owned()),
                _ => Ok((version, response)),
            }
        }
        .boxed()
    }
}
