//! Random histories of transactions in a log against a model: what is open, what was aborted, and what a reader of
//! committed records gets, with a high watermark that lags, truncations, restarts, deleted records and lost indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;

use super::tests::{Spec, append, batch, bytes_of, params};
use super::*;
use crate::log::producer_state::Origin;
use crate::protocol::batch::BatchHeader;

/// Producer 0 writes outside transactions.
const OUTSIDE: i64 = 0;

#[derive(Debug, Clone)]
enum Step {
    Append {
        producer: u8,
        records: i32,
    },
    End {
        producer: u8,
        commit: bool,
    },
    /// The high watermark rises to the given thousandth of what is above it.
    Replicate(u16),
    /// What lies above the given thousandth of that is cut off.
    Truncate(u16),
    Roll,
    /// Records below the given thousandth of what is replicated are deleted.
    Delete(u16),
    Retention,
    Reopen {
        clean: bool,
        lose_index: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..4u8, 1..4i32).prop_map(|(producer, records)| Step::Append { producer, records }),
        6 => (1..4u8, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        4 => (0..=1000u16).prop_map(Step::Replicate),
        1 => (0..1000u16).prop_map(Step::Truncate),
        2 => Just(Step::Roll),
        1 => (0..=1000u16).prop_map(Step::Delete),
        1 => Just(Step::Retention),
        1 => any::<(bool, bool)>().prop_map(|(clean, lose_index)| Step::Reopen { clean, lose_index }),
    ]
}

/// A batch as the model has it.
#[derive(Debug, Clone, Copy)]
struct Written {
    base: i64,
    producer: i64,
    marker: Option<bool>,
}

/// A transaction as the model has it: its first offset, and where and how it ended.
#[derive(Debug, Clone, Copy)]
struct Txn {
    producer: i64,
    first: i64,
    end: Option<(i64, bool)>,
}

struct Model {
    dir: tempfile::TempDir,
    log: PartitionLog,
    batches: Vec<Written>,
    sequences: BTreeMap<i64, i32>,
    high_watermark: i64,
    log_start: i64,
    /// Markers below it were in the snapshot of an orderly stop, which does not tell whether they are replicated.
    settled: i64,
}

