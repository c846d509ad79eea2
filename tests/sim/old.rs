//! Brokers as they were before a fix, for showing that the checker finds what the fix mends.
//!
//! Nothing in `src/` can be switched off: what a fix added is taken out of the requests and answers on their way, where it
//! travels with them, or a small piece of the broker is replaced by what stood there before.

use std::sync::Arc;
use std::time::Duration;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use barnabas::controller::ControlRequest;
use barnabas::coordinator::internal_log::{Acked, AppendOptions, Appended, InternalLog};
use barnabas::log::verification::Verification;
use barnabas::protocol::frame::{self, RequestHeader};
use barnabas::replica::manager::ReplicaManager;
use barnabas::zk::znodes::topics::{self, TopicNode};
use barnabas::zk::{Op, SessionState, ZkClient, ZkError};
use bytes::Bytes;
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, HeartbeatRequest, LeaderAndIsrRequest, OffsetCommitRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;

/// What is as it was before a fix.
#[derive(Debug, Default, Clone, Copy)]
pub struct Old {
    /// Before KIP-101 a new follower cuts its log at its high watermark, and asks for no epochs.
    pub cuts_at_high_watermark: bool,
    /// Before KIP-279 a leader tells where an epoch it does not know would end, but not which epoch it means.
    pub hides_found_epoch: bool,
    /// Before KIP-320 a follower does not say under which epoch it fetches.
    pub hides_leader_epoch: bool,
    /// Before KIP-903 nobody knows which life of a broker fetched.
    pub hides_broker_epochs: bool,
    /// Before KAFKA-7165 a broker that finds its node there already gives up.
    pub gives_up_its_node: bool,
    /// Before KAFKA-13407 a broker that finds itself named in `/controller` leaves it at that.
    pub ignores_its_election: bool,
    /// A broker stops without ControlledShutdown.
    pub stops_without_asking: bool,
    /// `log.flush.interval.messages` is not heeded.
    pub flushes_later: bool,
    /// A replica that is to be deleted is only stopped.
    pub keeps_deleted_replicas: bool,
    /// What a reassignment aims at is known to the controller only, not written into the topic's node.
    pub hides_reassignments: bool,
    /// Before KIP-890 nobody asks whether a partition belongs to the transaction: whatever comes is taken.
    pub verifies_nothing: bool,
    /// Coordinators act on what they have read although other replicas may not have it.
    pub acts_at_once: bool,
    /// Coordinators answer when they have written, although other replicas may not have it.
    pub answers_at_once: bool,
    /// Nothing tells a member's commits from those of one that was taken for dead.
    pub takes_all_commits: bool,
}

/// A follower's memory of having truncated, which before KIP-320 it did once, at the begin of an epoch.
#[derive(Debug, Default)]
pub struct Truncated(Option<i32>);

/// Who was heard of last in the newest generation of a group: its generation, its id, its `group.instance.id`.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<(i32, StrBytes, Option<StrBytes>)>>);

impl Old {
    /// A request of a member of a group: commits come as if one of the newest generation had sent them.
    pub fn group_request(self, heard: &Heard, frame: Bytes) -> Bytes {
        let mut body = frame.clone();
        let Some(header) = RequestHeader::parse(&mut body).ok().filter(|_| self.takes_all_commits) else {
            return frame;
        };
        let mut heard = heard.0.lock();
        if header.api_key == HeartbeatRequest::KEY {
            let beat: HeartbeatRequest = frame::decode(body, header.api_version).expect("a heartbeat");
            if heard.as_ref().is_none_or(|(newest, ..)| *newest <= beat.generation_id) {
                *heard = Some((beat.generation_id, beat.member_id, beat.group_instance_id));
            }
        } else if header.api_key == OffsetCommitRequest::KEY
            && let Some((generation, id, instance)) = heard.clone()
        {
            let mut commit: OffsetCommitRequest = frame::decode(body, header.api_version).expect("a commit");
            (commit.generation_id_or_member_epoch, commit.member_id, commit.group_instance_id) =
                (generation, id, instance);
            let (number, version) = (header.correlation_id, header.api_version);
            return frame::encode_request(number, "sim", version, &commit).expect("a commit of that version");
        }
        frame
    }

    /// Called before the broker hears of it.
    pub fn leader_and_isr(self, manager: &ReplicaManager, request: &LeaderAndIsrRequest) {
        if !self.cuts_at_high_watermark {
            return;
        }
        for topic in &request.topic_states {
            for state in &topic.partition_states {
                let Ok(partition) = manager.partition(&topic.topic_name, state.partition_index) else { continue };
                let follows = state.leader.0 != manager.broker_id().get();
                if follows && state.leader_epoch > partition.leader_epoch().get() {
                    let log = partition.log().expect("a log");
                    log.truncate_to(log.high_watermark(), manager.clock().now_ms()).expect("a disk");
                }
            }
        }
    }

