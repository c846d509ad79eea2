use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::protocol::every_request::{KEYS, decode_and_encode};
use crate::protocol::records::put_unsigned_varint;

/// Writes random requests of a shape.
struct Writer {
    rng: TestRng,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
    /// Where counts and lengths stand, and how many bytes each has.
    counts: Vec<(usize, usize)>,
}

impl Writer {
    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version) && field.tag.is_none()) {
            self.value(&field.kind);
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn tags(&mut self, fields: &[Field]) {
        let known: Vec<_> = fields.iter().filter(|field| field.tag.is_some() && field.is_in(self.version)).collect();
        let unknown = self.rng.random_range(0..3);
        put_unsigned_varint(&mut self.out, (known.len() + unknown) as u32);
        for field in known {
            let mut inner = Writer { rng: self.rng.clone(), out: Vec::new(), counts: Vec::new(), ..*self };
            inner.value(&field.kind);
            put_unsigned_varint(&mut self.out, field.tag.unwrap_or(0));
            put_unsigned_varint(&mut self.out, inner.out.len() as u32);
            self.out.extend_from_slice(&inner.out);
            self.rng = inner.rng;
        }
        for tag in 0..unknown {
            put_unsigned_varint(&mut self.out, 200 + tag as u32);
            put_unsigned_varint(&mut self.out, 2);
            self.out.extend_from_slice(&[1, 2]);
        }
    }

    fn value(&mut self, kind: &Kind) {
        let count = self.rng.random_range(0..4);
        match kind {
            // Booleans read back as 0 or 1 only; and tagged numbers must not be the default.
            Kind::Fixed(1) => self.out.push(1),
            Kind::Fixed(len) => (0..*len).for_each(|_| self.out.push(self.rng.random())),
            Kind::Text => {
                self.len(count, 2);
                self.out.extend_from_slice(&b"text"[..count]);
            }
            Kind::Blob => {
                self.len(count, 4);
                self.out.extend_from_slice(&[0xfe; 4][..count]);
            }
            Kind::Structs(fields) => {
                self.len(count, 4);
                (0..count).for_each(|_| self.fields(fields));
            }
            Kind::List(element) => {
                self.len(count, 4);
                (0..count).for_each(|_| self.value(element));
            }
            Kind::Nested(fields) => self.fields(fields),
        }
    }

    fn len(&mut self, len: usize, width: usize) {
        let at = self.out.len();
        if self.flexible {
            put_unsigned_varint(&mut self.out, len as u32 + 1);
        } else {
            self.out.extend_from_slice(&(len as u32).to_be_bytes()[4 - width..]);
        }
        self.counts.push((at, self.out.len() - at));
    }
}

fn random_request(request: &Request, version: i16, seed: u64) -> Writer {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let flexible = version >= request.flexible;
    let mut writer = Writer { rng, version, flexible, out: Vec::new(), counts: Vec::new() };
    writer.fields(request.fields);
    writer
}

/// Every shape, version and seed.
fn every_random_request(mut check: impl FnMut(i16, i16, Writer)) {
    for (request, (key, newest)) in table::REQUESTS.iter().zip(KEYS) {
        assert_eq!(request.key, *key);
        for version in 0..=*newest {
            for seed in 0..20 {
                check(*key, version, random_request(request, version, seed));
            }
        }
    }
}

#[test]
fn the_shapes_are_those_of_kafka_protocol() {
    every_random_request(|key, version, written| {
        let body = Bytes::from(written.out);
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
            let mut body = written.out[..at].to_vec();
            match written.flexible {
                true => body.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x07]),
                false => body.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff][..width]),
            }
            body.extend_from_slice(&written.out[at + width..]);
            assert!(check(key, version, &body).is_err(), "key {key} version {version} at {at}");
        }
        for len in 0..written.out.len() {
            assert!(check(key, version, &written.out[..len]).is_err(), "key {key} version {version} cut at {len}");
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
