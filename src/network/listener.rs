//! The server's sockets: binds the endpoints, accepts within the limits, deals connections out to the network threads
//! in turn, and drains them at the end. Never knows what is said on a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::Shutdown;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::connection::{Connection, Shared};
use super::lanes::Lanes;
use super::limits::{ConnectionLimits, ConnectionQuotas, RequestMemory};
use super::{ConnectionInfo, Dispatch};

/// How long an acceptor waits after the system refused it a socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One address to listen on.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The listener's name, for example `PLAINTEXT`.
    pub listener: Arc<str>,
    /// The host to bind; empty for all addresses.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

/// What the sockets are set to and held to. The defaults are Kafka's.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// `socket.send.buffer.bytes`; -1 leaves it to the system.
    pub send_buffer_bytes: i32,
    /// `socket.receive.buffer.bytes`; -1 leaves it to the system.
    pub receive_buffer_bytes: i32,
    /// `socket.listen.backlog.size`.
    pub backlog: i32,
    /// `socket.request.max.bytes`.
    pub max_request_bytes: usize,
    /// `connections.max.idle.ms`; `None` for ever.
    pub max_idle: Option<Duration>,
    /// `queued.max.request.bytes`; -1 for none.
    pub queued_max_request_bytes: i64,
    /// How many connections there may be.
    pub limits: ConnectionLimits,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            send_buffer_bytes: 102_400,
            receive_buffer_bytes: 102_400,
            backlog: 50,
            max_request_bytes: 104_857_600,
            max_idle: Some(Duration::from_secs(600)),
            queued_max_request_bytes: -1,
            limits: ConnectionLimits::default(),
        }
    }
}

struct Bound {
    listener: Arc<str>,
    socket: std::net::TcpListener,
    address: SocketAddr,
}

struct Running {
    acceptors: Vec<JoinHandle<()>>,
    /// The lane of the listener that has a thread of its own.
    apart: Lanes,
    shared: Arc<Shared>,
}

/// Listens on the broker's endpoints and serves what comes in.
///
/// First bound, so that the ports are known and kept, then started, when the broker can answer.
pub struct SocketServer {
    settings: SocketSettings,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    bound: Vec<Bound>,
    quotas: ConnectionQuotas,
    lanes: Lanes,
    running: Option<Running>,
}

impl SocketServer {
    /// Binds all endpoints. The error says which one could not be.
    pub fn bind(endpoints: &[Endpoint], settings: SocketSettings) -> io::Result<Self> {
        let bound = endpoints.iter().map(|endpoint| bind(endpoint, &settings)).collect::<io::Result<Vec<_>>>()?;
        let addresses = bound.iter().map(|bound| (bound.listener.clone(), bound.address)).collect();
        let quotas = ConnectionQuotas::new(settings.limits.clone());
        let lanes = Lanes::new(settings.max_idle);
        Ok(Self { settings, addresses, bound, quotas, lanes, running: None })
    }

    /// The addresses bound, with the ports that the system chose, in the order of the endpoints.
    pub fn local_addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// The count of connections; its limits can be changed while the server runs.
    pub fn quotas(&self) -> &ConnectionQuotas {
        &self.quotas
    }

    /// The threads that connections are dealt out to, once the server accepts; they may become more or fewer.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Begins to accept: on tasks of `acceptors`, with the connections on `threads` in turn. A second call does
    /// nothing.
    pub fn start(&mut self, acceptors: &Handle, threads: &[Handle], dispatch: Arc<dyn Dispatch>) -> io::Result<()> {
        self.start_apart(acceptors, threads, None, dispatch)
    }

