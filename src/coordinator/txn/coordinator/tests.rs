use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use tokio::task::JoinHandle;

use super::*;
use crate::base::clock::ManualClock;
use crate::base::ids::{BrokerId, LeaderEpoch};
use crate::coordinator::memory_log::MemoryLog;
use crate::coordinator::txn::markers::Route;
use crate::coordinator::txn::producer_ids::{BlockFuture, BlockSource};
use crate::coordinator::txn::records::{Key, TxnValue, decode_value};
use crate::coordinator::txn::state::TxnState;
use crate::coordinator::txn::views::Filter;
use crate::protocol::batch::{BatchHeader, HEADER_LEN};
use crate::protocol::records::records;

const EPOCH: LeaderEpoch = LeaderEpoch(5);
const TIMEOUT: i32 = 60_000;

/// Producer ids from 0, one to a block.
#[derive(Default)]
struct Ids {
    next: Mutex<i64>,
    fail: AtomicBool,
}

impl BlockSource for Ids {
    fn next_block(&self) -> BlockFuture<'_> {
        let mut next = self.next.lock();
        let block: Range<i64> = *next..*next + 1;
        *next += 1;
        let failed = self.fail.load(Ordering::SeqCst);
        Box::pin(std::future::ready(if failed { Err("there are none".to_owned()) } else { Ok(block) }))
    }
}

/// The leaders of all partitions, in the test's hands.
struct Leaders {
    route: Mutex<Route>,
    error: Mutex<ErrorCode>,
    is_down: AtomicBool,
    sent: Mutex<Vec<(BrokerId, WriteTxnMarkersRequest)>>,
}

impl Leaders {
    fn new() -> Self {
        Self {
            route: Mutex::new(Route::Leader(BrokerId(1))),
            error: Mutex::new(ErrorCode::None),
            is_down: AtomicBool::new(false),
            sent: Mutex::default(),
        }
    }

    /// What was sent to whom: broker, producer id, epoch, coordinator epoch, whether committed, partitions.
    fn sent(&self) -> Vec<(i32, i64, i16, i32, bool, Vec<String>)> {
        let mut out = Vec::new();
        for (broker, request) in self.sent.lock().iter() {
            for marker in &request.markers {
                let of_topic = |topic: &kafka_protocol::messages::write_txn_markers_request::WritableTxnMarkerTopic| {
                    let name = topic.name.as_str().to_owned();
                    topic.partition_indexes.iter().map(|index| format!("{name}-{index}")).collect::<Vec<_>>()
                };
                let partitions = marker.topics.iter().flat_map(of_topic).collect();
                let (id, epoch) = (marker.producer_id.0, marker.producer_epoch);
                let committed = marker.transaction_result;
                out.push((broker.get(), id, epoch, marker.coordinator_epoch, committed, partitions));
            }
        }
        out
    }
}

impl MarkerChannel for Leaders {
    fn route(&self, _partition: &TopicPartition) -> Route {
        *self.route.lock()
    }

    fn send(
        &self,
        broker: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> BoxFuture<'_, Result<WriteTxnMarkersResponse, String>> {
        let error = self.error.lock().code();
        let results = request.markers.iter().map(|marker| {
            let topics = marker.topics.iter().map(|topic| {
                let result = |index: &i32| {
                    WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(error)
                };
                WritableTxnMarkerTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partition_indexes.iter().map(result).collect())
            });
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
        });
        let response = WriteTxnMarkersResponse::default().with_markers(results.collect());
        self.sent.lock().push((broker, request));
        let is_down = self.is_down.load(Ordering::SeqCst);
        async move { if is_down { Err("it is down".to_owned()) } else { Ok(response) } }.boxed()
    }
}

struct Rig {
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    leaders: Arc<Leaders>,
    ids: Arc<Ids>,
    txns: Arc<TxnCoordinator>,
}

impl Rig {
    /// A coordinator of a topic of one partition, which it leads.
    async fn new() -> Self {
        let rig = Self::over(Arc::new(MemoryLog::new(1)), Arc::default());
        rig.elect(EPOCH).await;
        rig
    }

