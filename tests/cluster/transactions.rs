//! Our partitions and groups under Kafka's coordinator of transactions: it vouches for transactions where it can, ends them
//! with its markers, and what was committed is seen then.

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{ProducerEpoch, ProducerId};
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::support::broker::{Broker, Kind};
use crate::support::wire::{produce_request, topic_name};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, jvm, wait_for};

const OURS: i32 = 1;
const THEIRS: i32 = 2;
const TOPIC: &str = "t";
const READ_COMMITTED: i8 = 1;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn id() -> TransactionalId {
    TransactionalId(text("id"))
}

/// What is worth another try until the coordinator is there, or done with the transaction before.
fn passes(code: i16) -> bool {
    let code = ErrorCode::from_code(code);
    code.is_retriable() || code == ErrorCode::ConcurrentTransactions
}

/// A producer that talks to their coordinator and to our partition.
struct Transactional<'a> {
    ours: &'a Broker,
    theirs: &'a Broker,
    producer: (i64, i16),
    sequence: i32,
}

impl<'a> Transactional<'a> {
    fn start(ours: &'a Broker, theirs: &'a Broker) -> Self {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(kafka_protocol::messages::ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = wait_for("a producer id", PATIENCE, || {
            let answer = theirs.wire().call(4, &request);
            (!passes(answer.error_code)).then_some(answer)
        });
        assert_eq!(answer.error_code, 0, "{answer:?}");
        Self { ours, theirs, producer: (answer.producer_id.0, answer.producer_epoch), sequence: 0 }
    }

    fn add_partition(&self) {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(kafka_protocol::messages::ProducerId(self.producer.0))
            .with_v3_and_below_producer_epoch(self.producer.1)
            .with_v3_and_below_topics(vec![topic]);
        let code = wait_for("the partition in the transaction", PATIENCE, || {
            let answer = self.theirs.wire().call(3, &request);
            let topic = &answer.results_by_topic_v3_and_below[0];
            let code = topic.results_by_partition[0].partition_error_code;
            (!passes(code)).then_some(code)
        });
        assert_eq!(code, 0);
    }

    fn write(&mut self) -> ErrorCode {
        let spec = BatchSpec {
            producer_id: ProducerId(self.producer.0),
            producer_epoch: ProducerEpoch(self.producer.1),
            base_sequence: self.sequence,
            transactional: true,
            ..BatchSpec::default()
        };
        let mut batch = BatchBuilder::new(spec);
        batch.append(crate::support::records::now_ms(), Some(b"key"), Some(b"value"));
        let records = batch.build().expect("a batch").1;
        let request = produce_request(TOPIC, 0, -1, records).with_transactional_id(Some(id()));
        // What could not be verified for the moment comes back as this.
        let code = wait_for("an answer that lasts", PATIENCE, || {
            let code = self.ours.wire().call(7, &request).responses[0].partition_responses[0].error_code;
            (code != ErrorCode::NotEnoughReplicas.code()).then_some(ErrorCode::from_code(code))
        });
        self.sequence += i32::from(code.is_none());
        code
    }

    fn end(&self, commit: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(kafka_protocol::messages::ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_committed(commit);
        let code = wait_for("the end of the transaction", PATIENCE, || {
            let code = self.theirs.wire().call(3, &request).error_code;
            (!passes(code)).then_some(code)
        });
        assert_eq!(code, 0);
    }

    /// Last stable offset and the first offsets of aborted transactions.
    fn stable(&self) -> (i64, Vec<i64>) {
        let mut request = crate::support::wire::fetch_request(TOPIC, 0, 0, 1 << 20, 0, 0);
        request.isolation_level = READ_COMMITTED;
        let partition = self.ours.wire().call(11, &request).responses.remove(0).partitions.remove(0);
        let aborted = partition.aborted_transactions.unwrap_or_default();
        (partition.last_stable_offset, aborted.iter().map(|txn| txn.first_offset).collect())
    }

    fn wait_stable(&self, offset: i64, aborted: &[i64]) {
        wait_for("the marker", PATIENCE, || (self.stable() == (offset, aborted.to_vec())).then_some(()));
    }

    fn commit_offset(&self, offset: i64) {
        let group = GroupId(text("g"));
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(kafka_protocol::messages::ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_group_id(group.clone());
        let code = wait_for("the offsets in the transaction", PATIENCE, || {
            let code = self.theirs.wire().call(3, &request).error_code;
            (!passes(code)).then_some(code)
        });
        assert_eq!(code, 0);
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("")));
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(id())
            .with_group_id(group)
            .with_producer_id(kafka_protocol::messages::ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_topics(vec![topic]);
        let code = wait_for("the commit", PATIENCE, || {
            let code = self.ours.wire().call(3, &request).topics[0].partitions[0].error_code;
            (!passes(code)).then_some(code)
        });
        assert_eq!(code, 0);
    }

    fn committed(&self) -> (i64, ErrorCode) {
        let topic = OffsetFetchRequestTopic::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_topics(Some(vec![topic]))
            .with_require_stable(true);
        let found = self.ours.wire().call(7, &request).topics.remove(0).partitions.remove(0);
        (found.committed_offset, ErrorCode::from_code(found.error_code))
    }
}

fn create(controller: &Broker, all: [&Broker; 2], topic: &str, leader: i32) {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(leader)]);
    let wanted = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(20_000);
    assert_eq!(controller.wire().call(4, &request).topics[0].error_code, 0, "creating {topic}");
    for broker in all {
        wait_for("the leader", PATIENCE, || broker.wire().topic_ready(topic, 1).then_some(()));
    }
}

