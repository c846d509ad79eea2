//! The client the rest of the broker uses: outlives sessions, retries what is safe to retry, batches.
//!
//! Reads are asked again until they are answered or the session ends. Single writes too, and where a retry meets its
//! own first attempt (the node is there with our data) that counts as success. A multi is never retried: its caller
//! gets [`ZkError::Unknown`] and reads again.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::RwLock;
use tracing::{info, warn};

use super::backend::{CreateMode, MultiResult, Node, Op, OpResult, Stat, WatchSink, ZkConnector, ZkFuture, ZkSession};
use super::error::ZkError;
use crate::base::watch;

/// Wait between attempts at an operation nobody answered, and between attempts to open a session.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// Upper bounds of one multi: far below the 1 MiB of ZooKeeper's default `jute.maxbuffer`.
const MAX_MULTI_BYTES: usize = 256 * 1024;
const MAX_MULTI_OPS: usize = 1000;
/// Upper bound of the nodes read in one request.
const MAX_READS: usize = 500;

/// How the session stands. Each new session raises the generation by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// A session is open; it may be without a connection for a while.
    Open {
        /// Its id.
        session: i64,
        /// Counts the sessions of this client, from 1.
        generation: u64,
    },
    /// The session of that generation is over, a new one is being asked for.
    Expired {
        /// Which.
        generation: u64,
    },
    /// The client was closed.
    Closed,
}

struct Shared {
    connector: Arc<dyn ZkConnector>,
    session: RwLock<Option<Arc<dyn ZkSession>>>, // replaced when a session expires; held for a clone only
    state: watch::Sender<SessionState>,
}

/// A ZooKeeper client. Cheap to clone.
#[derive(Clone)]
pub struct ZkClient {
    shared: Arc<Shared>,
}

impl ZkClient {
    /// Opens a session, trying for `timeout`, and keeps one open from then on: when it expires, a new one is opened
    /// and told through [`ZkClient::state`]. Must be called inside the runtime that shall do this.
    pub async fn connect(connector: Arc<dyn ZkConnector>, timeout: Duration) -> Result<Self, ZkError> {
        let attempt = async {
            loop {
                match connector.connect().await {
                    Ok(session) => return Ok(session),
                    Err(error @ (ZkError::AuthFailed | ZkError::NoAuth | ZkError::Refused(_))) => return Err(error),
                    Err(error) => warn!("cannot open a ZooKeeper session: {error}; trying again"),
                }
                tokio::time::sleep(RETRY_BACKOFF).await;
            }
        };
        let session = tokio::time::timeout(timeout, attempt)
            .await
            .map_err(|_| ZkError::Unknown(format!("not connected within {} ms", timeout.as_millis())))??;
        let (state, _) = watch::channel(SessionState::Open { session: session.id(), generation: 1 });
        let shared = Arc::new(Shared { connector, session: RwLock::new(Some(session.clone())), state });
        tokio::spawn(keep_session(shared.clone(), session.ended()));
        Ok(Self { shared })
    }

