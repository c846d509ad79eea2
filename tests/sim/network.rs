//! The network: connections on which frames arrive in order, late, or not at all.
//!
//! A connection is TCP as a program sees it. What one side sends arrives in order or the connection breaks. Where a
//! direction is blocked, frames wait and arrive when it is open again, as the kernel sends them again, even if the
//! sender gave up meanwhile (then only perhaps). A process that dies resets its connections; a machine that dies is silent
//! until its successor is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use barnabas::protocol::frame;
use bytes::Bytes;
use kafka_protocol::protocol::Request;
use rand::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::kernel::{Core, Node, Sim, TICK};

const UP: usize = 0;
const DOWN: usize = 1;

/// A connection that a server was given.
pub struct Accepted {
    /// Its number, for [`Sim::reply`].
    pub id: u64,
    /// The other side.
    pub from: Node,
    /// What the other side sends; ends with the connection.
    pub frames: mpsc::UnboundedReceiver<Bytes>,
}

/// The other side is gone, or the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

struct Conn {
    from: Node,
    from_life: u64,
    to: Node,
    to_life: Option<u64>,
    open: bool,
    server: Option<mpsc::UnboundedSender<Bytes>>,
    pending: VecDeque<oneshot::Sender<Bytes>>,
    held: [VecDeque<Bytes>; 2],
    due: [u64; 2],
}

/// All connections, and how the links between machines are.
pub struct Network {
    conns: BTreeMap<u64, Conn>,
    made: u64,
    listeners: BTreeMap<Node, mpsc::UnboundedSender<Accepted>>,
    blocked: BTreeSet<(Node, Node)>,
    /// The least and the most that a frame takes beyond one tick, in ms.
    pub latency: (u64, u64),
    /// The chance that a frame takes up to `slow` ms instead.
    pub slow_chance: f64,
    /// See `slow_chance`.
    pub slow: u64,
    /// The chance that a connection breaks with a frame.
    pub break_chance: f64,
    /// The chance that a connection to a live process is refused.
    pub refuse_chance: f64,
    /// Machines that refuse connections although their processes live, as by a firewall.
    pub refusing: BTreeSet<Node>,
    /// Machines without power.
    pub dark: BTreeSet<Node>,
    /// How long brokers wait for each other's answers, in ms.
    pub patience: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            conns: BTreeMap::new(),
            made: 0,
            listeners: BTreeMap::new(),
            blocked: BTreeSet::new(),
            latency: (0, 5),
            slow_chance: 0.0,
            slow: 200,
            break_chance: 0.0,
            refuse_chance: 0.0,
            refusing: BTreeSet::new(),
            dark: BTreeSet::new(),
            patience: 300,
        }
    }
}

impl Core {
    /// Whether a connection would be refused, as by a machine whose process died, or accepted; nothing if no answer would
    /// come. Now and then it is refused although the process lives, as by a full queue.
    pub fn refuses(&mut self, from: Node, to: Node) -> Option<bool> {
        let answers = !self.is_blocked(from, to) && !self.is_blocked(to, from);
        if !answers || self.network.dark.contains(&to) {
            return None;
        }
        let falsely = self.network.refuse_chance;
        Some(!self.running.contains_key(&to) || self.network.refusing.contains(&to) || self.chance(falsely))
    }

    /// Takes connections for a machine from now on.
    pub fn listen(&mut self, node: Node, accepted: mpsc::UnboundedSender<Accepted>) {
        self.network.listeners.insert(node, accepted);
    }

    /// Blocks what goes from one machine to another.
    pub fn block(&mut self, from: Node, to: Node) {
        self.network.blocked.insert((from, to));
    }

    /// Whether that direction is blocked.
    pub fn is_blocked(&self, from: Node, to: Node) -> bool {
        self.network.blocked.contains(&(from, to))
    }

