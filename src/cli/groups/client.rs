//! What brokers tell of groups, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, ListOffsetsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::cli::cluster::{Cluster, refusal, topic_name};
use crate::cli::properties::Properties;
use crate::protocol::frame;

/// The timestamp that asks for the end of a partition.
pub const LATEST: i64 = -1;
/// The timestamp that asks for its beginning.
pub const EARLIEST: i64 = -2;

/// A group in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its id.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Which protocol it uses.
    pub kind: String,
}

/// A member of a group.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its `group.instance.id`.
    pub instance: Option<String>,
    /// Its address.
    pub host: String,
    /// Its client id.
    pub client: String,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

/// A group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Its id.
    pub name: String,
    /// Its state, `Dead` if there is no such group.
    pub state: String,
    /// The assignor its members agreed on.
    pub assignor: String,
    /// Its coordinator as `host:port` and broker id.
    pub coordinator: (String, i32),
    /// Its members.
    pub members: Vec<Member>,
}

/// A line of `--describe`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: Option<TopicPartition>,
    /// The committed offset.
    pub offset: Option<i64>,
    /// The end of the partition.
    pub end: Option<i64>,
    /// The member that reads it: id, host, client id.
    pub member: Option<(String, String, String)>,
}

/// A cluster, asked about groups.
pub struct Groups {
    cluster: Cluster,
}

fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

fn strings(words: &[&'static str]) -> Vec<StrBytes> {
    words.iter().map(|word| StrBytes::from_static_str(word)).collect()
}

fn by_topic<T>(items: impl IntoIterator<Item = (TopicPartition, T)>) -> BTreeMap<String, Vec<(i32, T)>> {
    let mut topics: BTreeMap<String, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, item) in items {
        topics.entry(partition.topic.to_string()).or_default().push((partition.partition, item));
    }
    topics
}

/// The partitions in a member's assignment (`ConsumerProtocol`); none if it is not of the consumer protocol.
fn assigned(bytes: Bytes) -> Vec<TopicPartition> {
    let Ok(assignment) = frame::decode_assignment(bytes) else { return Vec::new() };
    let topics = assignment.assigned_partitions.iter();
    let mut all: Vec<TopicPartition> = topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| TopicPartition::new(topic.topic.as_str(), *partition))
        })
        .collect();
    all.sort();
    all
}

impl Groups {
    /// Connects to a cluster.
    pub async fn connect(bootstrap: &str, properties: &Properties) -> anyhow::Result<Self> {
        Ok(Self { cluster: Cluster::connect(bootstrap, properties).await? })
    }

    /// The groups of all brokers, in order of their names; only those in `states` and of `types`, if any are named.
    pub async fn list(&mut self, states: &[&'static str], types: &[&'static str]) -> anyhow::Result<Vec<Listed>> {
        let mut found = BTreeSet::new();
        for id in self.cluster.broker_ids().await? {
            let build = |version| {
                let request = ListGroupsRequest::default();
                let request = if version >= 4 { request.with_states_filter(strings(states)) } else { request };
                if version >= 5 { request.with_types_filter(strings(types)) } else { request }
            };
            let answer = self.cluster.broker(id).await?.ask(build).await?;
            if let Some(error) = refusal(answer.error_code, None) {
                return Err(error);
            }
            let consumers =
                answer.groups.iter().filter(|group| matches!(group.protocol_type.as_str(), "consumer" | ""));
            found.extend(consumers.map(|group| Listed {
                name: group.group_id.to_string(),
                state: or_unknown(&group.group_state),
                kind: or_unknown(&group.group_type),
            }));
        }
        // A broker of an older version filters nothing.
        let wanted =
            |words: &[&str], word: &str| words.is_empty() || words.iter().any(|other| other.eq_ignore_ascii_case(word));
        Ok(found.into_iter().filter(|group| wanted(states, &group.state) && wanted(types, &group.kind)).collect())
    }

