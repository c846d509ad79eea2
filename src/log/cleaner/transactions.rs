//! Which transactions a cleaning is amid of, and what may go of them (`CleanedTransactionMetadata`): the records of aborted
//! ones at once, a marker only when no batch of its transaction is left before it. Plain data.
//!
//! Invariant: it sees the batches of a log in their order, from a point at which it knows all aborted transactions that end
//! behind it.

use std::collections::{HashMap, HashSet};

use crate::base::ids::{Offset, ProducerId};
use crate::log::producer_state::{EndTxnMarker, read_marker};
use crate::log::txn_index::AbortedTxn;
use crate::protocol::batch::BatchHeader;

/// An aborted transaction that the walk is in.
#[derive(Debug)]
struct Ongoing {
    txn: AbortedTxn,
    /// Whether a batch of it was seen.
    has_batches: bool,
}

/// What a control batch is, as far as compaction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Nothing before it needs it: a marker of a transaction without batches, or a batch that was emptied before.
    Discardable,
    /// The marker of an aborted transaction that left batches: its entry belongs into the transaction index.
    Aborts(AbortedTxn),
    /// Another one that is needed.
    Needed,
}

/// The transactions of the log that is being walked.
#[derive(Debug, Default)]
pub struct Transactions {
    /// Those that were aborted and are still ahead, the first one last.
    ahead: Vec<AbortedTxn>,
    aborted: HashMap<ProducerId, Ongoing>,
    /// Producers of which batches that are not aborted were seen since their last marker.
    committed: HashSet<ProducerId>,
}

impl Transactions {
    /// Begins before the first record of all of `aborted`, or amid some of them.
    pub fn new(mut aborted: Vec<AbortedTxn>) -> Self {
        aborted.sort_unstable_by_key(|txn| std::cmp::Reverse(txn.first_offset));
        Self { ahead: aborted, ..Self::default() }
    }

    /// Comes to a batch of records; returns whether they are of an aborted transaction.
    pub fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.come_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some(ongoing) => {
                ongoing.has_batches = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Comes to a control batch with these records, uncompressed.
    pub fn on_control(&mut self, header: &BatchHeader, records: &[u8]) -> Control {
        self.come_to(header.last_offset());
        if header.record_count == 0 {
            return Control::Discardable;
        }
        match read_marker(records) {
            Some(EndTxnMarker { commit: false, .. }) => match self.aborted.remove(&header.producer_id) {
                Some(Ongoing { txn, has_batches: true }) => Control::Aborts(txn),
                _ => Control::Discardable,
            },
            Some(EndTxnMarker { commit: true, .. }) if self.committed.remove(&header.producer_id) => Control::Needed,
            Some(EndTxnMarker { commit: true, .. }) => Control::Discardable,
            None => Control::Needed,
        }
    }

    fn come_to(&mut self, offset: Offset) {
        while let Some(txn) = self.ahead.pop_if(|txn| txn.first_offset <= offset) {
            self.aborted.entry(txn.producer_id).or_insert(Ongoing { txn, has_batches: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::partition_log::tests::{Spec, batch};
    use crate::protocol::batch::HEADER_LEN;

    fn aborted(producer: i64, first: i64, last: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    fn at(offset: i64, producer: i64, marker: Option<bool>) -> (BatchHeader, Vec<u8>) {
        let producer = Some((producer, 0, 0));
        let bytes = batch(&Spec { producer, marker, transactional: true, base_offset: offset, ..Spec::default() });
        (BatchHeader::read(&bytes).expect("a batch"), bytes[HEADER_LEN..].to_vec())
    }

    #[test]
    fn markers_stay_while_their_transaction_has_batches() {
        let mut walk = Transactions::new(vec![aborted(2, 1, 4), aborted(1, 5, 6), aborted(1, 8, 9)]);
        let data = |walk: &mut Transactions, offset, producer| walk.on_batch(&at(offset, producer, None).0);
        let end = |walk: &mut Transactions, offset, producer, commit| {
            let (header, records) = at(offset, producer, Some(commit));
            walk.on_control(&header, &records)
        };
        assert!(!data(&mut walk, 0, 1), "this one is committed");
        assert!(data(&mut walk, 1, 2));
        assert_eq!(end(&mut walk, 2, 1, true), Control::Needed);
        assert_eq!(end(&mut walk, 3, 1, true), Control::Discardable, "nothing of it is left");
        assert_eq!(end(&mut walk, 4, 2, false), Control::Aborts(aborted(2, 1, 4)));
        assert_eq!(end(&mut walk, 6, 1, false), Control::Discardable, "nothing of it is left");
        assert!(data(&mut walk, 8, 1));
        assert_eq!(end(&mut walk, 9, 1, false), Control::Aborts(aborted(1, 8, 9)));
        let emptied = BatchHeader { record_count: 0, ..at(10, 1, Some(true)).0 };
        assert_eq!(walk.on_control(&emptied, &[]), Control::Discardable);
    }
}
