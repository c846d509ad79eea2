//! The cleaner against a model: what a consumer of committed records folds to the last value of each key never changes by a
//! cleaning, wherever the process ends amid it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use proptest::prelude::*;

use super::clean::{CleanError, Cleaner, Share, Summary};
use super::selection::{Cleanable, Wishes, assess};
use super::throttle::Throttle;
use crate::base::clock::ManualClock;
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::log::faults;
use crate::log::log_config::LogConfig;
use crate::log::partition_log::tests::{Spec, batch, bytes_of, params};
use crate::log::partition_log::{OpenParams, PartitionLog, ReadUpTo};
use crate::log::producer_state::{Origin, read_marker};
use crate::protocol::batch::{BatchHeader, HEADER_LEN, entries, entry_is_valid};
use crate::protocol::builder::{BatchBuilder, BatchSpec};
use crate::protocol::compress::Codec;
use crate::protocol::deep;

mod power;

/// Every cleaning counts; nothing waits.
const AT_ONCE: Wishes = Wishes { min_cleanable_ratio: 0.0, min_lag_ms: 0, max_lag_ms: i64::MAX };
/// `delete.retention.ms` of the tests.
const RETENTION: i64 = 1_000;

fn cleaner(dedupe_bytes: u64) -> Cleaner {
    let share = Share { dedupe_bytes, load_factor: 0.9, buffer_bytes: 1 };
    let throttle = Throttle::new(f64::MAX, Arc::new(ManualClock::new(0)));
    Cleaner::new(share, Arc::new(throttle), Arc::new(AtomicBool::new(false)))
}

fn range_of(log: &PartitionLog, now_ms: i64) -> Cleanable {
    assess(&log.cleaning_facts(now_ms).unwrap(), &AT_ONCE)
}

/// Cleans all that may be cleaned, or as much of it as the table of keys allows. As the threads do, it flushes that first.
fn clean(log: &PartitionLog, dedupe_bytes: u64, now_ms: i64) -> Option<Result<Summary, CleanError>> {
    let range = range_of(log, now_ms);
    range.is_due(&AT_ONCE).then(|| {
        log.flush_for_cleaning()?;
        cleaner(dedupe_bytes).clean(log, &range, now_ms)
    })
}

/// Room for all keys.
const MUCH: u64 = 1 << 20;
/// Room for seven keys, which is more than a batch has.
const LITTLE: u64 = 8 * super::offset_map::SLOT as u64;

fn config() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        index_interval_bytes: 100,
        delete_retention_ms: RETENTION,
        ..LogConfig::default()
    }
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    offset: i64,
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// What a consumer of committed records sees, read as consumers read: a piece at a time, with the aborted transactions that
/// the broker tells of each.
fn committed(log: &PartitionLog) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut offset = log.log_start_offset();
    loop {
        let read = log.read(offset, 300, true, ReadUpTo::LastStableOffset).unwrap();
        let bytes = bytes_of(&read);
        if bytes.is_empty() {
            return seen;
        }
        let mut aborted = read.aborted.unwrap_or_default();
        aborted.sort_by_key(|txn| std::cmp::Reverse(txn.first_offset));
        let mut dropped = HashSet::new();
        for entry in entries(&bytes) {
            let (header, entry) = entry.unwrap();
            assert!(entry_is_valid(entry), "the batch at {}", header.base_offset);
            while let Some(txn) = aborted.pop_if(|txn| txn.first_offset <= header.last_offset()) {
                dropped.insert(txn.producer_id);
            }
            if header.is_control() {
                if read_marker(&entry[HEADER_LEN..]).is_some_and(|marker| !marker.commit) {
                    dropped.remove(&header.producer_id);
                }
            } else if !(header.is_transactional() && dropped.contains(&header.producer_id)) {
                seen.extend(records_of(entry).into_iter().filter(|record| record.offset >= offset.get()));
            }
            offset = header.next_offset();
        }
    }
}

