//! One segment: a `.log` with its `.index`, `.timeindex` and `.txnindex` (`LogSegment`). Files are opened when first
//! needed and can be closed again at any time, so an idle segment holds no descriptor.
//!
//! Invariant: `size` covers whole batches only; what a failed write left behind it is cut off before the next one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::base::ids::Offset;
use crate::log::disk::{Disk, sync_data};
use crate::log::faults;
use crate::log::files;
use crate::log::index::{Index, IndexEntry, OffsetEntry, TimeEntry};
use crate::log::scan;
use crate::log::tail::Place;

/// So much more than its length may a file take on the disk without being trimmed: what a file system rounds up.
const SLACK: u64 = 1 << 20;

/// A file that is opened when needed. Readers keep their own handle, so closing disturbs nobody.
#[derive(Debug, Default)]
pub struct LazyFile {
    // Held across an `open` only, so that two threads do not open the file twice.
    file: Mutex<Option<Arc<File>>>,
}

impl LazyFile {
    /// Opens the file for reading and writing; `None` if it is not there.
    pub fn open_existing(&self, path: impl Fn() -> PathBuf) -> io::Result<Option<Arc<File>>> {
        let mut slot = self.file.lock();
        if let Some(file) = &*slot {
            return Ok(Some(file.clone()));
        }
        match OpenOptions::new().read(true).write(true).open(path()) {
            Ok(file) => Ok(Some(slot.insert(Arc::new(file)).clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file for reading and writing, and creates it if it is not there.
    pub fn open_or_create(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut slot = self.file.lock();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(slot.insert(Arc::new(file)).clone())
    }

    /// Gives the descriptor back.
    pub fn close(&self) {
        *self.file.lock() = None;
    }

    /// Whether a descriptor is open.
    pub fn is_open(&self) -> bool {
        self.file.lock().is_some()
    }

    /// Nobody opens the file meanwhile: it is about to be renamed.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.file.lock()
    }
}

/// The largest timestamp of a segment and the offset that has it; -1 for both where no record has a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The last offset of the batch that has it.
    pub offset: Offset,
}

impl TimestampOffset {
    /// No timestamp known.
    pub const NONE: Self = Self { timestamp: -1, offset: Offset::UNKNOWN };
}

/// One segment of a log. Shared between the log and readers.
#[derive(Debug)]
pub struct Segment {
    dir: Arc<Path>,
    base_offset: Offset,
    /// Ends the names of its files: empty, or what says that they are not yet, or no longer, in place. Locked inside the
    /// files' own locks, so that whoever opens one by its path gets this segment's.
    suffix: RwLock<&'static str>,
    /// Bytes of whole batches in the `.log`.
    size: AtomicU64,
    created_ms: i64,
    log: LazyFile,
    /// Offset to position.
    pub(crate) offsets: Index<OffsetEntry>,
    /// Timestamp to offset.
    pub(crate) times: Index<TimeEntry>,
    has_aborted: AtomicBool,
    // Read off the time index when first asked for.
    max_timestamp: Mutex<Option<TimestampOffset>>,
    dirty: AtomicBool,
    deleted: AtomicBool,
    /// Whether it was read since [`Segment::close_if_unused`] last looked.
    used: AtomicBool,
}

impl Segment {
    /// A segment whose `.log` has `size` bytes, or is to be created when first written if `size` is 0.
    pub fn new(dir: Arc<Path>, base_offset: Offset, size: u64, created_ms: i64, has_aborted: bool) -> Self {
        Self {
            dir,
            base_offset,
            suffix: RwLock::new(""),
            size: AtomicU64::new(size),
            created_ms,
            log: LazyFile::default(),
            offsets: Index::unopened(),
            times: Index::unopened(),
            has_aborted: AtomicBool::new(has_aborted),
            max_timestamp: Mutex::new(None),
            dirty: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    /// Creates the files of an empty segment: the `.log` and empty indexes, as a JVM broker expects to find them. Keeps
    /// no descriptor.
    pub(crate) fn create(dir: Arc<Path>, base_offset: Offset, created_ms: i64) -> io::Result<Self> {
        let mut segment = Self::new(dir, base_offset, 0, created_ms, false);
        for suffix in [files::LOG, files::INDEX, files::TIME_INDEX] {
            OpenOptions::new().write(true).create(true).truncate(true).open(segment.path(suffix))?;
        }
        (segment.offsets, segment.times) = (Index::empty(), Index::empty());
        *segment.max_timestamp.get_mut() = Some(TimestampOffset::NONE);
        *segment.dirty.get_mut() = true;
        Ok(segment)
    }

    /// The first offset it may hold.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Bytes of the `.log`.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// When it was created or, after a restart, opened.
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// Publishes a new size, after a write or a truncation.
    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
        self.dirty.store(true, Ordering::Release);
    }

    /// The path of its file with the given suffix.
    pub fn path(&self, suffix: &str) -> PathBuf {
        let mut path = files::segment_file(&self.dir, self.base_offset, suffix).into_os_string();
        path.push(*self.suffix.read());
        path.into()
    }

    /// Says that its files, which nobody has opened yet, bear a further suffix.
    pub(crate) fn with_suffix(self, suffix: &'static str) -> Self {
        *self.suffix.write() = suffix;
        self
    }

    /// The open `.log`.
    pub fn log_file(&self) -> io::Result<Arc<File>> {
        self.used.store(true, Ordering::Relaxed);
        // Never created here: a reader that comes too late must not bring a deleted file back.
        self.log.open_existing(|| self.path(files::LOG))?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether a transaction that ended here was aborted.
    pub fn has_aborted(&self) -> bool {
        self.has_aborted.load(Ordering::Acquire)
    }

    pub(crate) fn set_has_aborted(&self, has: bool) {
        self.has_aborted.store(has, Ordering::Release);
    }

    /// The offset less the base offset, if it fits an index.
    pub fn relative(&self, offset: Offset) -> Option<i32> {
        i32::try_from(offset.since(self.base_offset)).ok().filter(|relative| *relative >= 0)
    }

    fn at_relative(&self, relative: i32) -> Offset {
        self.base_offset.plus(i64::from(relative))
    }

    /// Where to begin a scan for `offset`: the position of an append that ends at or below it.
    pub fn scan_start(&self, offset: Offset, disk: Disk) -> io::Result<u64> {
        let relative = i32::try_from(offset.since(self.base_offset)).unwrap_or(i32::MAX);
        let entry = self.offsets.floor(|| self.path(files::INDEX), |e| e.relative <= relative, disk)?;
        Ok(entry.map_or(0, |e| u64::try_from(e.position).unwrap_or(0)))
    }

    /// Like [`Segment::scan_start`], but 0 if no entry of the log begins there: an index that lies costs time only.
    fn checked_scan_start(&self, file: &File, offset: Offset, end: u64, disk: Disk) -> io::Result<u64> {
        let position = self.scan_start(offset, disk)?;
        if position == 0 {
            return Ok(0);
        }
        let sane = scan::header_at(file, position, end, disk)?
            .is_some_and(|header| header.base_offset >= self.base_offset && header.base_offset <= offset);
        if sane || position >= end {
            return Ok(if sane { position } else { 0 });
        }
        tracing::warn!(index = %self.path(files::INDEX).display(), position, "index entry points at no batch, so the whole segment is searched");
        Ok(0)
    }

    /// The first batch before `end` whose last offset is not below `offset`. Reads headers only.
    pub fn locate(&self, offset: Offset, end: u64, disk: Disk) -> io::Result<Option<Place>> {
        let file = self.log_file()?;
        let mut position = self.checked_scan_start(&file, offset, end, disk)?;
        while let Some(header) = scan::header_at(&file, position, end, disk)? {
            if header.last_offset >= offset {
                return Ok(Some(Place {
                    base_offset: header.base_offset,
                    last_offset: header.last_offset,
                    position,
                    size: u32::try_from(header.size).unwrap_or(u32::MAX),
                }));
            }
            position += header.size as u64;
        }
        Ok(None)
    }

    /// An offset at or above the last one of the `len` bytes at `position`: the next index entry behind them, or `None`
    /// where the index knows none.
    pub fn offset_bound(&self, position: u64, len: usize, disk: Disk) -> io::Result<Option<Offset>> {
        let end = i32::try_from(position + len as u64).unwrap_or(i32::MAX);
        let entry = self.offsets.above(|| self.path(files::INDEX), |e| e.position < end, disk)?;
        Ok(entry.map(|e| self.at_relative(e.relative)))
    }

    /// The largest timestamp, read off the time index once.
    pub fn max_timestamp(&self) -> io::Result<TimestampOffset> {
        let mut known = self.max_timestamp.lock();
        if let Some(known) = *known {
            return Ok(known);
        }
        let was_open = self.times.is_open();
        let last = self.times.last(|| self.path(files::TIME_INDEX))?;
        if !was_open {
            // Retention asks this of one segment of every partition: a descriptor for each would be too many.
            self.times.close(&self.path(files::TIME_INDEX))?;
        }
        let read = last.map_or(TimestampOffset::NONE, |e| TimestampOffset {
            timestamp: e.timestamp,
            offset: self.at_relative(e.relative),
        });
        Ok(*known.insert(read))
    }

    /// Sets the largest timestamp, after an append, a recovery or a truncation.
    pub(crate) fn set_max_timestamp(&self, max: Option<TimestampOffset>) {
        *self.max_timestamp.lock() = max;
    }

    /// The offset of the last time-index entry whose timestamp lies below `timestamp`: where a search for it may begin.
    pub fn offset_before_timestamp(&self, timestamp: i64) -> io::Result<Offset> {
        let entry = self.times.floor(|| self.path(files::TIME_INDEX), |e| e.timestamp < timestamp, Disk::Wait)?;
        Ok(entry.map_or(self.base_offset, |e| self.at_relative(e.relative)))
    }

    /// The time that retention goes by: the largest timestamp, or else the file's.
    pub fn largest_timestamp(&self) -> io::Result<i64> {
        let max = self.max_timestamp()?.timestamp;
        if max >= 0 {
            return Ok(max);
        }
        self.modified_ms()
    }

    /// When the `.log` was last written.
    pub(crate) fn modified(&self) -> io::Result<std::time::SystemTime> {
        fs::metadata(self.path(files::LOG))?.modified()
    }

    /// When the `.log` was last written, in milliseconds since 1970.
    pub fn modified_ms(&self) -> io::Result<i64> {
        let since = self.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Writes the pair of index entries for an append that begins at `position` and ends with `last_offset`.
    pub(crate) fn push_index(&self, last_offset: Offset, position: u64, max: TimestampOffset) -> io::Result<()> {
        if let (Some(relative), Ok(position)) = (self.relative(last_offset), i32::try_from(position)) {
            self.offsets.push(OffsetEntry { relative, position }, &self.path(files::INDEX))?;
        }
        self.push_time(max)
    }

    /// Adds a time-index entry if `max` lies above the last one.
    pub(crate) fn push_time(&self, max: TimestampOffset) -> io::Result<()> {
        let last = self.times.last(|| self.path(files::TIME_INDEX))?;
        if let Some(relative) = self.relative(max.offset)
            && max.timestamp > last.map_or(-1, |e| e.timestamp)
            && relative >= last.map_or(0, |e| e.relative)
        {
            self.times.push(TimeEntry { timestamp: max.timestamp, relative }, &self.path(files::TIME_INDEX))?;
        }
        Ok(())
    }

    /// Whether either index has no room for another entry within `limit` bytes (`segment.index.bytes`). The last slot
    /// of the time index is kept for the entry written at the roll.
    pub fn index_is_full(&self, limit: i32) -> io::Result<bool> {
        let slots = |size: usize| u32::try_from(limit).unwrap_or(0) / u32::try_from(size).unwrap_or(1);
        let offsets = self.offsets.len(|| self.path(files::INDEX))?;
        let times = self.times.len(|| self.path(files::TIME_INDEX))?;
        Ok(offsets >= slots(OffsetEntry::SIZE) || times + 1 >= slots(TimeEntry::SIZE))
    }

    /// Has the file system set `bytes` aside for the `.log`, whose length stays what is written (`preallocate`; in Kafka the
    /// file gets that length, with zeros behind the last record). One that cannot do so is not asked again.
    pub(crate) fn preallocate(&self, bytes: i32) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(files::LOG))?;
        match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes.into()) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives back what was set aside and not needed.
    fn release(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(files::LOG))?;
        let found = file.metadata()?;
        if found.blocks() * 512 > found.len() + SLACK { file.set_len(found.len()) } else { Ok(()) }
    }

    /// Ends the segment's life as the active one: the last time entry, index files as long as their entries, and no more
    /// disk than the records take.
    pub(crate) fn become_inactive(&self) -> io::Result<()> {
        self.release()?;
        self.push_time(self.max_timestamp()?)?;
        self.offsets.trim(&self.path(files::INDEX))?;
        self.times.trim(&self.path(files::TIME_INDEX))
    }

    /// Whether something was written since the last [`Segment::sync`].
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Brings everything to the disk.
    pub fn sync(&self) -> io::Result<()> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let result = self.sync_files();
        if result.is_err() {
            self.dirty.store(true, Ordering::Release);
        }
        result
    }

    /// Brings everything to the disk, whether or not it was written to since.
    pub(crate) fn sync_files(&self) -> io::Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        sync_data(&*self.log_file()?, &self.path(files::LOG))?;
        self.offsets.sync(|| self.path(files::INDEX))?;
        self.times.sync(|| self.path(files::TIME_INDEX))?;
        if self.has_aborted() {
            let path = self.path(files::TXN_INDEX);
            sync_data(&File::open(&path)?, &path)?;
        }
        Ok(())
    }

