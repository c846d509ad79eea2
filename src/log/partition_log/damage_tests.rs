//! One file of a partition's folder damaged at random: the log opens all the same, can be appended to, and opens again where
//! it ended. The fuzz target `index_recovery` does the same for longer. And damage where a recovery must not look.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;

use super::tests::{Spec, append, batch, bytes_of, params};
use super::*;
use crate::log::faults;
use crate::log::recovery::{self, Progress};
use crate::protocol::batch::entry_is_valid;

const FILES: [&str; 7] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000010.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
];

/// Replaces the file's content from a hundredth of it on; without bytes, removes it.
fn damage(folder: &Path, file: &str, at: usize, bytes: &[u8], keep_rest: bool) {
    let path = folder.join(file);
    if bytes.is_empty() {
        let _ = fs::remove_file(path);
        return;
    }
    let mut content = fs::read(&path).unwrap_or_default();
    let at = content.len() * at / 100;
    let end = if keep_rest { (at + bytes.len()).min(content.len()) } else { content.len() };
    content.splice(at..end, bytes.iter().copied());
    fs::write(path, content).unwrap();
}

/// Flips a byte in the middle of a segment of [`flushed_segments_are_not_read`].
fn damage_segment(folder: &Path, base: i64) -> u64 {
    let path = folder.join(format!("{base:020}.log"));
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0xff;
    fs::write(&path, &content).unwrap();
    content.len() as u64
}

/// Three segments of five batches each, closed in order.
fn write_three_segments(orderly: &OpenParams) {
    let log = PartitionLog::open(orderly).unwrap();
    for n in 0..15 {
        append(&log, &Spec::default());
        if n == 4 || n == 9 {
            log.roll(1).unwrap();
        }
    }
    log.close().unwrap();
}

/// After a crash the segments below the recovery point are taken as they are; those from it on are checked.
#[test]
fn flushed_segments_are_not_read() {
    for (damaged, end, segments) in [(0, 15, 3), (5, 15, 3), (10, 12, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let orderly = params(dir.path(), LogConfig::default());
        write_three_segments(&orderly);
        let size = damage_segment(&dir.path().join("t-0"), damaged);
        let found = OpenParams { clean: false, recovery_point: Offset(10), ..orderly };
        let progress = Progress::default();
        let log = recovery::load(&found, &progress).unwrap();
        assert_eq!((log.log_end_offset(), log.segment_count()), (Offset(end), segments), "damaged: {damaged}");
        assert_eq!(progress.bytes(), size, "one segment of three, all of a size, is checked");
    }
}

/// No flush comes back to a segment that was flushed: what is rebuilt of it has to be on the disk at once.
#[test]
fn what_is_rebuilt_of_a_flushed_segment_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let orderly = params(dir.path(), LogConfig::default());
    let log = PartitionLog::open(&orderly).unwrap();
    append(&log, &Spec { producer: Some((5, 0, 0)), transactional: true, ..Spec::default() });
    append(&log, &Spec { producer: Some((5, 0, -1)), marker: Some(false), ..Spec::default() });
    log.roll(1).unwrap();
    append(&log, &Spec::default());
    log.close().unwrap();
    let folder = dir.path().join("t-0");
    for damaged in ["index", "txnindex"] {
        fs::write(folder.join(format!("{:020}.{damaged}", 0)), "damaged").unwrap();
        let synced = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&synced);
        faults::watch(Some(Box::new(move |path| told.borrow_mut().extend(path.map(Path::to_owned)))));
        let log = PartitionLog::open(&orderly).unwrap();
        faults::watch(None);
        for path in [folder.join(format!("{:020}.{damaged}", 0)), folder.clone()] {
            assert!(synced.borrow().contains(&path), "{damaged}: {path:?} is not in {synced:?}");
        }
        log.update_high_watermark(Offset(3));
        let read = log.read(Offset(0), usize::MAX, true, ReadUpTo::LastStableOffset).unwrap();
        assert_eq!(read.aborted.unwrap().len(), 1);
        log.close().unwrap();
    }
}

/// Keeps of a segment of five batches of a size those whose numbers are named.
fn keep_batches(folder: &Path, base: i64, kept: &[usize]) {
    let path = folder.join(format!("{base:020}.log"));
    let content = fs::read(&path).unwrap();
    let len = content.len() / 5;
    fs::write(path, kept.iter().flat_map(|n| content[n * len..(n + 1) * len].to_vec()).collect::<Vec<u8>>()).unwrap();
}

