//! The offset and time indexes of a segment (`OffsetIndex`, `TimeIndex`): sorted entries of fixed size, looked up by
//! binary search with `pread`, so that an idle index costs neither a map nor a descriptor.
//!
//! Entries of the active segment gather in memory and are written out some dozens at a time: recovery rebuilds what lies
//! beyond the recovery point, and a flush writes them first. Invariant: keys rise strictly from entry to entry. Indexes
//! that a JVM broker left preallocated, with zeros behind the last entry, read as if they ended there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::disk::{Disk, sync_data};
use crate::log::segment::LazyFile;

/// Entries kept in memory before they are written out.
const PENDING: usize = 64;
/// Bytes read at once at the end of a binary search.
const PAGE: usize = 4096;

/// What an index consists of.
pub trait IndexEntry: Copy + std::fmt::Debug + PartialEq + Send {
    /// Bytes of one entry.
    const SIZE: usize;
    /// Reads an entry from exactly [`IndexEntry::SIZE`] bytes.
    fn decode(bytes: &[u8]) -> Self;
    /// Appends the entry's bytes.
    fn encode(self, out: &mut Vec<u8>);
    /// Whether it consists of zero bytes, as preallocated space does.
    fn is_zero(self) -> bool;
}

/// An entry of an `.index`: the last offset of an append, less the base offset, and where the append begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Offset less the segment's base offset.
    pub relative: i32,
    /// Bytes from the start of the `.log`.
    pub position: i32,
}

/// An entry of a `.timeindex`: the largest timestamp so far, and the offset that has it, less the base offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Offset less the segment's base offset.
    pub relative: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl IndexEntry for OffsetEntry {
    const SIZE: usize = 8;

    fn decode(bytes: &[u8]) -> Self {
        Self { relative: i32::from_be_bytes(array(bytes, 0)), position: i32::from_be_bytes(array(bytes, 4)) }
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn is_zero(self) -> bool {
        self.relative == 0 && self.position == 0
    }
}

impl IndexEntry for TimeEntry {
    const SIZE: usize = 12;

    fn decode(bytes: &[u8]) -> Self {
        Self { timestamp: i64::from_be_bytes(array(bytes, 0)), relative: i32::from_be_bytes(array(bytes, 8)) }
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative.to_be_bytes());
    }

    fn is_zero(self) -> bool {
        self.timestamp == 0 && self.relative == 0
    }
}

/// One index: a file, perhaps not there yet, and entries that still wait to be written to it.
#[derive(Debug)]
pub struct Index<E> {
    file: LazyFile,
    // Held across short page-cache writes of the entries; lookups of the same index wait for them.
    state: Mutex<State<E>>,
}

#[derive(Debug)]
struct State<E> {
    /// Entries in the file; `None` until it was looked at.
    on_disk: Option<u32>,
    pending: Vec<E>,
    /// Whether something was written since the last sync.
    dirty: bool,
}

fn read_at<E: IndexEntry>(file: &File, slot: u32, disk: Disk) -> io::Result<E> {
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..E::SIZE];
    disk.read_exact_at(file, bytes, u64::from(slot) * E::SIZE as u64)?;
    Ok(E::decode(bytes))
}

