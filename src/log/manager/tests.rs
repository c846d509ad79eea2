use super::*;
use crate::log::partition_log::tests::{Spec, append};

fn manager(dir: &Path) -> LogManager {
    let manager = LogManager::open(ManagerOptions::new([dir])).unwrap();
    manager.check_ids(BrokerId(1), "cluster").unwrap();
    manager.load(&|_| Arc::default(), 1).unwrap();
    manager
}

fn create(manager: &LogManager, partition: i32) -> Arc<PartitionLog> {
    let id = Some(TopicId::from_u128(7));
    manager.get_or_create(&TopicPartition::new("t", partition), id, Arc::default(), true, 1).unwrap()
}

#[test]
fn logs_come_back_after_any_stop() {
    let dir = tempfile::tempdir().unwrap();
    let first = manager(dir.path());
    for partition in 0..20 {
        let log = create(&first, partition);
        for _ in 0..partition {
            append(&log, &Spec::default());
        }
        log.update_high_watermark(Offset(i64::from(partition)));
    }
    first.shutdown(BrokerEpoch(9));
    drop(first);
    let second = manager(dir.path());
    assert_eq!((second.len(), second.previous_broker_epoch()), (20, Some(BrokerEpoch(9))));
    for partition in 0..20 {
        let log = create(&second, partition);
        assert_eq!((log.log_end_offset(), log.topic_id()), (Offset(i64::from(partition)), Some(TopicId::from_u128(7))));
        assert_eq!(second.checkpointed_high_watermark(log.topic_partition()), Offset(i64::from(partition)));
        assert_eq!(log.recovery_point(), log.log_end_offset());
        append(&log, &Spec::default());
    }
    drop(second);
    let third = LogManager::open(ManagerOptions::new([dir.path()])).unwrap();
    let summary = third.load(&|_| Arc::default(), 1).unwrap();
    assert_eq!((summary.partitions, summary.recovered), (20, 20));
    assert_eq!(create(&third, 19).log_end_offset(), Offset(20));
    assert_eq!(third.previous_broker_epoch(), None);
}

/// What a log's epoch file holds, and whether it may not be on the disk yet.
fn epoch_file(log: &PartitionLog) -> (String, bool) {
    let path = log.dir().join(files::LEADER_EPOCHS);
    (std::fs::read_to_string(path).unwrap_or_default(), log.shared.lock().epochs.is_unsynced())
}

#[test]
fn epochs_are_written_early_and_synced_with_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path());
    let log = create(&manager, 0);
    log.assign_epoch_at_end(crate::base::ids::LeaderEpoch(5));
    append(&log, &Spec { epoch: 5, ..Spec::default() });
    assert_eq!(epoch_file(&log), (String::new(), false));
    manager.run_flushes(log.last_append_ms());
    assert_eq!(epoch_file(&log), ("0\n1\n5 0\n".into(), true));
    assert_eq!(log.recovery_point(), Offset(0), "nothing is flushed yet");
    log.flush().unwrap();
    assert_eq!(epoch_file(&log), ("0\n1\n5 0\n".into(), false));
    assert_eq!(log.recovery_point(), Offset(1));
}

#[test]
fn a_sync_covers_the_epochs_written_before_it_only() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path());
    let log = create(&manager, 0);
    let assign_and_write = |epoch| {
        log.assign_epoch_at_end(crate::base::ids::LeaderEpoch(epoch));
        log.write_epochs(checkpoint::Sync::Later).unwrap();
    };
    assign_and_write(1);
    let before = log.sync_mark();
    assign_and_write(2);
    log.mark_synced(before);
    assert!(epoch_file(&log).1);
    log.mark_synced(log.sync_mark());
    assert!(!epoch_file(&log).1);
}

#[test]
fn deleted_logs_are_renamed_and_then_removed() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path());
    append(&create(&manager, 0), &Spec::default());
    let kept = manager.get(&TopicPartition::new("t", 0)).unwrap();
    manager.delete(&TopicPartition::new("t", 0), 5).unwrap();
    assert!(manager.is_empty());
    assert!(kept.append_as_follower(bytes::Bytes::new(), 1).is_err());
    let folders = || std::fs::read_dir(dir.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    assert_eq!(folders(), 1);
    assert_eq!(manager.remove_due(6), 0);
    assert_eq!(manager.remove_due(60_005), 1);
    assert_eq!(folders(), 0);
    assert_eq!(create(&manager, 0).log_end_offset(), Offset(0));
}

#[test]
fn ids_and_locks_keep_strangers_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = manager(dir.path());
    let second = LogManager::open(ManagerOptions::new([dir.path()])).unwrap_err();
    assert!(second.to_string().contains("another broker"), "{second}");
    assert!(first.check_ids(BrokerId(2), "cluster").is_err());
    drop(first);
    let reopened = LogManager::open(ManagerOptions::new([dir.path()])).unwrap();
    assert!(reopened.check_ids(BrokerId(2), "cluster").unwrap_err().to_string().contains("broker.id 1"));
    assert!(reopened.check_ids(BrokerId(1), "x").unwrap_err().to_string().contains("cluster cluster"));
}

