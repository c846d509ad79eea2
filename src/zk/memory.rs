//! ZooKeeper as a model of its guarantees, in memory: sessions, ephemerals, versions, one-shot watches, multis.
//!
//! For unit tests and the simulator. Every request is applied at once, in the order of first polls; faults are put in
//! by the test.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::backend::{
    CreateMode, MultiResult, Node, Op, OpResult, Stat, WatchEvent, WatchKind, WatchSink, ZkConnector, ZkFuture,
    ZkSession,
};
use super::error::ZkError;

/// What shall happen to a request, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is lost: it is answered with [`ZkError::Unknown`] and not applied.
    Lost,
    /// The answer is lost: the request is applied, but answered with [`ZkError::Unknown`].
    AnswerLost,
}

#[derive(Debug, Clone, Default)]
struct Znode {
    data: Vec<u8>,
    stat: Stat,
    next_sequence: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Watching {
    Data,
    Children,
}

#[derive(Default)]
struct Ensemble {
    nodes: BTreeMap<String, Znode>,
    zxid: i64,
    last_session: i64,
    sessions: HashMap<i64, watch::Sender<bool>>,
    watches: HashMap<(String, Watching), Vec<(i64, WatchSink)>>,
    faults: VecDeque<Fault>,
    down: bool,
    writes: u64,
}

/// The model. Clones are the same ensemble; [`ZkConnector::connect`] opens a session.
#[derive(Clone, Default)]
pub struct MemoryZk {
    ensemble: Arc<Mutex<Ensemble>>, // one request at a time, as a leader applies them
}

/// Watches that fired while the lock was held; told after it is released.
type Fired = Vec<(WatchSink, WatchEvent)>;

impl MemoryZk {
    /// An empty ensemble.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a session as if it had timed out: its ephemerals go, its owner is told.
    pub fn expire(&self, session: i64) {
        let mut fired = Fired::new();
        {
            let mut ensemble = self.ensemble.lock();
            let Some(over) = ensemble.sessions.remove(&session) else { return };
            ensemble.end_session(session, &mut fired);
            over.send_replace(true);
        }
        tell(fired);
    }

    /// Puts faults in the way of the next writes, one each.
    pub fn fail_next_writes(&self, faults: &[Fault]) {
        self.ensemble.lock().faults.extend(faults);
    }

    /// While down, no new session is opened and every request ends in [`ZkError::Unknown`].
    pub fn set_down(&self, down: bool) {
        self.ensemble.lock().down = down;
    }

    /// The number of write requests (multis count once) so far.
    pub fn write_requests(&self) -> u64 {
        self.ensemble.lock().writes
    }

