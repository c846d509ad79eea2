//! ZooKeeper as a model of its guarantees: several servers that apply one sequence of writes, each in its own time.
//!
//! Held: writes are ordered, and a session's requests are answered in their order; a session reads from its server, which
//! may lag behind but, also after a change of servers, never goes back; a watch is told before anything later is read, and
//! again after a reconnection if its node changed meanwhile. Not held, as ZooKeeper does not either: that an answer comes,
//! that a read is the newest. A session that its server does not hear from for its time-out is over; its client learns
//! that when it is connected again, or by its own clock after 7/5 of it, as the broker's client does.
//! Without a quorum no server answers and no session ends; of the writes that the leader had got by then some are found
//! when there is a quorum again, before anything else is done. To its new leader all sessions were heard of just now.

mod sessions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use barnabas::zk::backend::MultiResult;
use barnabas::zk::tree::{Fired, Tree, Watching};
use barnabas::zk::znodes::controller;
use barnabas::zk::{Node as Znode, Op, Stat, WatchEvent, WatchSink, ZkError};
use tokio::sync::{oneshot, watch};

use crate::kernel::{Core, Node, TICK};

/// A session's time-out, in ms.
pub const SESSION_TIMEOUT: u64 = 600;

/// What a client asks.
pub enum Request {
    Get(String, Option<WatchSink>),
    GetMany(Vec<String>),
    Exists(String, Option<WatchSink>),
    Children(String, Option<WatchSink>),
    Write(Vec<Op>),
    Sync,
    Close,
}

/// What it is answered.
pub enum Answer {
    Node(Znode),
    Nodes(Vec<Result<Znode, ZkError>>),
    Stat(Option<Stat>),
    Names(Vec<String>),
    Written(MultiResult),
    Done,
}

/// Dropped where no answer comes.
pub type Reply = oneshot::Sender<Result<Answer, ZkError>>;

#[derive(Clone)]
enum Txn {
    Multi(i64, Vec<Op>),
    End(i64),
}

#[derive(Default)]
struct Server {
    tree: Tree,
    applied: usize,
    due: u64,
}

struct Watch {
    watching: Watching,
    path: String,
    sink: WatchSink,
    /// Whether the client knows that it watches: the answer arrived.
    confirmed: bool,
    /// Whether the event is on its way.
    fired: bool,
    /// What the node was like: whether it existed.
    existed: bool,
}

struct Session {
    owner: Node,
    life: u64,
    server: Option<usize>,
    /// Counts connections; what belongs to an earlier one is lost.
    connection: u64,
    reconnecting: bool,
    last_heard: u64,
    lost_at: u64,
    seen: usize,
    due: [u64; 2],
    inbox: VecDeque<(Request, Reply)>,
    waiting: Option<(usize, Answer, Reply)>,
    watches: BTreeMap<u64, Watch>,
    ended: watch::Sender<bool>,
    /// Whether the ensemble ended it.
    over: bool,
}

/// The ensemble.
pub struct Ensemble {
    servers: Vec<Server>,
    log: Vec<Txn>,
    leader: Tree,
    sessions: BTreeMap<i64, Session>,
    made: u64,
    /// How far servers may lag behind the leader, in ms.
    pub lag: (u64, u64),
    /// The chance that a session's connection breaks with a request or an answer.
    pub break_chance: f64,
    /// The next write of this node is applied, and its answer lost.
    pub lose_answer_of: Option<String>,
    /// Machines that do not reach it.
    pub unreachable: BTreeSet<Node>,
    /// Whether most of the servers are there.
    pub has_quorum: bool,
    /// Writes that the leader had got when the quorum was lost, and that are found again.
    late: Vec<Txn>,
    /// The session that wrote under each version of `/controller_epoch`, and what is wrong with that.
    fences: BTreeMap<i32, i64>,
    pub violation: Option<String>,
}

impl Default for Ensemble {
    fn default() -> Self {
        Self {
            servers: (0..3).map(|_| Server::default()).collect(),
            log: Vec::new(),
            leader: Tree::default(),
            sessions: BTreeMap::new(),
            made: 0,
            lag: (0, 5),
            break_chance: 0.0,
            lose_answer_of: None,
            unreachable: BTreeSet::new(),
            has_quorum: true,
            late: Vec::new(),
            fences: BTreeMap::new(),
            violation: None,
        }
    }
}

impl Ensemble {
    /// The newest state: what the checker compares with.
    pub fn committed(&self) -> &Tree {
        &self.leader
    }

    /// Whoever writes under an epoch of the controller is the one who was elected in it.
    fn look_at_fence(&mut self, session: i64, ops: &[Op]) {
        let Some(Op::Check { path, version }) = ops.first() else { return };
        if path != controller::EPOCH_PATH || ops.iter().any(|op| op.path() == controller::PATH) {
            return;
        }
        let first = *self.fences.entry(*version).or_insert(session);
        if first != session {
            self.violation = Some(format!("both sessions {first} and {session} write as the controller {version}"));
        }
    }
}

