//! OffsetFetch (9), v0–9: what groups have committed; several groups in one request from v8 on (KIP-709).
//!
//! A partition without an offset is answered with -1 and no error. Version 0 reads what version 0 of OffsetCommit wrote,
//! which lives in ZooKeeper.

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::group_names::text;
use super::{Call, Context, zookeeper_offsets};
use crate::base::error::ErrorCode;
use crate::coordinator::group::offsets::{CommittedOffset, GroupOffsets};

/// The version whose offsets live in ZooKeeper.
const VERSION_IN_ZOOKEEPER: i16 = 0;
/// From this version on the group's own error has a place.
const FIRST_WITH_GROUP_ERROR: i16 = 2;
const FIRST_WITH_LEADER_EPOCH: i16 = 5;
const FIRST_WITH_GROUPS: i16 = 8;
/// No offset was committed.
const INVALID_OFFSET: i64 = -1;

/// One topic asked for, whatever the version.
pub(super) type Wanted<'a> = (&'a TopicName, &'a [i32]);
/// One topic answered, whatever the version.
pub(super) type Found = (TopicName, Vec<OffsetFetchResponsePartitions>);

/// Looks the offsets up.
pub async fn handle(ctx: &Context, call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let version = call.version();
    if version >= FIRST_WITH_GROUPS {
        let groups = request.groups.into_iter().map(|group| fetch_group(ctx, version, group, request.require_stable));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted: Option<Vec<Wanted<'_>>> = request
        .topics
        .as_ref()
        .map(|topics| topics.iter().map(|topic| (&topic.name, &topic.partition_indexes[..])).collect());
    let found = if version == VERSION_IN_ZOOKEEPER {
        Ok(fetch_from_zookeeper(ctx, &request.group_id, wanted.as_deref().unwrap_or_default()).await)
    } else {
        fetch(ctx, version, &request.group_id, wanted.as_deref(), request.require_stable)
    };
    answer_one_group(version, wanted.as_deref().unwrap_or_default(), found)
}

fn fetch_group(
    ctx: &Context,
    version: i16,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let wanted: Option<Vec<Wanted<'_>>> = group
        .topics
        .as_ref()
        .map(|topics| topics.iter().map(|topic| (&topic.name, &topic.partition_indexes[..])).collect());
    let found = fetch(ctx, version, &group.group_id, wanted.as_deref(), require_stable);
    let out = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    match found {
        Err(error) => out.with_error_code(error.code()),
        Ok(found) => {
            let topic =
                |(name, rows): Found| OffsetFetchResponseTopics::default().with_name(name).with_partitions(rows);
            out.with_topics(found.into_iter().map(topic).collect())
        }
    }
}

/// The answer before v8. Before v2 the group's error goes into every partition.
pub(super) fn answer_one_group(
    version: i16,
    wanted: &[Wanted<'_>],
    found: Result<Vec<Found>, ErrorCode>,
) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse::default();
    let found = match found {
        Ok(found) => found,
        Err(error) if version >= FIRST_WITH_GROUP_ERROR => return response.with_error_code(error.code()),
        Err(error) => wanted
            .iter()
            .map(|(name, partitions)| {
                ((*name).clone(), partitions.iter().map(|&p| none(p).with_error_code(error.code())).collect())
            })
            .collect(),
    };
    for (name, rows) in found {
        let row = |row: OffsetFetchResponsePartitions| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(row.partition_index)
                .with_committed_offset(row.committed_offset)
                .with_committed_leader_epoch(row.committed_leader_epoch)
                .with_metadata(row.metadata)
                .with_error_code(row.error_code)
        };
        let partitions = rows.into_iter().map(row).collect();
        response.topics.push(OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions));
    }
    response
}

fn fetch(
    ctx: &Context,
    version: i16,
    group_id: &GroupId,
    wanted: Option<&[Wanted<'_>]>,
    require_stable: bool,
) -> Result<Vec<Found>, ErrorCode> {
    ctx.groups.with_offsets(group_id, |offsets| match wanted {
        None => offsets.map(|offsets| everything(version, offsets, require_stable)).unwrap_or_default(),
        Some(wanted) => {
            let of_topic = |(name, partitions): &Wanted<'_>| {
                let rows = partitions.iter().map(|&p| look_up(version, offsets, name, p, require_stable));
                ((*name).clone(), rows.collect())
            };
            wanted.iter().map(of_topic).collect()
        }
    })
}

