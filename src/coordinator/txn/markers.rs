//! Which transaction markers go to which broker, and when again (`TransactionMarkerChannelManager`): decisions only. The
//! shell sends what [`Markers::take_ready`] gives and brings the answers.
//!
//! A partition of a transaction is in one place at a time: in a broker's lane, under way to that broker, or waiting until
//! it is looked where it belongs. So there are never more entries than partitions of ended transactions; a request takes
//! so many of them at most, and each broker is sent one at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    ProducerId as WireProducerId, TopicName, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::state::Producer;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, LeaderEpoch, TopicPartition};

/// How long a partition waits before it is looked for, or tried, again, in milliseconds.
const RETRY_MS: i64 = 100;
/// How long a partition must be unknown before it counts as deleted, in milliseconds. Kafka gives it up at once; but news of
/// a new topic may reach this broker later than the leadership of the transaction that writes to it.
const DELETED_AFTER_MS: i64 = 2_000;
/// The most markers in one request.
const MAX_MARKERS: usize = 1_000;
/// The most partitions in one request, unless a single marker has more.
const MAX_PARTITIONS: usize = 5_000;

/// Where a partition's markers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To this broker.
    Leader(BrokerId),
    /// It has no leader at the moment, or nobody knows how to reach it.
    NoLeader,
    /// The cluster has no such partition, as far as this broker knows.
    NoPartition,
}

/// The way to the leaders of partitions: the network, or the hands of a test.
pub trait MarkerChannel: Send + Sync + 'static {
    /// Where the markers of a partition go now.
    fn route(&self, partition: &TopicPartition) -> Route;

    /// Sends one request and waits for its answer; `Err` says why none came. The request may have arrived all the same: a
    /// marker may be written twice.
    fn send(
        &self,
        broker: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> BoxFuture<'_, Result<WriteTxnMarkersResponse, String>>;
}

/// The transaction that a marker belongs to, and under which leadership it is ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxnRef {
    /// The partition of `__transaction_state`.
    pub partition: i32,
    /// The epoch under which this broker leads it: the coordinator epoch in the marker.
    pub epoch: LeaderEpoch,
    /// The transactional id.
    pub id: Arc<str>,
}

/// Markers of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The transaction.
    pub of: TxnRef,
    /// Its producer.
    pub producer: Producer,
    /// How it ended.
    pub commit: bool,
    /// Where the marker is to be written.
    pub partitions: BTreeSet<TopicPartition>,
}

/// What became of a marker in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is written, or there is nothing to mark.
    Done,
    /// Perhaps the next time.
    Retry,
    /// A later coordinator has taken over.
    Superseded,
}

fn verdict(error: ErrorCode) -> Verdict {
    match error {
        ErrorCode::None => Verdict::Done,
        // Such a partition took no record of a transaction either.
        ErrorCode::UnsupportedForMessageFormat | ErrorCode::UnsupportedVersion => Verdict::Done,
        ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced => Verdict::Superseded,
        // Kafka's sender dies of an error that it does not expect, and the transaction stays open.
        _ => Verdict::Retry,
    }
}

/// What the coordinator is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// These partitions need no marker any more.
    Settled(TxnRef, Vec<TopicPartition>),
    /// Another coordinator ends this transaction: nothing more is sent for it.
    Superseded(TxnRef, ErrorCode),
}

struct Waiting {
    at: i64,
    /// Since when the cluster has no such partitions, as far as is known.
    unknown_since: Option<i64>,
    marker: Marker,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Marker>,
    is_busy: bool,
}

/// All markers that are not written yet.
#[derive(Default)]
pub struct Markers {
    lanes: BTreeMap<BrokerId, Lane>,
    waiting: Vec<Waiting>,
    /// How often a broker has not answered, since it last did.
    failures: BTreeMap<BrokerId, u64>,
}

impl Markers {
    /// Takes a transaction's markers; [`Self::route_due`] says where they go.
    pub fn add(&mut self, marker: Marker, now: i64) {
        if !marker.partitions.is_empty() {
            self.waiting.push(Waiting { at: now, unknown_since: None, marker });
        }
    }

