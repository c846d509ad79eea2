//! The ZooKeeper session that this data folder's broker last registered with, kept in the folder.
//!
//! A broker that was killed leaves its registration behind until its session times out. Its successor on the same
//! folder holds the folder's lock, so the process that owned that session is dead, and may remove what it left at once
//! instead of waiting. The kernel's boot id is kept too: where it differs, the lock says nothing of the old process
//! (the folder may have been copied to, or mounted on, another machine), and the file is not used.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file's name in the data folder.
pub const FILE_NAME: &str = ".zookeeper-session";

/// A session of a broker on this folder, on this boot of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    version: i32,
    boot_id: String,
    sessions: Vec<i64>,
}

/// The file. Only the holder of the folder's `.lock` may use it.
#[derive(Debug)]
pub struct SessionFile {
    path: PathBuf,
    boot_id: String,
    sessions: Vec<i64>,
}

impl SessionFile {
    /// Opens the file in `folder`; one that is missing, unreadable or of another boot counts as empty.
    pub fn open(folder: &Path) -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::open_for_boot(folder, boot_id.trim())
    }

    fn open_for_boot(folder: &Path, boot_id: &str) -> Self {
        let path = folder.join(FILE_NAME);
        let saved = std::fs::read(&path).ok().and_then(|data| serde_json::from_slice::<Saved>(&data).ok());
        let same_boot = |saved: &Saved| saved.boot_id == boot_id && !boot_id.is_empty();
        let sessions = saved.filter(same_boot).map(|saved| saved.sessions).unwrap_or_default();
        Self { path, boot_id: boot_id.to_owned(), sessions }
    }

    /// Whether that session belonged to this broker: to an earlier process on this folder, or to this one.
    pub fn contains(&self, session: i64) -> bool {
        self.sessions.contains(&session)
    }

    /// Adds a session, before anything ephemeral is created in it. Keeps the last few: a session that this process
    /// believes expired may live on at the server for a while.
    pub fn add(&mut self, session: i64) -> io::Result<()> {
        const KEPT: usize = 4;
        if !self.sessions.contains(&session) {
            self.sessions.push(session);
        }
        let surplus = self.sessions.len().saturating_sub(KEPT);
        self.sessions.drain(..surplus);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let saved = Saved { version: 1, boot_id: self.boot_id.clone(), sessions: self.sessions.clone() };
        let fresh = self.path.with_extension("tmp");
        let _ = std::fs::remove_file(&fresh);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        std::fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn sessions_of_the_same_boot_are_remembered_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SessionFile::open_for_boot(folder.path(), "boot-1");
        assert!(!file.contains(7));
        for session in 1..=7 {
            file.add(session).unwrap();
        }
        let again = SessionFile::open_for_boot(folder.path(), "boot-1");
        assert!(again.contains(7) && again.contains(4) && !again.contains(3));
        assert!(!SessionFile::open_for_boot(folder.path(), "boot-2").contains(7));
        let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn rubbish_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), b"{").unwrap();
        assert!(!SessionFile::open_for_boot(folder.path(), "b").contains(0));
    }
}
