//! `/brokers/topics/T`, a topic's replicas and id, and `/brokers/topics/T/partitions/P/state`, a partition's leader.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{corrupt, from_json, to_json};
use crate::base::ids::{
    BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, TopicId, topic_id_from_base64, topic_id_to_base64,
};
use crate::zk::error::ZkError;

/// The parent of all topics.
pub const PATH: &str = "/brokers/topics";

/// A topic's node.
pub fn path(topic: &str) -> String {
    format!("{PATH}/{topic}")
}

/// The parent of a topic's partitions.
pub fn partitions_path(topic: &str) -> String {
    format!("{PATH}/{topic}/partitions")
}

/// A partition's node; holds nothing but its state.
pub fn partition_path(topic: &str, partition: i32) -> String {
    format!("{PATH}/{topic}/partitions/{partition}")
}

/// The node with a partition's leader and ISR.
pub fn state_path(topic: &str, partition: i32) -> String {
    format!("{PATH}/{topic}/partitions/{partition}/state")
}

/// The topic whose node has that path, if it is one.
pub fn topic_of_path(path: &str) -> Option<&str> {
    path.strip_prefix("/brokers/topics/").filter(|topic| !topic.is_empty() && !topic.contains('/'))
}

/// A partition's replicas, first the preferred leader, and what a reassignment adds and removes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaAssignment {
    /// All replicas, those being added included.
    pub replicas: Vec<BrokerId>,
    /// Those that a reassignment adds.
    pub adding: Vec<BrokerId>,
    /// Those that a reassignment will remove.
    pub removing: Vec<BrokerId>,
}

impl ReplicaAssignment {
    /// An assignment with no reassignment under way.
    pub fn new(replicas: Vec<BrokerId>) -> Self {
        Self { replicas, adding: Vec::new(), removing: Vec::new() }
    }

    /// Whether a reassignment is under way.
    pub fn is_being_reassigned(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas before the reassignment (KIP-455).
    pub fn origin_replicas(&self) -> Vec<BrokerId> {
        self.replicas.iter().copied().filter(|replica| !self.adding.contains(replica)).collect()
    }

    /// The assignment on the way from the replicas before any reassignment to `target`
    /// (`ReplicaAssignment.reassignTo`).
    #[must_use]
    pub fn reassign_to(&self, target: &[BrokerId]) -> Self {
        let origin = self.origin_replicas();
        let mut replicas = Vec::with_capacity(target.len() + origin.len());
        for replica in target.iter().chain(&origin) {
            if !replicas.contains(replica) {
                replicas.push(*replica);
            }
        }
        let adding = replicas.iter().copied().filter(|replica| !origin.contains(replica)).collect();
        let removing = replicas.iter().copied().filter(|replica| !target.contains(replica)).collect();
        Self { replicas, adding, removing }
    }

    /// The replicas once the reassignment is done (KIP-455).
    pub fn target_replicas(&self) -> Vec<BrokerId> {
        self.replicas.iter().copied().filter(|replica| !self.removing.contains(replica)).collect()
    }
}

/// The data of a topic's node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicNode {
    /// The topic's id; nodes from before IBP 2.8 have none.
    pub topic_id: Option<TopicId>,
    /// The replicas of each partition.
    pub partitions: BTreeMap<i32, ReplicaAssignment>,
}

type Assignments = serde_json::Map<String, serde_json::Value>;

#[derive(Serialize, Deserialize)]
struct Data {
    partitions: Assignments,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
    #[serde(default)]
    adding_replicas: Assignments,
    #[serde(default)]
    removing_replicas: Assignments,
    #[serde(default)]
    version: i32,
}

impl TopicNode {
    /// The node's data: version 3 with a topic id, version 2 without.
    pub fn encode(&self) -> Vec<u8> {
        let pick = |part: fn(&ReplicaAssignment) -> &Vec<BrokerId>, always: bool| -> Assignments {
            let chosen = self.partitions.iter().filter(|(_, assignment)| always || !part(assignment).is_empty());
            chosen.map(|(number, assignment)| (number.to_string(), ids_to_json(part(assignment)))).collect()
        };
        to_json(&Data {
            partitions: pick(|a| &a.replicas, true),
            topic_id: self.topic_id.map(topic_id_to_base64),
            adding_replicas: pick(|a| &a.adding, false),
            removing_replicas: pick(|a| &a.removing, false),
            version: if self.topic_id.is_some() { 3 } else { 2 },
        })
    }

