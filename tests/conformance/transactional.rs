//! Transactions as partitions and groups see them: verification before the first records, markers, what readers of
//! committed records get, offsets that a transaction commits, and what is told of producers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use barnabas::base::clock::{Clock, SystemClock};
use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{ProducerEpoch, ProducerId};
use barnabas::config::dynamic::Dynamic;
use barnabas::protocol::batch::BatchHeader;
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::*;
use uuid::Uuid;

use crate::harness::{Broker, CoordinatorAnswer, ME, batch_of, produce_request, text, topic_name};

const TRANSACTIONS: &str = "__transaction_state";
const OFFSETS: &str = "__consumer_offsets";

/// A broker whose coordinator of transactions knows of every partition, with a topic `a`.
async fn broker_with(pairs: &[(&str, &str)]) -> (Broker, Uuid) {
    let broker = Broker::with(pairs).await;
    let id = broker.topic("a", 2).await;
    broker.topic(TRANSACTIONS, 1).await;
    *broker.coordinator.answer.lock() = CoordinatorAnswer::Each(ErrorCode::None);
    (broker, id)
}

fn records(producer: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let spec = BatchSpec {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        transactional: true,
        ..BatchSpec::default()
    };
    batch_now(count, spec)
}

/// A batch as young as the markers: these do not begin a new segment then.
fn batch_now(count: usize, spec: BatchSpec) -> Bytes {
    let now = SystemClock.now_ms();
    let mut builder = BatchBuilder::new(spec);
    (0..count).for_each(|_| builder.append(now, Some(b"key"), Some(b"value")));
    builder.build().expect("a batch").1
}

fn batch(count: usize) -> Bytes {
    batch_now(count, BatchSpec::default())
}

fn transactional(partition: i32, records: Bytes) -> ProduceRequest {
    produce_request("a", partition, -1, records).with_transactional_id(Some(TransactionalId(text("id"))))
}

async fn produce(broker: &Broker, version: i16, request: &ProduceRequest) -> ErrorCode {
    let answer = broker.call(version, request).await;
    ErrorCode::from_code(answer.responses[0].partition_responses[0].error_code)
}

fn marker(topic: &str, producer: i64, epoch: i16, coordinator_epoch: i32, commit: bool) -> WriteTxnMarkersRequest {
    let topics = vec![WritableTxnMarkerTopic::default().with_name(topic_name(topic)).with_partition_indexes(vec![0])];
    let marker = WritableTxnMarker::default()
        .with_producer_id(kafka_protocol::messages::ProducerId(producer))
        .with_producer_epoch(epoch)
        .with_transaction_result(commit)
        .with_coordinator_epoch(coordinator_epoch)
        .with_topics(topics);
    WriteTxnMarkersRequest::default().with_markers(vec![marker])
}

async fn end(broker: &Broker, request: &WriteTxnMarkersRequest) -> ErrorCode {
    let mut code = ErrorCode::None;
    let answer = broker.call(1, request).await;
    for marker in &answer.markers {
        assert_eq!(marker.producer_id, request.markers[0].producer_id);
        code = ErrorCode::from_code(marker.topics[0].partitions[0].error_code);
    }
    code
}

async fn fetch(broker: &Broker, version: i16, id: Uuid, isolation: i8, offset: i64) -> PartitionData {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_partitions(vec![partition]);
    let topic = if version >= 13 { topic.with_topic_id(id) } else { topic.with_topic(topic_name("a")) };
    let mut request = FetchRequest::default().with_max_wait_ms(0).with_topics(vec![topic]);
    request.isolation_level = isolation;
    if version < 15 {
        request.replica_id = kafka_protocol::messages::BrokerId(-1);
    }
    broker.call(version, &request).await.responses.remove(0).partitions.remove(0)
}

/// The offsets of the batches in an answer.
fn offsets(partition: &PartitionData) -> Vec<i64> {
    let (mut rest, mut found) = (partition.records.clone().unwrap_or_default(), Vec::new());
    while let Some(header) = BatchHeader::read(&rest).filter(|header| header.size <= rest.len()) {
        found.push(header.base_offset.get());
        rest = rest.split_off(header.size);
    }
    found
}

async fn latest(broker: &Broker, isolation: i8) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let mut request = ListOffsetsRequest::default().with_topics(vec![topic]);
    (request.replica_id, request.isolation_level) = (kafka_protocol::messages::BrokerId(-1), isolation);
    broker.call(7, &request).await.topics.remove(0).partitions.remove(0).offset
}

