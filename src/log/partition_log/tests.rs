use std::sync::Arc;

use bytes::Bytes;

use super::retention::AT_ONCE;
use super::*;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::log::producer_state::Origin;
use crate::protocol::batch::{ATTRIBUTES_OFFSET, BatchHeader, CRC_OFFSET, HEADER_LEN, crc32c};
use crate::protocol::records::{Headers, Record};

/// How a test batch is made.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub records: i32,
    pub value: usize,
    pub timestamp: i64,
    pub producer: Option<(i64, i16, i32)>,
    pub transactional: bool,
    pub marker: Option<bool>,
    pub base_offset: i64,
    pub epoch: i32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            records: 1,
            value: 10,
            timestamp: 1,
            producer: None,
            transactional: false,
            marker: None,
            base_offset: 0,
            epoch: -1,
        }
    }
}

/// A record batch of magic 2.
pub(crate) fn batch(spec: &Spec) -> Bytes {
    let mut body = Vec::new();
    let mut storage = Vec::new();
    let (key, value) = match spec.marker {
        Some(commit) => (vec![0, 0, 0, u8::from(commit)], vec![0, 0, 0, 0, 0, 3]),
        None => (b"key".to_vec(), vec![b'v'; spec.value]),
    };
    for n in 0..spec.records {
        let headers = Headers::encode([], &mut storage);
        let record = Record {
            attributes: 0,
            timestamp_delta: i64::from(n),
            offset_delta: n,
            key: Some(&key),
            value: Some(&value),
            headers,
        };
        record.write(&mut body);
    }
    let (id, epoch, sequence) = spec.producer.unwrap_or((-1, -1, -1));
    let transactional = if spec.transactional || spec.marker.is_some() { 0x10 } else { 0 };
    let header = BatchHeader {
        base_offset: Offset(spec.base_offset),
        size: HEADER_LEN + body.len(),
        leader_epoch: LeaderEpoch(spec.epoch),
        magic: 2,
        crc: 0,
        attributes: transactional | if spec.marker.is_some() { 0x20 } else { 0 },
        last_offset_delta: spec.records - 1,
        base_timestamp: spec.timestamp,
        max_timestamp: spec.timestamp + i64::from(spec.records - 1),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        record_count: spec.records,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let crc = crc32c(&bytes[ATTRIBUTES_OFFSET..]);
    bytes[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

pub(crate) fn params(dir: &Path, config: LogConfig) -> OpenParams {
    OpenParams {
        tp: TopicPartition::new("t", 0),
        dir: Arc::from(dir.join("t-0")),
        log_dir: Arc::new(LogDir::new(dir)),
        config: Arc::new(config),
        log_start: Offset::ZERO,
        recovery_point: Offset::ZERO,
        cleaned: None,
        clean: true,
        now_ms: 1,
        producer_expiration_ms: i64::MAX,
    }
}

pub(crate) fn append(log: &PartitionLog, spec: &Spec) -> AppendInfo {
    let origin = if spec.marker.is_some() { Origin::Coordinator } else { Origin::Client };
    log.append_as_leader(batch(spec), LeaderEpoch(spec.epoch.max(0)), origin, 1).unwrap()
}

/// The bytes of a read.
pub(crate) fn bytes_of(read: &LogRead) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let Some(data) = &read.data else { return Vec::new() };
    let mut bytes = vec![0; data.len];
    data.file.read_exact_at(&mut bytes, data.position).unwrap();
    bytes
}

/// The base offset of the first batch that a read finds.
fn first_base(log: &PartitionLog, offset: i64) -> Option<i64> {
    let read = log.read(Offset(offset), 1 << 20, true, ReadUpTo::LogEnd).unwrap();
    BatchHeader::read(&bytes_of(&read)).map(|header| header.base_offset.get())
}

#[test]
fn what_was_appended_is_read_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    for n in 0..500 {
        let info = append(&log, &Spec { records: 3, value: 50, ..Spec::default() });
        assert_eq!((info.first_offset, info.last_offset), (Offset(n * 3), Offset(n * 3 + 2)));
    }
    let check = |log: &PartitionLog| {
        assert_eq!(log.log_end_offset(), Offset(1500));
        for offset in 0..1500 {
            assert_eq!(first_base(log, offset), Some(offset / 3 * 3));
        }
        assert_eq!(first_base(log, 1500), None);
        let beyond = log.read(Offset(1501), 1, true, ReadUpTo::LogEnd).unwrap_err();
        assert_eq!(beyond.code(), crate::base::error::ErrorCode::OffsetOutOfRange);
    };
    check(&log);
    log.close().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    check(&log);
    append(&log, &Spec::default());
    drop(log);
    let unclean = OpenParams { clean: false, ..params(dir.path(), LogConfig::default()) };
    let log = PartitionLog::open(&unclean).unwrap();
    assert_eq!(log.log_end_offset(), Offset(1501));
    assert_eq!(first_base(&log, 700), Some(699));
}

#[test]
fn readers_stop_at_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    for _ in 0..100 {
        append(&log, &Spec { records: 2, ..Spec::default() });
    }
    let size = batch(&Spec { records: 2, ..Spec::default() }).len();
    for hw in [0, 2, 20, 180, 200] {
        log.update_high_watermark(Offset(hw));
        let read = log.read(Offset(0), usize::MAX, true, ReadUpTo::HighWatermark).unwrap();
        assert_eq!(bytes_of(&read).len(), size * hw as usize / 2);
    }
    let first = log.read(Offset(150), 1, true, ReadUpTo::LogEnd).unwrap();
    assert_eq!((bytes_of(&first).len(), first.first_entry_incomplete), (size, false));
    let part = log.read(Offset(150), 10, false, ReadUpTo::LogEnd).unwrap();
    assert_eq!((bytes_of(&part).len(), part.first_entry_incomplete), (10, true));
    assert_eq!(part.start.unwrap().position, 75 * size as u64);
}

