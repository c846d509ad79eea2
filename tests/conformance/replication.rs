//! A leader with a follower: what acks=all waits for, what consumers see, who is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{BrokerEpoch, LeaderEpoch, Offset};
use barnabas::config::dynamic::{Dynamic, LEADER_RATE};
use barnabas::replica::fetcher::follower_log::{FollowerLog, FromLeader, Refusal};
use barnabas::replica::partition::Partition;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::stop_replica_request::{StopReplicaPartitionState, StopReplicaTopicState};
use kafka_protocol::messages::update_metadata_request::{UpdateMetadataPartitionState, UpdateMetadataTopicState};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, LeaderAndIsrRequest, OffsetForLeaderEpochRequest, ProduceResponse, StopReplicaRequest,
    UpdateMetadataRequest,
};
use tokio::task::JoinHandle;

use crate::harness::{Broker, ME, batch, produce_request, topic_name};

/// A fetch of partition 0 of topic `a` by broker `replica`, which has everything before `offset`.
fn follow(replica: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    FetchRequest::default()
        .with_replica_id(BrokerId(replica))
        .with_max_wait_ms(0)
        .with_topics(vec![FetchTopic::default().with_topic(topic_name("a")).with_partitions(vec![partition])])
}

async fn fetched(broker: &Broker, replica: i32, offset: i64) -> (ErrorCode, i64, usize) {
    let mut response = broker.call(12, &follow(replica, offset)).await;
    let partition = response.responses.remove(0).partitions.remove(0);
    let bytes = partition.records.map_or(0, |records| records.len());
    (ErrorCode::from_code(partition.error_code), partition.high_watermark, bytes)
}

fn error(mut response: ProduceResponse) -> ErrorCode {
    ErrorCode::from_code(response.responses.remove(0).partition_responses.remove(0).error_code)
}

/// Leads partition 0 of topic `a`, and a request of three records with acks=all waits there for the follower.
async fn waiting_produce() -> (Arc<Broker>, Arc<Partition>, JoinHandle<ErrorCode>) {
    let broker = Arc::new(Broker::start().await);
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME, 2]).await;
    let produce = {
        let broker = broker.clone();
        tokio::spawn(async move {
            let mut request = produce_request("a", 0, -1, batch(3));
            request.timeout_ms = 15_000;
            error(broker.call(9, &request).await)
        })
    };
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    while partition.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    (broker, partition, produce)
}

#[tokio::test]
async fn acks_all_waits_for_the_follower() {
    let (broker, partition, produce) = waiting_produce().await;
    assert_eq!(fetched(&broker, -1, 0).await, (ErrorCode::None, 0, 0), "a consumer sees nothing yet");
    let (code, high_watermark, bytes) = fetched(&broker, 2, 0).await;
    assert!(code.is_none() && high_watermark == 0 && bytes > 0, "the follower does");
    assert!(!produce.is_finished());
    assert_eq!(fetched(&broker, 2, 3).await, (ErrorCode::None, 0, 0), "told with the next fetch");
    assert_eq!(produce.await.expect("an answer"), ErrorCode::None);
    assert_eq!(partition.log().expect("a log").high_watermark(), Offset(3));
    assert!(fetched(&broker, -1, 0).await.2 > 0);
}

#[tokio::test]
async fn acks_all_gives_up_in_time() {
    let broker = Broker::start().await;
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME, 2]).await;
    let mut request = produce_request("a", 0, -1, batch(3));
    request.timeout_ms = 30;
    assert_eq!(error(broker.call(9, &request).await), ErrorCode::RequestTimedOut);
    request.acks = 1;
    assert_eq!(error(broker.call(9, &request).await), ErrorCode::None);
}

#[tokio::test]
async fn a_new_leader_elsewhere_ends_the_wait() {
    let (broker, _, produce) = waiting_produce().await;
    broker.topic_with("a", 1, 2, 1, &[ME, 2], &[2]).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), produce).await.expect("at once").expect("an answer");
    assert_eq!(ended, ErrorCode::NotLeaderOrFollower);
}

