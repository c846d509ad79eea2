//! The small files beside the logs: `partition.metadata`, `meta.properties`, `.kafka_cleanshutdown`, `.lock`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::Mutex;

use crate::base::ids::{BrokerEpoch, BrokerId, TopicId, topic_id_from_base64, topic_id_to_base64};
use crate::log::checkpoint::{Sync, write_atomically};
use crate::log::error::{IoContext, LogError};
use crate::log::files;

fn read_if_there(path: &Path) -> Result<Option<String>, LogError> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| LogError::corrupt(path, "is not text")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::storage("read", path, error)),
    }
}

/// Reads the topic id in a partition's folder; `None` if it has no `partition.metadata` (before KIP-516).
pub fn read_topic_id(partition_dir: &Path) -> Result<Option<TopicId>, LogError> {
    let path = partition_dir.join(files::PARTITION_METADATA);
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    let value = |key: &str| text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()));
    match (value("version"), value("topic_id").and_then(topic_id_from_base64)) {
        (Some("0"), Some(id)) if !id.is_nil() => Ok(Some(id)),
        (Some("0"), _) => Err(LogError::corrupt(&path, "has no valid topic_id")),
        (version, _) => Err(LogError::corrupt(&path, format!("has version {version:?}, expected 0"))),
    }
}

/// Writes the topic id into a partition's folder. It reaches the disk with the folder's next flush.
pub fn write_topic_id(partition_dir: &Path, id: TopicId) -> Result<(), LogError> {
    let path = partition_dir.join(files::PARTITION_METADATA);
    let text = format!("version: 0\ntopic_id: {}\n", topic_id_to_base64(id));
    // A file this small is written whole or not at all; a torn one is only possible with the power gone, and then
    // the id is learnt anew from the controller.
    fs::write(&path, text).during("write", &path)
}

/// What `meta.properties` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaProperties {
    /// `broker.id`.
    pub broker_id: Option<BrokerId>,
    /// `cluster.id`.
    pub cluster_id: Option<String>,
}

/// Reads a log dir's `meta.properties`; `None` if there is none.
pub fn read_meta_properties(log_dir: &Path) -> Result<Option<MetaProperties>, LogError> {
    let path = log_dir.join(files::META_PROPERTIES);
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    let properties =
        java_properties::read(text.as_bytes()).map_err(|error| LogError::corrupt(&path, error.to_string()))?;
    match properties.get("version").map(|v| v.trim()) {
        Some("0") => {}
        Some("1") => return Err(LogError::corrupt(&path, "has version 1: this folder belongs to a KRaft broker")),
        version => return Err(LogError::corrupt(&path, format!("has version {version:?}, expected 0"))),
    }
    let broker_id = match properties.get("broker.id").map(|id| id.trim().parse()) {
        Some(Ok(id)) => Some(BrokerId(id)),
        Some(Err(_)) => return Err(LogError::corrupt(&path, "has a broker.id that is no number")),
        None => None,
    };
    Ok(Some(MetaProperties { broker_id, cluster_id: properties.get("cluster.id").map(|id| id.trim().to_owned()) }))
}

/// Writes a log dir's `meta.properties`.
pub fn write_meta_properties(log_dir: &Path, broker_id: BrokerId, cluster_id: &str) -> Result<(), LogError> {
    let path = log_dir.join(files::META_PROPERTIES);
    let text = format!("#\nversion=0\nbroker.id={broker_id}\ncluster.id={cluster_id}\n");
    write_atomically(&path, text.as_bytes(), Sync::Now)
}

/// The mark of an orderly stop, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanShutdown {
    /// The broker epoch of the life that ended in order; `None` in files from before 3.8.
    pub broker_epoch: Option<BrokerEpoch>,
}

/// Reads `.kafka_cleanshutdown` and removes it, so that a crash from here on is seen. `None` if the last stop was unclean.
pub fn take_clean_shutdown(log_dir: &Path) -> Result<Option<CleanShutdown>, LogError> {
    let path = log_dir.join(files::CLEAN_SHUTDOWN);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::storage("read", &path, error)),
    };
    fs::remove_file(&path).during("remove", &path)?;
    let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let broker_epoch = json.and_then(|json| json.get("brokerEpoch")?.as_i64()).map(BrokerEpoch);
    Ok(Some(CleanShutdown { broker_epoch }))
}

