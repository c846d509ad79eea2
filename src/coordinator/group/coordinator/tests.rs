use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::*;
use crate::base::clock::ManualClock;
use crate::base::ids::{LeaderEpoch, Offset, ProducerId, TopicPartition};
use crate::coordinator::group::commit::{CommitEntry, CommitRequest};
use crate::coordinator::group::member::Protocol;
use crate::coordinator::group::offsets::CommittedOffset;
use crate::coordinator::group::records::{Key, put_group_key, put_offset_key, put_offset_value};
use crate::coordinator::group::state::GroupState;
use crate::coordinator::memory_log::MemoryLog;
use crate::protocol::batch::{BatchHeader, HEADER_LEN};
use crate::protocol::builder::{BatchBuilder, BatchSpec};
use crate::protocol::compress::Codec;
use crate::protocol::records::records;

mod transactions;

const EPOCH: LeaderEpoch = LeaderEpoch(5);

struct Rig {
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    groups: Arc<GroupCoordinator>,
}

impl Rig {
    /// A coordinator of a topic of one partition, which it leads.
    async fn new() -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        Self::with(config, Arc::new(MemoryLog::new(1))).await
    }

    async fn with(config: GroupConfig, log: Arc<MemoryLog>) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        log.lead(0, EPOCH);
        let groups = GroupCoordinator::new(
            config,
            Arc::clone(&log) as Arc<dyn InternalLog>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Handle::current(),
        );
        let rig = Self { log, clock, groups };
        rig.elect(EPOCH).await;
        rig
    }

    async fn elect(&self, epoch: LeaderEpoch) {
        self.log.lead(0, epoch);
        self.groups.on_election(0, epoch);
        self.until(|| self.groups.is_served(0)).await;
    }

    /// The same log under a new coordinator, as after a restart.
    async fn restarted(&self) -> Self {
        let rig = Self::with(self.groups.config.clone(), Arc::clone(&self.log)).await;
        rig.clock.advance(self.clock.now_ms() - rig.clock.now_ms());
        rig
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain");
            tokio::task::yield_now().await;
        }
    }

    fn pass(&self, ms: i64) {
        self.clock.advance(ms);
        self.groups.run_due();
    }

    fn join(&self, request: JoinRequest) -> JoinHandle<JoinReply> {
        let groups = Arc::clone(&self.groups);
        tokio::spawn(async move { groups.join("g", request).await })
    }

    /// A stable group of one member, `m`.
    async fn settle(&self) {
        let reply = self.groups.join("g", member("m")).await;
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
        let reply = self.groups.sync("g", sync("m", 1)).await;
        assert_eq!((reply.error, reply.assignment), (ErrorCode::None, Bytes::from("for m")));
    }

    async fn commit(&self, generation: i32, member: &str, partition: i32, offset: i64) -> ErrorCode {
        let committed = CommittedOffset { commit_timestamp: self.clock.now_ms(), ..committed(offset) };
        let entries = vec![CommitEntry { topic: "t", partition, committed }];
        let request = CommitRequest { group_id: "g", generation, member_id: member, group_instance_id: None, entries };
        self.groups.commit_offsets(request).await[0]
    }

    fn offset(&self, partition: i32) -> Option<i64> {
        let look = |offsets: Option<&GroupOffsets>| offsets?.get("t", partition).map(|committed| committed.offset);
        self.groups.with_offsets("g", look).expect("it is served")
    }

    fn state(&self) -> GroupState {
        self.groups.describe("g").expect("it is served").state
    }

    /// What stands in the log: keys in words, and whether there is a value.
    fn records(&self) -> Vec<(String, bool)> {
        let mut out = Vec::new();
        for batch in self.log.batches(0) {
            let header = BatchHeader::read(&batch).expect("a header");
            for record in records(&batch[HEADER_LEN..], header.record_count) {
                let record = record.expect("a record");
                let key = match Key::decode(record.key.unwrap_or_default()).expect("a key") {
                    Key::Offset { group, topic, partition } => format!("{group}:{topic}-{partition}"),
                    Key::Group { group } => group.to_owned(),
                    Key::Unknown(version) => format!("v{version}"),
                };
                out.push((key, record.value.is_some()));
            }
        }
        out
    }
}

