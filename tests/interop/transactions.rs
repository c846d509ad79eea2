//! Transactions on disk change hands: a JVM broker writes committed, aborted and open ones and ours goes on with the folder,
//! and the other way round. Whoever serves it, readers of committed records get the same, and the one that is open is ended
//! by the broker that did not begin it.

use crate::support::broker::{Broker, Kind};
use crate::support::clients::Client;
use crate::support::cluster::Cluster;
use crate::support::jvm;
use crate::support::process::run_ok;
use crate::support::records::now_ms;
use crate::support::wire::{Wire, produce_request, topic_name};
use crate::support::{PATIENCE, wait_for};
use crate::tools::{ours, same, theirs, tool};
use barnabas::base::ids::{ProducerEpoch, ProducerId};
use barnabas::protocol::batch::BatchHeader;
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    BrokerId, DescribeProducersRequest, FetchRequest, TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

const NEW: Kind = Kind::Jvm(jvm::NEW);
const TOPIC: &str = "transactions";
const COORDINATOR_EPOCH: i32 = 3;
const READ_COMMITTED: i8 = 1;

/// The batches that producers write, with their sequence numbers.
#[derive(Default)]
struct Producers {
    sequences: BTreeMap<i64, i32>,
    written: usize,
}

impl Producers {
    /// Writes three records of a transaction; returns their values.
    fn write(&mut self, wire: &mut Wire, producer: i64) -> Vec<String> {
        let sequence = self.sequences.entry(producer).or_default();
        let spec = BatchSpec {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            base_sequence: *sequence,
            transactional: true,
            ..BatchSpec::default()
        };
        *sequence += 3;
        let (mut batch, now) = (BatchBuilder::new(spec), now_ms());
        let values: Vec<String> = (0..3).map(|n| format!("{producer}-{}", self.written + n)).collect();
        self.written += 3;
        values.iter().for_each(|value| batch.append(now, Some(b"key"), Some(value.as_bytes())));
        produce(wire, batch.build().expect("a batch").1);
        values
    }
}

fn produce(wire: &mut Wire, records: Bytes) {
    let id = TransactionalId(StrBytes::from_static_str("id"));
    let request = produce_request(TOPIC, 0, -1, records).with_transactional_id(Some(id));
    let answer = wire.call(7, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
}

/// What the coordinator does in the end.
fn end(wire: &mut Wire, producer: i64, commit: bool) {
    let topic = WritableTxnMarkerTopic::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(producer.into())
        .with_transaction_result(commit)
        .with_coordinator_epoch(COORDINATOR_EPOCH)
        .with_topics(vec![topic]);
    let answer = wire.call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]));
    assert_eq!(answer.markers[0].topics[0].partitions[0].error_code, 0, "{answer:?}");
}

/// What is told beside the records: last stable offset, aborted transactions, and the producers.
fn told(wire: &mut Wire) -> (i64, BTreeSet<(i64, i64)>, Vec<[i64; 6]>) {
    let (mut aborted, mut offset) = (BTreeSet::new(), 0);
    // A fetch brings one segment's records, and the transactions that were aborted among these.
    let stable = loop {
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20).with_fetch_offset(offset);
        let topic = FetchTopic::default().with_topic(topic_name(TOPIC)).with_partitions(vec![partition]);
        let mut request = FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_bytes(1 << 20);
        (request.isolation_level, request.topics) = (READ_COMMITTED, vec![topic]);
        let fetched = wire.call(11, &request).responses.remove(0).partitions.remove(0);
        if fetched.error_code != 0 {
            // It does not lead yet, or not any more.
            break -1;
        }
        let named = fetched.aborted_transactions.unwrap_or_default();
        aborted.extend(named.iter().map(|txn| (txn.producer_id.0, txn.first_offset)));
        let mut rest = fetched.records.unwrap_or_default();
        let before = offset;
        while let Some(header) = BatchHeader::read(&rest).filter(|header| header.size <= rest.len()) {
            offset = header.next_offset().get();
            rest = rest.split_off(header.size);
        }
        if offset == before || offset >= fetched.last_stable_offset {
            break fetched.last_stable_offset;
        }
    };
    let topic = TopicRequest::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let described = wire.call(0, &request).topics.remove(0).partitions.remove(0);
    let mut producers: Vec<[i64; 6]> = described
        .active_producers
        .iter()
        .map(|p| {
            let numbers = [p.producer_epoch, p.last_sequence, p.coordinator_epoch].map(i64::from);
            [p.producer_id.0, numbers[0], numbers[1], numbers[2], p.last_timestamp, p.current_txn_start_offset]
        })
        .collect();
    producers.sort_unstable();
    (stable, aborted, producers)
}

