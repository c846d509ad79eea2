//! The controller over a real server: how long thousands of partitions take to create, to find again, to delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
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
    /// Who leads what, as its controller told last.
    leaders: Mutex<BTreeMap<(String, i32), i32>>,
}

impl Yes {
    /// Whether so many partitions are led, none of them by `dead`.
    fn all_led(&self, partitions: usize, dead: i32) -> bool {
        let leaders = self.leaders.lock().expect("no panic");
        leaders.len() == partitions && leaders.values().all(|leader| *leader != dead)
    }
}

impl BrokerChannel for Yes {
    fn send(&self, _: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        let response = match request {
            ControlRequest::LeaderAndIsr(request) => {
                let partitions: usize = request.topic_states.iter().map(|topic| topic.partition_states.len()).sum();
                self.led.fetch_add(partitions, Ordering::SeqCst);
                let mut leaders = self.leaders.lock().expect("no panic");
                for topic in &request.topic_states {
                    let name = topic.topic_name.0.as_str();
                    let states = topic.partition_states.iter();
                    leaders.extend(states.map(|s| ((name.to_owned(), s.partition_index), s.leader.0)));
                }
                drop(leaders);
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

async fn broker(to: &str, id: i32) -> (ZkClient, Arc<Yes>, ControllerHandle) {
    let zk = connect(to).await;
    create_persistent_paths(&zk).await.expect("the persistent nodes");
    let info = BrokerInfo::new(BrokerId(id), vec![Endpoint::plaintext("127.0.0.1", 9092 + id)], 0);
    let registration = Arc::new(Registration::new(zk.clone(), info, None, Arc::new(SystemClock)));
    registration.register().await.expect("a registration");
    let config = ControllerConfig::new(BrokerId(id));
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
    let (zk, yes, handle) = broker(&zookeeper.connect(), 0).await;
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
    let (zk, yes, handle) = broker(&zookeeper.connect(), 0).await;
    eventually("all led again", async || yes.led.load(Ordering::SeqCst) == all).await;
    assert!(timed("found again", begin) < Duration::from_secs(8));

    let begin = Instant::now();
    zk.create(&admin::delete_topic_path("big"), b"", CreateMode::Persistent).await.unwrap();
    eventually("deleted", async || zk.children(admin::DELETE_TOPICS_PATH).await.unwrap().is_empty()).await;
    assert!(timed("deleted", begin) < Duration::from_secs(8));
    assert_eq!(zk.find(&topics::path("big")).await.unwrap(), None);
    assert!(handle.is_active());
}

/// A cluster of three with 10,000 partitions of three replicas each: a broker goes, then the controller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions_fail_over() {
    const TOPICS: i32 = 10;
    const PARTITIONS: i32 = 1000;
    let all = (TOPICS * PARTITIONS) as usize;
    let zookeeper = ZooKeeper::single();
    let to = zookeeper.connect();
    let (first_zk, first, handle) = broker(&to, 1).await;
    eventually("a controller", async || handle.is_active()).await;
    let (second_zk, _, _) = broker(&to, 2).await;
    let (third_zk, third, third_handle) = broker(&to, 3).await;
    let replicas = |p: i32| (0..3).map(|n| BrokerId((p + n) % 3 + 1)).collect();
    for topic in 0..TOPICS {
        let node = TopicNode {
            topic_id: Some(TopicId::from_u128(topic as u128 + 1)),
            partitions: (0..PARTITIONS).map(|p| (p, ReplicaAssignment::new(replicas(p)))).collect(),
        };
        third_zk.create(&topics::path(&format!("t{topic}")), &node.encode(), CreateMode::Persistent).await.unwrap();
    }
    eventually("all led", async || first.all_led(all, -1)).await;
    eventually("by all three", async || {
        let leaders = first.leaders.lock().unwrap();
        (1..=3).all(|id| leaders.values().any(|leader| *leader == id))
    })
    .await;

    let begin = Instant::now();
    second_zk.close().await;
    eventually("led by the others", async || first.all_led(all, 2)).await;
    // Debug builds on loaded machines: far above what is measured.
    assert!(timed("a third of 10,000 partitions led anew", begin) < Duration::from_secs(15));

    let begin = Instant::now();
    first_zk.close().await;
    eventually("another controller", async || third_handle.is_active()).await;
    timed("another controller", begin);
    eventually("all led by the last", async || third.all_led(all, 1) && third.all_led(all, 2)).await;
    assert!(timed("10,000 partitions under another controller", begin) < Duration::from_secs(30));
}