#[tokio::test]
async fn too_few_in_sync_are_refused() {
    let broker = Broker::with(&[("min.insync.replicas", "2")]).await;
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME]).await;
    assert_eq!(error(broker.produce("a", batch(1)).await), ErrorCode::NotEnoughReplicas);
    assert_eq!(error(broker.call(9, &produce_request("a", 0, 1, batch(1))).await), ErrorCode::None);
}

/// Without its lease a leader cannot know that nobody else was elected, unless whoever could be still follows it.
#[tokio::test]
async fn without_a_lease_only_a_leader_that_is_followed_takes_writes() {
    let broker = Broker::start().await;
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME, 2]).await;
    broker.topic_with("alone", 1, ME, 0, &[ME, 2], &[ME]).await;
    let send = async |topic: &str| error(broker.call(9, &produce_request(topic, 0, 1, batch(1))).await);
    assert_eq!(send("a").await, ErrorCode::None);
    broker.context.replica_manager.lease().extend(0);
    assert_eq!(send("a").await, ErrorCode::NotLeaderOrFollower, "with acks=1, too");
    assert_eq!(send("alone").await, ErrorCode::None, "nobody else can have been elected");
    assert_eq!(fetched(&broker, 2, 1).await.0, ErrorCode::None);
    assert_eq!(send("a").await, ErrorCode::None, "followed");
}

#[tokio::test]
async fn strangers_do_not_follow() {
    let broker = Broker::start().await;
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME, 2]).await;
    assert_eq!(fetched(&broker, 7, 0).await.0, ErrorCode::NotLeaderOrFollower);
}

/// KIP-903: what a follower had in an earlier life does not let it into the ISR.
#[tokio::test]
async fn only_the_present_life_of_a_broker_joins_the_isr() {
    let broker = Broker::start().await;
    let id = broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME]).await;
    broker.produce("a", batch(3)).await;
    let manager = &broker.context.replica_manager;
    let partition = manager.partition("a", 0).expect("hosted");
    let fetch = async |epoch: i64, offset: i64| {
        let state = ReplicaState::default().with_replica_id(BrokerId(2)).with_replica_epoch(epoch);
        let mut request = follow(-1, offset).with_replica_state(state);
        request.topics[0].topic_id = id;
        request.topics[0].topic = Default::default();
        let error = broker.call(15, &request).await.responses[0].partitions[0].error_code;
        (ErrorCode::from_code(error), partition.leadership().pending.is_some())
    };
    manager.broker_epochs().set([(2.into(), BrokerEpoch(9))].into());
    assert_eq!(fetch(5, 3).await, (ErrorCode::None, false), "it is dead, or lives anew");
    assert_eq!(fetch(9, 0).await, (ErrorCode::None, false), "its disk is empty");
    assert_eq!(fetch(5, 3).await, (ErrorCode::NotLeaderOrFollower, false), "a fetch that comes late");
    assert_eq!(fetch(9, 3).await, (ErrorCode::None, true));
}

/// What a fetcher brings counts only while its epoch does.
#[tokio::test]
async fn a_deposed_leaders_records_do_not_reach_the_log() {
    let broker = Broker::start().await;
    broker.topic_with("a", 1, 2, 0, &[ME, 2], &[ME, 2]).await;
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    let data = |offset| FromLeader {
        fetch_offset: Offset(offset),
        records: batch(3),
        high_watermark: Offset(9),
        log_start: Offset(0),
    };
    let at = partition.append(LeaderEpoch(0), data(0)).expect("it follows in that epoch");
    assert_eq!((at.log_end, at.high_watermark), (Offset(3), Offset(3)), "never above the own end");
    assert!(matches!(partition.append(LeaderEpoch(0), data(0)), Err(Refusal::Failed(..))), "not what follows");
    broker.topic_with("a", 1, 2, 1, &[ME, 2], &[ME, 2]).await;
    assert_eq!(partition.append(LeaderEpoch(0), data(3)), Err(Refusal::Fenced));
    assert_eq!(partition.truncate_to(LeaderEpoch(0), Offset(0)), Err(Refusal::Fenced));
    broker.topic_with("a", 1, ME, 2, &[ME, 2], &[ME]).await;
    assert_eq!(partition.append(LeaderEpoch(2), data(3)), Err(Refusal::Fenced), "it leads");
    assert_eq!(partition.log().expect("a log").log_end_offset(), Offset(3));
}