    /// Reads versions 1 to 3.
    pub fn decode(topic: &str, data: &[u8]) -> Result<Self, ZkError> {
        let read: Data = from_json(&path(topic), data)?;
        let bad = |what: &str| corrupt(&path(topic), what);
        let ids = |map: &Assignments, key: &str| map.get(key).map_or(Some(Vec::new()), ids_from_json);
        let mut partitions = BTreeMap::new();
        for key in read.partitions.keys() {
            let number = key.parse().map_err(|_| bad("a partition's number is no number"))?;
            let assignment = ReplicaAssignment {
                replicas: ids(&read.partitions, key).ok_or_else(|| bad("replicas are no list of ids"))?,
                adding: ids(&read.adding_replicas, key).ok_or_else(|| bad("adding_replicas is no list of ids"))?,
                removing: ids(&read.removing_replicas, key)
                    .ok_or_else(|| bad("removing_replicas is no list of ids"))?,
            };
            partitions.insert(number, assignment);
        }
        let topic_id = match read.topic_id {
            Some(text) => Some(topic_id_from_base64(&text).ok_or_else(|| bad("topic_id is no id"))?),
            None => None,
        };
        Ok(Self { topic_id, partitions })
    }
}

fn ids_to_json(ids: &[BrokerId]) -> serde_json::Value {
    ids.iter().map(|id| id.get()).collect::<Vec<_>>().into()
}

fn ids_from_json(list: &serde_json::Value) -> Option<Vec<BrokerId>> {
    let id = |value: &serde_json::Value| value.as_i64().and_then(|id| i32::try_from(id).ok()).map(BrokerId);
    list.as_array()?.iter().map(id).collect()
}

/// The leader of a partition and who is in sync with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAndIsr {
    /// The leader, or [`LeaderAndIsr::NO_LEADER`].
    pub leader: BrokerId,
    /// Counts the partition's leaders.
    pub leader_epoch: LeaderEpoch,
    /// The replicas in sync.
    pub isr: Vec<BrokerId>,
    /// 0: recovered; 1: the leader was elected uncleanly and is still recovering (KIP-704).
    pub leader_recovery_state: i8,
    /// The node's version; the wire's partition epoch.
    pub partition_epoch: i32,
}

impl LeaderAndIsr {
    /// No replica leads.
    pub const NO_LEADER: BrokerId = BrokerId(-1);
    /// In place of a leader while a topic is deleted (`LeaderAndIsr.LeaderDuringDelete`).
    pub const LEADER_DURING_DELETE: BrokerId = BrokerId(-2);

    /// The state of a partition that is created with these replicas alive.
    pub fn initial(leader: BrokerId, isr: Vec<BrokerId>) -> Self {
        Self { leader, leader_epoch: LeaderEpoch(0), isr, leader_recovery_state: 0, partition_epoch: 0 }
    }

    /// The same with another leader and ISR, and the next leader epoch. The partition epoch stays until it is written.
    #[must_use]
    pub fn new_leader_and_isr(&self, leader: BrokerId, isr: Vec<BrokerId>) -> Self {
        Self { leader, isr, leader_epoch: self.leader_epoch.next(), ..self.clone() }
    }
}

/// The data of a partition's state node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The leader and ISR; the partition epoch comes from the node's stat.
    pub leader_and_isr: LeaderAndIsr,
    /// The controller that wrote it, or under which a leader wrote it.
    pub controller_epoch: ControllerEpoch,
    /// For each of the ISR the life of its broker that the writer knew, [`BrokerEpoch::NONE`] if none. Only Barnabas
    /// writes it (`isr_broker_epochs`, which Kafka passes over); empty where Kafka wrote.
    pub isr_lives: Vec<BrokerEpoch>,
}

#[derive(Serialize, Deserialize)]
struct StateData {
    controller_epoch: i32,
    leader: i32,
    #[serde(default)]
    version: i32,
    leader_epoch: i32,
    isr: Vec<i32>,
    #[serde(default, skip_serializing_if = "is_recovered")]
    leader_recovery_state: i8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    isr_broker_epochs: Vec<i64>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_recovered(state: &i8) -> bool {
    *state == 0
}

impl PartitionState {
    /// The node's data.
    pub fn encode(&self) -> Vec<u8> {
        let state = &self.leader_and_isr;
        to_json(&StateData {
            controller_epoch: self.controller_epoch.get(),
            leader: state.leader.get(),
            version: 1,
            leader_epoch: state.leader_epoch.get(),
            isr: state.isr.iter().map(|id| id.get()).collect(),
            leader_recovery_state: state.leader_recovery_state,
            isr_broker_epochs: self.isr_lives.iter().map(|epoch| epoch.get()).collect(),
        })
    }

