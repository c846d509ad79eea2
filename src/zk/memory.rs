//! ZooKeeper as a model of its guarantees, in memory: sessions, ephemerals, versions, one-shot watches, multis.
//!
//! For unit tests and the simulator. Every request is applied at once, in the order of first polls; faults are put in
//! by the test.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::backend::{MultiResult, Node, Op, OpResult, Stat, WatchEvent, WatchSink, ZkConnector, ZkFuture, ZkSession};
use super::error::ZkError;
use super::tree::{Fired, Tree, Watching};
use crate::base::watch;

/// What shall happen to a request, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is lost: it is answered with [`ZkError::Unknown`] and not applied.
    Lost,
    /// The answer is lost: the request is applied, but answered with [`ZkError::Unknown`].
    AnswerLost,
}

#[derive(Default)]
struct Ensemble {
    tree: Tree,
    last_session: i64,
    sessions: BTreeMap<i64, watch::Sender<bool>>,
    watches: BTreeMap<(String, Watching), Vec<(i64, WatchSink)>>,
    faults: VecDeque<Fault>,
    before_get: Option<(String, Vec<Op>)>,
    down: bool,
    writes: u64,
}

/// The model. Clones are the same ensemble; [`ZkConnector::connect`] opens a session.
#[derive(Clone, Default)]
pub struct MemoryZk {
    ensemble: Arc<Mutex<Ensemble>>, // one request at a time, as a leader applies them
}

/// Watches that fired while the lock was held; told after it is released.
type Told = Vec<(WatchSink, WatchEvent)>;

impl MemoryZk {
    /// An empty ensemble.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a session as if it had timed out: its ephemerals go, its owner is told.
    pub fn expire(&self, session: i64) {
        let mut fired = Told::new();
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

    /// Lets these writes happen just before the next read of a node; no watch is told of them.
    pub fn write_before_get(&self, path: &str, ops: Vec<Op>) {
        self.ensemble.lock().before_get = Some((path.to_owned(), ops));
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
        ensemble.tree.dump().map(|(p, data)| (p.to_owned(), String::from_utf8_lossy(data).into_owned())).collect()
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
    fn end_session(&mut self, session: i64, told: &mut Told) {
        for watchers in self.watches.values_mut() {
            watchers.retain(|(owner, _)| *owner != session);
        }
        let mut fired = Vec::new();
        self.tree.end_session(session, &mut fired);
        self.collect(fired, told);
    }

    /// Takes the watches that `fired` off their nodes.
    fn collect(&mut self, fired: Vec<Fired>, told: &mut Told) {
        for (watching, event) in fired {
            for (_, sink) in self.watches.remove(&(event.path.clone(), watching)).unwrap_or_default() {
                told.push((sink, event.clone()));
            }
        }
    }

    fn multi(&mut self, session: i64, ops: &[Op], told: &mut Told) -> MultiResult {
        self.writes += 1;
        let mut fired = Vec::new();
        let result = self.tree.multi(session, ops, &mut fired);
        self.collect(fired, told);
        result
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
            if let Some((_, ops)) = ensemble.before_get.take_if(|(before, _)| *before == path) {
                let _ = ensemble.tree.multi(0, &ops, &mut Vec::new());
            }
            let node = ensemble.tree.get(&path)?;
            ensemble.watch(id, &path, Watching::Data, watch);
            Ok(node)
        })
    }

    fn get_many(&self, paths: Vec<String>) -> ZkFuture<Vec<Result<Node, ZkError>>> {
        self.read(move |ensemble| Ok(paths.iter().map(|path| ensemble.tree.get(path)).collect()))
    }

    fn exists(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Option<Stat>> {
        let (id, path) = (self.id, path.to_owned());
        self.read(move |ensemble| {
            let stat = ensemble.tree.stat(&path);
            ensemble.watch(id, &path, Watching::Data, watch);
            Ok(stat)
        })
    }

    fn children(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Vec<String>> {
        let (id, path) = (self.id, path.to_owned());
        self.read(move |ensemble| {
            let names = ensemble.tree.children(&path)?;
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
            let mut fired = Told::new();
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

fn tell(fired: Told) {
    for (sink, event) in fired {
        sink(event);
    }
}