fn committed(offset: i64) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch: 2, metadata: "".into(), commit_timestamp: 0, expire_timestamp: None }
}

fn member(new_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: "".into(),
        new_member_id: new_id.into(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            // Subscribed to `t`.
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]),
        }],
        require_known_member_id: false,
        supports_skip_assignment: false,
        reason: None,
    }
}

fn known(id: &str) -> JoinRequest {
    JoinRequest { member_id: id.into(), ..member("unused") }
}

fn sync(id: &str, generation: i32) -> SyncRequest {
    SyncRequest {
        generation,
        member_id: id.into(),
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignment: HashMap::from([(Arc::from(id), Bytes::from(format!("for {id}")))]),
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

#[test]
fn a_member_joins_commits_and_is_there_after_a_restart() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        assert_eq!(rig.commit(1, "m", 0, 42).await, ErrorCode::None);
        assert_eq!(rig.commit(1, "m", 0, 43).await, ErrorCode::None);
        assert_eq!(rig.commit(2, "m", 0, 44).await, ErrorCode::IllegalGeneration);
        assert_eq!(rig.records(), [("g".to_owned(), true), ("g:t-0".to_owned(), true), ("g:t-0".to_owned(), true)]);
        let described = rig.groups.describe("g");
        let rig = rig.restarted().await;
        assert_eq!(rig.offset(0), Some(43));
        assert_eq!(rig.groups.describe("g"), described);
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Ok(()));
        assert_eq!(rig.groups.sync("g", sync("m", 1)).await.assignment, "for m");
        assert_eq!(rig.groups.counts(), (1, 1));
    });
}

#[test]
fn sessions_end_by_the_timers() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        rig.pass(9_000);
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Ok(()));
        rig.pass(9_999);
        assert_eq!(rig.state(), GroupState::Stable);
        rig.pass(1);
        assert_eq!(rig.state(), GroupState::Empty);
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Err(ErrorCode::UnknownMemberId));
        assert_eq!(rig.groups.run_due(), None, "nothing is left to wait for");
    });
}

#[test]
fn a_waiting_join_is_answered_when_the_silent_are_gone() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let other = rig.join(member("n"));
        rig.until(|| rig.state() == GroupState::PreparingRebalance).await;
        rig.pass(10_000);
        let reply = other.await.expect("no panic");
        assert_eq!((reply.error, reply.generation, &*reply.leader), (ErrorCode::None, 2, "n"));
    });
}

#[test]
fn requests_are_refused_before_they_reach_a_group() {
    run(async {
        let rig = Rig::new().await;
        let error = |reply: JoinReply| reply.error;
        assert_eq!(error(rig.groups.join("", member("m")).await), ErrorCode::InvalidGroupId);
        assert_eq!(error(rig.groups.join("g", known("m")).await), ErrorCode::UnknownMemberId);
        for session_timeout_ms in [5_999, 1_800_001, -1] {
            let request = JoinRequest { session_timeout_ms, ..member("m") };
            assert_eq!(error(rig.groups.join("g", request).await), ErrorCode::InvalidSessionTimeout);
        }
        let request = JoinRequest { client_id: "c".repeat(40_000).into(), ..member("m") };
        assert_eq!(error(rig.groups.join("g", request).await), ErrorCode::InvalidRequest);
        assert_eq!(rig.groups.sync("g", sync("m", 1)).await.error, ErrorCode::UnknownMemberId);
        assert_eq!(rig.groups.heartbeat("", 1, "m", None), Err(ErrorCode::InvalidGroupId));
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Err(ErrorCode::UnknownMemberId));
        let left = rig.groups.leave("g", &[Leaving { member_id: "m", ..Leaving::default() }]);
        assert_eq!(left, Ok(vec![Err(ErrorCode::UnknownMemberId)]));
        assert_eq!(rig.commit(1, "m", 0, 1).await, ErrorCode::IllegalGeneration);
        let long = "g".repeat(40_000);
        assert_eq!(rig.groups.describe(&long), Err(ErrorCode::InvalidGroupId));
    });
}

