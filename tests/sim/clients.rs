//! Clients: idempotent producers with acks=all and one request under way, consumers from the beginning, and what they tell
//! the ledger. They find leaders by Metadata, give up on requests after a while, and try again for ever. As Kafka's
//! clients do (KIP-320), they never go back to a leader of an epoch older than one they have heard of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use barnabas::protocol::batch;
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use bytes::Bytes;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest, FetchRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::checker::Ledger;
use crate::kernel::{CLIENTS, Node, Sim};
use crate::network::Connection;

const METADATA: i16 = 9;
pub const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const ELECT_LEADERS: i16 = 2;
const LIST_OFFSETS: i16 = 6;
const REASSIGN: i16 = 0;
/// `READ_UNCOMMITTED` on the wire.
const READ_UNCOMMITTED: i8 = 0;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// After so many reads that find nothing the leader is looked for anew, as by `metadata.max.age.ms`: one that was never told
/// that the partition is elsewhere would answer for ever.
pub const METADATA_AGE: usize = 10;
pub const BACKOFF: Duration = Duration::from_millis(20);

/// What a client needs: a partition, where brokers may be, whom to tell.
#[derive(Clone)]
pub struct Client {
    pub sim: Sim,
    pub brokers: Vec<Node>,
    pub tp: TopicPartition,
    pub ledger: Arc<Mutex<Ledger>>,
    /// Set once nobody wants to know any more: the topic is being deleted.
    pub over: Arc<AtomicBool>,
}

/// A connection to the partition's leader, and what is known of it.
pub struct Leader {
    pub connection: Connection,
    epoch: i32,
}

/// The way to the leader, as far as it is known.
#[derive(Default)]
pub struct Route {
    pub leader: Option<Leader>,
    newest_epoch: i32,
}

impl Client {
    /// Writes batch after batch, each until it is acknowledged, `count` of them.
    pub async fn produce(self, producer: i64, count: usize) {
        let mut sequence = 0;
        for _ in 0..count {
            let (records, crc, len) = self.batch(producer, sequence);
            let base = self.write(&records).await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.sim.note(&format!("{} acknowledges {base} to producer {producer}", self.tp));
            self.ledger.lock().acknowledged.push((self.tp.clone(), base, crc));
            sequence += len;
            let pause = self.sim.core().pick((0, 20));
            sleep(Duration::from_millis(pause)).await;
        }
        self.ledger.lock().done.insert(producer);
    }

    fn batch(&self, producer: i64, sequence: i32) -> (Bytes, u32, i32) {
        let len = i32::try_from(self.sim.core().pick((1, 3))).expect("few");
        let spec = BatchSpec {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            base_sequence: sequence,
            ..BatchSpec::default()
        };
        let mut builder = BatchBuilder::new(spec);
        for number in sequence..sequence + len {
            builder.append(1_700_000_000_000, None, Some(format!("{producer}-{number}").as_bytes()));
        }
        let (header, records) = builder.build().expect("a batch");
        (records, header.crc, len)
    }

    /// Sends a batch until it is acknowledged; its offset.
    async fn write(&self, records: &Bytes) -> Offset {
        let mut route = Route::default();
        loop {
            if self.over.load(Ordering::Relaxed) {
                return Offset::UNKNOWN;
            }
            let Some(known) = self.leader(&mut route).await else { continue };
            let request = self.produce_request(records.clone());
            let answer = call(&known.connection, PRODUCE, &request).await;
            if let Some(mut answer) = answer {
                let partition = answer.responses.remove(0).partition_responses.remove(0);
                if partition.error_code == 0 {
                    return Offset(partition.base_offset);
                }
                self.sim.note(&format!("{} refuses: {}", self.tp, ErrorCode::from_code(partition.error_code)));
            }
            route.leader = None;
            sleep(BACKOFF).await;
        }
    }