    /// Puts what has waited long enough into the lanes of the brokers that lead it now. Partitions that no longer exist
    /// need no marker. Markers of transactions that are not `wanted` are dropped: they were under way when this broker lost
    /// their partition of `__transaction_state`.
    pub fn route_due(
        &mut self,
        now: i64,
        wanted: impl Fn(&TxnRef) -> bool,
        route: impl Fn(&TopicPartition) -> Route,
    ) -> Vec<News> {
        let (due, rest) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.at <= now);
        self.waiting = rest;
        let mut news = Vec::new();
        let due: Vec<Waiting> = due;
        for Waiting { unknown_since, marker, .. } in due.into_iter().filter(|waiting| wanted(&waiting.marker.of)) {
            let mut unknown = BTreeSet::new();
            let mut leaderless = BTreeSet::new();
            let mut led: BTreeMap<BrokerId, BTreeSet<TopicPartition>> = BTreeMap::new();
            for partition in &marker.partitions {
                match route(partition) {
                    Route::Leader(broker) => led.entry(broker).or_default(),
                    Route::NoLeader => &mut leaderless,
                    Route::NoPartition => &mut unknown,
                }
                .insert(partition.clone());
            }
            for (broker, partitions) in led {
                self.lanes.entry(broker).or_default().queue.push_back(Marker { partitions, ..marker.clone() });
            }
            self.wait(&marker, leaderless, now, None);
            let since = unknown_since.unwrap_or(now);
            if now - since >= DELETED_AFTER_MS && !unknown.is_empty() {
                news.push(News::Settled(marker.of, unknown.into_iter().collect()));
            } else {
                self.wait(&marker, unknown, now, Some(since));
            }
        }
        news
    }

    fn wait(&mut self, of: &Marker, partitions: BTreeSet<TopicPartition>, now: i64, unknown_since: Option<i64>) {
        if !partitions.is_empty() {
            let marker = Marker { partitions, ..of.clone() };
            self.waiting.push(Waiting { at: now + RETRY_MS, unknown_since, marker });
        }
    }

    /// What is to be sent now, at most one request for each broker; [`Self::answered`] or [`Self::failed`] must follow.
    pub fn take_ready(&mut self) -> Vec<(BrokerId, Vec<Marker>)> {
        self.lanes.retain(|_, lane| lane.is_busy || !lane.queue.is_empty());
        let idle = self.lanes.iter_mut().filter(|(_, lane)| !lane.is_busy);
        idle.map(|(broker, lane)| (*broker, lane.take())).collect()
    }

    /// A broker has answered.
    pub fn answered(
        &mut self,
        broker: BrokerId,
        sent: Vec<Marker>,
        response: &WriteTxnMarkersResponse,
        now: i64,
    ) -> Vec<News> {
        self.free(broker);
        self.failures.remove(&broker);
        let errors = errors_of(response);
        let error_of = |marker: &Marker, tp: &TopicPartition| {
            errors.get(&(marker.producer.id.get(), &tp.topic, tp.partition)).copied()
        };
        let mut news = Vec::new();
        for marker in sent {
            let (mut done, mut again, mut superseded) = (Vec::new(), BTreeSet::new(), None);
            for tp in &marker.partitions {
                let error = error_of(&marker, tp).unwrap_or(ErrorCode::UnknownServerError);
                match verdict(error) {
                    Verdict::Done => done.push(tp.clone()),
                    Verdict::Retry => {
                        tracing::debug!(id = %marker.of.id, partition = %tp, %broker, %error, "a marker is sent again");
                        again.insert(tp.clone());
                    }
                    Verdict::Superseded => superseded = Some(error),
                }
            }
            if !done.is_empty() {
                news.push(News::Settled(marker.of.clone(), done));
            }
            match superseded {
                Some(error) => {
                    self.cancel(&marker.of);
                    news.push(News::Superseded(marker.of, error));
                }
                None => self.wait(&marker, again, now, None),
            }
        }
        news
    }

    /// A broker has not answered: whoever leads the partitions then is tried in a while. Says how often in a row.
    pub fn failed(&mut self, broker: BrokerId, sent: Vec<Marker>, now: i64) -> u64 {
        self.free(broker);
        for marker in sent {
            let partitions = marker.partitions.clone();
            self.wait(&marker, partitions, now, None);
        }
        let failures = self.failures.entry(broker).or_default();
        *failures += 1;
        *failures
    }

    fn free(&mut self, broker: BrokerId) {
        if let Some(lane) = self.lanes.get_mut(&broker) {
            lane.is_busy = false;
        }
    }

    /// Forgets the markers of one transaction that are not under way.
    fn cancel(&mut self, of: &TxnRef) {
        self.retain(|marker| marker.of != *of);
    }

    /// Forgets the markers of a partition of `__transaction_state` that this broker no longer leads. What is under way
    /// comes back as news or as another try, for which nobody asks any more.
    pub fn resign(&mut self, partition: i32) {
        self.retain(|marker| marker.of.partition != partition);
    }

    /// Keeps only the markers for which `wanted` holds, of those not under way.
    fn retain(&mut self, wanted: impl Fn(&Marker) -> bool) {
        self.waiting.retain(|waiting| wanted(&waiting.marker));
        self.lanes.values_mut().for_each(|lane| lane.queue.retain(&wanted));
    }

    /// When [`Self::route_due`] has something to do next.
    pub fn next_due(&self) -> Option<i64> {
        self.waiting.iter().map(|waiting| waiting.at).min()
    }

    /// How many entries wait or are queued.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.lanes.values().map(|lane| lane.queue.len()).sum::<usize>()
    }

    /// Whether nothing waits or is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Lane {
    fn take(&mut self) -> Vec<Marker> {
        self.is_busy = true;
        let (mut taken, mut partitions) = (Vec::new(), 0);
        while let Some(next) = self.queue.front() {
            partitions += next.partitions.len();
            if !taken.is_empty() && (taken.len() >= MAX_MARKERS || partitions > MAX_PARTITIONS) {
                break;
            }
            taken.extend(self.queue.pop_front());
        }
        taken
    }
}

