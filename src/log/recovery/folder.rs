//! What is in a partition's folder, with the remains of deletions, compactions and crashes put in order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::Offset;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::log::log_dir::remove;
use crate::log::partition_log::OpenParams;
use crate::log::scan::Scanner;

/// A segment as the folder shows it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub base: Offset,
    pub size: u64,
    /// Whether there is an `.index` of whole entries.
    pub has_index: bool,
    /// Whether there is a `.timeindex` of whole entries.
    pub has_time_index: bool,
    pub has_txn_index: bool,
}

/// A partition's folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// Whether the folder was created just now.
    pub is_new: bool,
    /// In order of their base offsets.
    pub segments: Vec<Found>,
    /// Ascending.
    pub snapshots: Vec<Offset>,
    pub has_epochs: bool,
    pub has_metadata: bool,
}

/// The files that are not in place yet, or on their way out.
#[derive(Debug, Default)]
struct Remains {
    cleaned: Vec<PathBuf>,
    swapped: Vec<PathBuf>,
    min_cleaned: Option<Offset>,
}

/// Reads the folder, creating it if it is not there, and puts it in order.
pub fn read(params: &OpenParams) -> Result<Folder, LogError> {
    let dir = &*params.dir;
    let (folder, remains) = match list(dir) {
        Ok(listed) => listed,
        Err(LogError::Storage { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).during("create folder", dir)?;
            return Ok(Folder { is_new: true, ..Folder::default() });
        }
        Err(error) => return Err(error),
    };
    if remains.cleaned.is_empty() && remains.swapped.is_empty() {
        return Ok(folder);
    }
    finish_compaction(params, &folder, &remains)?;
    list(dir).map(|(folder, _)| folder)
}

fn list(dir: &Path) -> Result<(Folder, Remains), LogError> {
    let mut folder = Folder::default();
    let mut remains = Remains::default();
    let mut found: BTreeMap<Offset, (Option<u64>, [bool; 3])> = BTreeMap::new();
    for entry in fs::read_dir(dir).during("list", dir)? {
        let entry = entry.during("list", dir)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let offset = files::offset_of(name);
        let suffix = name.find('.').map_or("", |dot| &name[dot..]);
        match (offset, suffix) {
            (_, _) if name.ends_with(files::DELETED) => remove(&entry.path()),
            (Some(base), _) if name.ends_with(files::CLEANED) => {
                remains.cleaned.push(entry.path());
                remains.min_cleaned = Some(remains.min_cleaned.map_or(base, |min| min.min(base)));
            }
            (Some(_), _) if name.ends_with(files::SWAP) => remains.swapped.push(entry.path()),
            (Some(base), files::LOG) => {
                let size = entry.metadata().during("stat", &entry.path())?.len();
                found.entry(base).or_default().0 = Some(size);
            }
            (Some(base), files::INDEX) => found.entry(base).or_default().1[0] = is_whole::<OffsetEntry>(&entry)?,
            (Some(base), files::TIME_INDEX) => found.entry(base).or_default().1[1] = is_whole::<TimeEntry>(&entry)?,
            (Some(base), files::TXN_INDEX) => found.entry(base).or_default().1[2] = true,
            (Some(at), files::SNAPSHOT) => folder.snapshots.push(at),
            (None, "") if name == files::LEADER_EPOCHS => folder.has_epochs = true,
            (None, _) if name == files::PARTITION_METADATA => folder.has_metadata = true,
            _ => {}
        }
    }
    folder.snapshots.sort_unstable();
    for (base, (size, [has_index, has_time_index, has_txn_index])) in found {
        match size {
            Some(size) => folder.segments.push(Found { base, size, has_index, has_time_index, has_txn_index }),
            None => {
                tracing::warn!(dir = %dir.display(), "index files of {base} have no log file and are removed");
                for suffix in [files::INDEX, files::TIME_INDEX, files::TXN_INDEX] {
                    remove(&files::segment_file(dir, base, suffix));
                }
            }
        }
    }
    Ok((folder, remains))
}

/// Whether an index file consists of whole entries.
fn is_whole<E: IndexEntry>(file: &fs::DirEntry) -> Result<bool, LogError> {
    Ok(file.metadata().during("stat", &file.path())?.len() % E::SIZE as u64 == 0)
}

/// Takes the cleaner's work to its end, or back: `.cleaned` files go; a `.swap` segment is complete and replaces the
/// segments it was made of, unless a `.cleaned` one at or below it shows that a split was under way
/// (`LogLoader.removeTempFilesAndCollectSwapFiles`).
fn finish_compaction(params: &OpenParams, folder: &Folder, remains: &Remains) -> Result<(), LogError> {
    let dir = &*params.dir;
    for path in &remains.cleaned {
        remove(path);
    }
    let base_of = |path: &Path| path.file_name().and_then(|name| name.to_str()).and_then(files::offset_of);
    let (invalid, valid): (Vec<&PathBuf>, Vec<&PathBuf>) = remains
        .swapped
        .iter()
        .partition(|path| remains.min_cleaned.is_some_and(|min| base_of(path).is_some_and(|base| base >= min)));
    for path in invalid {
        tracing::info!(path = %path.display(), "an unfinished swap is taken back");
        remove(path);
    }
    for path in &valid {
        let Some(base) = base_of(path) else { continue };
        if !path.to_string_lossy().ends_with(".log.swap") {
            continue;
        }
        let end = end_of_file(path, base)?;
        tracing::info!(path = %path.display(), "a finished swap replaces the segments from {base} to {end}");
        for old in folder.segments.iter().filter(|old| old.base >= base && old.base < end) {
            for suffix in [files::LOG, files::INDEX, files::TIME_INDEX, files::TXN_INDEX] {
                remove(&files::segment_file(dir, old.base, suffix));
            }
        }
    }
    for path in valid {
        let text = path.to_string_lossy();
        let to = PathBuf::from(text.strip_suffix(files::SWAP).unwrap_or(&text));
        fs::rename(path, &to).during("rename to", &to)?;
    }
    Ok(())
}

fn end_of_file(path: &Path, base: Offset) -> Result<Offset, LogError> {
    let read = || -> io::Result<Offset> {
        let file = fs::File::open(path)?;
        let mut scanner = Scanner::new(&file, 0, file.metadata()?.len());
        let mut end = base;
        while let Some((header, _)) = scanner.next_entry()? {
            end = header.last_offset.next();
        }
        Ok(end)
    };
    read().during("read", path)
}

/// Bytes of the segments that reach beyond `recovery_point`, as far as names and sizes tell: what a recovery may have to
/// read.
pub fn unflushed_bytes(dir: &Path, recovery_point: Offset) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut segments: Vec<(Offset, u64)> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(files::LOG)) else { continue };
        if let (Some(base), Ok(meta)) = (files::offset_of(name), entry.metadata()) {
            segments.push((base, meta.len()));
        }
    }
    segments.sort_unstable();
    let from = segments.partition_point(|(base, _)| *base <= recovery_point).saturating_sub(1);
    segments.iter().skip(from).map(|(_, size)| size).sum()
}