    fn over(log: Arc<MemoryLog>, ids: Arc<Ids>) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let leaders = Arc::new(Leaders::new());
        let around = Surroundings {
            log: Arc::clone(&log) as Arc<dyn InternalLog>,
            producer_ids: Arc::new(ProducerIds::new(Arc::clone(&ids) as Arc<dyn BlockSource>)),
            channel: Arc::clone(&leaders) as Arc<dyn MarkerChannel>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            runtime: Handle::current(),
        };
        let txns = TxnCoordinator::new(TxnConfig::default(), around);
        Self { log, clock, leaders, ids, txns }
    }

    async fn elect(&self, epoch: LeaderEpoch) {
        self.log.lead(0, epoch);
        self.txns.on_election(0, epoch);
        self.until("the partition is loaded", || self.txns.is_served(0)).await;
    }

    /// A new coordinator over the same log, as after a crash; it is elected by the test.
    fn successor(&self) -> Self {
        Self::over(Arc::clone(&self.log), Arc::clone(&self.ids))
    }

    async fn restarted(&self) -> Self {
        let next = self.successor();
        next.elect(EPOCH.next()).await;
        next
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            tokio::task::yield_now().await;
        }
    }

    /// Sends markers, as time passes, until an id is in a state.
    async fn until_state(&self, id: &str, state: TxnState) {
        self.until(state.name(), || {
            self.txns.send_due();
            self.clock.advance(10);
            self.state(id) == state
        })
        .await;
    }

    fn state(&self, id: &str) -> TxnState {
        self.txns.describe(id).expect("it is known").state
    }

    async fn init(&self, id: &str) -> Result<Producer, ErrorCode> {
        self.txns.init_producer_id(id, TIMEOUT, None).await
    }

    async fn add(&self, id: &str, producer: Producer, partitions: &[i32]) -> Result<(), ErrorCode> {
        self.txns.add_partitions(id, producer, &set(partitions)).await
    }

    /// A producer with a transaction under way.
    async fn ongoing(&self, id: &str, partitions: &[i32]) -> Producer {
        let producer = self.init(id).await.expect("a producer");
        assert_eq!(self.add(id, producer, partitions).await, Ok(()));
        producer
    }

    /// Ends a transaction in a task: it waits for the acknowledgement.
    fn end(&self, id: &'static str, producer: Producer, commit: bool) -> JoinHandle<Result<(), ErrorCode>> {
        let txns = Arc::clone(&self.txns);
        tokio::spawn(async move { txns.end_transaction(id, producer, commit).await })
    }

    /// What stands in the log: ids with their state, epoch and partitions.
    fn records(&self) -> Vec<(String, Option<TxnValue>)> {
        let mut out = Vec::new();
        for batch in self.log.batches(0) {
            let header = BatchHeader::read(&batch).expect("a header");
            assert_eq!((header.codec(), header.is_transactional(), header.is_control()), (0, false, false));
            for record in records(&batch[HEADER_LEN..], header.record_count) {
                let record = record.expect("a record");
                let Key::Transaction(id) = Key::decode(record.key.expect("a key")).expect("a key") else {
                    panic!("another key");
                };
                let value = record.value.map(|value| decode_value(value, |name| name.into()).expect("a value"));
                out.push((id.to_owned(), value));
            }
        }
        out
    }

    fn states(&self) -> Vec<&'static str> {
        self.records().iter().map(|(_, value)| value.as_ref().map_or("-", |value| value.state.name())).collect()
    }
}

fn set(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|&partition| TopicPartition::new("t", partition)).collect()
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
fn a_transaction_is_committed_and_known_after_a_restart() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0, 1]).await;
        assert_eq!(producer, Producer::new(0, 0));
        assert_eq!(rig.add("x", producer, &[1, 2]).await, Ok(()));
        assert_eq!(rig.add("x", producer, &[0, 2]).await, Ok(()), "they take part already");
        assert_eq!(rig.end("x", producer, true).await.expect("no panic"), Ok(()));
        rig.until_state("x", TxnState::CompleteCommit).await;
        assert_eq!(rig.states(), ["Empty", "Ongoing", "Ongoing", "PrepareCommit", "CompleteCommit"]);
        let partitions = ["t-0", "t-1", "t-2"].map(str::to_owned).to_vec();
        assert_eq!(rig.leaders.sent(), [(1, 0, 0, EPOCH.get(), true, partitions)]);
        let described = rig.txns.describe("x");
        let rig = rig.restarted().await;
        assert_eq!(rig.txns.describe("x"), described);
        assert_eq!(rig.txns.end_transaction("x", producer, true).await, Ok(()));
        assert_eq!(rig.txns.end_transaction("x", producer, false).await, Err(ErrorCode::InvalidTxnState));
        assert_eq!(rig.init("x").await, Ok(Producer::new(0, 1)));
        assert_eq!(rig.add("x", producer, &[0]).await, Err(ErrorCode::ProducerFenced));
        assert!(rig.leaders.sent().is_empty());
    });
}

