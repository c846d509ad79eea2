//! Disks: where brokers keep their logs, what is read off them by the checker, and what a loss of power does to them.
//!
//! A process that is killed leaves all it wrote. A machine that loses its power keeps of each log what was flushed, that
//! is all before its recovery point, and of the rest some prefix, behind which the file may be cut, or hold zeros or
//! rubbish. Later segments may be gone, or hold a prefix of their own. `leader-epoch-checkpoint` may be as it was at the last flush,
//! and the last aborted transactions may be missing from `.txnindex`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use barnabas::base::ids::{LeaderEpoch, Offset};
use barnabas::log::manager::LogManager;
use barnabas::protocol::batch::{self, BatchHeader, HEADER_LEN};
use rand::Rng;
use rand::rngs::StdRng;

use crate::transactions::copier;

/// A folder for one world: in memory where there is such a file system.
pub fn root() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// A batch as it stands in a log: enough to tell it from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub base: Offset,
    pub next: Offset,
    pub epoch: LeaderEpoch,
    pub crc: u32,
    pub transaction: InTransaction,
    position: usize,
}

/// What a batch has to do with a transaction of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTransaction {
    No,
    /// Records, of the transaction of that number.
    Records(i64, u64),
    /// The end, and whether it is committed.
    Marker(i64, bool),
}

impl InTransaction {
    pub fn of(header: &BatchHeader, batch: &[u8]) -> Self {
        let producer = header.producer_id.get();
        match (header.is_control(), header.is_transactional()) {
            (true, _) => Self::Marker(producer, copier::is_commit(&batch[HEADER_LEN..])),
            (false, true) => Self::Records(producer, copier::number_in(&batch[HEADER_LEN..])),
            (false, false) => Self::No,
        }
    }
}

/// One segment as it was read.
#[derive(Debug, Default, Clone)]
struct SegmentFile {
    batches: Vec<Batch>,
    read: usize,
}

/// A partition's log as the checker reads it, anew only where it changed.
#[derive(Debug, Default, Clone)]
pub struct LogFiles {
    segments: BTreeMap<PathBuf, SegmentFile>,
}

impl LogFiles {
    /// Reads what changed in the folder; whether anything but new batches at the end did.
    pub fn refresh(&mut self, dir: &Path) -> bool {
        let paths = segment_paths(dir);
        let mut cut = self.segments.len();
        self.segments.retain(|path, _| paths.contains(path));
        cut -= self.segments.len();
        let mut rewritten = cut > 0;
        for path in paths {
            let bytes = fs::read(&path).unwrap_or_default();
            let segment = self.segments.entry(path).or_default();
            rewritten |= segment.refresh(&bytes);
        }
        rewritten
    }

    /// All batches in their order.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &Batch> {
        self.segments.values().flat_map(|segment| segment.batches.iter())
    }

    /// The batches from that offset on.
    pub fn batches_from(&self, offset: Offset) -> impl Iterator<Item = &Batch> {
        self.segments.values().flat_map(move |segment| {
            let first = segment.batches.partition_point(|batch| batch.next <= offset);
            &segment.batches[first..]
        })
    }

    /// The batch that begins at that offset.
    pub fn batch_at(&self, base: Offset) -> Option<&Batch> {
        let segments = self.segments.values().rev();
        let mut found = segments.filter(|segment| segment.batches.first().is_some_and(|first| first.base <= base));
        let batches = &found.next()?.batches;
        batches.binary_search_by_key(&base, |batch| batch.base).ok().map(|at| &batches[at])
    }
}

impl SegmentFile {
    fn refresh(&mut self, bytes: &[u8]) -> bool {
        let mut rewritten = false;
        while let Some(last) = self.batches.last().copied() {
            if read_batch(bytes, last.position).is_some_and(|(batch, _)| batch == last) {
                break;
            }
            self.batches.pop();
            self.read = last.position;
            rewritten = true;
        }
        while let Some((batch, len)) = read_batch(bytes, self.read) {
            self.batches.push(batch);
            self.read += len;
        }
        rewritten
    }
}

fn read_batch(bytes: &[u8], position: usize) -> Option<(Batch, usize)> {
    let rest = bytes.get(position..)?;
    let (len, _) = batch::peek(rest).ok()??;
    let header = BatchHeader::read(rest.get(..len)?)?;
    let (base, next) = (header.base_offset, header.next_offset());
    let transaction = InTransaction::of(&header, &rest[..len]);
    Some((Batch { base, next, epoch: header.leader_epoch, crc: header.crc, transaction, position }, len))
}