    /// What coordinators keep their state in.
    pub fn internal_log(self, log: Arc<dyn InternalLog>) -> Arc<dyn InternalLog> {
        match (self.acts_at_once, self.answers_at_once) {
            (false, false) => log,
            (_, answers) => Arc::new(Hasty { log, answers }),
        }
    }

    /// What a controller tells.
    pub fn control_request(self, request: ControlRequest) -> ControlRequest {
        match request {
            ControlRequest::StopReplica(mut request) if self.keeps_deleted_replicas => {
                let topics = request.topic_states.iter_mut();
                topics.flat_map(|topic| &mut topic.partition_states).for_each(|p| p.delete_partition = false);
                ControlRequest::StopReplica(request)
            }
            request => request,
        }
    }

    /// What a broker writes to ZooKeeper.
    pub fn writes(self, ops: Vec<Op>) -> Vec<Op> {
        let strip = |op: Op| match op {
            Op::Set { path, data, version } if self.hides_reassignments && is_topic(&path) => {
                let data = TopicNode::decode("t", &data).map_or(data, |mut node| {
                    for assignment in node.partitions.values_mut() {
                        (assignment.adding, assignment.removing) = Default::default();
                    }
                    node.encode()
                });
                Op::Set { path, data, version }
            }
            op => op,
        };
        ops.into_iter().map(strip).collect()
    }

    /// What a follower asks.
    pub fn fetch_request(self, request: &mut FetchRequest, truncated: &Truncated) {
        for partition in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if self.hides_leader_epoch {
                partition.current_leader_epoch = -1;
            }
            let once = self.hides_found_epoch && truncated.0 == Some(partition.current_leader_epoch);
            if self.cuts_at_high_watermark || self.hides_leader_epoch || once {
                partition.last_fetched_epoch = -1;
            }
        }
        if self.hides_found_epoch {
            // No session, so that every request says it all.
            (request.session_id, request.session_epoch) = (0, -1);
        }
        if self.hides_broker_epochs {
            request.replica_state.replica_epoch = -1;
        }
    }

    /// What it is answered.
    pub fn fetch_response(self, request: &FetchRequest, response: &mut FetchResponse, truncated: &mut Truncated) {
        if !self.hides_found_epoch {
            return;
        }
        let asked = request.topics.first().and_then(|topic| topic.partitions.first());
        for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let Some(asked) = asked.filter(|_| partition.diverging_epoch.end_offset >= 0) else { continue };
            partition.diverging_epoch.epoch = asked.last_fetched_epoch;
            truncated.0 = Some(asked.current_leader_epoch);
        }
    }
}

/// An internal log of which all counts as replicated that is there; with `answers` what is appended too.
struct Hasty {
    log: Arc<dyn InternalLog>,
    answers: bool,
}

impl InternalLog for Hasty {
    fn partition_count(&self, topic: &str) -> Option<i32> {
        self.log.partition_count(topic)
    }

    fn append(&self, tp: &TopicPartition, batch: Bytes, options: AppendOptions) -> Result<Appended, ErrorCode> {
        let appended = self.log.append(tp, batch, options)?;
        let acked = if self.answers { Acked::Now(Ok(())) } else { appended.acked };
        Ok(Appended { acked, ..appended })
    }

    fn begin_verification(
        &self,
        tp: &TopicPartition,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<Verification, ErrorCode> {
        self.log.begin_verification(tp, producer, epoch)
    }

    fn append_transactional(
        &self,
        tp: &TopicPartition,
        batch: Bytes,
        options: AppendOptions,
        verification: Verification,
    ) -> Result<Appended, ErrorCode> {
        self.log.append_transactional(tp, batch, options, verification)
    }

    fn offset_range(&self, tp: &TopicPartition) -> Result<(Offset, Offset), ErrorCode> {
        self.log.offset_range(tp)
    }

    fn replicated(&self, _tp: &TopicPartition, _end: Offset, _timeout: Duration) -> Acked {
        Acked::Now(Ok(()))
    }

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        self.log.read(tp, from, max_bytes)
    }
}

fn is_topic(path: &str) -> bool {
    path.strip_prefix(topics::PATH).is_some_and(|rest| rest.matches('/').count() == 1)
}

/// Registers in each new session, once: a node that is there already is taken for another broker's.
pub async fn register_or_give_up(zk: ZkClient, path: String, data: Vec<u8>) {
    let mut state = zk.state();
    let mut registered = 1;
    loop {
        let is_new =
            |state: &SessionState| matches!(state, SessionState::Open { generation, .. } if *generation > registered);
        match state.wait_for(is_new).await {
            Ok(SessionState::Open { generation, .. }) => registered = generation,
            _ => return,
        }
        loop {
            match zk.multi(vec![Op::create_ephemeral(path.as_str(), data.clone())]).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(ZkError::Unknown(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(_) => break,
            }
        }
    }
}