    /// One group.
    pub async fn describe(&mut self, name: &str) -> anyhow::Result<Group> {
        let (id, node) = self.cluster.coordinator(name).await?;
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(name)]);
        let answer = node.ask(|_| request).await?;
        let found = answer.groups.first().ok_or_else(|| anyhow!("the broker says nothing of group {name}"))?;
        if found.error_code != ErrorCode::GroupIdNotFound.code()
            && let Some(error) = refusal(found.error_code, None)
        {
            return Err(error);
        }
        let members = found.members.iter().map(|member| Member {
            id: member.member_id.to_string(),
            instance: member.group_instance_id.as_ref().map(StrBytes::to_string),
            host: member.client_host.to_string(),
            client: member.client_id.to_string(),
            partitions: assigned(member.member_assignment.clone()),
        });
        let state = if found.error_code == 0 { found.group_state.to_string() } else { "Dead".to_owned() };
        Ok(Group {
            name: name.to_owned(),
            state,
            assignor: found.protocol_data.to_string(),
            coordinator: (node.address.clone(), id),
            members: members.collect(),
        })
    }

    /// What the group has committed.
    pub async fn committed(&mut self, name: &str) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
        let (_, node) = self.cluster.coordinator(name).await?;
        let build = |version| {
            let request = OffsetFetchRequest::default();
            match version {
                0..=7 => request.with_group_id(group_id(name)).with_topics(None),
                _ => request.with_groups(vec![
                    OffsetFetchRequestGroup::default().with_group_id(group_id(name)).with_topics(None),
                ]),
            }
        };
        let answer = node.ask(build).await?;
        let mut all = BTreeMap::new();
        let mut add = |topic: &str, partition: i32, code: i16, offset: i64| match refusal(code, None) {
            Some(error) => Err(error),
            None if offset < 0 => Ok(()),
            None => {
                all.insert(TopicPartition::new(topic, partition), offset);
                Ok(())
            }
        };
        let mut codes = vec![answer.error_code];
        for topic in &answer.topics {
            for part in &topic.partitions {
                add(topic.name.as_str(), part.partition_index, part.error_code, part.committed_offset)?;
            }
        }
        for group in &answer.groups {
            codes.push(group.error_code);
            for topic in &group.topics {
                for part in &topic.partitions {
                    add(topic.name.as_str(), part.partition_index, part.error_code, part.committed_offset)?;
                }
            }
        }
        codes.into_iter().find_map(|code| refusal(code, None)).map_or(Ok(all), Err)
    }

    /// The partitions of `topics`.
    pub async fn partitions(&mut self, topics: &[String]) -> anyhow::Result<Vec<TopicPartition>> {
        let mut all = Vec::new();
        for topic in self.cluster.metadata(Some(topics)).await?.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            if let Some(error) = refusal(topic.error_code, None) {
                return Err(error.context(name));
            }
            all.extend(topic.partitions.iter().map(|part| TopicPartition::new(name.as_str(), part.partition_index)));
        }
        all.sort();
        Ok(all)
    }

    /// The offset of each partition at `timestamp`, or [`LATEST`] or [`EARLIEST`]; -1 where no record is that late.
    /// Partitions without a leader, or gone, are left out.
    pub async fn offsets(
        &mut self,
        partitions: &[TopicPartition],
        timestamp: i64,
    ) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
        let topics: BTreeSet<String> = partitions.iter().map(|partition| partition.topic.to_string()).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut leaders: BTreeMap<i32, Vec<(TopicPartition, i32)>> = BTreeMap::new();
        for topic in self.cluster.metadata(Some(&topics)).await?.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            for part in &topic.partitions {
                let partition = TopicPartition::new(name.as_str(), part.partition_index);
                if part.leader_id.0 >= 0 && partitions.contains(&partition) {
                    leaders.entry(part.leader_id.0).or_default().push((partition, part.leader_epoch));
                }
            }
        }
        let mut all = BTreeMap::new();
        for (leader, wanted) in leaders {
            let topics = by_topic(wanted).into_iter().map(|(topic, parts)| {
                let parts = parts.into_iter().map(|(index, _)| {
                    ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
                });
                ListOffsetsTopic::default().with_name(topic_name(&topic)).with_partitions(parts.collect())
            });
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
            let answer = self.cluster.broker(leader).await?.ask(|_| request).await?;
            for topic in &answer.topics {
                for part in &topic.partitions {
                    if let Some(error) = refusal(part.error_code, None) {
                        return Err(error.context(format!("{}-{}", topic.name.as_str(), part.partition_index)));
                    }
                    let offset = part.old_style_offsets.first().copied().unwrap_or(part.offset);
                    all.insert(TopicPartition::new(topic.name.as_str(), part.partition_index), offset);
                }
            }
        }
        Ok(all)
    }

    /// The lines of `--describe`: what members read, those with most partitions first, then what nobody reads.
    pub async fn rows(&mut self, group: &Group) -> anyhow::Result<Vec<Row>> {
        let committed = self.committed(&group.name).await?;
        let rows = rows(group, &committed);
        let partitions: Vec<TopicPartition> = rows.iter().filter_map(|row| row.partition.clone()).collect();
        let ends = self.offsets(&partitions, LATEST).await?;
        let with_end = |row: Row| Row { end: row.partition.as_ref().and_then(|tp| ends.get(tp).copied()), ..row };
        Ok(rows.into_iter().map(with_end).collect())
    }

    /// Commits offsets for a group without members.
    pub async fn commit(&mut self, name: &str, offsets: &BTreeMap<TopicPartition, i64>) -> anyhow::Result<()> {
        let (_, node) = self.cluster.coordinator(name).await?;
        let topics = by_topic(offsets.iter().map(|(partition, offset)| (partition.clone(), *offset)));
        let topics = topics.into_iter().map(|(topic, parts)| {
            let parts = parts.into_iter().map(|(index, offset)| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_committed_metadata(Some(StrBytes::default()))
            });
            OffsetCommitRequestTopic::default().with_name(topic_name(&topic)).with_partitions(parts.collect())
        });
        let request = OffsetCommitRequest::default().with_group_id(group_id(name)).with_topics(topics.collect());
        let answer = node.ask(|_| request).await?;
        let codes = answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(|part| part.error_code));
        codes.into_iter().find_map(|code| refusal(code, None)).map_or(Ok(()), Err)
    }

    /// Deletes a group.
    pub async fn delete(&mut self, name: &str) -> anyhow::Result<()> {
        let (_, node) = self.cluster.coordinator(name).await?;
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(name)]);
        let answer = node.ask(|_| request).await?;
        answer.results.iter().find_map(|result| refusal(result.error_code, None)).map_or(Ok(()), Err)
    }

    /// Deletes offsets of a group: the code for the whole, and one for each partition.
    pub async fn delete_offsets(
        &mut self,
        name: &str,
        partitions: Vec<TopicPartition>,
    ) -> anyhow::Result<(ErrorCode, BTreeMap<TopicPartition, ErrorCode>)> {
        let (_, node) = self.cluster.coordinator(name).await?;
        let topics = by_topic(partitions.into_iter().map(|partition| (partition, ())));
        let topics = topics.into_iter().map(|(topic, parts)| {
            let parts = parts
                .into_iter()
                .map(|(index, ())| OffsetDeleteRequestPartition::default().with_partition_index(index));
            OffsetDeleteRequestTopic::default().with_name(topic_name(&topic)).with_partitions(parts.collect())
        });
        let request = OffsetDeleteRequest::default().with_group_id(group_id(name)).with_topics(topics.collect());
        let answer = node.ask(|_| request).await?;
        let mut codes = BTreeMap::new();
        for topic in &answer.topics {
            for part in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), part.partition_index);
                codes.insert(partition, ErrorCode::from_code(part.error_code));
            }
        }
        Ok((ErrorCode::from_code(answer.error_code), codes))
    }
}

