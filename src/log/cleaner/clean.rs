//! One cleaning of one log (`Cleaner`): two walks over its segments in large reads. The first, over the dirty part, notes the
//! last offset of each key; the second, over all of it, copies what counts to new segments, each of which takes the place of
//! those it was made of as soon as it is on the disk.
//!
//! Memory: the table of keys, a buffer for reading and one for writing, whatever the log's size. Nothing is allocated for a
//! record.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::filter::{Damaged, Fate, Filter, LastRecord, Outcome, Rules, Unpacked};
use super::legacy;
use super::offset_map::{KeyHasher, KeyOffset, OffsetMap};
use super::output::{self, Output, Written};
use super::selection::{Cleanable, Sizes, group};
use super::throttle::Throttle;
use super::transactions::Transactions;
use crate::base::ids::{Offset, ProducerId};
use crate::log::disk::Disk;
use crate::log::error::LogError;
use crate::log::files;
use crate::log::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::log::log_config::LogConfig;
use crate::log::partition_log::{CleaningView, PartitionLog, Replaced};
use crate::log::scan::{EntryHeader, Scanner};
use crate::log::segment::Segment;

/// After so many bytes it is looked whether to go on, and how fast.
const STEP: u64 = 256 << 10;
/// A rest is taken in such pieces, so that a stop need not wait for it.
const REST: u64 = 50;
/// The smallest buffers; batches that are larger make them grow.
const LEAST_BUFFER: usize = 16 << 10;

/// What one thread of the cleaner may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Bytes for the table of keys.
    pub dedupe_bytes: u64,
    /// How full it may become.
    pub load_factor: f64,
    /// Bytes for reading, and as many for writing.
    pub buffer_bytes: usize,
}

/// Why a cleaning came to no end.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The cleaner stops, or the log has changed under it. It is taken up again later.
    #[error("given up, as {0}")]
    GivenUp(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log holds something that cannot be read.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The cleaner cannot deal with it.
    #[error("{0}")]
    Unfit(String),
}

/// What a cleaning did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Where the dirty part began.
    pub first_dirty: Offset,
    /// Up to where the log is clean now.
    pub cleaned_to: Offset,
    /// Keys in the dirty part.
    pub keys: usize,
    /// Bytes read for them.
    pub dirty_bytes: u64,
    /// Segments, bytes and records before.
    pub before: Amount,
    /// Segments, bytes and records after.
    pub after: Amount,
    /// Records that were dropped because they had no key.
    pub without_key: u64,
    /// How long finding the keys took.
    pub finding: Duration,
    /// How long all of it took.
    pub all: Duration,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Segments.
    pub segments: usize,
    /// Bytes.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

/// Cleans logs, one at a time. Its buffers serve them all.
#[derive(Debug)]
pub struct Cleaner {
    share: Share,
    throttle: Arc<Throttle>,
    stop: Arc<AtomicBool>,
    read_buffer: Vec<u8>,
    unpacked: Unpacked,
    filter: Filter,
    keys: Vec<KeyOffset>,
}

/// One cleaning under way.
struct Job<'a> {
    log: &'a PartitionLog,
    config: Arc<LogConfig>,
    view: CleaningView,
    now_ms: i64,
    summary: Summary,
    /// Bytes moved since it was last looked whether to go on.
    moved: u64,
}

/// What the copy of a group of segments goes by.
struct Copying<'a> {
    rules: Rules<'a>,
    /// Tombstones of magic 0 and 1 in segments older than that go.
    legacy_horizon_ms: i64,
    transactions: Transactions,
}

impl Cleaner {
    /// A cleaner that may use `share`, goes no faster than `throttle`, and gives up when `stop` is set.
    pub fn new(share: Share, throttle: Arc<Throttle>, stop: Arc<AtomicBool>) -> Self {
        Self {
            share: Share { buffer_bytes: share.buffer_bytes.max(LEAST_BUFFER), ..share },
            throttle,
            stop,
            read_buffer: Vec::new(),
            unpacked: Unpacked::default(),
            filter: Filter::default(),
            keys: Vec::new(),
        }
    }

