//! `/admin/*`: requests to the controller by tools that write to ZooKeeper directly (2.8 and earlier), and deletions.

use serde::{Deserialize, Serialize};

use super::{from_json, to_json};
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::error::ZkError;

/// The parent of topics to be deleted.
pub const DELETE_TOPICS_PATH: &str = "/admin/delete_topics";
/// The node with a reassignment that a tool asks for.
pub const REASSIGN_PATH: &str = "/admin/reassign_partitions";
/// The node with an election of preferred leaders that a tool asks for.
pub const PREFERRED_ELECTION_PATH: &str = "/admin/preferred_replica_election";

/// The mark on a topic that shall be deleted; it holds nothing.
pub fn delete_topic_path(topic: &str) -> String {
    format!("{DELETE_TOPICS_PATH}/{topic}")
}

#[derive(Serialize, Deserialize)]
struct Named {
    topic: String,
    partition: i32,
}

#[derive(Serialize, Deserialize)]
struct Reassigned {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    #[serde(default)]
    version: i32,
    partitions: Vec<T>,
}

/// The data of `/admin/preferred_replica_election`, which `/isr_change_notification` nodes share.
pub fn encode_partitions(partitions: &[TopicPartition]) -> Vec<u8> {
    let named = partitions.iter().map(|tp| Named { topic: tp.topic.to_string(), partition: tp.partition });
    to_json(&Versioned { version: 1, partitions: named.collect() })
}

/// Reads what [`encode_partitions`] writes.
pub fn decode_partitions(path: &str, data: &[u8]) -> Result<Vec<TopicPartition>, ZkError> {
    let read: Versioned<Named> = from_json(path, data)?;
    Ok(read.partitions.into_iter().map(|named| TopicPartition::new(named.topic, named.partition)).collect())
}

/// The data of `/admin/reassign_partitions`.
pub fn encode_reassignment(reassigned: &[(TopicPartition, Vec<BrokerId>)]) -> Vec<u8> {
    let partitions = reassigned.iter().map(|(tp, replicas)| Reassigned {
        topic: tp.topic.to_string(),
        partition: tp.partition,
        replicas: replicas.iter().map(|id| id.get()).collect(),
    });
    to_json(&Versioned { version: 1, partitions: partitions.collect() })
}

/// Reads `/admin/reassign_partitions`.
pub fn decode_reassignment(data: &[u8]) -> Result<Vec<(TopicPartition, Vec<BrokerId>)>, ZkError> {
    let read: Versioned<Reassigned> = from_json(REASSIGN_PATH, data)?;
    let one = |part: Reassigned| {
        (TopicPartition::new(part.topic, part.partition), part.replicas.into_iter().map(BrokerId).collect())
    };
    Ok(read.partitions.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        let tp = TopicPartition::new("t", 3);
        let named = encode_partitions(std::slice::from_ref(&tp));
        assert_eq!(named, br#"{"version":1,"partitions":[{"topic":"t","partition":3}]}"#);
        assert_eq!(decode_partitions("/x", &named).unwrap(), vec![tp.clone()]);
        let moved = vec![(tp, vec![BrokerId(1), BrokerId(2)])];
        let data = encode_reassignment(&moved);
        assert_eq!(data, br#"{"version":1,"partitions":[{"topic":"t","partition":3,"replicas":[1,2]}]}"#);
        assert_eq!(decode_reassignment(&data).unwrap(), moved);
    }
}
