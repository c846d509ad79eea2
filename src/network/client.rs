//! A connection to a broker, for other brokers and the command-line tools: requests go out in the order they are made,
//! any number at a time, and each answer finds its request by the correlation id.
//!
//! Once a connection has failed (an error, an answer out of order or too long, a request that timed out) it stays
//! failed; whoever wants another makes another. Never knows what the requests are for.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How many requests may wait to be written before the next one waits to be queued.
const QUEUED: usize = 64;
/// The answer to an ApiVersions request of a version that the broker does not know.
const UNSUPPORTED_VERSION: i16 = 35;

/// Why a request got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The address could not be looked up or connected to.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// The address as given.
        address: String,
        /// What went wrong.
        cause: Arc<io::Error>,
    },
    /// Nothing came in the time allowed.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke before the answer.
    #[error("the connection is closed: {0}")]
    Closed(Arc<str>),
    /// The request could not be encoded in the version asked for, or the answer not decoded.
    #[error("API key {api_key} version {version}: {cause}")]
    Codec {
        /// The request's API key.
        api_key: i16,
        /// The request's version.
        version: i16,
        /// What went wrong.
        cause: Arc<str>,
    },
}

impl ClientError {
    /// Whether the broker may have received the request, so that it is not known what became of it.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Closed(_))
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// The client id that goes into each request's header.
    pub client_id: StrBytes,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an answer may take; longer, and the connection is closed.
    pub request_timeout: Duration,
    /// The longest answer accepted, in bytes.
    pub max_response_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: StrBytes::from_static_str("barnabas"),
            connect_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            max_response_bytes: 256 * 1024 * 1024,
        }
    }
}

struct Outgoing {
    frame: Bytes,
    correlation_id: i32,
    answer: Option<oneshot::Sender<Result<Bytes, ClientError>>>,
}

#[derive(Default)]
struct Waiting {
    answers: VecDeque<(i32, oneshot::Sender<Result<Bytes, ClientError>>)>,
    failed: Option<Arc<str>>,
    next_correlation_id: i32,
}

