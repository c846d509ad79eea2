//! What the cleaner asks of all logs: which one is the filthiest, and writing down how far they are cleaned.

use std::sync::Arc;

use super::LogManager;
use crate::base::ids::Offset;
use crate::log::cleaner::selection::{Cleanable, Wishes, assess};
use crate::log::error::LogError;
use crate::log::log_config::LogConfig;
use crate::log::log_dir::LogDir;
use crate::log::partition_log::{Claim, PartitionLog};

fn wishes(config: &LogConfig) -> Wishes {
    Wishes {
        min_cleanable_ratio: config.min_cleanable_ratio,
        min_lag_ms: config.min_compaction_lag_ms,
        max_lag_ms: config.max_compaction_lag_ms,
    }
}

impl LogManager {
    /// The log that is to be cleaned first, of those that are to be cleaned now, and how far. It is the caller's until the
    /// claim is dropped. None is on its way to another log dir.
    pub(in crate::log) fn claim_filthiest(&self, now_ms: i64) -> Option<(Claim, Cleanable)> {
        let mut due: Vec<(Arc<PartitionLog>, Cleanable)> = Vec::new();
        for log in self.all() {
            match self.assess(&log, now_ms) {
                Ok(Some(cleanable)) => due.push((log, cleanable)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(partition = %log.topic_partition(), "cannot be looked over for cleaning: {error}");
                }
            }
        }
        due.sort_by(|(_, one), (_, other)| other.ratio().total_cmp(&one.ratio()));
        due.into_iter().find_map(|(log, cleanable)| Some((log.claim_for_cleaning()?, cleanable)))
    }

    /// What is to be cleaned of a log now.
    fn assess(&self, log: &PartitionLog, now_ms: i64) -> Result<Option<Cleanable>, LogError> {
        let config = log.config();
        let out_of_reach = log.is_closed() || log.log_dir().is_offline() || log.is_uncleanable();
        if !config.compact || out_of_reach || log.is_being_cleaned() || self.future(log.topic_partition()).is_some() {
            return Ok(None);
        }
        let facts = log.cleaning_facts(now_ms)?;
        let wishes = wishes(&config);
        let cleanable = assess(&facts, &wishes);
        if cleanable.checkpoint_is_wrong {
            tracing::warn!(
                partition = %log.topic_partition(),
                "was cleaned up to {}, by the checkpoint, but reaches from {} to {}: it is cleaned from its start on",
                facts.checkpoint.unwrap_or(Offset::UNKNOWN),
                facts.log_start,
                facts.log_end
            );
            log.forget_cleaned_offset();
        }
        Ok(cleanable.is_due(&wishes).then_some(cleanable))
    }

    /// Has what a cleaning up to `to` goes by on the disk, and what is below `to` written down as such: after a crash nothing
    /// that is missing there is taken for lost.
    pub(in crate::log) fn make_durable(&self, log: &PartitionLog, to: Offset) -> Result<(), LogError> {
        log.flush_for_cleaning()?;
        let Some(dir) = self.dirs.iter().find(|dir| Arc::ptr_eq(&dir.log_dir, log.log_dir())) else { return Ok(()) };
        let tp = log.topic_partition();
        let known = {
            let written = dir.written.lock();
            let points = written.recovery_points.as_ref();
            points.and_then(|points| points.binary_search_by(|(known, _)| known.cmp(tp)).ok().map(|at| points[at].1))
        };
        if known.is_none_or(|known| known < to) {
            self.checkpoint_dir(dir);
        }
        log.log_dir().check_online()
    }

    /// Writes down how far the logs of one log dir are cleaned, where that changed.
    pub(in crate::log) fn checkpoint_cleaned(&self, log_dir: &Arc<LogDir>) {
        let Some(dir) = self.dirs.iter().find(|dir| Arc::ptr_eq(&dir.log_dir, log_dir)) else { return };
        if !log_dir.is_offline() {
            self.checkpoint_cleaned_in(dir);
        }
    }
}
