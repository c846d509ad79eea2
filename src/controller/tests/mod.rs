//! The controller over the in-memory ZooKeeper, with brokers that answer whatever they are asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    AlterPartitionRequest, BrokerId as WireBroker, LeaderAndIsrResponse, StopReplicaResponse, UpdateMetadataResponse,
    alter_partition_request,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;

mod basics;
mod elections;
mod isr;
mod reassignment;
mod returned;
mod shutdown;
mod suspicion;
use crate::base::clock::ManualClock;
use crate::base::ids::{BrokerId, TopicId};
use crate::zk::memory::MemoryZk;
use crate::zk::session::{Registration, create_persistent_paths};
use crate::zk::znodes::broker_ids::{BrokerInfo, Endpoint, LiveBroker};
use crate::zk::znodes::topics::{self, PartitionState, ReplicaAssignment, TopicNode};
use crate::zk::znodes::{admin, controller};
use crate::zk::{CreateMode, ZkClient};

/// Brokers that keep what they were told.
#[derive(Default)]
struct Brokers {
    told: Mutex<Vec<(BrokerId, ControlRequest)>>,
    /// Those whose processes seem to have died: they answer nobody.
    dead: watch::Sender<BTreeSet<i32>>,
}

impl Brokers {
    fn set_dead(&self, broker: i32, is_dead: bool) {
        self.dead.send_if_modified(|dead| if is_dead { dead.insert(broker) } else { dead.remove(&broker) });
    }

    fn until(&self, broker: i32, dead: bool) -> BoxFuture<'_, ()> {
        let mut watched = self.dead.subscribe();
        async move { drop(watched.wait_for(|all| all.contains(&broker) == dead).await) }.boxed()
    }

    fn told(&self, broker: i32) -> Vec<ControlRequest> {
        let told = self.told.lock();
        told.iter().filter(|(id, _)| id.get() == broker).map(|(_, request)| request.clone()).collect()
    }

    fn leaders(&self, broker: i32, topic: &str) -> HashMap<i32, (i32, i32)> {
        let mut leaders = HashMap::new();
        for request in self.told(broker) {
            let ControlRequest::LeaderAndIsr(request) = request else { continue };
            for states in request.topic_states.iter().filter(|t| t.topic_name.0.as_str() == topic) {
                for state in &states.partition_states {
                    leaders.insert(state.partition_index, (state.leader.0, state.leader_epoch));
                }
            }
        }
        leaders
    }
}

impl Brokers {
    /// The ISR of partition 0 of a topic as a broker was told last by UpdateMetadata.
    fn isr(&self, broker: i32, topic: &str) -> Vec<i32> {
        let told = self.told(broker).into_iter().rev().find_map(|request| match request {
            ControlRequest::UpdateMetadata(request) => request
                .topic_states
                .iter()
                .find(|t| t.topic_name.0.as_str() == topic)
                .and_then(|t| t.partition_states.iter().find(|state| state.partition_index == 0))
                .map(|state| state.isr.iter().map(|id| id.0).collect()),
            _ => None,
        });
        told.unwrap_or_default()
    }

    /// The partitions of a topic that a broker was told to stop, and whether to delete them.
    fn stopped(&self, broker: i32, topic: &str) -> BTreeMap<i32, bool> {
        let mut stopped = BTreeMap::new();
        for request in self.told(broker) {
            let ControlRequest::StopReplica(request) = request else { continue };
            for states in request.topic_states.iter().filter(|t| t.topic_name.0.as_str() == topic) {
                for state in &states.partition_states {
                    *stopped.entry(state.partition_index).or_default() |= state.delete_partition;
                }
            }
        }
        stopped
    }

    /// Whether a broker was told that its replica of partition 0 of a topic is new.
    fn is_new(&self, broker: i32, topic: &str) -> bool {
        self.told(broker).iter().any(|request| match request {
            ControlRequest::LeaderAndIsr(request) => request
                .topic_states
                .iter()
                .filter(|t| t.topic_name.0.as_str() == topic)
                .any(|t| t.partition_states.iter().any(|state| state.partition_index == 0 && state.is_new)),
            _ => false,
        })
    }

    /// The brokers that a broker was told last to be alive.
    fn alive(&self, broker: i32) -> Vec<i32> {
        let told = self.told(broker).into_iter().rev().find_map(|request| match request {
            ControlRequest::UpdateMetadata(request) => Some(request.live_brokers.iter().map(|b| b.id.0).collect()),
            _ => None,
        });
        told.unwrap_or_default()
    }
}

impl BrokerChannel for Brokers {
    fn died(&self, broker: &LiveBroker) -> BoxFuture<'_, ()> {
        self.until(broker.info.id.get(), true)
    }

    fn returned(&self, broker: &LiveBroker) -> BoxFuture<'_, ()> {
        self.until(broker.info.id.get(), false)
    }

    fn send(&self, broker: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        if self.dead.borrow().contains(&broker.info.id.get()) {
            return async { Err("refused".to_owned()) }.boxed();
        }
        self.told.lock().push((broker.info.id, request.clone()));
        let response = match request {
            ControlRequest::LeaderAndIsr(_) => ControlResponse::LeaderAndIsr(LeaderAndIsrResponse::default()),
            ControlRequest::UpdateMetadata(_) => ControlResponse::UpdateMetadata(UpdateMetadataResponse::default()),
            ControlRequest::StopReplica(request) => {
                let errors = request.topic_states.iter().flat_map(|topic| {
                    topic.partition_states.iter().map(|state| {
                        StopReplicaPartitionError::default()
                            .with_topic_name(topic.topic_name.clone())
                            .with_partition_index(state.partition_index)
                    })
                });
                ControlResponse::StopReplica(StopReplicaResponse::default().with_partition_errors(errors.collect()))
            }
        };
        async move { Ok(response) }.boxed()
    }
}

