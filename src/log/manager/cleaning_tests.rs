//! The cleaner over a broker's logs: which one it takes, what its checkpoint says, moves and deletions.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;
use crate::base::clock::{ManualClock, SystemClock};
use crate::base::ids::LeaderEpoch;
use crate::log::cleaner::{Cleaner, CleanerOptions, LogCleaner, Throttle, clean_filthiest};
use crate::log::producer_state::Origin;
use crate::protocol::builder::{BatchBuilder, BatchSpec};

fn compact() -> LogConfig {
    LogConfig { compact: true, delete: false, index_interval_bytes: 0, ..LogConfig::default() }
}

fn opened(dirs: &[&Path], config: &LogConfig) -> LogManager {
    let manager = LogManager::open(ManagerOptions::new(dirs.to_vec())).unwrap();
    let config = Arc::new(config.clone());
    manager.load(&|_| Arc::clone(&config), 1).unwrap();
    manager
}

fn cleaner() -> Cleaner {
    let share = CleanerOptions::default().share();
    let throttle = Throttle::new(f64::MAX, Arc::new(ManualClock::new(0)));
    Cleaner::new(share, Arc::new(throttle), Arc::new(AtomicBool::new(false)))
}

/// Appends records of the same key, rolls behind them, and has them replicated.
fn write(log: &PartitionLog, count: i64, timestamp: i64) {
    for _ in 0..count {
        let mut builder = BatchBuilder::new(BatchSpec::default());
        builder.append(timestamp, Some(b"key"), Some(b"value"));
        let (_, batch) = builder.build().unwrap();
        log.append_as_leader(batch, LeaderEpoch(0), Origin::Client, timestamp).unwrap();
    }
    log.roll(timestamp).unwrap();
    log.update_high_watermark(log.log_end_offset());
}

fn log_of(manager: &LogManager, topic: &str, config: LogConfig) -> Arc<PartitionLog> {
    manager.get_or_create(&TopicPartition::new(topic, 0), None, Arc::new(config), true, 1).unwrap()
}

fn checkpoint_in(dir: &Path) -> String {
    fs::read_to_string(dir.join("cleaner-offset-checkpoint")).unwrap_or_default()
}

#[test]
fn the_filthiest_is_cleaned_first_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let manager = opened(&[dir.path()], &compact());
    let (half, whole, other) = (
        log_of(&manager, "half", LogConfig { min_cleanable_ratio: 0.3, ..compact() }),
        log_of(&manager, "whole", compact()),
        log_of(&manager, "other", LogConfig::default()),
    );
    write(&half, 10, 1);
    let mut cleaner = cleaner();
    assert!(clean_filthiest(&manager, &mut cleaner, 1));
    assert_eq!(checkpoint_in(dir.path()), "0\n1\nhalf 0 10\n");
    write(&half, 1, 1);
    write(&whole, 10, 1);
    write(&other, 10, 1);
    assert!(clean_filthiest(&manager, &mut cleaner, 1));
    assert_eq!(checkpoint_in(dir.path()), "0\n2\nhalf 0 10\nwhole 0 10\n");
    assert!(clean_filthiest(&manager, &mut cleaner, 1));
    assert_eq!(checkpoint_in(dir.path()), "0\n2\nhalf 0 11\nwhole 0 10\n");
    assert!(!clean_filthiest(&manager, &mut cleaner, 1), "all is clean");
    let points = fs::read_to_string(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert!(points.contains("half 0 11") && points.contains("whole 0 10"), "{points}");
    assert_eq!(other.cleaned_offset(), None);

    manager.shutdown(BrokerEpoch(1));
    drop((half, whole, other, manager));
    let manager = opened(&[dir.path()], &compact());
    let half = manager.get(&TopicPartition::new("half", 0)).unwrap();
    assert_eq!(half.cleaned_offset(), Some(Offset(11)));
    half.truncate_to(Offset(5), 1).unwrap();
    manager.delete(&TopicPartition::new("whole", 0), 1).unwrap();
    manager.run_flushes(1);
    assert_eq!(checkpoint_in(dir.path()), "0\n1\nhalf 0 5\n");
}

#[test]
fn a_gap_that_compaction_made_survives_a_kill_and_lost_checkpoints() {
    for lost in ["none", "recovery-point-offset-checkpoint", "cleaner-offset-checkpoint"] {
        let dir = tempfile::tempdir().unwrap();
        let manager = opened(&[dir.path()], &compact());
        let log = log_of(&manager, "t", LogConfig { segment_bytes: 1_000, ..compact() });
        (0..8).for_each(|_| write(&log, 5, 1));
        assert!(clean_filthiest(&manager, &mut cleaner(), 1));
        let end = log.log_end_offset();
        drop((log, manager));
        let _ = fs::remove_file(dir.path().join(lost));
        // The topic's own settings are not known at a start, and it may not be compacted any more.
        let manager = opened(&[dir.path()], &LogConfig::default());
        let log = manager.get(&TopicPartition::new("t", 0)).unwrap();
        assert_eq!(log.log_end_offset(), end, "without {lost}");
    }
}

