//! Rebuilds transactional ids from the records of one partition of `__transaction_state`, in the order of the log. Pure: it
//! is fed chunks of batches. What cannot be read is passed over with a warning, as one bad record must not take the others
//! down.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tracing::{error, warn};

use super::records::{Key, TxnValue, decode_value};
use crate::base::ids::{Offset, TopicPartition};
use crate::coordinator::group::decompressed;
use crate::coordinator::wire::Malformed;
use crate::protocol::batch::{BatchHeader, crc_is_valid, entries};
use crate::protocol::records::{Record, records};

/// The state of a partition up to some offset.
#[derive(Default)]
pub struct Replay {
    ids: BTreeMap<Arc<str>, TxnValue>,
    records: u64,
}

impl Replay {
    /// How many records it has seen.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes in the batches of `chunk` from `from` on. Gives the offset after the last; `from` if there was none. `names`
    /// keeps one copy of each topic's name.
    pub fn batches(
        &mut self,
        tp: &TopicPartition,
        chunk: &[u8],
        from: Offset,
        names: &mut HashSet<Arc<str>>,
    ) -> Offset {
        let mut next = from;
        for entry in entries(chunk) {
            let Ok((header, bytes)) = entry else {
                error!(partition = %tp, at = %next, "no record batch where one should begin");
                break;
            };
            if header.next_offset() <= from {
                continue;
            }
            next = header.next_offset();
            self.batch(tp, &header, bytes, names);
        }
        next
    }

    fn batch(&mut self, tp: &TopicPartition, header: &BatchHeader, bytes: &[u8], names: &mut HashSet<Arc<str>>) {
        if header.magic != 2 || !crc_is_valid(bytes) {
            return error!(partition = %tp, at = %header.base_offset, "a batch is damaged or too old to be read");
        }
        if header.is_control() {
            return;
        }
        let body = match decompressed(header, bytes) {
            Ok(body) => body,
            Err(cause) => return error!(partition = %tp, at = %header.base_offset, %cause, "a batch cannot be read"),
        };
        for record in records(&body, header.record_count) {
            let Ok(record) = record else {
                return error!(partition = %tp, at = %header.base_offset, "a batch's records cannot be read");
            };
            self.records += 1;
            if let Err(cause) = self.record(&record, names) {
                let offset = header.base_offset.plus(i64::from(record.offset_delta));
                warn!(partition = %tp, at = %offset, %cause, "a record cannot be read");
            }
        }
    }

    fn record(&mut self, record: &Record<'_>, names: &mut HashSet<Arc<str>>) -> Result<(), Malformed> {
        match (Key::decode(record.key.unwrap_or_default())?, record.value) {
            (Key::Transaction(id), Some(value)) => {
                let value = decode_value(value, |topic| intern(names, topic))?;
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

fn intern(names: &mut HashSet<Arc<str>>, topic: &str) -> Arc<str> {
    match names.get(topic) {
        Some(name) => Arc::clone(name),
        None => {
            let name: Arc<str> = topic.into();
            names.insert(Arc::clone(&name));
            name
        }
    }
}
