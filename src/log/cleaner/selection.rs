//! Which log is to be cleaned, and how far (`LogCleanerManager`): decisions over plain data.
//!
//! ```text
//!   log start     first dirty     first uncleanable      active segment      log end
//!   |-- clean ----|-- cleanable --|-- not yet -----------|-------------------|
//! ```
//!
//! What was compacted before ends at the first dirty offset, which the checkpoint holds. What may be compacted ends where a
//! transaction is open, the high watermark stands, a segment is too young, or the active segment begins.

use crate::base::ids::Offset;

/// A segment as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its base offset.
    pub base: Offset,
    /// Bytes of its `.log`.
    pub size: u64,
    /// The largest timestamp in it. Looked up for dirty segments of topics with `min.compaction.lag.ms` only.
    pub largest_timestamp: Option<i64>,
    /// The timestamp of its first batch. Looked up for dirty segments of topics with `max.compaction.lag.ms` only.
    pub first_timestamp: Option<i64>,
}

/// What a topic asks of the cleaner.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
}

/// A log at one moment.
#[derive(Debug, Clone)]
pub struct LogFacts {
    /// Up to where it was cleaned, by the checkpoint.
    pub checkpoint: Option<Offset>,
    /// Its first offset.
    pub log_start: Offset,
    /// Its end.
    pub log_end: Offset,
    /// The last stable offset, which is not above the high watermark.
    pub last_stable: Offset,
    /// Its segments in order; the last one is active.
    pub segments: Vec<SegmentFacts>,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// What there is to clean in a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Where the dirty part begins.
    pub first_dirty: Offset,
    /// Where it ends as far as it may be cleaned now: the base of a segment.
    pub first_uncleanable: Offset,
    /// Bytes of the segments before the dirty part.
    pub clean_bytes: u64,
    /// Bytes of the segments in the dirty part.
    pub cleanable_bytes: u64,
    /// Whether it holds a record that `max.compaction.lag.ms` wants compacted.
    pub is_overdue: bool,
    /// Whether the checkpoint lies outside of the log and was not taken.
    pub checkpoint_is_wrong: bool,
}

impl Cleanable {
    /// The share of the log that is dirty.
    #[allow(clippy::cast_precision_loss)]
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.cleanable_bytes;
        if all == 0 { 0.0 } else { self.cleanable_bytes as f64 / all as f64 }
    }

    /// Whether it is to be cleaned now.
    pub fn is_due(&self, wishes: &Wishes) -> bool {
        self.cleanable_bytes > 0 && (self.is_overdue || self.ratio() > wishes.min_cleanable_ratio)
    }
}

/// Where the dirty part begins: at the checkpoint, or at the log start where that has passed it or the checkpoint is of
/// another log. Also tells whether it is.
pub fn first_dirty(checkpoint: Option<Offset>, log_start: Offset, log_end: Offset) -> (Offset, bool) {
    match checkpoint {
        None => (log_start, false),
        Some(at) if at < log_start || at > log_end => (log_start, true),
        Some(at) => (at, false),
    }
}

/// What there is to clean.
pub fn assess(facts: &LogFacts, wishes: &Wishes) -> Cleanable {
    let (first_dirty, checkpoint_is_wrong) = first_dirty(facts.checkpoint, facts.log_start, facts.log_end);
    let Some((active, rolled)) = facts.segments.split_last() else {
        return nothing(first_dirty, checkpoint_is_wrong);
    };
    let from = facts.segments.partition_point(|segment| segment.base <= first_dirty).saturating_sub(1);
    let dirty = &rolled[from..];
    let too_young = |segment: &&SegmentFacts| {
        let largest = segment.largest_timestamp.unwrap_or(i64::MIN);
        wishes.min_lag_ms > 0 && largest > facts.now_ms.saturating_sub(wishes.min_lag_ms)
    };
    let young = dirty.iter().find(too_young).map_or(active.base, |segment| segment.base);
    let bound = facts.last_stable.min(young).min(active.base).max(first_dirty);
    // Whole segments only: the one that the bound falls into is not touched.
    let first_uncleanable = facts.segments.iter().rev().map(|segment| segment.base).find(|base| *base <= bound);
    let first_uncleanable = first_uncleanable.unwrap_or(first_dirty);
    let in_reach = dirty.iter().filter(|segment| segment.base < first_uncleanable);
    let is_overdue = in_reach.clone().any(|segment| is_overdue(segment, wishes, facts.now_ms));
    Cleanable {
        first_dirty,
        first_uncleanable,
        clean_bytes: rolled.iter().filter(|segment| segment.base < first_dirty).map(|segment| segment.size).sum(),
        cleanable_bytes: in_reach.map(|segment| segment.size).sum(),
        is_overdue,
        checkpoint_is_wrong,
    }
}