/// How many of `count` entries stand before the zeros.
fn without_zero_tail<E: IndexEntry>(file: &File, count: u32, disk: Disk) -> io::Result<u32> {
    if count == 0 || !read_at::<E>(file, count - 1, disk)?.is_zero() {
        return Ok(count);
    }
    let (mut low, mut high) = (0, count - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if read_at::<E>(file, middle, disk)?.is_zero() { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

/// The last of the first `count` entries for which `below` holds, given that it holds for a prefix of them.
fn search<E: IndexEntry>(
    file: &File,
    count: u32,
    below: impl Fn(&E) -> bool,
    disk: Disk,
) -> io::Result<(u32, Option<E>)> {
    let per_page = u32::try_from(PAGE / E::SIZE).unwrap_or(1);
    let (mut low, mut high) = (0, count);
    while high - low > per_page {
        let middle = low + (high - low) / 2;
        if below(&read_at::<E>(file, middle, disk)?) { low = middle } else { high = middle }
    }
    let mut page = [0; PAGE];
    let bytes = &mut page[..(high - low) as usize * E::SIZE];
    disk.read_exact_at(file, bytes, u64::from(low) * E::SIZE as u64)?;
    let entries = bytes.chunks_exact(E::SIZE).map(E::decode);
    let (found, last) = entries.take_while(|e| below(e)).fold((0, None), |(n, _), e| (n + 1, Some(e)));
    Ok((low + found, last))
}

impl<E: IndexEntry> Index<E> {
    /// An index whose file is looked at when first needed.
    pub fn unopened() -> Self {
        Self::with(None)
    }

    /// An index without entries, whose file need not be looked at.
    pub fn empty() -> Self {
        Self::with(Some(0))
    }

    fn with(on_disk: Option<u32>) -> Self {
        Self { file: LazyFile::default(), state: Mutex::new(State { on_disk, pending: Vec::new(), dirty: false }) }
    }

    fn loaded(
        &self,
        state: &mut State<E>,
        path: impl Fn() -> PathBuf,
        disk: Disk,
    ) -> io::Result<(u32, Option<Arc<File>>)> {
        if let Some(0) = state.on_disk {
            return Ok((0, None));
        }
        let Some(file) = self.file.open_existing(path)? else {
            state.on_disk = Some(0);
            return Ok((0, None));
        };
        let count = match state.on_disk {
            Some(count) => count,
            None => {
                let whole = u32::try_from(file.metadata()?.len() / E::SIZE as u64).unwrap_or(u32::MAX);
                without_zero_tail::<E>(&file, whole, disk)?
            }
        };
        state.on_disk = Some(count);
        Ok((count, Some(file)))
    }

    /// How many entries there are.
    pub fn len(&self, path: impl Fn() -> PathBuf) -> io::Result<u32> {
        let mut state = self.state.lock();
        let (on_disk, _) = self.loaded(&mut state, path, Disk::Wait)?;
        Ok(on_disk + u32::try_from(state.pending.len()).unwrap_or(u32::MAX))
    }

    /// The last entry.
    pub fn last(&self, path: impl Fn() -> PathBuf) -> io::Result<Option<E>> {
        let mut state = self.state.lock();
        if let Some(last) = state.pending.last() {
            return Ok(Some(*last));
        }
        match self.loaded(&mut state, path, Disk::Wait)? {
            (count, Some(file)) if count > 0 => read_at(&file, count - 1, Disk::Wait).map(Some),
            _ => Ok(None),
        }
    }

    /// The last entry for which `below` holds. `below` must hold for a prefix of the entries.
    pub fn floor(&self, path: impl Fn() -> PathBuf, below: impl Fn(&E) -> bool, disk: Disk) -> io::Result<Option<E>> {
        let mut state = self.state.lock();
        if state.pending.first().is_some_and(&below) {
            let at = state.pending.partition_point(&below);
            return Ok(Some(state.pending[at - 1]));
        }
        match self.loaded(&mut state, path, disk)? {
            (count, Some(file)) if count > 0 => {
                drop(state);
                search(&file, count, below, disk).map(|(_, entry)| entry)
            }
            _ => Ok(None),
        }
    }

    /// The first entry for which `below` does not hold.
    pub fn above(&self, path: impl Fn() -> PathBuf, below: impl Fn(&E) -> bool, disk: Disk) -> io::Result<Option<E>> {
        let mut state = self.state.lock();
        if let (count, Some(file)) = self.loaded(&mut state, path, disk)?
            && count > 0
        {
            let (slot, _) = search(&file, count, &below, disk)?;
            if slot < count {
                return read_at(&file, slot, disk).map(Some);
            }
        }
        let at = state.pending.partition_point(&below);
        Ok(state.pending.get(at).copied())
    }

    /// Adds an entry. It is written to the file with others later, at the latest by [`Index::write_out`].
    pub fn push(&self, entry: E, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.pending.push(entry);
        if state.pending.len() >= PENDING { self.write_pending(&mut state, path) } else { Ok(()) }
    }

    fn write_pending(&self, state: &mut State<E>, path: &Path) -> io::Result<()> {
        if state.pending.is_empty() {
            return Ok(());
        }
        let (count, _) = self.loaded(state, || path.to_path_buf(), Disk::Wait)?;
        let file = self.file.open_or_create(path)?;
        let mut bytes = Vec::with_capacity(state.pending.len() * E::SIZE);
        state.pending.iter().for_each(|entry| entry.encode(&mut bytes));
        file.write_all_at(&bytes, u64::from(count) * E::SIZE as u64)?;
        state.on_disk = Some(count + u32::try_from(state.pending.len()).unwrap_or(u32::MAX));
        state.pending.clear();
        state.dirty = true;
        Ok(())
    }

    /// Writes out what waits in memory.
    pub fn write_out(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_pending(&mut state, path)?;
        state.pending.shrink_to_fit();
        Ok(())
    }

    /// Makes the file as long as its entries; zeros that a JVM broker preallocated go.
    pub fn trim(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_pending(&mut state, path)?;
        let (count, _) = self.loaded(&mut state, || path.to_path_buf(), Disk::Wait)?;
        let file = self.file.open_or_create(path)?;
        let wanted = u64::from(count) * E::SIZE as u64;
        if file.metadata()?.len() != wanted {
            file.set_len(wanted)?;
            state.dirty = true;
        }
        Ok(())
    }

    /// Writes out and waits for the disk, if there is anything new.
    pub fn sync(&self, path: impl Fn() -> PathBuf) -> io::Result<()> {
        let file = {
            let mut state = self.state.lock();
            if !state.pending.is_empty() {
                self.write_pending(&mut state, &path())?;
            }
            if !std::mem::take(&mut state.dirty) {
                return Ok(());
            }
            self.file.open_existing(&path)?
        };
        file.map_or(Ok(()), |file| sync_data(&file, &path()))
    }

    /// Notes that the whole file system was synced, so that [`Index::sync`] need not do it again.
    pub fn mark_synced(&self) {
        self.state.lock().dirty = false;
    }

    /// Keeps the entries for which `keep` holds, a prefix; the file is cut to them.
    pub fn truncate(&self, path: &Path, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        self.rewind(path, keep)?;
        let file = self.file.open_existing(|| path.to_path_buf())?;
        file.map_or(Ok(()), |_| self.trim(path))
    }

    /// As [`Index::truncate`], but what lies behind is to be written over: [`Index::trim`] cuts the rest. To cut first
    /// would have ext4 write the file to the disk when it is closed, as it takes it for one that is being replaced.
    pub fn rewind(&self, path: &Path, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_pending(&mut state, path)?;
        if let (count, Some(file)) = self.loaded(&mut state, || path.to_path_buf(), Disk::Wait)? {
            let kept = if count == 0 { 0 } else { search(&file, count, keep, Disk::Wait)?.0 };
            state.on_disk = Some(kept);
        }
        Ok(())
    }

    /// Gives the descriptor back; it is opened again when needed. Writes out first.
    pub fn close(&self, path: &Path) -> io::Result<()> {
        self.write_out(path)?;
        self.file.close();
        Ok(())
    }

    /// Nobody opens the file meanwhile: it is about to be renamed.
    pub(crate) fn hold(&self) -> parking_lot::MutexGuard<'_, Option<Arc<File>>> {
        self.file.hold()
    }

    /// Whether the file's descriptor is open.
    pub fn is_open(&self) -> bool {
        self.file.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: i32) -> OffsetEntry {
        OffsetEntry { relative: n * 10, position: n * 100 }
    }

    fn filled(path: &Path, count: i32) -> Index<OffsetEntry> {
        let index = Index::unopened();
        for n in 1..=count {
            index.push(entry(n), path).unwrap();
        }
        index
    }

    #[test]
    fn lookups_see_the_file_and_what_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.index");
        let at = || path.clone();
        let index = filled(&path, 2000);
        assert_eq!(index.len(at).unwrap(), 2000);
        for target in [0, 9, 10, 15, 6400, 6409, 12_800, 19_205, 19_999, 20_000, 30_000] {
            let expected = if target < 10 { None } else { Some(entry((target / 10).min(2000))) };
            assert_eq!(index.floor(at, |e| e.relative <= target, Disk::Wait).unwrap(), expected, "{target}");
            let after = target / 10 + 1;
            let expected = (after <= 2000).then(|| entry(after));
            assert_eq!(index.above(at, |e| e.relative <= target, Disk::Wait).unwrap(), expected, "{target}");
        }
        index.close(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 16_000);
        let reopened = Index::<OffsetEntry>::unopened();
        assert_eq!(reopened.last(at).unwrap(), Some(entry(2000)));
    }

    #[test]
    fn preallocated_zeros_are_no_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.index");
        for count in [0, 1, 2, 63, 64, 700] {
            let index = filled(&path, count);
            index.close(&path).unwrap();
            if count == 0 {
                File::create(&path).unwrap();
            }
            File::options().write(true).open(&path).unwrap().set_len(10 << 20).unwrap();
            let reopened = Index::<OffsetEntry>::unopened();
            assert_eq!(reopened.len(|| path.clone()).unwrap(), count as u32);
            reopened.push(entry(count + 1), &path).unwrap();
            reopened.trim(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), (count as u64 + 1) * 8);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn truncation_keeps_a_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.index");
        let index = filled(&path, 100);
        index.truncate(&path, |e| e.relative < 500).unwrap();
        assert_eq!(index.len(|| path.clone()).unwrap(), 49);
        assert_eq!(index.last(|| path.clone()).unwrap(), Some(entry(49)));
        index.truncate(&path, |_| false).unwrap();
        assert_eq!(index.last(|| path.clone()).unwrap(), None);
    }

    #[test]
    fn time_entries_are_kafkas() {
        let mut out = Vec::new();
        let entry = TimeEntry { timestamp: 0x0102_0304_0506_0708, relative: 9 };
        entry.encode(&mut out);
        assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
        assert_eq!(TimeEntry::decode(&out), entry);
    }
}