struct Broker {
    zk: ZkClient,
    handle: ControllerHandle,
    /// Of its first registration.
    epoch: i64,
}

struct Cluster {
    model: MemoryZk,
    admin: ZkClient,
    brokers: Arc<Brokers>,
    /// What the brokers' configurations differ in from the defaults.
    adjust: fn(&mut ControllerConfig),
}

impl Cluster {
    async fn new() -> Self {
        let model = MemoryZk::new();
        let admin = connect(&model).await;
        create_persistent_paths(&admin).await.unwrap();
        Self { model, admin, brokers: Arc::new(Brokers::default()), adjust: |_| {} }
    }

    async fn start(&self, id: i32) -> Broker {
        let zk = connect(&self.model).await;
        let info = BrokerInfo::new(BrokerId(id), vec![Endpoint::plaintext("h", 9092 + id)], 0);
        let clock = Arc::new(ManualClock::new(0));
        let registration = Arc::new(Registration::new(zk.clone(), info, None, clock.clone()));
        registration.register().await.unwrap();
        tokio::spawn(registration.clone().keep());
        let mut config = ControllerConfig::new(BrokerId(id));
        (self.adjust)(&mut config);
        let (handle, _) = start(config, zk.clone(), registration.epoch(), self.brokers.clone(), clock);
        let epoch = registration.epoch().borrow().map_or(-1, |epoch| epoch.get());
        Broker { zk, handle, epoch }
    }

    /// Waits until each of these brokers was told of all of them.
    async fn know_each_other(&self, ids: &[i32]) {
        eventually("they know each other", async || ids.iter().all(|id| self.brokers.alive(*id) == ids)).await;
    }

    async fn create(&self, topic: &str, partitions: i32, replicas: &[i32]) {
        let assignment = ReplicaAssignment::new(replicas.iter().copied().map(BrokerId).collect());
        let node = TopicNode {
            topic_id: Some(TopicId::new_v4()),
            partitions: (0..partitions).map(|p| (p, assignment.clone())).collect(),
        };
        self.admin.create(&topics::path(topic), &node.encode(), CreateMode::Persistent).await.unwrap();
    }

    /// Three brokers that know each other; the first is the controller.
    async fn of_three() -> (Self, [Broker; 3]) {
        Self::of_three_with(|_| {}).await
    }

    async fn of_three_with(adjust: fn(&mut ControllerConfig)) -> (Self, [Broker; 3]) {
        let cluster = Self { adjust, ..Self::new().await };
        let one = cluster.start(1).await;
        eventually("a controller", async || one.handle.is_active()).await;
        let brokers = [one, cluster.start(2).await, cluster.start(3).await];
        cluster.know_each_other(&[1, 2, 3]).await;
        (cluster, brokers)
    }

    /// Creates a topic and waits for its leaders.
    async fn create_led(&self, topic: &str, partitions: i32, replicas: &[i32]) {
        self.create(topic, partitions, replicas).await;
        let led = async || self.brokers.leaders(replicas[0], topic).len() == usize::try_from(partitions).unwrap();
        eventually("a new topic is led", led).await;
    }

    async fn node(&self, topic: &str) -> TopicNode {
        TopicNode::decode(topic, &self.admin.get(&topics::path(topic)).await.unwrap().data).unwrap()
    }

    async fn isr(&self, topic: &str, partition: i32) -> Vec<i32> {
        let state = self.state(topic, partition).await.unwrap();
        state.leader_and_isr.isr.iter().map(|id| id.get()).collect()
    }

    /// The leader of partition 0 proposes an ISR; returns the error of the partition.
    async fn propose(&self, controller: &Broker, leader: &Broker, topic: &str, isr: &[i32]) -> i16 {
        let request = self.proposal(topic, leader, isr).await;
        let response = controller.handle.alter_partition(request, 2).await;
        assert_eq!(response.error_code, 0);
        response.topics[0].partitions[0].error_code
    }

    async fn proposal(&self, topic: &str, leader: &Broker, isr: &[i32]) -> AlterPartitionRequest {
        let state = self.state(topic, 0).await.unwrap().leader_and_isr;
        let partition = alter_partition_request::PartitionData::default()
            .with_leader_epoch(state.leader_epoch.get())
            .with_partition_epoch(state.partition_epoch)
            .with_new_isr(isr.iter().copied().map(WireBroker).collect());
        let id = self.node(topic).await.topic_id.unwrap();
        let topic = alter_partition_request::TopicData::default().with_topic_id(id).with_partitions(vec![partition]);
        AlterPartitionRequest::default()
            .with_broker_id(WireBroker(state.leader.get()))
            .with_broker_epoch(leader.epoch)
            .with_topics(vec![topic])
    }

    async fn state(&self, topic: &str, partition: i32) -> Option<PartitionState> {
        let node = self.admin.find(&topics::state_path(topic, partition)).await.unwrap()?;
        Some(PartitionState::decode(topic, partition, &node.data, node.stat.version).unwrap())
    }

    async fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.state(topic, partition).await.map(|state| state.leader_and_isr.leader.get())
    }
}

async fn connect(model: &MemoryZk) -> ZkClient {
    ZkClient::connect(Arc::new(model.clone()), Duration::from_secs(1)).await.unwrap()
}

/// Waits until the condition holds.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