    /// Cleans the part of `log` that `range` tells, and notes in the log how far it came.
    ///
    /// # Errors
    /// [`CleanError`]; what was swapped in before stays, which is sound at any point.
    pub fn clean(&mut self, log: &PartitionLog, range: &Cleanable, now_ms: i64) -> Result<Summary, CleanError> {
        let began = Instant::now();
        let config = log.config();
        let view = log.begin_cleaning(range.first_uncleanable)?.ok_or(CleanError::GivenUp(CHANGED))?;
        let summary = Summary { first_dirty: range.first_dirty, ..Summary::default() };
        let mut job = Job { log, config, view, now_ms, summary, moved: 0 };
        let hasher = KeyHasher::random();
        let map = self.find_keys(&mut job, hasher)?;
        job.summary.finding = began.elapsed();
        let end = map.latest_offset().next();
        if end <= range.first_dirty {
            return Err(CleanError::Unfit(format!(
                "the {} keys that fit in {} bytes are fewer than those of the batch at offset {}: raise \
                 log.cleaner.dedupe.buffer.size",
                map.most(),
                map.bytes(),
                range.first_dirty
            )));
        }
        self.copy_all(&mut job, hasher, &map, end)?;
        job.summary.cleaned_to = end;
        job.log.note_cleaned(&job.view, end);
        job.summary.all = began.elapsed();
        Ok(job.summary)
    }

    /// The first walk.
    fn find_keys(&mut self, job: &mut Job<'_>, hasher: KeyHasher) -> Result<OffsetMap, CleanError> {
        let (from, to) = (job.summary.first_dirty, job.view.end);
        // No more keys than offsets.
        let most = u64::try_from(to.since(from)).unwrap_or(0);
        let map = OffsetMap::new(self.share.dedupe_bytes, self.share.load_factor, most);
        let mut map = map.map_err(|error| CleanError::Unfit(format!("there is no memory for the keys: {error}")))?;
        let ends = |txn: &crate::log::txn_index::AbortedTxn| txn.last_offset >= from;
        let mut transactions = Transactions::new(job.view.aborted.iter().copied().filter(ends).collect());
        let first = job.view.segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
        for at in first..job.view.segments.len() {
            let segment = Arc::clone(&job.view.segments[at]);
            if !self.find_keys_in(job, &segment, from, hasher, &mut map, &mut transactions)? {
                tracing::debug!(partition = %job.log.topic_partition(), "the table of keys is full at {}", map.latest_offset());
                break;
            }
            // What is not there has no keys.
            let next = job.view.segments.get(at + 1).map_or(to, |next| next.base_offset());
            map.update_latest_offset(next.plus(-1));
        }
        job.summary.keys = map.len();
        Ok(map)
    }

    /// Notes the keys of one segment; `false` if no more fit.
    fn find_keys_in(
        &mut self,
        job: &mut Job<'_>,
        segment: &Segment,
        from: Offset,
        hasher: KeyHasher,
        map: &mut OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<bool, CleanError> {
        let start = job.watch(segment, segment.scan_start(from, Disk::Wait))?;
        let file = job.watch(segment, segment.log_file())?;
        let mut scanner = self.scanner(&file, start, segment);
        let mut fits = true;
        while let Some((header, entry)) = job.watch(segment, scanner.next_entry())? {
            job.summary.dirty_bytes += entry.len() as u64;
            self.read_keys(&header, entry, hasher, transactions)?;
            if header.base_offset < from {
                self.keys.retain(|(_, offset)| *offset >= from);
            }
            if !map.put_all(&self.keys) {
                fits = false;
                break;
            }
            if header.last_offset >= from {
                map.update_latest_offset(header.last_offset);
            }
            job.step(entry.len(), &self.throttle, &self.stop)?;
        }
        let position = scanner.position();
        self.read_buffer = scanner.into_buffer();
        if fits { job.came_to_end(segment, position).map(|()| true) } else { Ok(false) }
    }

    /// Reads the keys of an entry; none of a control batch, and none of an aborted one.
    fn read_keys(
        &mut self,
        header: &EntryHeader,
        entry: &[u8],
        hasher: KeyHasher,
        transactions: &mut Transactions,
    ) -> Result<(), Damaged> {
        self.keys.clear();
        let Some(batch) = &header.batch else {
            return legacy::keys(header, entry, hasher, &mut self.keys);
        };
        self.unpacked.read(batch, entry)?;
        let body = self.unpacked.body(entry);
        if batch.is_control() {
            transactions.on_control(batch, body);
        } else if !transactions.on_batch(batch) {
            let spans = self.unpacked.spans().iter();
            let keys = spans.filter_map(|span| Some((hasher.hash(span.key(body)?), span.offset(batch.base_offset))));
            self.keys.extend(keys);
        }
        Ok(())
    }

    /// The second walk.
    fn copy_all(
        &mut self,
        job: &mut Job<'_>,
        hasher: KeyHasher,
        map: &OffsetMap,
        end: Offset,
    ) -> Result<(), CleanError> {
        let count = job.view.segments.partition_point(|segment| segment.base_offset() < end);
        let segments = job.view.segments[..count].to_vec();
        let behind = job.view.segments.get(count).map_or(job.view.end, |segment| segment.base_offset());
        let bytes = |limit: i32| u64::try_from(limit).unwrap_or(0);
        let sizes: Vec<Sizes> = segments.iter().map(|segment| sizes(segment)).collect();
        let groups = group(&sizes, bytes(job.config.segment_bytes), bytes(job.config.segment_index_bytes), behind);
        let mut transactions = Transactions::new(std::mem::take(&mut job.view.aborted));
        let legacy_horizon_ms = legacy_horizon(job, &segments)?;
        let mut at = 0;
        for count in groups {
            let some = &segments[at..at + count];
            at += count;
            // Producers write on meanwhile; what is asked for later keeps no less than is needed.
            let producers: HashMap<ProducerId, LastRecord> = job.log.last_records();
            let rules = Rules {
                map,
                hasher,
                now_ms: job.now_ms,
                delete_retention_ms: job.config.delete_retention_ms,
                producers: &producers,
            };
            let mut copying = Copying { rules, legacy_horizon_ms, transactions };
            self.replace(job, some, at == segments.len(), &mut copying)?;
            transactions = copying.transactions;
        }
        Ok(())
    }

    /// Makes one segment of some, and puts it in their place.
    fn replace(
        &mut self,
        job: &mut Job<'_>,
        some: &[Arc<Segment>],
        is_last: bool,
        copying: &mut Copying<'_>,
    ) -> Result<(), CleanError> {
        let Some((first, last)) = some.first().zip(some.last()) else { return Ok(()) };
        let modified = job.watch(last, last.modified())?;
        let interval = u64::try_from(job.config.index_interval_bytes).unwrap_or(0);
        let (dir, base) = (Arc::from(job.log.dir()), first.base_offset());
        let create = || Output::create(dir, base, self.share.buffer_bytes, interval, last.created_ms());
        let created = job.log.in_folder(&job.view, create).ok_or(CleanError::GivenUp(CHANGED))?;
        let output = job.watch_written(created)?;
        let paths = output.paths();
        let new = self.fill(job, some, is_last, copying, output, modified);
        let give_up = |job: &Job<'_>, error| {
            job.log.unless_closed(|| output::remove_all(&paths));
            Err(error)
        };
        let new = match new {
            Ok(new) => new,
            Err(error) => return give_up(job, error),
        };
        job.summary.after.segments += 1;
        // A swap that fails amid its renames is left to recovery, which knows how far it came.
        match job.log.replace_segments(&job.view, new, some, job.now_ms)? {
            // Else the disk would keep the old files until the whole log is done.
            Replaced::Yes => some.iter().try_for_each(|segment| job.watch(segment, segment.close_files())),
            Replaced::Void => give_up(job, CleanError::GivenUp(CHANGED)),
        }
    }

