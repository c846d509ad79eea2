//! Consume, transform, produce: takes the next numbers after the offset that its group has committed, writes them to the
//! output and commits the new offset in the same transaction. The numbers themselves are the input.
//!
//! A copier is killed now and then and another comes under its transactional id; or it is taken for dead, and goes on until
//! it is fenced off. What it cannot get through it tries again, or gives up: then it aborts, as Kafka's producers do, and
//! raises its epoch (KIP-360), for what it sent may still be under way. It raises it too after a transaction of which any
//! request was not answered: before the second part of KIP-890 nothing tells a late commit, of the transaction or of its
//! offsets, from one of the next transaction in the same epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{ProducerEpoch, ProducerId};
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, OffsetFetchRequest, ProducerId as WireProducer, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{PARTITIONS, output};
use crate::clients::{BACKOFF, Client, PRODUCE, Route, call};
use crate::kernel::CLIENTS;
use crate::network::Connection;

const FIND_COORDINATOR: i16 = 3;
const INIT_PRODUCER_ID: i16 = 4;
const ADD_PARTITIONS: i16 = 3;
const ADD_OFFSETS: i16 = 3;
const TXN_OFFSET_COMMIT: i16 = 3;
const OFFSET_FETCH: i16 = 7;
const END_TXN: i16 = 3;

/// How long a transaction may take, in ms.
const TIMEOUT: i32 = 800;
/// How long a copier works before another comes, in ms.
const LIFETIME: (u64, u64) = (200, 1_500);
/// Stands before a transaction's number in what it writes.
const MARK: &str = "transaction ";

/// What all copiers of one transactional id share.
pub struct Shared {
    /// Numbers below this are copied.
    pub count: i64,
    /// Nobody is replaced any more.
    pub is_calm: AtomicBool,
    /// Which copier is the last.
    newest: AtomicU64,
}

impl Shared {
    pub fn new(count: i64) -> Self {
        Self { count, is_calm: AtomicBool::new(false), newest: AtomicU64::new(0) }
    }
}

/// A copier.
#[derive(Clone)]
pub struct Copier {
    pub client: Client,
    /// Its transactional id, which is its group's too.
    pub id: &'static str,
    pub shared: Arc<Shared>,
}

/// A number in the output.
#[derive(Debug)]
pub struct Number {
    pub number: i64,
    pub transaction: u64,
}

/// Reads a record's value.
pub fn parse(value: &[u8]) -> Option<Number> {
    let (transaction, number) = std::str::from_utf8(value).ok()?.strip_prefix(MARK)?.split_once(':')?;
    Some(Number { number: number.parse().ok()?, transaction: transaction.parse().ok()? })
}

