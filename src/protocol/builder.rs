//! Writes a magic-2 batch record by record: for conversion and recompression, and for the records that the coordinators
//! write themselves.

use bytes::Bytes;

use super::batch::{
    self, BatchHeader, CONTROL_MASK, DELETE_HORIZON_MASK, HEADER_LEN, TIMESTAMP_TYPE_MASK, TRANSACTIONAL_MASK,
};
use super::compress::{self, Codec, CompressError, Compression};
use super::records::{Header, Headers, Record};
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// What a batch has beside its records.
#[derive(Debug, Clone, Copy)]
pub struct BatchSpec {
    /// The offset that deltas count from.
    pub base_offset: Offset,
    /// The leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// How to compress the records.
    pub compression: Compression,
    /// The broker's time, for a topic that keeps that.
    pub log_append_time: Option<i64>,
    /// The idempotent producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number.
    pub base_sequence: i32,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Whether it is a control batch.
    pub control: bool,
    /// The delete horizon (KIP-534), which stands in the place of the base timestamp.
    pub delete_horizon: Option<i64>,
}

impl Default for BatchSpec {
    /// An uncompressed batch at offset 0 of no producer, as clients send it.
    fn default() -> Self {
        Self {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch::NONE,
            compression: Compression::default(),
            log_append_time: None,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            transactional: false,
            control: false,
            delete_horizon: None,
        }
    }
}

/// A batch being written. The records are held uncompressed until it is built.
#[derive(Debug)]
pub struct BatchBuilder {
    spec: BatchSpec,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    last_offset: Offset,
    count: i32,
    headers: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(spec: BatchSpec) -> Self {
        Self {
            spec,
            bytes: vec![0; HEADER_LEN],
            base_timestamp: spec.delete_horizon,
            max_timestamp: -1,
            last_offset: spec.base_offset.plus(-1),
            count: 0,
            headers: Vec::new(),
        }
    }

    /// Appends a record at the next offset.
    pub fn append(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.append_at(self.last_offset.next(), timestamp, key, value, Headers::default());
    }

    /// Appends a record with headers at the next offset.
    pub fn append_with_headers<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = Header<'h>>,
    ) {
        let mut storage = std::mem::take(&mut self.headers);
        let encoded = Headers::encode(headers, &mut storage);
        self.append_at(self.last_offset.next(), timestamp, key, value, encoded);
        self.headers = storage;
    }

    /// Appends a record at `offset`, which must be above all before and less than 2^31 above the base offset.
    pub fn append_at(
        &mut self,
        offset: Offset,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let record = Record {
            attributes: 0,
            timestamp_delta: timestamp.wrapping_sub(base),
            offset_delta: self.delta(offset),
            key,
            value,
            headers,
        };
        record.write(&mut self.bytes);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset = offset;
        self.count = self.count.saturating_add(1);
    }

    fn delta(&self, offset: Offset) -> i32 {
        i32::try_from(offset.since(self.spec.base_offset)).unwrap_or(i32::MAX)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes the batch would have without compression.
    pub fn uncompressed_size(&self) -> usize {
        self.bytes.len()
    }

    /// Keeps the last offset at `offset` though the record there is gone, as compaction does.
    pub fn extend_to(&mut self, offset: Offset) {
        self.last_offset = self.last_offset.max(offset);
    }

    /// Finishes the batch.
    ///
    /// # Errors
    /// [`CompressError::Refused`].
    pub fn build(self) -> Result<(BatchHeader, Bytes), CompressError> {
        let mut header = self.header();
        let mut bytes = self.bytes;
        if self.spec.compression.codec != Codec::None {
            let mut packed = vec![0; HEADER_LEN];
            compress::compress(self.spec.compression, 2, &bytes[HEADER_LEN..], &mut packed)?;
            bytes = packed;
        }
        header.size = bytes.len();
        bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        header.crc = batch::crc32c(&bytes[batch::ATTRIBUTES_OFFSET..]);
        bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        Ok((header, bytes.into()))
    }

    fn header(&self) -> BatchHeader {
        let spec = &self.spec;
        let mut attributes = spec.compression.codec.id();
        for (is_set, mask) in [
            (spec.log_append_time.is_some(), TIMESTAMP_TYPE_MASK),
            (spec.transactional, TRANSACTIONAL_MASK),
            (spec.control, CONTROL_MASK),
            (spec.delete_horizon.is_some(), DELETE_HORIZON_MASK),
        ] {
            attributes |= if is_set { mask } else { 0 };
        }
        BatchHeader {
            base_offset: spec.base_offset,
            size: self.bytes.len(),
            leader_epoch: spec.leader_epoch,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta: self.delta(self.last_offset),
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: spec.log_append_time.unwrap_or(self.max_timestamp),
            producer_id: spec.producer_id,
            producer_epoch: spec.producer_epoch,
            base_sequence: spec.base_sequence,
            record_count: self.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::records::records;

    proptest! {
        #[test]
        fn a_built_batch_is_what_went_in(
            written in prop::collection::vec(
                (0..1_i64 << 40, any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), any::<Vec<(String, Option<Vec<u8>>)>>()),
                1..5,
            ),
        ) {
            let mut builder = BatchBuilder::new(BatchSpec { base_offset: Offset(7), ..BatchSpec::default() });
            for (timestamp, key, value, headers) in &written {
                let headers = headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref()));
                builder.append_with_headers(*timestamp, key.as_deref(), value.as_deref(), headers);
            }
            let (header, bytes) = builder.build().expect("builds");
            prop_assert!(batch::crc_is_valid(&bytes));
            prop_assert_eq!(BatchHeader::read(&bytes), Some(header));
            prop_assert_eq!(header.last_offset(), Offset(6 + written.len() as i64));
            prop_assert_eq!(Some(header.max_timestamp), written.iter().map(|record| record.0).max());
            for (record, (timestamp, key, value, headers)) in records(&bytes[HEADER_LEN..], header.record_count).zip(&written) {
                let record = record.expect("a record");
                prop_assert_eq!(header.base_timestamp + record.timestamp_delta, *timestamp);
                prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
                prop_assert!(record.headers.iter().eq(headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref()))));
            }
        }
    }
}