fn check_reads(broker: &Broker, committed: &[String], who: &str) {
    for client in [Client::Java(jvm::NEW), Client::Java(jvm::OLD)] {
        let read = client.read_with(&broker.address(), &["isolation.level=read_committed"], &[TOPIC]);
        let values: Vec<String> = read.into_iter().map(|(_, record)| record.value.unwrap_or_default()).collect();
        assert_eq!(values, committed, "{who}, read by {}", client.name());
    }
}

/// Kafka's own tool reads the snapshots and transaction indexes of a stopped broker.
fn check_files(broker: &Broker, aborted: usize) {
    let folder = broker.partition_dir(TOPIC, 0);
    let files = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let wanted = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "txnindex" || extension == "snapshot")
    };
    let files: Vec<String> = files.filter(wanted).map(|path| path.display().to_string()).collect();
    let mut command = jvm::tool(jvm::NEW, "kafka-dump-log");
    command.args(["--files", &files.join(",")]);
    let text = run_ok("kafka-dump-log", command, "", Duration::from_secs(120));
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("version: 0 producerId:"), aborted, "{text}");
    assert!(lines("coordinatorEpoch: 3") > 0, "{text}");
}

fn hand_over(first: Kind, second: Kind, killed: bool) {
    let mut cluster = Cluster::with(first, |broker| {
        broker.set("transaction.partition.verification.enable", "false");
        broker.set("log.index.interval.bytes", 100);
    });
    let (mut producers, mut committed) = (Producers::default(), Vec::new());
    {
        let mut wire = cluster.broker.wire();
        // Each segment has some of the transactions.
        wire.create_topic(TOPIC, 1, &[("segment.bytes", "700")]);
        for n in 0..12 {
            let (producer, commit) = (4_001 + n % 3, n % 4 != 1);
            let values = producers.write(&mut wire, producer);
            if commit {
                committed.extend(values);
            }
            end(&mut wire, producer, commit);
        }
        producers.write(&mut wire, 4_009);
        committed.push("outside".to_owned());
        wire.append(TOPIC, 0, "outside");
    }
    committed.pop();
    let before = told(&mut cluster.broker.wire());
    assert_eq!(before.1.len(), 3, "aborted transactions: {before:?}");
    check_reads(&cluster.broker, &committed, &format!("{first:?}"));
    if killed {
        cluster.broker.kill();
        cluster.wait_unregistered();
    } else {
        cluster.broker.stop();
        check_files(&cluster.broker, 3);
    }
    cluster.broker.kind = second;
    cluster.broker.start();
    let mut wire = cluster.broker.wire();
    wait_for("the same stable offset", PATIENCE, || (told(&mut wire).0 == before.0).then_some(()));
    assert_eq!(told(&mut wire), before, "{second:?} after {first:?}");
    check_reads(&cluster.broker, &committed, &format!("{second:?} after {first:?}"));

    end(&mut wire, 4_009, false);
    committed.push("outside".to_owned());
    committed.extend(producers.write(&mut wire, 4_002));
    end(&mut wire, 4_002, true);
    check_reads(&cluster.broker, &committed, &format!("{second:?} at the end"));
    drop(wire);
    cluster.broker.stop();
    check_files(&cluster.broker, 4);
    cluster.broker.kind = first;
    cluster.broker.start();
    wait_for("all to be stable", PATIENCE, || {
        let (stable, aborted, _) = told(&mut cluster.broker.wire());
        (aborted.len() == 4 && stable > before.0).then_some(())
    });
    check_reads(&cluster.broker, &committed, &format!("{first:?} again"));
}

