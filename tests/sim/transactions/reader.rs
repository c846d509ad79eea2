//! A consumer with `isolation.level=read_committed`: passes over aborted transactions as Kafka's consumers do, by the list in
//! the Fetch answer and by the markers it meets.

use std::collections::BTreeSet;

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::Offset;
use barnabas::protocol::batch::{self, BatchHeader, HEADER_LEN};
use barnabas::protocol::records::records;
use kafka_protocol::messages::fetch_response::PartitionData;
use tokio::time::sleep;

use super::copier::{Number, parse};
use crate::clients::{BACKOFF, Client, METADATA_AGE, Route};

/// `READ_COMMITTED` on the wire.
pub const READ_COMMITTED: i8 = 1;

impl Client {
    /// Reads what is committed from the beginning on, for ever.
    pub async fn read_committed(self) {
        let mut route = Route::default();
        let (mut position, mut in_vain) = (Offset(0), 0);
        loop {
            let Some(known) = self.leader(&mut route).await else { continue };
            let fetched = self.fetch(known, position, READ_COMMITTED).await;
            let Some(partition) = fetched.filter(|p| ErrorCode::from_code(p.error_code) == ErrorCode::None) else {
                route.leader = None;
                sleep(BACKOFF).await;
                continue;
            };
            let next = self.take_committed(partition, position);
            if next == position {
                self.ask_end(known, READ_COMMITTED).await;
                in_vain += 1;
                if in_vain % METADATA_AGE == 0 {
                    route.leader = None;
                }
            }
            position = next;
        }
    }

    /// Hands what is committed to the ledger; where to go on.
    fn take_committed(&self, partition: PartitionData, position: Offset) -> Offset {
        let bytes = partition.records.unwrap_or_default();
        let mut begun: Vec<(i64, i64)> = partition
            .aborted_transactions
            .unwrap_or_default()
            .iter()
            .map(|aborted| (aborted.first_offset, aborted.producer_id.0))
            .collect();
        begun.sort_unstable();
        let (mut begun, mut aborted) = (begun.into_iter().peekable(), BTreeSet::new());
        let mut next = position;
        for (header, entry) in batch::entries(&bytes).filter_map(Result::ok) {
            while let Some((_, producer)) = begun.next_if(|(first, _)| *first <= header.last_offset().get()) {
                aborted.insert(producer);
            }
            if header.next_offset() <= position {
                continue;
            }
            next = header.next_offset();
            if header.is_control() {
                aborted.remove(&header.producer_id.get());
            } else if !header.is_transactional() || !aborted.contains(&header.producer_id.get()) {
                self.deliver(&header, entry);
            }
        }
        next
    }

    fn deliver(&self, header: &BatchHeader, entry: &[u8]) {
        for record in records(&entry[HEADER_LEN..], header.record_count).filter_map(Result::ok) {
            if let Some(number) = record.value.and_then(parse) {
                self.ledger.lock().read_committed(&self.tp, number);
            }
        }
    }
}

impl crate::checker::Ledger {
    /// A reader of what is committed read a number.
    fn read_committed(&mut self, tp: &barnabas::base::ids::TopicPartition, read: Number) {
        let so_far = self.copies.read.entry(tp.clone()).or_default();
        let expected = i64::from(tp.partition) + *so_far * i64::from(super::PARTITIONS);
        *so_far += 1;
        if read.number != expected {
            let (number, transaction) = (read.number, read.transaction);
            self.violations.push(format!("{tp}: {number} of transaction {transaction} is read, not {expected}"));
        }
        if self.copies.told.get(&read.transaction) == Some(&false) {
            self.violations.push(format!("{tp}: {read:?} is read although it was aborted"));
        }
    }
}