#[test]
fn segments_roll_and_are_read_across() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1000, index_interval_bytes: 100, ..LogConfig::default() };
    let log = PartitionLog::open(&params(dir.path(), config.clone())).unwrap();
    for _ in 0..200 {
        append(&log, &Spec { value: 100, ..Spec::default() });
    }
    assert!(log.segment_count() > 20);
    log.close().unwrap();
    let log = PartitionLog::open(&params(dir.path(), config)).unwrap();
    for offset in 0..200 {
        assert_eq!(first_base(&log, offset), Some(offset));
    }
    assert!(log.truncate_to(Offset(77), 1).unwrap());
    assert_eq!((log.log_end_offset(), first_base(&log, 76)), (Offset(77), Some(76)));
    assert_eq!(append(&log, &Spec::default()).first_offset, Offset(77));
    log.truncate_fully_and_start_at(Offset(1000), 1).unwrap();
    assert_eq!(append(&log, &Spec::default()).first_offset, Offset(1000));
    assert_eq!(first_base(&log, 1000), Some(1000));
}

/// The lengths of the files with this suffix, by base offset.
fn lengths(dir: &Path, suffix: &str) -> Vec<u64> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == suffix)).collect();
    found.sort_unstable();
    found.iter().map(|path| path.metadata().unwrap().len()).collect()
}

/// `segment.index.bytes` holds ten entries of the offset index, or six of the time index, of which the last is kept free.
#[test]
fn a_full_index_ends_its_segment() {
    let config = LogConfig { segment_index_bytes: 80, index_interval_bytes: 0, ..LogConfig::default() };
    let roomy = LogConfig { segment_index_bytes: 8000, ..config.clone() };
    for (config, rising, segments, entries) in
        [(&config, false, 4, [10, 1]), (&config, true, 7, [5, 5]), (&roomy, true, 1, [0, 0])]
    {
        let dir = tempfile::tempdir().unwrap();
        let log = PartitionLog::open(&params(dir.path(), config.clone())).unwrap();
        for n in 0..40 {
            append(&log, &Spec { timestamp: if rising { n } else { 1 }, ..Spec::default() });
        }
        assert_eq!(log.segment_count(), segments, "rising: {rising}");
        let [offsets, times] = ["index", "timeindex"].map(|suffix| lengths(&dir.path().join("t-0"), suffix));
        for at in 0..segments - 1 {
            assert_eq!([offsets[at] / 8, times[at] / 12], entries, "segment {at}, rising: {rising}");
        }
        for offset in 0..40 {
            assert_eq!(first_base(&log, offset), Some(offset));
        }
    }
}