#[tokio::test]
async fn the_ends_of_epochs_are_told_by_the_leader_only() {
    let broker = Broker::start().await;
    broker.topic_with("a", 1, ME, 0, &[ME], &[ME]).await;
    broker.produce("a", batch(3)).await;
    broker.topic_with("a", 1, ME, 4, &[ME], &[ME]).await;
    broker.produce("a", batch(2)).await;
    broker.topic_with("b", 1, 2, 4, &[ME, 2], &[2]).await;
    let ask = async |version, topic, current, epoch| {
        let asked = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = broker.call(version, &request).await.topics.remove(0).partitions.remove(0);
        (ErrorCode::from_code(answer.error_code), answer.leader_epoch, answer.end_offset)
    };
    for version in 0..=4 {
        let epoch = |epoch| if version >= 1 { epoch } else { -1 };
        assert_eq!(ask(version, "a", -1, 0).await, (ErrorCode::None, epoch(0), 3));
        assert_eq!(ask(version, "a", -1, 2).await, (ErrorCode::None, epoch(0), 3), "the one before");
        assert_eq!(ask(version, "a", -1, 4).await, (ErrorCode::None, epoch(4), 5));
        assert_eq!(ask(version, "a", -1, 9).await, (ErrorCode::None, -1, -1));
        assert_eq!(ask(version, "b", -1, 4).await, (ErrorCode::NotLeaderOrFollower, -1, -1));
        assert_eq!(ask(version, "none", -1, 0).await, (ErrorCode::UnknownTopicOrPartition, -1, -1));
    }
    assert_eq!(ask(2, "a", 3, 0).await.0, ErrorCode::FencedLeaderEpoch);
    assert_eq!(ask(2, "a", 5, 0).await.0, ErrorCode::UnknownLeaderEpoch);
}

#[tokio::test]
async fn old_controllers_are_fenced() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let stale = ErrorCode::StaleControllerEpoch.code();
    let old = LeaderAndIsrRequest::default().with_controller_epoch(0);
    assert_eq!(broker.call(7, &old).await.error_code, stale);
    let old = UpdateMetadataRequest::default().with_controller_epoch(0);
    assert_eq!(broker.call(8, &old).await.error_code, stale);
    let old = StopReplicaRequest::default().with_controller_epoch(0);
    assert_eq!(broker.call(4, &old).await.error_code, stale);

    broker.context.replica_manager.set_broker_epoch(barnabas::base::ids::BrokerEpoch(9));
    let earlier_life = LeaderAndIsrRequest::default().with_controller_epoch(1).with_broker_epoch(8);
    assert_eq!(broker.call(7, &earlier_life).await.error_code, ErrorCode::StaleBrokerEpoch.code());
}