fn records_of(entry: &[u8]) -> Vec<Seen> {
    let mut records = Vec::new();
    deep::for_each_record(entry, 1 << 20, |record| {
        records.push(Seen {
            offset: record.offset.get(),
            timestamp: record.timestamp,
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
        });
        std::ops::ControlFlow::<()>::Continue(())
    })
    .unwrap();
    records
}

/// All batches, committed or not.
fn batches(log: &PartitionLog) -> Vec<(BatchHeader, Vec<u8>)> {
    let mut found = Vec::new();
    let mut offset = log.log_start_offset();
    loop {
        let bytes = bytes_of(&log.read(offset, 1 << 20, true, ReadUpTo::LogEnd).unwrap());
        if bytes.is_empty() {
            return found;
        }
        for entry in entries(&bytes) {
            let (header, entry) = entry.unwrap();
            offset = header.next_offset();
            found.push((header, entry.to_vec()));
        }
    }
}

/// The last value of each key.
fn fold(records: &[Seen]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut values = BTreeMap::new();
    for record in records {
        match &record.value {
            Some(value) => drop(values.insert(record.key.clone(), value.clone())),
            None => drop(values.remove(&record.key)),
        }
    }
    values
}

/// A record to append: its key and value.
type Pair = (u8, Option<u8>);

#[derive(Debug, Clone)]
enum Op {
    /// A producer (0 is none), whether in a transaction, the codec's number, the records.
    Append(u8, bool, i16, Vec<Pair>),
    /// A producer's transaction ends.
    End(u8, bool),
    Roll,
    /// So much later, with so much memory.
    Clean(i64, u64),
    /// In order, or as after a kill.
    Reopen(bool),
}