    /// Reads the node's data; `version` is that of its stat.
    pub fn decode(topic: &str, partition: i32, data: &[u8], version: i32) -> Result<Self, ZkError> {
        let read: StateData = serde_json::from_slice(data).map_err(|e| corrupt(&state_path(topic, partition), e))?;
        let leader_and_isr = LeaderAndIsr {
            leader: BrokerId(read.leader),
            leader_epoch: LeaderEpoch(read.leader_epoch),
            isr: read.isr.into_iter().map(BrokerId).collect(),
            leader_recovery_state: read.leader_recovery_state,
            partition_epoch: version,
        };
        let isr_lives = read.isr_broker_epochs.into_iter().map(BrokerEpoch).collect();
        Ok(Self { leader_and_isr, controller_epoch: ControllerEpoch(read.controller_epoch), isr_lives })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    #[test]
    fn a_topic_is_written_as_kafka_writes_it() {
        let seen = r#"{"partitions":{"0":[1,2]},"topic_id":"5sE70Q4ERBm5cytzUjvVRQ","adding_replicas":{},"removing_replicas":{},"version":3}"#;
        let node = TopicNode::decode("t", seen.as_bytes()).unwrap();
        assert_eq!(node.partitions[&0], ReplicaAssignment::new(ids(&[1, 2])));
        assert_eq!(String::from_utf8(node.encode()).unwrap(), seen);
    }

    #[test]
    fn a_reassignment_round_trips_and_old_versions_are_read() {
        let mut node = TopicNode::decode("t", br#"{"version":1,"partitions":{"1":[3],"0":[1,2,4]}}"#).unwrap();
        assert_eq!(node.topic_id, None);
        node.partitions.get_mut(&0).unwrap().adding = ids(&[4]);
        node.partitions.get_mut(&0).unwrap().removing = ids(&[1]);
        let text = String::from_utf8(node.encode()).unwrap();
        assert!(text.ends_with(r#""adding_replicas":{"0":[4]},"removing_replicas":{"0":[1]},"version":2}"#), "{text}");
        assert_eq!(TopicNode::decode("t", text.as_bytes()).unwrap(), node);
        assert_eq!(node.partitions[&0].target_replicas(), ids(&[2, 4]));
    }

    #[test]
    fn a_reassignment_goes_from_the_origin_to_the_target() {
        let first = ReplicaAssignment::new(ids(&[1, 2, 3])).reassign_to(&ids(&[4, 3, 2]));
        assert_eq!(first.replicas, ids(&[4, 3, 2, 1]));
        assert_eq!((first.adding.clone(), first.removing.clone()), (ids(&[4]), ids(&[1])));
        // Another target before the first is reached starts from the origin again.
        let second = first.reassign_to(&ids(&[5, 1]));
        assert_eq!((second.replicas, second.adding), (ids(&[5, 1, 3, 2]), ids(&[5])));
        let cancelled = first.reassign_to(&first.origin_replicas());
        assert!(!cancelled.is_being_reassigned());
        assert_eq!(cancelled.replicas, ids(&[3, 2, 1]));
    }

    #[test]
    fn a_state_is_written_as_kafka_writes_it() {
        let seen = r#"{"controller_epoch":1,"leader":0,"version":1,"leader_epoch":0,"isr":[0]}"#;
        let mut state = PartitionState::decode("t", 0, seen.as_bytes(), 4).unwrap();
        assert_eq!(state.leader_and_isr.partition_epoch, 4);
        assert_eq!(String::from_utf8(state.encode()).unwrap(), seen);
        state.leader_and_isr.leader_recovery_state = 1;
        assert!(String::from_utf8(state.encode()).unwrap().contains("\"leader_recovery_state\":1"));
        state.isr_lives = vec![BrokerEpoch(7)];
        assert!(String::from_utf8(state.encode()).unwrap().ends_with(r#","isr_broker_epochs":[7]}"#));
        assert_eq!(PartitionState::decode("t", 0, &state.encode(), 4).unwrap(), state);
        assert!(PartitionState::decode("t", 0, b"{}", 0).is_err());
    }

    #[test]
    fn topics_are_told_from_deeper_paths() {
        assert_eq!(topic_of_path(&path("a")), Some("a"));
        assert_eq!(topic_of_path(&partitions_path("a")), None);
        assert_eq!(topic_of_path(PATH), None);
    }
}