    /// Writes index entries out of memory without waiting for the disk.
    pub(crate) fn write_out(&self) -> io::Result<()> {
        self.offsets.write_out(&self.path(files::INDEX))?;
        self.times.write_out(&self.path(files::TIME_INDEX))
    }

    /// Notes that the whole file system was synced.
    pub(crate) fn mark_synced(&self) {
        self.dirty.store(false, Ordering::Release);
        self.offsets.mark_synced();
        self.times.mark_synced();
    }

    /// Gives all descriptors back if nobody used them since the last call.
    pub(crate) fn close_if_unused(&self) -> io::Result<()> {
        if self.used.swap(false, Ordering::Relaxed) || !self.log.is_open() { Ok(()) } else { self.close_files() }
    }

    /// Gives all descriptors back. Readers that hold the file go on.
    pub fn close_files(&self) -> io::Result<()> {
        if self.offsets.is_open() {
            self.offsets.close(&self.path(files::INDEX))?;
        }
        if self.times.is_open() {
            self.times.close(&self.path(files::TIME_INDEX))?;
        }
        self.log.close();
        Ok(())
    }

    /// Cuts the segment so that it ends before `offset`; returns its new size.
    pub(crate) fn truncate_to(&self, offset: Offset) -> io::Result<u64> {
        let size = match self.locate(offset, self.size(), Disk::Wait)? {
            Some(place) => place.position,
            None => self.size(),
        };
        self.log_file()?.set_len(size)?;
        self.set_size(size);
        let relative = i32::try_from(offset.since(self.base_offset)).unwrap_or(i32::MAX);
        self.offsets.truncate(&self.path(files::INDEX), |e| e.relative < relative)?;
        self.times.truncate(&self.path(files::TIME_INDEX), |e| e.relative < relative)?;
        self.reload_max_timestamp(size)?;
        Ok(size)
    }