/// What clients and coordinators write.
fn written() -> impl Strategy<Value = Op> {
    let pair = (0_u8..14, prop::option::weighted(0.75, any::<u8>()));
    let append = (0_u8..4, any::<bool>(), 0_i16..5, prop::collection::vec(pair, 1..5));
    prop_oneof![
        8 => append.prop_map(|(producer, transactional, codec, pairs)| Op::Append(producer, transactional, codec, pairs)),
        3 => (1_u8..4, any::<bool>()).prop_map(|(producer, commit)| Op::End(producer, commit)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        11 => written(),
        3 => Just(Op::Roll),
        2 => (prop_oneof![Just(0_i64), Just(RETENTION / 2), Just(RETENTION)], prop_oneof![Just(LITTLE), Just(MUCH)])
            .prop_map(|(later, bytes)| Op::Clean(later, bytes)),
        1 => any::<bool>().prop_map(Op::Reopen),
    ]
}

/// A log and what must be in it.
struct Rig {
    params: OpenParams,
    log: Arc<PartitionLog>,
    now_ms: i64,
    sequences: BTreeMap<u8, i32>,
    /// Open transactions and their records.
    open: BTreeMap<u8, Vec<Seen>>,
    /// Committed records, by offset.
    model: BTreeMap<i64, Seen>,
    aborted: BTreeSet<i64>,
    /// The last batch of each producer, as it was sent, and its first offset.
    last_sent: BTreeMap<u8, (Bytes, Offset)>,
}

impl Rig {
    fn new(dir: &Path, config: LogConfig) -> Self {
        let params = params(dir, config);
        let log = Arc::new(PartitionLog::open(&params).unwrap());
        Self {
            params,
            log,
            now_ms: 10_000,
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            model: BTreeMap::new(),
            aborted: BTreeSet::new(),
            last_sent: BTreeMap::new(),
        }
    }

    fn append(&mut self, producer: u8, transactional: bool, codec: i16, pairs: &[Pair]) {
        let transactional = producer > 0 && (transactional || self.open.contains_key(&producer));
        let sequence = self.sequences.entry(producer).or_default();
        let spec = BatchSpec {
            compression: Codec::from_id(codec).unwrap().into(),
            producer_id: ProducerId(if producer > 0 { i64::from(producer) } else { -1 }),
            producer_epoch: ProducerEpoch(if producer > 0 { 0 } else { -1 }),
            base_sequence: if producer > 0 { *sequence } else { -1 },
            transactional,
            ..BatchSpec::default()
        };
        *sequence += i32::try_from(pairs.len()).unwrap();
        let mut builder = BatchBuilder::new(spec);
        for (n, (key, value)) in (0..).zip(pairs) {
            builder.append(self.now_ms + n, Some(&[b'k', *key]), value.as_ref().map(std::slice::from_ref));
        }
        let bytes = builder.build().unwrap().1;
        let info = self.log.append_as_leader(bytes.clone(), LeaderEpoch(0), Origin::Client, self.now_ms).unwrap();
        assert!(!info.duplicate);
        let records = (0..).zip(pairs).map(|(n, (key, value))| Seen {
            offset: info.first_offset.get() + n,
            timestamp: self.now_ms + n,
            key: vec![b'k', *key],
            value: value.map(|value| vec![value]),
        });
        if transactional {
            self.open.entry(producer).or_default().extend(records);
        } else {
            self.model.extend(records.map(|record| (record.offset, record)));
        }
        if producer > 0 {
            self.last_sent.insert(producer, (bytes, info.first_offset));
        }
        self.log.update_high_watermark(self.log.log_end_offset());
    }

    fn end(&mut self, producer: u8, commit: bool) {
        let Some(records) = self.open.remove(&producer) else { return };
        let spec = Spec { producer: Some((producer.into(), 0, -1)), marker: Some(commit), ..Spec::default() };
        self.log.append_as_leader(batch(&spec), LeaderEpoch(0), Origin::Coordinator, self.now_ms).unwrap();
        if commit {
            self.model.extend(records.into_iter().map(|record| (record.offset, record)));
        } else {
            self.aborted.extend(records.iter().map(|record| record.offset));
        }
        self.log.update_high_watermark(self.log.log_end_offset());
    }

    /// Opens the log anew, as after an orderly stop or a kill.
    fn reopen(&mut self, in_order: bool) {
        let end = self.log.log_end_offset();
        // After a kill the index entries and epochs in memory are lost; the pages of the records are the kernel's.
        if in_order {
            self.log.close().unwrap();
        }
        self.params.recovery_point = self.log.recovery_point();
        self.params.cleaned = self.log.cleaned_offset();
        self.open_again(&OpenParams { clean: in_order, ..self.params.clone() });
        assert_eq!(self.log.log_end_offset(), end);
    }

    fn open_again(&mut self, params: &OpenParams) {
        let log_dir = Arc::new(crate::log::log_dir::LogDir::new(params.log_dir.path()));
        self.params = OpenParams { log_dir, ..params.clone() };
        self.log = Arc::new(PartitionLog::open(&self.params).unwrap());
        self.log.update_high_watermark(self.log.log_end_offset());
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Append(producer, transactional, codec, pairs) => self.append(*producer, *transactional, *codec, pairs),
            Op::End(producer, commit) => self.end(*producer, *commit),
            Op::Roll => self.log.roll(self.now_ms).unwrap(),
            Op::Clean(later, bytes) => {
                self.now_ms += later;
                let before = self.log.cleaned_offset();
                match clean(&self.log, *bytes, self.now_ms) {
                    None => assert_eq!(self.log.cleaned_offset(), before),
                    Some(summary) => {
                        let summary = summary.unwrap();
                        assert_eq!(self.log.cleaned_offset(), Some(summary.cleaned_to));
                        self.check_cleaned(summary.cleaned_to);
                    }
                }
            }
            Op::Reopen(in_order) => self.reopen(*in_order),
        }
        self.check();
    }

    /// What holds at any time.
    fn check(&self) {
        let lso = self.log.last_stable_offset().get();
        let expected: Vec<Seen> = self.model.range(..lso).map(|(_, record)| record.clone()).collect();
        let seen = committed(&self.log);
        for record in &seen {
            assert_eq!(self.model.get(&record.offset), Some(record), "what is left is as it was written");
        }
        assert_eq!(fold(&seen), fold(&expected));
        assert!(seen.is_sorted_by_key(|record| record.offset));
        for offset in self.log.log_start_offset().get()..self.log.log_end_offset().get() {
            let bytes = bytes_of(&self.log.read(Offset(offset), 1, true, ReadUpTo::LogEnd).unwrap());
            let found = BatchHeader::read(&bytes);
            assert!(found.is_none_or(|header| header.last_offset() >= Offset(offset)), "a read from {offset}");
            let _ = self.log.offset_for_timestamp(offset).unwrap();
        }
    }

    /// What holds after a cleaning up to `end`.
    fn check_cleaned(&self, end: Offset) {
        let mut keys = BTreeMap::new();
        for (header, entry) in batches(&self.log).iter().filter(|(header, _)| header.last_offset() < end) {
            for record in records_of(entry).into_iter().filter(|_| !header.is_control()) {
                assert!(!self.aborted.contains(&record.offset), "{} was aborted", record.offset);
                if let Some(other) = keys.insert(record.key.clone(), record.offset) {
                    panic!("{other} and {} have the same key", record.offset);
                }
            }
        }
        let last = fold_offsets(self.model.range(..end.get()).map(|(_, record)| record));
        for (key, offset) in &keys {
            assert_eq!(last.get(key).map(|record| record.offset), Some(*offset));
        }
        // Of a key that comes once more behind the end the cleaner may know that already, and not keep this one.
        let later: BTreeSet<&Vec<u8>> = self.model.range(end.get()..).map(|(_, record)| &record.key).collect();
        let stays = |record: &Seen| record.value.is_some() || record.timestamp == self.now_ms;
        for (key, record) in last.iter().filter(|(key, record)| !later.contains(key) && stays(record)) {
            assert_eq!(keys.get(key), Some(&record.offset), "{record:?} must stay");
        }
    }

    /// Each producer goes on where it stopped, and what it sends twice is known.
    fn check_producers(&mut self) {
        for (producer, (bytes, first)) in self.last_sent.clone() {
            let again = self.log.append_as_leader(bytes, LeaderEpoch(0), Origin::Client, self.now_ms).unwrap();
            assert_eq!((again.duplicate, again.first_offset), (true, first), "producer {producer}");
            self.append(producer, false, 0, &[(9, Some(9))]);
        }
    }
}

