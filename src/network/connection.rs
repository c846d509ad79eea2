//! One client's connection: a task that reads frames, has them handled one after the other in the order they came,
//! and writes the answers in that order.
//!
//! Invariants: at most one request of a connection is being handled (as Kafka mutes the channel); memory for a frame
//! follows the bytes received; an idle connection holds no buffer. There is no queue between reading and handling, so
//! `queued.max.requests` holds by construction: a request that has been received is handled at once or stays in its
//! connection's buffer, and while it does, that connection is not read. Never knows what is in a frame.

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tracing::{debug, error, info};

use super::buffers::{self, ReadBuffer};
use super::limits::{RequestMemory, Reserved, Slot};
use super::output::Output;
use super::sendfile::{self, ReadAhead};
use super::{ConnectionInfo, Dispatch, Outcome};

/// The bytes of a frame's length.
const PREFIX: usize = 4;
/// The shortest request: API key, version and correlation id.
const SHORTEST: usize = 8;
/// How many bytes to ask for when the frame at hand lacks fewer.
const READ: usize = 64 * 1024;
/// Frames up to this size are copied out of the read buffer, so that a request that waits, or a handler that keeps a
/// name, holds on to these few bytes and not to the buffer.
const COPIED: usize = 1024;
/// Answers are written once so many bytes have gathered, even if more requests lie in the buffer.
const GATHERED: usize = 256 * 1024;
/// After so many requests in a row the thread's other connections get their turn.
const TURN: usize = 32;

/// What all connections of a server share.
pub struct Shared {
    /// `socket.request.max.bytes`.
    pub max_request_bytes: usize,
    /// `queued.max.request.bytes`.
    pub memory: Arc<RequestMemory>,
    /// Set once the server stops: requests in flight are answered, and no more are begun.
    pub draining: AtomicBool,
    /// Who handles the requests.
    pub dispatch: Arc<dyn Dispatch>,
}

/// The connections of one thread, so that they can be closed from without: idle ones, and all at the end.
#[derive(Default)]
pub struct Registry {
    /// Locked for moments only; a socket is never closed while its entry is here.
    entries: Mutex<HashMap<u64, Entry>>,
    /// The thread's coarse clock: counts the sweeps.
    tick: AtomicU32,
}

struct Entry {
    fd: RawFd,
    activity: Arc<Activity>,
}

/// When a connection last did something.
#[derive(Default)]
struct Activity {
    tick: AtomicU32,
    handling: AtomicBool,
}

impl Registry {
    fn enter(self: &Arc<Self>, id: u64, fd: RawFd) -> Registration {
        let activity = Arc::new(Activity::default());
        activity.tick.store(self.tick.load(Ordering::Relaxed), Ordering::Relaxed);
        self.entries.lock().insert(id, Entry { fd, activity: activity.clone() });
        Registration { registry: self.clone(), id, activity }
    }

    /// Moves the clock on by one tick and shuts down each connection that has done nothing for more than `idle_ticks`
    /// and has no request in work. Returns how many.
    pub fn sweep(&self, idle_ticks: u32) -> usize {
        let now = self.tick.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut closed = 0;
        for entry in self.entries.lock().values() {
            let since = now.wrapping_sub(entry.activity.tick.load(Ordering::Relaxed));
            if since > idle_ticks && !entry.activity.handling.load(Ordering::Relaxed) {
                // Fails only if the peer has gone already. The task then ends as if the client had closed.
                let _ = shutdown(entry.fd, Shutdown::Both);
                closed += 1;
            }
        }
        closed
    }