#[tokio::test]
async fn readers_of_committed_records_wait_for_the_end_of_transactions() {
    let (broker, id) = broker_with(&[]).await;
    broker.produce("a", batch(1)).await;
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, 0, 2))).await, ErrorCode::None);
    broker.produce("a", batch(1)).await;
    for version in 4..=17 {
        let all = fetch(&broker, version, id, 0, 0).await;
        assert_eq!((offsets(&all), all.high_watermark, all.last_stable_offset), (vec![0, 1, 3], 4, 1), "v{version}");
        assert_eq!(all.aborted_transactions.map(|aborted| aborted.len()), None, "v{version}");
        let committed = fetch(&broker, version, id, 1, 0).await;
        assert_eq!((offsets(&committed), committed.last_stable_offset), (vec![0], 1), "v{version}");
        assert_eq!(offsets(&fetch(&broker, version, id, 1, 1).await), Vec::<i64>::new(), "v{version}");
    }
    assert_eq!((latest(&broker, 0).await, latest(&broker, 1).await), (4, 1));
    broker.topic_led_by("a", 2, ME, 1).await;
    assert_eq!(latest(&broker, 1).await, 1, "a new epoch of the leader changes nothing for a transaction that is open");
    assert_eq!(end(&broker, &marker("a", 7, 0, 0, true)).await, ErrorCode::None);
    let committed = fetch(&broker, 11, id, 1, 0).await;
    assert_eq!((offsets(&committed), committed.last_stable_offset), (vec![0, 1, 3, 4], 5));
    assert_eq!((latest(&broker, 0).await, latest(&broker, 1).await), (5, 5));
}

#[tokio::test]
async fn aborted_transactions_are_named_in_every_version() {
    let (broker, id) = broker_with(&[]).await;
    for (at, commit) in [false, true, false].into_iter().enumerate() {
        let sequence = i32::try_from(at).expect("small");
        assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, sequence, 1))).await, ErrorCode::None);
        assert_eq!(end(&broker, &marker("a", 7, 0, 0, commit)).await, ErrorCode::None);
    }
    for version in 4..=17 {
        let aborted = |partition: PartitionData| {
            let aborted = partition.aborted_transactions.expect("a list");
            aborted.iter().map(|txn| (txn.producer_id.0, txn.first_offset)).collect::<Vec<_>>()
        };
        assert_eq!(aborted(fetch(&broker, version, id, 1, 0).await), [(7, 0), (7, 4)], "version {version}");
        assert_eq!(aborted(fetch(&broker, version, id, 1, 2).await), [(7, 4)], "version {version}");
    }
    let log = broker.context.replica_manager.partition("a", 0).expect("hosted").log().expect("a log");
    let index = std::fs::read(log.dir().join("00000000000000000000.txnindex")).expect("an index");
    assert_eq!(index.len(), 2 * 34);
}

#[tokio::test]
async fn the_coordinator_is_asked_once_for_each_transaction() {
    let (broker, _) = broker_with(&[]).await;
    let asked = || broker.coordinator.asked.lock().len();
    broker.produce("a", batch(1)).await;
    assert_eq!(asked(), 0, "nobody is asked about records outside transactions");
    for sequence in 0..3 {
        assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, sequence, 1))).await, ErrorCode::None);
    }
    assert_eq!(asked(), 1);
    assert_eq!(end(&broker, &marker("a", 7, 0, 0, true)).await, ErrorCode::None);
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, 3, 1))).await, ErrorCode::None);
    assert_eq!(asked(), 2);
    let (coordinator, request) = broker.coordinator.asked.lock()[1].clone();
    let transaction = &request.transactions[0];
    assert_eq!((coordinator, &*transaction.transactional_id.0), (ME, "id"));
    assert_eq!((transaction.producer_id.0, transaction.producer_epoch, transaction.verify_only), (7, 0, true));
    assert_eq!((&*transaction.topics[0].name.0, &transaction.topics[0].partitions[..]), ("a", &[0][..]));
}

