//! Requests and responses as frames: the header of a request, decoding its body behind the guard of
//! [`shape`](super::shape), and a response with its header. A frame here is what follows the four bytes of its length.
//!
//! Nothing is copied: strings and records are slices of the frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};

use super::records::{put_unsigned_varint, read_unsigned_varint};
use super::shape::{self, ShapeError};

/// The key of ApiVersions, whose header rules differ (KIP-511).
pub const API_VERSIONS: i16 = 18;
/// The key of ControlledShutdown, whose version 0 has no client id.
const CONTROLLED_SHUTDOWN: i16 = 7;
/// Key, version and correlation id.
const FIXED_HEADER_LEN: usize = 8;

/// Why a frame could not be read. The connection it came by must be closed, as the original does.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside its header, or a length in the header is wrong.
    #[error("the header of the request is malformed")]
    Header,
    /// The client id is not UTF-8.
    #[error("the client id is not UTF-8")]
    ClientId,
    /// The version is outside those of the request.
    #[error("version {version} of request {key} is not supported")]
    Version {
        /// The request's key.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// The key is unknown, or the body may not be decoded.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The body is malformed in a way the guard leaves to the decoder.
    #[error("the body is malformed: {0}")]
    Body(String),
}

/// Why a response or request could not be written: a field is set that its version lacks.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode version {version}: {reason}")]
pub struct EncodeError {
    /// The version asked for.
    pub version: i16,
    /// What `kafka-protocol` says.
    pub reason: String,
}

/// A request's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which request.
    pub api_key: i16,
    /// In which version.
    pub api_version: i16,
    /// Sent back with the response.
    pub correlation_id: i32,
    /// The client's name for itself; a slice of the frame.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Reads the header and leaves the body in `frame`. Versions that are not supported are read as the original does: in
    /// the flexible header if the key's newest version has that, so that ApiVersions can be answered.
    ///
    /// # Errors
    /// [`DecodeError`] if the key is unknown or the header malformed.
    pub fn parse(frame: &mut Bytes) -> Result<Self, DecodeError> {
        if frame.len() < FIXED_HEADER_LEN {
            return Err(DecodeError::Header);
        }
        let api_key = frame.get_i16();
        let api_version = frame.get_i16();
        let correlation_id = frame.get_i32();
        let flexible = shape::is_flexible(api_key, api_version).ok_or(ShapeError::UnknownKey(api_key))?;
        let client_id = match (api_key, api_version) {
            (CONTROLLED_SHUTDOWN, 0) => None,
            _ => read_client_id(frame)?,
        };
        if flexible {
            skip_tags(frame)?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }

    /// The client id, empty if there is none (as the original treats a null one).
    pub fn client_id_str(&self) -> &str {
        self.client_id.as_ref().map_or("", |id| id.as_str())
    }

    /// Whether this is an ApiVersions request of a version unknown to us: then the body must not be decoded, and the answer
    /// is UNSUPPORTED_VERSION in version 0, with the versions of ApiVersions (KIP-511).
    pub fn is_unsupported_api_versions(&self, newest: i16) -> bool {
        self.api_key == API_VERSIONS && !(0..=newest).contains(&self.api_version)
    }
}

fn read_client_id(frame: &mut Bytes) -> Result<Option<StrBytes>, DecodeError> {
    if frame.len() < 2 {
        return Err(DecodeError::Header);
    }
    let len = match frame.get_i16() {
        -1 => return Ok(None),
        len => usize::try_from(len).map_err(|_| DecodeError::Header)?,
    };
    if len > frame.len() {
        return Err(DecodeError::Header);
    }
    StrBytes::from_utf8(frame.split_to(len)).map(Some).map_err(|_| DecodeError::ClientId)
}

fn skip_tags(frame: &mut Bytes) -> Result<(), DecodeError> {
    let mut at = 0;
    let count = read_unsigned_varint(frame, &mut at).map_err(|_| DecodeError::Header)?;
    for _ in 0..count {
        read_unsigned_varint(frame, &mut at).map_err(|_| DecodeError::Header)?;
        let size = read_unsigned_varint(frame, &mut at).map_err(|_| DecodeError::Header)? as usize;
        if size > frame.len() - at {
            return Err(DecodeError::Header);
        }
        at += size;
    }
    frame.advance(at);
    Ok(())
}