#[test]
fn every_so_many_messages_are_flushed() {
    for (flush_messages, expected) in [(1, [1, 2, 3, 4]), (3, [0, 0, 3, 3]), (i64::MAX, [0; 4])] {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { flush_messages, ..LogConfig::default() };
        let log = PartitionLog::open(&params(dir.path(), config)).unwrap();
        let points = [(); 4].map(|()| {
            append(&log, &Spec::default());
            log.recovery_point().get()
        });
        assert_eq!(points, expected, "flush.messages={flush_messages}");
        log.append_as_follower(batch(&Spec { base_offset: 4, epoch: 0, ..Spec::default() }), 1).unwrap();
        let last = if flush_messages == 1 { 5 } else { expected[3] };
        assert_eq!(log.recovery_point(), Offset(last), "a follower's flush.messages={flush_messages}");
    }
}

#[test]
fn read_committed_stops_at_open_transactions_and_learns_of_aborted_ones() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    let txn = |sequence| Spec { producer: Some((5, 0, sequence)), transactional: true, ..Spec::default() };
    append(&log, &Spec::default());
    append(&log, &txn(0));
    log.update_high_watermark(Offset(2));
    assert_eq!(log.last_stable_offset(), Offset(1));
    append(&log, &Spec { producer: Some((5, 0, -1)), marker: Some(false), ..Spec::default() });
    assert_eq!(log.last_stable_offset(), Offset(1), "until the marker is replicated");
    log.update_high_watermark(Offset(3));
    assert_eq!(log.last_stable_offset(), Offset(3));
    let check = |log: &PartitionLog| {
        let read = log.read(Offset(0), usize::MAX, true, ReadUpTo::LastStableOffset).unwrap();
        let aborted = read.aborted.unwrap();
        assert_eq!(aborted.len(), 1);
        assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (Offset(1), Offset(2)));
        assert_eq!(aborted[0].last_stable_offset, Offset(3));
    };
    check(&log);
    append(&log, &txn(1));
    for clean in [true, false, false] {
        if clean {
            log.close().unwrap();
        }
        let log = PartitionLog::open(&OpenParams { clean, ..params(dir.path(), LogConfig::default()) }).unwrap();
        log.update_high_watermark(Offset(100));
        assert_eq!((log.high_watermark(), log.last_stable_offset()), (Offset(4), Offset(3)));
        check(&log);
        let duplicate = append(&log, &txn(1));
        assert!(duplicate.duplicate);
        assert_eq!(duplicate.first_offset, Offset(3));
    }
}

/// Who appends waits for a few renames, however many segments go.
#[test]
fn many_old_segments_go_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 300, retention_ms: 1000, ..LogConfig::default() };
    let log = PartitionLog::open(&params(dir.path(), config)).unwrap();
    for n in 0..50 {
        append(&log, &Spec { value: 150, timestamp: n, ..Spec::default() });
    }
    log.update_high_watermark(Offset(50));
    let before = log.segment_count();
    assert!(before > 4 * AT_ONCE, "{before}");
    assert_eq!(log.delete_some(100_000).unwrap(), AT_ONCE);
    assert_eq!(log.segment_count(), before - AT_ONCE);
    // The last one is replaced by an empty one.
    assert_eq!(log.delete_old_segments(100_000).unwrap(), before - AT_ONCE);
    assert_eq!((log.segment_count(), log.log_start_offset()), (1, Offset(50)));
}

