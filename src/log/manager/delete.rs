//! Deleting a partition: its folder is renamed at once and removed later (`LogManager.asyncDelete`).

use super::LogManager;
use crate::base::ids::TopicPartition;
use crate::log::error::{IoContext, LogError};
use crate::log::files;

impl LogManager {
    /// Deletes a partition's log; its files go `file.delete.delay.ms` after `now_ms`. Does nothing if there is none.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn delete(&self, tp: &TopicPartition, now_ms: i64) -> Result<(), LogError> {
        self.move_away(tp, files::DELETE_DIR, now_ms)
    }

    /// Sets a partition's folder aside as `-stray`: the broker no longer hosts it, but did not see it deleted.
    ///
    /// # Errors
    /// A failure of the disk, which takes the log dir offline.
    pub fn set_aside_as_stray(&self, tp: &TopicPartition, now_ms: i64) -> Result<(), LogError> {
        self.move_away(tp, files::STRAY_DIR, now_ms)
    }

    fn move_away(&self, tp: &TopicPartition, suffix: &str, now_ms: i64) -> Result<(), LogError> {
        let _creation = self.creation.lock();
        self.remove_future(tp, now_ms)?;
        let Some(log) = self.logs.write().remove(tp) else { return Ok(()) };
        let log_dir = log.log_dir().clone();
        log_dir.check_online()?;
        let to = log_dir.path().join(files::suffixed_dir(tp, suffix));
        log.retire();
        log_dir.watch(std::fs::rename(log.dir(), &to).during("rename", log.dir()))?;
        if suffix == files::DELETE_DIR {
            let due = now_ms.saturating_add(log.config().file_delete_delay_ms);
            log_dir.remove_later(to.clone(), due);
        }
        for dir in &self.dirs {
            dir.high_watermarks.lock().remove(tp);
        }
        tracing::info!(partition = %tp, "log renamed to {}", to.display());
        Ok(())
    }
}
