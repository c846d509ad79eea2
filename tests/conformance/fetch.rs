//! Fetch: records in every version, limits, waiting, sessions, epochs.

use std::time::{Duration, Instant};

use barnabas::base::error::ErrorCode;
use barnabas::protocol::batch::BatchHeader;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use uuid::Uuid;

use crate::harness::{Broker, batch, topic_name};

/// A consumer's fetch of partition 0 of one topic.
fn fetch(version: i16, topic: &str, id: Uuid, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    with_topics(version, vec![named(version, topic, id, vec![partition])])
}

fn named(version: i16, topic: &str, id: Uuid, partitions: Vec<FetchPartition>) -> FetchTopic {
    let out = FetchTopic::default().with_partitions(partitions);
    if version >= 13 { out.with_topic_id(id) } else { out.with_topic(topic_name(topic)) }
}

fn with_topics(version: i16, topics: Vec<FetchTopic>) -> FetchRequest {
    let mut request = FetchRequest::default().with_max_wait_ms(0).with_min_bytes(1).with_topics(topics);
    if version < 15 {
        request.replica_id = BrokerId(-1);
    }
    request
}

fn only(response: FetchResponse) -> PartitionData {
    response.responses.into_iter().next().and_then(|t| t.partitions.into_iter().next()).expect("one partition")
}

fn records(partition: &PartitionData) -> Bytes {
    partition.records.clone().unwrap_or_default()
}

#[tokio::test]
async fn records_come_back_in_every_version() {
    let broker = Broker::start().await;
    let id = broker.topic("a", 1).await;
    broker.produce("a", batch(3)).await;
    for version in 0..=17 {
        let partition = only(broker.call(version, &fetch(version, "a", id, 0)).await);
        assert_eq!((partition.error_code, partition.high_watermark), (0, 3), "version {version}");
        let bytes = records(&partition);
        if version >= 4 {
            let header = BatchHeader::read(&bytes).expect("a batch");
            assert_eq!((header.record_count, header.size), (3, bytes.len()));
        } else {
            let magic = if version < 2 { 0 } else { 1 };
            assert_eq!(bytes[16], magic, "version {version}");
        }
    }
}

