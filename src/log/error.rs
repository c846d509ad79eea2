//! What can go wrong in the log room: a refusal with a wire code, or a disk that failed.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::base::error::ErrorCode;

/// An error of a log or of the log manager.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk failed, or the log dir is offline; the partition answers `KafkaStorageError` from now on.
    #[error("{what} {path}: {source}", path = path.display())]
    Storage {
        /// What was being done, for example `append to`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log dir of this partition was taken offline by an earlier failure, or the log is closed.
    #[error("log dir {path} is offline", path = .0.display())]
    Offline(PathBuf),
    /// The request does not fit the log's state or rules.
    #[error("{message}")]
    Refused {
        /// The code the client sees.
        code: ErrorCode,
        /// What exactly does not fit.
        message: String,
    },
    /// A file of the log holds what it must not hold.
    #[error("{path}: {message}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
}

impl LogError {
    /// A refusal with `code`.
    pub fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// A failure of the disk.
    pub fn storage(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Storage { what, path: path.to_path_buf(), source }
    }

    /// A file with content that cannot be.
    pub fn corrupt(path: &Path, message: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), message: message.into() }
    }

    /// The code a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Storage { .. } | Self::Offline(_) | Self::Corrupt { .. } => ErrorCode::KafkaStorageError,
            Self::Refused { code, .. } => *code,
        }
    }
}

impl From<LogError> for ErrorCode {
    fn from(error: LogError) -> Self {
        error.code()
    }
}

/// Adds what was being done, and to which file, to an I/O error.
pub(crate) trait IoContext<T> {
    /// Names the action and the file.
    fn during(self, what: &'static str, path: &Path) -> Result<T, LogError>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn during(self, what: &'static str, path: &Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::storage(what, path, source))
    }
}
