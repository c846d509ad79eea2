//! What must hold after a crash, and tearing what was not flushed as if the power had failed.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use barnabas::base::ids::{LeaderEpoch, Offset};
use barnabas::log::partition_log::{LogRead, PartitionLog, ReadUpTo};
use barnabas::protocol::batch;
use barnabas::protocol::records::records;
use rand::Rng;
use rand::rngs::StdRng;

use super::{PARTITIONS, Said, value};

pub fn bytes_of(read: &LogRead) -> Vec<u8> {
    let Some(data) = &read.data else { return Vec::new() };
    let mut bytes = vec![0; data.len];
    data.file.read_exact_at(&mut bytes, data.position).expect("the slice is in the file");
    bytes
}

/// Everything from the log start to the log end is there, whole and right, and reaches as far as was said.
pub fn whole(round: u64, log: &PartitionLog, p: i32, said: Said, power_fails: bool) {
    let end = log.log_end_offset().get();
    let least = if power_fails { said.flushed } else { said.appended };
    assert!(end >= least, "round {round}: partition {p} ends at {end}, but {said:?} was said");
    let mut next = log.log_start_offset().get();
    while next < end {
        let read = log.read(Offset(next), 1 << 20, true, ReadUpTo::LogEnd).expect("a read");
        let bytes = bytes_of(&read);
        let before = next;
        for entry in batch::entries(&bytes) {
            let (header, entry) = entry.expect("a batch");
            assert!(batch::entry_is_valid(entry), "round {round}: partition {p} has a damaged batch at {next}");
            assert_eq!(header.leader_epoch, LeaderEpoch(7));
            for record in records(&entry[batch::HEADER_LEN..], header.record_count) {
                let record = record.expect("a record");
                let offset = header.base_offset.get() + i64::from(record.offset_delta);
                assert_eq!(record.value, Some(value(p, offset).as_slice()), "round {round}: partition {p} at {offset}");
                next = next.max(offset + 1);
            }
        }
        assert!(next > before, "round {round}: partition {p} has nothing at {before}, but ends at {end}");
    }
    assert_eq!(next, end);
    lookups(log);
}

/// Offsets and times lead to the batches that hold them.
fn lookups(log: &PartitionLog) {
    let (start, end) = (log.log_start_offset().get(), log.log_end_offset().get());
    let step = usize::try_from((end - start) / 20 + 1).unwrap_or(1);
    for offset in (start..end).step_by(step) {
        let read = log.read(Offset(offset), 1, true, ReadUpTo::LogEnd).expect("a read");
        let header = batch::BatchHeader::read(&bytes_of(&read)).expect("a batch");
        assert!(header.base_offset <= Offset(offset) && Offset(offset) <= header.last_offset());
        // A record's timestamp is its offset.
        let found = log.offset_for_timestamp(offset).expect("a look-up").expect("there is such a record");
        assert_eq!((found.offset, found.timestamp), (Offset(offset), offset));
    }
}

/// Cuts every active segment somewhere behind what was said to be flushed, and puts other bytes there.
pub fn tear(dir: &Path, random: &mut StdRng, said: &BTreeMap<i32, Said>) {
    for p in 0..PARTITIONS {
        let folder = dir.join(format!("t-{p}"));
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let logs = entries.map(|entry| entry.expect("an entry").path());
        let Some(last) = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).max() else { continue };
        let bytes = fs::read(&last).expect("a segment");
        let flushed = said.get(&p).map_or(0, |said| said.flushed);
        let sure: usize = batch::entries(&bytes)
            .map_while(Result::ok)
            .take_while(|(header, _)| header.base_offset.get() < flushed)
            .map(|(_, entry)| entry.len())
            .sum();
        let size = random.random_range(sure..=bytes.len());
        let file = OpenOptions::new().write(true).open(&last).expect("a segment");
        file.set_len(size as u64).expect("a cut");
        let garbage: Vec<u8> = (0..random.random_range(0..200)).map(|_| random.random()).collect();
        file.write_all_at(&garbage, size as u64).expect("garbage");
    }
}
