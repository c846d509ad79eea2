//! Writes one batch of keyed records for an internal topic.

use bytes::{Bytes, BytesMut};

use crate::base::error::ErrorCode;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::protocol::builder::{BatchBuilder, BatchSpec};
use crate::protocol::compress::Codec;

/// A batch in the making. All its records bear one timestamp; keys and values are written into buffers that are used
/// again for the next record.
pub struct BatchWriter {
    batch: BatchBuilder,
    key: BytesMut,
    value: BytesMut,
    timestamp: i64,
}

impl BatchWriter {
    /// A batch without records, at `timestamp` milliseconds since 1970.
    pub fn new(timestamp: i64, codec: Codec) -> Self {
        Self::of(timestamp, BatchSpec { compression: codec.into(), ..BatchSpec::default() })
    }

    /// The same as part of a producer's transaction. It bears no sequence number.
    pub fn transactional(timestamp: i64, codec: Codec, producer: ProducerId, epoch: ProducerEpoch) -> Self {
        let spec = BatchSpec {
            compression: codec.into(),
            producer_id: producer,
            producer_epoch: epoch,
            transactional: true,
            ..BatchSpec::default()
        };
        Self::of(timestamp, spec)
    }

    fn of(timestamp: i64, spec: BatchSpec) -> Self {
        Self { batch: BatchBuilder::new(spec), key: BytesMut::new(), value: BytesMut::new(), timestamp }
    }

    /// Appends a record whose key and value the two functions write.
    pub fn put(&mut self, key: impl FnOnce(&mut BytesMut), value: impl FnOnce(&mut BytesMut)) {
        self.key.clear();
        self.value.clear();
        key(&mut self.key);
        value(&mut self.value);
        self.batch.append(self.timestamp, Some(&self.key), Some(&self.value));
    }

    /// Appends a tombstone for the key that the function writes.
    pub fn put_tombstone(&mut self, key: impl FnOnce(&mut BytesMut)) {
        self.key.clear();
        key(&mut self.key);
        self.batch.append(self.timestamp, Some(&self.key), None);
    }

    /// The batch's bytes, with offsets from 0 for the log to move.
    ///
    /// # Errors
    /// `UnknownServerError` if the codec fails.
    pub fn finish(self) -> Result<Bytes, ErrorCode> {
        match self.batch.build() {
            Ok((_, bytes)) => Ok(bytes),
            Err(error) => {
                tracing::error!(%error, "a batch for an internal topic could not be built");
                Err(ErrorCode::UnknownServerError)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::{BatchHeader, HEADER_LEN, crc_is_valid};
    use crate::protocol::records::records;

    #[test]
    fn a_batch_reads_back() {
        let mut writer = BatchWriter::new(1_000, Codec::None);
        writer.put(|key| key.extend_from_slice(b"k1"), |value| value.extend_from_slice(b"v1"));
        writer.put_tombstone(|key| key.extend_from_slice(b"k2"));
        let batch = writer.finish().expect("a batch");
        assert!(crc_is_valid(&batch));
        let header = BatchHeader::read(&batch).expect("a header");
        assert_eq!((header.size, header.record_count, header.last_offset_delta), (batch.len(), 2, 1));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_000));
        let read: Vec<_> = records(&batch[HEADER_LEN..], 2).map(|r| r.expect("a record")).collect();
        assert_eq!((read[0].key, read[0].value), (Some(&b"k1"[..]), Some(&b"v1"[..])));
        assert_eq!((read[1].key, read[1].value, read[1].offset_delta), (Some(&b"k2"[..]), None, 1));
    }
}
