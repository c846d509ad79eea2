use std::ops::ControlFlow;

use super::*;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::protocol::builder::{BatchBuilder, BatchSpec};
use crate::protocol::deep::for_each_record;
use crate::protocol::legacy::LegacyBuilder;
use crate::protocol::records::{Headers, Record};

/// A batch of records with these keys and timestamps, as a client would send it.
fn client_batch(attributes: i16, records: &[(Option<&[u8]>, i64)]) -> Vec<u8> {
    let base = records[0].1;
    let mut body = Vec::new();
    for (index, (key, timestamp)) in records.iter().enumerate() {
        Record {
            attributes: 0,
            timestamp_delta: timestamp - base,
            offset_delta: index as i32,
            key: *key,
            value: Some(b"value"),
            headers: Headers::default(),
        }
        .write(&mut body);
    }
    sealed(attributes, records, &body)
}

fn sealed(attributes: i16, records: &[(Option<&[u8]>, i64)], body: &[u8]) -> Vec<u8> {
    let mut header = BatchHeader {
        base_offset: Offset(0),
        size: HEADER_LEN + body.len(),
        leader_epoch: LeaderEpoch(-1),
        magic: 2,
        crc: 0,
        attributes,
        last_offset_delta: records.len() as i32 - 1,
        base_timestamp: records[0].1,
        max_timestamp: records.iter().map(|record| record.1).max().unwrap_or(-1),
        producer_id: ProducerId(-1),
        producer_epoch: ProducerEpoch(-1),
        base_sequence: -1,
        record_count: records.len() as i32,
    };
    resign(&mut header, body)
}

fn resign(header: &mut BatchHeader, body: &[u8]) -> Vec<u8> {
    header.crc = batch::crc32c_of(&[&header.to_bytes()[batch::ATTRIBUTES_OFFSET..], body]);
    [&header.to_bytes(), body].concat()
}

/// Changes the header of a sent batch and makes its CRC right again.
fn with_header(sent: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::read(sent).expect("a header");
    change(&mut header);
    resign(&mut header, &sent[HEADER_LEN..]).into()
}

fn context() -> ValidateContext {
    ValidateContext { now_ms: 1_000, next_offset: Offset(40), leader_epoch: LeaderEpoch(3), ..Default::default() }
}

fn code(records: impl Into<Bytes>, ctx: &ValidateContext) -> ErrorCode {
    validate_and_assign(records.into(), ctx).map_or_else(|error| error.code, |_| ErrorCode::None)
}

#[test]
fn offsets_are_assigned_without_touching_the_records() {
    let sent = Bytes::from(client_batch(0, &[(None, 900), (Some(b"k"), 950), (None, 920)]));
    let done = validate_and_assign(sent.clone(), &context()).expect("valid");
    let batch = &done.batches[0];
    assert_eq!((done.first_offset, done.last_offset), (Offset(40), Offset(42)));
    assert_eq!((done.max_timestamp, done.offset_of_max_timestamp), (950, Offset(42)));
    assert_eq!(batch.body.as_ptr(), sent[HEADER_LEN..].as_ptr());
    let whole = [batch.head(), &batch.body].concat();
    assert!(batch::crc_is_valid(&whole));
    assert_eq!(BatchHeader::read(&whole), Some(batch.header));
    assert_eq!(batch.header.leader_epoch, LeaderEpoch(3));
    assert_eq!(done.size, sent.len());
}