#[test]
fn from_a_new_jvm_and_back_clean() {
    hand_over(NEW, Kind::under_test(), false);
}

#[test]
fn from_a_new_jvm_and_back_killed() {
    hand_over(NEW, Kind::under_test(), true);
}

#[test]
fn to_a_new_jvm_and_back_clean() {
    hand_over(Kind::under_test(), NEW, false);
}

#[test]
fn to_a_new_jvm_and_back_killed() {
    hand_over(Kind::under_test(), NEW, true);
}

#[test]
fn the_tools_speak_like_kafka_s() {
    let cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("transaction.partition.verification.enable", "false");
    });
    let bootstrap = cluster.broker.address();
    let mut wire = cluster.broker.wire();
    wire.create_topic(TOPIC, 2, &[]);
    let mut producers = Producers::default();
    producers.write(&mut wire, 4_001);
    end(&mut wire, 4_001, true);
    producers.write(&mut wire, 4_002);
    producers.write(&mut wire, 4_003);
    let of = format!("--topic {TOPIC} --partition 0");
    for line in [
        format!("describe-producers {of}"),
        format!("describe-producers {of} --broker-id 0"),
        format!("describe-producers --topic {TOPIC} --partition 1"),
        format!("find-hanging --topic {TOPIC}"),
        "find-hanging --broker-id 0".to_owned(),
    ] {
        same(jvm::NEW, "kafka-transactions", &format!("--bootstrap-server {bootstrap} {line}"));
    }
    for line in [format!("abort {of}"), format!("abort {of} --start-offset 1"), "find-hanging".to_owned()] {
        let line = format!("--bootstrap-server {bootstrap} {line}");
        let (mine, original) = (ours("kafka-transactions", &line, ""), theirs(jvm::NEW, "kafka-transactions", &line));
        assert!(!mine.status.success() && !original.status.success(), "{line}: {} {}", mine.stderr, original.stderr);
    }
    assert_eq!(told(&mut wire).0, 4);
    let abort = |start: i64| format!("--bootstrap-server {bootstrap} abort {of} --start-offset {start}");
    assert_eq!(tool("kafka-transactions", &abort(4), ""), "");
    assert_eq!(told(&mut wire).0, 7, "the next one is open still");
    let original = theirs(jvm::NEW, "kafka-transactions", &abort(7));
    assert!(original.status.success(), "{}", original.stderr);
    let (stable, aborted, _) = told(&mut wire);
    assert_eq!((stable, aborted), (12, BTreeSet::from([(4_002, 4), (4_003, 7)])));

    let file = crate::support::dirs::root().join("delete-records.json");
    let rows = |offset: i64| {
        let row = format!(r#"{{"topic": "{TOPIC}", "partition": 0, "offset": {offset}}}"#);
        fs::write(&file, format!(r#"{{"partitions": [{row}], "version": 1}}"#)).expect("a file");
    };
    let line = format!("--bootstrap-server {bootstrap} --offset-json-file {}", file.display());
    for offset in [3, -1] {
        rows(offset);
        for version in [jvm::NEW, jvm::OLD] {
            same(version, "kafka-delete-records", &line);
        }
    }
    rows(100);
    let (mine, original) = (ours("kafka-delete-records", &line, ""), theirs(jvm::NEW, "kafka-delete-records", &line));
    assert!(mine.status.success() && original.status.success());
    let said = "partition: transactions-0\terror: org.apache.kafka.common.errors.OffsetOutOfRangeException: ";
    assert!(mine.stdout.contains(said) && original.stdout.contains(said), "{}{}", mine.stdout, original.stdout);
}