/// A new session as its client gets it.
pub struct Opened {
    pub id: i64,
    pub ended: watch::Receiver<bool>,
}

impl Core {
    /// Sends a request. Without a connection, or if it breaks, the reply is dropped.
    pub fn ask_zookeeper(&mut self, id: i64, request: Request, reply: Reply) {
        let Some(session) = self.zookeeper.sessions.get(&id) else { return };
        if *session.ended.borrow() {
            drop(reply.send(Err(ZkError::SessionExpired)));
            return;
        }
        if session.server.is_none() {
            return self.after(TICK, Box::new(move |_| drop(reply)));
        }
        let connection = session.connection;
        let Some(due) = self.next_due(id, 0) else { return };
        self.at(due, Box::new(move |core| core.arrive(id, connection, request, reply)));
    }

    /// When the next message of that direction arrives; nothing if the connection breaks with it.
    fn next_due(&mut self, id: i64, direction: usize) -> Option<u64> {
        let chance = self.zookeeper.break_chance;
        let (breaks, lost, delay) = (self.chance(chance), self.chance(0.5), self.pick((0, 3)));
        let now = self.now;
        let due = &mut self.zookeeper.sessions.get_mut(&id)?.due[direction];
        *due = (*due).max(now + TICK + delay);
        let due = *due;
        if breaks {
            self.at(due + 1, Box::new(move |core| core.lose_connection(id)));
        }
        (!breaks || !lost).then_some(due)
    }

    fn arrive(&mut self, id: i64, connection: u64, request: Request, reply: Reply) {
        let now = self.now;
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        if session.connection != connection || session.server.is_none() {
            return self.perhaps_late(id, request);
        }
        session.last_heard = now;
        session.inbox.push_back((request, reply));
        self.serve(id);
    }

    /// Answers a session's requests in their order, as far as its server has got.
    fn serve(&mut self, id: i64) {
        loop {
            let zookeeper = &mut self.zookeeper;
            let Some(session) = zookeeper.sessions.get_mut(&id) else { return };
            let Some(server) = session.server else { return };
            if let Some((index, ..)) = &session.waiting {
                if zookeeper.servers[server].applied < *index {
                    return;
                }
                let Some((_, answer, reply)) = session.waiting.take() else { return };
                self.answer(id, Ok(answer), reply, None);
                continue;
            }
            let Some((request, reply)) = session.inbox.pop_front() else { return };
            if session.over {
                self.answer(id, Err(ZkError::SessionExpired), reply, None);
                continue;
            }
            self.handle(id, server, request, reply);
        }
    }

    fn handle(&mut self, id: i64, server: usize, request: Request, reply: Reply) {
        let tree = &self.zookeeper.servers[server].tree;
        let (answer, watch) = match request {
            Request::Get(path, sink) => {
                let found = tree.get(&path);
                let sink = sink.filter(|_| found.is_ok());
                (found.map(Answer::Node), sink.map(|sink| (Watching::Data, path, sink, true)))
            }
            Request::GetMany(paths) => (Ok(Answer::Nodes(paths.iter().map(|path| tree.get(path)).collect())), None),
            Request::Exists(path, sink) => {
                let stat = tree.stat(&path);
                (Ok(Answer::Stat(stat)), sink.map(|sink| (Watching::Data, path, sink, stat.is_some())))
            }
            Request::Children(path, sink) => {
                let names = tree.children(&path);
                let sink = sink.filter(|_| names.is_ok());
                (names.map(Answer::Names), sink.map(|sink| (Watching::Children, path, sink, true)))
            }
            Request::Write(ops) => {
                let lost = &mut self.zookeeper.lose_answer_of;
                let loses = lost.take_if(|path| ops.iter().any(|op| op.path() == path)).is_some();
                let result = self.commit(Txn::Multi(id, ops));
                if loses {
                    return self.lose_connection(id);
                }
                return self.wait(id, Answer::Written(result), reply);
            }
            Request::Sync => return self.wait(id, Answer::Done, reply),
            Request::Close => {
                self.end_session(id);
                return self.wait(id, Answer::Done, reply);
            }
        };
        let watch = watch.and_then(|(watching, path, sink, existed)| {
            self.zookeeper.made += 1;
            let number = self.zookeeper.made;
            let watch = Watch { watching, path, sink, confirmed: false, fired: false, existed };
            self.zookeeper.sessions.get_mut(&id)?.watches.insert(number, watch);
            Some(number)
        });
        self.answer(id, answer, reply, watch);
    }

    /// Answers when the session's server has applied all that is committed now.
    fn wait(&mut self, id: i64, answer: Answer, reply: Reply) {
        let index = self.zookeeper.log.len();
        if let Some(session) = self.zookeeper.sessions.get_mut(&id) {
            session.waiting = Some((index, answer, reply));
        }
    }