#[test]
fn a_bad_log_dir_leaves_the_others_serving() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    std::fs::write(&bad, "a file where a folder should be").unwrap();
    let manager = LogManager::open(ManagerOptions::new([bad, good])).unwrap();
    manager.load(&|_| Arc::default(), 1).unwrap();
    append(&create(&manager, 0), &Spec::default());
    let tp = TopicPartition::new("t", 1);
    let refused = manager.get_or_create(&tp, None, Arc::default(), false, 1).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
}

#[test]
fn new_partitions_go_to_the_emptiest_log_dir() {
    let dir = tempfile::tempdir().unwrap();
    let manager = LogManager::open(ManagerOptions::new([dir.path().join("a"), dir.path().join("b")])).unwrap();
    manager.load(&|_| Arc::default(), 1).unwrap();
    for partition in 0..10 {
        create(&manager, partition);
    }
    let counts: Vec<usize> = manager.dirs.iter().map(|dir| manager.logs_in(&dir.log_dir).len()).collect();
    assert_eq!(counts, [5, 5]);
}

#[test]
fn a_partition_created_anew_does_not_inherit_its_predecessors_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let first = manager(dir.path());
    let log = create(&first, 0);
    for _ in 0..10 {
        append(&log, &Spec::default());
    }
    log.update_high_watermark(Offset(10));
    log.maybe_increment_log_start_offset(Offset(5)).unwrap();
    log.flush().unwrap();
    first.checkpoint_recovery_points();
    first.checkpoint_log_starts();
    first.delete(log.topic_partition(), 1).unwrap();
    append(&create(&first, 0), &Spec::default());
    drop(first);
    let second = manager(dir.path());
    let log = create(&second, 0);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(0), Offset(1)));
}

/// `flush.ms`, by the chore that looks every second.
#[test]
fn logs_are_flushed_once_flush_ms_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path());
    let config = |flush_ms| Arc::new(LogConfig { flush_ms, ..LogConfig::default() });
    let create = |partition, flush_ms| {
        manager.get_or_create(&TopicPartition::new("t", partition), None, config(flush_ms), true, 1).unwrap()
    };
    let (timed, never) = (create(0, 1000), create(1, i64::MAX));
    for (round, due) in [(1, 1001), (2, 2001)] {
        for log in [&timed, &never] {
            append(log, &Spec::default());
        }
        manager.run_flushes(due - 1);
        assert_eq!(timed.recovery_point(), Offset(round - 1), "a millisecond too early");
        manager.run_flushes(due);
        assert_eq!((timed.recovery_point(), never.recovery_point()), (Offset(round), Offset(0)));
    }
}

/// Two log dirs with two threads each: three partitions that cannot go on, as their epoch files are pipes nobody has
/// written to yet, do not keep the fourth from being recovered.
#[test]
fn logs_are_recovered_in_parallel() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("a"), dir.path().join("b")];
    let open = || {
        let options = ManagerOptions { recovery_threads_per_dir: 2, ..ManagerOptions::new(&paths) };
        LogManager::open(options).unwrap()
    };
    let first = open();
    first.load(&|_| Arc::default(), 1).unwrap();
    for partition in 0..4 {
        append(&create(&first, partition), &Spec::default());
    }
    drop(first);
    let folder = |partition: i32| {
        let name = format!("t-{partition}");
        paths.iter().map(|path| path.join(&name)).find(|path| path.exists()).unwrap()
    };
    // The one to be recovered is in the second log dir, so that one thread alone would come to it last.
    let torn = if folder(3).starts_with(&paths[1]) { 3 } else { 2 };
    let log = folder(torn).join("00000000000000000000.log");
    let whole = log.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(whole + 7).unwrap();
    let pipes: Vec<_> = (0..4).filter(|p| *p != torn).map(|p| folder(p).join(files::LEADER_EPOCHS)).collect();
    for pipe in &pipes {
        let _ = std::fs::remove_file(pipe);
        nix::unistd::mkfifo(pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let second = open();
    let (summary, cut) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| second.load(&|_| Arc::default(), 1).unwrap());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let is_cut = || log.metadata().unwrap().len() == whole;
        while !is_cut() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let cut = is_cut();
        for pipe in &pipes {
            std::fs::write(pipe, "0\n0\n").unwrap();
        }
        (loading.join().unwrap(), cut)
    });
    assert!(cut, "recovered while three others were not");
    assert_eq!((summary.partitions, summary.recovered, summary.failed.len()), (4, 4, 0));
}