fn under_their_coordinator(version: &'static str) {
    let zookeeper = ZooKeeper::single();
    let [theirs, ours] = [(THEIRS, Kind::Jvm(version)), (OURS, Kind::Barnabas)].map(|(id, kind)| {
        let mut broker = Broker::with_id(kind, id, &zookeeper.connect());
        broker.set("inter.broker.protocol.version", &version[..3]);
        broker.set("transaction.state.log.num.partitions", 1).set("transaction.state.log.min.isr", 1);
        broker.set("offsets.topic.num.partitions", 1);
        broker.started()
    });
    for broker in [&theirs, &ours] {
        wait_for("both know both", PATIENCE, || {
            (broker.wire().try_metadata(&[]).ok()?.brokers.len() == 2).then_some(())
        });
    }
    for (topic, leader) in [("__transaction_state", THEIRS), ("__consumer_offsets", OURS), (TOPIC, OURS)] {
        create(&theirs, [&theirs, &ours], topic, leader);
    }
    let mut producer = Transactional::start(&ours, &theirs);
    if version == jvm::NEW {
        assert_eq!(producer.write(), ErrorCode::InvalidTxnState, "the coordinator does not know of it");
    }
    producer.add_partition();
    assert_eq!(producer.write(), ErrorCode::None);
    assert_eq!(producer.write(), ErrorCode::None);
    assert_eq!(producer.stable(), (0, vec![]));
    producer.end(true);
    producer.wait_stable(3, &[]);
    producer.add_partition();
    assert_eq!(producer.write(), ErrorCode::None);
    producer.end(false);
    producer.wait_stable(5, &[3]);

    for (offset, commit, holds) in [(7, true, 7), (9, false, 7)] {
        producer.commit_offset(offset);
        assert_eq!(producer.committed(), (-1, ErrorCode::UnstableOffsetCommit));
        producer.end(commit);
        wait_for("the marker", PATIENCE, || (producer.committed() == (holds, ErrorCode::None)).then_some(()));
    }
}

#[test]
fn of_3_9() {
    under_their_coordinator(jvm::NEW);
}

#[test]
fn of_2_8_which_vouches_for_nothing() {
    under_their_coordinator(jvm::OLD);
}
