//! Random frames: header, guard, decoder of every request key.

#![no_main]

use barnabas::protocol::every_request::{KEYS, decode_and_encode};
use barnabas::protocol::frame::{RequestHeader, decode_assignment, decode_subscription};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut frame = Bytes::copy_from_slice(data);
    let _ = decode_subscription(frame.clone());
    let _ = decode_assignment(frame.clone());
    if let Ok(header) = RequestHeader::parse(&mut frame) {
        through(header.api_key, header.api_version, &frame);
    }
    // The same bytes as the body of a key that the first two name: most frames have no valid header.
    if let [key, version, body @ ..] = data {
        let (key, newest) = KEYS[usize::from(*key) % KEYS.len()];
        through(key, i16::from(*version) % (newest + 1), &Bytes::copy_from_slice(body));
    }
});

fn through(key: i16, version: i16, body: &Bytes) {
    if let Ok(encoded) = decode_and_encode(key, version, body.clone()) {
        let again = decode_and_encode(key, version, encoded.clone()).expect("what was encoded decodes");
        assert_eq!(encoded, again, "key {key} version {version}");
    }
}
