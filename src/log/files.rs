//! The names of files and folders in a log dir (`LogFileUtils` and `UnifiedLog` of Kafka). Pure functions of strings.

use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, TopicPartition};

/// Record batches.
pub const LOG: &str = ".log";
/// Offset to position.
pub const INDEX: &str = ".index";
/// Timestamp to offset.
pub const TIME_INDEX: &str = ".timeindex";
/// Aborted transactions.
pub const TXN_INDEX: &str = ".txnindex";
/// Producer state at the offset of its name.
pub const SNAPSHOT: &str = ".snapshot";
/// On its way out: removed after `file.delete.delay.ms`, or at the next start.
pub const DELETED: &str = ".deleted";
/// A compacted segment that is still being written.
pub const CLEANED: &str = ".cleaned";
/// A compacted segment, complete, that is about to replace the ones it was made of.
pub const SWAP: &str = ".swap";
/// Ends the folder of a deleted partition.
pub const DELETE_DIR: &str = "-delete";
/// Ends the folder of a partition that moves to another log dir.
pub const FUTURE_DIR: &str = "-future";
/// Ends the folder of a partition that this broker no longer hosts (3.9).
pub const STRAY_DIR: &str = "-stray";
/// The leader epochs of a partition.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// The topic id of a partition.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Where recovery starts after an unclean stop.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Log start offsets that lie above their first segment's base offset.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// How far the cleaner got.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// Broker id and cluster id of a log dir.
pub const META_PROPERTIES: &str = "meta.properties";
/// In a partition's folder that has just come from another log dir, until the folder there is gone.
pub const MOVED: &str = "moved";
/// There while the log dir was closed in order.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Held by the broker that uses the log dir.
pub const LOCK: &str = ".lock";

/// The file of a segment, for example `00000000000000000042.log`.
pub fn segment_file(dir: &Path, base_offset: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}{suffix}", base_offset.get()))
}

/// The offset in a segment file's name: the 20 digits before the first dot.
pub fn offset_of(name: &str) -> Option<Offset> {
    let digits = name.split('.').next()?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Offset)
}

/// What a folder in a log dir is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirKind {
    /// A live partition.
    Partition(TopicPartition),
    /// A deleted partition whose files are to be removed.
    Delete(TopicPartition),
    /// A partition on its way from another log dir.
    Future(TopicPartition),
    /// A partition set aside because the broker no longer hosts it.
    Stray(TopicPartition),
    /// Not a partition's folder.
    Other,
}

fn topic_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if topic.is_empty() || partition.is_empty() || !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// `T-P.<32 hex digits>`, as Kafka names folders with a suffix.
fn topic_partition_with_id(name: &str) -> Option<TopicPartition> {
    let (stem, id) = name.rsplit_once('.')?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| topic_partition(stem))?
}

/// Reads a folder's name.
pub fn dir_kind(name: &str) -> DirKind {
    let suffixed = |suffix| name.strip_suffix(suffix).and_then(topic_partition_with_id);
    None.or_else(|| suffixed(DELETE_DIR).map(DirKind::Delete))
        .or_else(|| suffixed(FUTURE_DIR).map(DirKind::Future))
        .or_else(|| suffixed(STRAY_DIR).map(DirKind::Stray))
        .or_else(|| topic_partition(name).map(DirKind::Partition))
        .unwrap_or(DirKind::Other)
}

/// A new name for a partition's folder: `T-P.<id><suffix>`, cut to the 255 characters that file systems allow.
pub fn suffixed_dir(tp: &TopicPartition, suffix: &str) -> String {
    let id = format!(".{}{suffix}", uuid::Uuid::new_v4().simple());
    let mut topic = tp.topic.to_string();
    let partition = format!("-{}", tp.partition);
    topic.truncate(255usize.saturating_sub(id.len() + partition.len()));
    format!("{topic}{partition}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_kafka_writes_them() {
        let tp = TopicPartition::new("a-b.c", 3);
        assert_eq!(dir_kind("a-b.c-3"), DirKind::Partition(tp.clone()));
        assert_eq!(dir_kind("a-b.c-3.0123456789abcdef0123456789abcdef-delete"), DirKind::Delete(tp.clone()));
        assert_eq!(dir_kind("a-b.c-3.0123456789abcdef0123456789abcdef-future"), DirKind::Future(tp.clone()));
        assert_eq!(dir_kind("a-b.c-3.0123456789abcdef0123456789abcdef-stray"), DirKind::Stray(tp.clone()));
        assert_eq!(dir_kind("lost+found"), DirKind::Other);
        assert_eq!(dir_kind("x-delete"), DirKind::Other);
        assert_eq!(dir_kind(&suffixed_dir(&tp, DELETE_DIR)), DirKind::Delete(tp));
        let long = TopicPartition::new("t".repeat(249), 12);
        assert_eq!(suffixed_dir(&long, DELETE_DIR).len(), 255);
    }

    #[test]
    fn offsets_are_twenty_digits() {
        let path = segment_file(Path::new("d"), Offset(42), LOG);
        assert_eq!(path, Path::new("d/00000000000000000042.log"));
        assert_eq!(offset_of("00000000000000000042.timeindex.deleted"), Some(Offset(42)));
        assert_eq!(offset_of("leader-epoch-checkpoint"), None);
    }
}
