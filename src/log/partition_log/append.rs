//! Appending: check, roll, write, index, publish.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

use super::{PartitionLog, Writer};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::log::disk::write_pieces_at;
use crate::log::error::LogError;
use crate::log::files;
use crate::log::log_config::LogConfig;
use crate::log::producer_state::{Analysis, BatchMetadata, Origin, ProducerEntry, Rules};
use crate::log::segment::{Segment, TimestampOffset};
use crate::log::tail::Place;
use crate::log::txn_index::{self, AbortedTxn};
use crate::log::verification::VerificationGuard;
use crate::protocol::batch::HEADER_LEN;
use crate::protocol::validate::{
    AppendOrigin, DEFAULT_MAX_DECOMPRESSED_BYTES, ValidateContext, ValidateError, Validated, ValidatedBatch,
    validate_and_assign, validate_replicated,
};

/// Why an append was refused.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The records themselves are not acceptable; says which (KIP-467).
    #[error(transparent)]
    Invalid(#[from] ValidateError),
    /// The log's state or disk does not allow it.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl AppendError {
    /// The code a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(error) => error.code,
            Self::Log(error) => error.code(),
        }
    }
}

/// What an append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendInfo {
    /// The first record's offset.
    pub first_offset: Offset,
    /// The last record's offset; one below the first if nothing was appended.
    pub last_offset: Offset,
    /// The broker's time, if the topic keeps that instead of the producer's.
    pub log_append_time: Option<i64>,
    /// The largest timestamp, or -1.
    pub max_timestamp: i64,
    /// The log start offset at that time.
    pub log_start_offset: Offset,
    /// How many records were appended.
    pub record_count: i64,
    /// How many bytes were appended.
    pub size: usize,
    /// Whether the batch was there already, at these offsets (idempotent producers).
    pub duplicate: bool,
}

impl PartitionLog {
    /// The guard under which the coordinator is to be asked whether the producer may begin a transaction here (KIP-890);
    /// `None` if one is open. `sequence` is that of its first record.
    pub fn begin_verification(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
        now_ms: i64,
    ) -> Option<VerificationGuard> {
        self.writer.lock().producers.begin_verification(producer, epoch, sequence, now_ms)
    }

    /// What is known of each producer, by its id.
    pub fn active_producers(&self) -> Vec<(ProducerId, ProducerEntry)> {
        let writer = self.writer.lock();
        let mut known: Vec<_> = writer.producers.producers().iter().map(|(id, entry)| (*id, entry.clone())).collect();
        known.sort_unstable_by_key(|(id, _)| *id);
        known
    }

    /// Appends what a producer or a coordinator sent: gives offsets, checks the producer's sequence and, where `rules` ask
    /// for it, its transaction, writes to the page cache. `now_ms` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then. A failure of the disk takes the log dir offline.
    pub fn append_as_leader(
        &self,
        records: Bytes,
        leader_epoch: LeaderEpoch,
        rules: impl Into<Rules>,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        let rules: Rules = rules.into();
        let config = self.config();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let context = ValidateContext {
            now_ms,
            next_offset: self.log_end_offset(),
            leader_epoch,
            origin: if rules.origin == Origin::Client { AppendOrigin::Client } else { AppendOrigin::Coordinator },
            magic: 2,
            timestamp_type: config.timestamp_type,
            timestamp_before_max_ms: config.timestamp_before_max_ms,
            timestamp_after_max_ms: config.timestamp_after_max_ms,
            compression: config.compression,
            compacted: config.compact,
            max_message_bytes: usize::try_from(config.max_message_bytes).unwrap_or(0),
            max_segment_bytes: usize::try_from(config.segment_bytes).unwrap_or(0),
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
        };
        let validated = validate_and_assign(records, &context)?;
        let info = self.append(&mut writer, &validated, rules, &config, now_ms)?;
        drop(writer);
        self.flush_if_many(&config)?;
        Ok(info)
    }

    /// Appends what the leader sent, with the offsets and epochs it has.
    ///
    /// # Errors
    /// [`AppendError`]: corrupt or out of order records, or a failure of the disk.
    pub fn append_as_follower(&self, records: Bytes, now_ms: i64) -> Result<AppendInfo, AppendError> {
        let config = self.config();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let validated = validate_replicated(&records)?;
        let end = self.log_end_offset();
        if !validated.batches.is_empty() && validated.first_offset < end {
            // A compressed wrapper of magic 0 or 1 may begin below; its last offset decides.
            let first_last = validated.batches[0].header.last_offset();
            if first_last < end {
                let message =
                    format!("{} got offset {} from its leader, but ends at {end}", self.tp, validated.first_offset);
                return Err(LogError::refused(ErrorCode::UnknownServerError, message).into());
            }
        }
        let info = self.append(&mut writer, &validated, Origin::Replication.into(), &config, now_ms)?;
        drop(writer);
        self.flush_if_many(&config)?;
        Ok(info)
    }

