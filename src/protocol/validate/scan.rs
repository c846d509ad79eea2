//! One pass over the records of a batch: the fast one that only sums up, and the slow one that names the culprits.

use std::borrow::Cow;

use super::{MAX_REJECTED_RECORDS, RejectedRecord, TimestampType, ValidateContext, ValidateError};
use crate::base::error::ErrorCode;
use crate::protocol::batch::BatchHeader;

/// The timestamp of a record without one.
pub(super) const NO_TIMESTAMP: i64 = -1;

/// What all records of a batch have in common, gathered in one pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    base_timestamp: i64,
    min_timestamp: i64,
    /// The largest timestamp; -1 if none has one.
    pub max_timestamp: i64,
    null_keys: bool,
    next_delta: i32,
    in_order: bool,
}

impl Summary {
    pub fn new(header: &BatchHeader) -> Self {
        Self {
            base_timestamp: header.base_timestamp,
            min_timestamp: i64::MAX,
            max_timestamp: NO_TIMESTAMP,
            null_keys: false,
            next_delta: 0,
            in_order: true,
        }
    }

    /// Takes in the next record.
    #[inline]
    pub fn add(&mut self, timestamp_delta: i64, offset_delta: i32, has_key: bool) {
        let timestamp = self.base_timestamp.wrapping_add(timestamp_delta);
        self.min_timestamp = self.min_timestamp.min(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.null_keys |= !has_key;
        self.in_order &= offset_delta == self.next_delta;
        self.next_delta = self.next_delta.wrapping_add(1);
    }

    /// Whether every offset delta was one above the last, from 0.
    pub fn offsets_are_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether no record can be at fault, so that they need not be looked at one by one.
    pub fn is_clean(&self, header: &BatchHeader, ctx: &ValidateContext) -> bool {
        let keys = !(ctx.compacted && self.null_keys);
        let timestamps = ctx.timestamp_type == TimestampType::LogAppendTime
            || (timestamp_in_bounds(self.min_timestamp, ctx) && timestamp_in_bounds(self.max_timestamp, ctx));
        keys && timestamps && !header.is_log_append_time()
    }
}

fn timestamp_in_bounds(timestamp: i64, ctx: &ValidateContext) -> bool {
    let age = ctx.now_ms.saturating_sub(timestamp);
    age <= ctx.timestamp_before_max_ms && age.saturating_neg() <= ctx.timestamp_after_max_ms
}

/// Collects the records at fault, and turns them into the batch's error.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rejected: Vec<RejectedRecord>,
    count: usize,
    timestamps: bool,
    next_index: i32,
}

impl Faults {
    /// Checks one record's key and timestamp (Kafka's `LogValidator.validateRecord`); whether it is without fault.
    pub fn check(&mut self, log_append_time: bool, timestamp: i64, has_key: bool, ctx: &ValidateContext) -> bool {
        let index = self.next_index;
        self.next_index = self.next_index.wrapping_add(1);
        if ctx.compacted && !has_key {
            self.push(index, "a compacted topic takes no record without a key");
        } else if ctx.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP {
            if timestamp_in_bounds(timestamp, ctx) {
                return true;
            }
            self.timestamps = true;
            let earliest = ctx.now_ms.saturating_sub(ctx.timestamp_before_max_ms);
            let latest = ctx.now_ms.saturating_add(ctx.timestamp_after_max_ms);
            self.push(index, format!("timestamp {timestamp} lies outside [{earliest}, {latest}]"));
        } else if log_append_time {
            self.timestamps = true;
            self.push(index, "a producer may not set the timestamp type to LogAppendTime");
        } else {
            return true;
        }
        false
    }

    /// Notes that the next record is of another magic than the message around it.
    pub fn wrong_magic(&mut self, inner: i8, outer: i8) {
        let index = self.next_index;
        self.next_index = self.next_index.wrapping_add(1);
        self.push(index, format!("a message of magic {inner} lies in one of magic {outer}"));
    }

    fn push(&mut self, batch_index: i32, message: impl Into<Cow<'static, str>>) {
        self.count += 1;
        if self.rejected.len() < MAX_REJECTED_RECORDS {
            self.rejected.push(RejectedRecord { batch_index, message: message.into() });
        }
    }

    /// The batch's error, if any record was at fault.
    pub fn finish(self) -> Result<(), ValidateError> {
        if self.count == 0 {
            return Ok(());
        }
        let (code, message) = if self.timestamps {
            (ErrorCode::InvalidTimestamp, "one or more records were rejected for their timestamps".into())
        } else {
            (ErrorCode::InvalidRecord, format!("one or more records were rejected: {} in all", self.count).into())
        };
        Err(ValidateError { code, message, rejected: self.rejected })
    }
}
