//! The contract between [`super::client::ZkClient`] and what speaks to ZooKeeper: the real client or the in-memory model.
//!
//! ```text
//!   ZkConnector::connect ──> ZkSession ── get/children/write/multi ──> answer, or ZkError
//!                               │ watch (one shot) ──> WatchSink
//!                               └ ended() resolves once, when the session is over
//! ```
//!
//! A request is sent when its future is first polled; requests polled one after the other are applied in that order,
//! so that polling many and awaiting them together pipelines them. A future that is dropped may still take effect.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::error::ZkError;

/// The future of an answer from ZooKeeper.
pub type ZkFuture<T> = BoxFuture<'static, Result<T, ZkError>>;

/// Called once when a watch fires; must not block.
pub type WatchSink = Arc<dyn Fn(WatchEvent) + Send + Sync>;

/// What happened to a watched node. One-shot: watch again before reading again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// The node.
    pub path: String,
    /// What happened.
    pub kind: WatchKind,
}

/// The kinds of [`WatchEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// The node was created.
    Created,
    /// The node was deleted.
    Deleted,
    /// The node's data changed.
    DataChanged,
    /// A child of the node was created or deleted.
    ChildrenChanged,
}

/// The part of ZooKeeper's stat structure that Kafka acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The transaction that created the node; of `/brokers/ids/N` it is the broker epoch.
    pub czxid: i64,
    /// The transaction that last changed the node's data.
    pub mzxid: i64,
    /// How often the data changed; the `zkVersion` (partition epoch) of a partition's state.
    pub version: i32,
    /// The session that holds an ephemeral node; 0 of a persistent one.
    pub ephemeral_owner: i64,
}

/// A node's data with its stat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The bytes in the node.
    pub data: Vec<u8>,
    /// Its stat.
    pub stat: Stat,
}

/// How a node is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent,
    /// Goes with the session.
    Ephemeral,
    /// Stays, and gets a ten-digit number after its name.
    PersistentSequential,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates a node.
    Create {
        /// Its path; for a sequential node the prefix.
        path: String,
        /// Its data.
        data: Vec<u8>,
        /// How.
        mode: CreateMode,
    },
    /// Replaces a node's data.
    Set {
        /// The node.
        path: String,
        /// Its new data.
        data: Vec<u8>,
        /// The version it must have; `None` for any.
        version: Option<i32>,
    },
    /// Deletes a node.
    Delete {
        /// The node.
        path: String,
        /// The version it must have; `None` for any.
        version: Option<i32>,
    },
    /// Only in a multi: fails it unless the node has that version.
    Check {
        /// The node.
        path: String,
        /// The version it must have.
        version: i32,
    },
}

impl Op {
    /// Creates a persistent node.
    pub fn create(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Create { path: path.into(), data: data.into(), mode: CreateMode::Persistent }
    }

    /// Creates an ephemeral node.
    pub fn create_ephemeral(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Create { path: path.into(), data: data.into(), mode: CreateMode::Ephemeral }
    }

    /// Sets a node that must have `version`, or any version if `None`.
    pub fn set(path: impl Into<String>, data: impl Into<Vec<u8>>, version: Option<i32>) -> Self {
        Self::Set { path: path.into(), data: data.into(), version }
    }

    /// Deletes a node that must have `version`, or any version if `None`.
    pub fn delete(path: impl Into<String>, version: Option<i32>) -> Self {
        Self::Delete { path: path.into(), version }
    }

    /// Checks a node's version.
    pub fn check(path: impl Into<String>, version: i32) -> Self {
        Self::Check { path: path.into(), version }
    }

    /// The path it touches.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::Set { path, .. }
            | Self::Delete { path, .. }
            | Self::Check { path, .. } => path,
        }
    }

    /// Roughly how many bytes it takes in a request; keeps multis below `jute.maxbuffer`.
    pub fn wire_size(&self) -> usize {
        let data = match self {
            Self::Create { data, .. } => data.len() + 40,
            Self::Set { data, .. } => data.len(),
            Self::Delete { .. } | Self::Check { .. } => 0,
        };
        self.path().len() + data + 24
    }
}

/// The answer to one [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// The node was created, under this path.
    Created {
        /// The path, with its number if it is sequential.
        path: String,
        /// Its stat; inside a multi some servers leave it zero.
        stat: Stat,
    },
    /// The node was set.
    Set(Stat),
    /// The node was deleted.
    Deleted,
    /// The check held.
    Checked,
}

/// A multi either takes effect whole, or names the first operation that failed and why.
pub type MultiResult = Result<Vec<OpResult>, (usize, ZkError)>;

/// One session with ZooKeeper.
pub trait ZkSession: Send + Sync {
    /// The session's id, as it stands in a node's `ephemeral_owner`.
    fn id(&self) -> i64;

    /// The time-out that the server granted.
    fn timeout(&self) -> Duration;

    /// Reads a node; a watch tells of its change or deletion.
    fn get(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Node>;

    /// Reads many nodes in one request; each is answered for itself.
    fn get_many(&self, paths: Vec<String>) -> ZkFuture<Vec<Result<Node, ZkError>>>;

    /// Reads a node's stat, `None` if there is no such node; a watch tells of creation, change or deletion.
    fn exists(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Option<Stat>>;

    /// Lists the names of a node's children, in no order; a watch tells when the list changes.
    fn children(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Vec<String>>;

    /// Applies one write, not a check.
    fn write(&self, op: Op) -> ZkFuture<OpResult>;

    /// Applies all writes or none.
    fn multi(&self, ops: Vec<Op>) -> ZkFuture<MultiResult>;

    /// Waits until this server has seen all that was committed before.
    fn sync(&self, path: &str) -> ZkFuture<()>;

    /// Resolves when the session is over.
    fn ended(&self) -> BoxFuture<'static, ()>;

    /// Ends the session and waits, briefly, until the server confirmed it.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Makes sessions.
pub trait ZkConnector: Send + Sync {
    /// Opens a new session; creates the chroot if it is missing, unless told not to. Fails with [`ZkError::Unknown`] if no server answered
    /// within about the session time-out.
    fn connect(&self) -> ZkFuture<Arc<dyn ZkSession>>;
}
