//! Groups whose coordinator dies again and again, or moves between Kafka's broker and ours: no commit that was acknowledged
//! is lost, and the members stay members of their generation, with the assignment they had.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::support::broker::Kind;
use crate::support::brokers::Brokers;
use crate::support::wire::{Wire, topic_name};
use crate::support::{PATIENCE, jvm, long, wait_for};

const OFFSETS: &str = "__consumer_offsets";
const TOPIC: &str = "t";
/// What a client tries again for: not enough replicas, timed out, loading, not available, not the coordinator.
const AGAIN: [i16; 5] = [7, 14, 15, 16, 19];
/// Longer than any failover may take.
const SESSION_MS: i32 = 120_000;
const GROUPS: usize = 4;
/// How far every group must get after each event.
const PROGRESS: i64 = 20;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A group of one static member that commits one offset after the other.
struct Member {
    group: GroupId,
    id: StrBytes,
    /// The last offset that was sent, and the last whose commit was acknowledged.
    sent: AtomicI64,
    acknowledged: AtomicI64,
}

/// A connection to the group's coordinator, whom any broker that runs names.
fn coordinator(addresses: &[String], group: &GroupId) -> io::Result<Wire> {
    let request = FindCoordinatorRequest::default().with_key_type(0).with_key(group.0.clone());
    for address in addresses {
        let answer = Wire::connect(address).and_then(|mut wire| wire.try_call(1, &request));
        if let Ok(answer) = answer
            && answer.error_code == 0
        {
            return Wire::connect(&addresses[answer.node_id.0 as usize]);
        }
    }
    Err(io::ErrorKind::NotConnected.into())
}

/// Asks the coordinator, whoever that is, until it gives an answer for good.
fn ask<T>(
    addresses: &[String],
    group: &GroupId,
    what: &str,
    mut ask: impl FnMut(&mut Wire) -> io::Result<(i16, T)>,
) -> T {
    let (error, answer) = wait_for(what, PATIENCE, || {
        ask(&mut coordinator(addresses, group).ok()?).ok().filter(|(error, _)| !AGAIN.contains(error))
    });
    assert_eq!(error, 0, "{what} of {}", group.0);
    answer
}

impl Member {
    fn join(addresses: &[String], number: usize) -> Self {
        let group = GroupId(text(&format!("g{number}")));
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]));
        let request = JoinGroupRequest::default()
            .with_group_id(group.clone())
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(SESSION_MS)
            .with_group_instance_id(Some(text("instance")))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let joined = ask(addresses, &group, "a JoinGroup", |wire| {
            let answer = wire.try_call(5, &request)?;
            Ok((answer.error_code, answer))
        });
        let assigned = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::from(format!("of {}", group.0)));
        let request = SyncGroupRequest::default()
            .with_group_id(group.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assigned]);
        ask(addresses, &group, "a SyncGroup", |wire| Ok((wire.try_call(3, &request)?.error_code, ())));
        assert_eq!(joined.generation_id, 1);
        Self { group, id: joined.member_id, sent: AtomicI64::new(0), acknowledged: AtomicI64::new(0) }
    }

    fn commit(&self, wire: &mut Wire, offset: i64) -> io::Result<i16> {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(TOPIC))
            .with_partitions(vec![partition.with_committed_metadata(Some(text("")))]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id_or_member_epoch(1)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(text("instance")))
            .with_topics(vec![topic]);
        self.sent.store(offset, Ordering::SeqCst);
        Ok(wire.try_call(7, &request)?.topics[0].partitions[0].error_code)
    }

    /// Commits until told to stop. Whatever is no reason to try again is a fault.
    fn run(&self, addresses: &[String], stop: &AtomicBool) {
        let mut wire = None;
        let mut offset = 0;
        while !stop.load(Ordering::SeqCst) {
            let Some(connected) = wire.take().or_else(|| coordinator(addresses, &self.group).ok()) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let mut connected = connected;
            offset += 1;
            match self.commit(&mut connected, offset) {
                Ok(0) => {
                    self.acknowledged.store(offset, Ordering::SeqCst);
                    wire = Some(connected);
                }
                Ok(error) => assert!(AGAIN.contains(&error), "{} was told {error}", self.group.0),
                Err(_) => {}
            }
        }
    }

    /// What the coordinator has is no older than what was acknowledged before, and was sent.
    fn check(&self, addresses: &[String], when: &str) {
        let topic = OffsetFetchRequestTopic::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default().with_group_id(self.group.clone()).with_topics(Some(vec![topic]));
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let found = ask(addresses, &self.group, "an OffsetFetch", |wire| {
            let answer = wire.try_call(5, &request)?;
            let offset = answer.topics.first().map(|topic| topic.partitions[0].committed_offset);
            Ok((answer.error_code, offset.unwrap_or(-1)))
        });
        let sent = self.sent.load(Ordering::SeqCst);
        assert!(
            (acknowledged..=sent).contains(&found),
            "{when}: {acknowledged} acknowledged, {found} found, {sent} sent"
        );
    }

    fn describe(&self, addresses: &[String]) -> DescribedGroup {
        let request = DescribeGroupsRequest::default().with_groups(vec![self.group.clone()]);
        ask(addresses, &self.group, "a DescribeGroups", |wire| {
            let group = wire.try_call(4, &request)?.groups.remove(0);
            Ok((group.error_code, group))
        })
    }

    fn wait_progress(&self, addresses: &[String], when: &str) {
        let from = self.acknowledged.load(Ordering::SeqCst);
        wait_for(&format!("{} to go on {when}", self.group.0), PATIENCE, || {
            (self.acknowledged.load(Ordering::SeqCst) >= from + PROGRESS).then_some(())
        });
        self.check(addresses, when);
    }

    /// The member is one of generation 1 still.
    fn check_alive(&self, addresses: &[String], described: &DescribedGroup) {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(1)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(text("instance")));
        ask(addresses, &self.group, "a Heartbeat", |wire| Ok((wire.try_call(3, &request)?.error_code, ())));
        assert_eq!(&self.describe(addresses), described);
    }
}