    fn fill(
        &mut self,
        job: &mut Job<'_>,
        some: &[Arc<Segment>],
        is_last: bool,
        copying: &mut Copying<'_>,
        mut output: Output,
        modified: SystemTime,
    ) -> Result<Segment, CleanError> {
        for (at, segment) in some.iter().enumerate() {
            let is_last = is_last && at + 1 == some.len();
            self.copy(job, segment, is_last, copying, &mut output)?;
            job.summary.before.segments += 1;
        }
        job.summary.after.bytes += output.size();
        let finished = output.finish(modified);
        job.watch_written(finished)
    }

    /// Copies what counts of one segment.
    fn copy(
        &mut self,
        job: &mut Job<'_>,
        segment: &Segment,
        is_last: bool,
        copying: &mut Copying<'_>,
        output: &mut Output,
    ) -> Result<(), CleanError> {
        let file = job.watch(segment, segment.log_file())?;
        let keeps_legacy = job.watch(segment, segment.modified_ms())? > copying.legacy_horizon_ms;
        let size = segment.size();
        let mut scanner = self.scanner(&file, 0, segment);
        loop {
            let from = scanner.position();
            let Some((header, entry)) = job.watch(segment, scanner.next_entry())? else { break };
            let is_last = is_last && from + entry.len() as u64 == size;
            let before = output.size();
            let kept = keep_of(&mut self.filter, &header, entry, is_last, keeps_legacy, copying, output);
            let outcome = match kept {
                Err(CleanError::Log(error)) => return Err(job.failed(error)),
                result => result?,
            };
            if i32::try_from(output.size()).is_err() {
                return Err(CleanError::Unfit("a segment grew beyond 2 GiB by what its tombstones carry".to_owned()));
            }
            job.summary.before.bytes += entry.len() as u64;
            job.summary.before.records += outcome.seen;
            job.summary.after.records += outcome.kept;
            job.summary.without_key += outcome.without_key;
            let written = usize::try_from(output.size() - before).unwrap_or(0);
            job.step(entry.len() + written, &self.throttle, &self.stop)?;
        }
        let position = scanner.position();
        self.read_buffer = scanner.into_buffer();
        job.came_to_end(segment, position)
    }

