//! The `.snapshot` file: the producers of a log as they were at the offset of the file's name. Format of Kafka's
//! `ProducerStateManager`: i16 version (1), u32 CRC-32C of what follows, i32 count, entries of 46 bytes.

use std::fs;
use std::path::Path;

use smallvec::SmallVec;

use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::log::error::{IoContext, LogError};
use crate::log::producer_state::{BatchMetadata, ProducerEntry};
use crate::protocol::batch::{crc32c, field};

const VERSION: i16 = 1;
const HEADER: usize = 6;
const ENTRY: usize = 46;

/// Writes a snapshot. A torn one is found out by its CRC, so it is written in place, without waiting for the disk.
pub fn write<'a>(
    path: &Path,
    producers: impl ExactSizeIterator<Item = (&'a ProducerId, &'a ProducerEntry)>,
) -> Result<(), LogError> {
    fs::write(path, encode(producers)).during("write", path)
}

fn encode<'a>(producers: impl ExactSizeIterator<Item = (&'a ProducerId, &'a ProducerEntry)>) -> Vec<u8> {
    let count = producers.len();
    let mut out = Vec::with_capacity(HEADER + 4 + count * ENTRY);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
    for (id, entry) in producers {
        let none = BatchMetadata { last_sequence: -1, last_offset: Offset(-1), offset_delta: 0, timestamp: -1 };
        let last = entry.batches.last().unwrap_or(&none);
        out.extend_from_slice(&id.get().to_be_bytes());
        out.extend_from_slice(&entry.epoch.get().to_be_bytes());
        out.extend_from_slice(&last.last_sequence.to_be_bytes());
        out.extend_from_slice(&last.last_offset.get().to_be_bytes());
        out.extend_from_slice(&last.offset_delta.to_be_bytes());
        out.extend_from_slice(&entry.last_timestamp.to_be_bytes());
        out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&entry.current_txn_first_offset.unwrap_or(Offset(-1)).get().to_be_bytes());
    }
    let crc = crc32c(&out[HEADER..]);
    out[2..HEADER].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Reads a snapshot.
///
/// # Errors
/// [`LogError::Corrupt`] where version, CRC or length are wrong: an older snapshot will do then.
pub fn read(path: &Path) -> Result<Vec<(ProducerId, ProducerEntry)>, LogError> {
    let bytes = fs::read(path).during("read", path)?;
    decode(&bytes).map_err(|message| LogError::corrupt(path, message))
}

fn decode(bytes: &[u8]) -> Result<Vec<(ProducerId, ProducerEntry)>, String> {
    if bytes.len() < HEADER + 4 {
        return Err(format!("a snapshot of {} bytes is too short", bytes.len()));
    }
    let version = i16::from_be_bytes(field(bytes, 0));
    if version != VERSION {
        return Err(format!("a snapshot of version {version}, expected {VERSION}"));
    }
    if u32::from_be_bytes(field(bytes, 2)) != crc32c(&bytes[HEADER..]) {
        return Err("the snapshot's CRC is wrong".to_owned());
    }
    let count = usize::try_from(i32::from_be_bytes(field(bytes, HEADER))).unwrap_or(usize::MAX);
    let entries = &bytes[HEADER + 4..];
    if Some(entries.len()) != count.checked_mul(ENTRY) {
        return Err(format!("a snapshot of {count} producers has {} bytes of them", entries.len()));
    }
    Ok(entries.chunks_exact(ENTRY).map(decode_entry).collect())
}

fn decode_entry(b: &[u8]) -> (ProducerId, ProducerEntry) {
    let last_offset = Offset(i64::from_be_bytes(field(b, 14)));
    let last_timestamp = i64::from_be_bytes(field(b, 26));
    let mut batches = SmallVec::new();
    if last_offset >= Offset::ZERO {
        batches.push(BatchMetadata {
            last_sequence: i32::from_be_bytes(field(b, 10)),
            last_offset,
            offset_delta: i32::from_be_bytes(field(b, 22)),
            timestamp: last_timestamp,
        });
    }
    let txn_first = Offset(i64::from_be_bytes(field(b, 38)));
    let entry = ProducerEntry {
        epoch: ProducerEpoch(i16::from_be_bytes(field(b, 8))),
        coordinator_epoch: i32::from_be_bytes(field(b, 34)),
        last_timestamp,
        current_txn_first_offset: (txn_first >= Offset::ZERO).then_some(txn_first),
        batches,
    };
    (ProducerId(i64::from_be_bytes(field(b, 0))), entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_read_back_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000009.snapshot");
        let batch = BatchMetadata { last_sequence: 4, last_offset: Offset(8), offset_delta: 2, timestamp: 99 };
        let entry = ProducerEntry {
            epoch: ProducerEpoch(3),
            coordinator_epoch: 5,
            last_timestamp: 99,
            current_txn_first_offset: Some(Offset(6)),
            batches: SmallVec::from_slice(&[batch]),
        };
        let producers = [(ProducerId(1), entry)];
        write(&path, producers.iter().map(|(id, entry)| (id, entry))).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 6 + 4 + 46);
        assert_eq!(read(&path).unwrap(), producers);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            fs::write(&path, &bytes[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
        }
    }
}
