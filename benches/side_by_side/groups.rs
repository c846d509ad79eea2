//! Many groups that rebalance at once, and many committed offsets that are loaded at a start.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, GroupId, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::brokers::{Broker, Kind, ZooKeeper};
use super::process::wait_for;
use super::wire::{self, Wire};

const GROUPS: usize = 1_000;
const MEMBERS: usize = 3;
/// Groups that commit, and how much each.
const COMMITTING: usize = 100;
const OFFSETS: i32 = 1_000;
const TOPIC: &str = "committed";
/// Versions without compact fields; JoinGroup's still admits members without an id.
const JOIN: i16 = 3;
const SYNC: i16 = 2;
const COMMIT: i16 = 6;
const OFFSET_FETCH: i16 = 5;
const COORDINATOR: i16 = 2;
const PATIENCE: Duration = Duration::from_secs(120);
/// What a member is told to do; brokers do not look into it.
const ASSIGNMENT: &[u8] = &[0; 64];
/// How long a new group waits for more members: until all have come, even on a slow machine.
const INITIAL_DELAY_MS: &str = "10000";

/// Seconds until the groups have settled anew, of processor time for it, and until the offsets are there after a start.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub rebalance: f64,
    pub rebalance_cpu: f64,
    pub load: f64,
}

pub fn run(kind: Kind, dir: &Path, zookeeper: &ZooKeeper) -> Result<Figures> {
    let mut broker = Broker::new(kind, dir, zookeeper)?;
    broker.set("group.initial.rebalance.delay.ms", INITIAL_DELAY_MS)?;
    broker.start()?;
    broker.wire()?.create_topics(&[(TOPIC.into(), OFFSETS)])?;
    let mut coordinator = broker.wire()?;
    // Creates the topic of the offsets.
    let request = FindCoordinatorRequest::default().with_key(text("group-0"));
    wait_for("a coordinator", PATIENCE, || {
        Ok((coordinator.call(&request, COORDINATOR)?.error_code == 0).then_some(()))
    })?;
    let mut members = (0..GROUPS * MEMBERS)
        .map(|number| Ok(Member { group: number / MEMBERS, id: String::new(), wire: broker.wire()? }))
        .collect::<Result<Vec<_>>>()?;
    settle(&mut members, 0)?;
    let (cpu, begun) = (broker.process()?.cpu()?, Instant::now());
    settle(&mut members, 1)?;
    let rebalance = begun.elapsed().as_secs_f64();
    let rebalance_cpu = (broker.process()?.cpu()? - cpu).as_secs_f64();
    drop(members);
    commit(&mut coordinator)?;
    broker.stop()?;
    zookeeper.wait_unregistered(&broker.chroot, broker.id)?;
    let load = broker.start_until("all offsets", |wire| all_there(wire).map(|all| all.then_some(())))?.as_secs_f64();
    broker.stop()?;
    Ok(Figures { rebalance, rebalance_cpu, load })
}

struct Member {
    group: usize,
    id: String,
    wire: Wire,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(number: usize) -> GroupId {
    GroupId(text(&format!("group-{number}")))
}

/// All members of all groups join with a subscription that nobody has seen, which makes their groups rebalance, and are told
/// what to do.
fn settle(members: &mut [Member], subscription: u8) -> Result<()> {
    for member in members.iter_mut() {
        member.wire.stream.write_all(&wire::frame(&join_request(member, subscription)?, JOIN)?)?;
    }
    let mut joined = Vec::with_capacity(members.len());
    for member in members.iter_mut() {
        let answer = JoinGroupResponse::decode(&mut member.wire.receive()?, JOIN)?;
        ensure!(answer.error_code == 0, "joining failed with {}", answer.error_code);
        let is_whole = answer.leader != answer.member_id || answer.members.len() == MEMBERS;
        ensure!(is_whole, "group-{} came to a generation of {}", member.group, answer.members.len());
        member.id = answer.member_id.to_string();
        joined.push(answer);
    }
    for (member, answer) in members.iter_mut().zip(&joined) {
        member.wire.stream.write_all(&wire::frame(&sync_request(member, answer), SYNC)?)?;
    }
    for member in members.iter_mut() {
        let synced = SyncGroupResponse::decode(&mut member.wire.receive()?, SYNC)?;
        ensure!(synced.error_code == 0, "a member was not told what to do: {}", synced.error_code);
    }
    Ok(())
}

/// A consumer's subscription, with `user_data` by which it differs from others; Kafka looks into it.
fn subscribed(user_data: u8) -> Result<Bytes> {
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![text(TOPIC)])
        .with_user_data(Some(vec![user_data; 32].into()));
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    subscription.encode(&mut bytes, 0)?;
    Ok(bytes.freeze())
}

fn join_request(member: &Member, subscription: u8) -> Result<JoinGroupRequest> {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscribed(subscription)?);
    Ok(JoinGroupRequest::default()
        .with_group_id(group_id(member.group))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(&member.id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]))
}

fn sync_request(member: &Member, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignment = |other: &kafka_protocol::messages::join_group_response::JoinGroupResponseMember| {
        SyncGroupRequestAssignment::default().with_member_id(other.member_id.clone()).with_assignment(ASSIGNMENT.into())
    };
    SyncGroupRequest::default()
        .with_group_id(group_id(member.group))
        .with_generation_id(joined.generation_id)
        .with_member_id(text(&member.id))
        .with_assignments(joined.members.iter().map(assignment).collect())
}

fn commit(wire: &mut Wire) -> Result<()> {
    for number in 0..COMMITTING {
        let partition =
            |index| OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(7);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(wire::name(TOPIC))
            .with_partitions((0..OFFSETS).map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&format!("commits-{number}"))))
            .with_topics(vec![topic]);
        let answer = wire.call(&request, COMMIT)?;
        let failed =
            answer.topics.iter().flat_map(|topic| &topic.partitions).find(|partition| partition.error_code != 0);
        ensure!(failed.is_none(), "committing failed: {failed:?}");
    }
    Ok(())
}

/// Whether every group's offsets are answered.
fn all_there(wire: &mut Wire) -> Result<bool> {
    for number in 0..COMMITTING {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(wire::name(TOPIC))
            .with_partition_indexes((0..OFFSETS).collect());
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(&format!("commits-{number}"))))
            .with_topics(Some(vec![topic]));
        let answer = wire.call(&request, OFFSET_FETCH)?;
        let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
        if answer.error_code != 0 || all.filter(|partition| partition.committed_offset == 7).count() < OFFSETS as usize
        {
            return Ok(false);
        }
    }
    Ok(true)
}