    fn scanner<'f>(&mut self, file: &'f File, start: u64, segment: &Segment) -> Scanner<'f> {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        // A batch that was larger than all others must not keep its memory.
        if buffer.capacity() > self.share.buffer_bytes * 2 {
            buffer = Vec::new();
        }
        Scanner::with_buffer(file, start, segment.size(), buffer, self.share.buffer_bytes)
    }
}

const CHANGED: &str = "the log was cut, moved or closed meanwhile";

/// Puts what is left of an entry into the output.
fn keep_of(
    filter: &mut Filter,
    header: &EntryHeader,
    entry: &[u8],
    is_last: bool,
    keeps_legacy: bool,
    copying: &mut Copying<'_>,
    output: &mut Output,
) -> Result<Outcome, CleanError> {
    let Copying { rules, transactions, .. } = copying;
    let outcome = output.make(|out| {
        let outcome = match &header.batch {
            Some(batch) => filter.batch(batch, entry, is_last, rules, transactions, out)?,
            None => legacy::entry(header, entry, keeps_legacy, rules, out)?,
        };
        let written = match outcome.fate {
            Fate::Rewritten { max_timestamp, last_offset } => Some(Written { last_offset, max_timestamp }),
            Fate::Gone | Fate::Stays => None,
        };
        Ok::<_, CleanError>((outcome, written))
    })?;
    if outcome.fate == Fate::Stays {
        output.copy(entry, Written { last_offset: header.last_offset, max_timestamp: header.max_timestamp })?;
    }
    if let Some(txn) = outcome.aborted {
        output.add_aborted(txn);
    }
    Ok(outcome)
}

/// Tombstones of magic 0 and 1 go that were clean for `delete.retention.ms`: those in segments last written so long before
/// the last clean one.
fn legacy_horizon(job: &Job<'_>, segments: &[Arc<Segment>]) -> Result<i64, CleanError> {
    let clean = segments.partition_point(|segment| segment.base_offset() < job.summary.first_dirty);
    let Some(last) = clean.checked_sub(1).map(|at| &segments[at]) else { return Ok(0) };
    Ok(job.watch(last, last.modified_ms())?.saturating_sub(job.config.delete_retention_ms))
}

/// A segment's sizes. Index files that are missing count nothing.
fn sizes(segment: &Segment) -> Sizes {
    let entries = |len: std::io::Result<u32>, size: usize| u64::from(len.unwrap_or(0)) * size as u64;
    Sizes {
        base: segment.base_offset(),
        log: segment.size(),
        offsets: entries(segment.offsets.len(|| segment.path(files::INDEX)), OffsetEntry::SIZE),
        times: entries(segment.times.len(|| segment.path(files::TIME_INDEX)), TimeEntry::SIZE),
    }
}

impl Job<'_> {
    /// Passes on what came of reading a segment. A segment that was cut or deleted meanwhile is no fault of the disk.
    fn watch<T>(&self, segment: &Segment, result: std::io::Result<T>) -> Result<T, CleanError> {
        if result.is_err() && self.log.is_void(&self.view) {
            return Err(CleanError::GivenUp(CHANGED));
        }
        Ok(self.log.watch_segment(segment, "read", result)?)
    }

    /// Passes on what came of writing.
    fn watch_written<T>(&self, result: Result<T, LogError>) -> Result<T, CleanError> {
        result.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: LogError) -> CleanError {
        // The folder may be gone.
        if self.log.is_closed() {
            return CleanError::GivenUp(CHANGED);
        }
        match self.log.log_dir().watch(Err::<(), _>(error)) {
            Err(error) => error.into(),
            Ok(()) => CleanError::GivenUp(CHANGED),
        }
    }

    /// All of a segment must have been read.
    fn came_to_end(&self, segment: &Segment, position: u64) -> Result<(), CleanError> {
        if position == segment.size() {
            return Ok(());
        }
        if self.log.is_void(&self.view) {
            return Err(CleanError::GivenUp(CHANGED));
        }
        let base = segment.base_offset();
        Err(CleanError::Unfit(format!("segment {base} has no batch at byte {position}, where one should begin")))
    }

    /// After `bytes` more were moved: rests if they were too many, and looks whether to go on.
    fn step(&mut self, bytes: usize, throttle: &Throttle, stop: &AtomicBool) -> Result<(), CleanError> {
        self.moved += bytes as u64;
        if self.moved < STEP {
            return Ok(());
        }
        let mut rest = throttle.note(std::mem::take(&mut self.moved));
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(CleanError::GivenUp("the cleaner stops"));
            }
            if self.log.is_void(&self.view) {
                return Err(CleanError::GivenUp(CHANGED));
            }
            if rest == 0 {
                return Ok(());
            }
            let some = rest.min(REST);
            std::thread::sleep(Duration::from_millis(some));
            rest -= some;
        }
    }
}
