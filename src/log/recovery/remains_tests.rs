//! Files that a compaction, a deletion or a crash in one of them left in a partition's folder, as Kafka 2.8 and 3.9 leave
//! them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::base::ids::Offset;
use crate::log::log_config::LogConfig;
use crate::log::partition_log::tests::{Spec, append, bytes_of, params};
use crate::log::partition_log::{OpenParams, PartitionLog, ReadUpTo};
use crate::protocol::batch::{BatchHeader, entries};

const SUFFIXES: [&str; 3] = ["log", "index", "timeindex"];

fn name(base: i64, suffix: &str) -> String {
    format!("{base:020}.{suffix}")
}

/// Three segments of five batches of one record each, closed in order; the last one is active.
fn three_segments(dir: &Path) -> OpenParams {
    let found = params(dir, LogConfig { index_interval_bytes: 100, ..LogConfig::default() });
    let log = PartitionLog::open(&found).unwrap();
    for n in 0..15 {
        append(&log, &Spec { timestamp: n, ..Spec::default() });
        if n == 4 || n == 9 {
            log.roll(1).unwrap();
        }
    }
    log.update_high_watermark(Offset(15));
    log.close().unwrap();
    found
}

/// The batches of a segment file that begin at these offsets.
fn kept(file: &Path, offsets: &[i64]) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let all = entries(&bytes).map(|entry| entry.unwrap());
    all.filter(|(header, _)| offsets.contains(&header.base_offset.get()))
        .flat_map(|(_, entry)| entry.to_vec())
        .collect()
}

fn offsets_in(found: &OpenParams) -> (Vec<i64>, Offset) {
    let log = PartitionLog::open(found).unwrap();
    log.update_high_watermark(Offset(i64::MAX));
    let (mut offsets, mut next) = (Vec::new(), log.log_start_offset());
    while next < log.log_end_offset() {
        let read = log.read(next, 1, true, ReadUpTo::LogEnd).unwrap();
        let header = BatchHeader::read(&bytes_of(&read)).unwrap();
        offsets.push(header.base_offset.get());
        next = header.last_offset().next();
    }
    // What was found can be added to, and closed.
    let end = log.log_end_offset();
    append(&log, &Spec::default());
    log.close().unwrap();
    (offsets, end)
}

fn files(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn nothing_is_left(folder: &Path) {
    let odd = |file: &&String| [".deleted", ".cleaned", ".swap"].iter().any(|suffix| file.ends_with(suffix));
    assert_eq!(files(folder).iter().find(odd), None);
}

/// Both after a stop in order and after a crash.
fn in_both_states(prepare: impl Fn(&Path), expected: &[i64]) {
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let found = OpenParams { clean, ..three_segments(dir.path()) };
        let folder = dir.path().join("t-0");
        prepare(&folder);
        assert_eq!(offsets_in(&found), (expected.to_vec(), Offset(15)), "clean: {clean}");
        nothing_is_left(&folder);
    }
}

fn all() -> Vec<i64> {
    (0..15).collect()
}

#[test]
fn deleted_files_go() {
    let prepare = |folder: &Path| {
        for suffix in SUFFIXES {
            fs::copy(folder.join(name(5, suffix)), folder.join(name(3, suffix) + ".deleted")).unwrap();
        }
        fs::write(folder.join(name(3, "snapshot") + ".deleted"), "x").unwrap();
    };
    in_both_states(prepare, &all());
}

#[test]
fn a_compaction_that_was_not_finished_is_forgotten() {
    let prepare = |folder: &Path| {
        let half = kept(&folder.join(name(0, "log")), &[0]);
        fs::write(folder.join(name(0, "log") + ".cleaned"), half).unwrap();
        fs::write(folder.join(name(0, "index") + ".cleaned"), [0; 5]).unwrap();
    };
    in_both_states(prepare, &all());
}

/// The compacted segment of the first two, complete: of their ten batches three are kept.
fn swap(folder: &Path) {
    let mut compacted = kept(&folder.join(name(0, "log")), &[1]);
    compacted.extend(kept(&folder.join(name(5, "log")), &[6, 9]));
    fs::write(folder.join(name(0, "log") + ".swap"), compacted).unwrap();
    fs::write(folder.join(name(0, "index") + ".swap"), []).unwrap();
    fs::write(folder.join(name(0, "timeindex") + ".swap"), []).unwrap();
}

const COMPACTED: [i64; 8] = [1, 6, 9, 10, 11, 12, 13, 14];

#[test]
fn a_finished_compaction_takes_its_place() {
    in_both_states(swap, &COMPACTED);
}

#[test]
fn a_swap_goes_on_where_the_crash_stopped_it() {
    // The originals are on their way out, the first not at all or half, the second wholly.
    let prepare = |folder: &Path| {
        swap(folder);
        for suffix in SUFFIXES {
            fs::rename(folder.join(name(5, suffix)), folder.join(name(5, suffix) + ".deleted")).unwrap();
        }
        fs::rename(folder.join(name(0, "index")), folder.join(name(0, "index") + ".deleted")).unwrap();
    };
    in_both_states(prepare, &COMPACTED);
    // The originals are gone, and the new log file has its name, but its indexes do not.
    let prepare = |folder: &Path| {
        swap(folder);
        for suffix in SUFFIXES {
            fs::remove_file(folder.join(name(5, suffix))).unwrap();
            fs::remove_file(folder.join(name(0, suffix))).unwrap();
        }
        fs::rename(folder.join(name(0, "log") + ".swap"), folder.join(name(0, "log"))).unwrap();
    };
    in_both_states(prepare, &COMPACTED);
}

/// One segment is split in two when its offsets grow too far apart: the parts are renamed to `.swap` from the last on, so a
/// `.cleaned` part shows that not all are there.
#[test]
fn a_split_that_was_not_finished_is_taken_back() {
    let prepare = |folder: &Path| {
        let original = folder.join(name(0, "log"));
        fs::write(folder.join(name(3, "log") + ".swap"), kept(&original, &[3, 4])).unwrap();
        fs::write(folder.join(name(0, "log") + ".cleaned"), kept(&original, &[0, 1, 2])).unwrap();
    };
    in_both_states(prepare, &all());
}