/// Readers, a writer, retention, truncation, flushes and at last a deletion at once: nobody takes a file that was deleted
/// meanwhile for a failure of the disk, and readers see whole batches only.
#[test]
fn everything_at_once() {
    use crate::log::partition_log::ReadUpTo;
    use crate::log::partition_log::tests::bytes_of;
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path());
    let config = Arc::new(LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        retention_bytes: 10_000,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    });
    let tp = TopicPartition::new("t", 0);
    let log = manager.get_or_create(&tp, None, config, true, 1).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let offset = if reader == 0 { log.log_start_offset() } else { log.log_end_offset().plus(-3) };
                    let up_to = if reader == 0 { ReadUpTo::HighWatermark } else { ReadUpTo::LogEnd };
                    if let Ok(read) = log.read(offset, 1, true, up_to)
                        && read.data.is_some()
                    {
                        let bytes = bytes_of(&read);
                        assert!(crate::protocol::batch::entry_is_valid(&bytes), "{} bytes at {offset}", bytes.len());
                    }
                    let _ = log.offset_for_timestamp(1);
                    let _ = log.max_timestamp_offset();
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                manager.run_flushes(i64::MAX);
                manager.close_unused_files();
                manager.run_retention(1);
                manager.remove_due(1);
                manager.checkpoint_recovery_points();
            }
        });
        for n in 0..1500 {
            append(&log, &Spec { value: 100, ..Spec::default() });
            log.update_high_watermark(Offset(i64::MAX));
            if n % 400 == 399 {
                log.truncate_fully_and_start_at(log.log_end_offset().plus(10), 1).unwrap();
            }
        }
        manager.delete(&tp, 1).unwrap();
        manager.remove_due(1);
        done.store(true, Ordering::Relaxed);
    });
    assert!(!manager.log_dirs()[0].is_offline());
}

/// How long 4,000 partitions take; run with `cargo test --release -- --ignored four_thousand --nocapture`.
#[test]
#[ignore = "a measurement"]
fn four_thousand_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let time = |what: &str, since: std::time::Instant| println!("{what}: {:?}", since.elapsed());
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
    };
    let before = resident();
    let began = std::time::Instant::now();
    let first = manager(dir.path());
    for partition in 0..4000 {
        create(&first, partition).assign_epoch_at_end(crate::base::ids::LeaderEpoch(0));
    }
    time("create", began);
    println!("bytes for each: {}", (resident() - before) / 4000);
    let began = std::time::Instant::now();
    for log in first.all() {
        for _ in 0..4 {
            append(&log, &Spec { value: 60_000, ..Spec::default() });
        }
    }
    time("append 1 GiB", began);
    println!("bytes for each: {}", (resident() - before) / 4000);
    let began = std::time::Instant::now();
    drop(first);
    let second = manager(dir.path());
    time("open after a crash", began);
    let began = std::time::Instant::now();
    second.shutdown(BrokerEpoch(1));
    time("shutdown, all dirty", began);
    drop(second);
    let began = std::time::Instant::now();
    let third = manager(dir.path());
    time("open after an orderly stop", began);
    let began = std::time::Instant::now();
    for log in third.all() {
        log.read(Offset(0), 1 << 20, true, crate::log::partition_log::ReadUpTo::LogEnd).unwrap();
    }
    time("read each", began);
    println!("bytes for each: {}", (resident() - before) / 4000);
    let began = std::time::Instant::now();
    third.shutdown(BrokerEpoch(1));
    time("shutdown, nothing dirty", began);
}

/// Folders that end in `-delete`, `-future` and `-stray`, as 2.8 and 3.9 name them, are nobody's partitions.
#[test]
fn folders_on_their_way_out_or_in_are_not_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let first = manager(dir.path());
    append(&create(&first, 0), &Spec::default());
    first.shutdown(BrokerEpoch(1));
    drop(first);
    let aside = |partition: i32, suffix: &str| {
        let name = format!("t-{partition}.0123456789abcdef0123456789abcdef-{suffix}");
        let to = dir.path().join(name);
        std::fs::create_dir(&to).unwrap();
        let log = "00000000000000000000.log";
        std::fs::copy(dir.path().join("t-0").join(log), to.join(log)).unwrap();
        to
    };
    let delete = aside(1, "delete");
    let (future, stray) = (aside(2, "future"), aside(3, "stray"));
    let second = manager(dir.path());
    assert_eq!(second.len(), 1);
    for partition in 1..4 {
        assert_eq!(create(&second, partition).log_end_offset(), Offset(0), "{partition}");
    }
    assert!(delete.exists() && future.exists() && stray.exists());
    assert_eq!(second.remove_due(60_001), 1);
    assert!(!delete.exists() && future.exists() && stray.exists());
    assert_eq!(create(&second, 0).log_end_offset(), Offset(1));
}

#[test]
fn producers_are_forgotten_by_what_holds_at_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path());
    let log = create(&manager, 0);
    let sent = Spec { producer: Some((7, 0, 0)), timestamp: 1_000, ..Spec::default() };
    let is_known = || append(&log, &sent).duplicate;
    assert!(!is_known(), "it is the first");
    manager.expire_producers(10_000);
    assert!(is_known(), "a day has not gone by");
    manager.set_producer_expiration_ms(5_000);
    manager.expire_producers(5_000);
    assert!(is_known(), "not silent for long enough");
    manager.expire_producers(10_000);
    assert!(!is_known(), "the producer was forgotten, and comes anew");
}
