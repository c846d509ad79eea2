//! Produce: error codes, acks, idempotent producers.

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::Offset;
use barnabas::network::Outcome;
use barnabas::protocol::builder::BatchSpec;
use barnabas::protocol::compress::{Codec, Compression};
use barnabas::protocol::legacy::LegacyBuilder;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;

use crate::harness::{Broker, ME, batch, batch_from, batch_of, produce_request};

fn only(response: ProduceResponse) -> PartitionProduceResponse {
    response.responses.into_iter().next().and_then(|t| t.partition_responses.into_iter().next()).expect("one partition")
}

#[tokio::test]
async fn offsets_go_up_in_every_version() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let mut expected = 0;
    for version in 3..=11 {
        for acks in [-1, 1] {
            let answer = only(broker.call(version, &produce_request("a", 0, acks, batch(3))).await);
            assert_eq!((answer.error_code, answer.base_offset), (0, expected), "version {version}");
            expected += 3;
        }
    }
}

#[tokio::test]
async fn old_message_sets_are_taken_and_become_batches() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    for (version, magic, expected) in [(0, 0, 0), (1, 0, 2), (2, 1, 4)] {
        let mut set = LegacyBuilder::new(magic, Compression::default(), None);
        set.append(Offset(0), 1000, Some(b"k"), Some(b"one"));
        set.append(Offset(1), 1001, None, None);
        let records = set.build().expect("a message set");
        let answer = only(broker.call(version, &produce_request("a", 0, 1, records)).await);
        assert_eq!((answer.error_code, answer.base_offset), (0, expected), "version {version}");
    }
}

#[tokio::test]
async fn errors_are_exact() {
    let broker = Broker::with(&[("message.max.bytes", "200")]).await;
    broker.topic("a", 1).await;
    broker.topic("__consumer_offsets", 1).await;
    broker.topic_led_by("elsewhere", 1, 2, 5).await;
    let error = async |version, topic: &str, partition, acks, records: Bytes| {
        let answer = only(broker.call(version, &produce_request(topic, partition, acks, records)).await);
        assert_eq!(answer.base_offset, -1);
        ErrorCode::from_code(answer.error_code)
    };
    assert_eq!(error(9, "none", 0, 1, batch(1)).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(error(9, "a", 1, 1, batch(1)).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(error(9, "elsewhere", 0, 1, batch(1)).await, ErrorCode::NotLeaderOrFollower);
    assert_eq!(error(9, "a", 0, 2, batch(1)).await, ErrorCode::InvalidRequiredAcks);
    assert_eq!(error(9, "__consumer_offsets", 0, 1, batch(1)).await, ErrorCode::InvalidTopicException);
    assert_eq!(error(9, "a", 0, 1, Bytes::new()).await, ErrorCode::InvalidRecord);
    assert_eq!(error(9, "a", 0, 1, batch(30)).await, ErrorCode::MessageTooLarge);
    let two = [batch(1), batch(1)].concat();
    assert_eq!(error(9, "a", 0, 1, two.into()).await, ErrorCode::InvalidRecord);
    let mut broken = BytesMut::from(&batch(1)[..]);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    assert_eq!(error(9, "a", 0, 1, broken.freeze()).await, ErrorCode::CorruptMessage);
    let zstd = batch_of(1, BatchSpec { compression: Codec::Zstd.into(), ..BatchSpec::default() });
    assert_eq!(error(6, "a", 0, 1, zstd).await, ErrorCode::UnsupportedCompressionType);
    let transactional = batch_of(1, BatchSpec { transactional: true, ..BatchSpec::default() });
    assert_eq!(error(9, "a", 0, 1, transactional).await, ErrorCode::TransactionalIdAuthorizationFailed);
}

#[tokio::test]
async fn a_new_leader_is_named_with_its_address() {
    let broker = Broker::start().await;
    broker.topic_led_by("a", 1, 2, 5).await;
    let response = broker.call(10, &produce_request("a", 0, 1, batch(1))).await;
    assert_eq!(response.node_endpoints.len(), 1);
    assert_eq!((response.node_endpoints[0].node_id.0, response.node_endpoints[0].port), (2, 9094));
    let leader = only(response).current_leader;
    assert_eq!((leader.leader_id.0, leader.leader_epoch), (2, 5));
}

#[tokio::test]
async fn messages_come_from_version_8_on() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let told = only(broker.call(8, &produce_request("a", 0, 1, Bytes::new())).await);
    assert!(told.error_message.is_some());
    let silent = only(broker.call(7, &produce_request("a", 0, 1, Bytes::new())).await);
    assert!(silent.error_message.is_none() && silent.error_code == ErrorCode::InvalidRecord.code());
}

#[tokio::test]
async fn without_acks_an_error_closes_the_connection() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let good = broker.outcome(9, &produce_request("a", 0, 0, batch(1))).await;
    assert!(matches!(good, Outcome::NoReply));
    let bad = broker.outcome(9, &produce_request("none", 0, 0, batch(1))).await;
    assert!(matches!(bad, Outcome::Close(_)));
    assert_eq!(only(broker.produce("a", batch(1)).await).base_offset, 1, "the first was written");
}

#[tokio::test]
async fn idempotent_producers_are_held_to_their_sequence() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    let send = async |epoch, sequence, count| {
        let answer = only(broker.produce("a", batch_from(9, epoch, sequence, count)).await);
        (ErrorCode::from_code(answer.error_code), answer.base_offset)
    };
    assert_eq!(send(0, 0, 2).await, (ErrorCode::None, 0));
    assert_eq!(send(0, 2, 2).await, (ErrorCode::None, 2));
    assert_eq!(send(0, 0, 2).await, (ErrorCode::None, 0), "a duplicate is answered as the first time");
    assert_eq!(send(0, 9, 1).await.0, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(send(1, 0, 1).await, (ErrorCode::None, 4));
    assert_eq!(send(0, 4, 1).await.0, ErrorCode::InvalidProducerEpoch);
}

/// What a producer sent behind a batch that came too early for this leader is no gap in its sequence.
#[tokio::test]
async fn batches_behind_one_that_was_refused_are_refused_alike() {
    let broker = Broker::start().await;
    let send = async |sequence| {
        let answer = only(broker.produce("a", batch_from(9, 0, sequence, 1)).await);
        ErrorCode::from_code(answer.error_code)
    };
    broker.topic_with("a", 1, ME, 0, &[ME, 2], &[ME]).await;
    assert_eq!(send(0).await, ErrorCode::None);
    broker.topic_with("a", 1, 2, 1, &[ME, 2], &[ME, 2]).await;
    assert_eq!(send(1).await, ErrorCode::NotLeaderOrFollower);
    broker.topic_with("a", 1, ME, 2, &[ME, 2], &[ME]).await;
    assert_eq!(send(2).await, ErrorCode::NotLeaderOrFollower, "not OUT_OF_ORDER_SEQUENCE_NUMBER");
    for sequence in 1..3 {
        assert_eq!(send(sequence).await, ErrorCode::None);
    }
}

#[tokio::test]
async fn acks_all_asks_for_enough_replicas() {
    let broker = Broker::with(&[("min.insync.replicas", "2")]).await;
    broker.topic("alone", 1).await;
    assert_eq!(only(broker.produce("alone", batch(1)).await).error_code, 0, "one replica is all it has");
}
