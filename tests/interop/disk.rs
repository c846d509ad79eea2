//! Log folders that change hands: one broker writes, stops (cleanly or by kill -9), and another program goes on with the
//! same folder, broker id and ZooKeeper. Nothing may be lost in either direction, and Kafka's own tools must find the
//! files in order.

use crate::support::broker::{Broker, Kind};
use crate::support::clients::Client;
use crate::support::cluster::Cluster;
use crate::support::jvm;
use crate::support::process::run_ok;
use crate::support::records::{CODECS, EVERYTHING, OLD_FORMAT, Rec, Shape, assert_same, sample};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NEW: Kind = Kind::Jvm(jvm::NEW);
const OLD: Kind = Kind::Jvm(jvm::OLD);

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Kill,
}

/// What the folder must hold so far.
struct Relay {
    cluster: Cluster,
    written: Vec<(String, Vec<Rec>)>,
    fed: usize,
}

impl Relay {
    fn start(first: Kind, with_old: bool) -> Relay {
        let cluster = Cluster::with(first, |broker| {
            if with_old {
                // What the oldest of them speaks, as in a rolling upgrade.
                broker.set("inter.broker.protocol.version", "2.8");
            }
            // Small segments, so that every topic has several, with several index entries each.
            broker.set("log.segment.bytes", 300_000).set("log.index.interval.bytes", 2_000);
        });
        Relay { cluster, written: Vec::new(), fed: 0 }
    }

    fn bootstrap(&self) -> String {
        self.cluster.broker.address()
    }

    /// Creates a topic of this stage, appends to it and to those of earlier stages, with an idempotent producer.
    fn write(&mut self, stage: usize) {
        let bootstrap = self.bootstrap();
        let name = format!("relay-{stage}");
        self.cluster.broker.wire().create_topic(&name, 2, &[]);
        self.written.push((name, Vec::new()));
        for (topic, written) in &mut self.written {
            for (index, codec) in CODECS.iter().enumerate() {
                let records = sample(topic, (index % 2) as i32, &format!("{stage}-{codec}"), 30, EVERYTHING);
                let client = if index % 2 == 0 { Client::Java(jvm::NEW) } else { Client::Java(jvm::OLD) };
                client.write_with(&bootstrap, &["enable.idempotence=true"], &[(codec, records.clone())]);
                written.extend(records);
            }
        }
    }

    fn check(&self, who: &str) {
        let bootstrap = self.bootstrap();
        for (topic, written) in &self.written {
            for reader in [Client::Java(jvm::NEW), Client::Franz] {
                let read = reader.read(&bootstrap, &[topic]);
                assert_same(&format!("{who}: {topic} read by {}", reader.name()), written, &read);
                self.check_time_lookup(topic, &read);
            }
        }
    }

    /// ListOffsets by time answers the first record that is not older.
    fn check_time_lookup(&self, topic: &str, read: &[(i64, Rec)]) {
        let mut wire = self.cluster.broker.wire();
        let times: Vec<i64> = read.iter().filter_map(|(_, record)| record.timestamp).collect();
        for time in times.iter().step_by(times.len() / 7 + 1) {
            let mine = read.iter().filter(|(_, r)| r.partition == 0 && r.timestamp >= Some(*time));
            let expected = mine.map(|(offset, _)| *offset).min().unwrap_or(-1);
            assert_eq!(wire.list_offset(topic, 0, *time), (0, expected), "{topic}-0 at time {time}");
        }
    }

    /// A group of one reads what came since it last committed, whoever kept its commits.
    fn group_goes_on(&mut self, stage: usize) {
        let bootstrap = self.bootstrap();
        if stage == 0 {
            self.cluster.broker.wire().create_topic("food", 1, &[]);
        }
        let count = 20;
        let records = sample("food", 0, &format!("stage-{stage}"), count, EVERYTHING);
        Client::Franz.write(&bootstrap, &[("zstd", records)]);
        let client = [Client::Franz, Client::Java(jvm::NEW), Client::Confluent][stage % 3];
        // Its hash is negative, so that it only goes on if all agree in which partition such a group's commits are.
        let mut member = client.join(&bootstrap, &[], "relays", &["food"]);
        crate::support::wait_for("the new records", crate::support::PATIENCE, || {
            (member.records().len() >= count).then_some(())
        });
        member.leave();
        let offsets: Vec<i64> = member.records().iter().map(|(offset, _)| *offset).collect();
        let expected: Vec<i64> = (self.fed as i64..(self.fed + count) as i64).collect();
        assert_eq!(offsets, expected, "stage {stage}: the group goes on where it was");
        self.fed += count;
    }

    fn hand_over(&mut self, end: End, next: Kind) {
        match end {
            End::Clean => {
                self.cluster.broker.stop();
                check_files(&self.cluster.broker);
            }
            End::Kill => {
                self.cluster.broker.kill();
                // The next one is another program, which cannot know the session of the last.
                self.cluster.wait_unregistered();
            }
        }
        self.cluster.broker.kind = next;
        self.cluster.broker.start();
    }
}