fn or_unknown(text: &StrBytes) -> String {
    if text.is_empty() { "Unknown".to_owned() } else { text.to_string() }
}

fn rows(group: &Group, committed: &BTreeMap<TopicPartition, i64>) -> Vec<Row> {
    let mut members: Vec<&Member> = group.members.iter().filter(|member| !member.partitions.is_empty()).collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.partitions.len()));
    let row = |partition: &TopicPartition, member: Option<&Member>| Row {
        group: group.name.clone(),
        partition: Some(partition.clone()),
        offset: committed.get(partition).copied(),
        end: None,
        member: member.map(|member| (member.id.clone(), member.host.clone(), member.client.clone())),
    };
    let mut all: Vec<Row> = Vec::new();
    let mut read = BTreeSet::new();
    for member in members {
        read.extend(member.partitions.iter());
        all.extend(member.partitions.iter().map(|partition| row(partition, Some(member))));
    }
    all.extend(committed.keys().filter(|partition| !read.contains(partition)).map(|partition| row(partition, None)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages::ConsumerProtocolAssignment;
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
    use kafka_protocol::protocol::Encodable;

    #[test]
    fn assignments_are_read() {
        let topic = Assigned::default().with_topic(topic_name("t")).with_partitions(vec![2, 0]);
        let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(vec![topic]);
        let mut bytes = BytesMut::from(&1i16.to_be_bytes()[..]);
        assignment.encode(&mut bytes, 1).expect("encoded");
        assert_eq!(assigned(bytes.freeze()), [TopicPartition::new("t", 0), TopicPartition::new("t", 2)]);
        assert!(assigned(Bytes::from_static(b"\0")).is_empty());
        assert!(assigned(Bytes::from_static(b"\0\x01junk")).is_empty());
    }

    #[test]
    fn what_members_read_comes_first() {
        let member = |id: &str, partitions: &[i32]| Member {
            id: id.to_owned(),
            partitions: partitions.iter().map(|p| TopicPartition::new("t", *p)).collect(),
            ..Member::default()
        };
        let members = vec![member("idle", &[]), member("one", &[2]), member("two", &[0, 1])];
        let group = Group { name: "g".into(), members, ..Group::default() };
        let committed = BTreeMap::from([(TopicPartition::new("t", 1), 5), (TopicPartition::new("u", 0), 7)]);
        let rows = rows(&group, &committed);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                (row.partition.as_ref().map(ToString::to_string), row.offset, row.member.as_ref().map(|m| m.0.as_str()))
            })
            .collect();
        assert_eq!(
            shown,
            [
                (Some("t-0".to_owned()), None, Some("two")),
                (Some("t-1".to_owned()), Some(5), Some("two")),
                (Some("t-2".to_owned()), None, Some("one")),
                (Some("u-0".to_owned()), Some(7), None),
            ]
        );
    }
}