    pub fn produce_request(&self, records: Bytes) -> ProduceRequest {
        let data = PartitionProduceData::default().with_index(self.tp.partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(self.topic()).with_partition_data(vec![data]);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(200).with_topic_data(vec![topic])
    }

    /// Asks a controller to give the partition to its preferred leader.
    pub async fn elect_preferred(self, controller: Node) {
        let topic = TopicPartitions::default().with_topic(self.topic()).with_partitions(vec![self.tp.partition]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic])).with_timeout_ms(1_000);
        let connection = Connection::open(&self.sim, CLIENTS, controller);
        let answer = call(&connection, ELECT_LEADERS, &request).await;
        self.sim.note(&format!("{}: the preferred election is answered with {answer:?}", self.tp));
    }

    /// Asks a controller to give the partition these replicas; without any, to leave it as it is.
    pub async fn reassign(self, controller: Node, replicas: Option<Vec<Node>>) {
        let partition = ReassignablePartition::default()
            .with_partition_index(self.tp.partition)
            .with_replicas(replicas.map(|ids| ids.into_iter().map(BrokerId).collect()));
        let topic = ReassignableTopic::default().with_name(self.topic()).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(1_000);
        let connection = Connection::open(&self.sim, CLIENTS, controller);
        let answer = call(&connection, REASSIGN, &request).await;
        self.sim.note(&format!("{}: the reassignment is answered with {answer:?}", self.tp));
    }

    /// Reads from the beginning on, for ever.
    pub async fn consume(self) {
        let mut route = Route::default();
        let (mut position, mut in_vain) = (Offset(0), 0);
        loop {
            let Some(known) = self.leader(&mut route).await else { continue };
            let next = self.read(known, position).await;
            match next {
                Some(next) if next == position => {
                    self.ask_end(known, READ_UNCOMMITTED).await;
                    in_vain += 1;
                    if in_vain % METADATA_AGE == 0 {
                        route.leader = None;
                    }
                }
                Some(next) => position = next,
                None => {
                    route.leader = None;
                    sleep(BACKOFF).await;
                }
            }
        }
    }

    /// Asks for what stands at a position, once.
    pub async fn fetch(&self, leader: &Leader, position: Offset, isolation: i8) -> Option<PartitionData> {
        let partition = FetchPartition::default()
            .with_partition(self.tp.partition)
            .with_fetch_offset(position.get())
            .with_current_leader_epoch(leader.epoch)
            .with_partition_max_bytes(1 << 16);
        let topic = FetchTopic::default().with_topic(self.topic()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(50)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let mut answer = call(&leader.connection, FETCH, &request).await?;
        answer.responses.pop()?.partitions.pop()
    }

    /// Reads once; where to go on, or nothing if another leader must be looked for.
    async fn read(&self, leader: &Leader, position: Offset) -> Option<Offset> {
        let mut partition = self.fetch(leader, position, READ_UNCOMMITTED).await?;
        match ErrorCode::from_code(partition.error_code) {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                let violation = format!("{}: a consumer at {position} is out of range", self.tp);
                self.ledger.lock().violations.push(violation);
                return None;
            }
            _ => return None,
        }
        let records = partition.records.take().unwrap_or_default();
        let mut next = position;
        for (header, _) in batch::entries(&records).filter_map(Result::ok) {
            if header.next_offset() > position {
                self.ledger.lock().read(&self.tp, header.base_offset, header.crc);
                next = header.next_offset();
            }
        }
        Some(next)
    }

    /// Asks how far can be read. An end that is not known yet is an error (KIP-207).
    pub async fn ask_end(&self, leader: &Leader, isolation: i8) {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(self.tp.partition)
            .with_timestamp(-1)
            .with_current_leader_epoch(leader.epoch);
        let topic = ListOffsetsTopic::default().with_name(self.topic()).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let Some(answer) = call(&leader.connection, LIST_OFFSETS, &request).await else { return };
        let Some(partition) = answer.topics.first().and_then(|topic| topic.partitions.first()) else { return };
        if partition.error_code == 0 {
            self.ledger.lock().end(&self.tp, isolation, Offset(partition.offset));
        }
    }

    /// The leader, as any broker names it; nothing, after a pause, if none does.
    pub async fn leader<'a>(&self, route: &'a mut Route) -> Option<&'a Leader> {
        if route.leader.is_none() {
            let at = self.sim.core().pick((0, self.brokers.len() as u64 - 1));
            let broker = self.brokers[usize::try_from(at).unwrap_or(0)];
            route.leader = self.find_leader(broker).await.filter(|leader| leader.epoch >= route.newest_epoch);
            match &route.leader {
                Some(leader) => route.newest_epoch = leader.epoch,
                None => sleep(BACKOFF).await,
            }
        }
        route.leader.as_ref()
    }

    async fn find_leader(&self, broker: Node) -> Option<Leader> {
        let connection = Connection::open(&self.sim, CLIENTS, broker);
        let topic = MetadataRequestTopic::default().with_name(Some(self.topic()));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let answer = call(&connection, METADATA, &request).await?;
        let partitions = &answer.topics.first()?.partitions;
        let partition = partitions.iter().find(|p| p.partition_index == self.tp.partition)?;
        if partition.error_code != 0 || partition.leader_id.0 < 0 {
            return None;
        }
        let connection = Connection::open(&self.sim, CLIENTS, partition.leader_id.0);
        Some(Leader { connection, epoch: partition.leader_epoch })
    }

    pub fn topic(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.tp.topic.to_string()))
    }
}

/// Sends a request and waits for the answer, but not for long.
pub async fn call<R: Request>(connection: &Connection, version: i16, request: &R) -> Option<R::Response> {
    timeout(PATIENCE, connection.call(version, request)).await.ok()?.ok()
}