    /// The same, with the connections of one listener on a thread of its own: nothing that others ask holds them up.
    pub fn start_apart(
        &mut self,
        acceptors: &Handle,
        threads: &[Handle],
        apart: Option<(&str, Handle)>,
        dispatch: Arc<dyn Dispatch>,
    ) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let shared = Arc::new(Shared {
            max_request_bytes: self.settings.max_request_bytes,
            memory: RequestMemory::new(self.settings.queued_max_request_bytes),
            draining: AtomicBool::new(false),
            dispatch,
        });
        self.lanes.add(threads);
        let own = Lanes::new(self.settings.max_idle);
        own.add(apart.as_ref().map(|(_, thread)| thread.clone()).as_slice());
        let numbers = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for bound in self.bound.drain(..) {
            let _in_runtime = acceptors.enter();
            let is_apart = apart.as_ref().is_some_and(|(listener, _)| **listener == *bound.listener);
            let acceptor = Acceptor {
                socket: TcpListener::from_std(bound.socket)?,
                listener: bound.listener,
                send_buffer_bytes: self.settings.send_buffer_bytes,
                quotas: self.quotas.clone(),
                lanes: if is_apart { own.clone() } else { self.lanes.clone() },
                shared: shared.clone(),
                numbers: numbers.clone(),
            };
            tasks.push(acceptors.spawn(acceptor.run()));
        }
        self.running = Some(Running { acceptors: tasks, apart: own, shared });
        Ok(())
    }

    /// Stops: accepts no more, closes connections that wait for a request, lets those at work answer for up to
    /// `patience`, then closes them too. Returns how many had to be cut off.
    pub async fn shutdown(&mut self, patience: Duration) -> usize {
        self.bound.clear();
        let Some(running) = self.running.take() else { return 0 };
        for acceptor in &running.acceptors {
            acceptor.abort();
        }
        for acceptor in running.acceptors {
            // The sockets are closed once the task is gone.
            let _ = acceptor.await;
        }
        running.shared.draining.store(true, Ordering::SeqCst);
        let lanes = [&self.lanes, &running.apart];
        lanes.iter().for_each(|lanes| lanes.shutdown_all(Shutdown::Read));
        let drained = tokio::time::timeout(patience, self.quotas.none_left()).await.is_ok();
        let left = if drained { 0 } else { self.quotas.connections() };
        lanes.iter().for_each(|lanes| lanes.shutdown_all(Shutdown::Both));
        if left > 0 {
            warn!("{left} connections were cut off while their requests were in work");
        }
        left
    }
}

fn bind(endpoint: &Endpoint, settings: &SocketSettings) -> io::Result<Bound> {
    let named = |error: io::Error| {
        let text = format!("cannot listen on {}://{}:{}: {error}", endpoint.listener, endpoint.host, endpoint.port);
        io::Error::new(error.kind(), text)
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in candidates(endpoint).map_err(named)? {
        match listen(address, settings) {
            Ok(socket) => {
                let address = socket.local_addr().map_err(named)?;
                return Ok(Bound { listener: endpoint.listener.clone(), socket, address });
            }
            Err(error) => last = error,
        }
    }
    Err(named(last))
}

/// Where to bind, best first. An empty host is all addresses of both families, as in Java.
fn candidates(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    if endpoint.host.is_empty() {
        let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(any.map(|ip| SocketAddr::new(ip, endpoint.port)).to_vec());
    }
    Ok((endpoint.host.as_str(), endpoint.port).to_socket_addrs()?.collect())
}

fn listen(address: SocketAddr, settings: &SocketSettings) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    if let Ok(bytes) = usize::try_from(settings.receive_buffer_bytes) {
        // Before listening: accepted sockets inherit it, and the window's scale is settled in the handshake.
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(settings.backlog)?;
    Ok(socket.into())
}

struct Acceptor {
    socket: TcpListener,
    listener: Arc<str>,
    send_buffer_bytes: i32,
    quotas: ConnectionQuotas,
    lanes: Lanes,
    shared: Arc<Shared>,
    numbers: Arc<AtomicU64>,
}

impl Acceptor {
    async fn run(self) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    if let Err(error) = self.accepted(stream, peer).await {
                        debug!(%peer, "a new connection failed: {error}");
                    }
                }
                Err(error) => {
                    // Out of descriptors or memory, or the peer was quicker: neither ends the listener.
                    warn!(listener = %self.listener, "cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accepted(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let delay = self.quotas.creation_delay(&self.listener, Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let slot = match self.quotas.admit_when_free(&self.listener, peer.ip()).await {
            Ok(slot) => slot,
            Err(limit) => {
                info!("Rejected connection from {}, address already has the configured maximum of {limit}", peer.ip());
                return Ok(());
            }
        };
        let stream = self.prepare(stream)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let local = stream.local_addr()?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let id = format!("{local}-{peer}-{number}").into();
        let info = ConnectionInfo { id, peer, listener: self.listener.clone() };
        let Some((thread, registry)) = self.lanes.pick(number) else { return Ok(()) };
        let shared = self.shared.clone();
        thread.spawn(async move {
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            // A box: otherwise the task would be as large as both futures together.
            Box::pin(Connection::new(stream, info, number, shared, &registry, slot).run()).await;
        });
        Ok(())
    }

    /// Takes the socket out of the acceptor's runtime and sets its options.
    fn prepare(&self, stream: TcpStream) -> io::Result<StdStream> {
        let stream = stream.into_std()?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        if let Ok(bytes) = usize::try_from(self.send_buffer_bytes) {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(stream)
    }
}
