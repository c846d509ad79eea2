//! Checks what a user asks for and works out what will be written, without writing: new topics, more partitions.

use std::collections::BTreeMap;

use super::AdminError;
use super::assignment::{Assignment, Candidate, Start, assign};
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;
use crate::base::topic_names;
use crate::config::broker::BrokerConfig;
use crate::config::topic::TopicConfig;

/// A topic that a user wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the default, or with an assignment.
    pub partitions: i32,
    /// How many replicas of each; -1 for the default, or with an assignment.
    pub replication_factor: i16,
    /// The replicas of each partition, if the user chose them.
    pub assignment: Assignment,
    /// Configs that override the broker's.
    pub configs: BTreeMap<String, String>,
}

/// A topic as it will be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// The replicas of its partitions.
    pub assignment: Assignment,
    /// Its configs.
    pub configs: BTreeMap<String, String>,
}

/// What planning has to know of the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// The live brokers.
    pub brokers: &'a [Candidate],
    /// This broker's configuration, for the defaults.
    pub config: &'a BrokerConfig,
}

/// Plans a new topic. That no topic has the name is for the caller to see.
///
/// # Errors
/// `InvalidTopicException`, `InvalidPartitions`, `InvalidReplicationFactor`, `InvalidReplicaAssignment`,
/// `InvalidRequest`, `InvalidConfig`.
pub fn new_topic(topic: &NewTopic, cluster: Cluster<'_>, start: Start) -> Result<TopicPlan, AdminError> {
    check_name(&topic.name)?;
    check_configs(cluster.config, &topic.configs)?;
    let assignment = if topic.assignment.is_empty() {
        let partitions = if topic.partitions == -1 { cluster.config.num_partitions } else { topic.partitions };
        let factor = match topic.replication_factor {
            -1 => i16::try_from(cluster.config.default_replication_factor).unwrap_or(i16::MAX),
            factor => factor,
        };
        assign(cluster.brokers, 0, partitions, factor, start)?
    } else {
        if topic.partitions != -1 || topic.replication_factor != -1 {
            let message = "Both numPartitions or replicationFactor and replicasAssignments were set. \
                           Both cannot be used at the same time.";
            return Err(AdminError::new(ErrorCode::InvalidRequest, message));
        }
        check_assignment(&topic.assignment, 0, cluster.brokers)?;
        topic.assignment.clone()
    };
    Ok(TopicPlan { name: topic.name.clone(), assignment, configs: topic.configs.clone() })
}

/// Whether a topic may be called so.
///
/// # Errors
/// `InvalidTopicException`.
pub fn check_name(name: &str) -> Result<(), AdminError> {
    topic_names::validate(name).map_err(|why| AdminError::new(ErrorCode::InvalidTopicException, why))
}

/// Whether `name` differs from every existing topic by more than '.' and '_'.
///
/// # Errors
/// `InvalidTopicException`.
pub fn check_collisions<'a>(name: &str, mut existing: impl Iterator<Item = &'a str>) -> Result<(), AdminError> {
    match existing.find(|other| topic_names::collide(name, other)) {
        None => Ok(()),
        Some(other) => {
            let message = format!("Topic '{name}' collides with existing topics: {other}");
            Err(AdminError::new(ErrorCode::InvalidTopicException, message))
        }
    }
}