#[test]
fn who_does_not_lead_says_so() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let waiting = rig.join(known("m"));
        let waiting_new = rig.join(member("n"));
        // m leads the group, so its join begins a rebalance, which n completes or waits for.
        let _ = (waiting.await, waiting_new);
        rig.log.follow(0);
        rig.groups.on_resignation(0, Some(LeaderEpoch(4)));
        assert!(rig.groups.is_served(0), "old news");
        rig.groups.on_resignation(0, Some(LeaderEpoch(6)));
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Err(ErrorCode::NotCoordinator));
        assert_eq!(rig.groups.join("g", member("m")).await.error, ErrorCode::NotCoordinator);
        assert_eq!(rig.commit(-1, "", 0, 1).await, ErrorCode::NotCoordinator);
        assert_eq!(rig.groups.describe("g"), Err(ErrorCode::NotCoordinator));
        assert!(rig.groups.list().is_empty());
    });
}

#[test]
fn those_who_wait_are_sent_away_when_the_partition_goes() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let waiting = rig.join(member("n"));
        rig.until(|| rig.state() == GroupState::PreparingRebalance).await;
        rig.groups.on_resignation(0, None);
        assert_eq!(waiting.await.expect("no panic").error, ErrorCode::NotCoordinator);
    });
}

/// A former leader's last records may be in nobody else's log: the generation in them could be given anew.
#[test]
fn a_successor_serves_only_what_its_replicas_have() {
    // On this thread, whose log is read.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let writer = Arc::new(log.reopen().expect("the file"));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let says = |words: &str| std::fs::read_to_string(log.path()).expect("the log").matches(words).count();
        let rig = Rig::new().await;
        rig.settle().await;
        rig.log.hold_acks(true);
        rig.log.lead(0, LeaderEpoch(6));
        rig.groups.on_election(0, LeaderEpoch(6));
        rig.until(|| rig.log.held() == 1).await;
        assert!(!rig.groups.is_served(0));
        assert_eq!(rig.groups.with_offsets("g", |_| ()), Err(ErrorCode::CoordinatorLoadInProgress));
        rig.log.release(Err(ErrorCode::RequestTimedOut));
        rig.until(|| rig.log.held() == 1).await;
        assert_eq!(says("waiting until every in-sync replica has them"), 1);
        assert!(!rig.groups.is_served(0));
        rig.log.hold_acks(false);
        rig.log.release(Ok(()));
        rig.until(|| rig.groups.is_served(0)).await;
        assert_eq!(rig.state(), GroupState::Stable);
        assert_eq!(
            says("groups and offsets loaded partition=__consumer_offsets-0 epoch=6 records=1 groups=1 offsets=0"),
            1
        );
    });
}

#[test]
fn a_partition_is_read_until_that_succeeds() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        rig.log.fail_reads(true);
        rig.log.lead(0, LeaderEpoch(6));
        rig.groups.on_election(0, LeaderEpoch(6));
        assert!(rig.groups.is_loading_any());
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Ok(()), "nobody is to lose heart");
        assert_eq!(rig.groups.sync("g", sync("m", 1)).await.error, ErrorCode::RebalanceInProgress);
        assert_eq!(rig.groups.join("g", member("m")).await.error, ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(rig.commit(1, "m", 0, 1).await, ErrorCode::CoordinatorLoadInProgress);
        rig.log.fail_reads(false);
        rig.until(|| rig.groups.is_served(0)).await;
        assert_eq!(rig.state(), GroupState::Stable);
        rig.groups.on_election(0, LeaderEpoch(5));
        assert!(rig.groups.is_served(0), "old news");
    });
}

