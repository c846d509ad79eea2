//! Random record sets: validation, walking, decompression, conversion.

#![no_main]

use std::ops::ControlFlow;

use barnabas::base::ids::{LeaderEpoch, Offset};
use barnabas::protocol::batch::{self, MAGIC_OFFSET};
use barnabas::protocol::compress::{Codec, decompress};
use barnabas::protocol::convert::down_convert;
use barnabas::protocol::deep::for_each_record;
use barnabas::protocol::validate::{
    AppendOrigin, TargetCompression, TimestampType, ValidateContext, check_produce, validate_and_assign, validate_replicated,
};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// What records may decompress to here.
const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [choice, codec, set @ ..] = data else { return };
    let mut set = set.to_vec();
    if choice & 1 == 0 {
        seal(&mut set);
    }
    let _ = check_produce(i16::from(choice % 12), &set);
    let _ = decompress(Codec::from_id(i16::from(codec % 5)).unwrap_or_default(), 2, &set, LIMIT, &mut Vec::new());
    visit(&set);
    let set = Bytes::from(set);
    let _ = validate_replicated(&set);
    let context = context(*choice, *codec);
    let Ok(done) = validate_and_assign(set, &context) else { return };

    let mut next = context.next_offset;
    let mut stored = Vec::new();
    for batch in &done.batches {
        let entry = [batch.head(), &batch.body].concat();
        assert_eq!(entry.len(), batch.header.size);
        assert!(batch::entry_is_valid(&entry));
        assert_eq!(batch.header.base_offset, next);
        let mut count = 0;
        let broken = for_each_record(&entry, LIMIT, |record| {
            assert_eq!(record.offset, next.plus(count), "of {:?}", batch.header);
            count += 1;
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(broken, Ok(None));
        assert_eq!(i64::from(batch.header.record_count), count);
        next = batch.header.next_offset();
        stored.extend_from_slice(&entry);
    }
    assert_eq!(done.last_offset.next(), next);
    for magic in 0..2 {
        if let Ok(converted) = down_convert(&stored, magic, context.next_offset, LIMIT) {
            visit(&converted);
        }
    }
});

fn context(choice: u8, codec: u8) -> ValidateContext {
    let target = Codec::from_id(i16::from(codec >> 4) % 5).unwrap_or_default();
    ValidateContext {
        now_ms: 1_700_000_000_000,
        next_offset: Offset(1_000),
        leader_epoch: LeaderEpoch(7),
        origin: if choice & 2 == 0 { AppendOrigin::Client } else { AppendOrigin::Coordinator },
        magic: [2, 2, 1, 0][usize::from(choice >> 2) & 3],
        timestamp_type: if choice & 16 == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime },
        compression: if codec & 8 == 0 { TargetCompression::Producer } else { TargetCompression::Fixed(target.into()) },
        compacted: choice & 32 != 0,
        timestamp_before_max_ms: if choice & 64 == 0 { i64::MAX } else { 1_000 },
        max_decompressed_bytes: LIMIT,
        ..ValidateContext::default()
    }
}

fn visit(set: &[u8]) {
    for entry in batch::entries(set) {
        let Ok((_, entry)) = entry else { return };
        let _ = for_each_record(entry, LIMIT, |record| {
            assert_eq!(record.headers.iter().count(), record.headers.len());
            ControlFlow::<()>::Continue(())
        });
    }
}

/// Makes the CRC of every entry right, or else hardly anything would get past it.
fn seal(set: &mut [u8]) {
    let mut at = 0;
    while let Ok(Some((size, magic))) = batch::peek(&set[at..]) {
        let Some(entry) = set.get_mut(at..at + size) else { return };
        if magic == 2 {
            let crc = batch::crc32c(&entry[batch::ATTRIBUTES_OFFSET..]);
            entry[batch::CRC_OFFSET..][..4].copy_from_slice(&crc.to_be_bytes());
        } else {
            let crc = batch::crc32(&entry[MAGIC_OFFSET..]);
            entry[12..16].copy_from_slice(&crc.to_be_bytes());
        }
        at += size;
    }
}