    /// How the session stands, and a channel that tells when that changes.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.shared.state.subscribe()
    }

    /// The open session's id.
    pub fn session_id(&self) -> Result<i64, ZkError> {
        self.session().map(|session| session.id())
    }

    /// The open session's negotiated time-out.
    pub fn session_timeout(&self) -> Result<Duration, ZkError> {
        self.session().map(|session| session.timeout())
    }

    fn session(&self) -> Result<Arc<dyn ZkSession>, ZkError> {
        self.shared.session.read().clone().ok_or(match *self.shared.state.borrow() {
            SessionState::Closed => ZkError::Closed,
            _ => ZkError::SessionExpired,
        })
    }

    async fn retry<T>(&self, ask: impl Fn(&dyn ZkSession) -> ZkFuture<T>) -> Result<T, ZkError> {
        let session = self.session()?;
        loop {
            match ask(session.as_ref()).await {
                Err(ZkError::Unknown(why)) => warn!("asking ZooKeeper again: {why}"),
                answer => return answer,
            }
            tokio::time::sleep(RETRY_BACKOFF).await;
        }
    }

    /// Reads a node.
    pub async fn get(&self, path: &str) -> Result<Node, ZkError> {
        self.retry(|s| s.get(path, None)).await
    }

    /// Reads a node, `None` if there is none.
    pub async fn find(&self, path: &str) -> Result<Option<Node>, ZkError> {
        none_if_missing(self.get(path).await)
    }

    /// Reads a node and watches it once.
    pub async fn get_and_watch(&self, path: &str, sink: &WatchSink) -> Result<Node, ZkError> {
        self.retry(|s| s.get(path, Some(sink.clone()))).await
    }

    /// Reads a node's stat, `None` if there is none.
    pub async fn exists(&self, path: &str) -> Result<Option<Stat>, ZkError> {
        self.retry(|s| s.exists(path, None)).await
    }

    /// Reads a node's stat and watches it once, also for its creation.
    pub async fn exists_and_watch(&self, path: &str, sink: &WatchSink) -> Result<Option<Stat>, ZkError> {
        self.retry(|s| s.exists(path, Some(sink.clone()))).await
    }

    /// Lists a node's children; none if the node does not exist.
    pub async fn children(&self, path: &str) -> Result<Vec<String>, ZkError> {
        Ok(none_if_missing(self.retry(|s| s.children(path, None)).await)?.unwrap_or_default())
    }

    /// Lists a node's children and watches the list once. The node must exist.
    pub async fn children_and_watch(&self, path: &str, sink: &WatchSink) -> Result<Vec<String>, ZkError> {
        self.retry(|s| s.children(path, Some(sink.clone()))).await
    }

    /// Reads many nodes in few requests, pipelined; the answers stand in the order of the paths.
    pub async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Node>>, ZkError> {
        let chunks = paths.chunks(MAX_READS).map(|chunk| self.retry(|s| s.get_many(chunk.to_vec())));
        let mut found = Vec::with_capacity(paths.len());
        for answers in join_all(chunks).await {
            for answer in answers? {
                found.push(none_if_missing(answer)?);
            }
        }
        Ok(found)
    }

    /// Reads and watches many nodes at once, pipelined; the answers stand in the order of the paths.
    pub async fn get_many_and_watch(&self, paths: &[String], sink: &WatchSink) -> Result<Vec<Option<Node>>, ZkError> {
        let read = paths.iter().map(|path| async move { none_if_missing(self.get_and_watch(path, sink).await) });
        join_all(read).await.into_iter().collect()
    }

    /// Creates a node whose parent exists.
    pub async fn create(&self, path: &str, data: &[u8], mode: CreateMode) -> Result<(String, Stat), ZkError> {
        let session = self.session()?;
        let op = Op::Create { path: path.to_owned(), data: data.to_owned(), mode };
        let mut retried = false;
        loop {
            match session.write(op.clone()).await {
                Ok(OpResult::Created { path, stat }) => return Ok((path, stat)),
                Ok(other) => return Err(ZkError::Refused(format!("a create was answered with {other:?}"))),
                Err(ZkError::Unknown(why)) => {
                    warn!("creating {path} again: {why}");
                    retried = true;
                    tokio::time::sleep(RETRY_BACKOFF).await;
                }
                Err(ZkError::NodeExists) if retried => {
                    return match self.find(path).await? {
                        Some(node) if is_ours(&node, data, mode, session.id()) => Ok((path.to_owned(), node.stat)),
                        _ => Err(ZkError::NodeExists),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Creates a persistent node and what is missing above it. An existing node is left as it is.
    pub async fn ensure_path(&self, path: &str) -> Result<(), ZkError> {
        self.create_recursive(path, &[]).await.or_else(|error| match error {
            ZkError::NodeExists => Ok(()),
            error => Err(error),
        })
    }

    /// Creates a persistent node and what is missing above it.
    pub async fn create_recursive(&self, path: &str, data: &[u8]) -> Result<(), ZkError> {
        match self.create(path, data, CreateMode::Persistent).await {
            Err(ZkError::NoNode) => {}
            other => return other.map(|_| ()),
        }
        for (at, _) in path.match_indices('/').skip(1) {
            match self.create(&path[..at], &[], CreateMode::Persistent).await {
                Ok(_) | Err(ZkError::NodeExists) => {}
                Err(error) => return Err(error),
            }
        }
        self.create(path, data, CreateMode::Persistent).await.map(|_| ())
    }

    /// Replaces a node's data; `version` is the one it must have, `None` for any.
    pub async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Result<Stat, ZkError> {
        let session = self.session()?;
        let op = Op::set(path, data, version);
        let mut retried = false;
        loop {
            match session.write(op.clone()).await {
                Ok(OpResult::Set(stat)) => return Ok(stat),
                Ok(other) => return Err(ZkError::Refused(format!("a set was answered with {other:?}"))),
                Err(ZkError::Unknown(why)) => {
                    warn!("setting {path} again: {why}");
                    retried = true;
                    tokio::time::sleep(RETRY_BACKOFF).await;
                }
                Err(ZkError::BadVersion) if retried => {
                    return match self.find(path).await? {
                        Some(node) if node.data == data && version.is_some_and(|v| node.stat.version == v + 1) => {
                            Ok(node.stat)
                        }
                        _ => Err(ZkError::BadVersion),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes a node without children; `version` is the one it must have, `None` for any.
    pub async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), ZkError> {
        let session = self.session()?;
        let mut retried = false;
        loop {
            match session.write(Op::delete(path, version)).await {
                Ok(_) => return Ok(()),
                Err(ZkError::Unknown(why)) => {
                    warn!("deleting {path} again: {why}");
                    retried = true;
                    tokio::time::sleep(RETRY_BACKOFF).await;
                }
                Err(ZkError::NoNode) if retried => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Every node below `path` and `path` itself, children after their parents. Empty if it does not exist.
    pub async fn subtree(&self, path: &str) -> Result<Vec<String>, ZkError> {
        if self.exists(path).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut found = vec![path.to_owned()];
        let mut level = found.clone();
        while !level.is_empty() {
            let lists: Result<Vec<_>, _> = join_all(level.iter().map(|p| self.children(p))).await.into_iter().collect();
            let below = level.iter().zip(lists?).flat_map(|(parent, names)| {
                names.into_iter().map(move |name| format!("{parent}/{name}")).collect::<Vec<_>>()
            });
            level = below.collect();
            found.extend(level.iter().cloned());
        }
        Ok(found)
    }

    /// Applies all writes or none. Not retried: after [`ZkError::Unknown`] read again.
    pub async fn multi(&self, ops: Vec<Op>) -> Result<MultiResult, ZkError> {
        self.session()?.multi(ops).await
    }

    /// Writes many operations, each led by `fence`, in as few multis as fit, pipelined and in order. Where a multi
    /// fails because of one operation, that multi's operations are written again one by one, so that the answers stand
    /// for single operations; operations that depend on one another must therefore stand in order. Fails as a whole
    /// when the fence does not hold ([`ZkError::BadVersion`] or [`ZkError::NoNode`]) or nobody answers.
    pub async fn write_fenced(&self, fence: &Op, ops: Vec<Op>) -> Result<Vec<Result<OpResult, ZkError>>, ZkError> {
        let session = self.session()?;
        let batches = split_batches(ops);
        let sent = join_all(batches.iter().map(|batch| session.multi(with_fence(fence, batch)))).await;
        let mut answers = Vec::new();
        for (batch, answer) in batches.into_iter().zip(sent) {
            match answer? {
                Ok(results) => answers.extend(results.into_iter().skip(1).map(Ok)),
                Err((0, error)) => return Err(error),
                Err(_) => answers.extend(self.write_fenced_singly(session.as_ref(), fence, batch).await?),
            }
        }
        Ok(answers)
    }

    async fn write_fenced_singly(
        &self,
        session: &dyn ZkSession,
        fence: &Op,
        ops: Vec<Op>,
    ) -> Result<Vec<Result<OpResult, ZkError>>, ZkError> {
        let sent = join_all(ops.into_iter().map(|op| session.multi(vec![fence.clone(), op]))).await;
        sent.into_iter()
            .map(|answer| match answer? {
                Ok(mut results) => Ok(results.pop().ok_or(ZkError::Refused("an empty answer to a multi".into()))),
                Err((0, error)) => Err(error),
                Err((_, error)) => Ok(Err(error)),
            })
            .collect()
    }

    /// Waits until the connected server has seen all that was committed before.
    pub async fn sync(&self, path: &str) -> Result<(), ZkError> {
        self.retry(|s| s.sync(path)).await
    }

    /// Ends the session, and with it the ephemeral nodes, and opens no other.
    pub async fn close(&self) {
        self.shared.state.send_replace(SessionState::Closed);
        let session = self.shared.session.write().take();
        if let Some(session) = session {
            session.close().await;
        }
    }
}

impl Shared {
    /// Puts a new session in place; false if the client was closed meanwhile.
    fn install(&self, session: &Arc<dyn ZkSession>, generation: u64) -> bool {
        let mut slot = self.session.write();
        if *self.state.borrow() == SessionState::Closed {
            return false;
        }
        *slot = Some(session.clone());
        drop(slot);
        self.state.send_replace(SessionState::Open { session: session.id(), generation });
        true
    }

    /// Takes an ended session away; false if the client was closed.
    fn expire(&self, generation: u64) -> bool {
        let mut slot = self.session.write();
        if *self.state.borrow() == SessionState::Closed {
            return false;
        }
        *slot = None;
        drop(slot);
        self.state.send_replace(SessionState::Expired { generation });
        true
    }
}

async fn keep_session(shared: Arc<Shared>, mut ended: futures::future::BoxFuture<'static, ()>) {
    for generation in 1.. {
        ended.await;
        if !shared.expire(generation) {
            return;
        }
        warn!("the ZooKeeper session is over; opening a new one");
        let session = loop {
            if *shared.state.borrow() == SessionState::Closed {
                return;
            }
            match shared.connector.connect().await {
                Ok(session) => break session,
                Err(error) => warn!("cannot open a ZooKeeper session: {error}; trying again"),
            }
            tokio::time::sleep(RETRY_BACKOFF).await;
        };
        ended = session.ended();
        if !shared.install(&session, generation + 1) {
            session.close().await;
            return;
        }
        info!("opened the ZooKeeper session {:#x}", session.id());
    }
}

fn none_if_missing<T>(answer: Result<T, ZkError>) -> Result<Option<T>, ZkError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(ZkError::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_ours(node: &Node, data: &[u8], mode: CreateMode, session: i64) -> bool {
    let owner = if mode == CreateMode::Ephemeral { session } else { 0 };
    node.data == data && node.stat.ephemeral_owner == owner
}

fn with_fence(fence: &Op, batch: &[Op]) -> Vec<Op> {
    std::iter::once(fence.clone()).chain(batch.iter().cloned()).collect()
}

fn split_batches(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut batches: Vec<Vec<Op>> = Vec::new();
    let mut bytes = usize::MAX;
    for op in ops {
        let size = op.wire_size();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_MULTI_OPS && bytes + size <= MAX_MULTI_BYTES => {
                bytes += size;
                batch.push(op);
            }
            _ => {
                bytes = size;
                batches.push(vec![op]);
            }
        }
    }
    batches
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
