//! Frames that no client sends: the broker answers an error or closes, stays up, and its memory stays bounded.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::wire::{Wire, batch, framed, produce_request};
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// What the broker may grow by while it is lied to, in KiB.
const GROWTH: u64 = 96 << 10;

fn header(key: i16, version: i16) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_i16(key);
    bytes.put_i16(version);
    bytes.put_i32(7);
    bytes.put_i16(1);
    bytes.put_slice(b"x");
    bytes
}

/// Sends a frame and the end of the stream, and reads whatever comes back until the broker closes.
fn send(address: &str, frame: &[u8]) -> usize {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    stream.set_read_timeout(Some(Duration::from_millis(150))).expect("a time-out");
    let mut count = 0;
    if stream.write_all(frame).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            count += length;
        }
    }
    count
}

struct Watched {
    cluster: Cluster,
    before: u64,
}

impl Watched {
    fn start() -> Watched {
        let mut cluster = Cluster::start(Kind::under_test());
        cluster.broker.wire().create_topic("sound", 1, &[]);
        cluster.broker.wire().append("sound", 0, "before");
        let before = cluster.broker.rss_kib();
        Watched { cluster, before }
    }

    fn check(&mut self, after: &str) {
        assert!(
            self.cluster.broker.is_running(),
            "the broker died of {after}:\n{}",
            self.cluster.broker.process().log_tail()
        );
        let now = self.cluster.broker.rss_kib();
        let bounded = now < self.before + GROWTH || self.cluster.broker.kind != Kind::Barnabas;
        assert!(bounded, "{after}: resident memory grew from {} to {now} KiB", self.before);
    }

    fn still_serves(&mut self) {
        self.check("all of it");
        let mut wire = self.cluster.broker.wire();
        wire.append("sound", 0, "after");
        assert_eq!(wire.read_values("sound", 0, 0).len(), 2);
        let text = self.cluster.broker.log_text();
        assert!(!text.contains("panicked"), "a handler panicked");
    }
}

/// Bodies that promise far more than they hold, at every place where a count may stand.
fn lies(random: &mut StdRng) -> Vec<Vec<u8>> {
    let huge: [&[u8]; 4] =
        [&[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x7f, 0xff]];
    let mut bodies = vec![Vec::new(), huge[0].repeat(16), huge[1].repeat(16)];
    for zeros in 0..28 {
        for count in huge {
            bodies.push([&vec![0; zeros], count, &[0; 8]].concat());
        }
        // Compact formats count from one.
        bodies.push([&vec![1; zeros], huge[2], &[0; 8]].concat());
    }
    for _ in 0..6 {
        let length = random.random_range(1..300);
        bodies.push((0..length).map(|_| random.random()).collect());
    }
    bodies
}

#[test]
fn lying_counts_for_every_key_and_version() {
    let mut watched = Watched::start();
    let address = watched.cluster.broker.address();
    let mut random = StdRng::seed_from_u64(3);
    for key in ApiKey::iter() {
        let key_number = key as i16;
        let versions = key.valid_versions();
        for version in versions.min..=versions.max {
            let bodies = match key {
                // Zeros make a well-formed request of this one, and the broker would believe it.
                ApiKey::ControlledShutdown => vec![vec![0x7f; 40], vec![0xff; 3]],
                _ => lies(&mut random),
            };
            std::thread::scope(|scope| {
                for part in bodies.chunks(bodies.len() / 4 + 1) {
                    let address = &address;
                    scope.spawn(move || {
                        for body in part {
                            send(address, &framed(&[&header(key_number, version)[..], body].concat()));
                        }
                    });
                }
            });
            watched.check(&format!("{key:?} v{version}"));
        }
    }
    watched.still_serves();
}

#[test]
fn unknown_keys_and_versions() {
    let mut watched = Watched::start();
    let address = watched.cluster.broker.address();
    for key in [-1, 59, 70, 71, 200, i16::MAX, i16::MIN] {
        let mut wire = watched.cluster.broker.wire();
        wire.send_raw(&framed(&header(key, 0))).expect("sent");
        assert!(wire.closed_within(Duration::from_secs(5)), "key {key}: the connection is closed");
    }
    for key in ApiKey::iter().filter(|key| *key != ApiKey::ApiVersions) {
        for version in [key.valid_versions().max + 20, -1, i16::MAX] {
            let mut wire = watched.cluster.broker.wire();
            wire.send_raw(&framed(&[&header(key as i16, version)[..], &[0; 20]].concat())).expect("sent");
            assert!(wire.closed_within(Duration::from_secs(5)), "{key:?} v{version}: the connection is closed");
        }
    }
    // ApiVersions too new: an answer in version 0 with error 35, on a connection that goes on.
    let mut wire = watched.cluster.broker.wire();
    for version in [5, 99] {
        wire.send_raw(&framed(&[&header(18, version)[..], &[0; 20]].concat())).expect("sent");
        let answer = wire.receive_frame().expect("an answer");
        assert_eq!(&answer[..6], [0, 0, 0, 7, 0, 35], "v{version}");
    }
    wire.call(3, &ApiVersionsRequest::default());
    assert_eq!(send(&address, &framed(&[0, 18])), 0, "half a header");
    watched.still_serves();
}