fn fold_offsets<'a>(records: impl Iterator<Item = &'a Seen>) -> BTreeMap<Vec<u8>, Seen> {
    records.map(|record| (record.key.clone(), record.clone())).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("t-0")).unwrap();
    for entry in fs::read_dir(from.join("t-0")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join("t-0").join(entry.file_name())).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_last_values_stay(ops in prop::collection::vec(op(), 1..60), segment_bytes in 300_i32..3000) {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::new(dir.path(), LogConfig { segment_bytes, ..config() });
        ops.iter().for_each(|op| rig.run(op));
        rig.now_ms += RETENTION;
        rig.run(&Op::Roll);
        rig.run(&Op::Clean(0, MUCH));
        rig.run(&Op::Clean(RETENTION, MUCH));
        rig.reopen(false);
        rig.check();
        rig.check_producers();
        rig.check();
    }
}

proptest! {
    // Each case tries every place there is.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_process_may_end_anywhere(ops in prop::collection::vec(op(), 5..30), segment_bytes in 300_i32..1500) {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::new(dir.path(), LogConfig { segment_bytes, ..config() });
        ops.iter().for_each(|op| rig.run(op));
        rig.run(&Op::Roll);
        rig.now_ms += RETENTION;
        rig.log.flush().unwrap();
        let cleaned = rig.log.cleaned_offset();
        rig.reopen(true);
        let end = rig.log.log_end_offset();
        let mut steps = 0;
        loop {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(dir.path(), copy.path());
            let tp_dir = copy.path().join("t-0");
            let log_dir = Arc::new(crate::log::log_dir::LogDir::new(copy.path()));
            let params = OpenParams { dir: Arc::from(tp_dir), log_dir, cleaned, ..rig.params.clone() };
            rig.open_again(&params);
            faults::end_after(Some(steps));
            let result = clean(&rig.log, MUCH, rig.now_ms);
            let ended = matches!(&result, Some(Err(CleanError::Log(_)))) || faults::step().is_err();
            faults::end_after(None);
            rig.open_again(&OpenParams { clean: false, ..params });
            prop_assert_eq!(rig.log.log_end_offset(), end);
            rig.check();
            // And once more, to the end.
            if let Some(summary) = clean(&rig.log, MUCH, rig.now_ms) {
                rig.check_cleaned(summary.unwrap().cleaned_to);
            }
            rig.check();
            if !ended {
                break;
            }
            steps += 1;
            prop_assert!(steps < 10_000);
        }
    }
}