/// Decodes a request's body, after the guard has let it pass. Bytes behind the request are ignored, as the original does.
///
/// # Errors
/// [`DecodeError`] if the version is not one of `T`'s or the body is malformed.
pub fn decode<T: Request>(mut body: Bytes, version: i16) -> Result<T, DecodeError> {
    check_version::<T>(T::KEY, version)?;
    shape::check(T::KEY, version, &body)?;
    T::decode(&mut body, version).map_err(|error| DecodeError::Body(error.to_string()))
}

fn check_version<T: Message>(key: i16, version: i16) -> Result<(), DecodeError> {
    if (T::VERSIONS.min..=T::VERSIONS.max).contains(&version) {
        return Ok(());
    }
    Err(DecodeError::Version { key, version })
}

/// Writes a response: its header (with tagged fields if the version is flexible, but never for ApiVersions) and its body.
///
/// # Errors
/// [`EncodeError`] if a field is set that the version lacks: a mistake of the handler.
pub fn encode_response<T: Encodable + HeaderVersion>(
    correlation_id: i32,
    version: i16,
    response: &T,
) -> Result<Bytes, EncodeError> {
    let fail = |error: anyhow::Error| EncodeError { version, reason: error.to_string() };
    let size = response.compute_size(version).map_err(fail)?;
    let mut out = BytesMut::with_capacity(size + 5);
    out.put_i32(correlation_id);
    if T::header_version(version) >= 1 {
        out.put_u8(0);
    }
    response.encode(&mut out, version).map_err(fail)?;
    Ok(out.freeze())
}

/// Writes a request, as clients and brokers send it.
///
/// # Errors
/// [`EncodeError`] if a field is set that the version lacks.
pub fn encode_request<T: Request>(
    correlation_id: i32,
    client_id: &str,
    version: i16,
    request: &T,
) -> Result<Bytes, EncodeError> {
    let fail = |error: anyhow::Error| EncodeError { version, reason: error.to_string() };
    let size = request.compute_size(version).map_err(fail)?;
    let mut out = BytesMut::with_capacity(size + FIXED_HEADER_LEN + 3 + client_id.len());
    out.put_i16(T::KEY);
    out.put_i16(version);
    out.put_i32(correlation_id);
    let header_version = T::header_version(version);
    if header_version >= 1 {
        let client_id = &client_id.as_bytes()[..client_id.len().min(i16::MAX as usize)];
        out.put_i16(i16::try_from(client_id.len()).unwrap_or(i16::MAX));
        out.put_slice(client_id);
    }
    if header_version >= 2 {
        out.put_u8(0);
    }
    request.encode(&mut out, version).map_err(fail)?;
    Ok(out.freeze())
}

/// Reads the response to a request of type `T`, from a broker that is trusted as to its counts.
///
/// # Errors
/// [`DecodeError`] if it is malformed.
pub fn decode_response<T: Request>(mut frame: Bytes, version: i16) -> Result<(i32, T::Response), DecodeError> {
    check_version::<T::Response>(T::KEY, version)?;
    if frame.len() < 4 {
        return Err(DecodeError::Header);
    }
    let correlation_id = frame.get_i32();
    if T::Response::header_version(version) >= 1 {
        skip_tags(&mut frame)?;
    }
    let response = T::Response::decode(&mut frame, version).map_err(|error| DecodeError::Body(error.to_string()))?;
    Ok((correlation_id, response))
}

/// Reads what a consumer said of itself in JoinGroup: two bytes of version, then the subscription. A newer version is read
/// as the newest known, as the original's `ConsumerProtocol` does.
///
/// # Errors
/// [`DecodeError`] if it is malformed; other kinds of members may put anything there.
pub fn decode_subscription(mut blob: Bytes) -> Result<ConsumerProtocolSubscription, DecodeError> {
    let version = consumer_version(&mut blob)?;
    shape::check_subscription(version, &blob)?;
    ConsumerProtocolSubscription::decode(&mut blob, version).map_err(|error| DecodeError::Body(error.to_string()))
}