fn is_overdue(segment: &SegmentFacts, wishes: &Wishes, now_ms: i64) -> bool {
    let oldest = now_ms.saturating_sub(wishes.max_lag_ms.max(0));
    segment.first_timestamp.is_some_and(|first| first > 0 && first < oldest)
}

fn nothing(first_dirty: Offset, checkpoint_is_wrong: bool) -> Cleanable {
    Cleanable {
        first_dirty,
        first_uncleanable: first_dirty,
        clean_bytes: 0,
        cleanable_bytes: 0,
        is_overdue: false,
        checkpoint_is_wrong,
    }
}

/// The sizes of a segment that bound what may be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Its base offset.
    pub base: Offset,
    /// Bytes of its `.log`.
    pub log: u64,
    /// Bytes of its `.index`.
    pub offsets: u64,
    /// Bytes of its `.timeindex`.
    pub times: u64,
}

/// How many segments go into each new one: together they may have `segment_bytes`, indexes of `index_bytes`, and offsets
/// that 32 bits tell apart. `end` is the offset behind the last one.
pub fn group(segments: &[Sizes], segment_bytes: u64, index_bytes: u64, end: Offset) -> Vec<usize> {
    let mut groups = Vec::new();
    let mut at = 0;
    while at < segments.len() {
        let first = segments[at];
        let (mut log, mut offsets, mut times, mut count) = (first.log, first.offsets, first.times, 1);
        while let Some(next) = segments.get(at + count) {
            let last = segments.get(at + count + 1).map_or(end, |behind| behind.base).plus(-1);
            let fits = log + next.log <= segment_bytes
                && offsets + next.offsets <= index_bytes
                && times + next.times <= index_bytes
                && last.since(first.base) <= i64::from(i32::MAX);
            if !fits {
                break;
            }
            (log, offsets, times, count) = (log + next.log, offsets + next.offsets, times + next.times, count + 1);
        }
        groups.push(count);
        at += count;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes = Wishes { min_cleanable_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX };

    /// Segments of ten offsets and 100 bytes each, the last one active and of five.
    fn facts(segments: i64) -> LogFacts {
        let segment = |n| SegmentFacts {
            base: Offset(n * 10),
            size: 100,
            largest_timestamp: Some(n * 1000 + 500),
            first_timestamp: Some(n * 1000 + 1),
        };
        let end = Offset(segments * 10 - 5);
        LogFacts {
            checkpoint: None,
            log_start: Offset(0),
            log_end: end,
            last_stable: end,
            segments: (0..segments).map(segment).collect(),
            now_ms: 10_000,
        }
    }

    fn range(facts: &LogFacts, wishes: &Wishes) -> (i64, i64) {
        let found = assess(facts, wishes);
        (found.first_dirty.get(), found.first_uncleanable.get())
    }

    #[test]
    fn a_log_is_due_once_enough_of_it_is_dirty() {
        let found = assess(&facts(4), &WISHES);
        assert_eq!((found.clean_bytes, found.cleanable_bytes, found.ratio()), (0, 300, 1.0));
        assert!(found.is_due(&WISHES));
        let half = assess(&LogFacts { checkpoint: Some(Offset(20)), ..facts(5) }, &WISHES);
        assert_eq!((half.clean_bytes, half.cleanable_bytes, half.ratio()), (200, 200, 0.5));
        assert!(!half.is_due(&WISHES) && half.is_due(&Wishes { min_cleanable_ratio: 0.49, ..WISHES }));
        let clean = assess(&LogFacts { checkpoint: Some(Offset(40)), ..facts(5) }, &WISHES);
        assert!(clean.cleanable_bytes == 0 && !clean.is_due(&Wishes { min_cleanable_ratio: 0.0, ..WISHES }));
        assert!(!assess(&facts(1), &WISHES).is_due(&WISHES), "the active segment is never cleaned");
    }

    #[test]
    fn only_what_is_decided_is_cleaned() {
        assert_eq!(range(&facts(4), &WISHES), (0, 30));
        assert_eq!(range(&LogFacts { last_stable: Offset(25), ..facts(4) }, &WISHES), (0, 20));
        assert_eq!(range(&LogFacts { last_stable: Offset(20), ..facts(4) }, &WISHES), (0, 20));
        assert_eq!(range(&LogFacts { last_stable: Offset(5), ..facts(4) }, &WISHES), (0, 0));
        let open = LogFacts { last_stable: Offset(5), checkpoint: Some(Offset(20)), ..facts(4) };
        assert_eq!(assess(&open, &WISHES).cleanable_bytes, 0, "cleaned before the high watermark fell");
    }

    #[test]
    fn young_segments_wait() {
        // Of the segments that were written to at 500, 1,500 and 2,500 the last two are younger than 9 seconds.
        assert_eq!(range(&facts(4), &Wishes { min_lag_ms: 9_000, ..WISHES }), (0, 10));
        assert_eq!(range(&facts(4), &Wishes { min_lag_ms: 9_600, ..WISHES }), (0, 0));
        assert_eq!(range(&facts(4), &Wishes { min_lag_ms: 7_000, ..WISHES }), (0, 30));
    }

    #[test]
    fn old_records_force_a_cleaning() {
        let little = LogFacts { checkpoint: Some(Offset(30)), ..facts(5) };
        assert!(!assess(&little, &WISHES).is_due(&WISHES));
        let lag = |ms| Wishes { max_lag_ms: ms, ..WISHES };
        assert!(assess(&little, &lag(6_000)).is_due(&lag(6_000)), "3,001 is older than 4,000");
        assert!(!assess(&little, &lag(7_000)).is_due(&lag(7_000)));
        let open = LogFacts { last_stable: Offset(30), ..little };
        assert!(!assess(&open, &lag(6_000)).is_due(&lag(6_000)), "what may not be cleaned forces nothing");
    }

    #[test]
    fn a_checkpoint_outside_of_the_log_is_not_taken() {
        for (checkpoint, log_start, dirty, wrong) in
            [(None, 5, 5, false), (Some(3), 5, 5, true), (Some(36), 5, 5, true), (Some(35), 5, 35, false)]
        {
            let facts = LogFacts { checkpoint: checkpoint.map(Offset), log_start: Offset(log_start), ..facts(4) };
            let found = assess(&facts, &WISHES);
            assert_eq!((found.first_dirty.get(), found.checkpoint_is_wrong), (dirty, wrong), "{checkpoint:?}");
        }
    }

    #[test]
    fn segments_are_merged_up_to_the_limits() {
        let sizes = |base, log, index| Sizes { base: Offset(base), log, offsets: index, times: index };
        let segments = [sizes(0, 50, 5), sizes(10, 40, 5), sizes(20, 20, 5), sizes(30, 200, 5), sizes(40, 0, 5)];
        assert_eq!(group(&segments, 100, 100, Offset(50)), [2, 1, 1, 1]);
        assert_eq!(group(&segments, 1000, 100, Offset(50)), [5]);
        assert_eq!(group(&segments, 1000, 10, Offset(50)), [2, 2, 1]);
        let far = [sizes(0, 1, 1), sizes(1 << 30, 1, 1), sizes(1 << 31, 1, 1)];
        assert_eq!(group(&far, 1000, 100, Offset((1 << 31) + 1)), [2, 1]);
        assert_eq!(group(&[], 1, 1, Offset(0)), Vec::<usize>::new());
    }
}
