//! The channel against brokers that are sockets with a few answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    AlterPartitionResponse, ApiVersionsRequest, ApiVersionsResponse, BrokerId as WireBroker,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What a broker says to AlterPartition; `None` lets the request hang.
type Script = fn(usize) -> Option<i16>;

struct FakeBroker {
    address: String,
    asked: Arc<AtomicUsize>,
}

/// A broker that knows AlterPartition up to `max_version`.
async fn broker(max_version: i16, script: Script) -> FakeBroker {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                while let Ok(len) = stream.read_i32().await {
                    let mut frame = vec![0; usize::try_from(len).expect("a length")];
                    stream.read_exact(&mut frame).await.expect("a frame");
                    let Some(answer) = answer(&frame, max_version, script, &count) else { continue };
                    stream.write_all(&answer).await.expect("written");
                }
            });
        }
    });
    FakeBroker { address, asked }
}

fn answer(frame: &[u8], max_version: i16, script: Script, count: &AtomicUsize) -> Option<Bytes> {
    let short = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
    let (key, version) = (short(0), short(2));
    let mut body = BytesMut::new();
    body.put_slice(&frame[4..8]);
    if key == ApiVersionsRequest::KEY {
        let known = ApiVersion::default().with_api_key(AlterPartitionRequest::KEY).with_max_version(max_version);
        ApiVersionsResponse::default().with_api_keys(vec![known]).encode(&mut body, version).expect("encodes");
    } else {
        let error = script(count.fetch_add(1, Ordering::SeqCst))?;
        if AlterPartitionResponse::header_version(version) >= 1 {
            body.put_u8(0);
        }
        AlterPartitionResponse::default().with_error_code(error).encode(&mut body, version).expect("encodes");
    }
    let mut framed = BytesMut::new();
    framed.put_i32(i32::try_from(body.len()).expect("short"));
    framed.extend_from_slice(&body);
    Some(framed.freeze())
}

#[derive(Clone, Default)]
struct Known(Arc<Mutex<Option<(BrokerId, String)>>>);

impl Known {
    fn is(&self, id: i32, address: &str) {
        *self.0.lock() = Some((BrokerId(id), address.to_owned()));
    }
}

impl Finder for Known {
    fn find(&self) -> Option<(BrokerId, String)> {
        self.0.lock().clone()
    }

    fn here(&self) -> Option<&ControllerHandle> {
        None
    }
}

fn channel(known: &Known) -> ControllerChannel {
    ControllerChannel::with(Box::new(known.clone()), Duration::from_secs(20))
}

fn request(_version: i16) -> AlterPartitionRequest {
    AlterPartitionRequest::default().with_broker_id(WireBroker(1))
}

#[tokio::test]
async fn the_version_is_the_highest_that_both_know() {
    let (known, old) = (Known::default(), broker(0, |_| Some(0)).await);
    known.is(1, &old.address);
    let (_, version) = channel(&known).send(3, Duration::from_secs(10), request).await.expect("an answer");
    assert_eq!(version, 0);
    let new = broker(9, |_| Some(0)).await;
    known.is(2, &new.address);
    let (_, version) = channel(&known).send(1, Duration::from_secs(10), request).await.expect("an answer");
    assert_eq!(version, 1, "no higher than asked for");
}

#[tokio::test]
async fn a_broker_that_is_not_the_controller_is_asked_again() {
    let (known, other) =
        (Known::default(), broker(3, |n| Some(if n < 2 { ErrorCode::NotController.code() } else { 0 })).await);
    known.is(1, &other.address);
    let (response, _) = channel(&known).send(3, Duration::from_secs(10), request).await.expect("an answer");
    assert_eq!((response.error_code, other.asked.load(Ordering::SeqCst)), (0, 3));
}

#[tokio::test]
async fn a_controller_that_hangs_is_left_for_its_successor() {
    let (known, hanging, next) = (Known::default(), broker(3, |_| None).await, broker(3, |_| Some(0)).await);
    known.is(1, &hanging.address);
    let channel = Arc::new(channel(&known));
    let asking = {
        let channel = Arc::clone(&channel);
        tokio::spawn(async move { channel.send(3, Duration::from_secs(15), request).await })
    };
    while hanging.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    known.is(2, &next.address);
    let answered = asking.await.expect("no panic").expect("an answer");
    assert_eq!((answered.1, next.asked.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test]
async fn what_nobody_answers_ends_in_time() {
    let known = Known::default();
    let error = channel(&known).send(3, Duration::from_millis(120), request).await.expect_err("nobody is there");
    assert_eq!(error, ChannelError::TimedOut("no controller is known".to_owned()));
    let silent = broker(3, |_| None).await;
    known.is(1, &silent.address);
    let error = channel(&known).send(3, Duration::from_millis(120), request).await.expect_err("no answer");
    assert!(matches!(error, ChannelError::TimedOut(_)));
}

#[tokio::test]
async fn a_controller_that_does_not_know_the_request_is_not_asked() {
    let (known, old) = (Known::default(), broker(-1, |_| Some(0)).await);
    known.is(1, &old.address);
    let error = channel(&known).send(3, Duration::from_secs(10), request).await.expect_err("unknown there");
    assert_eq!((error, old.asked.load(Ordering::SeqCst)), (ChannelError::Unsupported, 0));
}