#[tokio::test]
async fn stopped_replicas_are_gone_and_deleted_ones_leave_no_folder() {
    let broker = Broker::start().await;
    broker.topic_led_by("a", 2, ME, 3).await;
    broker.produce("a", batch(1)).await;
    let stop = |partition: i32, epoch: i32, delete: bool| {
        let state = StopReplicaPartitionState::default()
            .with_partition_index(partition)
            .with_leader_epoch(epoch)
            .with_delete_partition(delete);
        let topic =
            StopReplicaTopicState::default().with_topic_name(topic_name("a")).with_partition_states(vec![state]);
        StopReplicaRequest::default().with_controller_epoch(1).with_topic_states(vec![topic])
    };
    let answer = async |request: StopReplicaRequest| {
        let response = broker.call(4, &request).await;
        ErrorCode::from_code(response.partition_errors[0].error_code)
    };
    let manager = &broker.context.replica_manager;
    assert_eq!(answer(stop(0, 2, true)).await, ErrorCode::FencedLeaderEpoch);
    assert_eq!(answer(stop(0, 3, false)).await, ErrorCode::None);
    assert!(!manager.partition("a", 0).expect("known").is_leader());
    assert_eq!(answer(stop(0, -2, true)).await, ErrorCode::None, "a topic's deletion goes before any epoch");
    assert_eq!(answer(stop(1, 3, true)).await, ErrorCode::None);
    assert!(manager.partitions().is_empty() && manager.log_manager().is_empty());
}

/// Nobody else would ever tell it: a controller speaks to a broker only of what it is assigned.
#[tokio::test]
async fn a_replica_that_metadata_of_a_newer_epoch_places_elsewhere_stops() {
    let broker = Broker::start().await;
    broker.topic_led_by("a", 1, ME, 3).await;
    broker.produce("a", batch(1)).await;
    let manager = &broker.context.replica_manager;
    let leads_after = async |epoch: i32, replicas: &[i32]| {
        let state = UpdateMetadataPartitionState::default()
            .with_leader(2.into())
            .with_leader_epoch(epoch)
            .with_replicas(replicas.iter().map(|id| BrokerId(*id)).collect());
        let topic =
            UpdateMetadataTopicState::default().with_topic_name(topic_name("a")).with_partition_states(vec![state]);
        let request = UpdateMetadataRequest::default().with_controller_epoch(1).with_topic_states(vec![topic]);
        assert_eq!(broker.call(8, &request).await.error_code, 0);
        manager.partition("a", 0).expect("known").is_leader()
    };
    assert!(leads_after(3, &[2, 3]).await, "what is older than its own leadership says nothing");
    assert!(leads_after(4, &[2, ME]).await, "LeaderAndIsr is to tell it");
    assert!(!leads_after(4, &[2, 3]).await);
    assert_eq!(error(broker.produce("a", batch(1)).await), ErrorCode::NotLeaderOrFollower);
    assert!(!manager.log_manager().is_empty(), "only StopReplica deletes");
    broker.topic_led_by("a", 1, ME, 5).await;
    assert_eq!(error(broker.produce("a", batch(1)).await), ErrorCode::None);
}

#[tokio::test]
async fn throttled_followers_wait_until_they_are_in_sync() {
    let broker = Broker::start().await;
    broker.topic_with("a", 1, ME, 0, &[ME, 2, 3], &[ME, 3]).await;
    assert_eq!(error(broker.call(9, &produce_request("a", 0, 1, batch(3))).await), ErrorCode::None);
    let manager = &broker.context.replica_manager;
    let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    manager.update_topic_config("a", &set("leader.replication.throttled.replicas", &format!("0:{ME}")));
    let rate = |rate: &str| Dynamic { broker: set(LEADER_RATE, rate), ..Dynamic::default() };
    manager.update_broker_config(rate("1")).expect("valid");
    assert!(fetched(&broker, 2, 0).await.2 > 0, "nothing was served before");
    assert_eq!(fetched(&broker, 2, 0).await, (ErrorCode::None, 0, 0), "now it waits");
    assert!(fetched(&broker, 3, 0).await.2 > 0, "one in sync is never held back");
    assert!(fetched(&broker, -1, 0).await.0.is_none());
    manager.update_broker_config(rate("1000000000")).expect("valid");
    assert!(fetched(&broker, 2, 0).await.2 > 0, "the rate was raised");
    manager.update_broker_config(rate("1")).expect("valid");
    manager.update_topic_config("a", &BTreeMap::new());
    assert!(fetched(&broker, 2, 0).await.2 > 0, "the replica is not throttled any more");
}
