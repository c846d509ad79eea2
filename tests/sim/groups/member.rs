//! A member of the group, written as Kafka's consumer behaves.
//!
//! It joins, syncs, reads the offsets of its partitions, and commits growing ones until it is told to join again. A commit
//! that is not answered may arrive late, and nothing tells it from a newer one of the same member: so a member whose commit
//! is not answered gives itself up and comes as someone new. Then the late one is refused, or goes before all that its
//! successors do.

use std::collections::BTreeMap;
use std::time::Duration;

use barnabas::base::error::ErrorCode;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::time::{sleep, timeout};

use super::ledger::{Acked, Shares, Synced};
use super::members::{Members, Order};
use super::{GROUP, PARTITIONS, WORK};
use crate::clients::{BACKOFF, call};
use crate::kernel::CLIENTS;
use crate::network::Connection;

const FIND_COORDINATOR: i16 = 3;
const JOIN_GROUP: i16 = 9;
const SYNC_GROUP: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE_GROUP: i16 = 5;
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 7;

/// The `group.instance.id` of the member of slot 0.
const INSTANCE: &str = "static";
const PROTOCOL_TYPE: &str = "workers";
/// Both are supported by all, and liked best by some.
const PROTOCOLS: [&str; 2] = ["one", "other"];
/// In ms.
const SESSION: i32 = 400;
/// In ms. A rebalance does not wait so long for the static member: it goes on without it, and it stays a member.
const STATIC_SESSION: i32 = 2_000;
/// In ms.
const REBALANCE: i32 = 500;
/// How long a member waits for an answer that waits for other members or for replicas.
const PATIENCE: Duration = Duration::from_millis(1_300);
/// Between two of its requests, in ms.
const PAUSE: (u64, u64) = (0, 50);

/// What a member has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Join again as who it is.
    Rejoin,
    /// Join as someone new.
    Anew,
    /// Go home.
    End,
}

/// What follows from an error that ends a generation; nothing if the request may be sent again.
fn next_after(error: ErrorCode) -> Option<Next> {
    match error {
        ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => Some(Next::Rejoin),
        ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => Some(Next::Anew),
        _ => None,
    }
}

/// One member.
pub struct Member {
    members: Members,
    slot: usize,
    name: u64,
    id: String,
    generation: i32,
    connection: Option<Connection>,
    /// What was acknowledged to it under its present id.
    acked: BTreeMap<i32, i64>,
    /// Where it stands in the partitions that it owns.
    positions: BTreeMap<i32, i64>,
}