/// The `.log` files of a partition, in order.
pub fn segment_paths(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// What of a partition is on the disk whatever happens.
#[derive(Debug, Clone)]
struct Safe {
    /// All before is on the disk.
    end: Offset,
    /// Up to where the present life of the process has flushed, as it was seen last.
    recovery_point: Option<Offset>,
    epochs: Option<Vec<u8>>,
}

/// The same of each partition's folder on a machine.
#[derive(Debug, Default)]
pub struct Flushed(BTreeMap<PathBuf, Safe>);

impl Flushed {
    /// Up to where the log in a folder is on the disk.
    pub fn recovery_point(&self, dir: &Path) -> Offset {
        self.0.get(dir).map_or(Offset(0), |safe| safe.end)
    }

    /// Looks which logs were flushed since. The epochs' file is flushed with its log.
    pub fn look(&mut self, logs: &LogManager) {
        for log in logs.all() {
            let (recovery_point, end) = (log.recovery_point(), log.log_end_offset());
            let unknown = || Safe { end: Offset(0), recovery_point: None, epochs: None };
            let safe = self.0.entry(log.dir().to_path_buf()).or_insert_with(unknown);
            if safe.recovery_point != Some(recovery_point) {
                safe.end = match safe.recovery_point {
                    // It was cut.
                    Some(before) if recovery_point < before => recovery_point,
                    _ => safe.end.max(recovery_point),
                };
                safe.recovery_point = Some(recovery_point);
                safe.epochs = fs::read(log.dir().join(EPOCHS)).ok();
            }
            safe.end = safe.end.min(end);
        }
    }

    /// The process is another one: it may know less of what is on the disk.
    pub fn begin_life(&mut self) {
        self.0.values_mut().for_each(|safe| safe.recovery_point = None);
    }

    /// What is there after a loss of power is on the disk.
    fn is_all(&mut self) {
        self.0.values_mut().for_each(|safe| safe.end = Offset(i64::MAX));
        self.begin_life();
    }
}

/// The length of an entry in `.txnindex`; its transaction's last offset stands at 18.
const ABORTED_LEN: usize = 34;

/// Leader epochs of a partition.
const EPOCHS: &str = "leader-epoch-checkpoint";

/// Removes the folder of each partition.
pub fn wipe(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).for_each(|path| {
        fs::remove_dir_all(path).expect("a folder");
    });
}

/// Takes away of a machine's logs what the power took; says what was done.
pub fn lose_power(root: &Path, flushed: &mut Flushed, rng: &mut StdRng) -> Vec<String> {
    // The kernel's boot id changes with the machine's start, so that the old session is not known again.
    let _ = fs::remove_file(root.join(barnabas::zk::session_file::FILE_NAME));
    let mut lines = Vec::new();
    for (dir, safe) in &flushed.0 {
        if rng.random_bool(0.5) {
            let _ = match &safe.epochs {
                Some(epochs) => fs::write(dir.join(EPOCHS), epochs),
                None => fs::remove_file(dir.join(EPOCHS)),
            };
        }
        // The files behind one that lost its end may have got to the disk before, or not.
        let (mut whole, mut gone) = (true, false);
        for path in segment_paths(dir) {
            let mut bytes = fs::read(&path).unwrap_or_default();
            gone |= !whole && rng.random_bool(0.4);
            if gone {
                ["log", "index", "timeindex", "txnindex", "snapshot"].iter().for_each(|suffix| {
                    let _ = fs::remove_file(path.with_extension(suffix));
                });
                continue;
            }
            let durable = durable_bytes(&bytes, safe.end);
            let kept = kept_bytes(&bytes, durable, rng);
            whole &= kept == bytes.len();
            match rng.random_range(0..3) {
                0 => bytes.truncate(kept),
                1 => bytes[kept..].fill(0),
                _ => rng.fill(&mut bytes[kept..]),
            }
            if kept < bytes.len() {
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                lines.push(format!("{name} keeps {kept} bytes, {durable} were flushed"));
            }
            fs::write(&path, bytes).expect("a file");
            lose_aborted(&path.with_extension("txnindex"), safe.end, rng);
        }
    }
    flushed.is_all();
    lines
}

/// The last entries of a list of aborted transactions may be lost if it was not flushed after them.
fn lose_aborted(path: &Path, flushed: Offset, rng: &mut StdRng) {
    let Ok(bytes) = fs::read(path) else { return };
    let is_durable = |entry: &&[u8]| i64::from_be_bytes(std::array::from_fn(|at| entry[18 + at])) < flushed.get();
    let durable = bytes.chunks_exact(ABORTED_LEN).take_while(is_durable).count();
    let all = bytes.len() / ABORTED_LEN;
    if durable < all {
        let kept = rng.random_range(durable..=all);
        fs::write(path, &bytes[..kept * ABORTED_LEN]).expect("a file");
    }
}

/// How many bytes of a segment are on the disk: some, all, or as many as end with a whole batch.
fn kept_bytes(bytes: &[u8], durable: usize, rng: &mut StdRng) -> usize {
    match rng.random_range(0..4) {
        0 => durable,
        1 => {
            let mut ends = vec![durable];
            while let Some((_, len)) = read_batch(bytes, *ends.last().unwrap_or(&durable)) {
                ends.push(ends.last().unwrap_or(&durable) + len);
            }
            ends[rng.random_range(0..ends.len())]
        }
        _ => rng.random_range(durable..=bytes.len()),
    }
}

/// Where in a segment the first batch at or above an offset begins.
fn durable_bytes(bytes: &[u8], offset: Offset) -> usize {
    let mut position = 0;
    while let Some((batch, len)) = read_batch(bytes, position) {
        if batch.next > offset {
            break;
        }
        position += len;
    }
    position
}