#[test]
fn a_coordinator_that_was_replaced_writes_nothing() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let before = rig.records().len();
        rig.log.lead(0, LeaderEpoch(6));
        assert_eq!(rig.commit(1, "m", 0, 1).await, ErrorCode::NotCoordinator);
        assert_eq!((rig.records().len(), rig.offset(0)), (before, None));
        rig.groups.join("g", known("m")).await;
        assert_eq!(rig.groups.sync("g", sync("m", 2)).await.error, ErrorCode::NotCoordinator);
    });
}

#[test]
fn commits_wait_for_their_acknowledgement() {
    run(async {
        let rig = Arc::new(Rig::new().await);
        rig.log.hold_acks(true);
        let commit = |offset| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.commit(-1, "", 0, offset).await })
        };
        let first = commit(1);
        rig.until(|| rig.log.held() == 1).await;
        assert_eq!(rig.offset(0), None, "not acknowledged, not seen");
        rig.log.release(Ok(()));
        assert_eq!(first.await.expect("no panic"), ErrorCode::None);
        assert_eq!(rig.offset(0), Some(1));

        // The client hangs up; the commit stands nevertheless.
        let second = commit(2);
        rig.until(|| rig.log.held() == 1).await;
        second.abort();
        let _ = second.await;
        rig.log.release(Ok(()));
        rig.until(|| rig.offset(0) == Some(2)).await;

        for (error, told) in [
            (ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::CoordinatorNotAvailable),
            (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
            (ErrorCode::RequestTimedOut, ErrorCode::RequestTimedOut),
        ] {
            let third = commit(3);
            rig.until(|| rig.log.held() == 1).await;
            rig.log.release(Err(error));
            assert_eq!(third.await.expect("no panic"), told);
            assert_eq!(rig.offset(0), Some(2));
        }
    });
}

#[test]
fn an_assignment_waits_for_its_acknowledgement() {
    run(async {
        let rig = Arc::new(Rig::new().await);
        rig.groups.join("g", member("m")).await;
        rig.log.hold_acks(true);
        let syncing = tokio::spawn({
            let rig = Arc::clone(&rig);
            async move { rig.groups.sync("g", sync("m", 1)).await }
        });
        rig.until(|| rig.log.held() == 1).await;
        assert_eq!(rig.state(), GroupState::CompletingRebalance);
        rig.log.release(Ok(()));
        assert_eq!(syncing.await.expect("no panic").assignment, "for m");
        assert_eq!(rig.state(), GroupState::Stable);
    });
}

#[test]
fn notes_that_are_too_long_are_refused_alone() {
    run(async {
        let rig = Rig::new().await;
        let entry = |partition, metadata: String| CommitEntry {
            topic: "t",
            partition,
            committed: CommittedOffset { metadata: metadata.into(), ..committed(1) },
        };
        let commit = |generation, entries| {
            let request = CommitRequest { group_id: "g", generation, member_id: "", group_instance_id: None, entries };
            rig.groups.commit_offsets(request)
        };
        // 4,096 characters of two bytes each are not too many: the original counts characters.
        let entries = vec![entry(0, "x".repeat(4_097)), entry(1, "é".repeat(4_096)), entry(2, "y".repeat(5_000))];
        let codes = commit(-1, entries).await;
        assert_eq!(codes, [ErrorCode::OffsetMetadataTooLarge, ErrorCode::None, ErrorCode::OffsetMetadataTooLarge]);
        assert_eq!((rig.offset(0), rig.offset(1)), (None, Some(1)));
        assert_eq!(commit(-1, vec![entry(0, "x".repeat(4_097))]).await, [ErrorCode::OffsetMetadataTooLarge]);
        assert_eq!(commit(3, vec![entry(0, "x".repeat(4_097))]).await, [ErrorCode::UnknownMemberId]);
        assert!(commit(-1, Vec::new()).await.is_empty());
        rig.log.fail_appends(Some(ErrorCode::MessageTooLarge));
        assert_eq!(commit(-1, vec![entry(0, String::new())]).await, [ErrorCode::InvalidCommitOffsetSize]);
    });
}

