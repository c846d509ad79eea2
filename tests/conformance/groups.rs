//! Groups and their offsets: every request in every version, and what is refused.

use std::time::{Duration, Instant};

use barnabas::base::error::ErrorCode;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;

use crate::harness::{Broker, ME, text, topic_name};

const OFFSETS: &str = "__consumer_offsets";

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code)
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

/// A broker that coordinates every group, with a topic `t` of two partitions.
async fn coordinator() -> Broker {
    let broker = Broker::with(&[("group.initial.rebalance.delay.ms", "0")]).await;
    broker.topic("t", 2).await;
    broker.topic(OFFSETS, 2).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !(0..2).all(|partition| broker.context.groups.is_served(partition)) {
        assert!(Instant::now() < deadline, "the offsets partitions are not loaded");
        tokio::task::yield_now().await;
    }
    broker
}

/// A subscription to `t`, version 0.
fn subscription() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff])
}

fn join(version: i16, id: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription());
    let mut request = JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_session_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 {
        request.rebalance_timeout_ms = 60_000;
    }
    if version >= 8 {
        request.reason = Some(text("because"));
    }
    request
}

/// Joins as a new member, with a second request where the version asks for one.
async fn join_new(broker: &Broker, version: i16, id: &str) -> JoinGroupResponse {
    let first = broker.call(version, &join(version, id, "")).await;
    if version < 4 {
        return first;
    }
    assert_eq!(code(first.error_code), ErrorCode::MemberIdRequired);
    assert!(first.member_id.starts_with("test-"), "it begins with the client's id: {}", first.member_id);
    broker.call(version, &join(version, id, &first.member_id)).await
}

fn sync(version: i16, id: &str, member: &str, generation: i32, assigned: &[&str]) -> SyncGroupRequest {
    let assignment = |member: &&str| {
        let bytes = Bytes::from(format!("for {member}"));
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(bytes)
    };
    let mut request = SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_assignments(assigned.iter().map(assignment).collect());
    if version >= 5 {
        request.protocol_type = Some(text("consumer"));
        request.protocol_name = Some(text("range"));
    }
    request
}

fn heartbeat(id: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group(id)).with_generation_id(generation).with_member_id(text(member))
}

fn leave(version: i16, id: &str, member: &str) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group(id));
    if version < 3 {
        return request.with_member_id(text(member));
    }
    let mut identity = MemberIdentity::default().with_member_id(text(member));
    if version >= 5 {
        identity.reason = Some(text("enough"));
    }
    request.with_members(vec![identity])
}

fn commit(version: i16, id: &str, member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    let mut partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    if version >= 6 {
        partition.committed_leader_epoch = 4;
    }
    let unknown = partition.clone().with_partition_index(9);
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![unknown, partition]);
    let mut request = OffsetCommitRequest::default().with_group_id(group(id)).with_topics(vec![topic]);
    if version >= 1 {
        request.generation_id_or_member_epoch = generation;
        request.member_id = text(member);
    }
    request
}

async fn commit_code(broker: &Broker, version: i16, request: &OffsetCommitRequest) -> ErrorCode {
    let partitions = broker.call(version, request).await.topics.remove(0).partitions;
    assert_eq!(code(partitions[0].error_code), ErrorCode::UnknownTopicOrPartition, "partition 9");
    code(partitions[1].error_code)
}