#[test]
fn frames_of_wrong_length() {
    let mut watched = Watched::start();
    for length in [i32::MAX, 104_857_601, -1, i32::MIN] {
        let mut wire = watched.cluster.broker.wire();
        wire.send_raw(&length.to_be_bytes()).expect("sent");
        wire.send_raw(&header(18, 0)).ok();
        assert!(wire.closed_within(Duration::from_secs(5)), "length {length}: the connection is closed");
    }
    if watched.cluster.broker.kind != Kind::Barnabas {
        // Apache Kafka allocates what is announced, and runs out of heap.
        return;
    }
    // Many that announce as much as is allowed and send little: no memory for what has not come.
    let address = watched.cluster.broker.address();
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(&address).expect("the broker accepts");
        stream.write_all(&100_000_000_i32.to_be_bytes()).expect("sent");
        stream.write_all(&header(0, 9)).expect("sent");
        stream.write_all(&[0; 5000]).expect("sent");
        open.push(stream);
    }
    settle();
    watched.check("a hundred frames of 100 MB announced");
    drop(open);
    watched.still_serves();
}

/// Time for the broker to read what is in its socket buffers; that it has shows nowhere.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn cut_and_random_frames() {
    let mut watched = Watched::start();
    let address = watched.cluster.broker.address();
    let mut random = StdRng::seed_from_u64(5);
    let whole = crate::support::wire::frame(1, 7, &produce_request("sound", 0, -1, batch(&["cut off"])));
    for cut in 0..whole.len() {
        send(&address, &whole[..cut]);
    }
    watched.check("cut frames");
    let start = Instant::now();
    for _ in 0..1_500 {
        let length = random.random_range(0..2_000);
        let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        send(&address, &bytes);
        send(&address, &framed(&bytes));
        if start.elapsed() > Duration::from_secs(60) {
            break;
        }
    }
    watched.check("random bytes");
    watched.still_serves();
}

/// Batches with one bit turned, in any place: either refused, or taken because the bit does not matter; never stored so
/// that the log cannot be read.
#[test]
fn damaged_batches() {
    let mut watched = Watched::start();
    let mut wire = watched.cluster.broker.wire();
    wire.create_topic("damaged", 1, &[]);
    let sound = batch(&["one", "two", "three"]);
    let mut taken = Vec::new();
    for position in 0..sound.len() {
        for bit in [0, 7] {
            let mut bytes = sound.to_vec();
            bytes[position] ^= 1 << bit;
            match wire.try_call(7, &produce_request("damaged", 0, -1, bytes.into())) {
                Ok(answer) => {
                    let answer = &answer.responses[0].partition_responses[0];
                    taken.extend((answer.error_code == 0).then_some((position, bit, answer.base_offset)));
                }
                Err(_) => wire = watched.cluster.broker.wire(),
            }
        }
    }
    // Base offset and leader epoch lie outside the checksum and are the broker's to set.
    let harmless = |position: usize| position < 8 || (12..16).contains(&position);
    assert!(taken.iter().all(|(position, ..)| harmless(*position)), "damaged batches were taken: {taken:?}");
    let end = wire.append("damaged", 0, "sound");
    let read = wire.read_values("damaged", 0, 0);
    assert_eq!(read.last(), Some(&(end, "sound".to_owned())));
    assert_eq!(read.len(), taken.len() * 3 + 1, "taken {taken:?}, read {read:?}");
    watched.still_serves();
}

/// A megabyte that unpacks to a gigabyte.
#[test]
fn compression_bomb() {
    let mut watched = Watched::start();
    let mut wire = watched.cluster.broker.wire();
    wire.create_topic("bomb", 1, &[("max.message.bytes", "10000000")]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&zeros).expect("memory");
    }
    let body = encoder.finish().expect("memory");
    let _ = wire.try_call(7, &produce_request("bomb", 0, -1, gzip_batch(&body).into()));
    watched.check("a gzip bomb");
    watched.still_serves();
}

/// A batch header over a gzip body that claims one record, with a right checksum.
fn gzip_batch(body: &[u8]) -> Vec<u8> {
    let mut rest = BytesMut::new();
    rest.put_i16(1); // gzip
    rest.put_i32(0);
    rest.put_i64(0);
    rest.put_i64(0);
    rest.put_i64(-1);
    rest.put_i16(-1);
    rest.put_i32(-1);
    rest.put_i32(1);
    rest.put_slice(body);
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32((rest.len() + 9) as i32);
    bytes.put_i32(-1);
    bytes.put_i8(2);
    bytes.put_u32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &rest) as u32);
    bytes.put_slice(&rest);
    bytes.to_vec()
}

/// Requests faster than answers are read: the broker stops reading instead of piling up answers.
#[test]
fn answers_nobody_reads() {
    let mut watched = Watched::start();
    let address = watched.cluster.broker.address();
    let request = crate::support::wire::frame(1, 5, &metadata_of_all());
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&address).expect("the broker accepts");
        stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a time-out");
        let block = request.repeat(2_000);
        for _ in 0..100 {
            if stream.write_all(&block).is_err() {
                break;
            }
        }
        stalled.push(stream);
    }
    watched.check("answers that nobody reads");
    let mut wire = Wire::connect(&address).expect("the broker accepts");
    wire.call(0, &ApiVersionsRequest::default());
    drop(stalled);
    watched.still_serves();
}

fn metadata_of_all() -> kafka_protocol::messages::MetadataRequest {
    kafka_protocol::messages::MetadataRequest::default().with_topics(None)
}