#[test]
fn offsets_and_groups_expire() {
    run(async {
        let config =
            GroupConfig { initial_rebalance_delay_ms: 0, offsets_retention_ms: 1_000, ..GroupConfig::default() };
        let rig = Rig::with(config, Arc::new(MemoryLog::new(1))).await;
        rig.settle().await;
        rig.commit(1, "m", 0, 1).await;
        rig.clock.advance(5_000);
        rig.groups.expire();
        assert_eq!(rig.offset(0), Some(1), "the group subscribes to its topic");
        rig.groups.leave("g", &[Leaving { member_id: "m", ..Leaving::default() }]).expect("served")[0].expect("left");
        rig.groups.expire();
        assert_eq!(rig.offset(0), Some(1), "it is not long empty");
        rig.clock.advance(1_000);
        let before = rig.records().len();
        rig.groups.expire();
        assert_eq!(rig.records()[before..], [("g:t-0".to_owned(), false), ("g".to_owned(), false)]);
        assert_eq!(rig.state(), GroupState::Dead);
        assert_eq!(rig.groups.counts(), (0, 0));
        assert_eq!(rig.restarted().await.groups.counts(), (0, 0));
    });
}

#[test]
fn a_simple_consumer_s_group_leaves_no_tombstone_of_its_own() {
    run(async {
        let config = GroupConfig { offsets_retention_ms: 1_000, ..GroupConfig::default() };
        let rig = Rig::with(config, Arc::new(MemoryLog::new(1))).await;
        assert_eq!(rig.commit(-1, "", 0, 1).await, ErrorCode::None);
        rig.clock.advance(1_000);
        rig.groups.expire();
        assert_eq!(rig.records(), [("g:t-0".to_owned(), true), ("g:t-0".to_owned(), false)]);
        assert_eq!(rig.groups.counts(), (0, 0));
    });
}

#[test]
fn groups_are_deleted_when_they_are_empty() {
    run(async {
        let rig = Rig::new().await;
        assert_eq!(rig.groups.delete_group("g"), Err(ErrorCode::GroupIdNotFound));
        rig.settle().await;
        rig.commit(1, "m", 0, 1).await;
        assert_eq!(rig.groups.delete_group("g"), Err(ErrorCode::NonEmptyGroup));
        rig.groups.leave("g", &[Leaving { member_id: "m", ..Leaving::default() }]).expect("served")[0].expect("left");
        assert_eq!(rig.groups.delete_group("g"), Ok(()));
        assert_eq!(rig.groups.delete_group("g"), Err(ErrorCode::GroupIdNotFound));
        assert_eq!(rig.restarted().await.groups.counts(), (0, 0));
    });
}

#[test]
fn offsets_of_topics_not_subscribed_to_are_deleted() {
    run(async {
        let rig = Rig::new().await;
        assert_eq!(rig.groups.delete_offsets("g", &[]), Err(ErrorCode::GroupIdNotFound));
        rig.settle().await;
        rig.commit(1, "m", 0, 1).await;
        let codes = rig.groups.delete_offsets("g", &[("t", 0), ("u", 0)]);
        assert_eq!(codes, Ok(vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None]));
        rig.groups.leave("g", &[Leaving { member_id: "m", ..Leaving::default() }]).expect("served")[0].expect("left");
        let before = rig.records().len();
        assert_eq!(rig.groups.delete_offsets("g", &[("t", 0)]), Ok(vec![ErrorCode::None]));
        assert_eq!(rig.offset(0), None);
        assert_eq!(
            rig.records()[before..],
            [("g:t-0".to_owned(), false), ("g".to_owned(), false)],
            "the group goes too"
        );
        assert_eq!(rig.groups.delete_offsets("g", &[("t", 0)]), Err(ErrorCode::GroupIdNotFound));
        let rig = rig.restarted().await;
        assert_eq!((rig.offset(0), rig.groups.counts()), (None, (0, 0)));
    });
}