#[test]
fn nothing_is_answered_or_marked_before_it_is_acknowledged() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        rig.log.hold_acks(true);
        let end = rig.end("x", producer, true);
        rig.until("the append", || rig.log.held() == 1).await;
        rig.txns.send_due();
        assert!(!end.is_finished() && rig.leaders.sent().is_empty());
        assert_eq!(rig.state("x"), TxnState::Ongoing);
        assert_eq!(rig.init("x").await, Err(ErrorCode::ConcurrentTransactions));
        rig.log.release(Ok(()));
        assert_eq!(end.await.expect("no panic"), Ok(()));
        // The markers are written, and the end is on its way: still nothing else may happen.
        rig.until("the last append", || {
            rig.txns.send_due();
            rig.log.held() == 1
        })
        .await;
        assert_eq!(rig.leaders.sent().len(), 1);
        assert_eq!(
            (rig.state("x"), rig.init("x").await),
            (TxnState::PrepareCommit, Err(ErrorCode::ConcurrentTransactions))
        );
        rig.log.release(Ok(()));
        rig.until_state("x", TxnState::CompleteCommit).await;
    });
}

#[test]
fn a_client_that_goes_away_does_not_stop_what_it_began() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        rig.log.hold_acks(true);
        let end = rig.end("x", producer, true);
        rig.until("the append", || rig.log.held() == 1).await;
        end.abort();
        assert!(end.await.is_err());
        rig.log.hold_acks(false);
        rig.log.release(Ok(()));
        rig.until_state("x", TxnState::CompleteCommit).await;
    });
}

#[test]
fn what_could_not_be_stored_is_not_so() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        for (error, told) in [
            (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
            (ErrorCode::UnknownTopicOrPartition, ErrorCode::CoordinatorNotAvailable),
            (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
            (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
            (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
        ] {
            rig.log.fail_appends(Some(error));
            assert_eq!(rig.txns.end_transaction("x", producer, true).await, Err(told), "{error:?}");
            assert_eq!(rig.init("y").await, Err(told), "{error:?}");
        }
        rig.log.fail_appends(None);
        assert_eq!(rig.state("x"), TxnState::Ongoing);
        rig.txns.send_due();
        assert!(rig.leaders.sent().is_empty());
        assert_eq!(rig.txns.end_transaction("x", producer, false).await, Ok(()));
        rig.until_state("x", TxnState::CompleteAbort).await;
        assert_eq!(rig.init("y").await, Ok(Producer::new(1, 0)), "the id it took is used");
    });
}

#[test]
fn an_end_that_cannot_be_stored_is_stored_later() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        *rig.leaders.route.lock() = Route::NoLeader;
        assert_eq!(rig.txns.end_transaction("x", producer, true).await, Ok(()));
        rig.log.fail_appends(Some(ErrorCode::NotEnoughReplicas));
        *rig.leaders.route.lock() = Route::Leader(BrokerId(2));
        rig.until("the marker", || {
            rig.clock.advance(100);
            rig.txns.send_due();
            !rig.leaders.sent().is_empty()
        })
        .await;
        assert_eq!(rig.state("x"), TxnState::PrepareCommit);
        rig.log.fail_appends(None);
        rig.until_state("x", TxnState::CompleteCommit).await;
        assert_eq!(rig.leaders.sent().len(), 1, "the marker is written once");
    });
}

