//! One of the `log.dirs`: whether its disk still serves, and the files in it that wait for removal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::log::error::LogError;

/// Told once when a log dir goes offline: its path and why.
pub type FailureListener = Box<dyn Fn(&Path, &str) + Send + Sync>;

/// A file or folder that is to be removed at a later time.
#[derive(Debug)]
struct Removal {
    due_ms: i64,
    path: PathBuf,
}

/// A folder of `log.dirs`.
pub struct LogDir {
    path: PathBuf,
    offline: AtomicBool,
    checkpoint_wanted: AtomicBool,
    listener: OnceLock<FailureListener>,
    // Held for pushes and drains only, never across I/O.
    removals: Mutex<Vec<Removal>>,
}

impl std::fmt::Debug for LogDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDir").field("path", &self.path).field("offline", &self.is_offline()).finish_non_exhaustive()
    }
}

impl LogDir {
    /// The log dir at `path`, online.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            offline: AtomicBool::new(false),
            checkpoint_wanted: AtomicBool::new(false),
            listener: OnceLock::new(),
            removals: Mutex::new(Vec::new()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that its file system holds in all, and those that this process may still use there. Asks the file system,
    /// so it may wait for the disk.
    ///
    /// # Errors
    /// If the file system does not answer.
    pub fn space(&self) -> std::io::Result<(u64, u64)> {
        let stat = nix::sys::statvfs::statvfs(&self.path)?;
        let unit = stat.fragment_size();
        Ok((stat.blocks().saturating_mul(unit), stat.blocks_available().saturating_mul(unit)))
    }

    /// Whether an I/O error has taken it offline.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Sets who is told when it goes offline. Only the first call counts.
    pub fn set_listener(&self, listener: FailureListener) {
        let _ = self.listener.set(listener);
    }

    /// Refuses with [`LogError::Offline`] once it is offline.
    pub fn check_online(&self) -> Result<(), LogError> {
        if self.is_offline() { Err(LogError::Offline(self.path.clone())) } else { Ok(()) }
    }

    /// Takes it offline; the first failure is logged and told to the listener.
    pub fn take_offline(&self, reason: &str) {
        if !self.offline.swap(true, Ordering::AcqRel) {
            tracing::error!(log_dir = %self.path.display(), "log dir goes offline: {reason}");
            if let Some(listener) = self.listener.get() {
                listener(&self.path, reason);
            }
        }
    }

    /// Passes a result on; a failure of the disk takes the log dir offline on the way.
    pub fn watch<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        match &result {
            Err(error @ LogError::Storage { source, .. }) if is_out_of_files(source) => {
                tracing::error!("{error}: raise the limit of open files (ulimit -n) of the broker");
            }
            Err(error @ LogError::Storage { .. }) => self.take_offline(&error.to_string()),
            _ => {}
        }
        result
    }

    /// Asks for the recovery points to be checkpointed soon, because one of them fell.
    pub(crate) fn want_checkpoint(&self) {
        self.checkpoint_wanted.store(true, Ordering::Release);
    }

    /// Whether a checkpoint was asked for since the last call.
    pub(crate) fn take_checkpoint_wanted(&self) -> bool {
        self.checkpoint_wanted.swap(false, Ordering::AcqRel)
    }

    /// Has `path` removed at `due_ms`, by [`LogDir::remove_due`].
    pub fn remove_later(&self, path: PathBuf, due_ms: i64) {
        self.removals.lock().push(Removal { due_ms, path });
    }

    /// Removes the files and folders whose time has come; returns how many. One that cannot be removed is logged and
    /// left to the next start.
    pub fn remove_due(&self, now_ms: i64) -> usize {
        let due: Vec<Removal> = self.removals.lock().extract_if(.., |removal| removal.due_ms <= now_ms).collect();
        for removal in &due {
            remove(&removal.path);
        }
        due.len()
    }
}

/// Whether the process or the system has no descriptor left, which is no fault of the disk.
fn is_out_of_files(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Removes a file, or a folder with all that is in it. What is gone already is fine.
pub(crate) fn remove(path: &Path) {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), "could not be removed, the next start tries again: {error}");
    }
}