#[test]
fn what_cannot_be_cleaned_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let manager = opened(&[dir.path()], &compact());
    let (bad, good) = (log_of(&manager, "bad", compact()), log_of(&manager, "good", compact()));
    write(&bad, 10, 1);
    write(&good, 10, 1);
    let path = dir.path().join("bad-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut cleaner = cleaner();
    while clean_filthiest(&manager, &mut cleaner, 1) {}
    assert!(bad.is_uncleanable() && !good.is_uncleanable());
    assert_eq!((bad.cleaned_offset(), good.cleaned_offset()), (None, Some(Offset(10))));
}

#[test]
fn compaction_and_retention_go_together() {
    let dir = tempfile::tempdir().unwrap();
    let manager = opened(&[dir.path()], &compact());
    let both = log_of(&manager, "both", LogConfig { delete: true, retention_ms: 1_000, ..compact() });
    let only = log_of(&manager, "only", LogConfig { retention_ms: 1_000, min_cleanable_ratio: 0.1, ..compact() });
    for log in [&both, &only] {
        write(log, 5, 1);
        write(log, 5, 10_000);
    }
    let claim = both.claim_for_cleaning().unwrap();
    assert!(both.claim_for_cleaning().is_none(), "one at a time");
    assert_eq!(manager.run_retention(10_000), 0, "what is being compacted waits");
    drop(claim);
    assert_eq!(manager.run_retention(10_000), 1);
    assert_eq!((both.log_start_offset(), only.log_start_offset()), (Offset(5), Offset(0)));
    only.maybe_increment_log_start_offset(Offset(7)).unwrap();
    assert_eq!(manager.run_retention(10_000), 1, "DeleteRecords works without a policy of deletion");
    let mut cleaner = cleaner();
    while clean_filthiest(&manager, &mut cleaner, 10_000) {}
    assert_eq!((both.cleaned_offset(), only.cleaned_offset()), (Some(Offset(10)), Some(Offset(10))));
}

#[test]
fn a_log_on_its_way_to_another_dir_waits_and_keeps_its_place() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manager = opened(&[one.path(), two.path()], &compact());
    let log = log_of(&manager, "t", compact());
    let there = manager.log_dirs().into_iter().find(|dir| !Arc::ptr_eq(dir, log.log_dir())).unwrap();
    write(&log, 10, 1);
    let mut cleaner = cleaner();
    assert!(clean_filthiest(&manager, &mut cleaner, 1));
    write(&log, 30, 1);
    let future = manager.create_future(&log, &there, 1).unwrap();
    assert!(!clean_filthiest(&manager, &mut cleaner, 1), "it is being copied");
    assert!(log.begin_cleaning(Offset(40)).unwrap().is_none(), "chosen just before");
    manager.remove_future(log.topic_partition(), 1).unwrap();
    assert!(log.begin_cleaning(Offset(40)).unwrap().is_some(), "the move was given up");
    drop(future);
    let future = manager.create_future(&log, &there, 1).unwrap();
    future.truncate_fully_and_start_at(log.log_end_offset(), 1).unwrap();
    let moved = manager.replace_with_future(&log, 1).unwrap();
    assert_eq!(moved.cleaned_offset(), Some(Offset(10)));
    manager.run_flushes(1);
    let old = if Arc::ptr_eq(&there, &manager.log_dirs()[0]) { two.path() } else { one.path() };
    assert_eq!((checkpoint_in(there.path()), checkpoint_in(old)), ("0\n1\nt 0 10\n".into(), "0\n0\n".into()));
}

#[test]
fn threads_clean_and_follow_their_settings() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Arc::new(opened(&[dir.path()], &compact()));
    let options = CleanerOptions { backoff_ms: 1, dedupe_buffer_size: 4 << 20, ..CleanerOptions::default() };
    let off = CleanerOptions { threads: 0, ..options };
    let cleaner = LogCleaner::start(Arc::clone(&manager), off, Arc::new(SystemClock)).unwrap();
    let logs: Vec<_> = (0..4).map(|n| log_of(&manager, &format!("t{n}"), compact())).collect();
    logs.iter().for_each(|log| write(log, 20, 1));
    cleaner.reconfigure(CleanerOptions { threads: 2, ..options }).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while logs.iter().any(|log| log.cleaned_offset() != Some(Offset(20))) {
        assert!(Instant::now() < deadline, "not cleaned in time");
        std::thread::yield_now();
    }
    cleaner.reconfigure(CleanerOptions { max_bytes_per_second: 1.0, threads: 2, ..options }).unwrap();
    cleaner.stop();
    logs.iter().for_each(|log| write(log, 40, 1));
    assert!(logs.iter().all(|log| log.cleaned_offset() == Some(Offset(20))), "nobody is left");
}

#[test]
fn what_a_cleaning_goes_by_is_on_the_disk_before() {
    let dir = tempfile::tempdir().unwrap();
    let manager = opened(&[dir.path()], &compact());
    let log = log_of(&manager, "t", compact());
    write(&log, 2, 1);
    // In the active segment, as the marker of a transaction below may be.
    let mut builder = BatchBuilder::new(BatchSpec::default());
    builder.append(2, Some(b"other"), Some(b"value"));
    log.append_as_leader(builder.build().unwrap().1, LeaderEpoch(0), Origin::Client, 2).unwrap();
    log.update_high_watermark(log.log_end_offset());
    assert!(clean_filthiest(&manager, &mut cleaner(), 3));
    assert_eq!((log.cleaned_offset(), log.recovery_point()), (Some(Offset(2)), Offset(3)));
    let points = fs::read_to_string(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert!(points.contains("t 0 3"), "{points}");
}
