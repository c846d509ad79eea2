//! Many groups that rebalance at once, and many committed offsets that are loaded at a start.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

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
/// What a member says to be, and is told to do; what brokers do not look into.
const METADATA: &[u8] = &[0; 64];

/// Seconds until the groups have settled anew, of processor time for it, and until the offsets are there after a start.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub rebalance: f64,
    pub rebalance_cpu: f64,
    pub load: f64,
}

pub fn run(kind: Kind, dir: &Path, zookeeper: &ZooKeeper) -> Result<Figures> {
    let mut broker = Broker::new(kind, dir, zookeeper)?;
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
    settle(&mut members)?;
    let (cpu, begun) = (broker.process()?.cpu()?, Instant::now());
    settle(&mut members)?;
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

/// All members of all groups join, and are told what to do. A group whose members came too late for one generation is
/// complete in the next.
fn settle(members: &mut [Member]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut open: Vec<bool> = vec![true; members.len()];
    while open.contains(&true) {
        ensure!(Instant::now() < deadline, "the groups do not settle");
        for (member, _) in members.iter_mut().zip(&open).filter(|(_, open)| **open) {
            member.wire.stream.write_all(&wire::frame(&join_request(member), JOIN)?)?;
        }
        let mut joined = Vec::new();
        for (number, member) in members.iter_mut().enumerate().filter(|(number, _)| open[*number]) {
            let answer = JoinGroupResponse::decode(&mut member.wire.receive()?, JOIN)?;
            ensure!(answer.error_code == 0, "joining failed with {}", answer.error_code);
            member.id = answer.member_id.to_string();
            joined.push((number, answer));
        }
        for (number, answer) in &joined {
            let member = &mut members[*number];
            member.wire.stream.write_all(&wire::frame(&sync_request(member, answer), SYNC)?)?;
        }
        let mut whole = vec![true; GROUPS];
        for (number, answer) in &joined {
            let member = &mut members[*number];
            let synced = SyncGroupResponse::decode(&mut member.wire.receive()?, SYNC)?;
            let led_by_all = answer.leader != answer.member_id || answer.members.len() == MEMBERS;
            whole[member.group] &= synced.error_code == 0 && led_by_all;
        }
        for (number, member) in members.iter().enumerate() {
            open[number] = !whole[member.group];
        }
    }
    Ok(())
}

fn join_request(member: &Member) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(METADATA.into());
    JoinGroupRequest::default()
        .with_group_id(group_id(member.group))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(&member.id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn sync_request(member: &Member, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignment = |other: &kafka_protocol::messages::join_group_response::JoinGroupResponseMember| {
        SyncGroupRequestAssignment::default().with_member_id(other.member_id.clone()).with_assignment(METADATA.into())
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
