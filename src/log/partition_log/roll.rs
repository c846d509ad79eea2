//! When a new segment begins, and beginning it (`LogSegment.shouldRoll`, `UnifiedLog.roll`).

use std::sync::Arc;

use super::{PartitionLog, Writer};
use crate::base::ids::Offset;
use crate::log::disk::Disk;
use crate::log::error::{IoContext, LogError};
use crate::log::files;
use crate::log::log_config::LogConfig;
use crate::log::log_dir::remove;
use crate::log::producer_snapshot;
use crate::log::scan;
use crate::log::segment::Segment;
use crate::protocol::validate::Validated;

impl PartitionLog {
    /// The segment that takes `validated`: the active one, or a new one if that is full or old.
    pub(super) fn maybe_roll(
        &self,
        writer: &mut Writer,
        validated: &Validated,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Segment>, LogError> {
        let active = self.shared.lock().active().clone();
        let fits = active.relative(validated.last_offset).is_some();
        let full = active.size() + validated.size as u64 > u64::try_from(config.segment_bytes).unwrap_or(0);
        let path = || active.path(files::LOG);
        let roll = !fits
            || active.size() > 0
                && (full
                    || self.waited_too_long(writer, &active, validated.max_timestamp, config, now_ms)?
                    || self.log_dir.watch(
                        active.index_is_full(config.segment_index_bytes).during("read the indexes of", &path()),
                    )?);
        if !roll {
            return Ok(active);
        }
        // Offsets may have gaps; the new base must leave the whole append within reach of 32 bits.
        let base = validated.last_offset.plus(-i64::from(i32::MAX)).max(self.log_end_offset());
        self.roll_at(writer, base, config, now_ms)
    }

    /// Whether `segment.ms` has passed since the first batch, by the messages' time where they have one.
    fn waited_too_long(
        &self,
        writer: &mut Writer,
        active: &Segment,
        max_timestamp: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        if writer.rolling_timestamp.is_none() {
            let first = active.log_file().and_then(|file| scan::header_at(&file, 0, active.size(), Disk::Wait));
            let first = self.log_dir.watch(first.during("read", &active.path(files::LOG)))?;
            writer.rolling_timestamp = first.map(|header| header.max_timestamp);
        }
        let waited = match writer.rolling_timestamp {
            Some(first) if first >= 0 => max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(active.created_ms()),
        };
        Ok(waited > most_segment_ms(config) - writer.roll_jitter_ms)
    }

    /// Begins a new segment at the log end.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn roll(&self, now_ms: i64) -> Result<(), LogError> {
        let config = self.config();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let end = self.log_end_offset();
        self.roll_at(&mut writer, end, &config, now_ms).map(drop)
    }

    pub(super) fn roll_at(
        &self,
        writer: &mut Writer,
        base: Offset,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Segment>, LogError> {
        let active = self.shared.lock().active().clone();
        if active.base_offset() == base {
            return Ok(active);
        }
        let started = std::time::Instant::now();
        let log_path = active.path(files::LOG);
        self.log_dir.watch(active.become_inactive().during("close the indexes of", &log_path))?;
        self.take_snapshot(writer, base)?;
        let segment = Arc::new(self.create_segment(base, config, now_ms)?);
        writer.dir_dirty = true;
        writer.bytes_since_index = 0;
        writer.rolling_timestamp = None;
        writer.roll_jitter_ms = jitter(config);
        let mut shared = self.shared.lock();
        shared.segments.push(segment.clone());
        shared.tail.clear();
        drop(shared);
        tracing::info!(partition = %self.tp, "rolled a new segment at offset {base} in {:?}", started.elapsed());
        Ok(segment)
    }

    /// Creates an empty segment in the folder.
    pub(super) fn create_segment(&self, base: Offset, config: &LogConfig, now_ms: i64) -> Result<Segment, LogError> {
        let path = files::segment_file(&self.dir, base, files::LOG);
        let segment = self.log_dir.watch(Segment::create(self.dir.clone(), base, now_ms).during("create", &path))?;
        if config.preallocate {
            self.log_dir.watch(segment.preallocate(config.segment_bytes).during("preallocate", &path))?;
        }
        Ok(segment)
    }

    /// Writes the producers as they are at `offset`, which is the log end, to a snapshot file.
    pub(super) fn take_snapshot(&self, writer: &mut Writer, offset: Offset) -> Result<(), LogError> {
        if writer.snapshots.last() == Some(&offset) {
            return Ok(());
        }
        let path = files::segment_file(&self.dir, offset, files::SNAPSHOT);
        self.log_dir.watch(producer_snapshot::write(&path, writer.producers.producers().iter()))?;
        // Snapshots at segments' base offsets stay; of the others only the newest is of use.
        if let Some(before) = writer.snapshots.last().copied() {
            let is_base = self.shared.lock().segments.iter().any(|segment| segment.base_offset() == before);
            if !is_base {
                writer.snapshots.pop();
                remove(&files::segment_file(&self.dir, before, files::SNAPSHOT));
            }
        }
        writer.snapshots.push(offset);
        Ok(())
    }
}

/// `segment.ms`; where compaction must come sooner (`max.compaction.lag.ms`), the active segment, which is never compacted,
/// must not last longer than that (KIP-354).
fn most_segment_ms(config: &LogConfig) -> i64 {
    match config.compact {
        true if config.max_compaction_lag_ms > 0 => config.segment_ms.min(config.max_compaction_lag_ms),
        _ => config.segment_ms,
    }
}

/// A random part of `segment.jitter.ms`, so that segments of many partitions do not roll at once.
pub(in crate::log) fn jitter(config: &LogConfig) -> i64 {
    let most = config.segment_jitter_ms.min(most_segment_ms(config));
    if most <= 0 { 0 } else { rand::random_range(0..most) }
}
