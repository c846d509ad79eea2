//! The group protocol: members that come, agree, commit and go, and those that are refused.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;

use super::*;

fn join(name: &str, member: &str, protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols.iter().map(|protocol| {
        JoinGroupRequestProtocol::default()
            .with_name(text(protocol))
            .with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"))
    });
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(20_000)
        .with_rebalance_timeout_ms(20_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

/// Coordinators answer once they have loaded their partition.
fn wait_for_coordinator(side: &mut Side) {
    let find = FindCoordinatorRequest::default().with_key(text("any"));
    wait_for("a coordinator of groups", PATIENCE, || {
        let found = side.ask(1, &find).is_ok_and(|answer| answer.error_code == 0);
        let beat = HeartbeatRequest::default().with_group_id(group("any")).with_member_id(text("x"));
        (found && side.ask(0, &beat).is_ok_and(|answer| answer.error_code == 25)).then_some(())
    });
}

#[test]
fn groups() {
    let mut pair = Pair::start();
    pair.create("t", 2);
    pair.each(wait_for_coordinator);
    // Every partition of the offsets topic has loaded once these names, which spread over them, have been seen.
    pair.each(|side| {
        for index in 0..40 {
            let name = format!("spread-{index}");
            wait_for("loaded groups", PATIENCE, || {
                let beat = HeartbeatRequest::default().with_group_id(group(&name)).with_member_id(text("x"));
                side.ask(0, &beat).is_ok_and(|answer| answer.error_code == 25).then_some(())
            });
        }
    });
    for version in 0..=6 {
        let mut request = FindCoordinatorRequest::default();
        match version {
            0..=3 => request.key = text("g"),
            _ => request.coordinator_keys = vec![text("g"), text("h")],
        }
        pair.same("FindCoordinator", version, &request, as_is);
        if version >= 1 {
            pair.same("FindCoordinator of kind 9", version, &request.with_key_type(9), as_is);
        }
    }
    for version in 0..=9 {
        refused_joins(&mut pair, version);
        let name = format!("life-{version}");
        life_of_a_group(&mut pair, &name, version);
    }
    pair.done("groups");
}

fn refused_joins(pair: &mut Pair, version: i16) {
    for (what, request) in [
        ("without a group", join("", "", &["range"])),
        ("with a short session", join("g", "", &["range"]).with_session_timeout_ms(1)),
        ("with a long session", join("g", "", &["range"]).with_session_timeout_ms(i32::MAX)),
        ("of an unknown member", join("g", "nobody", &["range"])),
        ("without protocols", join("g", "", &[])),
        ("without a protocol type", join("g", "", &["range"]).with_protocol_type(text(""))),
    ] {
        pair.same(&format!("JoinGroup {what}"), version, &request, as_is);
    }
}

/// One member joins, syncs, commits, is described and leaves; each step right and wrong.
fn life_of_a_group(pair: &mut Pair, name: &str, join_version: i16) {
    // Other requests in versions as old as the JoinGroup, as far as they have them.
    let at = |max: i16| join_version.min(max);
    let mut members = Vec::new();
    for side in [&mut pair.ours, &mut pair.original] {
        let mut answer = side.ask(join_version, &join(name, "", &["range", "roundrobin"])).expect("an answer");
        if answer.error_code == 79 {
            answer =
                side.ask(join_version, &join(name, &answer.member_id, &["range", "roundrobin"])).expect("an answer");
        }
        assert_eq!(answer.error_code, 0, "JoinGroup v{join_version}");
        assert_eq!((answer.generation_id, answer.members.len()), (1, 1));
        side.blank.push((answer.member_id.to_string(), "MEMBER"));
        members.push(answer.member_id.to_string());
    }
    let me = |side: usize| text(&members[side]);
    pair.differ("DescribeGroups before SyncGroup", at(5), |_| describe(name), as_is);
    let sync = |side: usize, generation: i32| {
        let assignment =
            SyncGroupRequestAssignment::default().with_member_id(me(side)).with_assignment(Bytes::from_static(b"mine"));
        SyncGroupRequest::default()
            .with_group_id(group(name))
            .with_generation_id(generation)
            .with_member_id(me(side))
            .with_assignments(vec![assignment])
    };
    pair.differ("SyncGroup of another generation", at(5), |side| sync(side, 9), as_is);
    pair.differ("SyncGroup of nobody", at(5), |side| sync(side, 1).with_member_id(text("nobody")), as_is);
    let named = |side: usize| match at(5) {
        5 => sync(side, 1).with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
        _ => sync(side, 1),
    };
    pair.differ("SyncGroup", at(5), named, as_is);
    let beat = |side: usize, generation| {
        HeartbeatRequest::default().with_group_id(group(name)).with_generation_id(generation).with_member_id(me(side))
    };
    pair.differ("Heartbeat", at(4), |side| beat(side, 1), as_is);
    pair.differ("Heartbeat of another generation", at(4), |side| beat(side, 2), as_is);
    pair.differ("Heartbeat of nobody", at(4), |side| beat(side, 1).with_member_id(text("nobody")), as_is);
    pair.differ("Heartbeat without a group", at(4), |side| beat(side, 1).with_group_id(group("")), as_is);
    pair.differ("DescribeGroups", at(5), |_| describe(name), as_is);
    pair.differ("DescribeGroups of nobody", at(5), |_| describe("nobody"), as_is);

    let commit = |side: usize, generation: i32, topic: &str, partition: i32, metadata: &str| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(5)
            .with_committed_metadata(Some(text(metadata)));
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(me(side))
            .with_topics(vec![topic])
    };
    // Version 0 keeps offsets in ZooKeeper.
    for (what, generation, topic, partition, metadata) in [
        ("", 1, "t", 0, "note"),
        ("of another generation", 4, "t", 0, "note"),
        ("for nobody's topic", 1, "nobody", 0, "note"),
        ("for no partition", 1, "t", 77, "note"),
        ("with long metadata", 1, "t", 0, "m".repeat(5_000).as_str()),
    ] {
        let version = at(9).max(1);
        let what = format!("OffsetCommit {what}");
        pair.differ(&what, version, |side| commit(side, generation, topic, partition, metadata), as_is);
    }
    let unknown = |side: usize| commit(side, 1, "t", 0, "").with_member_id(text("nobody"));
    pair.differ("OffsetCommit of nobody", at(9).max(1), unknown, as_is);
    let fetch_version = at(9).max(1);
    for partitions in [vec![0], vec![0, 1], vec![77]] {
        pair.differ(
            &format!("OffsetFetch of {partitions:?}"),
            fetch_version,
            |_| offset_fetch(fetch_version, name, &partitions),
            as_is,
        );
    }
    pair.differ("OffsetFetch of nobody", fetch_version, |_| offset_fetch(fetch_version, "nobody", &[0]), as_is);
    if fetch_version >= 2 {
        let all = |_: usize| match fetch_version {
            8.. => OffsetFetchRequest::default()
                .with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(None)]),
            _ => OffsetFetchRequest::default().with_group_id(group(name)).with_topics(None),
        };
        pair.differ("OffsetFetch of all", fetch_version, all, as_is);
    }
    let mine = |answer: &mut ListGroupsResponse| answer.groups.retain(|group| &*group.group_id.0 == name);
    pair.differ("ListGroups", at(5), |_| ListGroupsRequest::default(), mine);
    if at(5) >= 4 {
        for states in [&["Stable"][..], &["stable"], &["Empty", "Dead"], &["Nonsense"]] {
            let states: Vec<StrBytes> = states.iter().map(|state| text(state)).collect();
            let request = |_: usize| ListGroupsRequest::default().with_states_filter(states.clone());
            pair.differ("ListGroups by state", at(5), request, mine);
        }
    }
    let other = join(name, "", &["sticky"]);
    pair.differ("JoinGroup with other protocols", at(3), |_| other.clone_by_hand(3), as_is);
    let other = join(name, "", &["range"]).with_protocol_type(text("connect"));
    pair.differ("JoinGroup with another protocol type", at(3), |_| other.clone_by_hand(3), as_is);

    let leave = |who: StrBytes| match at(5) {
        0..=2 => LeaveGroupRequest::default().with_group_id(group(name)).with_member_id(who),
        _ => LeaveGroupRequest::default()
            .with_group_id(group(name))
            .with_members(vec![MemberIdentity::default().with_member_id(who)]),
    };
    pair.differ("LeaveGroup of nobody", at(5), |_| leave(text("nobody")), as_is);
    pair.differ("LeaveGroup", at(5), |side| leave(me(side)), as_is);
    pair.differ("DescribeGroups of an empty one", at(5), |_| describe(name), as_is);
    pair.differ("LeaveGroup again", at(5), |side| leave(me(side)), as_is);
}

fn describe(name: &str) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(vec![group(name)])
}

fn offset_fetch(version: i16, name: &str, partitions: &[i32]) -> OffsetFetchRequest {
    if version >= 8 {
        let topic =
            OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(partitions.to_vec());
        let one = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(Some(vec![topic]));
        return OffsetFetchRequest::default().with_groups(vec![one]);
    }
    let topic =
        OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(partitions.to_vec());
    OffsetFetchRequest::default().with_group_id(group(name)).with_topics(Some(vec![topic]))
}