/// The machine lost its power, or the broker was killed: of the segment at 5 some whole batches are not there, the file of
/// the next one is.
fn open_without(kept: &[usize], next: &[usize], recovery_point: i64, cleaned: Option<i64>) -> (i64, usize) {
    let dir = tempfile::tempdir().unwrap();
    let orderly = params(dir.path(), LogConfig::default());
    write_three_segments(&orderly);
    keep_batches(&dir.path().join("t-0"), 5, kept);
    keep_batches(&dir.path().join("t-0"), 10, next);
    let cleaned = cleaned.map(Offset);
    let found = OpenParams { clean: false, recovery_point: Offset(recovery_point), cleaned, ..orderly };
    let log = PartitionLog::open(&found).unwrap();
    let (end, recovery_point) = (log.log_end_offset(), log.recovery_point());
    assert!(recovery_point <= end, "{recovery_point} was never flushed");
    let read = append(&log, &Spec::default());
    assert_eq!(read.first_offset, end);
    (end.get(), log.segment_count())
}

#[test]
fn a_segment_that_lost_whole_batches_ends_the_log() {
    let all = [0, 1, 2, 3, 4];
    assert_eq!(open_without(&[0, 1], &[], 2, None), (7, 2), "the next segment is empty");
    assert_eq!(open_without(&[0, 1], &all, 2, None), (7, 2), "the next segment is whole");
    assert_eq!(open_without(&[0, 1], &[0, 1], 6, None), (7, 2), "a part of it was flushed");
    assert_eq!(open_without(&all, &[], 6, None), (10, 3), "nothing is missing");
    assert_eq!(open_without(&[], &[], 5, None), (5, 2), "all of it is gone");
    assert_eq!(open_without(&[], &all, 0, Some(5)), (5, 2), "what was compacted ends before it");
    assert_eq!(open_without(&[0, 1], &all, 10, None), (15, 3), "what was flushed is as it was");
}

#[test]
fn a_segment_that_was_compacted_does_not_end_the_log() {
    let all = [0, 1, 2, 3, 4];
    assert_eq!(open_without(&[0, 2], &all, 2, None), (15, 3), "only compaction takes batches out of the middle");
    assert_eq!(open_without(&[0, 1], &all, 2, Some(10)), (15, 3), "the cleaner had flushed it");
    assert_eq!(open_without(&[], &[3], 0, Some(15)), (14, 3), "of the last one the end is gone all the same");
    assert_eq!(open_without(&[], &all, 10, None), (15, 3), "our cleaner stays below the recovery point");
}

proptest! {
    #[test]
    fn a_damaged_folder_opens(
        batches in 0..40i64,
        clean: bool,
        recovery_point in 0..40i64,
        file in 0..FILES.len(),
        at in 0..=100usize,
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        keep_rest: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { index_interval_bytes: 100, ..LogConfig::default() };
        let orderly = params(dir.path(), config);
        let log = PartitionLog::open(&orderly).unwrap();
        for n in 0..batches {
            let producer = (n % 2 == 0).then_some((5, 0, i32::try_from(n / 2).unwrap()));
            append(&log, &Spec { producer, timestamp: n, ..Spec::default() });
        }
        log.assign_topic_id(TopicId::from_u128(1)).unwrap();
        log.close().unwrap();
        damage(&dir.path().join("t-0"), FILES[file], at, &bytes, keep_rest);

        let found = OpenParams { clean, recovery_point: Offset(recovery_point.min(batches)), ..orderly.clone() };
        let log = PartitionLog::open(&found).unwrap();
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        prop_assert!(start <= end);
        let log_is_sound = file != 0;
        for offset in start.get()..end.get().min(100) {
            let read = log.read(Offset(offset), 1, true, ReadUpTo::LogEnd).unwrap();
            let _ = log.offset_for_timestamp(offset);
            prop_assert!(!log_is_sound || entry_is_valid(&bytes_of(&read)));
        }
        prop_assert!(!log_is_sound || end == Offset(batches), "{end} of {batches}");
        let _ = log.read(start, 1, true, ReadUpTo::LastStableOffset);
        let info = log.append_as_leader(batch(&Spec::default()), LeaderEpoch(i32::MAX), super::super::producer_state::Origin::Client, 1);
        let end = info.unwrap().last_offset.next();
        prop_assert!(!found.log_dir.is_offline());
        log.close().unwrap();
        prop_assert_eq!(PartitionLog::open(&orderly).unwrap().log_end_offset(), end);
    }
}