#[tokio::test]
async fn what_the_coordinator_says_is_told_in_codes_that_the_version_knows() {
    let (broker, _) = broker_with(&[]).await;
    let told = async |answer, version| {
        *broker.coordinator.answer.lock() = answer;
        produce(&broker, version, &transactional(0, records(7, 0, 0, 1))).await
    };
    let each = CoordinatorAnswer::Each;
    assert_eq!(told(each(ErrorCode::TransactionAbortable), 10).await, ErrorCode::InvalidTxnState);
    assert_eq!(told(each(ErrorCode::TransactionAbortable), 11).await, ErrorCode::TransactionAbortable);
    assert_eq!(told(each(ErrorCode::InvalidTxnState), 11).await, ErrorCode::InvalidTxnState);
    assert_eq!(told(each(ErrorCode::ProducerFenced), 9).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(told(each(ErrorCode::InvalidProducerIdMapping), 9).await, ErrorCode::InvalidProducerIdMapping);
    assert_eq!(told(each(ErrorCode::ConcurrentTransactions), 9).await, ErrorCode::NotEnoughReplicas);
    assert_eq!(told(CoordinatorAnswer::Whole(ErrorCode::NotCoordinator), 9).await, ErrorCode::NotEnoughReplicas);
    let unauthorized = CoordinatorAnswer::Whole(ErrorCode::ClusterAuthorizationFailed);
    assert_eq!(told(unauthorized, 9).await, ErrorCode::InvalidTxnState);
    assert_eq!(told(CoordinatorAnswer::Lost, 9).await, ErrorCode::NotEnoughReplicas);
    let log = broker.context.replica_manager.partition("a", 0).expect("hosted").log().expect("a log");
    assert_eq!(log.log_end_offset().get(), 0, "nothing was written so far");
    assert_eq!(told(CoordinatorAnswer::Unsupported, 9).await, ErrorCode::None, "a coordinator of 2.8 cannot tell");
}

#[tokio::test]
async fn a_transaction_without_a_coordinator_is_tried_again() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let request = transactional(0, records(7, 0, 0, 1));
    assert_eq!(produce(&broker, 9, &request).await, ErrorCode::NotEnoughReplicas);
}

#[tokio::test]
async fn verification_can_be_switched_off() {
    let (broker, _) = broker_with(&[("transaction.partition.verification.enable", "false")]).await;
    *broker.coordinator.answer.lock() = CoordinatorAnswer::Lost;
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, 0, 1))).await, ErrorCode::None);
    assert!(broker.coordinator.asked.lock().is_empty());
}

#[tokio::test]
async fn verification_is_switched_while_the_broker_runs() {
    let (broker, _) = broker_with(&[]).await;
    let off = ("transaction.partition.verification.enable".to_owned(), "false".to_owned());
    let dynamic = Dynamic { cluster: [off].into(), ..Dynamic::default() };
    broker.context.replica_manager.update_broker_config(dynamic).expect("valid");
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, 0, 1))).await, ErrorCode::None);
    assert!(broker.coordinator.asked.lock().is_empty());
    broker.context.replica_manager.update_broker_config(Dynamic::default()).expect("valid");
    assert_eq!(produce(&broker, 9, &transactional(1, records(7, 0, 0, 1))).await, ErrorCode::None);
    assert_eq!(broker.coordinator.asked.lock().len(), 1);
}

#[tokio::test]
async fn a_marker_wakes_those_who_wait_for_more_than_its_own_bytes() {
    let (broker, id) = broker_with(&[]).await;
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, 0, 100))).await, ErrorCode::None);
    let broker = Arc::new(broker);
    let waiting = {
        let broker = broker.clone();
        tokio::spawn(async move {
            let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
            let topic = FetchTopic::default().with_partitions(vec![partition]).with_topic_id(id);
            let mut request = FetchRequest::default().with_max_wait_ms(15_000).with_min_bytes(1_000);
            (request.topics, request.isolation_level) = (vec![topic], 1);
            broker.call(17, &request).await.responses.remove(0).partitions.remove(0)
        })
    };
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    while partition.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    assert_eq!(end(&broker, &marker("a", 7, 0, 0, true)).await, ErrorCode::None);
    assert_eq!(offsets(&waiting.await.expect("an answer")), [0, 100]);
    assert!(began.elapsed() < Duration::from_secs(10), "it was woken, and did not wait for its time");
}

