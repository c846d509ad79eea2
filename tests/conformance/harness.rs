//! A broker without sockets and ZooKeeper, and what tests send to it.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use barnabas::api::{Context, Dispatcher};
use barnabas::base::clock::{Clock, SystemClock};
use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{BrokerEpoch, BrokerId, ProducerEpoch, ProducerId, TopicPartition};
use barnabas::config::broker::BrokerConfig;
use barnabas::controller::{self, BrokerChannel, ControlRequest, ControlResponse, ControllerConfig};
use barnabas::coordinator::group::config::GroupConfig;
use barnabas::coordinator::group::coordinator::GroupCoordinator;
use barnabas::coordinator::replica_log::ReplicaLog;
use barnabas::coordinator::txn::config::TxnConfig;
use barnabas::coordinator::txn::coordinator::{Surroundings, TxnCoordinator};
use barnabas::coordinator::txn::markers::{MarkerChannel, Route};
use barnabas::coordinator::txn::producer_ids::{BlockFuture, BlockSource, ProducerIds};
use barnabas::coordinator::txn::verifier::{Answer, TransactionCoordinators, TxnVerifier};
use barnabas::log::manager::{LogManager, ManagerOptions};
use barnabas::network::{ConnectionInfo, Dispatch, Outcome};
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use barnabas::protocol::frame;
use barnabas::protocol::payload::{Part, Payload};
use barnabas::replica::fetch_session::FetchSessions;
use barnabas::replica::manager::ReplicaManager;
use barnabas::replica::topic_configs::NoOverrides;
use barnabas::server::upward::Upward;
use barnabas::zk::ZkClient;
use barnabas::zk::memory::MemoryZk;
use barnabas::zk::znodes::broker_ids::LiveBroker;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::leader_and_isr_request::{LeaderAndIsrPartitionState, LeaderAndIsrTopicState};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint, UpdateMetadataPartitionState, UpdateMetadataTopicState,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, BrokerId as Wire, LeaderAndIsrRequest, ProduceRequest,
    ProduceResponse, TopicName, UpdateMetadataRequest, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;
use uuid::Uuid;

/// The broker's id.
pub const ME: i32 = 1;

struct Blocks(AtomicI64);

impl BlockSource for Blocks {
    fn next_block(&self) -> BlockFuture<'_> {
        let start = self.0.fetch_add(1000, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok::<Range<i64>, String>(start..start + 1000)))
    }
}

/// The controller of a broker that never registered: it never stands for election.
fn controller_config() -> ControllerConfig {
    ControllerConfig::new(BrokerId(ME))
}

struct Nobody;

impl BrokerChannel for Nobody {
    fn send(&self, _broker: &LiveBroker, _request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        Box::pin(std::future::ready(Err("there is no controller here".to_owned())))
    }
}

/// Stands for the leaders of all partitions: notes what it is sent, and answers as the test says.
#[derive(Default)]
pub struct Markers {
    pub sent: Mutex<Vec<WriteTxnMarkersRequest>>,
    /// Whether leaders are known.
    pub held: AtomicBool,
}

impl MarkerChannel for Markers {
    fn route(&self, _partition: &TopicPartition) -> Route {
        if self.held.load(Ordering::SeqCst) { Route::NoLeader } else { Route::Leader(BrokerId(ME)) }
    }

    fn send(
        &self,
        _broker: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> BoxFuture<'_, Result<WriteTxnMarkersResponse, String>> {
        let results = request.markers.iter().map(|marker| {
            let topics = marker.topics.iter().map(|topic| {
                let written = |index: &i32| WritableTxnMarkerPartitionResult::default().with_partition_index(*index);
                WritableTxnMarkerTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partition_indexes.iter().map(written).collect())
            });
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
        });
        let response = WriteTxnMarkersResponse::default().with_markers(results.collect());
        self.sent.lock().push(request);
        Box::pin(std::future::ready(Ok(response)))
    }
}

/// A coordinator of transactions that says what the test wants, and remembers what it was asked.
#[derive(Default)]
pub struct FakeCoordinator {
    pub answer: Mutex<CoordinatorAnswer>,
    pub asked: Mutex<Vec<(i32, AddPartitionsToTxnRequest)>>,
}

/// What a [`FakeCoordinator`] says.
#[derive(Debug, Clone, Copy, Default)]
pub enum CoordinatorAnswer {
    /// This of every partition.
    Each(ErrorCode),
    /// This of the whole request.
    Whole(ErrorCode),
    /// That it knows no such request.
    #[default]
    Unsupported,
    /// Nothing.
    Lost,
}