    /// Opens a direction again; what waited there comes through, what was given up perhaps.
    pub fn unblock(&mut self, from: Node, to: Node) {
        if !self.network.blocked.remove(&(from, to)) {
            return;
        }
        let ids: Vec<u64> = self.network.conns.keys().copied().collect();
        for id in ids {
            for direction in [UP, DOWN] {
                let Some(conn) = self.network.conns.get_mut(&id) else { continue };
                if conn.ends(direction) != (from, to) || conn.held[direction].is_empty() {
                    continue;
                }
                let (frames, open) = (std::mem::take(&mut conn.held[direction]), conn.open);
                if open || self.chance(0.5) {
                    frames.into_iter().for_each(|frame| self.transmit(id, direction, frame));
                }
            }
        }
    }

    /// A process ended. With `silent` its machine did: nobody is told.
    pub fn drop_connections(&mut self, node: Node, life: u64, silent: bool) {
        self.network.listeners.remove(&node);
        let ids: Vec<u64> = self.network.conns.keys().copied().collect();
        for id in ids {
            let Some(conn) = self.network.conns.get_mut(&id) else { continue };
            let ours = conn.from == node && conn.from_life == life;
            if !ours && (conn.to != node || conn.to_life.is_some_and(|to| to != life)) {
                continue;
            }
            match silent {
                true if ours => conn.open = false,
                true => conn.server = None,
                false => self.break_connection(id),
            }
        }
    }

    fn open(&mut self, from: Node, to: Node) -> u64 {
        let from_life = self.life(from).unwrap_or(0);
        self.network.made += 1;
        let conn = Conn {
            from,
            from_life,
            to,
            to_life: None,
            open: true,
            server: None,
            pending: VecDeque::new(),
            held: [VecDeque::new(), VecDeque::new()],
            due: [0, 0],
        };
        self.network.conns.insert(self.network.made, conn);
        self.network.made
    }

    fn transmit(&mut self, id: u64, direction: usize, frame: Bytes) {
        let break_chance = self.network.break_chance;
        let delay = self.frame_delay();
        let (breaks, arrives) = (self.chance(break_chance), self.rng.random_bool(0.5));
        let blocked = |network: &Network, conn: &Conn| network.blocked.contains(&conn.ends(direction));
        let Some(conn) = self.network.conns.get(&id) else { return };
        if blocked(&self.network, conn) || !conn.held[direction].is_empty() {
            if let Some(conn) = self.network.conns.get_mut(&id) {
                conn.held[direction].push_back(frame);
            }
            return;
        }
        let due = conn.due[direction].max(self.now + TICK + delay);
        if let Some(conn) = self.network.conns.get_mut(&id) {
            conn.due[direction] = due;
        }
        if arrives || !breaks {
            self.at(due, Box::new(move |core| core.deliver(id, direction, frame)));
        }
        if breaks {
            self.at(due, Box::new(move |core| core.break_connection(id)));
        }
    }

    fn frame_delay(&mut self) -> u64 {
        let (slow_chance, slow, latency) = (self.network.slow_chance, self.network.slow, self.network.latency);
        if self.chance(slow_chance) { self.pick((0, slow)) } else { self.pick(latency) }
    }

    fn deliver(&mut self, id: u64, direction: usize, frame: Bytes) {
        match direction {
            UP => self.deliver_up(id, frame),
            _ => self.deliver_down(id, frame),
        }
    }

    fn deliver_up(&mut self, id: u64, frame: Bytes) {
        let Some(conn) = self.network.conns.get(&id) else { return };
        let (from, to, life) = (conn.from, conn.to, self.life(conn.to));
        let known = conn.to_life;
        if known.is_some_and(|known| Some(known) != life) || (known.is_none() && life.is_none()) {
            self.break_connection(id);
            return;
        }
        if known.is_none() {
            let (sender, frames) = mpsc::unbounded_channel();
            let listener = self.network.listeners.get(&to);
            if listener.is_none_or(|listener| listener.send(Accepted { id, from, frames }).is_err()) {
                self.break_connection(id);
                return;
            }
            if let Some(conn) = self.network.conns.get_mut(&id) {
                (conn.to_life, conn.server) = (life, Some(sender));
            }
        }
        let line = format!("{from} -> {to} {}", describe(&frame));
        self.note_message(&line);
        let delivered = self.network.conns.get(&id).and_then(|conn| conn.server.as_ref()).map(|s| s.send(frame));
        if !matches!(delivered, Some(Ok(()))) {
            self.break_connection(id);
        }
    }