/// Batches at 0 to 9, each with one record of the same key, in segments of two.
fn five_segments(dir: &Path) -> Rig {
    let mut rig = Rig::new(dir, config());
    for n in 0..10 {
        rig.append(0, false, 0, &[(1, Some(n))]);
        if n % 2 == 1 {
            rig.log.roll(rig.now_ms).unwrap();
        }
    }
    rig
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("t-0")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_changes_meanwhile_makes_a_cleaning_void() {
    type Change = fn(&Rig);
    let changes: [(&str, Change); 4] = [
        ("a truncation", |rig| assert!(rig.log.truncate_to(Offset(7), 1).unwrap())),
        ("another beginning", |rig| rig.log.truncate_fully_and_start_at(Offset(70), 1).unwrap()),
        ("a move", |rig| rig.log.pause_cleaning()),
        ("the end", |rig| rig.log.close().unwrap()),
    ];
    for (what, change) in changes {
        let dir = tempfile::tempdir().unwrap();
        let rig = five_segments(dir.path());
        let view = rig.log.begin_cleaning(Offset(10)).unwrap().unwrap();
        let dir_of_log = Arc::from(rig.log.dir());
        let output = super::output::Output::create(dir_of_log, Offset(0), 100, 100, 1).unwrap();
        let new = output.finish(std::time::SystemTime::now()).unwrap();
        change(&rig);
        let before = names(dir.path());
        let old = view.segments.clone();
        let replaced = rig.log.replace_segments(&view, new, &old, 1).unwrap();
        assert_eq!(replaced, crate::log::partition_log::Replaced::Void, "{what}");
        assert_eq!(names(dir.path()), before, "{what}: no file is renamed");
        rig.log.note_cleaned(&view, Offset(10));
        assert!(rig.log.is_closed() || rig.log.cleaned_offset().is_none(), "{what}");
    }
}

#[test]
fn a_cleaning_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let rig = five_segments(dir.path());
    let before = names(dir.path());
    let stop = Arc::new(AtomicBool::new(true));
    let share = Share { dedupe_bytes: MUCH, load_factor: 0.9, buffer_bytes: 1 };
    let throttle = Throttle::new(f64::MAX, Arc::new(ManualClock::new(0)));
    for _ in 0..40 {
        let value = vec![7; 20_000];
        let mut builder = BatchBuilder::new(BatchSpec::default());
        builder.append(1, Some(b"key"), Some(&value));
        rig.log.append_as_leader(builder.build().unwrap().1, LeaderEpoch(0), Origin::Client, 1).unwrap();
    }
    rig.log.roll(1).unwrap();
    rig.log.update_high_watermark(rig.log.log_end_offset());
    let with_more = names(dir.path());
    let result = Cleaner::new(share, Arc::new(throttle), stop).clean(&rig.log, &range_of(&rig.log, 1), 1);
    assert!(matches!(result, Err(CleanError::GivenUp(_))), "{result:?}");
    assert_eq!(names(dir.path()), with_more);
    assert!(with_more.len() > before.len() && rig.log.cleaned_offset().is_none());
}

