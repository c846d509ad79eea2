//! The client against listeners that answer well, badly, or not at all.

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use kafka_protocol::protocol::{Encodable, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Duration;
use crate::network::client::{ClientError, Connection, Options};

/// Answers each request of one connection by `answer`, which is given the version and the correlation id.
async fn broker(answer: impl Fn(i16, i32) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        while let Ok(len) = stream.read_i32().await {
            let mut frame = vec![0; len as usize];
            stream.read_exact(&mut frame).await.expect("a frame");
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
            if stream.write_all(&answer(version, correlation_id)).await.is_err() {
                return;
            }
        }
    });
    address
}

fn api_versions_answer(version: i16, correlation_id: i32, error_code: i16) -> Vec<u8> {
    let mut response = ApiVersionsResponse::default().with_error_code(error_code);
    for (key, max) in [(ApiVersionsRequest::KEY, 3), (MetadataRequest::KEY, 5)] {
        let api = kafka_protocol::messages::api_versions_response::ApiVersion::default();
        response.api_keys.push(api.with_api_key(key).with_min_version(1).with_max_version(max));
    }
    let mut body = correlation_id.to_be_bytes().to_vec();
    response.encode(&mut body, version).expect("encoded");
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

async fn connect(address: &str) -> Connection {
    Connection::connect(address, Duration::from_secs(10)).await.expect("connected")
}

#[tokio::test]
async fn versions_are_negotiated() {
    let address = broker(|version, id| api_versions_answer(version, id, 0)).await;
    let versions = connect(&address).await.api_versions().await.expect("an answer");
    assert_eq!(versions.range(MetadataRequest::KEY), Some((1, 5)));
    assert_eq!(versions.latest::<MetadataRequest>(), Some(5));
    assert_eq!(versions.latest_up_to::<MetadataRequest>(4), Some(4));
    assert_eq!(versions.latest_up_to::<MetadataRequest>(0), None);
    assert_eq!(versions.range(999), None);
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_version_0() {
    let answer = |version, id| match version {
        0 => api_versions_answer(0, id, 0),
        _ => api_versions_answer(0, id, 35),
    };
    let versions = connect(&broker(answer).await).await.api_versions().await.expect("an answer");
    assert_eq!(versions.latest::<ApiVersionsRequest>(), Some(3));
}

#[tokio::test]
async fn requests_are_pipelined() {
    let connection = connect(&broker(|version, id| api_versions_answer(version, id, id as i16)).await).await;
    let request = ApiVersionsRequest::default();
    let (a, b, c) =
        tokio::join!(connection.send(&request, 0), connection.send(&request, 2), connection.send(&request, 3));
    let codes: Vec<_> = [a, b, c].into_iter().map(|answer| answer.expect("an answer").error_code).collect();
    assert_eq!(codes, [1, 2, 3]);
}

#[tokio::test]
async fn answers_that_cannot_be_close_the_connection() {
    let wrong_id = |version, id: i32| api_versions_answer(version, id + 1, 0);
    let too_long = |_: i16, id: i32| [1_000_000_000_u32.to_be_bytes(), id.to_be_bytes()].concat();
    let too_short = |_: i16, _: i32| vec![0, 0, 0, 2, 0, 0];
    for address in [broker(wrong_id).await, broker(too_long).await, broker(too_short).await] {
        let connection = connect(&address).await;
        let request = ApiVersionsRequest::default();
        assert!(matches!(connection.send(&request, 0).await, Err(ClientError::Closed(_))));
        assert!(connection.is_closed());
        assert!(matches!(connection.send(&request, 0).await, Err(ClientError::Closed(_))));
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_times_out() {
    let address = broker(|_, _| Vec::new()).await;
    let options = Options { request_timeout: Duration::from_millis(50), ..Options::default() };
    let connection = Connection::connect_with(&address, options).await.expect("connected");
    let request = ApiVersionsRequest::default();
    let error = connection.send(&request, 0).await.expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut(_)) && error.is_ambiguous());
    assert!(connection.is_closed());
}

#[tokio::test]
async fn nobody_listening_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let error = Connection::connect(&address, Duration::from_secs(5)).await.err().expect("refused");
    assert!(matches!(error, ClientError::Connect { .. }) && !error.is_ambiguous());
}
