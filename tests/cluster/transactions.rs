//! Transactions in a mixed cluster: the coordinator moves between Barnabas and a JVM broker in the middle of a transaction and
//! back, each going on with what the other stored, while a JVM broker leads the partition that is written to: it asks the
//! coordinator whether the partition takes part (KIP-890), and takes its markers.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest,
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProducerId,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use crate::support::broker::Kind;
use crate::support::brokers::Brokers;
use crate::support::process::run_ok;
use crate::support::records::now_ms;
use crate::support::wire::{Wire, fetch_request, produce_request, topic_name};
use crate::support::{PATIENCE, jvm, wait_for};

const STATE: &str = "__transaction_state";
const OURS: usize = 0;
/// What a client tries again for: loading, not available, not the coordinator, a transaction that is about to end.
const AGAIN: [i16; 4] = [14, 15, 16, 51];

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn id() -> TransactionalId {
    TransactionalId(text("x"))
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Producer {
    id: i64,
    epoch: i16,
}

/// A cluster whose last broker, a JVM one, leads the only partition of `t`; the others are ours.
struct Mixed {
    brokers: Brokers,
    jvm: usize,
    sequence: i32,
}

impl Mixed {
    fn start(version: &'static str, ibp: &str) -> Self {
        Self::start_with(1, version, ibp)
    }

    fn start_with(ours: usize, version: &'static str, ibp: &str) -> Self {
        let jvm = ours;
        let mut kinds = vec![Kind::Barnabas; ours];
        kinds.push(Kind::Jvm(version));
        let brokers = Brokers::start(&kinds, |_, broker| {
            broker.set("inter.broker.protocol.version", ibp);
            broker.set("transaction.state.log.num.partitions", 1);
            broker.set("transaction.state.log.replication.factor", 1);
            broker.set("transaction.state.log.min.isr", 1);
        });
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(jvm as i32)]);
        let topic = CreatableTopic::default()
            .with_name(topic_name("t"))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment]);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let answer = brokers.brokers[brokers.controller()].wire().call(4, &request);
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        for broker in &brokers.brokers {
            wait_for("a leader of t", PATIENCE, || broker.wire().topic_ready("t", 1).then_some(()));
        }
        Self { brokers, jvm, sequence: 0 }
    }

    /// Whom FindCoordinator names; it makes the topic where there is none.
    fn coordinator(&self) -> Option<usize> {
        let request = FindCoordinatorRequest::default().with_key_type(1).with_key(text("x"));
        // Any broker that runs knows.
        let asked = self.brokers.brokers.iter().find_map(|broker| {
            let mut wire = Wire::connect(&broker.address()).ok()?;
            wire.try_call(1, &request).ok()
        });
        let answer = asked?;
        (answer.error_code == 0).then_some(answer.node_id.0 as usize)
    }

    /// Moves the coordinator to a broker, and waits until clients are sent there.
    fn move_coordinator(&self, to: usize) {
        self.place_state(&[to]);
        wait_for("the coordinator to move", PATIENCE, || (self.coordinator() == Some(to)).then_some(()));
    }

    /// Gives the state partition these replicas.
    fn place_state(&self, replicas: &[usize]) {
        wait_for("a coordinator", PATIENCE, || self.coordinator());
        let wanted = replicas.iter().map(|&id| BrokerId(id as i32)).collect();
        let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(Some(wanted));
        let topic = ReassignableTopic::default().with_name(topic_name(STATE)).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let answer = self.brokers.brokers[self.brokers.controller()].wire().call(0, &request);
        let error = answer.responses[0].partitions[0].error_code;
        assert!(error == 0 || error == 85, "{answer:?}");
        let isr: Vec<i64> = replicas.iter().map(|&id| id as i64).collect();
        self.brokers.wait_isr(STATE, 0, &isr);
    }

    /// Asks the coordinator until it gives an answer for good.
    fn ask(&self, what: &str, mut ask: impl FnMut(&mut Wire) -> std::io::Result<i16>) -> i16 {
        wait_for(what, PATIENCE, || {
            let mut wire = Wire::connect(&self.brokers.brokers[self.coordinator()?].address()).ok()?;
            ask(&mut wire).ok().filter(|error| !AGAIN.contains(error))
        })
    }

    fn init(&self) -> Producer {
        let mut producer = Producer { id: -1, epoch: -1 };
        let request =
            InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(60_000);
        let error = self.ask("InitProducerId", |wire| {
            let answer = wire.try_call(4, &request)?;
            producer = Producer { id: answer.producer_id.0, epoch: answer.producer_epoch };
            Ok(answer.error_code)
        });
        assert_eq!(error, 0);
        producer
    }

    fn add(&self, producer: Producer) {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let error = self.ask("AddPartitionsToTxn", |wire| {
            let answer = wire.try_call(2, &request)?;
            Ok(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
        });
        assert_eq!(error, 0);
    }

    /// Writes one record in a transaction; the leader says its error.
    fn try_produce(&self, producer: Producer, value: &str, sequence: i32) -> i16 {
        let mut request = produce_request("t", 0, -1, batch(producer, value, sequence));
        request.transactional_id = Some(id());
        let answer = self.brokers.brokers[self.jvm].wire().call(7, &request);
        answer.responses[0].partition_responses[0].error_code
    }

    fn produce(&mut self, producer: Producer, value: &str) {
        let sequence = self.sequence;
        // The leader may have to look for the coordinator first.
        wait_for("the record to be taken", PATIENCE, || {
            let error = self.try_produce(producer, value, sequence);
            assert!([0, 14, 15, 16, 19, 51].contains(&error), "{value}: error {error}");
            (error == 0).then_some(())
        });
        self.sequence += 1;
    }

    fn end(&self, producer: Producer, commit: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        assert_eq!(self.ask("EndTxn", |wire| Ok(wire.try_call(2, &request)?.error_code)), 0);
    }

    /// Waits until every marker is written: then nothing is undecided.
    fn wait_decided(&self) {
        wait_for("the markers", PATIENCE, || {
            let mut request = fetch_request("t", 0, 0, 1 << 20, 0, 0);
            request.isolation_level = 1;
            let answer = self.brokers.brokers[self.jvm].wire().call(11, &request);
            let partition = &answer.responses[0].partitions[0];
            (partition.last_stable_offset == partition.high_watermark).then_some(())
        });
    }

    /// What the coordinator says of the id; 2.8 does not know the request.
    fn wait_described(&self, state: &str) {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
        wait_for(state, PATIENCE, || {
            let mut wire = Wire::connect(&self.brokers.brokers[self.coordinator()?].address()).ok()?;
            let answer = wire.try_call(0, &request).ok()?;
            (*answer.transaction_states[0].transaction_state == *state).then_some(())
        });
    }

    /// The first offsets of aborted transactions.
    fn aborted(&self) -> Vec<i64> {
        let mut request = fetch_request("t", 0, 0, 1 << 20, 0, 0);
        request.isolation_level = 1;
        let mut answer = self.brokers.brokers[self.jvm].wire().call(11, &request);
        let aborted = answer.responses.remove(0).partitions.remove(0).aborted_transactions.unwrap_or_default();
        aborted.iter().map(|aborted| aborted.first_offset).collect()
    }
}