#[test]
fn log_append_time_rewrites_only_the_header() {
    let sent = Bytes::from(client_batch(0, &[(None, 900), (None, 5)]));
    let ctx = ValidateContext { timestamp_type: TimestampType::LogAppendTime, ..context() };
    let done = validate_and_assign(sent.clone(), &ctx).expect("valid");
    let batch = &done.batches[0];
    assert_eq!(done.log_append_time, Some(1_000));
    assert_eq!((done.max_timestamp, batch.header.max_timestamp), (1_000, 1_000));
    assert!(batch.header.is_log_append_time());
    assert_eq!(batch.body.as_ptr(), sent[HEADER_LEN..].as_ptr());
    assert!(batch::crc_is_valid(&[batch.head(), &batch.body].concat()));
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    let sent = client_batch(0, &[(None, 900), (None, 950)]);
    let done = validate_and_assign(with_header(&sent, |header| header.max_timestamp = 7), &context()).expect("valid");
    assert_eq!(done.max_timestamp, 950);
    assert!(batch::crc_is_valid(&[done.batches[0].head(), &done.batches[0].body].concat()));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let sent = client_batch(0, &[(None, 900), (None, 950)]);
    let refused = |change: fn(&mut BatchHeader)| code(with_header(&sent, change), &context());
    assert_eq!(refused(|_| ()), ErrorCode::None);
    assert_eq!(refused(|header| header.base_offset = Offset(1)), ErrorCode::InvalidRecord);
    assert_eq!(refused(|header| header.last_offset_delta = -1), ErrorCode::InvalidRecord);
    assert_eq!(refused(|header| header.last_offset_delta = 2), ErrorCode::InvalidRecord);
    assert_eq!(refused(|header| header.record_count = 0), ErrorCode::InvalidRecord);
    assert_eq!(refused(|header| header.attributes |= batch::CONTROL_MASK), ErrorCode::InvalidRecord);
    assert_eq!(refused(|header| header.attributes |= 7), ErrorCode::InvalidRecord);
    assert_eq!(refused(|header| header.producer_id = ProducerId(1)), ErrorCode::InvalidRecord);
    let more = |header: &mut BatchHeader| (header.last_offset_delta, header.record_count) = (2, 3);
    assert_eq!(refused(more), ErrorCode::InvalidRecord);
    let fewer = |header: &mut BatchHeader| (header.last_offset_delta, header.record_count) = (0, 1);
    assert_eq!(refused(fewer), ErrorCode::InvalidRecord);
}

fn compressed(codec: Codec, keys: &[Option<&[u8]>], value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchSpec { compression: codec.into(), ..BatchSpec::default() });
    for (index, key) in keys.iter().enumerate() {
        let header: (&[u8], Option<&[u8]>) = (b"h", Some(value));
        builder.append_with_headers(900 + index as i64, *key, Some(value), [header, header]);
    }
    builder.build().expect("builds").1
}

const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

#[test]
fn compressed_batches_are_checked_but_not_rewritten() {
    for codec in COMPRESSED {
        for len in [0, 100, 5_000, 5_450, 5_460, 16_384, 100_000] {
            let sent = compressed(codec, &[Some(b"a"), None, Some(b"c")], &vec![b'x'; len]);
            let done = validate_and_assign(sent.clone(), &context()).expect("valid");
            assert_eq!(done.batches[0].body.as_ptr(), sent[HEADER_LEN..].as_ptr());
            assert_eq!((done.max_timestamp, done.last_offset, done.source_codec), (902, Offset(42), codec));
            let error = validate_and_assign(sent.clone(), &ValidateContext { compacted: true, ..context() })
                .expect_err("no key");
            assert_eq!(error.rejected.iter().map(|record| record.batch_index).collect::<Vec<_>>(), [1]);
            let fewer = |header: &mut BatchHeader| (header.last_offset_delta, header.record_count) = (1, 2);
            assert_eq!(code(with_header(&sent, fewer), &context()), ErrorCode::InvalidRecord);
            let more = |header: &mut BatchHeader| (header.last_offset_delta, header.record_count) = (3, 4);
            assert_eq!(code(with_header(&sent, more), &context()), ErrorCode::InvalidRecord);
            let small = ValidateContext { max_decompressed_bytes: 9 * len + 100, ..context() };
            assert_eq!(code(sent.clone(), &small), ErrorCode::None);
            let small = ValidateContext { max_decompressed_bytes: 8 * len, ..context() };
            assert_eq!(code(sent, &small), ErrorCode::MessageTooLarge);
        }
    }
}

#[test]
fn garbage_in_place_of_compressed_records_is_refused() {
    for codec in COMPRESSED {
        let sent = client_batch(codec.id(), &[(None, 900)]);
        assert_eq!(code(sent, &context()), ErrorCode::InvalidRecord);
    }
}

