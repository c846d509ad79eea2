use super::*;
use crate::log::partition_log::tests::{Spec, append};

/// A manager over two log dirs, with one partition of three records in the first.
fn manager(dirs: [&Path; 2]) -> LogManager {
    let manager = LogManager::open(ManagerOptions::new(dirs)).expect("log dirs");
    manager.load(&|_| Arc::default(), 1).expect("loaded");
    manager
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn with_records(dirs: [&Path; 2]) -> (LogManager, Arc<PartitionLog>) {
    let manager = manager(dirs);
    let first = manager.log_dir(dirs[0]).expect("a log dir");
    assert!(manager.prefer(&tp(), &first));
    let log = manager.get_or_create(&tp(), None, Arc::default(), true, 1).expect("a log");
    for _ in 0..3 {
        append(&log, &Spec::default());
    }
    log.update_high_watermark(Offset(3));
    (manager, log)
}

fn copy_all(from: &PartitionLog, to: &PartitionLog) {
    for _ in 0..3 {
        append(to, &Spec::default());
    }
    assert_eq!(from.log_end_offset(), to.log_end_offset());
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten().filter(|entry| entry.path().is_dir());
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Copies a folder, as a crash that came too early would have left it.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn a_future_log_takes_the_place_of_the_current_one() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let dirs = [one.path(), two.path()];
    let (manager, current) = with_records(dirs);
    let second = manager.log_dir(dirs[1]).expect("a log dir");
    let future = manager.create_future(&current, &second, 1).expect("a future log");
    assert!(Arc::ptr_eq(&future, &manager.create_future(&current, &second, 1).expect("the same")));
    copy_all(&current, &future);
    let moved = manager.replace_with_future(&current, 5).expect("moved");
    assert!(Arc::ptr_eq(&moved, &manager.get(&tp()).expect("the log")) && manager.future(&tp()).is_none());
    assert_eq!(
        (moved.log_end_offset(), moved.high_watermark(), moved.dir()),
        (Offset(3), Offset(3), &*dirs[1].join("t-0"))
    );
    assert!(append_fails(&current), "nothing is written to the old log");
    append(&moved, &Spec::default());
    assert!(!moved.dir().join(files::MOVED).exists());
    assert!(folders(dirs[0]).iter().all(|name| name.ends_with("-delete")));
    manager.remove_due(100_000_000);
    assert!(folders(dirs[0]).is_empty());
    drop(manager);
    let again = self::manager(dirs);
    assert_eq!(again.get(&tp()).expect("the log").log_end_offset(), Offset(4));
}

fn append_fails(log: &PartitionLog) -> bool {
    log.append_as_follower(bytes::Bytes::new(), 1).is_err()
}

#[test]
fn a_move_goes_on_after_a_stop_and_ends_when_it_is_called_back() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let dirs = [one.path(), two.path()];
    for clean in [true, false] {
        let (manager, current) = with_records(dirs);
        let second = manager.log_dir(dirs[1]).expect("a log dir");
        append(&manager.create_future(&current, &second, 1).expect("a future log"), &Spec::default());
        if clean {
            manager.shutdown(BrokerEpoch(1));
        }
        drop(manager);
        let again = self::manager(dirs);
        assert_eq!(again.len(), 1, "the future log is no partition");
        let future = again.future(&tp()).expect("the move goes on");
        assert_eq!(future.log_end_offset(), Offset(1));
        again.delete(&tp(), 1).expect("deleted");
        assert!(again.future(&tp()).is_none() && again.is_empty());
        again.remove_due(100_000_000);
        assert!(folders(dirs[0]).is_empty() && folders(dirs[1]).is_empty());
    }
}

#[test]
fn a_crash_amid_a_move_leaves_one_log() {
    for old_folder_is_back in [true, false] {
        let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let dirs = [one.path(), two.path()];
        let (manager, current) = with_records(dirs);
        let saved = tempfile::tempdir().expect("a folder");
        current.flush().expect("flushed");
        copy_folder(current.dir(), saved.path());
        let second = manager.log_dir(dirs[1]).expect("a log dir");
        copy_all(&current, &manager.create_future(&current, &second, 1).expect("a future log"));
        let moved = manager.replace_with_future(&current, 5).expect("moved");
        drop((manager, moved, current));
        // As if the crash had come before the old folder was renamed, or before the mark was taken off.
        std::fs::write(dirs[1].join("t-0").join(files::MOVED), b"").expect("marked");
        if old_folder_is_back {
            folders(dirs[0]).iter().for_each(|name| std::fs::remove_dir_all(dirs[0].join(name)).expect("removed"));
            copy_folder(saved.path(), &dirs[0].join("t-0"));
        }
        let again = self::manager(dirs);
        let log = again.get(&tp()).expect("the log");
        assert_eq!((log.log_end_offset(), log.dir()), (Offset(3), &*dirs[1].join("t-0")));
        assert!(!log.dir().join(files::MOVED).exists(), "no later move must meet the mark");
        assert!(folders(dirs[0]).iter().all(|name| name.ends_with("-delete")), "{:?}", folders(dirs[0]));
    }
}

#[test]
fn a_partition_is_made_where_it_was_wanted_and_nowhere_unknown() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let manager = manager([one.path(), two.path()]);
    let second = manager.log_dir(two.path()).expect("a log dir");
    for number in 0..4 {
        assert!(manager.prefer(&TopicPartition::new("u", number), &second));
    }
    for number in 0..4 {
        let log =
            manager.get_or_create(&TopicPartition::new("u", number), None, Arc::default(), true, 1).expect("a log");
        assert!(Arc::ptr_eq(log.log_dir(), &second));
    }
    let error = manager.log_dir(Path::new("/no/such/dir")).expect_err("unknown");
    assert_eq!(error.code(), ErrorCode::LogDirNotFound);
    second.take_offline("as a test wants");
    assert_eq!(manager.log_dir(two.path()).expect_err("offline").code(), ErrorCode::KafkaStorageError);
}
