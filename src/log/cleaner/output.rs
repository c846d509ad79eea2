//! A new segment that is being written: its files end in `.cleaned` until it is whole and on the disk.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::base::ids::Offset;
use crate::log::disk::{sync_data, write_pieces_at};
use crate::log::error::{IoContext, LogError};
use crate::log::faults;
use crate::log::files;
use crate::log::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::log::log_dir::remove;
use crate::log::segment::{Segment, TimestampOffset};
use crate::log::txn_index::{self, AbortedTxn};

/// So many bytes at once are copied without a stop in the buffer.
const LARGE: usize = 32 << 10;
/// The system begins to write to the disk after so many bytes, so that the wait at the end is short and no other flush has
/// to wait behind a gigabyte.
const WRITE_BEHIND: u64 = 8 << 20;

/// What the writer has to know of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Its last offset.
    pub last_offset: Offset,
    /// Its largest timestamp.
    pub max_timestamp: i64,
}

/// The files of a new segment.
#[derive(Debug)]
pub struct Output {
    segment: Segment,
    file: File,
    /// Bytes in the file.
    position: u64,
    buffer: Vec<u8>,
    buffer_size: usize,
    interval: u64,
    since_index: u64,
    begun: u64,
    max: TimestampOffset,
    offsets: Vec<u8>,
    times: Vec<u8>,
    last_time: Option<TimeEntry>,
    aborted: Vec<AbortedTxn>,
}