    fn deliver_down(&mut self, id: u64, frame: Bytes) {
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        let (from, to) = (conn.from, conn.to);
        if let Some(pending) = conn.pending.pop_front().filter(|_| conn.open) {
            let line = format!("{from} <- {to} {} bytes", frame.len());
            let _ = pending.send(frame);
            self.note_message(&line);
        }
    }

    /// Both sides learn that the connection is gone, if the way to them is open.
    fn break_connection(&mut self, id: u64) {
        let Some(conn) = self.network.conns.get(&id) else { return };
        let (up, down) = (self.is_blocked(conn.from, conn.to), self.is_blocked(conn.to, conn.from));
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        conn.open = false;
        if !up {
            conn.server = None;
        }
        if !down {
            conn.pending.clear();
        }
    }

    /// The client closed its side.
    fn close(&mut self, id: u64) {
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        conn.open = false;
        conn.pending.clear();
        self.after(0, Box::new(move |core| core.break_connection(id)));
    }
}

impl Conn {
    fn ends(&self, direction: usize) -> (Node, Node) {
        if direction == UP { (self.from, self.to) } else { (self.to, self.from) }
    }
}

/// A request's name, version and size: nothing of what differs from run to run, as ids made up by chance do.
fn describe(frame: &Bytes) -> String {
    let mut body = frame.clone();
    match frame::RequestHeader::parse(&mut body) {
        Ok(header) => format!("request {} v{} of {} bytes", header.api_key, header.api_version, frame.len()),
        Err(error) => format!("{error}"),
    }
}

impl Sim {
    /// A server's answer to the oldest request of a connection that has none yet.
    pub fn reply(&self, id: u64, frame: Bytes) {
        self.core().transmit(id, DOWN, frame);
    }

    /// A server closes a connection.
    pub fn hang_up(&self, id: u64) {
        self.core().break_connection(id);
    }
}

/// A client's side of a connection. Dropping it closes it.
pub struct Connection {
    sim: Sim,
    id: u64,
}

impl Connection {
    /// Connects; whether there is anybody shows with the first request.
    pub fn open(sim: &Sim, from: Node, to: Node) -> Self {
        Self { sim: sim.clone(), id: sim.core().open(from, to) }
    }

    /// Whether a request could still be answered.
    pub fn is_open(&self) -> bool {
        self.sim.core().network.conns.get(&self.id).is_some_and(|conn| conn.open)
    }

    /// Sends a frame and waits for the answer.
    pub async fn raw(&self, frame: Bytes) -> Result<Bytes, Broken> {
        let (sender, answer) = oneshot::channel();
        {
            let mut core = self.sim.core();
            let conn = core.network.conns.get_mut(&self.id).filter(|conn| conn.open).ok_or(Broken)?;
            conn.pending.push_back(sender);
            core.transmit(self.id, UP, frame);
        }
        answer.await.map_err(|_| Broken)
    }

    /// Sends a request and waits for the answer.
    pub async fn call<R: Request>(&self, version: i16, request: &R) -> Result<R::Response, Broken> {
        self.call_as("sim", version, request).await
    }

    /// The same under another client id.
    pub async fn call_as<R: Request>(&self, client_id: &str, version: i16, request: &R) -> Result<R::Response, Broken> {
        let frame = frame::encode_request(1, client_id, version, request).expect("a request of that version");
        let answer = self.raw(frame).await?;
        Ok(frame::decode_response::<R>(answer, version).expect("an answer of that version").1)
    }

    /// The same, for as long as brokers wait; in one sentence why there is no answer.
    pub async fn ask<R: Request>(&self, version: i16, request: &R) -> Result<R::Response, String> {
        let patience = Duration::from_millis(self.sim.core().network.patience);
        match timeout(patience, self.call(version, request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Broken)) => Err("the connection broke".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.sim.core().close(self.id);
    }
}