type Errors<'a> = BTreeMap<(i64, &'a str, i32), ErrorCode>;

/// A broker may put what belongs to one producer together, so answers are found by producer and partition.
fn errors_of(response: &WriteTxnMarkersResponse) -> Errors<'_> {
    let mut errors = Errors::new();
    for marker in &response.markers {
        for topic in &marker.topics {
            for partition in &topic.partitions {
                let key = (marker.producer_id.0, topic.name.as_str(), partition.partition_index);
                errors.insert(key, ErrorCode::from_code(partition.error_code));
            }
        }
    }
    errors
}

/// The request that carries these markers.
pub fn request(markers: &[Marker]) -> WriteTxnMarkersRequest {
    let marker = |marker: &Marker| {
        let mut topics: Vec<WritableTxnMarkerTopic> = Vec::new();
        for tp in &marker.partitions {
            match topics.last_mut() {
                Some(topic) if *topic.name == *tp.topic => topic.partition_indexes.push(tp.partition),
                _ => topics.push(
                    WritableTxnMarkerTopic::default()
                        .with_name(TopicName(StrBytes::from_string(tp.topic.to_string())))
                        .with_partition_indexes(vec![tp.partition]),
                ),
            }
        }
        WritableTxnMarker::default()
            .with_producer_id(WireProducerId(marker.producer.id.get()))
            .with_producer_epoch(marker.producer.epoch.get())
            .with_transaction_result(marker.commit)
            .with_topics(topics)
            .with_coordinator_epoch(marker.of.epoch.get())
    };
    WriteTxnMarkersRequest::default().with_markers(markers.iter().map(marker).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    };

    use super::*;

    const A: BrokerId = BrokerId(1);
    const B: BrokerId = BrokerId(2);

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    fn marker(id: &str, producer: i64, partitions: &[(&str, i32)]) -> Marker {
        Marker {
            of: TxnRef { partition: 3, epoch: LeaderEpoch(5), id: id.into() },
            producer: Producer::new(producer, 7),
            commit: true,
            partitions: partitions.iter().map(|&(topic, partition)| tp(topic, partition)).collect(),
        }
    }

    /// The answer of a broker that gives these errors.
    fn answer(sent: &[Marker], error: impl Fn(&TopicPartition) -> ErrorCode) -> WriteTxnMarkersResponse {
        let results = sent.iter().map(|marker| {
            let topics = marker.partitions.iter().map(|tp| {
                let result = WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(tp.partition)
                    .with_error_code(error(tp).code());
                WritableTxnMarkerTopicResult::default()
                    .with_name(TopicName(StrBytes::from_string(tp.topic.to_string())))
                    .with_partitions(vec![result])
            });
            WritableTxnMarkerResult::default()
                .with_producer_id(WireProducerId(marker.producer.id.get()))
                .with_topics(topics.collect())
        });
        WriteTxnMarkersResponse::default().with_markers(results.collect())
    }

    fn all(_: &TxnRef) -> bool {
        true
    }

    /// Even partitions are led by A, odd ones by B.
    fn by_number(tp: &TopicPartition) -> Route {
        Route::Leader(if tp.partition % 2 == 0 { A } else { B })
    }

    #[test]
    fn markers_are_grouped_by_broker_and_sent_one_request_at_a_time() {
        let mut markers = Markers::default();
        markers.add(marker("x", 1, &[("t", 0), ("t", 1), ("u", 2)]), 0);
        markers.add(marker("y", 2, &[("t", 0)]), 0);
        assert!(markers.route_due(0, all, by_number).is_empty());
        let ready = markers.take_ready();
        let sizes: Vec<_> = ready.iter().map(|(broker, sent)| (*broker, sent.len())).collect();
        assert_eq!(sizes, [(A, 2), (B, 1)]);
        assert_eq!(ready[0].1[0].partitions, [tp("t", 0), tp("u", 2)].into());
        // A is busy; what comes meanwhile waits for its answer.
        markers.add(marker("z", 3, &[("t", 0)]), 0);
        markers.route_due(0, all, by_number);
        assert!(markers.take_ready().is_empty());
        let (_, sent) = ready.into_iter().next().expect("A's");
        let response = answer(&sent, |_| ErrorCode::None);
        let news = markers.answered(A, sent.clone(), &response, 0);
        let settled = |marker: &Marker| News::Settled(marker.of.clone(), marker.partitions.iter().cloned().collect());
        assert_eq!(news, [settled(&sent[0]), settled(&sent[1])]);
        assert_eq!(markers.take_ready().len(), 1);
        assert!(markers.is_empty());
    }

    #[test]
    fn a_request_has_a_bound() {
        let mut markers = Markers::default();
        for at in 0..2_500 {
            markers.add(marker("x", at, &[("t", 0)]), 0);
        }
        markers.route_due(0, all, by_number);
        let mut sizes = Vec::new();
        while let Some((broker, sent)) = markers.take_ready().pop() {
            sizes.push(sent.len());
            let response = answer(&sent, |_| ErrorCode::None);
            markers.answered(broker, sent, &response, 0);
        }
        assert_eq!(sizes, [1_000, 1_000, 500]);
    }

    #[test]
    fn retriable_errors_are_retried_where_the_leader_is_then() {
        for error in [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::NotEnoughReplicasAfterAppend,
            ErrorCode::RequestTimedOut,
            ErrorCode::KafkaStorageError,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::UnknownServerError,
        ] {
            let mut markers = Markers::default();
            markers.add(marker("x", 1, &[("t", 0), ("t", 2)]), 0);
            markers.route_due(0, all, by_number);
            let (broker, sent) = markers.take_ready().pop().expect("a request");
            let response = answer(&sent, |tp| if tp.partition == 0 { ErrorCode::None } else { error });
            let news = markers.answered(broker, sent.clone(), &response, 10);
            assert_eq!(news, [News::Settled(sent[0].of.clone(), vec![tp("t", 0)])], "{error:?}");
            assert_eq!(markers.next_due(), Some(10 + RETRY_MS));
            assert!(markers.route_due(10 + RETRY_MS - 1, all, by_number).is_empty() && markers.take_ready().is_empty());
            markers.route_due(10 + RETRY_MS, all, |_| Route::Leader(B));
            let ready = markers.take_ready();
            assert_eq!(ready, [(B, vec![Marker { partitions: [tp("t", 2)].into(), ..sent[0].clone() }])]);
        }
    }

    #[test]
    fn what_was_not_answered_or_left_out_is_sent_again() {
        let mut markers = Markers::default();
        markers.add(marker("x", 1, &[("t", 0)]), 0);
        markers.route_due(0, all, by_number);
        let (_, sent) = markers.take_ready().pop().expect("a request");
        assert_eq!(markers.failed(A, sent, 0), 1);
        markers.route_due(RETRY_MS, all, by_number);
        let (_, sent) = markers.take_ready().pop().expect("a second");
        assert!(markers.answered(A, sent, &WriteTxnMarkersResponse::default(), RETRY_MS).is_empty());
        markers.route_due(2 * RETRY_MS, all, by_number);
        assert_eq!(markers.take_ready().len(), 1);
    }

    #[test]
    fn partitions_without_a_leader_wait_and_deleted_ones_are_let_go() {
        let mut markers = Markers::default();
        markers.add(marker("x", 1, &[("gone", 0), ("t", 0)]), 0);
        let route = |tp: &TopicPartition| if &*tp.topic == "gone" { Route::NoPartition } else { Route::NoLeader };
        for now in (0..DELETED_AFTER_MS).step_by(100) {
            assert!(markers.route_due(now, all, route).is_empty(), "at {now}");
        }
        let news = markers.route_due(DELETED_AFTER_MS, all, route);
        assert_eq!(news, [News::Settled(marker("x", 1, &[]).of, vec![tp("gone", 0)])]);
        assert!(markers.take_ready().is_empty());
        // A partition that comes back in time is not given up.
        markers.add(marker("y", 2, &[("gone", 0)]), 5_000);
        markers.route_due(5_000, all, |_| Route::NoPartition);
        markers.route_due(5_100, all, |_| Route::NoLeader);
        assert!(markers.route_due(5_000 + DELETED_AFTER_MS, all, |_| Route::NoPartition).is_empty());
    }

    #[test]
    fn a_superseded_transaction_sends_nothing_more() {
        for error in [ErrorCode::InvalidProducerEpoch, ErrorCode::TransactionCoordinatorFenced] {
            let mut markers = Markers::default();
            markers.add(marker("x", 1, &[("t", 0), ("t", 1)]), 0);
            markers.route_due(0, all, |tp| if tp.partition == 0 { Route::Leader(A) } else { Route::NoLeader });
            let (_, sent) = markers.take_ready().pop().expect("a request");
            let response = answer(&sent, |_| error);
            let news = markers.answered(A, sent, &response, 0);
            assert_eq!(news, [News::Superseded(marker("x", 1, &[]).of, error)]);
            assert!(markers.is_empty());
        }
    }

    #[test]
    fn a_resignation_takes_its_markers_along() {
        let mut markers = Markers::default();
        markers.add(marker("x", 1, &[("t", 0)]), 0);
        let mut other = marker("y", 2, &[("t", 0)]);
        other.of.partition = 4;
        markers.add(other, 0);
        markers.route_due(0, all, by_number);
        markers.add(marker("z", 3, &[("t", 0)]), 0);
        markers.resign(3);
        assert_eq!(markers.len(), 1);
        let (_, sent) = markers.take_ready().pop().expect("y's");
        assert_eq!(&*sent[0].of.id, "y");
        // What was under way comes back, and is dropped.
        markers.failed(A, sent, 0);
        assert_eq!(markers.len(), 1);
        markers.route_due(RETRY_MS, |of| of.partition != 4, by_number);
        assert!(markers.is_empty());
    }

    #[test]
    fn requests_say_what_is_marked_and_by_whom() {
        let request = request(&[marker("x", 9, &[("t", 0), ("t", 1), ("u", 2)])]);
        let written = &request.markers[0];
        assert_eq!((written.producer_id.0, written.producer_epoch, written.transaction_result), (9, 7, true));
        assert_eq!(written.coordinator_epoch, 5);
        let topics: Vec<_> = written.topics.iter().map(|t| (t.name.as_str(), t.partition_indexes.clone())).collect();
        assert_eq!(topics, [("t", vec![0, 1]), ("u", vec![2])]);
    }
}
