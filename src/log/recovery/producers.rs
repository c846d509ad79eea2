//! The producers of a log as they are at its end: the newest snapshot that can be read, and the batches behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::base::ids::Offset;
use crate::log::disk::Disk;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_dir::remove;
use crate::log::partition_log::{OpenParams, Writer};
use crate::log::producer_snapshot;
use crate::log::producer_state::{Analysis, OpenTransactions, Origin, ProducerStates};
use crate::log::scan::EntryHeader;
use crate::log::segment::Segment;
use crate::log::txn_index::{self, AbortedTxn};
use crate::protocol::batch::{BatchHeader, HEADER_LEN};

/// Bytes read at once where batches are small.
const CHUNK: usize = 64 << 10;

/// Producers being brought up to date, batch by batch.
pub struct Rebuild {
    states: ProducerStates,
    open: OpenTransactions,
    snapshot: Offset,
    /// Batches that begin below it are in the snapshot or were seen.
    next: Offset,
}

/// The producers at `end`, into `writer`; returns the transactions that are open there.
pub fn rebuild(
    params: &OpenParams,
    writer: &mut Writer,
    segments: &[Arc<Segment>],
    end: Offset,
) -> Result<OpenTransactions, LogError> {
    let mut rebuild = Rebuild::begin(params, writer, end);
    rebuild.replay(segments, end)?;
    let (states, open) = rebuild.finish();
    writer.producers = states;
    Ok(open)
}

impl Rebuild {
    /// Begins with the newest valid snapshot at or below `limit`; damaged ones are removed.
    pub fn begin(params: &OpenParams, writer: &mut Writer, limit: Offset) -> Self {
        let mut rebuild = Self {
            states: ProducerStates::default(),
            open: OpenTransactions::default(),
            snapshot: Offset::ZERO,
            next: Offset::ZERO,
        };
        while let Some(at) = writer.snapshots.iter().rposition(|offset| *offset <= limit) {
            let offset = writer.snapshots[at];
            let path = files::segment_file(&params.dir, offset, files::SNAPSHOT);
            match producer_snapshot::read(&path) {
                Ok(producers) => {
                    for (id, entry) in producers {
                        if let Some(first) = entry.current_txn_first_offset {
                            rebuild.open.start(first, id);
                        }
                        rebuild.states.insert(id, entry);
                    }
                    rebuild.states.remove_expired(params.now_ms, params.producer_expiration_ms);
                    (rebuild.snapshot, rebuild.next) = (offset, offset);
                    break;
                }
                Err(error) => {
                    tracing::error!(partition = %params.tp, "{error}; an older snapshot is taken");
                    remove(&path);
                    writer.snapshots.remove(at);
                }
            }
        }
        rebuild
    }

    /// The offset of the snapshot that was taken; 0 if there was none.
    pub fn snapshot_offset(&self) -> Offset {
        self.snapshot
    }

    /// The producers and open transactions.
    pub fn finish(self) -> (ProducerStates, OpenTransactions) {
        (self.states, self.open)
    }

    /// Takes note of a batch. An aborted transaction goes to the index of `segment`, if that is being rebuilt.
    pub fn batch(&mut self, header: &BatchHeader, records: &[u8], segment: Option<&Segment>) {
        if header.base_offset < self.next {
            return;
        }
        self.next = header.next_offset();
        if !header.has_producer_id() {
            return;
        }
        let mut analysis = Analysis::default();
        if let Err(error) = self.states.analyze(header, records, Origin::Replication, &mut analysis) {
            tracing::warn!("a batch at offset {} does not fit its producer's state: {error}", header.base_offset);
            return;
        }
        for (offset, producer) in &analysis.started {
            self.open.start(*offset, *producer);
        }
        for txn in &analysis.completed {
            let last_stable_offset = self.open.last_stable_offset(txn);
            self.open.complete(txn);
            if let (true, Some(segment)) = (txn.aborted, segment) {
                let entry = AbortedTxn {
                    producer_id: txn.producer_id,
                    first_offset: txn.first_offset,
                    last_offset: txn.last_offset,
                    last_stable_offset,
                };
                let path = segment.path(files::TXN_INDEX);
                segment.set_has_aborted(true);
                if let Err(error) = txn_index::append(&path, &entry) {
                    tracing::error!(path = %path.display(), "could not rebuild the transaction index: {error}");
                }
            }
        }
        self.states.apply(&mut analysis);
    }

    /// Takes note of the batches from the snapshot up to `to`, by their headers.
    pub fn replay(&mut self, segments: &[Arc<Segment>], to: Offset) -> Result<(), LogError> {
        let first = segments.partition_point(|segment| segment.base_offset() <= self.next).saturating_sub(1);
        for segment in &segments[first.min(segments.len())..] {
            if segment.base_offset() >= to || self.next >= to {
                break;
            }
            if segment.size() == 0 {
                continue;
            }
            let path = segment.path(files::LOG);
            let mut walk = || -> io::Result<()> {
                let file = segment.log_file()?;
                let start = segment
                    .locate(self.next, segment.size(), Disk::Wait)?
                    .map_or(segment.size(), |place| place.position);
                self.walk(&file, start, segment.size(), to)?;
                segment.close_files()
            };
            walk().during("read", &path)?;
        }
        Ok(())
    }

    /// Takes note of the batches of `segment` that begin before `position`, which a recovery begins at.
    pub fn skip_to(&mut self, segment: &Segment, file: &File, position: u64) -> io::Result<()> {
        let start = segment.locate(self.next, position, Disk::Wait)?.map_or(position, |place| place.position);
        self.walk(file, start, position, Offset(i64::MAX))
    }

    fn walk(&mut self, file: &File, start: u64, end: u64, to: Offset) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let (mut position, mut wanted) = (start, CHUNK);
        while position < end {
            let len = usize::try_from(end - position).unwrap_or(usize::MAX).min(wanted);
            file.read_exact_at(&mut buffer[..len], position)?;
            let mut at = 0;
            let mut last_size = 0;
            while let Some(header) = EntryHeader::read(&buffer[at.min(len)..len]) {
                if header.base_offset >= to {
                    return Ok(());
                }
                if let Some(batch) = &header.batch {
                    let records = control_records(file, position + at as u64, batch)?;
                    self.batch(batch, &records, None);
                }
                at += header.size;
                last_size = header.size;
            }
            if last_size == 0 {
                return Ok(());
            }
            position += at as u64;
            // Headers only where batches are large; then no record is read.
            wanted = if last_size > CHUNK / 4 { HEADER_LEN } else { CHUNK };
        }
        Ok(())
    }
}

/// The records of a control batch, which is small; nothing for other batches.
fn control_records(file: &File, position: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
    if !header.is_control() {
        return Ok(Vec::new());
    }
    let mut records = vec![0; (header.size - HEADER_LEN).min(CHUNK)];
    file.read_exact_at(&mut records, position + HEADER_LEN as u64)?;
    Ok(records)
}
