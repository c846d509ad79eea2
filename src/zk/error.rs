//! What may go wrong with ZooKeeper, told apart by what the caller may conclude.

/// An error of a ZooKeeper operation.
///
/// All but [`ZkError::Unknown`], [`ZkError::SessionExpired`] and [`ZkError::Closed`] are definite: the operation was
/// refused and changed nothing. After those three a write may or may not have been applied: read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZkError {
    /// The node, or the parent of a node to create, does not exist.
    #[error("the node does not exist")]
    NoNode,
    /// A node to create exists already.
    #[error("the node exists already")]
    NodeExists,
    /// The node's version is not the one expected.
    #[error("the node's version is not the expected one")]
    BadVersion,
    /// A node to delete has children.
    #[error("the node has children")]
    NotEmpty,
    /// The parent of a node to create is ephemeral.
    #[error("an ephemeral node can have no children")]
    NoChildrenForEphemerals,
    /// The session's identities may not do that.
    #[error("not authorized (see zookeeper.set.acl and the node's ACL)")]
    NoAuth,
    /// ZooKeeper does not accept the ACL.
    #[error("the ACL is not valid")]
    InvalidAcl,
    /// The server does not know the operation, or the arguments are malformed.
    #[error("ZooKeeper cannot do that: {0}")]
    Refused(String),
    /// The session is over, its ephemeral nodes are or will be gone.
    #[error("the ZooKeeper session has expired")]
    SessionExpired,
    /// ZooKeeper refuses the session's credentials.
    #[error("ZooKeeper refused the credentials")]
    AuthFailed,
    /// The client was closed.
    #[error("the ZooKeeper client is closed")]
    Closed,
    /// Nobody knows whether the operation took place: the connection broke, or no answer came.
    #[error("no answer from ZooKeeper: {0}")]
    Unknown(String),
    /// A node holds what cannot be read.
    #[error("cannot read the ZooKeeper node {path}: {reason}")]
    Corrupt {
        /// The node.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ZkError {
    /// Whether the operation certainly changed nothing.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_) | Self::SessionExpired | Self::Closed)
    }

    /// Whether the session this was asked in is over, so that asking again in it is of no use.
    pub fn ends_session(&self) -> bool {
        matches!(self, Self::SessionExpired | Self::AuthFailed | Self::Closed)
    }
}
