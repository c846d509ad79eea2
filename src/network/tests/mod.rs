//! The room as a whole, over real sockets, with a dispatcher that does as its requests say.

mod client;
mod files;
mod frames;
mod limits;

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::listener::{Endpoint, SocketServer, SocketSettings};
use super::threads::NetworkThreads;
use super::{ConnectionInfo, Dispatch, Outcome};
use crate::protocol::payload::{FileSlice, Part, Payload};

/// What a request's first two bytes tell the dispatcher to do.
mod op {
    pub const ECHO: u16 = 0;
    pub const WAIT: u16 = 1;
    pub const PANIC: u16 = 2;
    pub const FILE: u16 = 3;
    pub const NO_REPLY: u16 = 4;
    pub const CLOSE: u16 = 5;
    pub const PANIC_LATER: u16 = 6;
    pub const ANSWER_LEN: u16 = 7;
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Shared by the test and the handlers.
struct Fake {
    gate: Semaphore,
    begun: AtomicUsize,
    files: Mutex<Vec<FileSlice>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(0), begun: AtomicUsize::new(0), files: Mutex::default() })
    }

    async fn act(&self, frame: Bytes) -> Outcome {
        self.begun.fetch_add(1, Ordering::SeqCst);
        match u16::from_be_bytes([frame[0], frame[1]]) {
            op::ECHO => Outcome::Reply(frame.into()),
            op::WAIT => {
                self.gate.acquire().await.expect("open").forget();
                Outcome::Reply(frame.into())
            }
            op::PANIC => panic!("as asked"),
            op::PANIC_LATER => {
                tokio::task::yield_now().await;
                panic!("as asked, later")
            }
            op::FILE => {
                let mut parts = vec![Part::Bytes(frame)];
                parts.extend(self.files.lock().iter().cloned().map(Part::File));
                parts.push(Part::Bytes(Bytes::from_static(b"end")));
                Outcome::Reply(Payload { parts })
            }
            op::NO_REPLY => Outcome::NoReply,
            op::CLOSE => Outcome::Close("as asked".into()),
            op::ANSWER_LEN => Outcome::Reply(Bytes::from(frame.len().to_be_bytes().to_vec()).into()),
            other => panic!("unknown op {other}"),
        }
    }
}

impl Dispatch for Fake {
    fn dispatch(
        &self,
        _connection: Arc<ConnectionInfo>,
        frame: Bytes,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.act(frame))
    }
}

struct Server {
    fake: Arc<Fake>,
    server: SocketServer,
    address: SocketAddr,
    threads: NetworkThreads,
    control: Runtime,
}

impl Server {
    fn start(settings: SocketSettings) -> Self {
        let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 0 };
        let mut server = SocketServer::bind(&[endpoint], settings).expect("bound");
        let address = server.local_addresses()[0].1;
        let threads = NetworkThreads::start("test", 1).expect("a thread");
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let control = control.expect("a runtime");
        let fake = Fake::new();
        server.start(control.handle(), &threads.handles(), fake.clone()).expect("started");
        Self { fake, server, address, threads, control }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Client(stream)
    }

    fn wait_for_connections(&self, count: usize) {
        eventually(|| self.server.quotas().connections() == count);
    }

    fn wait_for_begun(&self, count: usize) {
        eventually(|| self.fake.begun.load(Ordering::SeqCst) == count);
    }

    fn shutdown(&mut self, patience: Duration) -> usize {
        self.control.block_on(self.server.shutdown(patience))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.threads.stop();
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&mut self, op: u16, body: &[u8]) {
        self.0.write_all(&request(op, body)).expect("sent");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut len = [0; 4];
        self.0.read_exact(&mut len).expect("a length");
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.0.read_exact(&mut frame).expect("a frame");
        frame
    }

    fn echo(&mut self, body: &[u8]) {
        self.send(op::ECHO, body);
        assert_eq!(self.receive(), request(op::ECHO, body)[4..]);
    }

    /// Waits until the server has closed; nothing more may come.
    fn expect_closed(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
            other => panic!("not closed: {other:?}"),
        }
    }
}

/// A frame with its length: two bytes that say what to do, six of nothing, and a body.
fn request(op: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = (8 + body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&op.to_be_bytes());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(body);
    frame
}

fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about");
        std::thread::yield_now();
    }
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// The process's resident memory in KiB.
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