#[test]
fn coordinators_may_write_control_batches() {
    let sent = client_batch(batch::CONTROL_MASK, &[(Some(b"k"), 900)]);
    let ctx = ValidateContext { origin: AppendOrigin::Coordinator, ..context() };
    assert_eq!(code(sent, &ctx), ErrorCode::None);
}

#[test]
fn corrupt_and_oversized_batches_are_refused() {
    let sent = client_batch(0, &[(None, 900)]);
    let mut corrupt = sent.clone();
    corrupt[HEADER_LEN + 3] ^= 1;
    assert_eq!(code(corrupt, &context()), ErrorCode::CorruptMessage);
    let mut magic = sent.clone();
    magic[16] = 9;
    assert_eq!(code(magic, &context()), ErrorCode::CorruptMessage);
    let small = ValidateContext { max_message_bytes: sent.len() - 1, ..context() };
    assert_eq!(code(sent.clone(), &small), ErrorCode::MessageTooLarge);
    let small = ValidateContext { max_segment_bytes: sent.len() - 1, ..context() };
    assert_eq!(code(sent.clone(), &small), ErrorCode::RecordListTooLarge);
    assert_eq!(code([sent.clone(), sent].concat(), &context()), ErrorCode::InvalidRecord);
}

#[test]
fn a_torn_batch_is_dropped() {
    let sent = client_batch(0, &[(None, 900)]);
    let done = validate_and_assign(Bytes::from(sent[..sent.len() - 1].to_vec()), &context()).expect("nothing whole");
    assert!(done.batches.is_empty());
    assert_eq!(done.last_offset, Offset(39));
}