impl Member {
    pub fn new(members: Members, slot: usize, name: u64) -> Self {
        Self {
            members,
            slot,
            name,
            id: String::new(),
            generation: -1,
            connection: None,
            acked: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    fn pick(&self, range: (u64, u64)) -> u64 {
        self.members.client.sim.core().pick(range)
    }

    fn chance(&self, chance: f64) -> bool {
        self.members.client.sim.core().chance(chance)
    }

    fn note(&self, line: &str) {
        self.members.client.sim.note(&format!("member {} {line}", self.name));
    }

    fn instance(&self) -> Option<StrBytes> {
        (self.slot == 0).then(|| StrBytes::from_static_str(INSTANCE))
    }

    /// As leaders and the log know it for good.
    fn known_as(&self) -> String {
        if self.slot == 0 { INSTANCE.to_owned() } else { self.id.clone() }
    }

    fn id(&self) -> StrBytes {
        StrBytes::from_string(self.id.clone())
    }

    /// Works until it is sent home, or, once it was replaced, until it is refused.
    pub async fn run(mut self) {
        loop {
            let next = match self.join().await {
                Ok(share) => self.work(share).await,
                Err(next) => next,
            };
            if next == Next::Anew {
                (self.id, self.acked) = (String::new(), BTreeMap::new());
            }
            if next == Next::End || self.members.newest(self.slot) != self.name {
                return self.note("goes home");
            }
            sleep(BACKOFF).await;
        }
    }

    /// The coordinator, as any broker names it; nothing, after a pause, if none does.
    pub async fn coordinator(&mut self) -> Option<&Connection> {
        if self.connection.as_ref().is_none_or(|connection| !connection.is_open()) {
            self.connection = self.find().await;
            if self.connection.is_none() {
                sleep(BACKOFF).await;
            }
        }
        self.connection.as_ref()
    }

    async fn find(&self) -> Option<Connection> {
        let client = &self.members.client;
        let at = usize::try_from(self.pick((0, client.brokers.len() as u64 - 1))).unwrap_or(0);
        let connection = Connection::open(&client.sim, CLIENTS, client.brokers[at]);
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str(GROUP));
        let answer = call(&connection, FIND_COORDINATOR, &request).await?;
        (answer.error_code == 0).then(|| Connection::open(&client.sim, CLIENTS, answer.node_id.0))
    }

    /// Asks the coordinator once. Without an answer, or where another is responsible, it is looked for anew.
    async fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        error: impl Fn(&R::Response) -> i16,
    ) -> Option<(ErrorCode, R::Response)> {
        let client_id = if self.id.is_empty() { self.members.client_id() } else { String::new() };
        let connection = self.connection.as_ref()?;
        let answer =
            timeout(PATIENCE, connection.call_as(&client_id, version, request)).await.ok().and_then(Result::ok);
        let answer = answer.map(|answer| (ErrorCode::from_code(error(&answer)), answer));
        let code = answer.as_ref().map(|(code, _)| *code);
        if matches!(code, None | Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)) {
            self.connection = None;
        }
        answer
    }

    /// Joins the next generation and learns its share in it.
    async fn join(&mut self) -> Result<Vec<i32>, Next> {
        let joined = loop {
            if self.coordinator().await.is_none() {
                continue;
            }
            let request = self.join_request();
            match self.ask(JOIN_GROUP, &request, |answer| answer.error_code).await {
                Some((ErrorCode::None, answer)) => break answer,
                Some((ErrorCode::MemberIdRequired, answer)) => self.id = answer.member_id.to_string(),
                Some((error, _)) if next_after(error).is_some() => return Err(next_after(error).unwrap_or(Next::End)),
                _ => sleep(BACKOFF).await,
            }
            if self.members.newest(self.slot) != self.name {
                return Err(Next::End);
            }
        };
        (self.id, self.generation) = (joined.member_id.to_string(), joined.generation_id);
        self.sync(&joined).await
    }

    fn join_request(&self) -> JoinGroupRequest {
        let mut protocols = PROTOCOLS;
        protocols.rotate_left(self.slot % PROTOCOLS.len());
        let protocol = |name| JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str(name));
        JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_session_timeout_ms(if self.slot == 0 { STATIC_SESSION } else { SESSION })
            .with_rebalance_timeout_ms(REBALANCE)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance())
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(protocols.into_iter().map(protocol).collect())
    }

    /// Asks for the assignment, which the leader makes. Whatever goes wrong, the member joins again.
    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Vec<i32>, Next> {
        let protocol = joined.protocol_name.clone();
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads { self.assign(joined) } else { Vec::new() };
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_generation_id(self.generation)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance())
            .with_protocol_type(joined.protocol_type.clone())
            .with_protocol_name(protocol.clone())
            .with_assignments(assignments);
        let answer = self.ask(SYNC_GROUP, &request, |answer| answer.error_code).await;
        let Some((ErrorCode::None, answer)) = answer else {
            return Err(answer.and_then(|(error, _)| next_after(error)).unwrap_or(Next::Rejoin));
        };
        let share: Vec<i32> = answer.assignment.iter().map(|partition| i32::from(*partition)).collect();
        self.note(&format!("has {share:?} in generation {}", self.generation));
        let synced = Synced {
            generation: self.generation,
            name: self.known_as(),
            leader: (self.slot != 0).then(|| joined.leader.to_string()),
            protocol: protocol.map(|name| name.to_string()).unwrap_or_default(),
            share: share.clone(),
        };
        let mut ledger = self.members.client.ledger.lock();
        if let Err(violation) = ledger.groups.sync(synced) {
            ledger.violations.push(violation);
        }
        Ok(share)
    }

    /// Deals the partitions out, not always to the same members.
    fn assign(&self, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let count = joined.members.len();
        let first = usize::try_from(self.pick((0, count as u64 - 1))).unwrap_or(0);
        let (mut shares, mut assignments) = (Shares::new(), Vec::new());
        for (at, member) in joined.members.iter().enumerate() {
            let mine = |partition: &i32| (usize::try_from(*partition).unwrap_or(0) + first) % count == at;
            let share: Vec<i32> = (0..PARTITIONS).filter(mine).collect();
            let bytes: Vec<u8> = share.iter().filter_map(|partition| u8::try_from(*partition).ok()).collect();
            let assignment = SyncGroupRequestAssignment::default().with_member_id(member.member_id.clone());
            assignments.push(assignment.with_assignment(bytes.into()));
            shares.insert(member.group_instance_id.as_ref().unwrap_or(&member.member_id).to_string(), share);
        }
        self.note(&format!("deals out generation {} to {count} members", self.generation));
        self.members.client.ledger.lock().groups.sent.entry(self.generation).or_default().push(shares);
        assignments
    }

    /// Works on its share until its generation is over.
    async fn work(&mut self, share: Vec<i32>) -> Next {
        if let Err(next) = self.begin(&share).await {
            return next;
        }
        let mut left = share.clone();
        loop {
            let pause = self.pick(PAUSE);
            sleep(Duration::from_millis(pause)).await;
            let wakes = match self.obey().await {
                Ok(wakes) => wakes,
                Err(next) => return next,
            };
            if self.members.is_calm() && self.members.newest(self.slot) != self.name {
                // The group may have been without a coordinator for so long that it was never missed.
                self.leave().await;
                return Next::End;
            }
            if self.coordinator().await.is_none() {
                continue;
            }
            // When it is calm each partition is committed once more, so that the logs come to rest.
            let candidates = if self.members.is_calm() { &left } else { &share };
            let chosen = match candidates.len() as u64 {
                0 => None,
                _ if !wakes && self.chance(0.3) => None,
                count => Some(candidates[usize::try_from(self.pick((0, count - 1))).unwrap_or(0)]),
            };
            let done = match chosen {
                Some(partition) => self.commit(partition).await.map(|taken| taken.then_some(partition)),
                None => self.heartbeat().await.map(|()| None),
            };
            match done {
                Ok(taken) => left.retain(|partition| Some(*partition) != taken || !self.members.is_calm()),
                Err(next) => return next,
            }
        }
    }

    /// Reads where its partitions stand, of the broker that told it of its share.
    async fn begin(&mut self, share: &[i32]) -> Result<(), Next> {
        let floors: Vec<(i32, Option<i64>)> = {
            let ledger = self.members.client.ledger.lock();
            share.iter().map(|p| (*p, ledger.groups.floor(*p, self.generation, &self.id))).collect()
        };
        let found = self.committed(share.to_vec()).await?;
        for (partition, floor) in floors {
            let position = found.get(&partition).copied().unwrap_or(-1);
            if Some(position) < floor {
                let (name, generation) = (self.name, self.generation);
                let violation = format!(
                    "member {name} finds {partition} at {position} in generation {generation}, acknowledged was {floor:?}"
                );
                self.members.client.ledger.lock().violations.push(violation);
            }
        }
        let acked = |partition: i32| self.acked.get(&partition).copied().unwrap_or(-1);
        self.positions = found.into_iter().map(|(p, offset)| (p, offset.max(acked(p)).max(0))).collect();
        Ok(())
    }

    /// The offsets that are committed for partitions, once no commit of them is under way. Over one connection.
    pub async fn committed(&mut self, partitions: Vec<i32>) -> Result<BTreeMap<i32, i64>, Next> {
        let topic = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(partitions);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_require_stable(true)
            .with_topics(Some(vec![topic]));
        loop {
            let answer = self.ask(OFFSET_FETCH, &request, |answer| answer.error_code).await;
            let Some((ErrorCode::None, answer)) = answer else { return Err(Next::Rejoin) };
            let found = &answer.topics[0].partitions;
            if found.iter().all(|partition| partition.error_code == 0) {
                return Ok(found.iter().map(|p| (p.partition_index, p.committed_offset)).collect());
            }
            sleep(BACKOFF).await;
        }
    }

    /// Stands still or leaves, if it is told to; whether it stood still.
    async fn obey(&mut self) -> Result<bool, Next> {
        match self.members.take_order(self.name) {
            None => Ok(false),
            Some(Order::Freeze(ms)) => {
                sleep(Duration::from_millis(ms)).await;
                self.note("goes on");
                Ok(true)
            }
            Some(Order::Leave) => {
                self.leave().await;
                Err(Next::End)
            }
        }
    }

    async fn leave(&mut self) {
        let member = MemberIdentity::default().with_member_id(self.id()).with_group_instance_id(self.instance());
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_members(vec![member]);
        let answer = self.ask(LEAVE_GROUP, &request, |answer| answer.error_code).await;
        self.note(&format!("leaves: {:?}", answer.map(|(error, _)| error)));
    }

    /// Says that it lives.
    pub async fn heartbeat(&mut self) -> Result<(), Next> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_generation_id(self.generation)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance());
        match self.ask(HEARTBEAT, &request, |answer| answer.error_code).await {
            Some((ErrorCode::None, _)) => {
                let alive = (self.name, self.generation);
                self.members.client.ledger.lock().groups.alive.insert(self.slot, alive);
                Ok(())
            }
            Some((error, _)) => next_after(error).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// Commits the next offset of a partition; whether it is taken.
    pub async fn commit(&mut self, partition: i32) -> Result<bool, Next> {
        let number = self.members.client.ledger.lock().groups.number();
        let step = i64::try_from(self.pick((1, 3))).unwrap_or(1);
        let offset = self.positions.get(&partition).copied().unwrap_or(0) + step;
        let request = self.commit_request(partition, offset, number);
        let answer = self.ask(OFFSET_COMMIT, &request, |answer| answer.topics[0].partitions[0].error_code).await;
        match answer {
            Some((ErrorCode::None, _)) => {
                self.acked.insert(partition, offset);
                self.positions.insert(partition, offset);
                let acked = Acked { partition, offset, generation: self.generation, by: self.id.clone() };
                self.members.client.ledger.lock().groups.acked.insert(number, acked);
                Ok(true)
            }
            Some((error, _)) => next_after(error).map_or(Ok(false), Err),
            None => {
                self.note(&format!("does not know what became of commit {number}"));
                if self.chance(0.5) && self.coordinator().await.is_some() {
                    self.leave().await;
                }
                Err(Next::Anew)
            }
        }
    }

    fn commit_request(&self, partition: i32, offset: i64, number: u64) -> OffsetCommitRequest {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_string(number.to_string())));
        let topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance())
            .with_topics(vec![topic])
    }
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(WORK))
}