async fn fetch_from_zookeeper(ctx: &Context, group_id: &str, wanted: &[Wanted<'_>]) -> Vec<Found> {
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let mut found = Vec::new();
    for (name, partitions) in wanted {
        let mut rows = Vec::new();
        for &partition in *partitions {
            let offset = if snapshot.partition(name, partition).is_some() {
                zookeeper_offsets::fetch(ctx, group_id, name, partition).await
            } else {
                Err(ErrorCode::UnknownTopicOrPartition)
            };
            rows.push(match offset {
                Ok(offset) => none(partition).with_committed_offset(offset),
                Err(error) => none(partition).with_error_code(error.code()),
            });
        }
        found.push(((*name).clone(), rows));
    }
    found
}

fn everything(version: i16, offsets: &GroupOffsets, require_stable: bool) -> Vec<Found> {
    let of_topic = |(topic, rows): (&std::sync::Arc<str>, Vec<(i32, &CommittedOffset)>)| {
        let rows = rows.into_iter().map(|(p, committed)| {
            if require_stable && offsets.is_unstable(topic, p) { unstable(p) } else { found(version, p, committed) }
        });
        (TopicName(text(topic)), rows.collect())
    };
    offsets.by_topic().map(of_topic).collect()
}

fn look_up(
    version: i16,
    offsets: Option<&GroupOffsets>,
    topic: &str,
    partition: i32,
    require_stable: bool,
) -> OffsetFetchResponsePartitions {
    let Some(offsets) = offsets else { return none(partition) };
    if require_stable && offsets.is_unstable(topic, partition) {
        return unstable(partition);
    }
    offsets.get(topic, partition).map_or_else(|| none(partition), |committed| found(version, partition, committed))
}

fn none(partition: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default().with_partition_index(partition).with_committed_offset(INVALID_OFFSET)
}

fn unstable(partition: i32) -> OffsetFetchResponsePartitions {
    none(partition).with_error_code(ErrorCode::UnstableOffsetCommit.code())
}

fn found(version: i16, partition: i32, committed: &CommittedOffset) -> OffsetFetchResponsePartitions {
    let mut row = OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(committed.offset);
    if !committed.metadata.is_empty() {
        row.metadata = Some(StrBytes::from_string(committed.metadata.to_string()));
    }
    if version >= FIRST_WITH_LEADER_EPOCH {
        row.committed_leader_epoch = committed.leader_epoch;
    }
    row
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::protocol::Encodable;

    use super::*;

    fn offsets() -> GroupOffsets {
        let (mut offsets, topic) = (GroupOffsets::default(), Arc::from("t"));
        let committed = CommittedOffset {
            offset: 7,
            leader_epoch: 3,
            metadata: "note".into(),
            commit_timestamp: 0,
            expire_timestamp: None,
        };
        offsets.apply(&topic, 1, committed.clone(), 0);
        offsets.apply(&topic, 2, committed.clone(), 1);
        offsets.add_transactional(9, &topic, 2, committed, 2);
        offsets
    }

    #[test]
    fn offsets_are_found_or_told_to_be_none() {
        let offsets = offsets();
        let row = look_up(5, Some(&offsets), "t", 1, true);
        assert_eq!((row.committed_offset, row.committed_leader_epoch, row.error_code), (7, 3, 0));
        assert_eq!(row.metadata.as_deref(), Some("note"));
        assert_eq!(look_up(4, Some(&offsets), "t", 1, false).committed_leader_epoch, -1);
        for row in [look_up(5, Some(&offsets), "t", 5, true), look_up(5, None, "t", 1, true)] {
            assert_eq!((row.committed_offset, row.error_code, row.metadata.as_deref()), (-1, 0, Some("")));
        }
        let row = look_up(7, Some(&offsets), "t", 2, true);
        assert_eq!((row.committed_offset, row.error_code), (-1, ErrorCode::UnstableOffsetCommit.code()));
        assert_eq!(look_up(7, Some(&offsets), "t", 2, false).committed_offset, 7);
        assert_eq!(everything(7, &offsets, false)[0].1.len(), 2);
    }

    #[test]
    fn answers_fit_every_version_before_8() {
        let name = TopicName(text("t"));
        let wanted = [(&name, &[1, 2][..])];
        for version in 0..=7 {
            for found in [Ok(everything(version, &offsets(), true)), Err(ErrorCode::NotCoordinator)] {
                let failed = found.is_err();
                let response = answer_one_group(version, &wanted, found);
                let code = ErrorCode::NotCoordinator.code();
                assert_eq!(response.error_code == code, failed && version >= 2);
                let in_rows = response.topics.iter().any(|t| t.partitions.iter().any(|p| p.error_code == code));
                assert_eq!(in_rows, failed && version < 2);
                response.encode(&mut bytes::BytesMut::new(), version).expect("it can be encoded");
            }
        }
    }
}