#[test]
fn compacted_topics_want_keys() {
    let ctx = ValidateContext { compacted: true, ..context() };
    let sent = client_batch(0, &[(Some(b"k"), 900), (None, 950), (None, 960)]);
    let error = validate_and_assign(sent.into(), &ctx).expect_err("no key");
    assert_eq!(error.code, ErrorCode::InvalidRecord);
    assert_eq!(error.rejected.iter().map(|record| record.batch_index).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn timestamps_must_lie_within_bounds() {
    let ctx = ValidateContext { timestamp_before_max_ms: 100, timestamp_after_max_ms: 50, ..context() };
    let sent = |timestamps: &[i64]| {
        client_batch(0, &timestamps.iter().map(|timestamp| (None, *timestamp)).collect::<Vec<_>>())
    };
    assert_eq!(code(sent(&[900, 1_050]), &ctx), ErrorCode::None);
    assert_eq!(code(sent(&[-1, -1]), &ctx), ErrorCode::None);
    let error = validate_and_assign(sent(&[899, 1_000, 1_051, -1]).into(), &ctx).expect_err("out of bounds");
    assert_eq!(error.code, ErrorCode::InvalidTimestamp);
    assert_eq!(error.rejected.iter().map(|record| record.batch_index).collect::<Vec<_>>(), [0, 2]);
    let stamped = client_batch(batch::TIMESTAMP_TYPE_MASK, &[(None, 900)]);
    let broker_time = ValidateContext { timestamp_type: TimestampType::LogAppendTime, ..ctx };
    assert_eq!(code(stamped, &broker_time), ErrorCode::InvalidTimestamp);
    assert_eq!(code(sent(&[1]), &broker_time), ErrorCode::None);
}

#[test]
fn idempotent_records_need_magic_2() {
    let sent = client_batch(0, &[(None, 900)]);
    let sent = with_header(&sent, |header| {
        (header.producer_id, header.producer_epoch, header.base_sequence) = (ProducerId(1), ProducerEpoch(0), 0);
    });
    assert_eq!(code(sent.clone(), &context()), ErrorCode::None);
    assert_eq!(code(sent, &ValidateContext { magic: 1, ..context() }), ErrorCode::UnsupportedForMessageFormat);
}

fn messages(magic: i8, codec: Codec, keys: &[Option<&[u8]>]) -> Bytes {
    let mut builder = LegacyBuilder::new(magic, codec.into(), None);
    for (index, key) in keys.iter().enumerate() {
        builder.append(Offset(index as i64), 900 + index as i64, *key, Some(b"value"));
    }
    builder.build().expect("builds")
}

type Plain = (i64, i64, Option<Vec<u8>>, usize);

/// What is written, read back.
fn stored(done: &Validated) -> Vec<Plain> {
    let mut found = Vec::new();
    for batch in &done.batches {
        let entry = [batch.head(), &batch.body].concat();
        assert!(batch::entry_is_valid(&entry));
        assert_eq!(entry.len(), batch.header.size);
        let before = found.len();
        let visited = for_each_record(&entry, 1 << 24, |record| {
            found.push((record.offset.get(), record.timestamp, record.key.map(<[u8]>::to_vec), record.headers.len()));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(visited, Ok(None));
        assert_eq!(batch.header.base_offset.get(), found[before].0);
        assert_eq!(batch.header.last_offset().get(), found[found.len() - 1].0);
        assert_eq!(batch.header.record_count as usize, found.len() - before);
    }
    assert_eq!((done.first_offset.get(), done.last_offset.get()), (found[0].0, found[found.len() - 1].0));
    found
}

#[test]
fn every_format_and_codec_becomes_every_other() {
    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let keys: [Option<&[u8]>; 3] = [Some(b"a"), None, Some(b"c")];
    for source in ALL {
        for target in ALL {
            for (from, to) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
                if (source == Codec::Zstd && from < 2) || (target == Codec::Zstd && to < 2) {
                    continue;
                }
                for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
                    let sent =
                        if from == 2 { compressed(source, &keys, b"value") } else { messages(from, source, &keys) };
                    let compression = TargetCompression::Fixed(target.into());
                    let ctx = ValidateContext { magic: to, compression, timestamp_type, ..context() };
                    let done = validate_and_assign(sent, &ctx).expect("valid");
                    let stamped = timestamp_type == TimestampType::LogAppendTime;
                    let expected = keys.iter().enumerate().map(|(index, key)| {
                        let created = if from == 0 { -1 } else { 900 + index as i64 };
                        let time = if to == 0 {
                            -1
                        } else if stamped {
                            1_000
                        } else {
                            created
                        };
                        (40 + index as i64, time, key.map(<[u8]>::to_vec), if from == 2 && to == 2 { 2 } else { 0 })
                    });
                    assert_eq!(stored(&done), expected.collect::<Vec<_>>(), "{from} {source:?} to {to} {target:?}");
                    assert_eq!(done.batches[0].header.codec(), target.id());
                    assert_eq!(done.rewritten, from != to || source != target || (to == 0 && source != Codec::None));
                    let max = if to == 0 {
                        -1
                    } else if stamped {
                        1_000
                    } else if from == 0 {
                        -1
                    } else {
                        902
                    };
                    assert_eq!(done.max_timestamp, max);
                }
            }
        }
    }
}

#[test]
fn rewritten_records_are_checked_too() {
    let keys: [Option<&[u8]>; 2] = [Some(b"a"), None];
    let zstd = TargetCompression::Fixed(Codec::Zstd.into());
    for sent in [messages(1, Codec::Gzip, &keys), messages(1, Codec::None, &keys), compressed(Codec::Lz4, &keys, b"v")]
    {
        let ctx = ValidateContext { compression: zstd, ..context() };
        assert_eq!(code(sent.clone(), &ctx), ErrorCode::None);
        assert_eq!(code(sent.clone(), &ValidateContext { compacted: true, ..ctx }), ErrorCode::InvalidRecord);
        assert_eq!(
            code(sent.clone(), &ValidateContext { timestamp_before_max_ms: 1, ..ctx }),
            ErrorCode::InvalidTimestamp
        );
        assert_eq!(
            code(sent.clone(), &ValidateContext { max_decompressed_bytes: 40, ..ctx }),
            ErrorCode::MessageTooLarge
        );
        assert_eq!(code(sent, &ValidateContext { magic: 1, ..ctx }), ErrorCode::UnsupportedCompressionType);
    }
    // Without its compression the batch is too large.
    let sent = compressed(Codec::Gzip, &keys, &[b'x'; 5_000]);
    let ctx = ValidateContext {
        max_message_bytes: 1_000,
        compression: TargetCompression::Fixed(Codec::None.into()),
        ..context()
    };
    assert_eq!(code(sent, &ctx), ErrorCode::MessageTooLarge);
}

#[test]
fn compressed_messages_must_hold_sound_messages_of_their_magic() {
    let wrap = |inner: &[u8]| {
        let mut outer = LegacyBuilder::new(1, Codec::None.into(), None);
        let mut packed = Vec::new();
        crate::protocol::compress::compress(Codec::Gzip.into(), 1, inner, &mut packed).expect("compresses");
        outer.append(Offset(1), 5, None, Some(&packed));
        let mut bytes = outer.build().expect("builds").to_vec();
        bytes[17] = 1;
        crate::protocol::legacy::patch(&mut bytes, Offset(1), Some((5, false)));
        code(bytes, &context())
    };
    let sound = messages(1, Codec::None, &[None, None]);
    assert_eq!(wrap(&sound), ErrorCode::None);
    assert_eq!(wrap(&messages(0, Codec::None, &[None, None])), ErrorCode::InvalidRecord);
    assert_eq!(wrap(&messages(1, Codec::Gzip, &[None, None])), ErrorCode::InvalidRecord);
    assert_eq!(wrap(&[]), ErrorCode::InvalidRecord);
    let mut corrupt = sound.to_vec();
    corrupt[36] ^= 1;
    assert_eq!(wrap(&corrupt), ErrorCode::CorruptMessage);
}

#[test]
fn wrong_offsets_inside_a_message_are_put_right() {
    let mut builder = LegacyBuilder::new(1, Codec::Gzip.into(), None);
    for offset in [0, 7, 8] {
        builder.append(Offset(offset), 900, None, None);
    }
    let sent = builder.build().expect("builds");
    let done = validate_and_assign(sent, &ValidateContext { magic: 1, ..context() }).expect("valid");
    assert!(done.rewritten);
    assert_eq!(stored(&done).iter().map(|record| record.0).collect::<Vec<_>>(), [40, 41, 42]);
}

#[test]
fn producer_state_survives_recompression() {
    let sent = compressed(Codec::Gzip, &[None], b"v");
    let sent = with_header(&sent, |header| {
        (header.producer_id, header.producer_epoch, header.base_sequence) = (ProducerId(9), ProducerEpoch(2), 5);
        header.attributes |= batch::TRANSACTIONAL_MASK;
    });
    let ctx = ValidateContext { compression: TargetCompression::Fixed(Codec::Zstd.into()), ..context() };
    let header = validate_and_assign(sent, &ctx).expect("valid").batches[0].header;
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (ProducerId(9), ProducerEpoch(2), 5));
    assert!(header.is_transactional());
    assert_eq!(header.leader_epoch, LeaderEpoch(3));
}

#[test]
fn produce_versions_limit_what_they_hold() {
    let sent = client_batch(0, &[(None, 900)]);
    let refusal = |version, records: &[u8]| check_produce(version, records).err().map(|error| error.code);
    assert_eq!(refusal(3, &sent), None);
    assert_eq!(refusal(3, &[]), Some(ErrorCode::InvalidRecord));
    assert_eq!(refusal(2, &[]), None);
    assert_eq!(refusal(9, &[sent.clone(), sent.clone()].concat()), Some(ErrorCode::InvalidRecord));
    let zstd = client_batch(4, &[(None, 900)]);
    assert_eq!(refusal(6, &zstd), Some(ErrorCode::UnsupportedCompressionType));
    assert_eq!(refusal(7, &zstd), None);
}

#[test]
fn replicated_records_keep_their_offsets() {
    let sent = client_batch(0, &[(None, 900), (None, 950)]);
    let at = |offset| with_header(&sent, |header| header.base_offset = Offset(offset));
    let done = validate_replicated(&[at(5), at(9)].concat().into()).expect("valid");
    assert_eq!((done.first_offset, done.last_offset, done.record_count), (Offset(5), Offset(10), 4));
    assert_eq!((done.batches.len(), done.offset_of_max_timestamp), (2, Offset(6)));
    assert!(validate_replicated(&[at(5), at(5)].concat().into()).is_err());
}
