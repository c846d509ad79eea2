//! The `.txnindex` of a segment: the aborted transactions whose marker lies in it (`TransactionIndex`), 34 bytes each.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::base::ids::{Offset, ProducerId};
use crate::protocol::batch::field;

const ENTRY: usize = 34;

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// The last stable offset once it was complete: no later entry concerns records below it.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    /// Whether it can be one of a segment that begins at `base_offset`: its marker lies there, behind its first record.
    fn may_lie_behind(&self, base_offset: Offset) -> bool {
        base_offset <= self.last_offset && self.first_offset < self.last_offset
    }
}

/// Adds an entry, and creates the file if it is not there.
pub fn append(path: &Path, txn: &AbortedTxn) -> io::Result<()> {
    let mut bytes = [0; ENTRY];
    bytes[2..10].copy_from_slice(&txn.producer_id.get().to_be_bytes());
    bytes[10..18].copy_from_slice(&txn.first_offset.get().to_be_bytes());
    bytes[18..26].copy_from_slice(&txn.last_offset.get().to_be_bytes());
    bytes[26..34].copy_from_slice(&txn.last_stable_offset.get().to_be_bytes());
    OpenOptions::new().append(true).create(true).open(path)?.write_all(&bytes)
}

/// Reads all entries; none if there is no file. A torn entry at the end is left out.
pub fn read(path: &Path) -> io::Result<Vec<AbortedTxn>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let entries = bytes.chunks_exact(ENTRY).map(|b| AbortedTxn {
        producer_id: ProducerId(i64::from_be_bytes(field(b, 2))),
        first_offset: Offset(i64::from_be_bytes(field(b, 10))),
        last_offset: Offset(i64::from_be_bytes(field(b, 18))),
        last_stable_offset: Offset(i64::from_be_bytes(field(b, 26))),
    });
    Ok(entries.collect())
}

/// Keeps the entries whose marker lies in the segment, which begins at `base_offset`, and below `offset`; drops a torn one,
/// and what a loss of power left of one that was not on the disk: zeros, which name no transaction. Returns how many are left.
pub fn truncate(path: &Path, base_offset: Offset, offset: Offset) -> io::Result<usize> {
    let entries = read(path)?;
    let kept = entries.iter().take_while(|txn| txn.may_lie_behind(base_offset) && txn.last_offset < offset).count();
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.set_len((kept * ENTRY) as u64)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(kept)
}

/// Whether the file can be one: whole entries of version 0 whose markers rise, none before `base_offset` or its own first record.
pub fn is_sane(path: &Path, base_offset: Offset) -> io::Result<bool> {
    let bytes = fs::read(path)?;
    let entries = read(path)?;
    let rising = entries.windows(2).all(|pair| pair[0].last_offset < pair[1].last_offset);
    Ok(bytes.len() % ENTRY == 0
        && bytes.chunks_exact(ENTRY).all(|b| b[..2] == [0, 0])
        && rising
        && entries.iter().all(|txn| txn.may_lie_behind(base_offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.txnindex");
        assert_eq!(read(&path).unwrap(), []);
        let txn = |n: i64| AbortedTxn {
            producer_id: ProducerId(n),
            first_offset: Offset(n),
            last_offset: Offset(n + 1),
            last_stable_offset: Offset(n + 2),
        };
        append(&path, &txn(1)).unwrap();
        append(&path, &txn(5)).unwrap();
        assert_eq!(read(&path).unwrap(), [txn(1), txn(5)]);
        assert!(is_sane(&path, Offset(0)).unwrap());
        assert!(!is_sane(&path, Offset(3)).unwrap());
        assert_eq!(truncate(&path, Offset(0), Offset(6)).unwrap(), 1);
        assert_eq!(read(&path).unwrap(), [txn(1)]);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[1; 5]).unwrap();
        assert!(!is_sane(&path, Offset(0)).unwrap());
        assert_eq!(read(&path).unwrap(), [txn(1)]);
    }

    #[test]
    fn what_a_loss_of_power_left_of_an_entry_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.txnindex");
        let zeros = AbortedTxn {
            producer_id: ProducerId(1),
            first_offset: Offset(0),
            last_offset: Offset(0),
            last_stable_offset: Offset(0),
        };
        for base in [0, 46] {
            append(&path, &zeros).unwrap();
            assert!(!is_sane(&path, Offset(base)).unwrap());
            assert_eq!(truncate(&path, Offset(base), Offset(46)).unwrap(), 0);
            assert_eq!(read(&path).unwrap(), []);
        }
    }
}