/// Runs Kafka's DumpLogSegments over all files of a stopped broker.
fn check_files(broker: &Broker) {
    let (mut logs, mut indexes, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    let names: BTreeSet<PathBuf> =
        fs::read_dir(broker.data()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    for dir in names.iter().filter(|path| path.is_dir()) {
        for file in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let internal = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("__"));
            match file.extension().and_then(|e| e.to_str()) {
                Some("log") if internal => offsets.push(file),
                Some("log") => logs.push(file),
                Some("index" | "timeindex") => indexes.push(file),
                _ => {}
            }
        }
    }
    let text = dump(&[&logs[..], &indexes[..]].concat(), &["--deep-iteration"]);
    for complaint in ["isvalid: false", "Mismatches in", "Found ", "Non-consecutive", "is not valid"] {
        let line = text.lines().find(|line| line.contains(complaint));
        assert!(line.is_none(), "kafka-dump-log: {}", line.unwrap_or_default());
    }
    assert!(text.contains("isvalid: true"), "kafka-dump-log found no batch");
    let text = dump(&indexes, &["--index-sanity-check"]);
    let sound = |line: &&str| line.contains("passed sanity check") || line.ends_with("is empty.");
    let bad: Vec<&str> = text.lines().filter(|line| !line.starts_with("Dumping") && !sound(line)).collect();
    let count = text.lines().filter(sound).count();
    assert!(bad.is_empty() && count == indexes.len(), "kafka-dump-log --index-sanity-check: {bad:?}");
    if !offsets.is_empty() {
        let text = dump(&offsets, &["--offsets-decoder"]);
        assert!(
            !text.contains("isvalid: false") && text.contains("\"topic\":\"food\""),
            "decoded offsets: {}",
            &text[text.len().saturating_sub(2_000)..]
        );
    }
}

pub(crate) fn dump(files: &[PathBuf], options: &[&str]) -> String {
    let list: Vec<String> = files.iter().map(|file: &PathBuf| Path::display(file).to_string()).collect();
    let mut command = jvm::tool(jvm::NEW, "kafka-dump-log");
    command.args(options).args(["--files", &list.join(",")]);
    run_ok("kafka-dump-log", command, "", Duration::from_secs(120))
}

fn relay(kinds: &[Kind], end: End) {
    let mut relay = Relay::start(kinds[0], kinds.contains(&OLD));
    for (stage, kind) in kinds.iter().enumerate() {
        relay.check(&format!("{kind:?} in stage {stage}"));
        relay.write(stage);
        relay.group_goes_on(stage);
        relay.check(&format!("{kind:?} at the end of stage {stage}"));
        if let Some(next) = kinds.get(stage + 1) {
            relay.hand_over(end, *next);
        }
    }
    relay.cluster.broker.stop();
    check_files(&relay.cluster.broker);
}

#[test]
fn new_jvm_and_back_clean() {
    relay(&[NEW, Kind::under_test(), NEW], End::Clean);
}

#[test]
fn new_jvm_and_back_killed() {
    relay(&[NEW, Kind::under_test(), NEW], End::Kill);
}

#[test]
fn old_jvm_and_back_clean() {
    relay(&[OLD, Kind::under_test(), OLD], End::Clean);
}

#[test]
fn old_jvm_and_back_killed() {
    relay(&[OLD, Kind::under_test(), OLD], End::Kill);
}

#[test]
fn ours_to_new_jvm_and_back_clean() {
    relay(&[Kind::under_test(), NEW, Kind::under_test()], End::Clean);
}

#[test]
fn ours_to_new_jvm_and_back_killed() {
    relay(&[Kind::under_test(), NEW, Kind::under_test()], End::Kill);
}

#[test]
fn ours_to_old_jvm_and_back_clean() {
    relay(&[Kind::under_test(), OLD, Kind::under_test()], End::Clean);
}

/// Plants in a stopped broker's folder what crashes in a deletion, in a compaction and in a topic's deletion leave.
fn plant_remains(broker: &Broker, topic: &str, knows_stray: bool) {
    let folder = broker.partition_dir(topic, 0);
    let segment = |base: &str, suffix: &str| folder.join(format!("{base}.{suffix}"));
    let copy = |from: PathBuf, to: PathBuf| {
        fs::copy(&from, &to).expect("a copy");
    };
    let names: BTreeSet<String> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    let bases: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".log")).collect();
    assert!(bases.len() > 3, "{names:?}");
    for suffix in ["log", "index", "timeindex"] {
        // A swap that was about to replace the first segment, by one of the same records.
        copy(segment(bases[0], suffix), segment(bases[0], &format!("{suffix}.swap")));
        // A compaction that had not come far with the third.
        fs::write(segment(bases[2], &format!("{suffix}.cleaned")), []).expect("a file");
        // A segment whose file.delete.delay.ms had not passed.
        copy(segment(bases[1], suffix), segment("00000000000000000001", &format!("{suffix}.deleted")));
    }
    let mut suffixes = vec!["delete", "future"];
    if knows_stray {
        suffixes.push("stray");
    }
    for suffix in suffixes {
        let aside = broker.data().join(format!("gone-0.0123456789abcdef0123456789abcdef-{suffix}"));
        fs::create_dir(&aside).expect("a folder");
        copy(segment(bases[0], "log"), aside.join(format!("{:020}.log", 0)));
    }
}