    /// All paths, sorted, with their data as text: for golden comparisons.
    pub fn dump(&self) -> Vec<(String, String)> {
        let ensemble = self.ensemble.lock();
        ensemble.nodes.iter().map(|(p, n)| (p.clone(), String::from_utf8_lossy(&n.data).into_owned())).collect()
    }
}

impl ZkConnector for MemoryZk {
    fn connect(&self) -> ZkFuture<Arc<dyn ZkSession>> {
        let ensemble = self.ensemble.clone();
        async move {
            let mut state = ensemble.lock();
            if state.down {
                return Err(ZkError::Unknown("the model is down".into()));
            }
            state.last_session += 1;
            let id = state.last_session;
            let (sender, over) = watch::channel(false);
            state.sessions.insert(id, sender);
            drop(state);
            Ok(Arc::new(MemorySession { id, ensemble, over }) as Arc<dyn ZkSession>)
        }
        .boxed()
    }
}

impl Ensemble {
    fn end_session(&mut self, session: i64, fired: &mut Fired) {
        for watchers in self.watches.values_mut() {
            watchers.retain(|(owner, _)| *owner != session);
        }
        let owned = |(path, node): (&String, &Znode)| (node.stat.ephemeral_owner == session).then(|| path.clone());
        let ephemerals: Vec<String> = self.nodes.iter().filter_map(owned).collect();
        self.zxid += 1;
        for path in ephemerals {
            self.nodes.remove(&path);
            self.fire_deleted(&path, fired);
        }
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.nodes.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    fn fire(&mut self, path: &str, watching: Watching, kind: WatchKind, fired: &mut Fired) {
        for (_, sink) in self.watches.remove(&(path.to_owned(), watching)).unwrap_or_default() {
            fired.push((sink, WatchEvent { path: path.to_owned(), kind }));
        }
    }

    fn fire_created(&mut self, path: &str, fired: &mut Fired) {
        self.fire(path, Watching::Data, WatchKind::Created, fired);
        self.fire(parent(path), Watching::Children, WatchKind::ChildrenChanged, fired);
    }

    fn fire_deleted(&mut self, path: &str, fired: &mut Fired) {
        self.fire(path, Watching::Data, WatchKind::Deleted, fired);
        self.fire(path, Watching::Children, WatchKind::Deleted, fired);
        self.fire(parent(path), Watching::Children, WatchKind::ChildrenChanged, fired);
    }

    fn apply(&mut self, session: i64, op: &Op, undo: &mut Vec<(String, Option<Znode>)>) -> Result<OpResult, ZkError> {
        match op {
            Op::Create { path, data, mode } => self.create(session, path, data, *mode, undo),
            Op::Set { path, data, version } => {
                let zxid = self.zxid;
                let node = self.versioned(path, *version)?;
                undo.push((path.clone(), Some(node.clone())));
                node.data.clone_from(data);
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                Ok(OpResult::Set(node.stat))
            }
            Op::Delete { path, version } => {
                let node = self.versioned(path, *version)?.clone();
                if self.has_children(path) {
                    return Err(ZkError::NotEmpty);
                }
                undo.push((path.clone(), Some(node)));
                self.nodes.remove(path);
                Ok(OpResult::Deleted)
            }
            Op::Check { path, version } => self.versioned(path, Some(*version)).map(|_| OpResult::Checked),
        }
    }

    fn versioned(&mut self, path: &str, version: Option<i32>) -> Result<&mut Znode, ZkError> {
        let node = self.nodes.get_mut(path).ok_or(ZkError::NoNode)?;
        if version.is_some_and(|version| version != node.stat.version) {
            return Err(ZkError::BadVersion);
        }
        Ok(node)
    }

    fn create(
        &mut self,
        session: i64,
        path: &str,
        data: &[u8],
        mode: CreateMode,
        undo: &mut Vec<(String, Option<Znode>)>,
    ) -> Result<OpResult, ZkError> {
        let mut path = path.to_owned();
        let above = parent(&path).to_owned();
        if above != "/" {
            let parent = self.nodes.get_mut(&above).ok_or(ZkError::NoNode)?;
            if parent.stat.ephemeral_owner != 0 {
                return Err(ZkError::NoChildrenForEphemerals);
            }
            if mode == CreateMode::PersistentSequential {
                path = format!("{path}{:010}", parent.next_sequence);
                undo.push((above, Some(parent.clone())));
                parent.next_sequence += 1;
            }
        }
        if self.nodes.contains_key(&path) {
            return Err(ZkError::NodeExists);
        }
        let owner = if mode == CreateMode::Ephemeral { session } else { 0 };
        let stat = Stat { czxid: self.zxid, mzxid: self.zxid, version: 0, ephemeral_owner: owner };
        undo.push((path.clone(), None));
        self.nodes.insert(path.clone(), Znode { data: data.to_owned(), stat, next_sequence: 0 });
        Ok(OpResult::Created { path, stat })
    }

    fn multi(&mut self, session: i64, ops: &[Op], fired: &mut Fired) -> MultiResult {
        self.zxid += 1;
        self.writes += 1;
        let mut undo = Vec::new();
        let mut results = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.apply(session, op, &mut undo) {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.roll_back(undo);
                    return Err((index, error));
                }
            }
        }
        for (op, result) in ops.iter().zip(&results) {
            match result {
                OpResult::Created { path, .. } => self.fire_created(path, fired),
                OpResult::Set(_) => self.fire(op.path(), Watching::Data, WatchKind::DataChanged, fired),
                OpResult::Deleted => self.fire_deleted(op.path(), fired),
                OpResult::Checked => {}
            }
        }
        Ok(results)
    }

    fn roll_back(&mut self, undo: Vec<(String, Option<Znode>)>) {
        for (path, before) in undo.into_iter().rev() {
            match before {
                Some(node) => self.nodes.insert(path, node),
                None => self.nodes.remove(&path),
            };
        }
    }
}

