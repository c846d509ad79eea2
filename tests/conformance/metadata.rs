//! Metadata: all, by name, by id, what does not exist.

use barnabas::base::error::ErrorCode;
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use uuid::Uuid;

use crate::harness::{Broker, ME, topic_name};

fn by_name(names: &[&str]) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    MetadataRequest::default().with_topics(Some(topics.collect()))
}

#[tokio::test]
async fn topics_and_brokers_are_told_in_every_version() {
    let broker = Broker::start().await;
    let id = broker.topic("a", 3).await;
    for version in 0..=12 {
        let response = broker.call(version, &by_name(&["a"])).await;
        assert_eq!(response.brokers.len(), 2);
        assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("localhost", 9092 + ME));
        let topic = &response.topics[0];
        assert_eq!(topic.name.as_ref().map(|name| name.as_str()), Some("a"));
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 3), "version {version}");
        assert!(topic.partitions.iter().all(|p| p.error_code == 0 && p.leader_id.0 == ME));
        if version >= 1 {
            assert_eq!(response.controller_id.0, ME);
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some("a-cluster"));
        }
        if version >= 10 {
            assert_eq!(topic.topic_id, id);
        }
        if version >= 8 {
            assert_eq!(topic.topic_authorized_operations, i32::MIN);
        }
    }
}

#[tokio::test]
async fn a_broker_that_just_started_answers_with_the_controllers_first_word() {
    let broker = Broker::start().await;
    let request = by_name(&["a"]);
    let (response, _) = tokio::join!(broker.call(12, &request), broker.topic("a", 1));
    assert_eq!((response.brokers.len(), response.topics[0].error_code), (2, 0));
}

#[tokio::test]
async fn no_list_means_all_and_an_empty_one_none() {
    let broker = Broker::start().await;
    broker.topic("a", 1).await;
    broker.topic("b", 1).await;
    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(broker.call(12, &all).await.topics.len(), 2);
    assert_eq!(broker.call(1, &all).await.topics.len(), 2);
    assert!(broker.call(12, &by_name(&[])).await.topics.is_empty());
    assert_eq!(broker.call(0, &by_name(&[])).await.topics.len(), 2, "v0 has no null");
}

#[tokio::test]
async fn topics_are_found_by_id() {
    let broker = Broker::start().await;
    let id = broker.topic("a", 1).await;
    let ask = |id| {
        MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_topic_id(id).with_name(None)]))
    };
    let found = broker.call(12, &ask(id)).await;
    assert_eq!(found.topics[0].name.as_ref().map(|name| name.as_str()), Some("a"));
    let unknown = Uuid::new_v4();
    let missing = broker.call(12, &ask(unknown)).await;
    assert_eq!(missing.topics[0].error_code, ErrorCode::UnknownTopicId.code());
    assert_eq!((missing.topics[0].topic_id, missing.topics[0].name.is_none()), (unknown, true));
    let too_old = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_topic_id(id).with_name(Some(topic_name("a")))]));
    assert_eq!(broker.call(10, &too_old).await.topics[0].error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn what_does_not_exist_is_told_apart_from_what_cannot() {
    let broker = Broker::start().await;
    let mut request = by_name(&["missing", "not a name", "missing"]);
    request.allow_auto_topic_creation = false;
    let response = broker.call(12, &request).await;
    let errors: Vec<_> = response.topics.iter().map(|t| ErrorCode::from_code(t.error_code)).collect();
    assert_eq!(errors, [ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException]);
}

#[tokio::test]
async fn a_dead_leader_is_told() {
    let broker = Broker::start().await;
    broker.topic_led_by("a", 1, 9, 3).await;
    let partition = broker.call(12, &by_name(&["a"])).await.topics.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, ErrorCode::LeaderNotAvailable.code());
    assert_eq!((partition.leader_id.0, partition.leader_epoch), (-1, 3));
    let old = broker.call(0, &by_name(&["a"])).await.topics.remove(0).partitions.remove(0);
    assert!(old.replica_nodes.is_empty(), "v0 hides replicas that cannot be reached");
}