/// Writes `.kafka_cleanshutdown`: 2.8 asks only whether it is there, 3.9 reads the broker epoch.
pub fn write_clean_shutdown(log_dir: &Path, broker_epoch: BrokerEpoch) -> Result<(), LogError> {
    let path = log_dir.join(files::CLEAN_SHUTDOWN);
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    write_atomically(&path, text.as_bytes(), Sync::Now)
}

/// Folders locked by this process: POSIX locks do not keep one process from taking the same lock twice.
static LOCKED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Keeps other brokers, ours and the JVM's, out of a log dir while it lives.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
    inode: (u64, u64),
}

impl DirLock {
    /// Locks `log_dir/.lock` as Java's `FileChannel.tryLock` does. `Ok(None)` if another holds it.
    pub fn acquire(log_dir: &Path) -> Result<Option<Self>, LogError> {
        let path = log_dir.join(files::LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.during("open", &path)?;
        let meta = file.metadata().during("stat", &path)?;
        let inode = (meta.dev(), meta.ino());
        let mut locked = LOCKED.lock();
        if locked.contains(&inode) {
            // Dropping `file` would release this process's own lock, so leave it open: it happens only by mistake.
            std::mem::forget(file);
            return Ok(None);
        }
        let whole_file = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&whole_file)) {
            Ok(_) => {
                locked.push(inode);
                Ok(Some(Self { _file: file, inode }))
            }
            Err(nix::errno::Errno::EACCES | nix::errno::Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(LogError::storage("lock", &path, errno.into())),
        }
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        LOCKED.lock().retain(|inode| *inode != self.inode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_topic_id(dir.path()).unwrap(), None);
        let id = topic_id_from_base64("5sE70Q4ERBm5cytzUjvVRQ").unwrap();
        write_topic_id(dir.path(), id).unwrap();
        assert_eq!(read_topic_id(dir.path()).unwrap(), Some(id));
        fs::write(dir.path().join(files::PARTITION_METADATA), "version: 1\n").unwrap();
        assert!(read_topic_id(dir.path()).is_err());
    }

    #[test]
    fn meta_properties_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_meta_properties(dir.path()).unwrap(), None);
        write_meta_properties(dir.path(), BrokerId(3), "f91kttdvTEO354AhTE_IQw").unwrap();
        let expected =
            MetaProperties { broker_id: Some(BrokerId(3)), cluster_id: Some("f91kttdvTEO354AhTE_IQw".into()) };
        assert_eq!(read_meta_properties(dir.path()).unwrap(), Some(expected));
        let kraft = "version=1\nnode.id=1\n";
        fs::write(dir.path().join(files::META_PROPERTIES), kraft).unwrap();
        assert!(read_meta_properties(dir.path()).unwrap_err().to_string().contains("KRaft"));
    }

    #[test]
    fn the_mark_of_a_clean_stop_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        write_clean_shutdown(dir.path(), BrokerEpoch(77)).unwrap();
        let text = fs::read_to_string(dir.path().join(files::CLEAN_SHUTDOWN)).unwrap();
        assert_eq!(text, "{\"version\":0,\"brokerEpoch\":77}");
        let found = take_clean_shutdown(dir.path()).unwrap().unwrap();
        assert_eq!(found.broker_epoch, Some(BrokerEpoch(77)));
        assert_eq!(take_clean_shutdown(dir.path()).unwrap(), None);
        fs::write(dir.path().join(files::CLEAN_SHUTDOWN), "").unwrap();
        assert_eq!(take_clean_shutdown(dir.path()).unwrap().unwrap().broker_epoch, None);
    }

    #[test]
    fn a_dir_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        assert!(lock.is_some());
        assert!(DirLock::acquire(dir.path()).unwrap().is_none());
        drop(lock);
        assert!(DirLock::acquire(dir.path()).unwrap().is_some());
    }
}
