//! Rebuilds transactional ids from the records of one partition of `__transaction_state`, in the order of the log. Pure: it
//! is fed records.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::records::{Key, TxnValue, decode_value};
use crate::coordinator::reading::intern;
use crate::coordinator::wire::Malformed;
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

/// The state of a partition up to some offset.
#[derive(Default)]
pub struct Replay {
    ids: BTreeMap<Arc<str>, TxnValue>,
    /// One copy of each topic's name.
    names: HashSet<Arc<str>>,
}

impl Replay {
    /// Takes in a record. Control records say nothing here.
    ///
    /// # Errors
    /// What about it cannot be read.
    pub fn take(&mut self, header: &BatchHeader, record: &Record<'_>) -> Result<(), Malformed> {
        if header.is_control() {
            return Ok(());
        }
        match (Key::decode(record.key.unwrap_or_default())?, record.value) {
            (Key::Transaction(id), Some(value)) => {
                let value = decode_value(value, |topic| intern(&mut self.names, topic))?;
                self.ids.insert(id.into(), value);
            }
            (Key::Transaction(id), None) => drop(self.ids.remove(id)),
            (Key::Unknown(version), _) => tracing::debug!(version, "a key of an unknown version"),
        }
        Ok(())
    }

    /// Every id with its latest value.
    pub fn finish(self) -> BTreeMap<Arc<str>, TxnValue> {
        self.ids
    }
}