#[test]
fn old_readers_go_on_in_what_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let rig = five_segments(dir.path());
    let read = rig.log.read(Offset(0), 1000, true, ReadUpTo::LogEnd).unwrap();
    let segments = rig.log.begin_cleaning(Offset(10)).unwrap().unwrap().segments;
    let summary = clean(&rig.log, MUCH, rig.now_ms).unwrap().unwrap();
    assert_eq!((summary.before.records, summary.after.records, summary.after.segments), (10, 1, 1), "{summary:?}");
    let bytes = bytes_of(&read);
    let first = entries(&bytes).next().unwrap().unwrap().1;
    assert_eq!(records_of(first)[0].offset, 0, "a slice that is being sent");
    for segment in segments {
        let base = segment.base_offset();
        let place = segment.locate(base, segment.size(), crate::log::disk::Disk::Wait).unwrap().unwrap();
        assert_eq!(place.base_offset, base, "a segment whose files had not been opened");
    }
    assert_eq!(committed(&rig.log).iter().map(|record| record.offset).collect::<Vec<_>>(), [9]);
    for name in names(dir.path()).iter().filter(|name| name.contains(".log")) {
        assert!(name.ends_with(".deleted") || name.ends_with("000.log") || name.ends_with("010.log"), "{name}");
    }
    assert_eq!(rig.params.log_dir.remove_due(i64::MAX), 15, "five segments of three files each");
}

#[test]
fn tombstones_go_after_their_time_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(dir.path(), config());
    rig.append(0, false, 4, &[(1, Some(1)), (2, Some(2)), (1, None)]);
    let next_round = |rig: &mut Rig, later: i64| {
        rig.now_ms += later;
        rig.append(0, false, 0, &[(3, Some(3))]);
        rig.log.roll(rig.now_ms).unwrap();
        clean(&rig.log, MUCH, rig.now_ms).unwrap().unwrap();
        rig.check();
        batches(&rig.log)[0].0
    };
    let marked = next_round(&mut rig, 0);
    assert!(marked.has_delete_horizon() && marked.base_timestamp == rig.now_ms + RETENTION, "{marked:?}");
    assert_eq!((marked.record_count, marked.last_offset_delta, marked.codec()), (2, 2, 4));
    let again = next_round(&mut rig, RETENTION - 1);
    assert_eq!(again.base_timestamp, marked.base_timestamp, "the horizon is set once");
    assert_eq!(next_round(&mut rig, 1).record_count, 1, "the tombstone has gone");
    assert_eq!(committed(&rig.log)[0].timestamp, 10_001, "with a horizon for a base");
}

#[test]
fn a_follower_that_begins_anew_comes_to_the_leaders_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(dir.path(), config());
    rig.append(0, false, 0, &[(1, Some(1))]);
    rig.append(0, false, 3, &[(1, None)]);
    rig.log.roll(rig.now_ms).unwrap();
    clean(&rig.log, MUCH, rig.now_ms).unwrap().unwrap();
    // What there was is clean, so that it takes more to be cleaned once more.
    rig.now_ms += RETENTION;
    rig.log.forget_cleaned_offset();
    clean(&rig.log, MUCH, rig.now_ms).unwrap().unwrap();
    let left = batches(&rig.log);
    assert_eq!(
        left.iter().map(|(header, _)| (header.record_count, header.last_offset())).collect::<Vec<_>>(),
        [(0, Offset(1))]
    );
    let other = tempfile::tempdir().unwrap();
    let follower = PartitionLog::open(&params(other.path(), config())).unwrap();
    follower.append_as_follower(left[0].1.clone().into(), 1).unwrap();
    assert_eq!(follower.log_end_offset(), rig.log.log_end_offset());
    drop(follower);
    let unclean = OpenParams { clean: false, ..params(other.path(), config()) };
    assert_eq!(PartitionLog::open(&unclean).unwrap().log_end_offset(), Offset(2));
}

