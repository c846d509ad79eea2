//! Well-formed requests of random content, of every key and version: each is answered in its version, or waits, whatever
//! numbers and names stand in it. A handler that sets a field which its version lacks fails here, and one that panics.

use std::time::Duration;

use barnabas::api::advertised;
use barnabas::network::Outcome;
use barnabas::protocol::every_request::correlation_id;
use barnabas::protocol::shape::is_flexible;
use barnabas::protocol::shape::random::{Content, random_request};
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::harness::{Broker, flat};

const PRODUCE: i16 = 0;
const SEEDS: u64 = 50;

fn request(key: i16, version: i16, seed: u64) -> Bytes {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..10].copy_from_slice(&key.to_be_bytes());
    bytes[10..12].copy_from_slice(&version.to_be_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(7);
    out.put_i16(-1);
    if is_flexible(key, version).expect("a known key") {
        out.put_u8(0);
    }
    let random = random_request(key, version, Content::Edges, &mut || rng.random());
    out.extend_from_slice(&random.expect("a known key").body);
    out.freeze()
}

#[tokio::test]
async fn every_request_is_answered_whatever_is_in_it() {
    let broker = Broker::start().await;
    broker.topic("topic", 3).await;
    let mut answered = std::collections::BTreeMap::new();
    for api in advertised() {
        for version in api.min_version..=api.max_version {
            for seed in 0..SEEDS {
                let what = format!("{} v{version} seed {seed}", api.name);
                let work = broker.raw(request(api.key, version, seed));
                match tokio::time::timeout(Duration::from_millis(100), work).await {
                    Ok(Outcome::Reply(payload)) => {
                        *answered.entry(api.name).or_insert(0) += 1;
                        let id = correlation_id(api.key, version, flat(&payload));
                        assert_eq!(id.unwrap_or_else(|error| panic!("{what}: {error}")), 7, "{what}");
                    }
                    // Without acks there is no answer, and errors close the connection.
                    Ok(_) if api.key == PRODUCE => {}
                    Ok(other) => panic!("{what}: {other:?}"),
                    // It waits, as a Fetch or a JoinGroup may.
                    Err(_) => {}
                }
            }
        }
    }
    for api in advertised() {
        assert!(answered.contains_key(api.name), "no {} was answered: {answered:?}", api.name);
    }
}