/// A connection to one broker. Requests may be made from several tasks at once.
pub struct Connection {
    options: Options,
    outgoing: mpsc::Sender<Outgoing>,
    /// Shared with the two tasks below; locked for moments only.
    waiting: Arc<Mutex<Waiting>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Connection {
    /// Connects to `address` (`host:port`) with the default options, except that both connecting and each answer may
    /// take `timeout`.
    pub async fn connect(address: &str, timeout: Duration) -> Result<Self, ClientError> {
        let options = Options { connect_timeout: timeout, request_timeout: timeout, ..Options::default() };
        Self::connect_with(address, options).await
    }

    /// Connects to `address` (`host:port`), trying all addresses of the host.
    pub async fn connect_with(address: &str, options: Options) -> Result<Self, ClientError> {
        let failed = |cause: io::Error| ClientError::Connect { address: address.into(), cause: Arc::new(cause) };
        let connecting = tokio::time::timeout(options.connect_timeout, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (reader, writer) = stream.into_split();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (outgoing, queue) = mpsc::channel(QUEUED);
        let max = options.max_response_bytes;
        let tasks = [
            tokio::spawn(fail_at_end(waiting.clone(), write(writer, queue, waiting.clone()))),
            tokio::spawn(fail_at_end(waiting.clone(), read(reader, waiting.clone(), max))),
        ];
        Ok(Self { options, outgoing, waiting, tasks })
    }

    /// Whether the connection has failed for good.
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().failed.is_some()
    }

    /// Sends a request and waits for its answer. Several can be under way; they are answered in the order in which
    /// their futures were first polled.
    pub async fn send<R: Request>(&self, request: &R, version: i16) -> Result<R::Response, ClientError> {
        let header_version = R::header_version(version);
        let body = encode(request, R::KEY, version)?;
        let response = self.send_raw(R::KEY, version, header_version, body, self.options.request_timeout).await?;
        decode::<R>(response, version)
    }

    /// Sends a request to which no answer comes, as Produce with acks=0. Returns once it is queued.
    pub async fn post<R: Request>(&self, request: &R, version: i16) -> Result<(), ClientError> {
        let body = encode(request, R::KEY, version)?;
        let (frame, correlation_id) = self.frame(R::KEY, version, R::header_version(version), &body)?;
        self.queue(Outgoing { frame, correlation_id, answer: None }).await
    }

    /// Sends an encoded body and returns the answer from behind its correlation id: the rest of the header (a byte or
    /// more of tagged fields if the response's header version is 1) and the body.
    pub async fn send_raw(
        &self,
        api_key: i16,
        version: i16,
        header_version: i16,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, ClientError> {
        let (frame, correlation_id) = self.frame(api_key, version, header_version, &body)?;
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.queue(Outgoing { frame, correlation_id, answer: Some(answer) }).await?;
            answered.await.unwrap_or_else(|_| Err(self.closed()))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => {
                self.fail(&format!("API key {api_key} was not answered within {timeout:?}"));
                Err(ClientError::TimedOut(timeout))
            }
        }
    }

    /// Asks the broker which versions it knows (KIP-35, KIP-511), falling back to version 0 for an old broker.
    pub async fn api_versions(&self) -> Result<ApiVersions, ClientError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("barnabas"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let key = ApiVersionsRequest::KEY;
        let body = encode(&request, key, 3)?;
        let timeout = self.options.request_timeout;
        let header_version = ApiVersionsRequest::header_version(3);
        let response = self.send_raw(key, 3, header_version, body, timeout).await?;
        let unknown = response.first_chunk::<2>().is_some_and(|code| i16::from_be_bytes(*code) == UNSUPPORTED_VERSION);
        let answer = if unknown {
            self.send(&ApiVersionsRequest::default(), 0).await?
        } else {
            decode::<ApiVersionsRequest>(response, 3)?
        };
        let ranges = answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        Ok(ApiVersions { ranges })
    }

    fn frame(&self, key: i16, version: i16, header: i16, body: &[u8]) -> Result<(Bytes, i32), ClientError> {
        let correlation_id = {
            let mut waiting = self.waiting.lock();
            waiting.next_correlation_id = waiting.next_correlation_id.wrapping_add(1) & i32::MAX;
            waiting.next_correlation_id
        };
        let header_fields = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(self.options.client_id.clone()));
        let mut frame = BytesMut::with_capacity(64 + body.len());
        frame.put_i32(0);
        header_fields.encode(&mut frame, header).map_err(|error| codec(key, version, &error))?;
        frame.put_slice(body);
        let len = i32::try_from(frame.len() - 4).map_err(|error| codec(key, version, &error))?;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        Ok((frame.freeze(), correlation_id))
    }

    async fn queue(&self, outgoing: Outgoing) -> Result<(), ClientError> {
        if self.is_closed() {
            return Err(self.closed());
        }
        self.outgoing.send(outgoing).await.map_err(|_| self.closed())
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed(self.waiting.lock().failed.clone().unwrap_or_else(|| "unused".into()))
    }

    fn fail(&self, why: &str) {
        self.tasks.iter().for_each(JoinHandle::abort);
        fail(&self.waiting, why);
    }
}

/// The versions a broker knows.
#[derive(Debug, Clone, Default)]
pub struct ApiVersions {
    ranges: Vec<(i16, i16, i16)>,
}

impl ApiVersions {
    /// The lowest and highest version of an API that the broker knows.
    pub fn range(&self, api_key: i16) -> Option<(i16, i16)> {
        self.ranges.iter().find(|range| range.0 == api_key).map(|range| (range.1, range.2))
    }

    /// The highest version of `R` that both sides know.
    pub fn latest<R: Request>(&self) -> Option<i16> {
        self.latest_up_to::<R>(i16::MAX)
    }