#[test]
fn retention_lets_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 500, retention_ms: 1000, ..LogConfig::default() };
    let params = params(dir.path(), config.clone());
    let log = PartitionLog::open(&params).unwrap();
    for n in 0..20 {
        append(&log, &Spec { value: 150, timestamp: n * 100, ..Spec::default() });
    }
    assert_eq!(log.delete_old_segments(2000).unwrap(), 0, "nothing above the high watermark");
    log.update_high_watermark(Offset(20));
    assert!(log.delete_old_segments(2000).unwrap() > 0);
    let start = log.log_start_offset();
    assert!(start > Offset(0) && start <= Offset(10), "{start}");
    assert_eq!(first_base(&log, start.get()), Some(start.get()));
    log.update_config(Arc::new(LogConfig { retention_ms: -1, retention_bytes: 500, ..config.clone() }));
    assert!(log.delete_old_segments(2000).unwrap() > 0);
    assert!(log.size() < 1000);
    log.update_config(Arc::new(LogConfig { retention_ms: -1, ..config.clone() }));
    log.maybe_increment_log_start_offset(Offset(20)).unwrap();
    assert!(log.maybe_increment_log_start_offset(Offset(21)).is_err());
    log.delete_old_segments(2000).unwrap();
    assert_eq!(log.segment_count(), 1);
    log.update_config(Arc::new(config));
    log.delete_old_segments(100_000).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size()), (Offset(20), Offset(20), 0));
    assert!(params.log_dir.remove_due(i64::MAX) > 0);
    log.close().unwrap();
    let log = PartitionLog::open(&params).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(20), Offset(20)));
}

#[test]
fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 2000, index_interval_bytes: 200, ..LogConfig::default() };
    let log = PartitionLog::open(&params(dir.path(), config.clone())).unwrap();
    // Timestamps rise by 10, with one batch out of order; each batch has 3 records a millisecond apart.
    for n in 0..100 {
        let timestamp = if n == 50 { 5 } else { 1000 + n * 10 };
        append(&log, &Spec { records: 3, timestamp, epoch: 4, ..Spec::default() });
    }
    let check = |log: &PartitionLog| {
        let find = |timestamp| log.offset_for_timestamp(timestamp).unwrap().map(|f| (f.offset.get(), f.timestamp));
        assert_eq!(find(0), Some((0, 1000)));
        assert_eq!(find(1001), Some((1, 1001)));
        assert_eq!(find(1003), Some((3, 1010)));
        assert_eq!(find(1493), Some((153, 1510)), "the batch at 150 is older");
        assert_eq!(find(1992), Some((299, 1992)));
        assert_eq!(find(1993), None);
        assert_eq!(log.offset_for_timestamp(1001).unwrap().unwrap().leader_epoch, Some(LeaderEpoch(4)));
        let max = log.max_timestamp_offset().unwrap().unwrap();
        assert_eq!((max.offset, max.timestamp), (Offset(299), 1992));
    };
    check(&log);
    assert!(log.segment_starts().len() > 3);
    log.close().unwrap();
    check(&PartitionLog::open(&params(dir.path(), config.clone())).unwrap());
    check(&PartitionLog::open(&OpenParams { clean: false, ..params(dir.path(), config) }).unwrap());
}

#[test]
fn epochs_are_remembered_over_restarts_and_truncations() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    for (epoch, count) in [(0, 5), (2, 5), (7, 5)] {
        log.assign_epoch_at_end(LeaderEpoch(epoch));
        for _ in 0..count {
            append(&log, &Spec { epoch, ..Spec::default() });
        }
    }
    let end = |log: &PartitionLog, epoch| log.end_offset_for_epoch(LeaderEpoch(epoch)).map(|(e, o)| (e.get(), o.get()));
    let check = |log: &PartitionLog| {
        assert_eq!(log.latest_epoch(), Some(LeaderEpoch(7)));
        assert_eq!([end(log, 0), end(log, 1), end(log, 2)], [Some((0, 5)), Some((0, 5)), Some((2, 10))]);
        assert_eq!([end(log, 7), end(log, 8)], [Some((7, 15)), None]);
    };
    check(&log);
    drop(log);
    let unclean = OpenParams { clean: false, ..params(dir.path(), LogConfig::default()) };
    let log = PartitionLog::open(&unclean).unwrap();
    check(&log);
    log.close().unwrap();
    let text = std::fs::read_to_string(dir.path().join("t-0/leader-epoch-checkpoint")).unwrap();
    assert_eq!(text, "0\n3\n0 0\n2 5\n7 10\n");
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    check(&log);
    log.truncate_to(Offset(7), 1).unwrap();
    assert_eq!((log.latest_epoch(), end(&log, 2)), (Some(LeaderEpoch(2)), Some((2, 7))));
}