/// Reads what the leader assigned to a consumer in SyncGroup, as [`decode_subscription`] does.
///
/// # Errors
/// [`DecodeError`] if it is malformed.
pub fn decode_assignment(mut blob: Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    let version = consumer_version(&mut blob)?;
    shape::check_assignment(version, &blob)?;
    ConsumerProtocolAssignment::decode(&mut blob, version).map_err(|error| DecodeError::Body(error.to_string()))
}

fn consumer_version(blob: &mut Bytes) -> Result<i16, DecodeError> {
    if blob.len() < 2 {
        return Err(DecodeError::Header);
    }
    let version = blob.get_i16();
    if version < 0 {
        return Err(DecodeError::Header);
    }
    Ok(version.min(ConsumerProtocolSubscription::VERSIONS.max))
}

/// The bytes of a length as compact strings and arrays have it: one more than it, as a varint.
pub(crate) fn put_compact_len(out: &mut Vec<u8>, len: usize) {
    put_unsigned_varint(out, u32::try_from(len).unwrap_or(u32::MAX - 1) + 1);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        ApiVersionsRequest, ApiVersionsResponse, ConsumerProtocolSubscription, ControlledShutdownRequest,
        MetadataRequest, MetadataResponse,
    };

    use super::*;

    #[test]
    fn headers_of_every_kind_parse() {
        for version in 0..=12 {
            let mut frame = encode_request(7, "me", version, &MetadataRequest::default()).expect("encodes");
            let header = RequestHeader::parse(&mut frame).expect("parses");
            assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, version, 7));
            assert_eq!(header.client_id_str(), "me");
            assert_eq!(decode::<MetadataRequest>(frame, version).expect("decodes"), MetadataRequest::default());
        }
        let shutdown = ControlledShutdownRequest::default().with_broker_epoch(-1);
        let mut frame = encode_request(7, "me", 0, &shutdown).expect("encodes");
        assert_eq!(RequestHeader::parse(&mut frame).expect("parses").client_id, None);
        assert_eq!(frame.len(), 4);
    }

    #[test]
    fn api_versions_falls_back() {
        let mut frame = encode_request(7, "me", 4, &ApiVersionsRequest::default()).expect("encodes").to_vec();
        frame[3] = 99;
        let mut frame = Bytes::from(frame);
        let header = RequestHeader::parse(&mut frame).expect("parses");
        assert!(header.is_unsupported_api_versions(4));
        let answer = encode_response(7, 0, &ApiVersionsResponse::default().with_error_code(35)).expect("encodes");
        assert_eq!(answer[..], [0, 0, 0, 7, 0, 35, 0, 0, 0, 0]);
        let flexible = encode_response(7, 3, &ApiVersionsResponse::default()).expect("encodes");
        assert_eq!(flexible[4..6], [0, 0], "no tagged fields in the header");
    }

    #[test]
    fn responses_read_back() {
        for version in 0..=12 {
            let frame = encode_response(9, version, &MetadataResponse::default()).expect("encodes");
            let (id, response) = decode_response::<MetadataRequest>(frame, version).expect("decodes");
            assert_eq!((id, response), (9, MetadataResponse::default()));
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let whole = encode_request(7, "me", 9, &MetadataRequest::default()).expect("encodes");
        for len in 0..13 {
            assert!(RequestHeader::parse(&mut whole.slice(..len)).is_err(), "{len}");
        }
        let mut unknown = Bytes::from_static(&[0, 99, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(RequestHeader::parse(&mut unknown), Err(DecodeError::Shape(ShapeError::UnknownKey(99)))));
        let mut tags = Bytes::from_static(&[0, 3, 0, 9, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(RequestHeader::parse(&mut tags).is_err());
    }

    #[test]
    fn subscriptions_are_guarded() {
        let mut blob = BytesMut::new();
        blob.put_i16(9);
        let subscription = ConsumerProtocolSubscription::default().with_topics(vec!["a".into()]);
        subscription.encode(&mut blob, 3).expect("encodes");
        assert_eq!(decode_subscription(blob.freeze()).expect("decodes"), subscription);
        let hostile = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]);
        assert!(matches!(decode_subscription(hostile.clone()), Err(DecodeError::Shape(_))));
        assert!(matches!(decode_assignment(hostile), Err(DecodeError::Shape(_))));
    }
}
