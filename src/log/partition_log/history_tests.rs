//! Random histories of a log against a model: appends, rolls, truncations, orderly restarts, and crashes that tear what was
//! not flushed and damage indexes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;

use proptest::prelude::*;

use super::tests::{Spec, batch, bytes_of, params};
use super::*;
use crate::log::producer_state::Origin;
use crate::protocol::batch::BatchHeader;

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: i32,
        value: usize,
        timestamp: i64,
        producer: u8,
    },
    EndTxn {
        producer: u8,
        commit: bool,
    },
    Roll,
    Flush,
    Rest,
    /// To the given thousandth of the log.
    Truncate(u16),
    Reopen,
    Crash {
        tear: u16,
        garbage: u8,
        index: Vec<(u8, u16)>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let append = (1..4i32, 0..200usize, 0..1000i64, 0..8u8)
        .prop_map(|(records, value, timestamp, producer)| Step::Append { records, value, timestamp, producer });
    let crash = (0..1000u16, 0..80u8, prop::collection::vec((0..4u8, any::<u16>()), 0..6))
        .prop_map(|(tear, garbage, index)| Step::Crash { tear, garbage, index });
    prop_oneof![
        20 => append,
        3 => (5..8u8, any::<bool>()).prop_map(|(producer, commit)| Step::EndTxn { producer, commit }),
        1 => Just(Step::Roll),
        2 => Just(Step::Flush),
        1 => Just(Step::Rest),
        1 => (0..1000u16).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
        2 => crash,
    ]
}

/// A batch as it must be read.
#[derive(Debug, Clone)]
struct Written {
    base: i64,
    last: i64,
    timestamp: i64,
    producer: Option<(i64, i32)>,
    /// Of a transactional producer: a batch, or a marker that commits or not.
    txn: Option<Option<bool>>,
    bytes: Vec<u8>,
}

struct Model {
    dir: tempfile::TempDir,
    config: LogConfig,
    log: PartitionLog,
    batches: Vec<Written>,
    epoch: i32,
}

