//! DescribeLogDirs and AlterReplicaLogDirs: what lies where, in the words of the wire, and moves between them.

use barnabas::base::error::ErrorCode;
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

use kafka_protocol::messages::{AlterReplicaLogDirsRequest, DescribeLogDirsRequest};

use crate::harness::{Broker, batch, text, topic_name};

#[tokio::test]
async fn log_dirs_are_described() {
    let broker = Broker::start().await;
    broker.topic("a", 2).await;
    broker.topic("b", 1).await;
    broker.produce("a", batch(3)).await;
    let asked = DescribableLogDirTopic::default().with_topic(topic_name("a")).with_partitions(vec![0, 9]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
    let answer = broker.call(4, &request).await;
    let [dir] = &answer.results[..] else { panic!("one log dir: {answer:?}") };
    assert!(dir.error_code == 0 && dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0);
    let [topic] = &dir.topics[..] else { panic!("one topic: {dir:?}") };
    let [found] = &topic.partitions[..] else { panic!("only what is here: {topic:?}") };
    assert!(found.partition_size > 0 && found.offset_lag == 0 && !found.is_future_key, "{found:?}");

    let all = DescribeLogDirsRequest::default().with_topics(None);
    let answer = broker.call(1, &all).await;
    let counts: Vec<usize> = answer.results[0].topics.iter().map(|topic| topic.partitions.len()).collect();
    assert_eq!(counts, [2, 1]);

    broker.context.replica_manager.log_manager().log_dirs()[0].take_offline("as a test wants");
    let answer = broker.call(4, &all).await;
    assert_eq!(answer.results[0].error_code, ErrorCode::KafkaStorageError.code());
    assert!(answer.results[0].topics.is_empty() && answer.results[0].total_bytes == -1);
}

/// Asks for partition 0 of `topic` to be moved to the log dir `dir`.
async fn move_to(broker: &Broker, topic: &str, dir: &str) -> ErrorCode {
    let topic = AlterReplicaLogDirTopic::default().with_name(topic_name(topic)).with_partitions(vec![0]);
    let dir = AlterReplicaLogDir::default().with_path(text(dir)).with_topics(vec![topic]);
    let answer = broker.call(2, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir])).await;
    ErrorCode::from_code(answer.results[0].partitions[0].error_code)
}

/// The log dirs of partition 0 of topic `a`: its own, and that of its future log with the lag.
async fn places(broker: &Broker) -> (String, Option<(String, i64)>) {
    let (mut own, mut future) = (String::new(), None);
    for dir in broker.call(4, &DescribeLogDirsRequest::default().with_topics(None)).await.results {
        for found in dir.topics.iter().filter(|topic| *topic.name.0 == *"a").flat_map(|topic| &topic.partitions) {
            if found.is_future_key {
                future = Some((dir.log_dir.to_string(), found.offset_lag));
            } else {
                own = dir.log_dir.to_string();
            }
        }
    }
    (own, future)
}

#[tokio::test]
async fn a_partition_moves_between_log_dirs() {
    let broker = Broker::over(&["one", "two"], &[]).await;
    broker.topic("a", 1).await;
    broker.produce("a", batch(3)).await;
    let manager = broker.context.replica_manager.clone();
    let dirs = manager.log_manager().log_dirs();
    let (own, none) = places(&broker).await;
    assert!(none.is_none());
    let other = dirs.iter().map(|dir| dir.path().display().to_string()).find(|path| *path != own).expect("another");

    assert_eq!(move_to(&broker, "a", "/no/such/dir").await, ErrorCode::LogDirNotFound);
    assert_eq!(move_to(&broker, "a", &own).await, ErrorCode::None, "it is there");
    assert_eq!(places(&broker).await, (own.clone(), None));
    assert_eq!(move_to(&broker, "a", &other).await, ErrorCode::None);
    assert_eq!(places(&broker).await, (own.clone(), Some((other.clone(), 3))));
    assert_eq!(move_to(&broker, "a", &own).await, ErrorCode::None, "called back");
    assert_eq!(places(&broker).await, (own.clone(), None));

    assert_eq!(move_to(&broker, "a", &other).await, ErrorCode::None);
    let partition = manager.partition("a", 0).expect("hosted");
    let before = partition.log().expect("a log");
    manager.move_between_log_dirs();
    assert_eq!(places(&broker).await, (other.clone(), None));
    let after = partition.log().expect("a log");
    assert_eq!((after.log_end_offset(), after.high_watermark()), (before.log_end_offset(), before.high_watermark()));
    assert_eq!(after.topic_id(), before.topic_id());
    assert_eq!(broker.produce("a", batch(2)).await.responses[0].partition_responses[0].base_offset, 3, "it goes on");
    assert_eq!(partition.log().expect("a log").log_end_offset().get(), 5);

    assert_eq!(move_to(&broker, "b", &own).await, ErrorCode::ReplicaNotAvailable, "not here yet, but remembered");
    broker.topic("b", 1).await;
    let made = manager.partition("b", 0).expect("hosted").log().expect("a log");
    assert_eq!(made.log_dir().path().display().to_string(), own);
}

#[tokio::test]
async fn moves_keep_to_their_throttle() {
    use barnabas::config::dynamic::{Dynamic, LOG_DIRS_RATE};
    let broker = Broker::over(&["one", "two"], &[]).await;
    broker.topic("a", 1).await;
    broker.produce("a", batch(3)).await;
    let manager = broker.context.replica_manager.clone();
    let set =
        |rate: &str| Dynamic { broker: [(LOG_DIRS_RATE.to_owned(), rate.to_owned())].into(), ..Dynamic::default() };
    manager.update_broker_config(set("1")).expect("valid");
    let (own, _) = places(&broker).await;
    let dirs = manager.log_manager().log_dirs();
    let other = dirs.iter().map(|dir| dir.path().display().to_string()).find(|path| *path != own).expect("another");
    manager.throttle().copied(1_000_000, manager.clock().now_ms());
    assert_eq!(move_to(&broker, "a", &other).await, ErrorCode::None);
    manager.move_between_log_dirs();
    assert_eq!(places(&broker).await, (own, Some((other.clone(), 3))), "it rests");
    manager.update_broker_config(Dynamic::default()).expect("valid");
    manager.move_between_log_dirs();
    assert_eq!(places(&broker).await, (other, None));
}