#[test]
fn records_without_a_key_and_messages_of_old_formats() {
    use crate::protocol::legacy::LegacyBuilder;
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), config());
    for (magic, codec, first) in [(0, Codec::None, 0), (1, Codec::None, 3), (1, Codec::Gzip, 6), (0, Codec::Snappy, 9)]
    {
        let mut builder = LegacyBuilder::new(magic, codec.into(), None);
        builder.append(Offset(first), 5, Some(b"a"), Some(b"1"));
        builder.append(Offset(first + 1), 6, None, Some(b"2"));
        builder.append(Offset(first + 2), 7, Some(&[b'b', u8::try_from(first).unwrap()]), Some(b"3"));
        rig.log.append_as_follower(builder.build().unwrap(), 1).unwrap();
    }
    let mut builder = BatchBuilder::new(BatchSpec { base_offset: Offset(12), ..BatchSpec::default() });
    builder.append(9, None, Some(b"x"));
    builder.append(9, Some(b"c"), Some(b"x"));
    rig.log.append_as_follower(builder.build().unwrap().1, 1).unwrap();
    rig.log.roll(1).unwrap();
    rig.log.update_high_watermark(rig.log.log_end_offset());
    let summary = clean(&rig.log, MUCH, 1).unwrap().unwrap();
    assert_eq!((summary.keys, summary.without_key), (6, 5), "{summary:?}");
    let left: Vec<i64> = committed(&rig.log).iter().map(|record| record.offset).collect();
    assert_eq!(left, [2, 5, 8, 9, 11, 13]);
    for offset in 0..14 {
        let found = committed_from(&rig.log, offset);
        assert_eq!(found.first(), left.iter().find(|left| **left >= offset), "from {offset} on");
    }
}

fn committed_from(log: &PartitionLog, offset: i64) -> Vec<i64> {
    let bytes = bytes_of(&log.read(Offset(offset), 1 << 20, true, ReadUpTo::LogEnd).unwrap());
    let records = entries(&bytes).flat_map(|entry| records_of(entry.unwrap().1));
    records.map(|record| record.offset).filter(|at| *at >= offset).collect()
}

#[test]
fn a_damaged_log_is_left_alone_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let rig = five_segments(dir.path());
    let path = dir.path().join("t-0/00000000000000000004.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = clean(&rig.log, MUCH, 1).unwrap().unwrap_err();
    assert!(error.to_string().contains("the batch at offset 4 is damaged: its checksum is wrong"), "{error}");
    assert!(!rig.params.log_dir.is_offline());
}

#[test]
fn appends_and_reads_go_on_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), LogConfig { segment_bytes: 4_000, ..config() });
    let done = AtomicBool::new(false);
    let log = &rig.log;
    let cleanings = std::thread::scope(|scope| {
        let cleaner = scope.spawn(|| {
            let mut count = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                count += usize::from(clean(log, MUCH, 1).is_some_and(|summary| summary.is_ok()));
            }
            count
        });
        let reader = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let values = fold(&committed(log));
                // Written in turn, so that the last ones are never far apart.
                let number = |value: &Vec<u8>| u32::from_be_bytes(value[..4].try_into().unwrap());
                let (min, max) = (values.values().map(number).min(), values.values().map(number).max());
                assert!(max.unwrap_or(0) - min.unwrap_or(0) <= 32, "{min:?} to {max:?}");
            }
        });
        for n in 0..6_000_u32 {
            let mut builder = BatchBuilder::new(BatchSpec::default());
            builder.append(i64::from(n), Some(&[u8::try_from(n % 16).unwrap()]), Some(&n.to_be_bytes()));
            log.append_as_leader(builder.build().unwrap().1, LeaderEpoch(0), Origin::Client, 1).unwrap();
            log.update_high_watermark(log.log_end_offset());
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        reader.join().unwrap();
        cleaner.join().unwrap()
    });
    assert!(cleanings > 1, "{cleanings} cleanings");
    log.roll(1).unwrap();
    let summary = clean(log, MUCH, 1).unwrap().unwrap();
    assert_eq!((summary.after.records, log.log_end_offset()), (16, Offset(6_000)), "{summary:?}");
    assert!(!rig.params.log_dir.is_offline());
}
