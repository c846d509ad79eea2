//! Kafka's checkpoint files: `0`, a count, then one line for each entry. Written beside and renamed, so that a reader
//! finds the old file or the new one, never half of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::log::epochs::EpochEntry;
use crate::log::error::{IoContext, LogError};
use crate::log::faults;

/// Whether a file must be on the disk, rather than in the page cache, when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Wait for the disk.
    Now,
    /// A later flush of the folder brings it to the disk.
    Later,
}

/// Replaces `path` by `content` in one step, by way of `path.tmp`.
pub fn write_atomically(path: &Path, content: &[u8], sync: Sync) -> Result<(), LogError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let mut file = File::create(temporary).during("create", temporary)?;
    file.write_all(content).during("write", temporary)?;
    if sync == Sync::Now {
        file.sync_all().during("flush", temporary)?;
        faults::synced(temporary);
    }
    fs::rename(temporary, path).during("rename to", path)?;
    match path.parent() {
        Some(parent) if sync == Sync::Now => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Brings the entries of a folder (created, renamed and removed files) to the disk.
pub fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|dir| dir.sync_all()).during("flush folder", dir)?;
    faults::synced(dir);
    Ok(())
}

/// The lines of a checkpoint file behind its version and count; `None` if there is no such file.
fn read_lines(path: &Path) -> Result<Option<Vec<String>>, LogError> {
    read_text(path)?.map(|text| parse_lines(path, &text)).transpose()
}

/// A file's text; `None` if there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, LogError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(LogError::corrupt(path, "is not text, so it is damaged"))
        }
        Err(error) => Err(LogError::storage("read", path, error)),
    }
}

fn parse_lines(path: &Path, text: &str) -> Result<Vec<String>, LogError> {
    let mut lines = text.lines();
    match lines.next().map(str::trim) {
        Some("0") => {}
        Some(version) => return Err(LogError::corrupt(path, format!("has version {version:?}, expected 0"))),
        None => return Err(LogError::corrupt(path, "is empty, so it is damaged")),
    }
    let count: usize = match lines.next().map(|line| line.trim().parse()) {
        Some(Ok(count)) => count,
        _ => return Err(LogError::corrupt(path, "has no count of entries in its second line")),
    };
    let entries: Vec<String> = lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if entries.len() != count {
        let message = format!("says it has {count} entries but has {}", entries.len());
        return Err(LogError::corrupt(path, message));
    }
    Ok(entries)
}

/// Reads a file of offsets by partition; empty if there is none.
pub fn read_offsets(path: &Path) -> Result<BTreeMap<TopicPartition, Offset>, LogError> {
    let lines = read_lines(path)?.unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (topic, partition, offset) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then(|| (TopicPartition::new(topic, partition), Offset(offset)))
    };
    lines
        .iter()
        .map(|line| entry(line).ok_or_else(|| LogError::corrupt(path, format!("has a malformed line {line:?}"))))
        .collect()
}

/// Writes a file of offsets by partition.
pub fn write_offsets<'a>(
    path: &Path,
    offsets: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<(), LogError> {
    let mut body = String::new();
    let mut count = 0;
    for (tp, offset) in offsets {
        count += 1;
        // Writing to a String cannot fail.
        let _ = writeln!(body, "{} {} {offset}", tp.topic, tp.partition);
    }
    write_atomically(path, format!("0\n{count}\n{body}").as_bytes(), Sync::Now)
}

/// Reads a `leader-epoch-checkpoint`; `None` if there is none.
pub fn read_epochs(path: &Path) -> Result<Option<Vec<EpochEntry>>, LogError> {
    let lines = match read_text(path)? {
        None => return Ok(None),
        // Kafka makes the file with the log and writes to it with the first epoch.
        Some(text) if text.is_empty() => Vec::new(),
        Some(text) => parse_lines(path, &text)?,
    };
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (epoch, start) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(EpochEntry { epoch: LeaderEpoch(epoch), start_offset: Offset(start) })
    };
    lines
        .iter()
        .map(|line| entry(line).ok_or_else(|| LogError::corrupt(path, format!("has a malformed line {line:?}"))))
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

/// Writes a `leader-epoch-checkpoint`.
pub fn write_epochs(path: &Path, entries: &[EpochEntry], sync: Sync) -> Result<(), LogError> {
    let mut text = format!("0\n{}\n", entries.len());
    for entry in entries {
        let _ = writeln!(text, "{} {}", entry.epoch, entry.start_offset);
    }
    write_atomically(path, text.as_bytes(), sync)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        assert!(read_offsets(&path).unwrap().is_empty());
        let (a, b) = (TopicPartition::new("a", 0), TopicPartition::new("b.c", 12));
        write_offsets(&path, [(&a, Offset(5)), (&b, Offset(i64::MAX))]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("0\n2\na 0 5\nb.c 12 {}\n", i64::MAX));
        let read = read_offsets(&path).unwrap();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), vec![(a, Offset(5)), (b, Offset(i64::MAX))]);
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        for (content, expected) in [
            ("", "is empty"),
            ("1\n0\n", "version \"1\""),
            ("0\n", "no count"),
            ("0\n2\na 0 5\n", "has 2 entries but has 1"),
            ("0\n1\na 0\n", "malformed line"),
            ("0\n1\na 0 5 6\n", "malformed line"),
        ] {
            fs::write(&path, content).unwrap();
            let error = read_offsets(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        fs::write(&path, [0xff, 0xfe, 0]).unwrap();
        assert!(read_offsets(&path).unwrap_err().to_string().contains("is not text"));
    }

    #[test]
    fn epochs_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leader-epoch-checkpoint");
        assert_eq!(read_epochs(&path).unwrap(), None);
        fs::write(&path, "").unwrap();
        assert_eq!(read_epochs(&path).unwrap(), Some(Vec::new()));
        let entries = vec![EpochEntry { epoch: LeaderEpoch(1), start_offset: Offset(7) }];
        write_epochs(&path, &entries, Sync::Later).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n1\n1 7\n");
        assert_eq!(read_epochs(&path).unwrap(), Some(entries));
    }
}