#[tokio::test]
async fn transactional_records_must_say_whose_they_are() {
    let (broker, _) = broker_with(&[]).await;
    let nameless = produce_request("a", 0, -1, records(7, 0, 0, 1));
    assert_eq!(produce(&broker, 9, &nameless).await, ErrorCode::TransactionalIdAuthorizationFailed);
    let mut both = transactional(0, records(7, 0, 0, 1));
    let other = transactional(1, records(8, 0, 0, 1)).topic_data[0].partition_data[0].clone();
    both.topic_data[0].partition_data.push(other);
    let answer = broker.call(9, &both).await;
    for partition in &answer.responses[0].partition_responses {
        assert_eq!(partition.error_code, ErrorCode::InvalidProducerIdMapping.code());
    }
    let outside = batch_of(
        1,
        BatchSpec {
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(0),
            base_sequence: 1,
            ..BatchSpec::default()
        },
    );
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 0, 0, 1))).await, ErrorCode::None);
    assert_eq!(produce(&broker, 9, &produce_request("a", 0, -1, outside)).await, ErrorCode::InvalidTxnState);
}

#[tokio::test]
async fn markers_are_fenced() {
    let (broker, id) = broker_with(&[]).await;
    broker.topic_led_by("elsewhere", 1, 2, 5).await;
    for version in 0..=1 {
        let answer = broker.call(version, &marker("none", 7, 0, 0, true)).await;
        let row = &answer.markers[0].topics[0].partitions[0];
        assert_eq!(ErrorCode::from_code(row.error_code), ErrorCode::UnknownTopicOrPartition);
    }
    assert_eq!(end(&broker, &marker("elsewhere", 7, 0, 0, true)).await, ErrorCode::NotLeaderOrFollower);
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 3, 0, 1))).await, ErrorCode::None);
    assert_eq!(end(&broker, &marker("a", 7, 2, 5, true)).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(fetch(&broker, 11, id, 1, 0).await.last_stable_offset, 0, "the transaction is open still");
    assert_eq!(end(&broker, &marker("a", 7, 4, 5, false)).await, ErrorCode::None, "a newer epoch fences the producer");
    assert_eq!(end(&broker, &marker("a", 7, 4, 4, false)).await, ErrorCode::TransactionCoordinatorFenced);
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 3, 1, 1))).await, ErrorCode::InvalidProducerEpoch);
    assert!(broker.call(1, &WriteTxnMarkersRequest::default()).await.markers.is_empty());
}

async fn describe(broker: &Broker, topic: &str) -> PartitionResponse {
    let topic = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    broker.call(0, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn producers_are_described() {
    let (broker, _) = broker_with(&[]).await;
    assert_eq!(describe(&broker, "none").await.error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert!(describe(&broker, "a").await.active_producers.is_empty());
    broker.produce("a", batch(1)).await;
    assert_eq!(produce(&broker, 9, &transactional(0, records(7, 2, 0, 3))).await, ErrorCode::None);
    let row = async || {
        let found = describe(&broker, "a").await.active_producers.remove(0);
        assert_eq!((found.producer_id.0, found.producer_epoch), (7, 2));
        (found.last_sequence, found.last_timestamp, found.coordinator_epoch, found.current_txn_start_offset)
    };
    let (sequence, began, coordinator_epoch, start) = row().await;
    assert_eq!((sequence, coordinator_epoch, start), (2, -1, 1));
    assert_eq!(end(&broker, &marker("a", 7, 2, 9, true)).await, ErrorCode::None);
    let (sequence, timestamp, coordinator_epoch, start) = row().await;
    assert_eq!((sequence, coordinator_epoch, start), (2, 9, -1));
    assert!(timestamp >= began, "the marker's time is the broker's");
}

/// The same broker as coordinator of all groups.
async fn group_coordinator() -> Broker {
    let (broker, _) = broker_with(&[]).await;
    broker.topic(OFFSETS, 1).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !broker.context.groups.is_served(0) {
        assert!(Instant::now() < deadline, "the offsets partition is not loaded");
        tokio::task::yield_now().await;
    }
    broker
}

fn commit(version: i16, topic: &str, offset: i64) -> TxnOffsetCommitRequest {
    let mut partition = TxnOffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    if version >= 2 {
        partition.committed_leader_epoch = 4;
    }
    let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text("id")))
        .with_group_id(GroupId(text("g")))
        .with_producer_id(kafka_protocol::messages::ProducerId(7))
        .with_producer_epoch(0)
        .with_topics(vec![topic])
}

async fn commit_code(broker: &Broker, version: i16, request: &TxnOffsetCommitRequest) -> ErrorCode {
    let answer = broker.call(version, request).await;
    ErrorCode::from_code(answer.topics[0].partitions[0].error_code)
}

async fn committed(broker: &Broker, require_stable: bool) -> (i64, ErrorCode) {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("a")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(vec![topic]))
        .with_require_stable(require_stable);
    let found = broker.call(7, &request).await.topics.remove(0).partitions.remove(0);
    (found.committed_offset, ErrorCode::from_code(found.error_code))
}

