//! Writes one magic-2 batch of keyed records for an internal topic, uncompressed, each byte once.

use bytes::{Bytes, BytesMut};

use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::protocol::batch::{ATTRIBUTES_OFFSET, BatchHeader, HEADER_LEN, crc32c};
use crate::protocol::records::{Headers, Record};

/// A batch in the making. All its records bear one timestamp.
pub struct BatchWriter {
    out: Vec<u8>,
    key: BytesMut,
    value: BytesMut,
    timestamp: i64,
    count: i32,
}

impl BatchWriter {
    /// A batch without records, at `timestamp` milliseconds since 1970, with room for `records` small ones.
    pub fn new(timestamp: i64, records: usize) -> Self {
        let mut out = Vec::with_capacity(HEADER_LEN + records.saturating_mul(96));
        out.resize(HEADER_LEN, 0);
        Self { out, key: BytesMut::new(), value: BytesMut::new(), timestamp, count: 0 }
    }

    /// Appends a record whose key and value the two functions write.
    pub fn put(&mut self, key: impl FnOnce(&mut BytesMut), value: impl FnOnce(&mut BytesMut)) {
        self.key.clear();
        self.value.clear();
        key(&mut self.key);
        value(&mut self.value);
        self.write(true);
    }

    /// Appends a tombstone for the key that the function writes.
    pub fn put_tombstone(&mut self, key: impl FnOnce(&mut BytesMut)) {
        self.key.clear();
        key(&mut self.key);
        self.write(false);
    }

    fn write(&mut self, with_value: bool) {
        let record = Record {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta: self.count,
            key: Some(&self.key),
            value: with_value.then_some(&self.value[..]),
            headers: Headers::default(),
        };
        record.write(&mut self.out);
        self.count += 1;
    }

    /// The batch's bytes, with offsets from 0 for the log to move.
    pub fn finish(mut self) -> Bytes {
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            size: self.out.len(),
            leader_epoch: LeaderEpoch::NONE,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: self.count - 1,
            base_timestamp: self.timestamp,
            max_timestamp: self.timestamp,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            record_count: self.count,
        };
        self.out[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        header.crc = crc32c(&self.out[ATTRIBUTES_OFFSET..]);
        self.out[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        Bytes::from(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::crc_is_valid;
    use crate::protocol::records::records;

    #[test]
    fn a_batch_reads_back() {
        let mut writer = BatchWriter::new(1_000, 2);
        writer.put(|key| key.extend_from_slice(b"k1"), |value| value.extend_from_slice(b"v1"));
        writer.put_tombstone(|key| key.extend_from_slice(b"k2"));
        let batch = writer.finish();
        assert!(crc_is_valid(&batch));
        let header = BatchHeader::read(&batch).expect("a header");
        assert_eq!((header.size, header.record_count, header.last_offset_delta), (batch.len(), 2, 1));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_000));
        let read: Vec<_> = records(&batch[HEADER_LEN..], 2).map(|r| r.expect("a record")).collect();
        assert_eq!((read[0].key, read[0].value), (Some(&b"k1"[..]), Some(&b"v1"[..])));
        assert_eq!((read[1].key, read[1].value, read[1].offset_delta), (Some(&b"k2"[..]), None, 1));
    }
}