    fn append(
        &self,
        writer: &mut Writer,
        validated: &Validated,
        rules: Rules,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<AppendInfo, LogError> {
        let log_start_offset = self.log_start_offset();
        if validated.batches.is_empty() {
            return Ok(info(validated, log_start_offset));
        }
        let mut analysis = Analysis::default();
        for batch in &validated.batches {
            writer.producers.analyze(&batch.header, records_of(batch), rules, &mut analysis)?;
            if let Some(duplicate) = analysis.duplicate {
                return Ok(duplicate_info(validated, &duplicate, log_start_offset));
            }
        }
        let segment = self.maybe_roll(writer, validated, config, now_ms)?;
        let position = segment.size();
        self.write(&segment, position, &validated.batches)?;
        self.log_dir.watch(
            index(writer, &segment, position, validated, config)
                .map_err(|error| LogError::storage("write an index entry of", &segment.path(files::LOG), error)),
        )?;
        self.note_transactions(&segment, &analysis, writer)?;
        writer.producers.apply(&mut analysis);
        writer.last_append_ms = now_ms;
        writer.appended = true;
        self.publish(&segment, position, validated);
        Ok(info(validated, log_start_offset))
    }

    /// Writes the batches at `position`. A write that fails is taken back, so that no half batch stays behind.
    fn write(&self, segment: &Segment, position: u64, batches: &[ValidatedBatch]) -> Result<(), LogError> {
        let result = segment.log_file().and_then(|file| {
            write_batches(&file, position, batches).inspect_err(|_| {
                if let Err(error) = file.set_len(position) {
                    tracing::error!(partition = %self.tp, position, "a failed append could not be cut off: {error}");
                }
            })
        });
        self.log_dir.watch(result.map_err(|e| LogError::storage("append to", &segment.path(files::LOG), e)))
    }

    /// Notes which transactions begin and end, and writes the aborted ones to the transaction index. The log end still
    /// lies before them, so no reader can be ahead of the index.
    fn note_transactions(&self, segment: &Segment, analysis: &Analysis, writer: &mut Writer) -> Result<(), LogError> {
        if analysis.started.is_empty() && analysis.completed.is_empty() {
            return Ok(());
        }
        let mut aborted: SmallVec<[AbortedTxn; 1]> = SmallVec::new();
        {
            let mut shared = self.shared.lock();
            for (offset, producer) in &analysis.started {
                shared.open_transactions.start(*offset, *producer);
            }
            for txn in &analysis.completed {
                if txn.aborted {
                    aborted.push(AbortedTxn {
                        producer_id: txn.producer_id,
                        first_offset: txn.first_offset,
                        last_offset: txn.last_offset,
                        last_stable_offset: shared.open_transactions.last_stable_offset(txn),
                    });
                }
                shared.open_transactions.complete(txn);
            }
        }
        if aborted.is_empty() {
            return Ok(());
        }
        let path = segment.path(files::TXN_INDEX);
        let result = aborted.iter().try_for_each(|txn| txn_index::append(&path, txn));
        // The file may be new.
        writer.dir_dirty |= !segment.has_aborted();
        segment.set_has_aborted(true);
        self.log_dir.watch(result.map_err(|e| LogError::storage("append to", &path, e)))
    }

    fn publish(&self, segment: &Arc<Segment>, mut position: u64, validated: &Validated) {
        let mut shared = self.shared.lock();
        for batch in &validated.batches {
            let header = &batch.header;
            if header.magic == 2 {
                shared.epochs.assign(header.leader_epoch, header.base_offset);
            } else {
                shared.epochs.clear();
            }
            let size = u32::try_from(batch.size()).unwrap_or(u32::MAX);
            let (base_offset, last_offset) = (header.base_offset, header.last_offset());
            shared.tail.push(Place { base_offset, last_offset, position, size });
            position += u64::from(size);
        }
        segment.set_size(position);
        shared.log_end = validated.last_offset.next();
    }
}

/// What follows the header of a batch that has one.
fn records_of(batch: &ValidatedBatch) -> &[u8] {
    if batch.head().is_empty() { batch.body.get(HEADER_LEN..).unwrap_or_default() } else { &batch.body }
}

fn info(validated: &Validated, log_start_offset: Offset) -> AppendInfo {
    AppendInfo {
        first_offset: validated.first_offset,
        last_offset: validated.last_offset,
        log_append_time: validated.log_append_time,
        max_timestamp: validated.max_timestamp,
        log_start_offset,
        record_count: validated.record_count,
        size: validated.size,
        duplicate: false,
    }
}

fn duplicate_info(validated: &Validated, duplicate: &BatchMetadata, log_start_offset: Offset) -> AppendInfo {
    AppendInfo {
        first_offset: duplicate.first_offset(),
        last_offset: duplicate.last_offset,
        log_append_time: validated.log_append_time.map(|_| duplicate.timestamp),
        max_timestamp: duplicate.timestamp,
        log_start_offset,
        record_count: i64::from(duplicate.offset_delta) + 1,
        size: 0,
        duplicate: true,
    }
}

/// Adds index entries for what was written at `position`, one for each `index.interval.bytes`.
fn index(
    writer: &mut Writer,
    segment: &Segment,
    mut position: u64,
    validated: &Validated,
    config: &LogConfig,
) -> io::Result<()> {
    let interval = u64::try_from(config.index_interval_bytes).unwrap_or(0);
    let mut max = segment.max_timestamp()?;
    for batch in &validated.batches {
        let header = &batch.header;
        if position == 0 {
            writer.rolling_timestamp = Some(header.max_timestamp);
        }
        if header.max_timestamp > max.timestamp {
            max = TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset() };
            segment.set_max_timestamp(Some(max));
        }
        if writer.bytes_since_index > interval {
            segment.push_index(header.last_offset(), position, max)?;
            writer.bytes_since_index = 0;
        }
        writer.bytes_since_index += batch.size() as u64;
        position += batch.size() as u64;
    }
    Ok(())
}

fn write_batches(file: &File, position: u64, batches: &[ValidatedBatch]) -> io::Result<()> {
    let mut pieces: SmallVec<[IoSlice<'_>; 8]> = SmallVec::with_capacity(batches.len() * 2);
    for batch in batches {
        if !batch.head().is_empty() {
            pieces.push(IoSlice::new(batch.head()));
        }
        pieces.push(IoSlice::new(&batch.body));
    }
    write_pieces_at(file, position, &mut pieces)
}
