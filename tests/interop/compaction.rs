//! Compacted folders that change hands: one broker compacts, stops (in order or by kill -9), and another program reads what
//! is left, writes on, and compacts in its turn; tables of keys, and `__consumer_offsets` itself.

use crate::disk::dump;
use crate::support::broker::{Broker, Kind};
use crate::support::clients::Client;
use crate::support::cluster::Cluster;
use crate::support::records::{CODECS, Rec, noise, now_ms};
use crate::support::wire::{Wire, topic_name};
use crate::support::{PATIENCE, jvm, wait_for};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const NEW: Kind = Kind::Jvm(jvm::NEW);
const OLD: Kind = Kind::Jvm(jvm::OLD);
const TABLE: &str = "table";
const KEYS: usize = 40;
const GROUPS: usize = 5;

/// A broker whose cleaner is eager, and what must be found.
struct Table {
    cluster: Cluster,
    /// The last value of each key.
    values: BTreeMap<String, String>,
    /// The last commit of each group.
    commits: BTreeMap<usize, i64>,
}

impl Table {
    fn start(first: Kind, with_old: bool) -> Self {
        let cluster = Cluster::with(first, |broker| {
            if with_old {
                broker.set("inter.broker.protocol.version", "2.8");
            }
            broker.set("log.cleaner.backoff.ms", 100).set("log.cleaner.min.cleanable.ratio", 0.01);
            broker.set("log.cleaner.dedupe.buffer.size", 4 << 20).set("log.index.interval.bytes", 500);
            broker.set("offsets.topic.num.partitions", 1).set("offsets.topic.segment.bytes", 20_000);
        });
        let configs = [("cleanup.policy", "compact"), ("segment.bytes", "100000"), ("delete.retention.ms", "100")];
        cluster.broker.wire().create_topic(TABLE, 1, &configs);
        Self { cluster, values: BTreeMap::new(), commits: BTreeMap::new() }
    }

    fn record(key: String, value: Option<String>) -> Rec {
        let (topic, timestamp) = (TABLE.to_owned(), Some(now_ms()));
        Rec { topic, partition: 0, key: Some(key), value, headers: vec![("h".to_owned(), None)], timestamp }
    }

    /// Several values for each key, in every codec, and tombstones for some; then records that close the segment.
    fn write(&mut self, stage: usize) {
        let mut runs = Vec::new();
        for (round, codec) in CODECS.iter().enumerate() {
            let record = |key: usize| {
                let deleted = (key + round + stage).is_multiple_of(7);
                let value = format!("{stage}-{round}-{key}-{}", noise((stage * 100 + round * 10 + key) as u64, 300));
                Self::record(format!("key-{key}"), (!deleted).then_some(value))
            };
            runs.push((*codec, (0..KEYS).map(record).collect::<Vec<Rec>>()));
        }
        runs.iter().for_each(|(_, records)| self.note(records));
        let bootstrap = self.cluster.broker.address();
        // This one writes run after run, and is idempotent.
        Client::Franz.write(&bootstrap, &runs);
        for n in 0..3 {
            // One at a time: a batch with all of them would be larger than a segment.
            let records = vec![Self::record(format!("filler-{n}"), Some(noise(stage as u64 * 10 + n, 60_000)))];
            self.note(&records);
            Client::Franz.write(&bootstrap, &[("none", records)]);
        }
        self.commit(stage);
    }

    fn note(&mut self, records: &[Rec]) {
        for record in records {
            let key = record.key.clone().expect("a key");
            match &record.value {
                Some(value) => drop(self.values.insert(key, value.clone())),
                None => drop(self.values.remove(&key)),
            }
        }
    }

