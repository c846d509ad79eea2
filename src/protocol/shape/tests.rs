use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::random::{Content, RandomRequest, random_request};
use super::*;
use crate::protocol::every_request::{KEYS, decode_and_encode};

/// Every shape, version and seed.
fn every_random_request(mut check: impl FnMut(i16, i16, RandomRequest)) {
    for (request, (key, newest)) in table::REQUESTS.iter().zip(KEYS) {
        assert_eq!(request.key, *key);
        for version in 0..=*newest {
            for seed in 0..20_u64 {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.to_be_bytes());
                let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
                let written = random_request(*key, version, Content::Any, &mut || rng.random());
                check(*key, version, written.expect("a known key"));
            }
        }
    }
}

#[test]
fn the_shapes_are_those_of_kafka_protocol() {
    every_random_request(|key, version, written| {
        let body = Bytes::from(written.body);
        assert_eq!(check(key, version, &body), Ok(body.len()), "key {key} version {version}");
        let again =
            decode_and_encode(key, version, body.clone()).unwrap_or_else(|error| panic!("{key} v{version}: {error}"));
        assert_eq!(again, body, "key {key} version {version}");
    });
}

#[test]
fn a_hostile_count_anywhere_is_refused() {
    every_random_request(|key, version, written| {
        for (at, width) in written.counts {
            let mut body = written.body[..at].to_vec();
            match is_flexible(key, version) == Some(true) {
                true => body.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x07]),
                false => body.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff][..width]),
            }
            body.extend_from_slice(&written.body[at + width..]);
            assert!(check(key, version, &body).is_err(), "key {key} version {version} at {at}");
        }
        for len in 0..written.body.len() {
            assert!(check(key, version, &written.body[..len]).is_err(), "key {key} version {version} cut at {len}");
        }
    });
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body: Vec<u8>) {
        for (key, newest) in KEYS {
            for version in 0..=*newest {
                let _ = decode_and_encode(*key, version, body.clone().into());
            }
        }
    }
}

#[test]
fn the_table_is_in_order_and_whole() {
    let keys: Vec<_> = table::REQUESTS.iter().map(|request| request.key).collect();
    let known: Vec<i16> = (0..=51).chain([56, 57, 58, 60, 61]).chain(65..=69).collect();
    assert_eq!(keys, known);
}

#[test]
fn flexible_versions_are_those_of_the_headers() {
    for key in ApiKey::iter().filter(|key| is_known(*key as i16)) {
        for version in key.valid_versions().min..=key.valid_versions().max {
            let flexible = key.request_header_version(version) >= 2;
            assert_eq!(is_flexible(key as i16, version), Some(flexible), "{key:?} {version}");
        }
    }
}

#[test]
fn hostile_counts_are_refused() {
    let metadata = |version, body: &[u8]| check(3, version, body);
    assert_eq!(metadata(1, &[0xff; 4]), Ok(4));
    assert!(matches!(metadata(1, &[0x7f, 0xff, 0xff, 0xff]), Err(ShapeError::Truncated(_))));
    assert!(matches!(metadata(9, &[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(ShapeError::Truncated(_))));
    // Half a million empty names would take 36 times their bytes.
    let mut empty_names = vec![0; 4 + 1_000_000];
    empty_names[..4].copy_from_slice(&500_000_i32.to_be_bytes());
    assert!(matches!(metadata(1, &empty_names), Err(ShapeError::Expansion(_))));
    assert_eq!(check(99, 0, &[]), Err(ShapeError::UnknownKey(99)));
}

#[test]
fn tagged_fields_must_have_their_length() {
    // An ApiVersions v3 with two empty strings, and tags.
    assert_eq!(check(18, 3, &[1, 1, 0]), Ok(3));
    assert_eq!(check(18, 3, &[1, 1, 1, 9, 2, 0, 0]), Ok(7));
    assert!(check(18, 3, &[1, 1, 1, 9, 3, 0, 0]).is_err());
    // Fetch v12 with its cluster id (tag 0) as a string of one byte.
    let mut fetch = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    fetch.extend_from_slice(&[1, 1, 1]);
    assert_eq!(check(1, 12, &[fetch.clone(), vec![1, 0, 2, 2, b'x']].concat()), Ok(fetch.len() + 5));
    assert!(matches!(check(1, 12, &[fetch, vec![1, 0, 3, 2, b'x', 0]].concat()), Err(ShapeError::Tag(_))));
}
