//! DescribeLogDirs: what lies where, in the words of the wire.

use barnabas::base::error::ErrorCode;
use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

use crate::harness::{Broker, batch, topic_name};

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