struct MemorySession {
    id: i64,
    ensemble: Arc<Mutex<Ensemble>>,
    over: watch::Receiver<bool>,
}

impl MemorySession {
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Ensemble) -> Result<T, ZkError> + Send + 'static,
    ) -> ZkFuture<T> {
        let (id, ensemble) = (self.id, self.ensemble.clone());
        async move {
            let mut ensemble = ensemble.lock();
            ensemble.admit(id)?;
            read(&mut ensemble)
        }
        .boxed()
    }
}

impl Ensemble {
    fn admit(&self, session: i64) -> Result<(), ZkError> {
        if !self.sessions.contains_key(&session) {
            return Err(ZkError::SessionExpired);
        }
        if self.down {
            return Err(ZkError::Unknown("the model is down".into()));
        }
        Ok(())
    }

    fn watch(&mut self, session: i64, path: &str, watching: Watching, sink: Option<WatchSink>) {
        if let Some(sink) = sink {
            self.watches.entry((path.to_owned(), watching)).or_default().push((session, sink));
        }
    }
}

impl ZkSession for MemorySession {
    fn id(&self) -> i64 {
        self.id
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn get(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Node> {
        let (id, path) = (self.id, path.to_owned());
        self.read(move |ensemble| {
            let node = ensemble.nodes.get(&path).ok_or(ZkError::NoNode)?;
            let node = Node { data: node.data.clone(), stat: node.stat };
            ensemble.watch(id, &path, Watching::Data, watch);
            Ok(node)
        })
    }

    fn get_many(&self, paths: Vec<String>) -> ZkFuture<Vec<Result<Node, ZkError>>> {
        self.read(move |ensemble| {
            let get = |path: &String| match ensemble.nodes.get(path) {
                Some(node) => Ok(Node { data: node.data.clone(), stat: node.stat }),
                None => Err(ZkError::NoNode),
            };
            Ok(paths.iter().map(get).collect())
        })
    }

    fn exists(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Option<Stat>> {
        let (id, path) = (self.id, path.to_owned());
        self.read(move |ensemble| {
            let stat = ensemble.nodes.get(&path).map(|node| node.stat);
            ensemble.watch(id, &path, Watching::Data, watch);
            Ok(stat)
        })
    }

    fn children(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Vec<String>> {
        let (id, path) = (self.id, path.to_owned());
        self.read(move |ensemble| {
            if path != "/" && !ensemble.nodes.contains_key(&path) {
                return Err(ZkError::NoNode);
            }
            let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
            let below = ensemble.nodes.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
            let names = below.map(|(name, _)| name[prefix.len()..].to_owned()).filter(|name| !name.contains('/'));
            let names = names.collect();
            ensemble.watch(id, &path, Watching::Children, watch);
            Ok(names)
        })
    }

    fn write(&self, op: Op) -> ZkFuture<OpResult> {
        let multi = self.multi(vec![op]);
        async move {
            match multi.await? {
                Ok(mut results) => results.pop().ok_or(ZkError::Refused("nothing written".into())),
                Err((_, error)) => Err(error),
            }
        }
        .boxed()
    }

    fn multi(&self, ops: Vec<Op>) -> ZkFuture<MultiResult> {
        let (id, ensemble) = (self.id, self.ensemble.clone());
        async move {
            let mut fired = Fired::new();
            let answer = {
                let mut ensemble = ensemble.lock();
                ensemble.admit(id)?;
                match ensemble.faults.pop_front() {
                    Some(Fault::Lost) => return Err(ZkError::Unknown("the request was lost".into())),
                    Some(Fault::AnswerLost) => {
                        let _ = ensemble.multi(id, &ops, &mut fired);
                        Err(ZkError::Unknown("the answer was lost".into()))
                    }
                    None => Ok(ensemble.multi(id, &ops, &mut fired)),
                }
            };
            tell(fired);
            answer
        }
        .boxed()
    }

    fn sync(&self, _path: &str) -> ZkFuture<()> {
        self.read(|_| Ok(()))
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let mut over = self.over.clone();
        async move {
            let _ = over.wait_for(|over| *over).await;
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let model = MemoryZk { ensemble: self.ensemble.clone() };
        let id = self.id;
        async move { model.expire(id) }.boxed()
    }
}

fn tell(fired: Fired) {
    for (sink, event) in fired {
        sink(event);
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}
