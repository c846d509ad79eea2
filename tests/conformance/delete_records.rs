//! DeleteRecords: what is deleted, what is waited for, what is refused.

use std::sync::Arc;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::Offset;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, FetchRequest};

use crate::harness::{Broker, ME, batch, topic_name};

fn request(topic: &str, offset: i64, timeout_ms: i32) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms)
}

async fn delete(broker: &Broker, version: i16, request: &DeleteRecordsRequest) -> (ErrorCode, i64) {
    let row = broker.call(version, request).await.topics.remove(0).partitions.remove(0);
    (ErrorCode::from_code(row.error_code), row.low_watermark)
}

fn log_start(broker: &Broker) -> i64 {
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    partition.log().expect("a log").log_start_offset().get()
}

#[tokio::test]
async fn records_are_deleted_in_every_version() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    broker.produce("a", batch(9)).await;
    for (version, offset) in [(0, 2), (1, 4), (2, 5)] {
        assert_eq!(delete(&broker, version, &request("a", offset, 1_000)).await, (ErrorCode::None, offset));
        assert_eq!(log_start(&broker), offset);
    }
    assert_eq!(delete(&broker, 2, &request("a", 3, 1_000)).await, (ErrorCode::None, 5), "what is gone is gone");
    assert_eq!(delete(&broker, 2, &request("a", -1, 1_000)).await, (ErrorCode::None, 9), "up to the high watermark");
    assert_eq!(log_start(&broker), 9);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_refused() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    broker.topic("__consumer_offsets", 1).await;
    broker.topic_led_by("elsewhere", 1, 2, 5).await;
    broker.produce("a", batch(3)).await;
    let refused = async |topic: &str, offset| {
        let (error, low_watermark) = delete(&broker, 2, &request(topic, offset, 1_000)).await;
        assert_eq!(low_watermark, -1);
        error
    };
    assert_eq!(refused("a", 4).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(refused("a", -2).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(refused("none", 0).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(refused("elsewhere", 0).await, ErrorCode::NotLeaderOrFollower);
    assert_eq!(refused("__consumer_offsets", 0).await, ErrorCode::InvalidTopicException);
    assert_eq!(log_start(&broker), 0);

    for (policy, expected) in [("compact", ErrorCode::PolicyViolation), ("compact,delete", ErrorCode::None)] {
        let broker = Broker::with(&[("log.cleanup.policy", policy)]).await;
        broker.topic("a", 1).await;
        broker.produce("a", batch(3)).await;
        assert_eq!(delete(&broker, 2, &request("a", 2, 1_000)).await.0, expected, "{policy}");
    }
}

/// A fetch of broker 2, which has everything before offset 3 and whose log starts at `log_start`.
async fn follow(broker: &Broker, log_start: i64) -> i64 {
    let partition = FetchPartition::default()
        .with_fetch_offset(3)
        .with_log_start_offset(log_start)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name("a")).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_replica_id(BrokerId(2)).with_max_wait_ms(0).with_topics(vec![topic]);
    broker.call(12, &request).await.responses.remove(0).partitions.remove(0).log_start_offset
}

#[tokio::test]
async fn the_answer_waits_for_the_followers() {
    let broker = Arc::new(Broker::start().await);
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME]).await;
    let partition = broker.context.replica_manager.partition("a", 0).expect("hosted");
    let produced = broker.produce("a", batch(3)).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let (error, low_watermark) = delete(&broker, 2, &request("a", 1, 30)).await;
    assert_eq!((error, low_watermark), (ErrorCode::RequestTimedOut, -1), "where broker 2 starts was never told");
    assert_eq!(log_start(&broker), 1, "the leader has deleted them all the same");

    let waiting = {
        let broker = broker.clone();
        tokio::spawn(async move { delete(&broker, 2, &request("a", 2, 15_000)).await })
    };
    while partition.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(follow(&broker, 0).await, 2, "the follower learns of the leader's start");
    assert!(!waiting.is_finished());
    follow(&broker, 2).await;
    assert_eq!(waiting.await.expect("an answer"), (ErrorCode::None, 2));
    assert_eq!(partition.log().expect("a log").log_start_offset(), Offset(2));
}
