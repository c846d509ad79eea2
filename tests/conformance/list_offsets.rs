//! ListOffsets: earliest, latest, by time, and what is refused.

use barnabas::base::error::ErrorCode;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use crate::harness::{Broker, batch, topic_name};

async fn ask(broker: &Broker, version: i16, timestamp: i64, epoch: i32) -> ListOffsetsPartitionResponse {
    let mut partition =
        ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp).with_max_num_offsets(9);
    if version >= 4 {
        partition.current_leader_epoch = epoch;
    }
    if version > 0 {
        partition.max_num_offsets = 1;
    }
    let topic = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    broker.call(version, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn offsets_are_found_in_every_version() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    broker.produce("a", batch(5)).await;
    for version in 1..=9 {
        let found = async |timestamp| {
            let answer = ask(&broker, version, timestamp, 0).await;
            assert_eq!(answer.error_code, 0, "version {version}, timestamp {timestamp}");
            (answer.timestamp, answer.offset)
        };
        assert_eq!(found(-1).await, (-1, 5));
        assert_eq!(found(-2).await, (-1, 0));
        assert_eq!(found(1002).await, (1002, 2));
        assert_eq!(found(0).await, (1000, 0));
        assert_eq!(found(9999).await, (-1, -1));
    }
    assert_eq!(ask(&broker, 0, -1, 0).await.old_style_offsets, [5, 0]);
    assert_eq!(ask(&broker, 0, -2, 0).await.old_style_offsets, [0]);
}

#[tokio::test]
async fn special_timestamps_have_their_versions() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    broker.produce("a", batch(5)).await;
    let unsupported = ErrorCode::UnsupportedVersion.code();
    for (timestamp, first) in [(-3, 7), (-4, 8), (-5, 9), (-6, 10)] {
        assert_eq!(ask(&broker, first - 1, timestamp, 0).await.error_code, unsupported);
    }
    let largest = ask(&broker, 7, -3, 0).await;
    assert_eq!((largest.timestamp, largest.offset), (1004, 4));
    assert_eq!(ask(&broker, 8, -4, 0).await.offset, 0);
    let tiered = ask(&broker, 9, -5, 0).await;
    assert_eq!((tiered.error_code, tiered.offset), (0, -1));
}

#[tokio::test]
async fn epochs_and_strangers_are_refused() {
    let broker = Broker::start().await;
    let error = async |epoch| ErrorCode::from_code(ask(&broker, 5, -1, epoch).await.error_code);
    assert_eq!(error(-1).await, ErrorCode::UnknownTopicOrPartition);
    broker.topic_led_by("a", 1, 1, 4).await;
    assert_eq!(error(3).await, ErrorCode::FencedLeaderEpoch);
    assert_eq!(error(5).await, ErrorCode::UnknownLeaderEpoch);
    assert_eq!(error(4).await, ErrorCode::None);
    broker.topic_led_by("a", 1, 2, 5).await;
    assert_eq!(error(-1).await, ErrorCode::NotLeaderOrFollower);
}

#[tokio::test]
async fn a_partition_named_twice_is_refused() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition.clone(), partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = broker.call(5, &request).await;
    assert!(answer.topics[0].partitions.iter().all(|p| p.error_code == ErrorCode::InvalidRequest.code()));
}