#[test]
fn an_idle_log_gives_its_descriptors_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    append(&log, &Spec::default());
    assert_eq!(log.idle_since(1000, 30_000), None);
    log.rest(log.idle_since(30_001, 30_000).unwrap()).unwrap();
    assert_eq!(log.idle_since(60_000, 30_000), None);
    assert_eq!(log.recovery_point(), Offset(1));
    assert_eq!(first_base(&log, 0), Some(0));
    assert_eq!(append(&log, &Spec::default()).first_offset, Offset(1));
    assert_eq!(first_base(&log, 1), Some(1));
}

/// How long appends take beside a bare CRC and write; run with `cargo test --release -- --ignored appends --nocapture`.
#[test]
fn segments_are_preallocated_and_trimmed_when_they_are_full() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 4 << 20, preallocate: true, ..LogConfig::default() };
    let log = PartitionLog::open(&params(dir.path(), config)).unwrap();
    append(&log, &Spec::default());
    let file = |base: i64| {
        let found = std::fs::metadata(dir.path().join("t-0").join(format!("{base:020}.log"))).unwrap();
        (found.len(), found.blocks() * 512)
    };
    let (written, taken) = file(0);
    assert!(written < 200 && taken >= 4 << 20, "{written} {taken}");
    log.roll(1).unwrap();
    let (after, left) = file(0);
    assert!(after == written && left <= 1 << 20, "{after} {left}");
    assert!(file(1).0 == 0 && file(1).1 >= 4 << 20, "{:?}", file(1));
    append(&log, &Spec::default());
    drop(log);
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    assert_eq!(log.log_end_offset(), Offset(2));
    assert_eq!(first_base(&log, 1), Some(1));
}

#[test]
#[ignore = "a measurement"]
fn appends_cost_little_more_than_a_write() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let mut params = params(dir.path(), LogConfig { segment_bytes: i32::MAX, ..LogConfig::default() });
    let large = batch(&Spec { records: 1000, value: 1000, ..Spec::default() });
    let small = batch(&Spec { records: 1, value: 1000, ..Spec::default() });
    for (name, bytes, count) in [("1 MB", large, 1000), ("1 KB", small, 200_000)] {
        for _ in 0..2 {
            let began = std::time::Instant::now();
            let mut file = std::fs::File::create(dir.path().join("bare")).unwrap();
            for _ in 0..count {
                assert_ne!(crc32c(&bytes[ATTRIBUTES_OFFSET..]), 0);
                file.write_all(&bytes).unwrap();
            }
            let bare = began.elapsed();
            std::fs::remove_file(dir.path().join("bare")).unwrap();
            params.dir = Arc::from(dir.path().join(format!("b-{}", rand::random::<u32>())));
            let log = PartitionLog::open(&params).unwrap();
            let began = std::time::Instant::now();
            for _ in 0..count {
                log.append_as_leader(bytes.clone(), LeaderEpoch(0), Origin::Client, 1).unwrap();
            }
            let ours = began.elapsed();
            println!("{name}: bare {:?}, append {:?} each", bare / count, ours / count);
            drop(log);
            std::fs::remove_dir_all(&params.dir).unwrap();
        }
    }
}

#[test]
fn a_truncation_at_the_end_drops_the_epoch_of_a_leader_that_wrote_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = PartitionLog::open(&params(dir.path(), LogConfig::default())).unwrap();
    append(&log, &Spec::default());
    let written = log.latest_epoch();
    log.assign_epoch_at_end(LeaderEpoch(7));
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(7)));
    assert!(!log.truncate_to(log.log_end_offset(), 1).unwrap(), "no record goes");
    assert_eq!(log.latest_epoch(), written);
}
