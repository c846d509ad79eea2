//! What writes to ZooKeeper on a user's behalf: topics, their partitions, configs. Decides nothing of leaders: the controller sees
//! the znodes change and acts. What is decided here (names, assignments) is decided on plain data; `topics`
//! and `configs` alone do I/O.

pub mod assignment;
pub mod configs;
pub mod plan;
pub mod topics;

use crate::base::error::ErrorCode;
use crate::zk::error::ZkError;

/// Why a request of a user was refused: the wire's code and a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// The wire's code.
    pub code: ErrorCode,
    /// What was wrong, with the values at fault.
    pub message: String,
}

impl AdminError {
    /// An error with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ZkError> for AdminError {
    fn from(error: ZkError) -> Self {
        let code = if error.is_definite() { ErrorCode::UnknownServerError } else { ErrorCode::RequestTimedOut };
        Self::new(code, format!("ZooKeeper: {error}"))
    }
}