/// The transaction that a batch's records belong to. They are not compressed.
pub fn number_in(records: &[u8]) -> u64 {
    let mark = MARK.as_bytes();
    let found = records.windows(mark.len()).position(|window| window == mark);
    let digits = records[found.map_or(0, |at| at + mark.len())..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// Whether a marker is one of a commit: its record has a key of a version and a type.
pub fn is_commit(records: &[u8]) -> bool {
    let first = barnabas::protocol::records::records(records, 1).next();
    first.and_then(Result::ok).and_then(|record| record.key).is_some_and(|key| key == [0, 0, 0, 1])
}

/// Why a request is not to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was refused for good.
    Refused(ErrorCode),
    /// The copier has waited long enough; it may be under way.
    GivenUp,
}

/// What to do about an answer.
enum Verdict {
    Done,
    /// Ask again, of whoever is responsible now.
    Again,
    Refused,
}

fn verdict(error: ErrorCode) -> Verdict {
    match error {
        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Verdict::Done,
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::ConcurrentTransactions
        | ErrorCode::UnstableOffsetCommit
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::OperationNotAttempted
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::NetworkException
        | ErrorCode::RequestTimedOut
        | ErrorCode::KafkaStorageError => Verdict::Again,
        _ => Verdict::Refused,
    }
}

/// What a coordinator coordinates, as FindCoordinator has it.
#[derive(Clone, Copy)]
enum Of {
    Group = 0,
    Transaction = 1,
}

/// A producer with its epoch, and where its sequences stand.
pub struct Producer {
    id: WireProducer,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
}

/// One copier at work.
pub struct Session {
    copier: Copier,
    name: u64,
    transactions: Option<Connection>,
    group: Option<Connection>,
    routes: BTreeMap<i32, Route>,
    /// How many answers that do not come are too many, for a while.
    patience: Option<usize>,
    /// Whether something that was not answered may be under way.
    is_unsure: bool,
}

impl Copier {
    /// Copiers come, are killed or taken for dead, and others come, until it is calm.
    pub async fn replace_each_other(self) {
        let mut present = self.spawn();
        loop {
            let (pause, kills) = {
                let mut core = self.client.sim.core();
                (core.pick(LIFETIME), core.chance(0.6))
            };
            sleep(Duration::from_millis(pause)).await;
            if self.shared.is_calm.load(Ordering::Relaxed) {
                return;
            }
            if kills {
                present.abort();
            }
            let what = if kills { "is killed" } else { "is taken for dead" };
            self.client.sim.note(&format!("copier {} {what}", self.shared.newest.load(Ordering::Relaxed)));
            present = self.spawn();
        }
    }

    fn spawn(&self) -> JoinHandle<()> {
        tokio::spawn(self.session().copy())
    }

    /// A copier, the newest.
    pub fn session(&self) -> Session {
        let name = self.shared.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let routes = (0..PARTITIONS).map(|partition| (partition, Route::default())).collect();
        Session {
            copier: self.clone(),
            name,
            transactions: None,
            group: None,
            routes,
            patience: None,
            is_unsure: false,
        }
    }

    /// Looks what offset is committed, until all is copied.
    pub async fn audit(self) {
        let mut session = self.session();
        // It is no copier: none is fenced off by it.
        self.shared.newest.fetch_sub(1, Ordering::Relaxed);
        loop {
            if let Ok(position) = session.position().await {
                self.client.ledger.lock().copies.audited = Some(position);
                if position >= self.shared.count {
                    return;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Session {
    fn chance(&self, chance: f64) -> bool {
        self.copier.client.sim.core().chance(chance)
    }

    fn note(&self, line: &str) {
        self.copier.client.sim.note(&format!("copier {} {line}", self.name));
    }

    fn is_newest(&self) -> bool {
        self.copier.shared.newest.load(Ordering::Relaxed) == self.name
    }

    fn topic(&self) -> StrBytes {
        StrBytes::from_static_str(super::OUTPUT)
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_static_str(self.copier.id))
    }

    fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_static_str(self.copier.id))
    }

    /// Copies until all is copied; one that was replaced ends when it is fenced off.
    async fn copy(mut self) {
        let mut former = None;
        loop {
            let Ok(mut producer) = self.init(former.take()).await else {
                if self.is_newest() {
                    continue;
                }
                return;
            };
            match self.copy_as(&mut producer).await {
                Ok(()) => return self.note("has copied all"),
                Err(Ended::GivenUp) => former = Some((producer.id, producer.epoch)).filter(|_| self.chance(0.5)),
                Err(Ended::Refused(error)) => {
                    self.note(&format!("is refused: {error}"));
                    if !self.is_newest() {
                        return;
                    }
                }
            }
        }
    }

    /// Transaction after transaction.
    async fn copy_as(&mut self, producer: &mut Producer) -> Result<(), Ended> {
        let mut position = self.position().await?;
        self.note(&format!("is producer {} of epoch {}, at {position}", producer.id.0, producer.epoch));
        while position < self.copier.shared.count {
            let most = i64::try_from(self.copier.client.sim.core().pick((1, 4))).expect("few");
            let end = self.copier.shared.count.min(position + most);
            self.patience = Some(1).filter(|_| self.chance(0.5));
            let number = self.number();
            let written = self.write(producer, number, position, end).await;
            self.patience = None;
            let commit = written.is_ok() && !self.chance(0.15);
            if let Err(Ended::Refused(_)) = written {
                return written;
            }
            self.end(producer, number, commit).await?;
            written?;
            if self.is_unsure {
                return Err(Ended::GivenUp);
            }
            if commit {
                position = end;
            }
            let pause = self.copier.client.sim.core().pick((0, 20));
            sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    /// A number that no transaction had before.
    pub fn number(&self) -> u64 {
        let mut ledger = self.copier.client.ledger.lock();
        ledger.copies.begun += 1;
        ledger.copies.begun
    }

    /// The numbers from `from` to before `to`, and the offset after them.
    pub async fn write(&mut self, producer: &mut Producer, number: u64, from: i64, to: i64) -> Result<(), Ended> {
        let mut batches: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for value in from..to {
            batches.entry(i32::try_from(value % i64::from(PARTITIONS)).expect("few")).or_default().push(value);
        }
        self.add_partitions(producer, batches.keys().copied().collect()).await?;
        for (partition, numbers) in batches {
            let records = batch(producer, partition, number, &numbers);
            self.produce(partition, records).await?;
        }
        self.add_offsets(producer).await?;
        self.commit_offset(producer, number, to).await
    }

    async fn connection(&mut self, of: Of) -> Option<&Connection> {
        let known = match of {
            Of::Group => &self.group,
            Of::Transaction => &self.transactions,
        };
        if known.as_ref().is_none_or(|connection| !connection.is_open()) {
            let found = self.find(of).await;
            if found.is_none() {
                sleep(BACKOFF).await;
            }
            *self.known(of) = found;
        }
        self.known(of).as_ref()
    }

    fn known(&mut self, of: Of) -> &mut Option<Connection> {
        match of {
            Of::Group => &mut self.group,
            Of::Transaction => &mut self.transactions,
        }
    }

    async fn find(&self, of: Of) -> Option<Connection> {
        let client = &self.copier.client;
        let at = client.sim.core().pick((0, client.brokers.len() as u64 - 1));
        let connection = Connection::open(&client.sim, CLIENTS, client.brokers[usize::try_from(at).unwrap_or(0)]);
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_static_str(self.copier.id))
            .with_key_type(of as i8);
        let answer = call(&connection, FIND_COORDINATOR, &request).await?;
        let found = answer.error_code == 0;
        found.then(|| Connection::open(&client.sim, CLIENTS, answer.node_id.0))
    }

    /// Asks a coordinator until it answers with something final; `error` finds the error in an answer.
    async fn ask<R: Request>(
        &mut self,
        of: Of,
        version: i16,
        request: &R,
        error: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Ended> {
        let mut in_vain = 0;
        loop {
            let answer = match self.connection(of).await {
                Some(connection) => call(connection, version, request).await,
                None => continue,
            };
            match answer.map(|answer| (ErrorCode::from_code(error(&answer)), answer)) {
                None => {
                    *self.known(of) = None;
                    self.is_unsure = true;
                    in_vain += 1;
                }
                Some((code, answer)) => match verdict(code) {
                    Verdict::Done => return Ok(answer),
                    Verdict::Again => {
                        if matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                            *self.known(of) = None;
                        }
                    }
                    Verdict::Refused => return Err(Ended::Refused(code)),
                },
            }
            if self.patience.is_some_and(|patience| in_vain >= patience) {
                return Err(Ended::GivenUp);
            }
            sleep(BACKOFF).await;
        }
    }

    /// A producer; with `former` the same in a new epoch.
    pub async fn init(&mut self, former: Option<(WireProducer, i16)>) -> Result<Producer, Ended> {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_transaction_timeout_ms(TIMEOUT);
        if let Some((id, epoch)) = former {
            request = request.with_producer_id(id).with_producer_epoch(epoch);
        }
        let answer = self.ask(Of::Transaction, INIT_PRODUCER_ID, &request, |answer| answer.error_code).await?;
        self.is_unsure = false;
        Ok(Producer { id: answer.producer_id, epoch: answer.producer_epoch, sequences: BTreeMap::new() })
    }

    /// The offset that is committed, once nothing of it is open.
    async fn position(&mut self) -> Result<i64, Ended> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(kafka_protocol::messages::TopicName(self.topic()))
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(self.group_id())
            .with_require_stable(true)
            .with_topics(Some(vec![topic]));
        let answer = self
            .ask(Of::Group, OFFSET_FETCH, &request, |answer| match answer.error_code {
                0 => answer.topics[0].partitions[0].error_code,
                error => error,
            })
            .await?;
        Ok(answer.topics[0].partitions[0].committed_offset.max(0))
    }

    /// Partitions of the output take part.
    pub async fn add_partitions(&mut self, producer: &Producer, partitions: Vec<i32>) -> Result<(), Ended> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(kafka_protocol::messages::TopicName(self.topic()))
            .with_partitions(partitions);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id())
            .with_v3_and_below_producer_id(producer.id)
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let first = |errors: Vec<i16>| {
            let rank = |code: i16| matches!(verdict(ErrorCode::from_code(code)), Verdict::Refused);
            errors.iter().copied().find(|code| rank(*code)).or(errors.into_iter().max()).unwrap_or(0)
        };
        self.ask(Of::Transaction, ADD_PARTITIONS, &request, |answer| {
            let topics = answer.results_by_topic_v3_and_below.iter();
            first(topics.flat_map(|t| &t.results_by_partition).map(|p| p.partition_error_code).collect())
        })
        .await
        .map(drop)
    }

    /// The group takes part.
    async fn add_offsets(&mut self, producer: &Producer) -> Result<(), Ended> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_group_id(self.group_id());
        self.ask(Of::Transaction, ADD_OFFSETS, &request, |answer| answer.error_code).await.map(drop)
    }

    async fn commit_offset(&mut self, producer: &Producer, number: u64, offset: i64) -> Result<(), Ended> {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_string(format!("{MARK}{number}:"))));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(kafka_protocol::messages::TopicName(self.topic()))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id())
            .with_group_id(self.group_id())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let error =
            |answer: &kafka_protocol::messages::TxnOffsetCommitResponse| answer.topics[0].partitions[0].error_code;
        self.ask(Of::Group, TXN_OFFSET_COMMIT, &request, error).await.map(drop)
    }

    /// Sends a batch to its partition's leader.
    pub async fn produce(&mut self, partition: i32, records: Bytes) -> Result<(), Ended> {
        let client = Client { tp: output(partition), ..self.copier.client.clone() };
        let mut request = client.produce_request(records);
        request.transactional_id = Some(self.id());
        let mut in_vain = 0;
        loop {
            let mut route = self.routes.remove(&partition).unwrap_or_default();
            let answer = match client.leader(&mut route).await {
                Some(leader) => Some(call(&leader.connection, PRODUCE, &request).await),
                None => None,
            };
            let code = answer
                .as_ref()
                .and_then(Option::as_ref)
                .map(|answer| ErrorCode::from_code(answer.responses[0].partition_responses[0].error_code));
            if !matches!(code.map(verdict), Some(Verdict::Done)) {
                route.leader = None;
            }
            self.routes.insert(partition, route);
            match code.map(verdict) {
                Some(Verdict::Done) => return Ok(()),
                Some(Verdict::Refused) => return Err(Ended::Refused(code.unwrap_or(ErrorCode::None))),
                Some(Verdict::Again) => {}
                None => {
                    self.is_unsure |= answer.is_some();
                    in_vain += usize::from(answer.is_some());
                }
            }
            if self.patience.is_some_and(|patience| in_vain >= patience) {
                return Err(Ended::GivenUp);
            }
            sleep(BACKOFF).await;
        }
    }

    /// Sends a batch to the leader that was written to last. Nobody waits for the answer, and it may arrive late.
    pub fn produce_late(&mut self, partition: i32, records: Bytes) {
        let client = Client { tp: output(partition), ..self.copier.client.clone() };
        let mut request = client.produce_request(records);
        request.transactional_id = Some(self.id());
        let leader = self.routes.remove(&partition).and_then(|route| route.leader).expect("a leader is known");
        tokio::spawn(async move {
            let answer = leader.connection.call(PRODUCE, &request).await;
            client.sim.note(&format!("the late batch is answered with {answer:?}"));
        });
    }

    /// Commits or aborts, until that is so; the ledger hears of it.
    pub async fn end(&mut self, producer: &Producer, number: u64, commit: bool) -> Result<(), Ended> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        self.ask(Of::Transaction, END_TXN, &request, |answer| answer.error_code).await?;
        self.note(&format!("has {} transaction {number}", if commit { "committed" } else { "aborted" }));
        self.copier.client.ledger.lock().copies.told.insert(number, commit);
        Ok(())
    }
}

/// A batch of numbers for a partition of the output.
pub fn batch(producer: &mut Producer, partition: i32, transaction: u64, numbers: &[i64]) -> Bytes {
    let sequence = producer.sequences.entry(partition).or_default();
    let spec = BatchSpec {
        producer_id: ProducerId(producer.id.0),
        producer_epoch: ProducerEpoch(producer.epoch),
        base_sequence: *sequence,
        transactional: true,
        ..BatchSpec::default()
    };
    *sequence += i32::try_from(numbers.len()).expect("few");
    let mut builder = BatchBuilder::new(spec);
    for number in numbers {
        builder.append(1_700_000_000_000, None, Some(format!("{MARK}{transaction}:{number}").as_bytes()));
    }
    builder.build().expect("a batch").1
}