#[test]
fn a_successor_ends_what_was_about_to_end_under_its_own_epoch() {
    run(async {
        for commit in [true, false] {
            let rig = Rig::new().await;
            let producer = rig.ongoing("x", &[0, 1]).await;
            let other = rig.ongoing("y", &[2]).await;
            rig.leaders.is_down.store(true, Ordering::SeqCst);
            assert_eq!(rig.txns.end_transaction("x", producer, commit).await, Ok(()));
            rig.until("a try", || {
                rig.txns.send_due();
                !rig.leaders.sent().is_empty()
            })
            .await;
            let next = rig.restarted().await;
            let state = if commit { TxnState::CompleteCommit } else { TxnState::CompleteAbort };
            next.until_state("x", state).await;
            let partitions = ["t-0", "t-1"].map(str::to_owned).to_vec();
            assert_eq!(next.leaders.sent(), [(1, 0, 0, EPOCH.next().get(), commit, partitions)]);
            // What was under way goes on.
            assert_eq!(next.txns.end_transaction("y", other, true).await, Ok(()));
            // The former coordinator writes nothing any more, and stops sending when it hears of it.
            rig.leaders.is_down.store(false, Ordering::SeqCst);
            assert_eq!(rig.add("y", other, &[7]).await, Err(ErrorCode::NotCoordinator));
            rig.txns.on_resignation(0, Some(EPOCH.next()));
            rig.leaders.sent.lock().clear();
            rig.clock.advance(1_000);
            rig.txns.send_due();
            assert!(rig.txns.markers.lock().is_empty() && rig.leaders.sent().is_empty());
            assert_eq!(rig.init("x").await, Err(ErrorCode::NotCoordinator));
        }
    });
}

/// A former leader's last records may be in nobody else's log: no marker may be sent for them yet.
#[test]
fn a_successor_acts_only_on_what_its_replicas_have() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        rig.log.hold_acks(true);
        let end = rig.end("x", producer, true);
        rig.until("the append", || rig.log.held() == 1).await;
        let next = rig.successor();
        next.log.lead(0, EPOCH.next());
        next.txns.on_election(0, EPOCH.next());
        rig.until("the successor waits too", || rig.log.held() == 2).await;
        next.txns.send_due();
        assert!(!next.txns.is_served(0) && next.leaders.sent().is_empty());
        assert_eq!(next.init("x").await, Err(ErrorCode::CoordinatorLoadInProgress));
        assert_eq!(next.txns.list(&Filter::default()), Err(ErrorCode::CoordinatorLoadInProgress));
        rig.log.hold_acks(false);
        rig.log.release(Ok(()));
        next.until("it serves", || next.txns.is_served(0)).await;
        next.until_state("x", TxnState::CompleteCommit).await;
        assert_eq!(next.leaders.sent().len(), 1);
        end.abort();
    });
}

#[test]
fn a_leadership_that_ends_while_loading_or_waiting_is_forgotten() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        rig.log.hold_acks(true);
        let end = rig.end("x", producer, true);
        rig.until("the append", || rig.log.held() == 1).await;
        rig.log.follow(0);
        rig.txns.on_resignation(0, Some(EPOCH.next()));
        rig.log.release(Ok(()));
        assert_eq!(end.await.expect("no panic"), Err(ErrorCode::NotCoordinator));
        assert_eq!(rig.txns.describe("x"), Err(ErrorCode::NotCoordinator));
        rig.txns.send_due();
        assert!(rig.leaders.sent().is_empty());
        // Older news changes nothing; a partition that is not led is not loaded.
        rig.txns.on_election(0, EPOCH.next().next());
        rig.until("loading ends", || !rig.txns.is_loading_any()).await;
        assert!(!rig.txns.is_served(0));
        rig.log.hold_acks(false);
        rig.elect(LeaderEpoch(9)).await;
        rig.txns.on_resignation(0, Some(LeaderEpoch(8)));
        rig.txns.on_election(0, LeaderEpoch(8));
        assert!(rig.txns.is_served(0));
        rig.until_state("x", TxnState::CompleteCommit).await;
        rig.txns.stop();
        assert_eq!(rig.init("x").await, Err(ErrorCode::CoordinatorNotAvailable));
        assert_eq!(rig.txns.list(&Filter::default()), Err(ErrorCode::CoordinatorNotAvailable));
    });
}

#[test]
fn markers_follow_a_leader_that_moves_and_outlast_its_errors() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        *rig.leaders.error.lock() = ErrorCode::NotLeaderOrFollower;
        assert_eq!(rig.txns.end_transaction("x", producer, true).await, Ok(()));
        rig.until("a refusal", || {
            rig.txns.send_due();
            !rig.leaders.sent().is_empty()
        })
        .await;
        rig.leaders.is_down.store(true, Ordering::SeqCst);
        rig.until("a broken connection", || {
            rig.clock.advance(100);
            rig.txns.send_due();
            rig.leaders.sent().len() > 1
        })
        .await;
        *rig.leaders.route.lock() = Route::Leader(BrokerId(2));
        *rig.leaders.error.lock() = ErrorCode::None;
        rig.leaders.is_down.store(false, Ordering::SeqCst);
        rig.until_state("x", TxnState::CompleteCommit).await;
        assert_eq!(rig.leaders.sent().last().map(|sent| sent.0), Some(2));
    });
}

