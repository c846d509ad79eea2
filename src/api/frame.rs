//! Stands in for `protocol::frame` until that lands; same names.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader as Header, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};

/// A request's header.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    /// The API key.
    pub api_key: i16,
    /// The version.
    pub api_version: i16,
    /// Goes back with the answer.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Reads the header off the front of `frame`.
    pub fn parse(frame: &mut Bytes) -> anyhow::Result<Self> {
        anyhow::ensure!(frame.len() >= 8, "too short");
        let key = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header_version = match kafka_protocol::messages::ApiKey::try_from(key) {
            Ok(api) => api.request_header_version(version),
            Err(()) => anyhow::bail!("unknown API key {key}"),
        };
        let header = Header::decode(frame, header_version)?;
        Ok(Self {
            api_key: key,
            api_version: version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
        })
    }
}

/// Decodes a body.
pub fn decode<R: Request + Decodable>(mut body: Bytes, version: i16) -> anyhow::Result<R> {
    let request = R::decode(&mut body, version)?;
    anyhow::ensure!(!body.has_remaining(), "bytes left over");
    Ok(request)
}

/// Encodes an answer.
pub fn encode_response<R: Message + Encodable + HeaderVersion>(
    correlation_id: i32,
    api_key: i16,
    version: i16,
    response: &R,
) -> anyhow::Result<Bytes> {
    let mut out = BytesMut::new();
    let header_version = if api_key == 18 { 0 } else { R::header_version(version) };
    ResponseHeader::default().with_correlation_id(correlation_id).encode(&mut out, header_version)?;
    response.encode(&mut out, version)?;
    Ok(out.freeze())
}