fn batch(producer: Producer, value: &str, sequence: i32) -> Bytes {
    let record = Record {
        transactional: true,
        control: false,
        partition_leader_epoch: -1,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: TimestampType::Creation,
        timestamp: now_ms(),
        offset: 0,
        sequence,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: IndexMap::new(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).expect("a batch");
    bytes.freeze()
}

fn coordinators_take_over(version: &'static str, ibp: &str, describes: bool) {
    let mut mixed = Mixed::start(version, ibp);
    let described = |mixed: &Mixed, state| {
        if describes {
            mixed.wait_described(state);
        }
    };
    mixed.move_coordinator(OURS);
    let first = mixed.init();
    assert_eq!(first.epoch, 0);
    if describes {
        let error = mixed.try_produce(first, "without", 0);
        assert_ne!(error, 0, "a partition that takes no part is verified");
    }
    mixed.add(first);
    mixed.produce(first, "committed under us");
    mixed.end(first, true);
    mixed.wait_decided();
    described(&mixed, "CompleteCommit");

    // Begun under ours, ended under theirs.
    mixed.add(first);
    mixed.produce(first, "aborted");
    mixed.move_coordinator(mixed.jvm);
    described(&mixed, "Ongoing");
    mixed.end(first, false);
    mixed.wait_decided();
    described(&mixed, "CompleteAbort");
    let second = mixed.init();
    assert_eq!(second, Producer { id: first.id, epoch: 1 });

    // And the other way.
    mixed.sequence = 0;
    mixed.add(second);
    mixed.produce(second, "committed across");
    mixed.move_coordinator(OURS);
    described(&mixed, "Ongoing");
    mixed.end(second, true);
    mixed.wait_decided();
    described(&mixed, "CompleteCommit");
    assert_eq!(mixed.init(), Producer { id: first.id, epoch: 2 });

    let values = mixed.brokers.brokers[mixed.jvm].wire().read_values("t", 0, 0);
    let records: Vec<_> = values.iter().filter(|(_, value)| value.contains(' ') || value == "aborted").collect();
    let expected = [(0, "committed under us"), (2, "aborted"), (4, "committed across")];
    assert_eq!(records.iter().map(|(at, value)| (*at, value.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(mixed.aborted(), [2]);
}

/// The decision is stored, and no marker is written yet, when the coordinator dies.
#[test]
fn a_decision_outlives_its_coordinator() {
    let mut mixed = Mixed::start(jvm::NEW, "3.9");
    mixed.move_coordinator(OURS);
    let producer = mixed.init();
    mixed.add(producer);
    mixed.produce(producer, "decided");
    mixed.brokers.brokers[mixed.jvm].process().signal(libc::SIGSTOP);
    mixed.end(producer, true);
    mixed.brokers.brokers[OURS].kill();
    mixed.brokers.brokers[OURS].start();
    mixed.wait_described("PrepareCommit");
    mixed.brokers.brokers[mixed.jvm].process().signal(libc::SIGCONT);
    mixed.wait_decided();
    mixed.wait_described("CompleteCommit");
    assert!(mixed.aborted().is_empty());
    assert_eq!(mixed.init(), Producer { id: producer.id, epoch: 1 });
}

/// Two of ours hold the state; who leads it is killed once in each transaction, at another moment each time.
#[test]
fn coordinators_that_die_lose_no_transaction_and_no_decision() {
    let mut mixed = Mixed::start_with(2, jvm::NEW, "3.9");
    mixed.place_state(&[0, 1]);
    let producer = mixed.init();
    for round in 0..6 {
        let victim = wait_for("a coordinator", PATIENCE, || mixed.coordinator());
        let kill = |mixed: &mut Mixed, moment: i32| {
            if round % 3 == moment {
                mixed.brokers.brokers[victim].kill();
            }
        };
        let is_commit = round % 2 == 0;
        mixed.add(producer);
        kill(&mut mixed, 0);
        mixed.produce(producer, &format!("round {round}"));
        kill(&mut mixed, 1);
        mixed.end(producer, is_commit);
        kill(&mut mixed, 2);
        mixed.wait_decided();
        mixed.brokers.brokers[victim].start();
        mixed.brokers.wait_isr(STATE, 0, &[0, 1]);
    }
    // A marker may be written twice, so offsets tell nothing by themselves.
    let values = mixed.brokers.brokers[mixed.jvm].wire().read_values("t", 0, 0);
    let rounds: Vec<_> = values.into_iter().filter(|(_, value)| value.starts_with("round")).collect();
    assert_eq!(rounds.len(), 6);
    let aborted = mixed.aborted();
    let lost: Vec<_> = rounds.iter().filter(|(at, _)| aborted.contains(at)).map(|(_, value)| value.as_str()).collect();
    assert_eq!((lost, aborted.len()), (vec!["round 1", "round 3", "round 5"], 3));
    assert_eq!(mixed.init(), Producer { id: producer.id, epoch: 1 });
}

/// Kafka's own producer, unmodified, a transaction every 20 ms.
#[test]
fn java_producers_write_in_transactions() {
    let mixed = Mixed::start(jvm::NEW, "3.9");
    mixed.move_coordinator(OURS);
    let mut command = jvm::java(jvm::NEW, "128m", "org.apache.kafka.tools.ProducerPerformance");
    let bootstrap = format!("bootstrap.servers={}", mixed.brokers.brokers[OURS].address());
    command.args(["--topic", "t", "--num-records", "4000", "--record-size", "20", "--throughput", "2000"]);
    command.args(["--transactional-id", "x", "--transaction-duration-ms", "20", "--producer-props", &bootstrap]);
    let output = run_ok("producer-perf", command, "", PATIENCE);
    assert!(output.contains("4000 records sent"), "{output}");
    mixed.wait_decided();
    mixed.wait_described("CompleteCommit");
    let end = mixed.brokers.brokers[mixed.jvm].wire().list_offset("t", 0, -1).1;
    assert!(end > 4_000 + 10, "records and the markers of many transactions: {end}");
    assert!(mixed.aborted().is_empty());
}

#[test]
fn between_3_9_and_us() {
    coordinators_take_over(jvm::NEW, "3.9", true);
}

#[test]
fn between_2_8_and_us() {
    coordinators_take_over(jvm::OLD, "2.8", false);
}
