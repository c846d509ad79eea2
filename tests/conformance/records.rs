//! Batches and messages against `kafka-protocol`'s own, where that is right: it knows uncompressed messages only, takes
//! the smallest timestamp as a batch's base, drops duplicate header keys, and cannot read a header without a value.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use barnabas::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use barnabas::protocol::batch;
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use barnabas::protocol::compress::{Codec, Compression, decompress};
use barnabas::protocol::deep::for_each_record;
use barnabas::protocol::legacy::LegacyBuilder;
use barnabas::protocol::validate::{ValidateContext, validate_and_assign};
use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as wire;
use proptest::prelude::*;

type Blob = Option<Vec<u8>>;
/// Key, value, how much later than the first, headers.
type Written = (Blob, Blob, u16, BTreeMap<String, Vec<u8>>);
/// Producer id, its epoch, sequence, transactional, leader epoch.
type Producer = (u32, u8, u16, bool, u16);

fn written() -> impl Strategy<Value = Vec<Written>> {
    prop::collection::vec(any::<Written>(), 1..6).prop_map(|mut records| {
        records[0].2 = 0;
        records
    })
}

fn spec(producer: Producer, codec: Codec) -> BatchSpec {
    BatchSpec {
        base_offset: Offset(0),
        leader_epoch: LeaderEpoch(producer.4.into()),
        compression: codec.into(),
        producer_id: ProducerId(producer.0.into()),
        producer_epoch: ProducerEpoch(producer.1.into()),
        base_sequence: producer.2.into(),
        transactional: producer.3,
        ..BatchSpec::default()
    }
}

fn ours(spec: BatchSpec, records: &[Written]) -> Bytes {
    let mut builder = BatchBuilder::new(spec);
    for (key, value, later, headers) in records {
        let headers = headers.iter().map(|(key, value)| (key.as_bytes(), Some(&value[..])));
        builder.append_with_headers(1_000_000 + i64::from(*later), key.as_deref(), value.as_deref(), headers);
    }
    builder.build().expect("builds").1
}

fn theirs(producer: Producer, records: &[Written]) -> Vec<wire::Record> {
    let record = |(index, (key, value, later, headers)): (usize, &Written)| {
        let mut record = wire::Record {
            transactional: producer.3,
            control: false,
            partition_leader_epoch: producer.4.into(),
            producer_id: producer.0.into(),
            producer_epoch: producer.1.into(),
            timestamp_type: wire::TimestampType::Creation,
            offset: index as i64,
            sequence: i32::from(producer.2) + index as i32,
            timestamp: 1_000_000 + i64::from(*later),
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: Default::default(),
        };
        for (key, value) in headers {
            record.headers.insert(StrBytes::from_string(key.clone()), Some(value.clone().into()));
        }
        record
    };
    records.iter().enumerate().map(record).collect()
}

fn encode(version: i8, records: &[wire::Record]) -> Bytes {
    let options = wire::RecordEncodeOptions { version, compression: wire::Compression::None };
    let mut out = BytesMut::new();
    wire::RecordBatchEncoder::encode(&mut out, records, &options).expect("encodes");
    out.freeze()
}

fn unpack(packed: &mut Bytes, codec: wire::Compression) -> anyhow::Result<Bytes> {
    let codec = Codec::from_id(codec as i16).unwrap_or_default();
    let mut out = Vec::new();
    decompress(codec, 2, packed, 1 << 20, &mut out)?;
    Ok(out.into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn batches_are_byte_for_byte_the_same(records in written(), producer: Producer) {
        let expected = theirs(producer, &records);
        let bytes = ours(spec(producer, Codec::None), &records);
        prop_assert_eq!(&bytes, &encode(2, &expected));
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut packed = ours(spec(producer, codec), &records);
            let set = wire::RecordBatchDecoder::decode_with_custom_compression(&mut packed, Some(unpack)).expect("decodes");
            prop_assert_eq!(&set.records, &expected);
        }
    }

    #[test]
    fn what_is_stored_reads_back(records in written(), producer: Producer, offset in 0..1_i64 << 50) {
        let context = ValidateContext { next_offset: Offset(offset), leader_epoch: LeaderEpoch(5), ..Default::default() };
        let done = validate_and_assign(encode(2, &theirs(producer, &records)), &context).expect("valid");
        let mut stored = Bytes::from([done.batches[0].head(), &done.batches[0].body].concat());
        let read = wire::RecordBatchDecoder::decode_all(&mut stored).expect("decodes").remove(0).records;
        let mut expected = theirs(producer, &records);
        for record in &mut expected {
            record.offset += offset;
            record.partition_leader_epoch = 5;
        }
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn messages_are_byte_for_byte_the_same(records in written(), magic in 0_i8..2) {
        let none = (0, 0, 0, false, 0);
        let records: Vec<Written> =
            records.into_iter().map(|(key, value, later, _)| (key, value, later, BTreeMap::new())).collect();
        let expected = encode(magic, &theirs(none, &records));
        let mut all = Vec::new();
        for (key, value, later, _) in &records {
            // It writes offset 0 for every message, as producers do.
            let mut builder = LegacyBuilder::new(magic, Compression::default(), None);
            builder.append(Offset(0), 1_000_000 + i64::from(*later), key.as_deref(), value.as_deref());
            all.extend_from_slice(&builder.build().expect("builds"));
        }
        prop_assert_eq!(&all[..], &expected[..]);
        let mut read = Vec::new();
        for entry in batch::entries(&expected) {
            let (_, entry) = entry.expect("a message");
            let visited = for_each_record(entry, 0, |record| {
                read.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
                ControlFlow::<()>::Continue(())
            });
            prop_assert_eq!(visited, Ok(None));
        }
        prop_assert_eq!(read, records.into_iter().map(|(key, value, ..)| (key, value)).collect::<Vec<_>>());
    }
}