#[test]
fn offsets_go_with_their_topic() {
    run(async {
        let rig = Rig::new().await;
        for partition in 0..3 {
            assert_eq!(rig.commit(-1, "", partition, 7).await, ErrorCode::None);
        }
        let deleted = [TopicPartition::new("t", 1), TopicPartition::new("other", 0)];
        rig.groups.on_partitions_deleted(&deleted);
        rig.until(|| rig.offset(1).is_none()).await;
        assert_eq!(rig.records().last(), Some(&("g:t-1".to_owned(), false)));
        let rig = rig.restarted().await;
        assert_eq!((rig.offset(0), rig.offset(1), rig.offset(2)), (Some(7), None, Some(7)));
        rig.groups.on_partitions_deleted(&[TopicPartition::new("t", 0), TopicPartition::new("t", 2)]);
        rig.until(|| rig.groups.counts() == (0, 0)).await;
    });
}

#[test]
fn a_group_whose_first_member_never_joined_is_dropped() {
    run(async {
        let rig = Rig::new().await;
        let request = JoinRequest { require_known_member_id: true, ..member("m") };
        assert_eq!(rig.groups.join("g", request).await.error, ErrorCode::MemberIdRequired);
        assert_eq!(rig.groups.counts(), (1, 0));
        rig.pass(9_999);
        assert_eq!(rig.groups.counts(), (1, 0));
        rig.pass(1);
        assert_eq!(rig.groups.counts(), (0, 0));
        assert!(rig.records().is_empty());
        assert_eq!(rig.groups.join("g", known("m")).await.error, ErrorCode::UnknownMemberId);
    });
}

#[test]
fn groups_are_listed() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let listed = rig.groups.list();
        assert_eq!((listed.len(), &*listed[0].group_id, &*listed[0].protocol_type), (1, "g", "consumer"));
        let described = rig.groups.describe("g").expect("served");
        assert_eq!((&*described.protocol, &*described.members[0].client_host), ("range", "/127.0.0.1"));
        assert_eq!(described.members[0].assignment, "for m");
        assert_eq!(
            rig.groups.describe("h").expect("served"),
            crate::coordinator::group::admin::GroupDescription::dead()
        );
    });
}

#[test]
fn a_stopped_coordinator_serves_nobody() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let waiting = rig.join(member("n"));
        rig.until(|| rig.state() == GroupState::PreparingRebalance).await;
        rig.groups.stop();
        assert_eq!(waiting.await.expect("no panic").error, ErrorCode::CoordinatorNotAvailable);
        assert_eq!(rig.groups.heartbeat("g", 1, "m", None), Err(ErrorCode::CoordinatorNotAvailable));
    });
}

/// A batch of offset commits by a transaction, and its end.
fn transactional(producer_id: i64, partition: i32, offset: i64) -> Bytes {
    let spec = BatchSpec { producer_id: ProducerId(producer_id), transactional: true, ..BatchSpec::default() };
    let mut batch = BatchBuilder::new(spec);
    let (mut key, mut value) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    put_offset_key(&mut key, "g", "t", partition);
    put_offset_value(&mut value, &committed(offset));
    batch.append(0, Some(&key), Some(&value));
    batch.build().expect("a batch").1
}

fn marker(producer_id: i64, commit: bool) -> Bytes {
    let spec =
        BatchSpec { producer_id: ProducerId(producer_id), transactional: true, control: true, ..BatchSpec::default() };
    let mut batch = BatchBuilder::new(spec);
    batch.append(0, Some(&[0, 0, 0, u8::from(commit)]), Some(&[0, 0, 0, 0, 0, 0]));
    batch.build().expect("a batch").1
}

#[test]
fn what_transactions_left_in_the_log_is_understood() {
    run(async {
        let log = Arc::new(MemoryLog::new(1));
        for (producer_id, partition, end) in [(7, 0, Some(true)), (8, 1, Some(false)), (9, 2, None)] {
            log.append_foreign(0, &transactional(producer_id, partition, 10));
            if let Some(commit) = end {
                log.append_foreign(0, &marker(producer_id, commit));
            }
        }
        let rig = Rig::with(GroupConfig::default(), log).await;
        assert_eq!((rig.offset(0), rig.offset(1), rig.offset(2)), (Some(10), None, None));
        let unstable = |partition| {
            let look = |offsets: Option<&GroupOffsets>| offsets.is_some_and(|o| o.is_unstable("t", partition));
            rig.groups.with_offsets("g", look).expect("served")
        };
        assert!(!unstable(0) && !unstable(1) && unstable(2));
    });
}