fn part(from: i64, to: i64, thousandth: u16) -> i64 {
    from + (to - from) * i64::from(thousandth) / 1000
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
        Self { dir, log, batches: Vec::new(), sequences: BTreeMap::new(), high_watermark: 0, log_start: 0, settled: 0 }
    }

    fn end(&self) -> i64 {
        self.log.log_end_offset().get()
    }

    fn write(&mut self, spec: &Spec) {
        let info = append(&self.log, spec);
        let (id, ..) = spec.producer.unwrap();
        self.batches.push(Written { base: info.first_offset.get(), producer: id, marker: spec.marker });
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Append { producer, records } => {
                let id = i64::from(producer);
                let sequence = self.sequences.entry(id).or_default();
                let first = *sequence;
                *sequence += records;
                let producer = Some((id, 0, first));
                self.write(&Spec { records, producer, transactional: id != OUTSIDE, ..Spec::default() });
            }
            Step::End { producer, commit } => {
                let producer = Some((i64::from(producer), 0, -1));
                self.write(&Spec { producer, marker: Some(commit), ..Spec::default() });
            }
            Step::Replicate(thousandth) => {
                let to = part(self.high_watermark, self.end(), thousandth);
                // Replicas have whole batches.
                let bases = self.batches.iter().map(|batch| batch.base).chain([self.end()]);
                let to = bases.filter(|base| *base <= to).max().unwrap_or(0);
                self.high_watermark = self.high_watermark.max(to);
                self.log.maybe_increment_high_watermark(Offset(self.high_watermark));
            }
            Step::Truncate(thousandth) => self.truncate(part(self.high_watermark, self.end(), thousandth)),
            Step::Roll => self.log.roll(1).unwrap(),
            Step::Delete(thousandth) => {
                self.log_start = part(self.log_start, self.high_watermark, thousandth);
                self.log.maybe_increment_log_start_offset(Offset(self.log_start)).unwrap();
            }
            Step::Retention => {
                self.log.delete_old_segments(1).unwrap();
            }
            Step::Reopen { clean, lose_index } => self.reopen(clean, lose_index),
        }
    }

    fn truncate(&mut self, to: i64) {
        let to = self.batches.iter().map(|batch| batch.base).find(|base| *base >= to).unwrap_or(self.end());
        self.log.truncate_to(Offset(to), 1).unwrap();
        self.batches.retain(|batch| batch.base < to);
        self.sequences.clear();
        for (id, entry) in self.log.active_producers() {
            if entry.last_sequence() >= 0 {
                self.sequences.insert(id.get(), entry.last_sequence() + 1);
            }
        }
    }

    fn reopen(&mut self, clean: bool, lose_index: bool) {
        let recovery_point = if clean {
            self.settled = self.end();
            self.log.close().unwrap();
            self.log.recovery_point()
        } else {
            self.settled = 0;
            Offset::ZERO
        };
        if lose_index && !clean {
            for entry in fs::read_dir(self.dir.path().join("t-0")).unwrap().map(Result::unwrap) {
                if entry.file_name().to_string_lossy().ends_with(files::TXN_INDEX) {
                    fs::write(entry.path(), [1; 7]).unwrap();
                }
            }
        }
        let log_start = Offset(self.log_start);
        let params = OpenParams { clean, recovery_point, log_start, ..params(self.dir.path(), LogConfig::default()) };
        self.log = PartitionLog::open(&params).unwrap();
        self.log.maybe_increment_high_watermark(Offset(self.high_watermark));
    }

    fn transactions(&self) -> Vec<Txn> {
        let mut all: Vec<Txn> = Vec::new();
        for batch in self.batches.iter().filter(|batch| batch.producer != OUTSIDE) {
            let open = all.iter_mut().find(|txn| txn.producer == batch.producer && txn.end.is_none());
            match (open, batch.marker) {
                (Some(txn), Some(commit)) => txn.end = Some((batch.base, commit)),
                (None, None) => all.push(Txn { producer: batch.producer, first: batch.base, end: None }),
                _ => {}
            }
        }
        all
    }

    fn check(&self) {
        let all = self.transactions();
        let stable_from = |marker_from: i64| {
            let undecided = all.iter().filter(|txn| txn.end.is_none_or(|(marker, _)| marker >= marker_from));
            let first = undecided.map(|txn| txn.first).min().unwrap_or(i64::MAX);
            first.min(self.high_watermark).max(self.log_start)
        };
        let stable = self.log.last_stable_offset().get();
        let range = stable_from(self.high_watermark)..=stable_from(self.high_watermark.max(self.settled));
        assert!(range.contains(&stable), "{stable} is not in {range:?} of {all:?}");
        let open: BTreeMap<i64, i64> =
            all.iter().filter(|txn| txn.end.is_none()).map(|txn| (txn.producer, txn.first)).collect();
        let known = self.log.active_producers().into_iter();
        let known: BTreeMap<i64, i64> =
            known.filter_map(|(id, entry)| Some((id.get(), entry.current_txn_first_offset?.get()))).collect();
        assert_eq!(known, open);
        let is_aborted = |batch: &Written| {
            let of = |txn: &&Txn| txn.producer == batch.producer && txn.first <= batch.base;
            let txn = all.iter().filter(of).find(|txn| txn.end.is_none_or(|(marker, _)| marker > batch.base));
            txn.is_some_and(|txn| txn.end.is_some_and(|(_, commit)| !commit))
        };
        let starts =
            self.batches.iter().map(|batch| batch.base).filter(|base| *base >= self.log_start && *base < stable);
        for start in starts {
            let wanted = self.batches.iter().filter(|batch| (start..stable).contains(&batch.base));
            let wanted = wanted.filter(|batch| batch.marker.is_none() && !is_aborted(batch)).map(|batch| batch.base);
            for max_bytes in [1, 200, 1 << 20] {
                assert_eq!(self.consume(start, stable, max_bytes), wanted.clone().collect::<Vec<_>>(), "from {start}");
            }
        }
    }

    /// What a reader of committed records makes of the fetches from `start` on (`Fetcher.PartitionRecords`).
    fn consume(&self, start: i64, stable: i64, max_bytes: usize) -> Vec<i64> {
        let (mut next, mut seen) = (start, Vec::new());
        while next < stable {
            let read = self.log.read(Offset(next), max_bytes, true, ReadUpTo::LastStableOffset).unwrap();
            let (bytes, mut aborted) = (bytes_of(&read), read.aborted.clone().unwrap());
            aborted.sort_by_key(|txn| std::cmp::Reverse(txn.first_offset));
            let (mut rest, mut ignored) = (&bytes[..], BTreeSet::new());
            while let Some(header) = BatchHeader::read(rest).filter(|header| header.size <= rest.len()) {
                while aborted.last().is_some_and(|txn| txn.first_offset <= header.last_offset()) {
                    ignored.extend(aborted.pop().map(|txn| txn.producer_id));
                }
                if header.is_control() {
                    ignored.remove(&header.producer_id);
                } else if !(header.is_transactional() && ignored.contains(&header.producer_id)) {
                    seen.push(header.base_offset.get());
                }
                next = header.next_offset().get();
                rest = &rest[header.size..];
            }
            assert!(rest.len() < bytes.len(), "a fetch from {next} brings nothing, but {stable} is stable");
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn committed_records_are_all_that_their_readers_see(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
            model.check();
        }
    }
}

#[test]
fn a_transaction_that_ended_before_a_truncation_holds_nobody_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    append(&log, &Spec { producer: Some((1, 0, 0)), transactional: true, ..Spec::default() });
    append(&log, &Spec { producer: Some((1, 0, -1)), marker: Some(true), ..Spec::default() });
    log.update_high_watermark(Offset(2));
    append(&log, &Spec::default());
    assert!(log.truncate_to(Offset(2), 1).unwrap());
    assert_eq!(log.last_stable_offset(), Offset(2));
}

#[test]
fn what_was_verified_before_a_marker_may_not_be_written_after_it() {
    use crate::base::ids::{ProducerEpoch, ProducerId};
    use crate::log::producer_state::Rules;
    use crate::log::verification::Verification;
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    let spec = Spec { producer: Some((1, 0, 0)), transactional: true, ..Spec::default() };
    let write = |verification| {
        let rules = Rules { origin: Origin::Client, verification };
        log.append_as_leader(batch(&spec), LeaderEpoch(0), rules, 1).map_err(|error| error.code())
    };
    let guard = log.begin_verification(ProducerId(1), ProducerEpoch(0), 0, 1).unwrap();
    append(&log, &Spec { producer: Some((1, 0, -1)), marker: Some(false), ..Spec::default() });
    assert_eq!(write(Verification::Guarded(guard)).unwrap_err(), ErrorCode::InvalidTxnState);
    assert_eq!(write(Verification::Open).unwrap_err(), ErrorCode::InvalidTxnState);
    let guard = log.begin_verification(ProducerId(1), ProducerEpoch(0), 0, 1).unwrap();
    assert!(write(Verification::Guarded(guard)).is_ok());
    assert_eq!(log.begin_verification(ProducerId(1), ProducerEpoch(0), 1, 1), None, "it is open now");
}