impl TransactionCoordinators for FakeCoordinator {
    fn ask(&self, broker: BrokerId, request: AddPartitionsToTxnRequest) -> BoxFuture<'_, Answer> {
        self.asked.lock().push((broker.get(), request.clone()));
        let answer = match *self.answer.lock() {
            CoordinatorAnswer::Unsupported => Answer::Unsupported,
            CoordinatorAnswer::Lost => Answer::Lost("nobody is there".to_owned()),
            CoordinatorAnswer::Whole(error) => {
                Answer::Answered(AddPartitionsToTxnResponse::default().with_error_code(error.code()))
            }
            CoordinatorAnswer::Each(error) => Answer::Answered(verdict(&request, error)),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn verdict(request: &AddPartitionsToTxnRequest, error: ErrorCode) -> AddPartitionsToTxnResponse {
    let transactions = request.transactions.iter().map(|transaction| {
        let topics = transaction.topics.iter().map(|topic| {
            let rows = topic.partitions.iter().map(|&index| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(index)
                    .with_partition_error_code(error.code())
            });
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(rows.collect())
        });
        AddPartitionsToTxnResult::default()
            .with_transactional_id(transaction.transactional_id.clone())
            .with_topic_results(topics.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_transaction(transactions.collect())
}

/// The broker.
pub struct Broker {
    pub markers: Arc<Markers>,
    pub context: Arc<Context>,
    pub coordinator: Arc<FakeCoordinator>,
    dispatcher: Dispatcher,
    connection: Arc<ConnectionInfo>,
    _registered: barnabas::base::watch::Sender<Option<BrokerEpoch>>,
    _dir: tempfile::TempDir,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

impl Broker {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A broker with some keys set.
    pub async fn with(pairs: &[(&str, &str)]) -> Self {
        Self::over(&[""], pairs).await
    }

    /// A broker with log dirs of these names in its folder.
    pub async fn over(log_dirs: &[&str], pairs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let dirs = log_dirs.iter().map(|name| dir.path().join(name));
        let config = BrokerConfig::from_pairs(pairs.iter().copied()).expect("a configuration");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let logs = Arc::new(LogManager::open(ManagerOptions::new(dirs)).expect("a log dir"));
        let manager = Arc::new(ReplicaManager::new(BrokerId(ME), &config, clock.clone(), logs, Arc::new(NoOverrides)));
        let runtime = tokio::runtime::Handle::current();
        let groups = GroupCoordinator::new(
            GroupConfig::from(&config),
            Arc::new(ReplicaLog::new(manager.clone())),
            clock.clone(),
            runtime.clone(),
        );
        let producer_ids = Arc::new(ProducerIds::new(Arc::new(Blocks(AtomicI64::new(0)))));
        let markers = Arc::new(Markers::default());
        let transactions = TxnCoordinator::new(
            TxnConfig::from(&config),
            Surroundings {
                log: Arc::new(ReplicaLog::new(manager.clone())),
                producer_ids: producer_ids.clone(),
                channel: markers.clone(),
                clock: clock.clone(),
                runtime: runtime.clone(),
            },
        );
        manager.set_listener(Box::new(Upward::new(groups.clone(), transactions.clone())));
        runtime.spawn(transactions.clone().run());
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(5)).await.expect("a session");
        barnabas::zk::session::create_persistent_paths(&zk).await.expect("the nodes that a broker begins with");
        let (registered, epoch) = barnabas::base::watch::channel(None);
        let (controller, _) =
            controller::start(controller_config(), zk.clone(), epoch, Arc::new(Nobody), clock.clone());
        let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).expect("a count");
        let coordinator = Arc::new(FakeCoordinator::default());
        let context = Arc::new(Context {
            broker_id: BrokerId(ME),
            txn_verifier: TxnVerifier::new(manager.metadata().clone(), coordinator.clone()),
            cluster_id: "a-cluster".to_owned(),
            config,
            zk,
            controller,
            clock,
            control: runtime,
            replica_manager: manager,
            fetch_sessions: FetchSessions::new(slots),
            producer_ids,
            groups,
            transactions,
            loggers: Arc::default(),
        });
        let connection = Arc::new(ConnectionInfo {
            id: "test".into(),
            peer: "127.0.0.1:1".parse().expect("an address"),
            listener: "PLAINTEXT".into(),
        });
        Self {
            markers,
            dispatcher: Dispatcher::new(context.clone()),
            context,
            coordinator,
            connection,
            _registered: registered,
            _dir: dir,
        }
    }

    /// Hands a frame to the broker.
    pub async fn raw(&self, frame: Bytes) -> Outcome {
        let work = self.dispatcher.dispatch(self.connection.clone(), frame);
        tokio::time::timeout(Duration::from_secs(20), work).await.expect("an outcome in time")
    }

    /// Sends a request and says what came of it.
    pub async fn outcome<R: Request>(&self, version: i16, request: &R) -> Outcome {
        self.raw(frame::encode_request(7, "test", version, request).expect("a request")).await
    }

    /// Sends a request and decodes the answer.
    pub async fn call<R: Request>(&self, version: i16, request: &R) -> R::Response {
        match self.outcome(version, request).await {
            Outcome::Reply(payload) => {
                let (correlation_id, response) =
                    frame::decode_response::<R>(flat(&payload), version).expect("an answer of that version");
                assert_eq!(correlation_id, 7);
                response
            }
            other => panic!("no answer but {other:?}"),
        }
    }

    /// Makes `topic` with partitions led by this broker; an odd `leader` makes partitions that others lead.
    pub async fn topic(&self, topic: &str, partitions: i32) -> Uuid {
        self.topic_led_by(topic, partitions, ME, 0).await
    }

    /// Makes `topic`, led by `leader` in `epoch`.
    pub async fn topic_led_by(&self, topic: &str, partitions: i32, leader: i32, epoch: i32) -> Uuid {
        let replicas: &[i32] = if leader == ME { &[ME] } else { &[ME, leader] };
        self.topic_with(topic, partitions, leader, epoch, replicas, &[leader]).await
    }

    /// Makes `topic` with these replicas, of which these are in sync.
    pub async fn topic_with(
        &self,
        topic: &str,
        partitions: i32,
        leader: i32,
        epoch: i32,
        replicas: &[i32],
        isr: &[i32],
    ) -> Uuid {
        let wire = |ids: &[i32]| ids.iter().map(|&id| Wire(id)).collect::<Vec<_>>();
        let id = self.context.replica_manager.metadata().snapshot().topic_id(topic).unwrap_or_else(Uuid::new_v4);
        let states = (0..partitions).map(|index| {
            LeaderAndIsrPartitionState::default()
                .with_partition_index(index)
                .with_controller_epoch(1)
                .with_leader(Wire(leader))
                .with_leader_epoch(epoch)
                .with_partition_epoch(epoch)
                .with_isr(wire(isr))
                .with_replicas(wire(replicas))
                .with_is_new(true)
        });
        let request = LeaderAndIsrRequest::default()
            .with_controller_id(Wire(ME))
            .with_controller_epoch(1)
            .with_topic_states(vec![
                LeaderAndIsrTopicState::default()
                    .with_topic_name(topic_name(topic))
                    .with_topic_id(id)
                    .with_partition_states(states.collect()),
            ]);
        let response = self.call(7, &request).await;
        assert_eq!(response.error_code, 0);
        assert!(response.topics.iter().all(|topic| topic.partition_errors.iter().all(|p| p.error_code == 0)));
        self.tell_metadata(topic, id, partitions, leader, epoch).await;
        id
    }

    async fn tell_metadata(&self, topic: &str, id: Uuid, partitions: i32, leader: i32, epoch: i32) {
        let states = (0..partitions).map(|index| {
            UpdateMetadataPartitionState::default()
                .with_partition_index(index)
                .with_controller_epoch(1)
                .with_leader(Wire(leader))
                .with_leader_epoch(epoch)
                .with_isr(vec![Wire(leader)])
                .with_replicas(vec![Wire(leader)])
        });
        let broker = |id: i32| {
            let endpoint = UpdateMetadataEndpoint::default()
                .with_listener(text("PLAINTEXT"))
                .with_host(text("localhost"))
                .with_port(9092 + id);
            UpdateMetadataBroker::default().with_id(Wire(id)).with_endpoints(vec![endpoint]).with_rack(Some(text("r")))
        };
        let request = UpdateMetadataRequest::default()
            .with_controller_id(Wire(ME))
            .with_controller_epoch(1)
            .with_live_brokers(vec![broker(ME), broker(2)])
            .with_topic_states(vec![
                UpdateMetadataTopicState::default()
                    .with_topic_name(topic_name(topic))
                    .with_topic_id(id)
                    .with_partition_states(states.collect()),
            ]);
        assert_eq!(self.call(8, &request).await.error_code, 0);
    }

    /// Appends `records` to partition 0 of `topic` with acks=all.
    pub async fn produce(&self, topic: &str, records: Bytes) -> ProduceResponse {
        self.call(9, &produce_request(topic, 0, -1, records)).await
    }
}

/// A request with records for one partition.
pub fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
        .with_topic_data(vec![TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data])])
}

/// A batch of `count` records, the i-th at timestamp 1000 + i.
pub fn batch(count: usize) -> Bytes {
    batch_of(count, BatchSpec::default())
}

/// The same with a spec.
pub fn batch_of(count: usize, spec: BatchSpec) -> Bytes {
    let mut builder = BatchBuilder::new(spec);
    for i in 0..count {
        let value = format!("value-{i}");
        builder.append(1000 + i64::try_from(i).expect("small"), Some(b"key"), Some(value.as_bytes()));
    }
    builder.build().expect("a batch").1
}

/// A batch of an idempotent producer.
pub fn batch_from(producer: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let spec = BatchSpec {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        ..BatchSpec::default()
    };
    batch_of(count, spec)
}

/// A payload's bytes, those in files too.
pub fn flat(payload: &Payload) -> Bytes {
    let mut out = BytesMut::new();
    for part in &payload.parts {
        match part {
            Part::Bytes(bytes) => out.extend_from_slice(bytes),
            Part::File(slice) => {
                let mut bytes = vec![0; slice.len];
                slice.file.read_exact_at(&mut bytes, slice.position).expect("the slice is there");
                out.extend_from_slice(&bytes);
            }
        }
    }
    out.freeze()
}