#[test]
fn damaged_and_unknown_records_are_passed_over() {
    run(async {
        let log = Arc::new(MemoryLog::new(1));
        let mut batch = BatchWriter::new(0, Codec::Zstd);
        batch.put(|key| key.extend_from_slice(&[0, 9]), |_| {});
        batch.put(|key| key.extend_from_slice(&[0]), |_| {});
        batch.put(|key| put_group_key(key, "h"), |value| value.extend_from_slice(&[0, 3, 0]));
        batch.put(|key| put_offset_key(key, "g", "t", 0), |value| put_offset_value(value, &committed(5)));
        log.append_foreign(0, &batch.finish().expect("a batch"));
        let mut damaged = bytes::BytesMut::from(&transactional(1, 3, 3)[..]);
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        log.append_foreign(0, &damaged);
        let mut batch = BatchWriter::new(0, Codec::None);
        batch.put(|key| put_offset_key(key, "g", "t", 1), |value| put_offset_value(value, &committed(6)));
        log.append_foreign(0, &batch.finish().expect("a batch"));
        let rig = Rig::with(GroupConfig { offsets_load_buffer_size: 1, ..GroupConfig::default() }, log).await;
        assert_eq!((rig.offset(0), rig.offset(1), rig.offset(3)), (Some(5), Some(6), None));
    });
}

#[test]
fn a_hundred_thousand_offsets_load() {
    run(async {
        let log = Arc::new(MemoryLog::new(1));
        for group in 0..100 {
            let mut batch = BatchWriter::new(0, Codec::None);
            for partition in 0..1_000 {
                batch.put(
                    |key| {
                        put_offset_key(key, &format!("group-{group}"), &format!("topic-{}", partition % 10), partition)
                    },
                    |value| put_offset_value(value, &committed(i64::from(partition))),
                );
            }
            log.append_foreign(0, &batch.finish().expect("a batch"));
        }
        let started = Instant::now();
        let rig = Rig::with(GroupConfig::default(), log).await;
        let took = started.elapsed();
        assert_eq!(rig.groups.counts(), (100, 100_000));
        println!("100,000 offsets loaded in {took:?}");
        assert_eq!(rig.groups.names.lock().len(), 10);
        let _ = Offset::ZERO;
    });
}

#[test]
fn a_thousand_groups_rebalance_at_once() {
    run(async {
        let rig = Arc::new(Rig::new().await);
        let started = Instant::now();
        let mut tasks = Vec::new();
        for group in 0..1_000 {
            for number in 0..3 {
                let rig = Arc::clone(&rig);
                tasks.push(tokio::spawn(async move {
                    let group = format!("group-{group}");
                    let mut reply = rig.groups.join(&group, member(&format!("m{number}"))).await;
                    loop {
                        assert_eq!(reply.error, ErrorCode::None);
                        let id = reply.member_id;
                        let synced = rig.groups.sync(&group, sync(&id, reply.generation)).await;
                        let heart = rig.groups.heartbeat(&group, reply.generation, &id, None);
                        let size = rig.groups.describe(&group).expect("served").members.len();
                        if synced.error.is_none() && heart.is_ok() && size == 3 {
                            return;
                        }
                        tokio::task::yield_now().await;
                        reply = rig.groups.join(&group, known(&id)).await;
                    }
                }));
            }
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        println!("1,000 groups of 3 settled in {:?}", started.elapsed());
        let states: Vec<GroupState> = rig.groups.list().into_iter().map(|group| group.state).collect();
        assert_eq!(states.len(), 1_000);
    });
}