    /// The highest version of `R`, at most `max`, that both sides know.
    pub fn latest_up_to<R: Request>(&self, max: i16) -> Option<i16> {
        let (theirs_min, theirs_max) = self.range(R::KEY)?;
        let version = theirs_max.min(R::VERSIONS.max).min(max);
        (version >= theirs_min.max(R::VERSIONS.min)).then_some(version)
    }

    /// All ranges: API key, lowest and highest version.
    pub fn ranges(&self) -> &[(i16, i16, i16)] {
        &self.ranges
    }
}

fn codec(api_key: i16, version: i16, cause: &dyn std::fmt::Display) -> ClientError {
    ClientError::Codec { api_key, version, cause: cause.to_string().into() }
}

fn encode(request: &impl Encodable, key: i16, version: i16) -> Result<Bytes, ClientError> {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).map_err(|error| codec(key, version, &error))?;
    Ok(body.freeze())
}

fn decode<R: Request>(mut response: Bytes, version: i16) -> Result<R::Response, ClientError> {
    if R::Response::header_version(version) >= 1 {
        skip_tagged_fields(&mut response).ok_or_else(|| codec(R::KEY, version, &"a broken header"))?;
    }
    R::Response::decode(&mut response, version).map_err(|error| codec(R::KEY, version, &error))
}

fn skip_tagged_fields(bytes: &mut Bytes) -> Option<()> {
    for _ in 0..varint(bytes)? {
        varint(bytes)?;
        let len = varint(bytes)? as usize;
        (len <= bytes.len()).then(|| bytes.advance(len))?;
    }
    Some(())
}

fn varint(bytes: &mut Bytes) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

async fn fail_at_end(waiting: Arc<Mutex<Waiting>>, task: impl Future<Output = io::Result<()>>) {
    let why = task.await.err().map_or_else(|| "the broker closed it".to_string(), |error| error.to_string());
    fail(&waiting, &why);
}

fn fail(waiting: &Mutex<Waiting>, why: &str) {
    let (why, answers) = {
        let mut waiting = waiting.lock();
        (waiting.failed.get_or_insert_with(|| why.into()).clone(), std::mem::take(&mut waiting.answers))
    };
    for (_, answer) in answers {
        // Nobody may be waiting for it any more.
        let _ = answer.send(Err(ClientError::Closed(why.clone())));
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    waiting: Arc<Mutex<Waiting>>,
) -> io::Result<()> {
    while let Some(outgoing) = queue.recv().await {
        if let Some(answer) = outgoing.answer {
            let mut waiting = waiting.lock();
            match &waiting.failed {
                Some(why) => {
                    let _ = answer.send(Err(ClientError::Closed(why.clone())));
                }
                None => waiting.answers.push_back((outgoing.correlation_id, answer)),
            }
        }
        writer.write_all(&outgoing.frame).await?;
    }
    Ok(())
}

async fn read(mut reader: OwnedReadHalf, waiting: Arc<Mutex<Waiting>>, max: usize) -> io::Result<()> {
    loop {
        let len = match reader.read_i32().await {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let len = usize::try_from(len).ok().filter(|len| (4..=max).contains(len));
        let len = len.ok_or_else(|| io::Error::other("an answer whose length is not allowed"))?;
        let mut frame = BytesMut::new();
        while frame.len() < len {
            // Grows with what has come, not with what was announced.
            frame.reserve((len - frame.len()).min(frame.len().max(16 * 1024)));
            let left = len - frame.len();
            if reader.read_buf(&mut (&mut frame).limit(left)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let correlation_id = frame.get_i32();
        let next = waiting.lock().answers.pop_front();
        match next {
            // The asker may have gone.
            Some((expected, answer)) if expected == correlation_id => drop(answer.send(Ok(frame.freeze()))),
            Some(_) | None => return Err(io::Error::other("an answer to no request, or out of order")),
        }
    }
}