    /// Shuts down all connections in one or both directions. With [`Shutdown::Read`], those that wait for a request
    /// end, and those that answer one can finish.
    pub fn shutdown_all(&self, how: Shutdown) {
        for entry in self.entries.lock().values() {
            // Fails only if the peer has gone already.
            let _ = shutdown(entry.fd, how);
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A connection's entry in the registry, taken out when it is dropped.
struct Registration {
    registry: Arc<Registry>,
    id: u64,
    activity: Arc<Activity>,
}

impl Registration {
    fn touch(&self) {
        self.activity.tick.store(self.registry.tick.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn handling(&self, handling: bool) {
        self.touch();
        self.activity.handling.store(handling, Ordering::Relaxed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.entries.lock().remove(&self.id);
    }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the client closed it")]
    ByClient,
    #[error("the client closed it in the middle of a request, {0} bytes in")]
    InRequest(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a request of {0} bytes, where {SHORTEST} to {1} are allowed")]
    Length(i32, usize),
    #[error("{0}")]
    ByHandler(String),
    #[error("the handler panicked: {0}")]
    Panicked(String),
    #[error("the broker stops")]
    Draining,
}

/// A connection before its task runs.
pub struct Connection {
    // Dropped before the stream, so that nobody finds the number of a closed socket.
    registration: Registration,
    stream: TcpStream,
    info: Arc<ConnectionInfo>,
    shared: Arc<Shared>,
    ahead: ReadAhead,
    _slot: Slot,
}

impl Connection {
    /// Enters an accepted socket into the registry. `number` is unique in the registry.
    pub fn new(
        stream: TcpStream,
        info: ConnectionInfo,
        number: u64,
        shared: Arc<Shared>,
        registry: &Arc<Registry>,
        slot: Slot,
    ) -> Self {
        let registration = registry.enter(number, stream.as_raw_fd());
        let ahead = ReadAhead::default();
        Self { registration, stream, info: Arc::new(info), shared, ahead, _slot: slot }
    }

    /// Serves the connection until it ends.
    pub async fn run(mut self) {
        let closed = loop {
            if self.shared.draining.load(Ordering::SeqCst) {
                break Closed::Draining;
            }
            if let Err(error) = self.stream.readable().await {
                break Closed::Io(error);
            }
            // In a box of its own, so that the task of an idle connection stays small.
            if let Err(closed) = Box::pin(self.serve()).await {
                break closed;
            }
        };
        let id = &self.info.id;
        match closed {
            Closed::Panicked(_) => error!(connection = %id, "closing the connection: {closed}"),
            Closed::Length(..) | Closed::ByHandler(_) => info!(connection = %id, "closing the connection: {closed}"),
            _ => debug!(connection = %id, "closing the connection: {closed}"),
        }
    }

    /// Reads and answers until there is nothing more to do for now.
    async fn serve(&mut self) -> Result<(), Closed> {
        let mut buffer = buffers::take();
        let result = self.serve_with(&mut buffer).await;
        buffers::give_back(buffer);
        result
    }

    async fn serve_with(&mut self, buffer: &mut ReadBuffer) -> Result<(), Closed> {
        let mut output = Output::default();
        let mut reserved: Option<Reserved> = None;
        loop {
            let missing = missing(buffer.as_slice(), self.shared.max_request_bytes)?;
            if self.shared.memory.is_limited() && reserved.is_none() && buffer.len() >= PREFIX {
                reserved = Some(self.shared.memory.reserve(buffer.len() + missing).await);
            }
            if !self.read(buffer, missing).await? {
                return Ok(());
            }
            let mut handled = 0;
            while let Some(frame) = next_frame(buffer, self.shared.max_request_bytes)? {
                self.handle(frame, buffer, &mut output, &mut reserved).await?;
                handled += 1;
                if handled % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            self.flush(&mut output).await?;
            if self.shared.draining.load(Ordering::Relaxed) {
                return Err(Closed::Draining);
            }
        }
    }

    /// Reads once. `false` if nothing is there yet and nothing has been begun.
    async fn read(&mut self, buffer: &mut ReadBuffer, missing: usize) -> Result<bool, Closed> {
        let begun = buffer.len();
        // Of a large frame no more than its end, so that the next one starts at the front of the buffer.
        let limit = if missing < READ { READ } else { missing };
        let mut room = buffer.grow(missing).limit(limit);
        let mut read = pin!(self.stream.read_buf(&mut room));
        let first = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
        let read = match first {
            Poll::Ready(read) => read?,
            Poll::Pending if begun == 0 => return Ok(false),
            Poll::Pending => read.await?,
        };
        self.registration.touch();
        match (read, begun) {
            (0, 0) => Err(Closed::ByClient),
            (0, begun) => Err(Closed::InRequest(begun)),
            _ => Ok(true),
        }
    }

    async fn handle(
        &mut self,
        frame: Bytes,
        buffer: &mut ReadBuffer,
        output: &mut Output,
        reserved: &mut Option<Reserved>,
    ) -> Result<(), Closed> {
        self.registration.handling(true);
        let shared = self.shared.clone();
        let mut handling = Guarded::start(|| shared.dispatch.dispatch(self.info.clone(), frame))?;
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut handling).poll(cx))).await;
        // As in Kafka, a request's bytes count until its handler has done what it can do at once.
        *reserved = None;
        let outcome = match first {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => {
                if buffer.is_empty() {
                    buffers::give_back(std::mem::take(buffer));
                }
                // A client that does not take its answers is idle, whatever else it has asked for.
                self.registration.handling(false);
                self.flush(output).await?;
                self.registration.handling(true);
                handling.await?
            }
        };
        self.registration.handling(false);
        match outcome {
            Outcome::Reply(payload) => output.push(payload).map_err(io::Error::other)?,
            Outcome::NoReply => {}
            Outcome::Close(why) => {
                self.flush(output).await?;
                return Err(Closed::ByHandler(why));
            }
        }
        if output.len() >= GATHERED || output.has_file() {
            self.flush(output).await?;
        }
        if self.shared.draining.load(Ordering::Relaxed) {
            self.flush(output).await?;
            return Err(Closed::Draining);
        }
        Ok(())
    }

    async fn flush(&mut self, output: &mut Output) -> Result<(), Closed> {
        if !output.is_empty() {
            let Self { registration, stream, ahead, .. } = self;
            sendfile::write_all(stream, output, ahead, || registration.touch()).await?;
        }
        Ok(())
    }
}

/// How many bytes the frame at the front of `received` lacks; at least one.
fn missing(received: &[u8], max: usize) -> Result<usize, Closed> {
    let announced = announced_len(received, max)?.unwrap_or(SHORTEST);
    Ok((PREFIX + announced).saturating_sub(received.len()).max(1))
}

/// The length announced in the first bytes of `received`, if they are there.
fn announced_len(received: &[u8], max: usize) -> Result<Option<usize>, Closed> {
    let Some(prefix) = received.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = i32::from_be_bytes(*prefix);
    match usize::try_from(len) {
        Ok(len) if (SHORTEST..=max).contains(&len) => Ok(Some(len)),
        _ => Err(Closed::Length(len, max)),
    }
}

/// Takes the frame at the front of the buffer, if all of it is there.
fn next_frame(buffer: &mut ReadBuffer, max: usize) -> Result<Option<Bytes>, Closed> {
    match announced_len(buffer.as_slice(), max)? {
        Some(len) if buffer.len() >= PREFIX + len => {
            buffer.skip(PREFIX);
            if len > COPIED {
                return Ok(Some(buffer.take(len)));
            }
            let frame = Bytes::copy_from_slice(&buffer.as_slice()[..len]);
            buffer.skip(len);
            Ok(Some(frame))
        }
        _ => Ok(None),
    }
}

/// A handler at work, whose panic is a result.
struct Guarded<'a>(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>);

impl<'a> Guarded<'a> {
    fn start(start: impl FnOnce() -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>) -> Result<Self, Closed> {
        catch_unwind(AssertUnwindSafe(start)).map(Self).map_err(|panic| Closed::Panicked(text(panic.as_ref())))
    }
}

impl Future for Guarded<'_> {
    type Output = Result<Outcome, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(Closed::Panicked(text(panic.as_ref())))),
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_before_anything_is_read_for_them() {
        for bad in [-1, i32::MIN, 0, 7, 101, i32::MAX] {
            assert!(matches!(missing(&bad.to_be_bytes(), 100), Err(Closed::Length(len, 100)) if len == bad));
        }
        assert_eq!(missing(&100_i32.to_be_bytes(), 100).expect("allowed"), 100);
        assert_eq!(missing(&[0, 0], 100).expect("allowed"), 10);
    }

    #[test]
    fn an_idle_connections_task_is_small() {
        fn size<F: Future>(_: impl FnOnce(Connection) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(Connection::run) < 512, "{}", size(Connection::run));
    }
}