/// Lets every group commit while `disturb` acts, and looks whether all is there after each of `rounds`.
fn commits_go_on(brokers: &mut Brokers, rounds: usize, mut disturb: impl FnMut(&mut Brokers, usize)) {
    brokers.create_topic(TOPIC, 1, 1, &[]);
    let addresses: Vec<String> = brokers.brokers.iter().map(|broker| broker.address()).collect();
    let members: Vec<Member> = (0..GROUPS).map(|number| Member::join(&addresses, number)).collect();
    let described: Vec<DescribedGroup> = members.iter().map(|member| member.describe(&addresses)).collect();
    for group in &described {
        assert_eq!((&*group.group_state, &*group.protocol_data, group.members.len()), ("Stable", "range", 1));
        assert_eq!(group.members[0].member_assignment, Bytes::from(format!("of {}", group.group_id.0)));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop_at_end = StopAtEnd(&stop);
        for member in &members {
            scope.spawn(|| member.run(&addresses, &stop));
        }
        for round in 0..rounds {
            members.iter().for_each(|member| member.wait_progress(&addresses, &format!("before round {round}")));
            disturb(brokers, round);
            members.iter().for_each(|member| member.wait_progress(&addresses, &format!("after round {round}")));
        }
        drop(stop_at_end);
    });
    for (member, described) in members.iter().zip(&described) {
        member.check(&addresses, "at the end");
        member.check_alive(&addresses, described);
    }
}

/// Ends the members' loops, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn no_commit_is_lost_when_the_coordinator_is_killed() {
    let mut brokers = Brokers::start(&[Kind::Barnabas; 3], |_, broker| {
        broker.set("offsets.topic.num.partitions", 1).set("offsets.topic.replication.factor", 3);
        broker.set("min.insync.replicas", 2);
    });
    let rounds = if long() { 60 } else { 5 };
    commits_go_on(&mut brokers, rounds, |brokers, _| {
        brokers.wait_isr(OFFSETS, 0, &[0, 1, 2]);
        let leader = brokers.state(OFFSETS, 0).leader as usize;
        brokers.brokers[leader].kill();
        wait_for("another coordinator", PATIENCE, || {
            let now = brokers.state(OFFSETS, 0).leader;
            (now >= 0 && now as usize != leader).then_some(())
        });
        brokers.brokers[leader].start();
    });
}

/// Moves the offsets partition, and with it every group, to `to`.
fn move_offsets(brokers: &Brokers, to: usize) {
    let partition =
        ReassignablePartition::default().with_partition_index(0).with_replicas(Some(vec![BrokerId(to as i32)]));
    let topic = ReassignableTopic::default().with_name(topic_name(OFFSETS)).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let answer = brokers.brokers[brokers.controller()].wire().call(0, &request);
    let error = answer.responses[0].partitions[0].error_code;
    assert!(error == 0 || error == 85, "{answer:?}");
    let state = brokers.wait_isr(OFFSETS, 0, &[to as i64]);
    assert_eq!(state.leader, to as i64);
}

fn groups_move(version: &'static str, ibp: &str) {
    let mut brokers = Brokers::start(&[Kind::Barnabas, Kind::Jvm(version)], |_, broker| {
        broker.set("inter.broker.protocol.version", ibp);
        broker.set("offsets.topic.num.partitions", 1);
    });
    commits_go_on(&mut brokers, 4, |brokers, _| {
        let from = brokers.state(OFFSETS, 0).leader as usize;
        move_offsets(brokers, 1 - from);
    });
}

#[test]
fn groups_move_between_kafka_3_9_and_us_and_back() {
    groups_move(jvm::NEW, "3.9");
}

#[test]
fn groups_move_between_kafka_2_8_and_us_and_back() {
    groups_move(jvm::OLD, "2.8");
}