#[test]
fn deleted_partitions_do_not_keep_a_transaction_open() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        *rig.leaders.route.lock() = Route::NoPartition;
        assert_eq!(rig.txns.end_transaction("x", producer, false).await, Ok(()));
        rig.until_state("x", TxnState::CompleteAbort).await;
        assert!(rig.leaders.sent().is_empty());
    });
}

#[test]
fn a_new_producer_waits_until_the_former_one_s_transaction_is_aborted() {
    run(async {
        let rig = Rig::new().await;
        let former = rig.ongoing("x", &[0]).await;
        assert_eq!(rig.init("x").await, Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(rig.txns.end_transaction("x", former, true).await, Err(ErrorCode::ProducerFenced));
        rig.until_state("x", TxnState::CompleteAbort).await;
        // The markers carry the raised epoch, so that the former producer is fenced off in the partitions too.
        assert_eq!(rig.leaders.sent(), [(1, 0, 1, EPOCH.get(), false, vec!["t-0".to_owned()])]);
        assert_eq!(rig.init("x").await, Ok(Producer::new(0, 2)));
    });
}

#[test]
fn transactions_that_take_too_long_are_aborted() {
    run(async {
        let rig = Rig::new().await;
        let producer = rig.ongoing("x", &[0]).await;
        rig.clock.advance(i64::from(TIMEOUT));
        assert_eq!(rig.txns.abort_timed_out(), 0);
        rig.clock.advance(1);
        rig.log.fail_appends(Some(ErrorCode::NotEnoughReplicas));
        assert_eq!(rig.txns.abort_timed_out(), 1);
        assert_eq!(rig.add("x", producer, &[1]).await, Err(ErrorCode::ProducerFenced), "at once");
        rig.log.fail_appends(None);
        assert_eq!((rig.txns.abort_timed_out(), rig.txns.abort_timed_out()), (1, 0));
        rig.until_state("x", TxnState::CompleteAbort).await;
        assert_eq!(rig.leaders.sent(), [(1, 0, 1, EPOCH.get(), false, vec!["t-0".to_owned()])]);
        assert_eq!(rig.txns.end_transaction("x", producer, true).await, Err(ErrorCode::ProducerFenced));
    });
}

#[test]
fn unused_ids_expire_with_a_tombstone() {
    run(async {
        let rig = Rig::new().await;
        rig.init("old").await.expect("a producer");
        rig.clock.advance(TxnConfig::default().id_expiration_ms - 1);
        let open = rig.ongoing("open", &[0]).await;
        assert_eq!(rig.txns.expire_ids(), 0);
        rig.clock.advance(1);
        rig.log.fail_appends(Some(ErrorCode::NotEnoughReplicas));
        assert_eq!(rig.txns.expire_ids(), 1);
        assert_eq!(rig.state("old"), TxnState::Empty);
        rig.log.fail_appends(None);
        rig.log.hold_acks(true);
        assert_eq!(rig.txns.expire_ids(), 1);
        assert_eq!(rig.init("old").await, Err(ErrorCode::ConcurrentTransactions));
        rig.log.hold_acks(false);
        rig.log.release(Ok(()));
        rig.until("it is gone", || rig.txns.describe("old") == Err(ErrorCode::TransactionalIdNotFound)).await;
        rig.clock.advance(2 * TxnConfig::default().id_expiration_ms);
        assert_eq!(rig.txns.expire_ids(), 0, "one that is under way does not expire");
        assert_eq!(rig.records().last(), Some(&("old".to_owned(), None)));
        let rig = rig.restarted().await;
        assert_eq!(rig.txns.describe("old"), Err(ErrorCode::TransactionalIdNotFound));
        assert_eq!(rig.add("open", open, &[1]).await, Ok(()));
        assert_eq!(rig.init("old").await, Ok(Producer::new(2, 0)), "a new one comes");
    });
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    run(async {
        let rig = Rig::new().await;
        let somebody = Producer::new(0, 0);
        for (timeout, error) in [
            (0, ErrorCode::InvalidTransactionTimeout),
            (-1, ErrorCode::InvalidTransactionTimeout),
            (900_001, ErrorCode::InvalidTransactionTimeout),
        ] {
            assert_eq!(rig.txns.init_producer_id("x", timeout, None).await, Err(error));
        }
        let long = "x".repeat(MAX_NAME + 1);
        for id in ["", &long] {
            assert_eq!(rig.init(id).await, Err(ErrorCode::InvalidRequest));
            assert_eq!(rig.add(id, somebody, &[0]).await, Err(ErrorCode::InvalidRequest));
            assert_eq!(rig.txns.end_transaction(id, somebody, true).await, Err(ErrorCode::InvalidRequest));
            assert_eq!(rig.txns.verify_partitions(id, somebody, &set(&[0])), Err(ErrorCode::InvalidRequest));
            assert_eq!(rig.txns.describe(id), Err(ErrorCode::InvalidRequest));
        }
        let unknown = ErrorCode::InvalidProducerIdMapping;
        assert_eq!(rig.add("x", somebody, &[0]).await, Err(unknown));
        assert_eq!(rig.txns.end_transaction("x", somebody, true).await, Err(unknown));
        assert_eq!(rig.txns.verify_partitions("x", somebody, &set(&[0])), Err(unknown));
        rig.ids.fail.store(true, Ordering::SeqCst);
        assert_eq!(rig.init("x").await, Err(ErrorCode::CoordinatorLoadInProgress));
        assert!(rig.records().is_empty());
    });
}

#[test]
fn lists_are_filtered() {
    run(async {
        let rig = Rig::new().await;
        let first = rig.ongoing("a", &[0]).await;
        rig.clock.advance(1_000);
        rig.ongoing("b", &[0]).await;
        rig.init("c").await.expect("a producer");
        let list = |filter: Filter| -> Vec<String> {
            let listed = rig.txns.list(&filter).expect("a list");
            listed.iter().map(|listed| listed.id.to_string()).collect()
        };
        let all = || Filter { longer_than_ms: -1, ..Filter::default() };
        assert_eq!(list(all()), ["a", "b", "c"]);
        assert_eq!(list(Filter { states: Some([TxnState::Ongoing].into()), ..all() }), ["a", "b"]);
        assert!(list(Filter { states: Some(BTreeSet::new()), ..all() }).is_empty());
        assert_eq!(list(Filter { producer_ids: [first.id.get()].into(), ..all() }), ["a"]);
        // An id without a transaction began at -1, and is listed as a very long one, as Kafka does.
        assert_eq!(list(Filter { longer_than_ms: 999, ..all() }), ["a", "c"]);
    });
}

#[test]
fn a_partition_that_cannot_be_read_is_read_again() {
    run(async {
        let rig = Rig::new().await;
        rig.init("x").await.expect("a producer");
        let next = rig.successor();
        next.log.fail_reads(true);
        next.log.lead(0, EPOCH.next());
        next.txns.on_election(0, EPOCH.next());
        assert_eq!(next.init("x").await, Err(ErrorCode::CoordinatorLoadInProgress));
        next.log.fail_reads(false);
        next.until("it is read", || next.txns.is_served(0)).await;
        assert_eq!(next.state("x"), TxnState::Empty);
    });
}

#[test]
fn bad_records_do_not_take_the_others_down() {
    run(async {
        let log = Arc::new(MemoryLog::new(1));
        let put = |key: &[u8], value: &[u8]| {
            let mut batch = BatchWriter::new(1, Codec::None);
            batch.put(|out| out.extend_from_slice(key), |out| out.extend_from_slice(value));
            log.append_foreign(0, &batch.finish().expect("a batch"));
        };
        put(&[0, 9, 1], &[1]);
        put(&[0, 0, 0, 1, b'a'], &[0, 7]);
        put(&[0], &[]);
        let mut value = bytes::BytesMut::new();
        let empty = TxnValue {
            producer: Producer::new(4, 2),
            timeout_ms: TIMEOUT,
            state: TxnState::Empty,
            partitions: BTreeSet::new(),
            last_update_ms: 1,
            start_ms: -1,
        };
        put_value(&mut value, &empty);
        put(&[0, 0, 0, 1, b'x'], &value);
        let mut damaged = log.batches(0)[0].to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        log.append_foreign(0, &damaged);
        let rig = Rig::over(log, Arc::default());
        rig.elect(EPOCH).await;
        assert_eq!(rig.txns.describe("x"), Ok(empty));
        assert_eq!(rig.txns.list(&Filter { longer_than_ms: -1, ..Filter::default() }).map(|all| all.len()), Ok(1));
    });
}
