//! Random files in a partition's folder: opening it, reading it, opening it again.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use barnabas::base::ids::{LeaderEpoch, Offset, TopicPartition};
use barnabas::log::log_config::LogConfig;
use barnabas::log::log_dir::LogDir;
use barnabas::log::partition_log::{OpenParams, PartitionLog, ReadUpTo};
use barnabas::log::producer_state::Origin;
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use libfuzzer_sys::fuzz_target;

/// The files that random bytes go to.
const FILES: [&str; 7] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000010.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
];

fuzz_target!(|data: &[u8]| {
    let [choice, recovery_point, batches, rest @ ..] = data else { return };
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let clean = choice & 1 == 0;
    let params = params(dir.path(), clean, i64::from(recovery_point % 32));
    write_log(&params, *batches % 32);
    damage(&params.dir, choice >> 1, rest);
    let log = PartitionLog::open(&params).expect("the disk is fine");
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    assert!(start <= end);
    for offset in (start.get()..end.get()).take(100) {
        let _ = log.read(Offset(offset), 1000, true, ReadUpTo::LogEnd);
        let _ = log.read(Offset(offset), 1000, true, ReadUpTo::LastStableOffset);
        let _ = log.offset_for_timestamp(offset);
    }
    let info = log.append_as_leader(one(0), LeaderEpoch(i32::MAX), Origin::Client, 1);
    let end = info.map_or(end, |info| info.last_offset.next());
    log.close().expect("the disk is fine");
    let again = PartitionLog::open(&OpenParams { clean: true, ..params }).expect("the disk is fine");
    assert_eq!(again.log_end_offset(), end);
});

fn params(dir: &Path, clean: bool, recovery_point: i64) -> OpenParams {
    OpenParams {
        tp: TopicPartition::new("t", 0),
        dir: Arc::from(dir.join("t-0")),
        log_dir: Arc::new(LogDir::new(dir)),
        config: Arc::new(LogConfig { index_interval_bytes: 100, ..LogConfig::default() }),
        log_start: Offset(0),
        recovery_point: Offset(recovery_point),
        cleaned: None,
        clean,
        now_ms: 1,
        producer_expiration_ms: i64::MAX,
    }
}

fn one(timestamp: i64) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(BatchSpec::default());
    builder.append(timestamp, None, Some(b"value"));
    builder.build().expect("a batch").1
}

/// A log as it should be.
fn write_log(params: &OpenParams, batches: u8) {
    let log = PartitionLog::open(&OpenParams { clean: true, ..params.clone() }).expect("the disk is fine");
    for n in 0..batches {
        log.append_as_leader(one(n.into()), LeaderEpoch(0), Origin::Client, 1).expect("an append");
    }
    log.close().expect("the disk is fine");
}

/// Overwrites, from a place on that the bytes tell, or appends.
fn damage(folder: &Path, which: u8, bytes: &[u8]) {
    let path = folder.join(FILES[usize::from(which) % FILES.len()]);
    let mut content = fs::read(&path).unwrap_or_default();
    let [at, bytes @ ..] = bytes else {
        let _ = fs::remove_file(path);
        return;
    };
    let at = content.len() * usize::from(*at) / 255;
    content.truncate(at);
    content.extend_from_slice(bytes);
    fs::write(path, content).expect("the disk is fine");
}
