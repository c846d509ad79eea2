//! Walking the entries of a segment file: by their headers alone, or whole with their CRC checked, in big reads.
//!
//! Entries are record batches of magic 2, or single messages of magic 0 and 1 (which may be compressed wrappers; such a
//! wrapper carries the offset of its last message).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::ids::Offset;
use crate::log::disk::Disk;
use crate::protocol::batch::{self, BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC_OFFSET};

/// Bytes of a magic-0 message without key and value, with its offset and size.
const LEGACY_MIN: usize = LOG_OVERHEAD + 14;
/// Bytes read at once when entries are read whole.
const CHUNK: usize = 1 << 20;

/// What is known of an entry from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHeader {
    /// The first offset; for a compressed wrapper of magic 0 or 1 the last one.
    pub base_offset: Offset,
    /// The last offset.
    pub last_offset: Offset,
    /// Bytes of the whole entry.
    pub size: usize,
    /// The format.
    pub magic: u8,
    /// The largest timestamp, -1 where the format has none.
    pub max_timestamp: i64,
    /// The full header where the magic is 2.
    pub batch: Option<BatchHeader>,
}

impl EntryHeader {
    /// Reads a header off the beginning of `bytes`. `None` if there are too few bytes or they cannot be a header.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < LEGACY_MIN {
            return None;
        }
        match bytes[MAGIC_OFFSET] {
            2 => {
                let header = BatchHeader::read(bytes)?;
                (header.size >= HEADER_LEN && header.last_offset_delta >= 0).then_some(Self {
                    base_offset: header.base_offset,
                    last_offset: header.last_offset(),
                    size: header.size,
                    magic: 2,
                    max_timestamp: header.max_timestamp,
                    batch: Some(header),
                })
            }
            magic @ (0 | 1) => {
                let offset = Offset(i64::from_be_bytes(batch::field(bytes, 0)));
                let size = usize::try_from(i32::from_be_bytes(batch::field(bytes, 8))).ok()? + LOG_OVERHEAD;
                let max_timestamp = match magic {
                    1 if bytes.len() >= 26 => i64::from_be_bytes(batch::field(bytes, 18)),
                    _ => -1,
                };
                let smallest = LEGACY_MIN + usize::from(magic) * 8;
                (size >= smallest).then_some(Self {
                    base_offset: offset,
                    last_offset: offset,
                    size,
                    magic,
                    max_timestamp,
                    batch: None,
                })
            }
            _ => None,
        }
    }
}

/// Reads the header of the entry at `position`, of a file that ends at `end`. `None` if no whole entry is there.
pub fn header_at(file: &File, position: u64, end: u64, disk: Disk) -> io::Result<Option<EntryHeader>> {
    let mut bytes = [0; HEADER_LEN];
    let there = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX).min(HEADER_LEN);
    if there < LEGACY_MIN {
        return Ok(None);
    }
    match disk.read_exact_at(file, &mut bytes[..there], position) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(EntryHeader::read(&bytes[..there]).filter(|header| position + header.size as u64 <= end))
}

/// Reads entries whole, one after the other, in big reads.
#[derive(Debug)]
pub struct Scanner<'a> {
    file: &'a File,
    end: u64,
    /// Where in the file `buffer[at..]` begins.
    position: u64,
    buffer: Vec<u8>,
    at: usize,
    chunk: usize,
}

impl<'a> Scanner<'a> {
    /// Begins at `position` of a file that ends at `end`.
    pub fn new(file: &'a File, position: u64, end: u64) -> Self {
        Self::with_buffer(file, position, end, Vec::new(), CHUNK)
    }

    /// Reads `chunk` bytes at a time into a buffer that served before.
    pub fn with_buffer(file: &'a File, position: u64, end: u64, mut buffer: Vec<u8>, chunk: usize) -> Self {
        buffer.clear();
        Self { file, end, position, buffer, at: 0, chunk }
    }

    /// The buffer, to serve again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Where the next entry begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Has `wanted` bytes in the buffer if the file has them.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let have = self.buffer.len() - self.at;
        if have >= wanted {
            return Ok(true);
        }
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if left < wanted {
            return Ok(false);
        }
        self.buffer.copy_within(self.at.., 0);
        self.buffer.resize(wanted.max(self.chunk).min(left), 0);
        self.at = 0;
        match self.file.read_exact_at(&mut self.buffer[have..], self.position + have as u64) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next entry with its bytes; `None` at the end, or where no whole, plausible entry follows.
    pub fn next_entry(&mut self) -> io::Result<Option<(EntryHeader, &[u8])>> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if left < LEGACY_MIN || !self.fill(left.min(HEADER_LEN))? {
            return Ok(None);
        }
        let Some(header) = EntryHeader::read(&self.buffer[self.at..]) else { return Ok(None) };
        if !self.fill(header.size)? {
            return Ok(None);
        }
        let from = self.at;
        self.at += header.size;
        self.position += header.size as u64;
        Ok(Some((header, &self.buffer[from..from + header.size])))
    }
}