    /// Commits of groups, so many that the offsets topic has several segments.
    fn commit(&mut self, stage: usize) {
        let mut wire = self.cluster.broker.wire();
        let find = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("group-0"));
        wait_for("the coordinator", PATIENCE, || (wire.call(2, &find).error_code == 0).then_some(()));
        for n in 0..400 {
            let (group, offset) = (n % GROUPS, (stage * 1000 + n) as i64);
            let request = commit_request(group, offset);
            let accepted = || (wire.call(2, &request).topics[0].partitions[0].error_code == 0).then_some(());
            wait_for("a commit", PATIENCE, accepted);
            self.commits.insert(group, offset);
        }
    }

    /// Waits until all but the last segments are clean.
    fn wait_clean(&self) {
        let broker = &self.cluster.broker;
        for topic in [TABLE, "__consumer_offsets"] {
            wait_for(&format!("{topic} to be compacted"), PATIENCE, || {
                let text = fs::read_to_string(broker.data().join("cleaner-offset-checkpoint")).ok()?;
                let line = text.lines().find_map(|line| line.strip_prefix(&format!("{topic} 0 ")))?;
                let active = segments(broker, topic).last().copied()?;
                (line.parse::<i64>().ok()? >= active).then_some(())
            });
        }
        let active = *segments(broker, TABLE).last().expect("a segment");
        let closed: Vec<(i64, Rec)> = Client::Franz
            .read(&broker.address(), &[TABLE])
            .into_iter()
            .filter(|(offset, _)| *offset < active)
            .collect();
        let keys: BTreeMap<_, _> = closed.iter().map(|(offset, record)| (record.key.clone(), *offset)).collect();
        assert_eq!(keys.len(), closed.len(), "each key once below {active}");
    }

    fn check(&self, who: &str, readers: &[Client]) {
        let bootstrap = self.cluster.broker.address();
        for reader in readers {
            let mut values = BTreeMap::new();
            for (_, record) in reader.read(&bootstrap, &[TABLE]) {
                let key = record.key.expect("a key");
                match record.value {
                    Some(value) => drop(values.insert(key, value)),
                    None => drop(values.remove(&key)),
                }
            }
            assert!(
                values == self.values,
                "{who}, read by {}: {} of {} keys",
                reader.name(),
                values.len(),
                self.values.len()
            );
        }
        let mut wire = self.cluster.broker.wire();
        for (group, offset) in &self.commits {
            let found = || Some(committed(&mut wire, *group)).filter(|found| *found == *offset);
            wait_for(&format!("{who}: {offset} as the commit of group {group}"), PATIENCE, found);
        }
    }

    fn check_files(&self) {
        let broker = &self.cluster.broker;
        let files = |suffix: &str| -> Vec<PathBuf> {
            let dir = fs::read_dir(broker.partition_dir(TABLE, 0)).expect("a folder");
            dir.map(|entry| entry.expect("an entry").path())
                .filter(|path| path.extension().is_some_and(|e| e == suffix))
                .collect()
        };
        let text = dump(&files("log"), &["--deep-iteration"]);
        assert!(text.contains("isvalid: true") && !text.contains("isvalid: false"), "kafka-dump-log finds bad batches");
        let indexes = [files("index"), files("timeindex")].concat();
        let text = dump(&[files("log"), indexes.clone()].concat(), &[]);
        for complaint in ["Mismatches in", "Found ", "is not valid"] {
            let line = text.lines().find(|line| line.contains(complaint));
            assert!(line.is_none(), "kafka-dump-log: {}", line.unwrap_or_default());
        }
        let text = dump(&indexes, &["--index-sanity-check"]);
        let sound = |line: &&str| line.contains("passed sanity check") || line.ends_with("is empty.");
        assert_eq!(text.lines().filter(sound).count(), indexes.len(), "{text}");
    }
}

/// Where the segments of partition 0 begin.
fn segments(broker: &Broker, topic: &str) -> Vec<i64> {
    let names = fs::read_dir(broker.partition_dir(topic, 0)).expect("a folder");
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut bases: Vec<i64> = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
    bases.sort_unstable();
    bases
}

fn group_id(group: usize) -> GroupId {
    GroupId(StrBytes::from_string(format!("group-{group}")))
}

fn commit_request(group: usize, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(TABLE)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![topic])
}

fn committed(wire: &mut Wire, group: usize) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name(TABLE)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    let answer = wire.call(5, &request);
    answer.topics.first().and_then(|topic| topic.partitions.first()).map_or(-1, |partition| partition.committed_offset)
}

fn hand_over(kinds: &[Kind], kill: bool) {
    let all = [Client::Java(jvm::NEW), Client::Java(jvm::OLD), Client::Confluent, Client::Franz];
    let mut table = Table::start(kinds[0], kinds.contains(&OLD));
    for (stage, kind) in kinds.iter().enumerate() {
        if stage > 0 {
            match kill {
                false => drop(table.cluster.broker.stop()),
                true => {
                    table.cluster.broker.kill();
                    table.cluster.wait_unregistered();
                }
            }
            table.cluster.broker.kind = *kind;
            table.cluster.broker.start();
            table.check(&format!("{kind:?} with the folder of {:?}", kinds[stage - 1]), &all[1..]);
        }
        table.write(stage);
        table.wait_clean();
        table.check(&format!("{kind:?}, compacted in stage {stage}"), &all);
    }
    table.cluster.broker.stop();
    table.check_files();
}

#[test]
fn a_table_goes_to_new_jvm_and_back() {
    hand_over(&[Kind::under_test(), NEW, Kind::under_test(), NEW], false);
}

#[test]
fn a_table_goes_to_new_jvm_and_back_killed() {
    hand_over(&[NEW, Kind::under_test(), NEW, Kind::under_test()], true);
}

#[test]
fn a_table_goes_to_old_jvm_and_back() {
    hand_over(&[OLD, Kind::under_test(), OLD], true);
}