/// Whether a topic may have these configs.
///
/// # Errors
/// `InvalidConfig`.
pub fn check_configs(config: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<(), AdminError> {
    let checked = TopicConfig::validate(config, overrides);
    checked.map(drop).map_err(|error| AdminError::new(ErrorCode::InvalidConfig, error.to_string()))
}

/// Plans the partitions that raise a topic from `existing` to `total`. `chosen` holds the user's replicas for each new
/// partition in order, if the user chose them.
///
/// # Errors
/// `InvalidPartitions`, `InvalidReplicaAssignment`, `InvalidReplicationFactor`.
pub fn more_partitions(
    topic: &str,
    existing: &Assignment,
    total: i32,
    chosen: Option<&[Vec<BrokerId>]>,
    brokers: &[Candidate],
    start: Start,
) -> Result<Assignment, AdminError> {
    let has = i32::try_from(existing.len()).unwrap_or(i32::MAX);
    if total == has {
        let message = format!("Topic already has {has} partition(s).");
        return Err(AdminError::new(ErrorCode::InvalidPartitions, message));
    }
    if total < has {
        let message = format!("The topic {topic} currently has {has} partition(s); {total} would not be an increase.");
        return Err(AdminError::new(ErrorCode::InvalidPartitions, message));
    }
    let factor = existing.get(&0).map_or(0, Vec::len);
    let Some(chosen) = chosen else {
        let factor = i16::try_from(factor).unwrap_or(i16::MAX);
        return assign(brokers, has, total - has, factor, start);
    };
    if i32::try_from(chosen.len()).ok() != Some(total - has) {
        let message = format!(
            "Increasing the number of partitions by {} but {} assignments provided.",
            total - has,
            chosen.len()
        );
        return Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let added: Assignment = (has..).zip(chosen.iter().cloned()).collect();
    if let Some((partition, replicas)) = added.iter().find(|(_, replicas)| replicas.len() != factor) {
        let message =
            format!("partition {partition} was given {} replicas, but partition 0 has {factor}", replicas.len());
        return Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    check_assignment(&added, has, brokers)?;
    Ok(added)
}

/// Partitions `first..` without a gap, each with the same number of distinct, live brokers.
fn check_assignment(assignment: &Assignment, first: i32, brokers: &[Candidate]) -> Result<(), AdminError> {
    let refuse = |message: String| Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, message));
    if !assignment.keys().copied().eq((first..).take(assignment.len())) {
        return refuse(format!("partitions must be numbered from {first} on without a gap"));
    }
    let factor = assignment.values().next().map_or(0, Vec::len);
    for (partition, replicas) in assignment {
        if replicas.is_empty() {
            return refuse(format!("partition {partition} has no replicas"));
        }
        if replicas.len() != factor {
            return refuse("All partitions should have the same number of replicas.".to_owned());
        }
        let twice = replicas.iter().enumerate().find(|(at, id)| replicas[..*at].contains(id));
        if let Some((_, id)) = twice {
            return refuse(format!("partition {partition} names broker {id} twice"));
        }
        if let Some(id) = replicas.iter().find(|id| !brokers.iter().any(|broker| broker.id == **id)) {
            return refuse(format!("partition {partition} names broker {id}, which is not alive"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(count: i32) -> Vec<Candidate> {
        (0..count).map(|id| Candidate { id: BrokerId(id), rack: None }).collect()
    }

    fn wanted(name: &str) -> NewTopic {
        NewTopic { name: name.to_owned(), partitions: 2, replication_factor: 1, ..NewTopic::default() }
    }

    fn plan(topic: &NewTopic) -> Result<TopicPlan, AdminError> {
        let config = BrokerConfig::from_pairs([("num.partitions", "3")]).unwrap();
        let start = Start { leader: 0, shift: 0 };
        new_topic(topic, Cluster { brokers: &candidates(2), config: &config }, start)
    }

    fn replicas(lists: &[&[i32]]) -> Assignment {
        (0..).zip(lists.iter().map(|list| list.iter().copied().map(BrokerId).collect())).collect()
    }

    #[test]
    fn defaults_are_the_brokers() {
        let topic = NewTopic { partitions: -1, replication_factor: -1, ..wanted("a") };
        assert_eq!(plan(&topic).unwrap().assignment.len(), 3);
        assert_eq!(plan(&wanted("a")).unwrap().assignment, replicas(&[&[0], &[1]]));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        assert_eq!(plan(&wanted("a b")).unwrap_err().code, ErrorCode::InvalidTopicException);
        let many = NewTopic { replication_factor: 3, ..wanted("a") };
        assert_eq!(plan(&many).unwrap_err().code, ErrorCode::InvalidReplicationFactor);
        let odd = NewTopic { configs: BTreeMap::from([("retention.ms".into(), "x".into())]), ..wanted("a") };
        assert_eq!(plan(&odd).unwrap_err().code, ErrorCode::InvalidConfig);
        let both = NewTopic { assignment: replicas(&[&[0]]), ..wanted("a") };
        assert_eq!(plan(&both).unwrap_err().code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn chosen_replicas_are_checked() {
        let chosen = |assignment| NewTopic { partitions: -1, replication_factor: -1, assignment, ..wanted("a") };
        assert!(plan(&chosen(replicas(&[&[0, 1], &[1, 0]]))).is_ok());
        for bad in [replicas(&[&[0, 0]]), replicas(&[&[7]]), replicas(&[&[0], &[0, 1]]), replicas(&[&[]])] {
            assert_eq!(plan(&chosen(bad)).unwrap_err().code, ErrorCode::InvalidReplicaAssignment);
        }
        let gap = BTreeMap::from([(1, vec![BrokerId(0)])]);
        assert_eq!(plan(&chosen(gap)).unwrap_err().code, ErrorCode::InvalidReplicaAssignment);
    }

    #[test]
    fn partitions_only_grow() {
        let existing = replicas(&[&[0], &[1]]);
        let grow = |total, chosen: Option<&[Vec<BrokerId>]>| {
            more_partitions("t", &existing, total, chosen, &candidates(2), Start { leader: 0, shift: 0 })
        };
        assert_eq!(grow(4, None).unwrap().keys().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(grow(2, None).unwrap_err().code, ErrorCode::InvalidPartitions);
        assert_eq!(grow(1, None).unwrap_err().code, ErrorCode::InvalidPartitions);
        assert_eq!(grow(3, Some(&[vec![BrokerId(1)]])).unwrap(), BTreeMap::from([(2, vec![BrokerId(1)])]));
        assert_eq!(grow(4, Some(&[vec![BrokerId(1)]])).unwrap_err().code, ErrorCode::InvalidReplicaAssignment);
        let two = [vec![BrokerId(1), BrokerId(0)]];
        assert_eq!(grow(3, Some(&two)).unwrap_err().code, ErrorCode::InvalidReplicaAssignment);
    }

    #[test]
    fn collisions_are_found() {
        assert!(check_collisions("a.b", ["x", "a_b"].into_iter()).is_err());
        assert!(check_collisions("a.b", ["a.b", "ab"].into_iter()).is_ok());
    }
}
