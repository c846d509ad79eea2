//! Kills a process that writes logs, at random moments, again and again on the same folder, and checks that nothing it
//! said was written or flushed is lost, that what is there is whole, and that the folder always opens.
//!
//! 50 rounds; 1,000 with `BARNABAS_TEST_LONG=1`; `CRASH_ROUNDS` and `CRASH_SEED` set them by hand. Every other round, by
//! chance, the power fails with the process and what was not flushed is damaged; `CRASH_POWER_FAILS`, a share of 1, makes
//! that all rounds or none.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barnabas::base::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use barnabas::log::log_config::LogConfig;
use barnabas::log::manager::{LogManager, ManagerOptions};
use barnabas::log::partition_log::{PartitionLog, ReadUpTo};
use barnabas::log::producer_state::Origin;
use barnabas::protocol::batch::{self, HEADER_LEN};
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

mod check;
mod full_disk;

const PARTITIONS: i32 = 3;
const CHILD: &str = "CRASH_CHILD";
const SEED: &str = "CRASH_SEED";

/// Small segments, so that rolls, deletions and index entries are frequent.
fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 64 << 10,
        index_interval_bytes: 1024,
        retention_ms: -1,
        retention_bytes: 512 << 10,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    })
}

fn open(dir: &Path) -> LogManager {
    let options = ManagerOptions { recovery_threads_per_dir: 2, ..ManagerOptions::new([dir]) };
    let manager = LogManager::open(options).expect("the folder is free");
    manager.check_ids(BrokerId(1), "cluster").expect("the folder is ours");
    let summary = manager.load(&|_| config(), 1).expect("the folder opens");
    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    manager
}

fn partition(manager: &LogManager, partition: i32) -> Arc<PartitionLog> {
    let tp = TopicPartition::new("t", partition);
    let log = manager.get_or_create(&tp, None, config(), true, 1).expect("a log");
    log.update_high_watermark(Offset(i64::MAX));
    log
}

/// What the record at `offset` of `partition` holds: its size and bytes follow from both.
fn value(partition: i32, offset: i64) -> Vec<u8> {
    let seed =
        u64::try_from(offset).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(partition.unsigned_abs());
    let size = usize::try_from(seed >> 40).unwrap_or(0) % 3000;
    seed.to_be_bytes().iter().copied().cycle().take(size).collect()
}

/// A batch of `count` records from `offset` on, of an idempotent producer whose sequence numbers are the offsets.
fn records(partition: i32, offset: i64, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchSpec {
        producer_id: ProducerId(i64::from(partition) + 100),
        producer_epoch: ProducerEpoch(0),
        base_sequence: i32::try_from(offset).unwrap_or(0),
        ..BatchSpec::default()
    });
    for n in 0..count {
        builder.append(offset + n, None, Some(&value(partition, offset + n)));
    }
    builder.build().expect("a batch").1
}

/// The child: writes until it is killed, and says what it has done.
#[test]
fn writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let mut random = StdRng::seed_from_u64(seed);
    let manager = open(Path::new(&dir));
    let mut out = std::io::stdout();
    let mut say = |line: String| out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
    loop {
        let p = random.random_range(0..PARTITIONS);
        let log = partition(&manager, p);
        let end = log.log_end_offset();
        match random.random_range(0..1000) {
            0..900 => {
                let batch = records(p, end.get(), random.random_range(1..20));
                let info = log.append_as_leader(batch, LeaderEpoch(7), Origin::Client, 1).expect("an append");
                log.update_high_watermark(Offset(i64::MAX));
                say(format!("\nappended {p} {}\n", info.last_offset.get() + 1));
            }
            900..950 => {
                log.flush().expect("a flush");
                say(format!("\nflushed {p} {}\n", log.recovery_point()));
            }
            950..960 => manager.checkpoint_recovery_points(),
            960..970 => {
                say(format!("\ndeleting {p} 0\n"));
                manager.run_retention(1);
                manager.remove_due(2);
            }
            970..980 => manager.checkpoint_log_starts(),
            980..990 => manager.run_flushes(i64::MAX),
            990..995 => log.roll(1).expect("a roll"),
            _ => {
                let within = Offset(end.get() - random.random_range(1..100)).max(log.log_start_offset());
                let read = log.read(within, 1, true, ReadUpTo::LogEnd).expect("a read");
                let batch = batch::BatchHeader::read(&check::bytes_of(&read));
                let to = batch.map_or(end, |header| header.base_offset).max(log.log_start_offset());
                say(format!("\ntruncating {p} {to}\n"));
                log.truncate_to(to, 1).expect("a truncation");
            }
        }
    }
}