    fn answer(&mut self, id: i64, answer: Result<Answer, ZkError>, reply: Reply, watch: Option<u64>) {
        let Some((connection, seen)) = self.seen_by(id) else { return };
        let Some(due) = self.next_due(id, 1) else { return };
        let deliver = move |core: &mut Core| {
            let Some(session) = core.zookeeper.sessions.get_mut(&id) else { return };
            if session.connection != connection {
                return;
            }
            session.seen = session.seen.max(seen);
            if let Some(watch) = watch.and_then(|number| session.watches.get_mut(&number)) {
                watch.confirmed = true;
            }
            let _ = reply.send(answer);
        };
        self.at(due, Box::new(deliver));
    }

    fn seen_by(&self, id: i64) -> Option<(u64, usize)> {
        let session = self.zookeeper.sessions.get(&id)?;
        Some((session.connection, self.zookeeper.servers[session.server?].applied))
    }

    /// Writes as a tool of an operator does, in no session.
    pub fn write_as_admin(&mut self, ops: Vec<Op>) -> MultiResult {
        self.commit(Txn::Multi(0, ops))
    }

    /// Applies a write at the leader and lets the servers follow.
    fn commit(&mut self, txn: Txn) -> MultiResult {
        let result = match &txn {
            Txn::Multi(session, ops) => self.zookeeper.leader.multi(*session, ops, &mut Vec::new()),
            Txn::End(session) => {
                self.zookeeper.leader.end_session(*session, &mut Vec::new());
                Ok(Vec::new())
            }
        };
        if let (Txn::Multi(session, ops), Ok(_)) = (&txn, &result) {
            self.zookeeper.look_at_fence(*session, ops);
        }
        match result {
            // Every broker tries to make every node when it starts.
            Err((_, ZkError::NodeExists)) => self.note_message(&describe(&txn, &result)),
            _ => self.note(&describe(&txn, &result)),
        }
        self.zookeeper.log.push(txn);
        for server in 0..self.zookeeper.servers.len() {
            let lag = self.zookeeper.lag;
            let due = self.now + self.pick(lag);
            let server_due = &mut self.zookeeper.servers[server].due;
            *server_due = (*server_due).max(due);
            let due = *server_due;
            self.at(due, Box::new(move |core| core.follow(server)));
        }
        result
    }

    /// A server applies the next write and tells watches.
    fn follow(&mut self, at: usize) {
        let server = &mut self.zookeeper.servers[at];
        let txn = self.zookeeper.log[server.applied].clone();
        server.applied += 1;
        let mut fired = Vec::new();
        match txn {
            Txn::Multi(session, ops) => drop(server.tree.multi(session, &ops, &mut fired)),
            Txn::End(session) => server.tree.end_session(session, &mut fired),
        }
        let ids: Vec<i64> = self.zookeeper.sessions.keys().copied().collect();
        for id in ids {
            if self.zookeeper.sessions[&id].server == Some(at) {
                fired.iter().for_each(|fired| self.fire(id, fired));
                self.serve(id);
            }
        }
    }

    fn fire(&mut self, id: i64, (watching, event): &Fired) {
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        let mut numbers = Vec::new();
        for (number, watch) in &mut session.watches {
            if !watch.fired && watch.watching == *watching && watch.path == event.path {
                watch.fired = true;
                numbers.push(*number);
            }
        }
        if !numbers.is_empty() {
            self.notify(id, numbers, event.clone());
        }
    }

    fn notify(&mut self, id: i64, numbers: Vec<u64>, event: WatchEvent) {
        let Some((connection, _)) = self.seen_by(id) else { return };
        let Some(due) = self.next_due(id, 1) else { return };
        let deliver = move |core: &mut Core| {
            let Some(session) = core.zookeeper.sessions.get_mut(&id) else { return };
            if session.connection != connection {
                return;
            }
            let (owner, life) = (session.owner, session.life);
            let sinks: Vec<WatchSink> =
                numbers.iter().filter_map(|number| Some(session.watches.remove(number)?.sink)).collect();
            core.note(&format!("zk: tells {owner} {:?} {}", event.kind, event.path));
            core.post(owner, life, Box::new(move || sinks.iter().for_each(|sink| sink(event.clone()))));
        };
        self.at(due, Box::new(deliver));
    }
}

fn describe(txn: &Txn, result: &MultiResult) -> String {
    match txn {
        Txn::End(session) => format!("zk: end of session {session}"),
        Txn::Multi(session, ops) => {
            let paths: Vec<&str> = ops.iter().map(Op::path).collect();
            let result = match result {
                Ok(_) => "done".to_owned(),
                Err((index, error)) => format!("refused at {index}: {error}"),
            };
            format!("zk: {session} writes {}: {result}", paths.join(" "))
        }
    }
}