impl Model {
    fn new(config: LogConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = PartitionLog::open(&params(dir.path(), config.clone())).unwrap();
        Self { dir, config, log, batches: Vec::new(), epoch: 0 }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.last + 1)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("t-0")
    }

    /// The last sequence number of each producer.
    fn sequences(&self) -> BTreeMap<i64, i32> {
        self.batches.iter().filter_map(|batch| batch.producer).filter(|(_, sequence)| *sequence >= 0).collect()
    }

    /// The first offsets of open transactions, and the aborted ones as (first, last).
    fn transactions(&self) -> (BTreeMap<i64, i64>, Vec<(i64, i64)>) {
        let (mut open, mut aborted) = (BTreeMap::new(), Vec::new());
        for batch in &self.batches {
            let (Some((producer, _)), Some(txn)) = (batch.producer, batch.txn) else { continue };
            match txn {
                None => {
                    open.entry(producer).or_insert(batch.base);
                }
                Some(commit) => {
                    if let Some(first) = open.remove(&producer)
                        && !commit
                    {
                        aborted.push((first, batch.base));
                    }
                }
            }
        }
        (open, aborted)
    }

    fn append(&mut self, spec: &Spec, origin: Origin) {
        let end = self.end();
        let bytes = batch(spec);
        self.log.append_as_leader(bytes.clone(), LeaderEpoch(self.epoch), origin, 1).unwrap();
        let mut bytes = bytes.to_vec();
        bytes[..8].copy_from_slice(&end.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        self.batches.push(Written {
            base: end,
            last: end + i64::from(spec.records) - 1,
            timestamp: spec.timestamp + i64::from(spec.records) - 1,
            producer: spec.producer.map(|(id, _, first)| (id, if first < 0 { -1 } else { first + spec.records - 1 })),
            txn: spec.producer.filter(|(id, ..)| *id >= 5).map(|_| spec.marker),
            bytes,
        });
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append { records, value, timestamp, producer } => {
                let id = i64::from(*producer);
                let sequence = self.sequences().get(&id).map_or(0, |last| last + 1);
                let producer = (id > 2).then_some((id, 0, sequence));
                let (records, value, timestamp) = (*records, *value, *timestamp);
                let spec = Spec { records, value, timestamp, producer, transactional: id >= 5, ..Spec::default() };
                self.append(&spec, Origin::Client);
            }
            Step::EndTxn { producer, commit } => {
                let producer = Some((i64::from(*producer), 0, -1));
                let spec = Spec { producer, marker: Some(*commit), ..Spec::default() };
                self.append(&spec, Origin::Coordinator);
            }
            Step::Roll => self.log.roll(1).unwrap(),
            Step::Flush => self.log.flush().unwrap(),
            Step::Rest => {
                if let Some(since) = self.log.idle_since(i64::MAX, 0) {
                    self.log.rest(since).unwrap();
                }
            }
            Step::Truncate(thousandth) => {
                let at = self.batches.len() * usize::from(*thousandth) / 1000;
                let offset = self.batches.get(at).map_or(self.end(), |batch| batch.base);
                self.log.truncate_to(Offset(offset), 1).unwrap();
                self.batches.truncate(at);
                self.epoch += 1;
            }
            Step::Reopen => {
                self.log.close().unwrap();
                self.reopen(true, Offset(0));
            }
            Step::Crash { tear, garbage, index } => self.crash(*tear, *garbage, index),
        }
    }

    fn reopen(&mut self, clean: bool, recovery_point: Offset) {
        let params = OpenParams { clean, recovery_point, ..params(self.dir.path(), self.config.clone()) };
        self.log = PartitionLog::open(&params).unwrap();
    }

    /// As after the power went: of the active segment only what was flushed is sure to be there.
    fn crash(&mut self, tear: u16, garbage: u8, index: &[(u8, u16)]) {
        let recovery_point = self.log.recovery_point();
        let active = *self.log.segment_starts().last().unwrap();
        let in_active = |batch: &&Written| batch.base >= active.base_offset.get();
        let flushed: usize = self
            .batches
            .iter()
            .filter(in_active)
            .filter(|b| b.base < recovery_point.get())
            .map(|b| b.bytes.len())
            .sum();
        let unflushed = active.size as usize - flushed;
        let size = (flushed + unflushed * usize::from(tear) / 1000) as u64;
        let path = files::segment_file(&self.folder(), active.base_offset, files::LOG);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(size).unwrap();
        file.set_len(size + u64::from(garbage)).unwrap();
        for (kind, at) in index {
            let suffix = if at % 2 == 0 { files::INDEX } else { files::TIME_INDEX };
            damage(&files::segment_file(&self.folder(), active.base_offset, suffix), *kind, *at);
        }
        self.reopen(false, recovery_point);
        let end = self.log.log_end_offset();
        assert!(end >= recovery_point, "{end} lies below what was flushed, {recovery_point}");
        self.batches.retain(|batch| batch.last < end.get());
        assert_eq!(self.end(), end.get());
        let whole: u64 = self.batches.iter().filter(in_active).map(|batch| batch.bytes.len() as u64).sum();
        assert_eq!(self.log.segment_starts().last().unwrap().size, whole);
    }

    fn check(&self) {
        let end = self.end();
        assert_eq!(self.log.log_end_offset(), Offset(end));
        self.log.update_high_watermark(Offset(end));
        for batch in &self.batches {
            for offset in [batch.base, batch.last] {
                let read = self.log.read(Offset(offset), 1, true, ReadUpTo::LogEnd).unwrap();
                assert_eq!(bytes_of(&read), batch.bytes, "at {offset}");
            }
        }
        self.check_times();
        self.check_producers(end);
        if let Some(last) = self.batches.last() {
            let header = BatchHeader::read(&last.bytes).unwrap();
            assert_eq!(self.log.epoch_at(Offset(last.last)), Some(header.leader_epoch));
        }
    }

    fn check_times(&self) {
        for timestamp in [0, 300, 600, 999] {
            let expected = self.batches.iter().find(|batch| batch.timestamp >= timestamp);
            let found = self.log.offset_for_timestamp(timestamp).unwrap();
            let range = expected.map(|batch| batch.base..=batch.last);
            assert_eq!(found.is_some(), range.is_some(), "{timestamp}");
            if let (Some(found), Some(range)) = (found, range) {
                assert!(range.contains(&found.offset.get()), "{timestamp}: {found:?} not in {range:?}");
            }
        }
    }

    fn check_producers(&self, end: i64) {
        let writer = self.log.writer.lock();
        let known: BTreeMap<i64, i32> = (writer.producers.producers().iter())
            .map(|(id, entry)| (id.get(), entry.last_sequence()))
            .filter(|(_, sequence)| *sequence >= 0)
            .collect();
        assert_eq!(known, self.sequences());
        drop(writer);
        let (open, aborted) = self.transactions();
        let stable = open.values().min().copied().unwrap_or(end);
        assert_eq!(self.log.last_stable_offset(), Offset(stable));
        let read = self.log.read(Offset(0), 1, true, ReadUpTo::LastStableOffset).unwrap();
        if read.data.is_some() && !self.batches.is_empty() {
            let mut all = Vec::new();
            for segment in self.log.shared.lock().segments.iter() {
                all.extend(crate::log::txn_index::read(&segment.path(files::TXN_INDEX)).unwrap());
            }
            let all: Vec<_> = all.iter().map(|txn| (txn.first_offset.get(), txn.last_offset.get())).collect();
            assert_eq!(all, aborted);
        }
    }
}

fn damage(path: &Path, kind: u8, at: u16) {
    let Ok(len) = fs::metadata(path).map(|meta| meta.len()) else { return };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    match kind {
        0 => fs::remove_file(path).unwrap(),
        // What was flushed is not lost entry by entry, so an odd length tells such damage.
        1 => file.set_len((len * u64::from(at) / 65_536) | 1).unwrap(),
        2 => file.set_len(len + u64::from(at)).unwrap(),
        _ => file.set_len(0).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_was_written(
        steps in prop::collection::vec(step(), 1..60),
        segment_bytes in 800..3000i32,
        interval in 0..500i32,
    ) {
        let config = LogConfig { segment_bytes, index_interval_bytes: interval, ..LogConfig::default() };
        let mut model = Model::new(config);
        for (at, step) in steps.iter().enumerate() {
            model.run(step);
            if at % 5 == 0 || matches!(step, Step::Crash { .. } | Step::Truncate(_) | Step::Reopen) {
                model.check();
            }
        }
        model.check();
    }
}