#[tokio::test]
async fn errors_are_exact() {
    let broker = Broker::start().await;
    let id = broker.topic_led_by("a", 1, 1, 4).await;
    broker.produce("a", batch(3)).await;
    let error = async |request: &FetchRequest, version| {
        let partition = only(broker.call(version, request).await);
        assert!(partition.error_code == 0 || partition.high_watermark == -1);
        ErrorCode::from_code(partition.error_code)
    };
    assert_eq!(error(&fetch(12, "none", id, 0), 12).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(error(&fetch(13, "a", Uuid::new_v4(), 0), 13).await, ErrorCode::UnknownTopicId);
    assert_eq!(error(&fetch(12, "a", id, 4), 12).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(error(&fetch(12, "a", id, -1), 12).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(error(&fetch(12, "a", id, 3), 12).await, ErrorCode::None, "at the log end there is nothing yet");
    for (epoch, expected) in [(3, ErrorCode::FencedLeaderEpoch), (5, ErrorCode::UnknownLeaderEpoch)] {
        let mut request = fetch(12, "a", id, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(error(&request, 12).await, expected);
    }
    broker.topic_led_by("a", 1, 2, 5).await;
    assert_eq!(error(&fetch(10, "a", id, 0), 10).await, ErrorCode::NotLeaderOrFollower);
}

#[tokio::test]
async fn a_moved_leader_is_named_with_its_address() {
    let broker = Broker::start().await;
    let id = broker.topic_led_by("a", 1, 1, 4).await;
    broker.topic_led_by("a", 1, 2, 5).await;
    let mut request = fetch(16, "a", id, 0);
    request.topics[0].partitions[0].current_leader_epoch = 4;
    let response = broker.call(16, &request).await;
    assert_eq!((response.node_endpoints.len(), response.node_endpoints[0].node_id.0), (1, 2));
    let partition = only(response);
    assert_eq!(partition.error_code, ErrorCode::FencedLeaderEpoch.code());
    assert_eq!((partition.current_leader.leader_id.0, partition.current_leader.leader_epoch), (2, 5));
}

#[tokio::test]
async fn limits_bend_for_one_batch_only() {
    let broker = Broker::start().await;
    let id = broker.topic("a", 2).await;
    let whole = batch(10).len();
    for _ in 0..3 {
        broker.produce("a", batch(10)).await;
    }
    let mut request = fetch(12, "a", id, 0);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    assert_eq!(records(&only(broker.call(12, &request).await)).len(), whole, "one batch always comes");
    request.max_bytes = 1;
    assert_eq!(records(&only(broker.call(12, &request).await)).len(), whole);
    let old = {
        let mut request = fetch(2, "a", id, 0);
        request.topics[0].partitions[0].partition_max_bytes = 20;
        request
    };
    assert!(only(broker.call(2, &old).await).error_code == 0, "before v3 the limit is hard");
}

#[tokio::test]
async fn a_fetch_waits_for_data_or_the_time_out() {
    let broker = std::sync::Arc::new(Broker::start().await);
    let id = broker.topic("a", 1).await;
    let waiting = {
        let broker = broker.clone();
        let mut request = fetch(12, "a", id, 0);
        request.max_wait_ms = 15_000;
        tokio::spawn(async move { only(broker.call(12, &request).await) })
    };
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    while partition.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    broker.produce("a", batch(2)).await;
    assert_eq!(waiting.await.expect("an answer").high_watermark, 2);
    assert_eq!(partition.waiting(), 0, "nothing stays registered");

    let began = Instant::now();
    let mut late = fetch(12, "a", id, 2);
    late.max_wait_ms = 50;
    assert!(records(&only(broker.call(12, &late).await)).is_empty());
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn min_bytes_are_waited_for_in_sum() {
    let broker = std::sync::Arc::new(Broker::start().await);
    let id = broker.topic("a", 1).await;
    let mut request = fetch(12, "a", id, 0);
    request.max_wait_ms = 15_000;
    request.min_bytes = i32::try_from(batch(2).len() * 3).expect("small");
    let waiting = {
        let broker = broker.clone();
        tokio::spawn(async move { records(&only(broker.call(12, &request).await)).len() })
    };
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    while partition.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert!(!waiting.is_finished());
        broker.produce("a", batch(2)).await;
    }
    assert_eq!(waiting.await.expect("an answer"), batch(2).len() * 3);
}

#[tokio::test]
async fn an_incremental_session_tells_only_changes() {
    for version in [7, 12, 13, 17] {
        let broker = Broker::start().await;
        let id = broker.topic("a", 2).await;
        let partitions = (0..2).map(|index| {
            FetchPartition::default().with_partition(index).with_fetch_offset(0).with_partition_max_bytes(1 << 20)
        });
        let mut full = with_topics(version, vec![named(version, "a", id, partitions.collect())]);
        full.session_epoch = 0;
        let first = broker.call(version, &full).await;
        assert!(first.session_id > 0);
        assert_eq!(first.responses[0].partitions.len(), 2);

        let mut next = with_topics(version, vec![]);
        next.session_id = first.session_id;
        next.session_epoch = 1;
        assert!(broker.call(version, &next).await.responses.is_empty(), "nothing changed");

        broker.produce("a", batch(1)).await;
        next.session_epoch = 2;
        let changed = broker.call(version, &next).await;
        assert_eq!(changed.responses[0].partitions.len(), 1);
        assert!(!records(&changed.responses[0].partitions[0]).is_empty());

        next.session_epoch = 3;
        let forgotten = ForgottenTopic::default().with_partitions(vec![0]);
        next.forgotten_topics_data =
            vec![if version >= 13 { forgotten.with_topic_id(id) } else { forgotten.with_topic(topic_name("a")) }];
        assert!(broker.call(version, &next).await.responses.is_empty(), "the partition with records is forgotten");
    }
}

#[tokio::test]
async fn broken_sessions_are_told_apart() {
    let broker = Broker::start().await;
    let id = broker.topic("a", 1).await;
    let error = async |version, session_id, session_epoch| {
        let mut request = with_topics(version, vec![]);
        request.session_id = session_id;
        request.session_epoch = session_epoch;
        let response = broker.call(version, &request).await;
        assert_eq!(response.session_id, 0);
        ErrorCode::from_code(response.error_code)
    };
    assert_eq!(error(12, 4711, 1).await, ErrorCode::FetchSessionIdNotFound);
    let mut full = fetch(12, "a", id, 0);
    full.session_epoch = 0;
    let session = broker.call(12, &full).await.session_id;
    assert_eq!(error(12, session, 5).await, ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(error(13, session, 1).await, ErrorCode::FetchSessionTopicIdError);
}

#[tokio::test]
async fn a_diverging_reader_is_told_where() {
    let broker = Broker::start().await;
    let id = broker.topic_led_by("a", 1, 1, 2).await;
    broker.produce("a", batch(3)).await;
    broker.topic_led_by("a", 1, 1, 6).await;
    let mut request = fetch(12, "a", id, 3);
    request.topics[0].partitions[0].last_fetched_epoch = 4;
    let partition = only(broker.call(12, &request).await);
    assert_eq!(partition.error_code, 0);
    assert_eq!((partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset), (2, 3));
}

/// Connections share threads: a consumer whose records must be read from the disk does not hold up the others of its thread.
#[tokio::test]
async fn what_waits_for_the_disk_waits_on_another_thread() {
    let broker = Broker::start().await;
    let thread = || std::thread::current().id();
    let apart = broker.context.replica_manager.apart(thread).await.expect("it is done");
    assert_ne!(apart, thread());
}