fn no_remains(broker: &Broker, topic: &str) {
    for entry in fs::read_dir(broker.partition_dir(topic, 0)).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        assert!(![".swap", ".cleaned", ".deleted"].iter().any(|suffix| name.ends_with(suffix)), "{name}");
    }
}

/// A JVM broker's folder with remains comes to us, gets new ones, and goes to a JVM broker.
fn remains(theirs: Kind) {
    let topic = "remains";
    let mut cluster = Cluster::with(theirs, |broker| {
        broker.set("inter.broker.protocol.version", "2.8");
        broker.set("log.segment.bytes", 300_000).set("log.index.interval.bytes", 2_000);
    });
    let bootstrap = cluster.broker.address();
    cluster.broker.wire().create_topic(topic, 1, &[]);
    let mut written = Vec::new();
    for (stage, kind) in [theirs, Kind::under_test(), theirs].into_iter().enumerate() {
        if stage > 0 {
            cluster.broker.stop();
            plant_remains(&cluster.broker, topic, theirs == NEW);
            cluster.broker.kind = kind;
            cluster.broker.start();
            // A JVM broker answers before it has the partition, and keeps what it swapped out for a minute.
            let hosted = || (cluster.broker.wire().list_offset(topic, 0, -1).0 == 0).then_some(());
            crate::support::wait_for("the partition to be served", crate::support::PATIENCE, hosted);
            if kind == Kind::Barnabas {
                no_remains(&cluster.broker, topic);
            }
            for suffix in ["delete", "future", "stray"] {
                let _ = fs::remove_dir_all(
                    cluster.broker.data().join(format!("gone-0.0123456789abcdef0123456789abcdef-{suffix}")),
                );
            }
        }
        assert_same(&format!("{kind:?}"), &written, &Client::Franz.read(&bootstrap, &[topic]));
        for batch in 0..5 {
            // Most of a segment each.
            let records = sample(topic, 0, &format!("stage-{stage}-{batch}"), 30, EVERYTHING);
            Client::Franz.write(&bootstrap, &[("none", records.clone())]);
            written.extend(records);
        }
    }
    assert_same("at the end", &written, &Client::Franz.read(&bootstrap, &[topic]));
    cluster.broker.stop();
}

#[test]
fn remains_from_and_to_new_jvm() {
    remains(NEW);
}

#[test]
fn remains_from_and_to_old_jvm() {
    remains(OLD);
}

/// Folders from before message format 2, with every codec of that time.
fn old_format_folder(format: &str, shape: Shape) {
    let mut cluster = Cluster::with(OLD, |broker| {
        broker.set("log.message.format.version", format).set("log.segment.bytes", 300_000);
    });
    let bootstrap = cluster.broker.address();
    let mut wire = cluster.broker.wire();
    wire.create_topic("old", 1, &[]);
    let mut written = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let records = sample("old", 0, codec, 30, shape);
        Client::Java(jvm::OLD).write(&bootstrap, &[(codec, records.clone())]);
        written.extend(
            records
                .into_iter()
                .map(|record| Rec { timestamp: record.timestamp.filter(|_| shape.timestamps), ..record }),
        );
    }
    // Only Java reads compressed sets of format 0 as they stand: librdkafka and Go stumble over them.
    let all = [Client::Java(jvm::NEW), Client::Java(jvm::OLD), Client::Franz, Client::Sarama];
    let readers = if shape.timestamps { &all[..] } else { &all[..2] };
    let check = |who: &str, written: &[Rec]| {
        for reader in readers {
            let read = reader.read(&bootstrap, &["old"]);
            assert_same(&format!("{who}, read by {}", reader.name()), written, &read);
        }
    };
    check("the old broker", &written);
    for end in [End::Clean, End::Kill] {
        match end {
            End::Clean => drop(cluster.broker.stop()),
            End::Kill => {
                cluster.broker.kill();
                cluster.wait_unregistered();
            }
        }
        cluster.broker.kind = Kind::under_test();
        cluster.broker.start();
        check("the new broker", &written);
        let records = sample("old", 0, "appended", 10, EVERYTHING);
        Client::Java(jvm::NEW).write(&bootstrap, &[("zstd", records.clone())]);
        written.extend(records);
        check("the new broker after an append", &written);
    }
}

#[test]
fn folder_of_format_0() {
    old_format_folder("0.9.0", Shape { timestamps: false, ..OLD_FORMAT });
}

#[test]
fn folder_of_format_1() {
    old_format_folder("0.10.2", OLD_FORMAT);
}