#[tokio::test]
async fn offsets_hold_once_their_transaction_is_committed() {
    let broker = group_coordinator().await;
    let unstable = (-1, ErrorCode::UnstableOffsetCommit);
    let mut before = -1;
    for version in 0..=4 {
        let offset = i64::from(version) + 10;
        assert_eq!(commit_code(&broker, version, &commit(version, "a", offset)).await, ErrorCode::None);
        assert_eq!(committed(&broker, true).await, unstable, "version {version}");
        assert_eq!(committed(&broker, false).await, (before, ErrorCode::None), "version {version}");
        let commits = version % 2 == 0;
        assert_eq!(end(&broker, &marker(OFFSETS, 7, 0, 0, commits)).await, ErrorCode::None);
        before = if commits { offset } else { before };
        assert_eq!(committed(&broker, true).await, (before, ErrorCode::None), "version {version}");
    }
    assert_eq!(broker.coordinator.asked.lock().len(), 5, "each transaction is verified");
    let asked = broker.coordinator.asked.lock()[0].1.clone();
    assert_eq!(&*asked.transactions[0].topics[0].name.0, OFFSETS);
}

#[tokio::test]
async fn transactional_commits_are_refused_as_the_original_refuses_them() {
    let broker = group_coordinator().await;
    let mut request = commit(4, "a", 5);
    request.group_id = GroupId(text(""));
    assert_eq!(commit_code(&broker, 4, &request).await, ErrorCode::InvalidGroupId);
    assert_eq!(commit_code(&broker, 4, &commit(4, "none", 5)).await, ErrorCode::UnknownTopicOrPartition);
    let mut request = commit(4, "a", 5);
    (request.generation_id, request.member_id) = (3, text("m"));
    assert_eq!(commit_code(&broker, 4, &request).await, ErrorCode::UnknownMemberId);
    request.group_instance_id = Some(text("i"));
    assert_eq!(commit_code(&broker, 4, &request).await, ErrorCode::UnknownMemberId);
    let mut request = commit(4, "a", 5);
    request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(5_000)));
    assert_eq!(commit_code(&broker, 4, &request).await, ErrorCode::OffsetMetadataTooLarge);
    let told = async |answer, version| {
        *broker.coordinator.answer.lock() = answer;
        commit_code(&broker, version, &commit(version, "a", 5)).await
    };
    let each = CoordinatorAnswer::Each;
    assert_eq!(told(each(ErrorCode::TransactionAbortable), 3).await, ErrorCode::InvalidTxnState);
    assert_eq!(told(each(ErrorCode::TransactionAbortable), 4).await, ErrorCode::TransactionAbortable);
    assert_eq!(told(CoordinatorAnswer::Lost, 4).await, ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(committed(&broker, true).await, (-1, ErrorCode::None));
    assert_eq!(told(CoordinatorAnswer::Unsupported, 4).await, ErrorCode::None);
    assert_eq!(committed(&broker, true).await, (-1, ErrorCode::UnstableOffsetCommit));
}

#[tokio::test]
async fn deleting_offsets_takes_those_of_open_transactions_along() {
    let broker = group_coordinator().await;
    assert_eq!(commit_code(&broker, 3, &commit(3, "a", 5)).await, ErrorCode::None);
    let codes = broker.context.groups.delete_offsets("g", &[("a", 0)]).expect("the group is served");
    assert_eq!(codes, [ErrorCode::None]);
    assert_eq!(committed(&broker, true).await, (-1, ErrorCode::None));
    assert_eq!(end(&broker, &marker(OFFSETS, 7, 0, 0, true)).await, ErrorCode::None);
    assert_eq!(committed(&broker, true).await, (-1, ErrorCode::None));
    assert_eq!(commit_code(&broker, 3, &commit(3, "a", 6)).await, ErrorCode::None);
    broker.context.groups.expire();
    assert_eq!(
        committed(&broker, true).await.1,
        ErrorCode::UnstableOffsetCommit,
        "the group waits for the transaction"
    );
    assert_eq!(broker.context.groups.delete_group("g"), Ok(()));
    assert_eq!(end(&broker, &marker(OFFSETS, 7, 0, 0, true)).await, ErrorCode::None);
    assert_eq!(committed(&broker, true).await, (-1, ErrorCode::None));
}