    /// Finds the largest timestamp anew: the time index tells it up to the last index entry, the headers behind it.
    fn reload_max_timestamp(&self, size: u64) -> io::Result<()> {
        self.set_max_timestamp(None);
        let mut max = self.max_timestamp()?;
        let file = self.log_file()?;
        let last = self.offsets.last(|| self.path(files::INDEX))?;
        let mut position = last.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0));
        while let Some(header) = scan::header_at(&file, position, size, Disk::Wait)? {
            if header.max_timestamp > max.timestamp {
                max = TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset };
            }
            position += header.size as u64;
        }
        self.set_max_timestamp(Some(max));
        Ok(())
    }

    /// Notes that its files are about to go, so that a flush that comes too late does nothing.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Whether its files are gone, or about to go.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Renames its files to `*.deleted` and says what they are called now. Readers that hold the segment go on.
    pub(crate) fn rename_deleted(&self) -> io::Result<Vec<PathBuf>> {
        self.mark_deleted();
        self.rename_as(files::DELETED)
    }

    /// Gives its files another suffix, the `.log` first, and says what they are called now.
    pub(crate) fn rename_as(&self, suffix: &'static str) -> io::Result<Vec<PathBuf>> {
        let (_log, _offsets, _times) = (self.log.hold(), self.offsets.hold(), self.times.hold());
        let mut renamed = Vec::new();
        for kind in [files::LOG, files::INDEX, files::TIME_INDEX, files::TXN_INDEX] {
            let mut to = files::segment_file(&self.dir, self.base_offset, kind).into_os_string();
            to.push(suffix);
            faults::step()?;
            match fs::rename(self.path(kind), &to) {
                Ok(()) => renamed.push(to.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        *self.suffix.write() = suffix;
        Ok(renamed)
    }
}