/// What the child said of a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    appended: i64,
    flushed: i64,
}

fn spawn(dir: &Path, seed: u64) -> Child {
    let this = std::env::current_exe().expect("this test");
    Command::new(this)
        .args(["--exact", "writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the child starts")
}

/// Lets a child write until it has said `lines` lines, kills it, and returns what it said.
fn run_child(dir: &Path, seed: u64, lines: usize, said: &mut BTreeMap<i32, Said>) {
    let mut child = spawn(dir, seed);
    let mut reader = BufReader::new(child.stdout.take().expect("its output"));
    let mut heard = 0;
    let mut line = String::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        line.clear();
        if reader.read_line(&mut line).expect("its output") == 0 {
            break;
        }
        // A line that the kill cut off has no end.
        if line.ends_with('\n') && note(&line, said) {
            heard += 1;
        }
        if heard == lines || Instant::now() > deadline {
            child.kill().expect("the child is killed");
        }
    }
    let status = child.wait().expect("the child ends");
    assert!(heard >= lines, "the child ended by itself: {status}");
}

fn note(line: &str, said: &mut BTreeMap<i32, Said>) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (Some(what), Some(Ok(p)), Some(Ok(offset))) =
        (words.next(), words.next().map(str::parse), words.next().map(str::parse))
    else {
        return false;
    };
    let said = said.entry(p).or_default();
    match what {
        "appended" => said.appended = offset,
        "flushed" => said.flushed = offset,
        "truncating" => {
            said.appended = said.appended.min(offset);
            said.flushed = said.flushed.min(offset);
        }
        "deleting" => {}
        _ => return false,
    }
    true
}

#[test]
fn nothing_written_is_lost_by_kill_9() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let long = std::env::var("BARNABAS_TEST_LONG").is_ok_and(|value| !value.is_empty());
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: u64 = rounds.unwrap_or(if long { 1000 } else { 50 });
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("{rounds} rounds, CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let share = std::env::var("CRASH_POWER_FAILS").ok().and_then(|share| share.parse().ok()).unwrap_or(0.5);
    let dir = tempfile::tempdir().expect("a folder");
    let mut said = BTreeMap::new();
    for round in 0..rounds {
        let lines = random.random_range(1..300);
        run_child(dir.path(), random.random(), lines, &mut said);
        let power_fails = random.random_bool(share);
        if power_fails {
            check::tear(dir.path(), &mut random, &said);
        }
        let manager = open(dir.path());
        for p in 0..PARTITIONS {
            let said = said.entry(p).or_default();
            check::whole(round, &partition(&manager, p), p, *said, power_fails);
            said.appended = partition(&manager, p).log_end_offset().get();
            said.flushed = said.flushed.min(said.appended);
        }
        if random.random_bool(0.3) {
            manager.shutdown(BrokerEpoch(1));
        }
    }
}

#[test]
fn the_next_sequence_is_known_after_a_crash() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut said = BTreeMap::new();
    run_child(dir.path(), 1, 50, &mut said);
    let manager = open(dir.path());
    for p in 0..PARTITIONS {
        let log = partition(&manager, p);
        let end = log.log_end_offset().get();
        if end > 0 {
            // The last batch once more is a duplicate, not a second one.
            let read = log.read(Offset(end - 1), 1, true, ReadUpTo::LogEnd).expect("a read");
            let last = check::bytes_of(&read);
            let header = batch::BatchHeader::read(&last).expect("a batch");
            let mut again = header;
            again.base_offset = Offset(0);
            let mut bytes = again.to_bytes().to_vec();
            bytes.extend_from_slice(&last[HEADER_LEN..]);
            let info = log.append_as_leader(bytes.into(), LeaderEpoch(7), Origin::Client, 1).expect("an answer");
            assert!(info.duplicate);
            assert_eq!((info.first_offset, info.last_offset), (header.base_offset, Offset(end - 1)));
        }
    }
}