/// What version `version` of OffsetFetch says of partition `partition` of `t`: error, offset, leader epoch, note.
async fn fetch(broker: &Broker, version: i16, id: &str, partition: i32) -> (ErrorCode, i64, i32, String) {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        let topic =
            OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![partition]);
        request = request.with_group_id(group(id)).with_topics(Some(vec![topic]));
        let answer = broker.call(version, &request).await;
        if answer.error_code != 0 {
            return (code(answer.error_code), -1, -1, String::new());
        }
        let row = &answer.topics[0].partitions[0];
        let note = row.metadata.as_ref().expect("never null").to_string();
        return (code(row.error_code), row.committed_offset, row.committed_leader_epoch, note);
    }
    let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![partition]);
    let one = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(Some(vec![topic]));
    let all = OffsetFetchRequestGroup::default().with_group_id(group("nobody's")).with_topics(None);
    request.groups = vec![one, all];
    let answer = broker.call(version, &request).await;
    assert!(answer.groups[1].topics.is_empty());
    if answer.groups[0].error_code != 0 {
        return (code(answer.groups[0].error_code), -1, -1, String::new());
    }
    let row = &answer.groups[0].topics[0].partitions[0];
    let note = row.metadata.as_ref().expect("never null").to_string();
    (code(row.error_code), row.committed_offset, row.committed_leader_epoch, note)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_go_through_a_rebalance_in_every_version() {
    let broker = coordinator().await;
    for version in 0..=9 {
        let id = format!("g{version}");
        let (sync_version, other) = (version.min(5), version.min(4));
        let first = join_new(&broker, version, &id).await;
        assert_eq!((code(first.error_code), first.generation_id), (ErrorCode::None, 1));
        assert_eq!((first.leader.clone(), first.members.len()), (first.member_id.clone(), 1));
        let a = first.member_id.to_string();

        // The second's join waits for the first to join again.
        let (second, again) = tokio::join!(join_new(&broker, version, &id), async {
            let beat = heartbeat(&id, &a, 1);
            while code(broker.call(other, &beat).await.error_code) != ErrorCode::RebalanceInProgress {
                tokio::task::yield_now().await;
            }
            // It was let in, or holds an id and is waited for.
            broker.call(version, &join(version, &id, &a)).await
        });
        assert_eq!((again.generation_id, second.generation_id), (2, 2), "version {version}");
        assert_eq!((&*again.leader, again.members.len(), second.members.len()), (&*a, 2, 0));
        assert!(again.members.iter().all(|member| member.metadata == subscription()));
        assert_eq!(again.protocol_name.as_deref(), Some("range"));
        assert_eq!(again.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        let b = second.member_id.to_string();

        let (leads, follows) = (sync(sync_version, &id, &a, 2, &[&a, &b]), sync(sync_version, &id, &b, 2, &[]));
        let (follower, leader) = tokio::join!(broker.call(sync_version, &follows), broker.call(sync_version, &leads));
        assert_eq!((code(leader.error_code), code(follower.error_code)), (ErrorCode::None, ErrorCode::None));
        assert_eq!((leader.assignment, follower.assignment), (format!("for {a}").into(), format!("for {b}").into()));
        assert_eq!(leader.protocol_name.as_deref(), (sync_version >= 5).then_some("range"));

        assert_eq!(broker.call(other, &heartbeat(&id, &b, 2)).await.error_code, 0);
        let stale = broker.call(other, &heartbeat(&id, &b, 1)).await.error_code;
        assert_eq!(code(stale), ErrorCode::IllegalGeneration);

        let described =
            broker.call(sync_version, &DescribeGroupsRequest::default().with_groups(vec![group(&id)])).await;
        let described = &described.groups[0];
        assert_eq!((&*described.group_state, &*described.protocol_data), ("Stable", "range"));
        assert_eq!((described.members.len(), &*described.members[0].client_host), (2, "/127.0.0.1"));
        assert_eq!((&*described.members[0].client_id, described.members[0].member_metadata.len()), ("test", 13));

        let listed = broker.call(sync_version, &ListGroupsRequest::default()).await;
        let listed = listed.groups.iter().find(|listed| *listed.group_id == *id).expect("it is listed");
        assert_eq!(&*listed.protocol_type, "consumer");
        assert_eq!(&*listed.group_state, if sync_version >= 4 { "Stable" } else { "" });
        assert_eq!(&*listed.group_type, if sync_version >= 5 { "classic" } else { "" });

        for (member, gone) in [(&a, false), (&b, false), (&b, true)] {
            let answer = broker.call(sync_version, &leave(sync_version, &id, member)).await;
            let error = answer.members.first().map_or(answer.error_code, |member| member.error_code);
            assert_eq!(code(error), if gone { ErrorCode::UnknownMemberId } else { ErrorCode::None });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_committed_and_found_in_every_version() {
    let broker = coordinator().await;
    for version in 1..=9 {
        let offset = i64::from(version) * 10;
        let error = commit_code(&broker, version, &commit(version, "simple", "", -1, offset)).await;
        assert_eq!(error, ErrorCode::None, "version {version}");
        for fetching in 1..=9 {
            let epoch = if version >= 6 && fetching >= 5 { 4 } else { -1 };
            let found = fetch(&broker, fetching, "simple", 1).await;
            assert_eq!(found, (ErrorCode::None, offset, epoch, "note".to_owned()), "version {fetching}");
            let none = fetch(&broker, fetching, "simple", 0).await;
            assert_eq!(none, (ErrorCode::None, -1, -1, String::new()));
        }
    }
    // Version 0 has a place of its own.
    assert_eq!(fetch(&broker, 0, "simple", 1).await.0, ErrorCode::UnknownTopicOrPartition);
    for offset in [7, 8] {
        assert_eq!(commit_code(&broker, 0, &commit(0, "simple", "", -1, offset)).await, ErrorCode::None);
        assert_eq!(fetch(&broker, 0, "simple", 1).await, (ErrorCode::None, offset, -1, String::new()));
    }
    let node = broker.context.zk.get("/consumers/simple/offsets/t/1").await.expect("a node");
    assert_eq!(&*node.data, b"8");
    assert_eq!(fetch(&broker, 9, "simple", 1).await.1, 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_of_the_generation_commit() {
    let broker = coordinator().await;
    let joined = join_new(&broker, 9, "g").await;
    let id = joined.member_id.to_string();
    let error = async |generation, member: &str| commit_code(&broker, 9, &commit(9, "g", member, generation, 1)).await;
    assert_eq!(error(1, &id).await, ErrorCode::RebalanceInProgress);
    broker.call(5, &sync(5, "g", &id, 1, &[])).await;
    assert_eq!(error(1, &id).await, ErrorCode::None);
    assert_eq!(error(2, &id).await, ErrorCode::IllegalGeneration);
    assert_eq!(error(1, "stranger").await, ErrorCode::UnknownMemberId);
    assert_eq!(error(-1, "").await, ErrorCode::UnknownMemberId);
    let elsewhere = commit_code(&broker, 9, &commit(9, "h", &id, 1, 1)).await;
    assert_eq!(elsewhere, ErrorCode::IllegalGeneration);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_syncs_that_make_no_sense_are_refused() {
    let broker = coordinator().await;
    let mut request = join(9, "", "");
    assert_eq!(code(broker.call(9, &request).await.error_code), ErrorCode::InvalidGroupId);
    request = join(9, "g", "").with_session_timeout_ms(1);
    assert_eq!(code(broker.call(9, &request).await.error_code), ErrorCode::InvalidSessionTimeout);
    request = join(9, "g", "").with_protocols(Vec::new());
    assert_eq!(code(broker.call(9, &request).await.error_code), ErrorCode::InconsistentGroupProtocol);
    request = join(9, "g", "stranger");
    let answer = broker.call(9, &request).await;
    assert_eq!(code(answer.error_code), ErrorCode::UnknownMemberId);
    assert_eq!((answer.generation_id, &*answer.leader, answer.protocol_name), (-1, "", None));

    let joined = join_new(&broker, 9, "g").await;
    let unnamed = sync(4, "g", &joined.member_id, 1, &[]);
    assert_eq!(code(broker.call(5, &unnamed).await.error_code), ErrorCode::InconsistentGroupProtocol);
    let mut other = sync(5, "g", &joined.member_id, 1, &[]);
    other.protocol_name = Some(text("sticky"));
    assert_eq!(code(broker.call(5, &other).await.error_code), ErrorCode::InconsistentGroupProtocol);
    let nobody = broker.call(5, &sync(5, "h", "m", 1, &[])).await;
    assert_eq!(code(nobody.error_code), ErrorCode::UnknownMemberId);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_members_come_back_without_a_rebalance() {
    let broker = coordinator().await;
    for (version, skips) in [(5, false), (9, true)] {
        let id = format!("g{version}");
        let request = join(version, &id, "").with_group_instance_id(Some(text("i")));
        let first = broker.call(version, &request).await;
        assert_eq!(code(first.error_code), ErrorCode::None);
        assert!(first.member_id.starts_with("i-"));
        assert_eq!(first.members[0].group_instance_id.as_deref(), Some("i"));
        broker.call(5, &sync(5, &id, &first.member_id, 1, &[&first.member_id])).await;
        let back = broker.call(version, &request).await;
        assert_eq!((code(back.error_code), back.generation_id), (ErrorCode::None, 1));
        assert_ne!(back.member_id, first.member_id);
        assert_eq!((back.skip_assignment, back.members.len()), (skips, usize::from(skips)));
        assert_eq!(back.leader, if skips { back.member_id.clone() } else { first.member_id.clone() });
        let former = heartbeat(&id, &first.member_id, 1).with_group_instance_id(Some(text("i")));
        assert_eq!(code(broker.call(3, &former).await.error_code), ErrorCode::FencedInstanceId);
        let kept = broker.call(5, &sync(5, &id, &back.member_id, 1, &[])).await;
        assert_eq!(kept.assignment, Bytes::from(format!("for {}", first.member_id)));
        let identity = MemberIdentity::default().with_group_instance_id(Some(text("i")));
        let request = LeaveGroupRequest::default().with_group_id(group(&id)).with_members(vec![identity]);
        assert_eq!(broker.call(5, &request).await.members[0].error_code, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_and_offsets_are_deleted() {
    let broker = coordinator().await;
    let joined = join_new(&broker, 9, "g").await;
    broker.call(5, &sync(5, "g", &joined.member_id, 1, &[])).await;
    assert_eq!(commit_code(&broker, 9, &commit(9, "g", &joined.member_id, 1, 5)).await, ErrorCode::None);
    let delete_offsets = async || {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition(9), partition(1)]);
        let request = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![topic]);
        let answer = broker.call(0, &request).await;
        let codes = answer.topics.first().map(|t| t.partitions.iter().map(|p| code(p.error_code)).collect::<Vec<_>>());
        (code(answer.error_code), codes.unwrap_or_default())
    };
    let delete = async |version| {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
        code(broker.call(version, &request).await.results[0].error_code)
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(delete_offsets().await, (ErrorCode::None, vec![unknown, ErrorCode::GroupSubscribedToTopic]));
    assert_eq!(delete(2).await, ErrorCode::NonEmptyGroup);
    broker.call(5, &leave(5, "g", &joined.member_id)).await;
    assert_eq!(fetch(&broker, 9, "g", 1).await.1, 5);
    assert_eq!(delete_offsets().await, (ErrorCode::None, vec![unknown, ErrorCode::None]));
    assert_eq!(fetch(&broker, 9, "g", 1).await.1, -1);
    // A group without members goes with its last offset.
    assert_eq!(delete_offsets().await, (ErrorCode::GroupIdNotFound, Vec::new()));
    for version in 0..=2 {
        assert_eq!(delete(version).await, ErrorCode::GroupIdNotFound);
        assert_eq!(commit_code(&broker, 9, &commit(9, "g", "", -1, 5)).await, ErrorCode::None);
        assert_eq!(delete(version).await, ErrorCode::None);
        assert_eq!(fetch(&broker, 9, "g", 1).await.1, -1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_filtered_and_descriptions_tell_what_may_be_done() {
    let broker = coordinator().await;
    join_new(&broker, 9, "joined").await;
    commit_code(&broker, 9, &commit(9, "simple", "", -1, 1)).await;
    let list = async |states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| text(name)).collect::<Vec<_>>();
        let request = ListGroupsRequest::default().with_states_filter(names(states)).with_types_filter(names(types));
        let answer = broker.call(5, &request).await;
        let mut ids: Vec<String> = answer.groups.iter().map(|group| group.group_id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(list(&[], &[]).await, ["joined", "simple"]);
    assert_eq!(list(&["empty"], &["Classic"]).await, ["simple"]);
    assert_eq!(list(&["CompletingRebalance", "Stable"], &[]).await, ["joined"]);
    assert!(list(&[], &["consumer"]).await.is_empty());
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![group("joined"), group("none")])
        .with_include_authorized_operations(true);
    let answer = broker.call(5, &request).await;
    assert_eq!(&*answer.groups[0].group_state, "CompletingRebalance");
    assert_eq!((&*answer.groups[0].protocol_data, answer.groups[0].members[0].member_metadata.len()), ("", 0));
    assert_eq!((&*answer.groups[1].group_state, answer.groups[1].error_code), ("Dead", 0));
    assert!(answer.groups.iter().all(|group| group.authorized_operations == 3400));
    let next = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("joined")]);
    let refused = broker.call(0, &next).await.groups[0].error_code;
    assert_eq!(code(refused), ErrorCode::UnsupportedVersion);
    let refused = broker.call(0, &ConsumerGroupHeartbeatRequest::default()).await.error_code;
    assert_eq!(code(refused), ErrorCode::UnsupportedVersion);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_are_found_in_every_version() {
    let broker = Broker::start().await;
    broker.topic("t", 1).await;
    let ask = async |version, key_type| {
        let request = FindCoordinatorRequest::default();
        if version < 4 {
            let mut request = request.with_key(text("g"));
            if version > 0 {
                request.key_type = key_type;
            }
            let answer = broker.call(version, &request).await;
            return (code(answer.error_code), answer.node_id.0, answer.host.to_string(), answer.port);
        }
        let request = request.with_key_type(key_type).with_coordinator_keys(vec![text("g"), text("h")]);
        let answer = broker.call(version, &request).await;
        assert_eq!(answer.coordinators.iter().map(|found| &*found.key).collect::<Vec<_>>(), ["g", "h"]);
        let found = &answer.coordinators[0];
        (code(found.error_code), found.node_id.0, found.host.to_string(), found.port)
    };
    for version in 0..=6 {
        assert_eq!(ask(version, 0).await, (ErrorCode::CoordinatorNotAvailable, -1, String::new(), -1));
    }
    broker.topic(OFFSETS, 3).await;
    for version in 0..=6 {
        assert_eq!(ask(version, 0).await, (ErrorCode::None, ME, "localhost".to_owned(), 9093), "version {version}");
    }
    assert_eq!(ask(6, 2).await.0, ErrorCode::InvalidRequest);
    broker.topic_led_by(OFFSETS, 3, 2, 1).await;
    assert_eq!(ask(6, 0).await, (ErrorCode::None, 2, "localhost".to_owned(), 9094));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_partition_sends_clients_away_and_has_forgotten_nothing_when_it_is_back() {
    let broker = coordinator().await;
    assert_eq!(commit_code(&broker, 9, &commit(9, "g", "", -1, 5)).await, ErrorCode::None);
    let joined = join_new(&broker, 9, "members").await;
    let id = joined.member_id.to_string();
    broker.call(5, &sync(5, "members", &id, 1, &[&id])).await;
    broker.topic_led_by(OFFSETS, 2, 2, 1).await;
    assert_eq!(commit_code(&broker, 9, &commit(9, "g", "", -1, 6)).await, ErrorCode::NotCoordinator);
    for version in 2..=9 {
        assert_eq!(fetch(&broker, version, "g", 1).await.0, ErrorCode::NotCoordinator);
    }
    assert_eq!(fetch(&broker, 1, "g", 1).await.0, ErrorCode::NotCoordinator);
    let error = broker.call(4, &heartbeat("members", &id, 1)).await.error_code;
    assert_eq!(code(error), ErrorCode::NotCoordinator);
    let request = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    let described = broker.call(5, &request.with_include_authorized_operations(true)).await;
    assert_eq!(code(described.groups[0].error_code), ErrorCode::NotCoordinator);
    assert_eq!(described.groups[0].authorized_operations, i32::MIN, "who knows nothing of it says nothing");

    broker.topic_led_by(OFFSETS, 2, ME, 2).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !(0..2).all(|partition| broker.context.groups.is_served(partition)) {
        assert!(Instant::now() < deadline, "the offsets partitions are not loaded");
        tokio::task::yield_now().await;
    }
    assert_eq!(fetch(&broker, 9, "g", 1).await.1, 5);
    assert_eq!(broker.call(4, &heartbeat("members", &id, 1)).await.error_code, 0);
    let kept = broker.call(5, &sync(5, "members", &id, 1, &[])).await;
    assert_eq!(kept.assignment, Bytes::from(format!("for {id}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_group_of_a_batch_has_its_own_error() {
    let broker = coordinator().await;
    let names: Vec<String> = (0..20).map(|number| format!("g{number}")).collect();
    for name in &names {
        assert_eq!(commit_code(&broker, 9, &commit(9, name, "", -1, 5)).await, ErrorCode::None);
    }
    // Another broker leads the first of the two partitions now.
    broker.topic_led_by(OFFSETS, 1, 2, 1).await;
    let is_here = |name: &&String| broker.context.groups.partition_for(name) == 1;
    let (here, gone): (Vec<&String>, Vec<&String>) = names.iter().partition(is_here);
    assert!(!here.is_empty() && !gone.is_empty());
    for version in [8, 9] {
        for all in [false, true] {
            let topic =
                OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![1, 7]);
            let wanted = (!all).then(|| vec![topic]);
            let one = |name: &String| {
                OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(wanted.clone())
            };
            let request = OffsetFetchRequest::default().with_groups(names.iter().map(one).collect());
            let answer = broker.call(version, &request).await;
            assert_eq!(answer.groups.len(), names.len());
            for (name, found) in names.iter().zip(&answer.groups) {
                assert_eq!(*found.group_id, **name);
                if gone.contains(&name) {
                    assert_eq!((code(found.error_code), found.topics.len()), (ErrorCode::NotCoordinator, 0));
                    continue;
                }
                assert_eq!((found.error_code, found.topics.len()), (0, 1));
                let rows = &found.topics[0].partitions;
                let offsets: Vec<i64> = rows.iter().map(|row| row.committed_offset).collect();
                assert_eq!(offsets, if all { vec![5] } else { vec![5, -1] });
                assert!(rows.iter().all(|row| row.error_code == 0));
            }
        }
    }
}

/// Old consumers commit without a group's name; whatever takes members needs one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_empty_group_id_holds_offsets_and_nothing_else() {
    let broker = coordinator().await;
    assert_eq!(commit_code(&broker, 9, &commit(9, "", "", -1, 5)).await, ErrorCode::None);
    assert_eq!(fetch(&broker, 9, "", 1).await.1, 5);
    let described = broker.call(5, &DescribeGroupsRequest::default().with_groups(vec![group("")])).await;
    assert_eq!((&*described.groups[0].group_state, described.groups[0].error_code), ("Empty", 0));
    let invalid = ErrorCode::InvalidGroupId;
    assert_eq!(code(broker.call(9, &join(9, "", "")).await.error_code), invalid);
    assert_eq!(code(broker.call(5, &sync(5, "", "m", 1, &[])).await.error_code), invalid);
    assert_eq!(code(broker.call(4, &heartbeat("", "m", 1)).await.error_code), invalid);
    assert_eq!(code(broker.call(5, &leave(5, "", "m")).await.error_code), invalid);
    assert_eq!(code(broker.call(0, &OffsetDeleteRequest::default()).await.error_code), invalid);
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group("")]);
    assert_eq!(broker.call(2, &request).await.results[0].error_code, 0);
    assert_eq!(fetch(&broker, 9, "", 1).await.1, -1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_for_nothing_that_exists_makes_no_group() {
    let broker = coordinator().await;
    for version in 1..=9 {
        let mut request = commit(version, "g", "", -1, 5);
        request.topics[0].partitions.truncate(1);
        let answer = broker.call(version, &request).await;
        assert_eq!(code(answer.topics[0].partitions[0].error_code), ErrorCode::UnknownTopicOrPartition);
        let nothing = OffsetCommitRequest::default().with_group_id(group("g"));
        assert!(broker.call(version, &nothing).await.topics.is_empty());
    }
    assert!(broker.call(5, &ListGroupsRequest::default()).await.groups.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_members_leave_with_one_request() {
    let broker = coordinator().await;
    let request = join(9, "g", "").with_group_instance_id(Some(text("i")));
    let leader = broker.call(9, &request).await;
    broker.call(5, &sync(5, "g", &leader.member_id, 1, &[])).await;
    for version in 0..=5 {
        let described = broker.call(version, &DescribeGroupsRequest::default().with_groups(vec![group("g")])).await;
        let instance = described.groups[0].members[0].group_instance_id.as_deref();
        assert_eq!(instance, (version >= 4).then_some("i"), "version {version}");
    }
    // An id was given out for one that has yet to join.
    let pending = broker.call(9, &join(9, "g", "")).await;
    assert_eq!(code(pending.error_code), ErrorCode::MemberIdRequired);
    let member = |id: &str, instance: Option<&str>| {
        let reason = Some(text("so that's it"));
        let identity = MemberIdentity::default().with_member_id(text(id)).with_reason(reason);
        identity.with_group_instance_id(instance.map(text))
    };
    let members = vec![
        member("stranger", None),
        member("stranger", Some("i")),
        member("", Some("j")),
        member(&pending.member_id, None),
        member("", Some("i")),
        member("", Some("i")),
    ];
    let request = LeaveGroupRequest::default().with_group_id(group("g")).with_members(members);
    let answer = broker.call(5, &request).await;
    let codes: Vec<ErrorCode> = answer.members.iter().map(|member| code(member.error_code)).collect();
    let unknown = ErrorCode::UnknownMemberId;
    let expected = [unknown, ErrorCode::FencedInstanceId, unknown, ErrorCode::None, ErrorCode::None, unknown];
    assert_eq!((answer.error_code, &codes[..]), (0, &expected[..]));
    assert_eq!(answer.members[4].group_instance_id.as_deref(), Some("i"));
    let described = broker.call(5, &DescribeGroupsRequest::default().with_groups(vec![group("g")])).await;
    assert_eq!((&*described.groups[0].group_state, described.groups[0].members.len()), ("Empty", 0));
}
