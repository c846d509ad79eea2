//! The controller over a real server: how long thousands of partitions take to create, to find again, to delete.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use barnabas::base::clock::SystemClock;
use barnabas::base::ids::{BrokerId, TopicId};
use barnabas::controller::{BrokerChannel, ControlRequest, ControlResponse, ControllerConfig, ControllerHandle, start};
use barnabas::zk::session::{Registration, create_persistent_paths};
use barnabas::zk::znodes::broker_ids::{BrokerInfo, Endpoint, LiveBroker};
use barnabas::zk::znodes::topics::{self, ReplicaAssignment, TopicNode};
use barnabas::zk::znodes::{admin, controller};
use barnabas::zk::{CreateMode, ZkClient};
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{LeaderAndIsrResponse, StopReplicaResponse, UpdateMetadataResponse};

use super::support::zookeeper::ZooKeeper;
use super::{connect, eventually};

/// A broker that agrees with everything and counts the leaderships it was given.
#[derive(Default)]
struct Yes {
    led: AtomicUsize,
}

impl BrokerChannel for Yes {
    fn send(&self, _: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        let response = match request {
            ControlRequest::LeaderAndIsr(request) => {
                let partitions: usize = request.topic_states.iter().map(|topic| topic.partition_states.len()).sum();
                self.led.fetch_add(partitions, Ordering::SeqCst);
                ControlResponse::LeaderAndIsr(LeaderAndIsrResponse::default())
            }
            ControlRequest::UpdateMetadata(_) => ControlResponse::UpdateMetadata(UpdateMetadataResponse::default()),
            ControlRequest::StopReplica(request) => {
                let answers = request.topic_states.iter().flat_map(|topic| {
                    topic.partition_states.iter().map(|state| {
                        StopReplicaPartitionError::default()
                            .with_topic_name(topic.topic_name.clone())
                            .with_partition_index(state.partition_index)
                    })
                });
                ControlResponse::StopReplica(StopReplicaResponse::default().with_partition_errors(answers.collect()))
            }
        };
        async move { Ok(response) }.boxed()
    }
}

async fn broker(to: &str) -> (ZkClient, Arc<Yes>, ControllerHandle) {
    let zk = connect(to).await;
    create_persistent_paths(&zk).await.expect("the persistent nodes");
    let info = BrokerInfo::new(BrokerId(0), vec![Endpoint::plaintext("127.0.0.1", 9092)], 0);
    let registration = Arc::new(Registration::new(zk.clone(), info, None, Arc::new(SystemClock)));
    registration.register().await.expect("a registration");
    let config = ControllerConfig::new(BrokerId(0));
    let yes = Arc::new(Yes::default());
    let (handle, _) = start(config, zk.clone(), registration.epoch(), yes.clone(), Arc::new(SystemClock));
    (zk, yes, handle)
}

fn timed(what: &str, begin: Instant) -> Duration {
    let took = begin.elapsed();
    println!("{what}: {} ms", took.as_millis());
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_thousand_partitions_come_and_go() {
    const PARTITIONS: i32 = 4000;
    let zookeeper = ZooKeeper::single();
    let (zk, yes, handle) = broker(&zookeeper.connect()).await;
    eventually("a controller", async || handle.is_active()).await;
    let node = TopicNode {
        topic_id: Some(TopicId::from_u128(7)),
        partitions: (0..PARTITIONS).map(|p| (p, ReplicaAssignment::new(vec![BrokerId(0)]))).collect(),
    };
    let all = PARTITIONS as usize;
    let begin = Instant::now();
    zk.create(&topics::path("big"), &node.encode(), CreateMode::Persistent).await.unwrap();
    eventually("all led", async || yes.led.load(Ordering::SeqCst) == all).await;
    // Debug builds on loaded machines: far above what is measured, below what one request each would take.
    assert!(timed("created", begin) < Duration::from_secs(8));
    assert_eq!(zk.get(controller::EPOCH_PATH).await.unwrap().data, b"1");
    handle.shut_down();
    zk.close().await;

    let begin = Instant::now();
    let (zk, yes, handle) = broker(&zookeeper.connect()).await;
    eventually("all led again", async || yes.led.load(Ordering::SeqCst) == all).await;
    assert!(timed("found again", begin) < Duration::from_secs(8));

    let begin = Instant::now();
    zk.create(&admin::delete_topic_path("big"), b"", CreateMode::Persistent).await.unwrap();
    eventually("deleted", async || zk.children(admin::DELETE_TOPICS_PATH).await.unwrap().is_empty()).await;
    assert!(timed("deleted", begin) < Duration::from_secs(8));
    assert_eq!(zk.find(&topics::path("big")).await.unwrap(), None);
    assert!(handle.is_active());
}