impl Output {
    /// Makes the `.log` of a segment in `dir`; `buffer_size` bytes are gathered before they are written.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn create(
        dir: Arc<std::path::Path>,
        base: Offset,
        buffer_size: usize,
        interval: u64,
        created_ms: i64,
    ) -> Result<Self, LogError> {
        let segment = Segment::new(dir, base, 0, created_ms, false).with_suffix(files::CLEANED);
        let path = segment.path(files::LOG);
        let open = || {
            faults::step()?;
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)
        };
        Ok(Self {
            file: open().during("create", &path)?,
            segment,
            position: 0,
            buffer: Vec::with_capacity(buffer_size),
            buffer_size,
            interval,
            since_index: 0,
            begun: 0,
            max: TimestampOffset::NONE,
            offsets: Vec::new(),
            times: Vec::new(),
            last_time: None,
            aborted: Vec::new(),
        })
    }

    /// Bytes it has so far.
    pub fn size(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }

    /// Adds a batch as it stands.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn copy(&mut self, entry: &[u8], written: Written) -> Result<(), LogError> {
        self.note(entry.len(), written);
        if entry.len() >= LARGE {
            return self.write_with(entry);
        }
        self.buffer.extend_from_slice(entry);
        self.write_if_full()
    }

    /// Adds a batch that `make` writes behind what is there already, if it does. Returns what `make` returns.
    ///
    /// # Errors
    /// What `make` fails with, or a failure of the disk.
    pub fn make<T, E: From<LogError>>(
        &mut self,
        make: impl FnOnce(&mut Vec<u8>) -> Result<(T, Option<Written>), E>,
    ) -> Result<T, E> {
        let before = self.buffer.len();
        let (result, written) = make(&mut self.buffer)?;
        if let Some(written) = written {
            // The index tells where the batch begins.
            self.note_at(self.position + before as u64, self.buffer.len() - before, written);
            self.write_if_full()?;
        }
        Ok(result)
    }

    /// Adds an entry to its transaction index.
    pub fn add_aborted(&mut self, txn: AbortedTxn) {
        self.aborted.push(txn);
    }

    fn note(&mut self, len: usize, written: Written) {
        self.note_at(self.size(), len, written);
    }

    fn note_at(&mut self, position: u64, len: usize, written: Written) {
        if written.max_timestamp > self.max.timestamp {
            self.max = TimestampOffset { timestamp: written.max_timestamp, offset: written.last_offset };
        }
        if self.since_index > self.interval
            && let (Some(relative), Ok(position)) =
                (self.segment.relative(written.last_offset), i32::try_from(position))
        {
            OffsetEntry { relative, position }.encode(&mut self.offsets);
            self.push_time();
            self.since_index = 0;
        }
        self.since_index += len as u64;
    }

    /// Adds the largest timestamp to the time index if it rose.
    fn push_time(&mut self) {
        let Some(relative) = self.segment.relative(self.max.offset) else { return };
        let last = self.last_time;
        if self.max.timestamp > last.map_or(-1, |e| e.timestamp) && relative >= last.map_or(0, |e| e.relative) {
            let entry = TimeEntry { timestamp: self.max.timestamp, relative };
            entry.encode(&mut self.times);
            self.last_time = Some(entry);
        }
    }

    fn write_if_full(&mut self) -> Result<(), LogError> {
        if self.buffer.len() < self.buffer_size { Ok(()) } else { self.write_with(&[]) }
    }

    /// Writes what was gathered, and `more` behind it.
    fn write_with(&mut self, more: &[u8]) -> Result<(), LogError> {
        let mut pieces = [IoSlice::new(&self.buffer), IoSlice::new(more)];
        let result = faults::step().and_then(|()| write_pieces_at(&self.file, self.position, &mut pieces));
        result.during("write", &self.segment.path(files::LOG))?;
        self.position += (self.buffer.len() + more.len()) as u64;
        self.buffer.clear();
        // A batch that was larger than all others must not keep its memory.
        self.buffer.shrink_to(self.buffer_size * 2);
        if self.position - self.begun >= WRITE_BEHIND {
            begin_writing(&self.file, self.begun, self.position - self.begun);
            self.begun = self.position;
        }
        Ok(())
    }

    /// Brings it to the disk with its indexes, and dates it as the last of the segments it was made of.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn finish(mut self, modified: SystemTime) -> Result<Segment, LogError> {
        self.write_with(&[])?;
        self.push_time();
        let segment = self.segment;
        let path = segment.path(files::LOG);
        let log = || {
            faults::step()?;
            sync_data(&self.file, &path)?;
            self.file.set_times(FileTimes::new().set_modified(modified))
        };
        log().during("flush", &path)?;
        write_whole(&segment.path(files::INDEX), &self.offsets)?;
        write_whole(&segment.path(files::TIME_INDEX), &self.times)?;
        if !self.aborted.is_empty() {
            let path = segment.path(files::TXN_INDEX);
            let all = || {
                faults::step()?;
                self.aborted.iter().try_for_each(|txn| txn_index::append(&path, txn))?;
                faults::step()?;
                sync_data(&File::open(&path)?, &path)
            };
            all().during("write", &path)?;
        }
        segment.set_has_aborted(!self.aborted.is_empty());
        segment.set_max_timestamp(Some(self.max));
        segment.set_size(self.position);
        // All of it is on the disk.
        segment.mark_synced();
        Ok(segment)
    }

    /// Its files, which go if the cleaning is given up.
    pub fn paths(&self) -> [PathBuf; 4] {
        paths(&self.segment)
    }
}

/// The files a segment may have.
pub fn paths(segment: &Segment) -> [PathBuf; 4] {
    [files::LOG, files::INDEX, files::TIME_INDEX, files::TXN_INDEX].map(|kind| segment.path(kind))
}

/// Removes the files of a cleaning that was given up.
pub fn remove_all(paths: &[PathBuf]) {
    // A process that has ended removes nothing.
    for path in paths.iter().take_while(|_| faults::step().is_ok()) {
        remove(path);
    }
}

fn write_whole(path: &std::path::Path, bytes: &[u8]) -> Result<(), LogError> {
    let write = || {
        faults::step()?;
        fs::write(path, bytes)?;
        faults::step()?;
        sync_data(&File::open(path)?, path)
    };
    write().during("write", path)
}

/// Has the system begin to write a part of the file, without waiting for it. Only a hint: the flush at the end is what
/// counts.
fn begin_writing(file: &File, from: u64, len: u64) {
    let (from, len) = (i64::try_from(from).unwrap_or(0), i64::try_from(len).unwrap_or(0));
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call touches no memory of this process.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE) };
}
