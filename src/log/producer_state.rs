//! What the log knows of idempotent and transactional producers (KIP-98, KIP-360; `ProducerStateManager` and
//! `ProducerAppendInfo`). Plain data and decisions; the log reads and writes the snapshot files.
//!
//! Invariants: a producer's epoch never falls by a client's append; at most the last five batches are remembered; a
//! transaction is open from its first batch to its marker.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use crate::base::error::ErrorCode;
use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::log::error::LogError;
use crate::log::verification::{Verification, VerificationGuard, Verifications};
use crate::protocol::batch::{BatchHeader, increment_sequence};
use crate::protocol::records::Record;

/// How many batches are remembered to answer duplicates.
const REMEMBERED: usize = 5;
/// No coordinator epoch known.
pub const NO_COORDINATOR_EPOCH: i32 = -1;

/// Who appends, which decides how strict the checks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer.
    Client,
    /// A coordinator of this broker: groups, transactions, markers.
    Coordinator,
    /// The leader's log, or this log itself during recovery: everything was checked before.
    Replication,
}

/// A batch that a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Last offset less first offset.
    pub offset_delta: i32,
    /// Its largest timestamp.
    pub timestamp: i64,
}

impl BatchMetadata {
    /// The sequence number of its first record.
    pub fn first_sequence(&self) -> i32 {
        if self.last_sequence < self.offset_delta {
            // Sequence numbers wrapped from the largest i32 to 0 within the batch.
            i32::MAX - (self.offset_delta - self.last_sequence) + 1
        } else {
            self.last_sequence - self.offset_delta
        }
    }

    /// The offset of its first record.
    pub fn first_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its epoch; [`ProducerEpoch::NONE`] if it never wrote here.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that wrote its last marker, or [`NO_COORDINATOR_EPOCH`].
    pub coordinator_epoch: i32,
    /// When it last wrote, by its batches' timestamps.
    pub last_timestamp: i64,
    /// The first offset of its open transaction.
    pub current_txn_first_offset: Option<Offset>,
    /// Its last batches of the current epoch, oldest first; at most five.
    pub batches: SmallVec<[BatchMetadata; 1]>,
}

impl ProducerEntry {
    fn unknown() -> Self {
        Self {
            epoch: ProducerEpoch::NONE,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            last_timestamp: -1,
            current_txn_first_offset: None,
            batches: SmallVec::new(),
        }
    }

    /// The last sequence number of the current epoch, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }

    fn advance_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }

    fn add_batch(&mut self, batch: BatchMetadata) {
        if self.batches.len() == REMEMBERED {
            self.batches.remove(0);
        }
        self.batches.push(batch);
        self.last_timestamp = batch.timestamp;
    }

    fn duplicate_of(&self, header: &BatchHeader) -> Option<BatchMetadata> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let same = |b: &&BatchMetadata| {
            b.first_sequence() == header.base_sequence && b.last_sequence == header.last_sequence()
        };
        self.batches.iter().find(same).copied()
    }
}

/// A transaction that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedTxn {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// Whether it was aborted.
    pub aborted: bool,
}

/// A transaction marker, as a control batch carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Whether the transaction was committed.
    pub commit: bool,
    /// The epoch of the coordinator that wrote it.
    pub coordinator_epoch: i32,
}

/// Reads the marker off the records of a control batch; `None` if there is no record (compaction took it) or it is a
/// control record of another type.
pub fn read_marker(records: &[u8]) -> Option<EndTxnMarker> {
    let record = Record::read(records, &mut 0).ok()?;
    let (key, value) = (record.key?, record.value?);
    let kind = i16::from_be_bytes([*key.get(2)?, *key.get(3)?]);
    let coordinator_epoch = i32::from_be_bytes(value.get(2..6)?.try_into().ok()?);
    match kind {
        0 | 1 => Some(EndTxnMarker { commit: kind == 1, coordinator_epoch }),
        _ => None,
    }
}

/// What an append changes, decided before anything is written.
#[derive(Debug, Default)]
pub struct Analysis {
    /// The batch was written before, as this.
    pub duplicate: Option<BatchMetadata>,
    /// The producers as they are after the append.
    pub updates: SmallVec<[(ProducerId, ProducerEntry); 1]>,
    /// Transactions that begin: first offset and producer.
    pub started: SmallVec<[(Offset, ProducerId); 1]>,
    /// Transactions that end.
    pub completed: SmallVec<[CompletedTxn; 1]>,
    /// Producers that wrote into a transaction, or whose transaction ends: what was asked about them before is settled.
    settled: SmallVec<[ProducerId; 1]>,
}

/// By which rules an append is checked.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Who appends.
    pub origin: Origin,
    /// What transactional records must have on their side.
    pub verification: Verification,
}

impl From<Origin> for Rules {
    fn from(origin: Origin) -> Self {
        Self { origin, verification: Verification::Off }
    }
}

/// The producers of one log.
#[derive(Debug, Default)]
pub struct ProducerStates {
    producers: HashMap<ProducerId, ProducerEntry>,
    verifications: Verifications,
}

impl ProducerStates {
    /// The producers by id.
    pub fn producers(&self) -> &HashMap<ProducerId, ProducerEntry> {
        &self.producers
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Puts a producer in place, as a snapshot has it.
    pub fn insert(&mut self, id: ProducerId, entry: ProducerEntry) {
        self.producers.insert(id, entry);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the producer has a transaction open in that epoch.
    pub fn has_open_transaction(&self, producer: ProducerId, epoch: ProducerEpoch) -> bool {
        let entry = self.producers.get(&producer).filter(|entry| entry.epoch == epoch);
        entry.is_some_and(|entry| entry.current_txn_first_offset.is_some())
    }

    /// The guard under which the coordinator is to be asked whether the producer may begin a transaction here; `None` if
    /// one is open, so that there is nothing to ask.
    pub fn begin_verification(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
        now_ms: i64,
    ) -> Option<VerificationGuard> {
        let is_open = self.has_open_transaction(producer, epoch);
        (!is_open).then(|| self.verifications.begin(producer, epoch, sequence, now_ms))
    }

    /// Refuses what would begin a transaction that nobody has vouched for.
    fn check_verified(&self, header: &BatchHeader, verification: Verification) -> Result<(), LogError> {
        let vouched_for = match verification {
            Verification::Off => true,
            Verification::Open => false,
            Verification::Guarded(guard) => self.verifications.holds(header.producer_id, guard),
        };
        if vouched_for || self.has_open_transaction(header.producer_id, header.producer_epoch) {
            return Ok(());
        }
        Err(LogError::refused(
            ErrorCode::InvalidTxnState,
            format!("the records of producer {} belong to no transaction that is open", header.producer_id),
        ))
    }

    /// Forgets producers without an open transaction that have not written for `expiration_ms`.
    pub fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, entry| {
            entry.current_txn_first_offset.is_some() || now_ms.saturating_sub(entry.last_timestamp) < expiration_ms
        });
        if self.producers.is_empty() {
            self.producers = HashMap::new();
        }
        self.verifications.remove_expired(now_ms, expiration_ms);
    }

    /// Checks one batch that would be written at its base offset and notes in `analysis` what it changes. `records` is
    /// what follows the header (looked at in control batches only).
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `OutOfOrderSequenceNumber`, `InvalidTxnState`, `TransactionCoordinatorFenced`.
    pub fn analyze(
        &self,
        header: &BatchHeader,
        records: &[u8],
        rules: impl Into<Rules>,
        analysis: &mut Analysis,
    ) -> Result<(), LogError> {
        if !header.has_producer_id() {
            return Ok(());
        }
        let Rules { origin, verification } = rules.into();
        let known = self.producers.get(&header.producer_id);
        if origin == Origin::Client
            && let Some(duplicate) = known.and_then(|entry| entry.duplicate_of(header))
        {
            analysis.duplicate = Some(duplicate);
            return Ok(());
        }
        if header.is_transactional() {
            if !header.is_control() && origin != Origin::Replication {
                self.check_verified(header, verification)?;
            }
            analysis.settled.push(header.producer_id);
        }
        let at = match analysis.updates.iter().position(|(id, _)| *id == header.producer_id) {
            Some(at) => at,
            None => {
                analysis.updates.push((header.producer_id, known.cloned().unwrap_or_else(ProducerEntry::unknown)));
                analysis.updates.len() - 1
            }
        };
        let mut entry = analysis.updates[at].1.clone();
        if header.is_control() {
            if let Some(marker) = read_marker(records) {
                analysis.completed.extend(end_transaction(&mut entry, header, marker, origin)?);
            }
        } else {
            check_epoch(&entry, header, origin)?;
            if origin == Origin::Client {
                self.check_lowest_sequence(header)?;
                check_sequence(&entry, known, header)?;
            }
            analysis.started.extend(append_data(&mut entry, header)?);
        }
        analysis.updates[at].1 = entry;
        Ok(())
    }

    /// Refuses what comes before the first records of a transaction that is about to begin: those are still on their way.
    fn check_lowest_sequence(&self, header: &BatchHeader) -> Result<(), LogError> {
        match self.verifications.lowest_sequence(header.producer_id) {
            Some(lowest) if header.base_sequence > lowest => Err(LogError::refused(
                ErrorCode::OutOfOrderSequenceNumber,
                format!(
                    "producer {} sends sequence {} before {lowest}, with which its transaction begins",
                    header.producer_id, header.base_sequence
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Takes over the producers of an append that was written.
    pub fn apply(&mut self, analysis: &mut Analysis) {
        analysis.settled.drain(..).for_each(|id| self.verifications.end(id));
        for (id, entry) in analysis.updates.drain(..) {
            self.producers.insert(id, entry);
        }
    }
}

fn check_epoch(entry: &ProducerEntry, header: &BatchHeader, origin: Origin) -> Result<(), LogError> {
    if header.producer_epoch >= entry.epoch || origin == Origin::Replication {
        return Ok(());
    }
    Err(LogError::refused(
        ErrorCode::InvalidProducerEpoch,
        format!(
            "producer {} writes with epoch {}, but its epoch is {} by now",
            header.producer_id, header.producer_epoch, entry.epoch
        ),
    ))
}

fn check_sequence(entry: &ProducerEntry, known: Option<&ProducerEntry>, header: &BatchHeader) -> Result<(), LogError> {
    let out_of_order = |message: String| Err(LogError::refused(ErrorCode::OutOfOrderSequenceNumber, message));
    if header.producer_epoch != entry.epoch {
        // A producer that is not known here may begin anywhere: its earlier records may have been deleted (KIP-360).
        if header.base_sequence != 0 && entry.epoch != ProducerEpoch::NONE {
            return out_of_order(format!(
                "producer {} begins epoch {} with sequence {} instead of 0",
                header.producer_id, header.producer_epoch, header.base_sequence
            ));
        }
        return Ok(());
    }
    let last = match known {
        _ if !entry.batches.is_empty() => entry.last_sequence(),
        Some(known) if known.epoch == header.producer_epoch => known.last_sequence(),
        _ => -1,
    };
    let nothing_known = known.is_none_or(|known| known.epoch == ProducerEpoch::NONE);
    if !nothing_known && header.base_sequence != increment_sequence(last, 1) {
        return out_of_order(format!(
            "producer {} sends sequence {} after {last}",
            header.producer_id, header.base_sequence
        ));
    }
    Ok(())
}

fn append_data(entry: &mut ProducerEntry, header: &BatchHeader) -> Result<Option<(Offset, ProducerId)>, LogError> {
    entry.advance_epoch(header.producer_epoch);
    entry.add_batch(BatchMetadata {
        last_sequence: header.last_sequence(),
        last_offset: header.last_offset(),
        offset_delta: header.last_offset_delta,
        timestamp: header.max_timestamp,
    });
    match entry.current_txn_first_offset {
        Some(_) if !header.is_transactional() => Err(LogError::refused(
            ErrorCode::InvalidTxnState,
            format!("producer {} writes outside its open transaction", header.producer_id),
        )),
        None if header.is_transactional() => {
            entry.current_txn_first_offset = Some(header.base_offset);
            Ok(Some((header.base_offset, header.producer_id)))
        }
        _ => Ok(None),
    }
}

fn end_transaction(
    entry: &mut ProducerEntry,
    header: &BatchHeader,
    marker: EndTxnMarker,
    origin: Origin,
) -> Result<Option<CompletedTxn>, LogError> {
    check_epoch(entry, header, origin)?;
    if entry.coordinator_epoch > marker.coordinator_epoch && origin != Origin::Replication {
        return Err(LogError::refused(
            ErrorCode::TransactionCoordinatorFenced,
            format!(
                "a coordinator of epoch {} ends a transaction of producer {}, but epoch {} is known",
                marker.coordinator_epoch, header.producer_id, entry.coordinator_epoch
            ),
        ));
    }
    entry.advance_epoch(header.producer_epoch);
    entry.coordinator_epoch = marker.coordinator_epoch;
    entry.last_timestamp = header.max_timestamp;
    let first = entry.current_txn_first_offset.take();
    Ok(first.map(|first_offset| CompletedTxn {
        producer_id: header.producer_id,
        first_offset,
        last_offset: header.base_offset,
        aborted: !marker.commit,
    }))
}

/// The transactions that hold back the last stable offset: those that are open, and those whose marker is not yet below
/// the high watermark.
#[derive(Debug, Default)]
pub struct OpenTransactions {
    ongoing: BTreeMap<Offset, ProducerId>,
    unreplicated: BTreeMap<Offset, Offset>,
}

impl OpenTransactions {
    /// The first offset that is not yet decided for readers of committed records.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let ongoing = self.ongoing.keys().next();
        let unreplicated = self.unreplicated.keys().next();
        ongoing.into_iter().chain(unreplicated).min().copied()
    }

    /// A transaction begins.
    pub fn start(&mut self, first_offset: Offset, producer: ProducerId) {
        self.ongoing.insert(first_offset, producer);
    }

    /// What the last stable offset will be once `txn` is complete and replicated; the txn index records it.
    pub fn last_stable_offset(&self, txn: &CompletedTxn) -> Offset {
        let other = self.ongoing.iter().find(|(_, producer)| **producer != txn.producer_id);
        other.map_or(txn.last_offset.next(), |(first, _)| *first)
    }

    /// A transaction ends; it goes on holding back readers until the high watermark passes its marker.
    pub fn complete(&mut self, txn: &CompletedTxn) {
        if self.ongoing.remove(&txn.first_offset).is_some() {
            self.unreplicated.insert(txn.first_offset, txn.last_offset);
        }
    }

    /// Takes over those of `before` that ended below `offset`: a snapshot does not tell of them.
    pub fn take_unreplicated(&mut self, before: Self, offset: Offset) {
        self.unreplicated.extend(before.unreplicated.into_iter().filter(|(_, last)| *last < offset));
    }

    /// Forgets ended transactions whose marker lies below `offset`: the high watermark, or the log start.
    pub fn remove_replicated(&mut self, offset: Offset) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, last| *last >= offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::LeaderEpoch;

    fn header(epoch: i16, sequence: i32, base: i64, records: i32, transactional: bool) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(base),
            size: 100,
            leader_epoch: LeaderEpoch(0),
            magic: 2,
            crc: 0,
            attributes: if transactional { 0x10 } else { 0 },
            last_offset_delta: records - 1,
            base_timestamp: 1,
            max_timestamp: 1,
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: sequence,
            record_count: records,
        }
    }

    fn append(states: &mut ProducerStates, header: &BatchHeader) -> Result<Option<BatchMetadata>, ErrorCode> {
        let mut analysis = Analysis::default();
        states.analyze(header, &[], Origin::Client, &mut analysis).map_err(|e| e.code())?;
        states.apply(&mut analysis);
        Ok(analysis.duplicate)
    }

    #[test]
    fn sequences_must_follow_each_other() {
        let mut states = ProducerStates::default();
        assert_eq!(append(&mut states, &header(0, 5, 0, 2, false)), Ok(None), "an unknown producer begins anywhere");
        assert_eq!(append(&mut states, &header(0, 7, 2, 1, false)), Ok(None));
        let gap = append(&mut states, &header(0, 9, 3, 1, false));
        assert_eq!(gap, Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(append(&mut states, &header(1, 3, 3, 1, false)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(append(&mut states, &header(1, 0, 3, 1, false)), Ok(None));
        assert_eq!(append(&mut states, &header(0, 8, 4, 1, false)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn the_last_five_batches_are_known_as_duplicates() {
        let mut states = ProducerStates::default();
        for n in 0..6 {
            assert_eq!(append(&mut states, &header(0, n * 2, i64::from(n) * 2, 2, false)), Ok(None));
        }
        let found = append(&mut states, &header(0, 2, 100, 2, false)).unwrap().unwrap();
        assert_eq!((found.first_offset(), found.last_offset), (Offset(2), Offset(3)));
        assert_eq!(append(&mut states, &header(0, 0, 100, 2, false)), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn sequences_wrap() {
        let mut states = ProducerStates::default();
        append(&mut states, &header(0, i32::MAX - 1, 0, 4, false)).unwrap();
        assert_eq!(states.producers()[&ProducerId(7)].last_sequence(), 1);
        let found = append(&mut states, &header(0, i32::MAX - 1, 9, 4, false)).unwrap().unwrap();
        assert_eq!(found.first_sequence(), i32::MAX - 1);
        assert_eq!(append(&mut states, &header(0, 2, 4, 1, false)), Ok(None));
    }

    #[test]
    fn transactions_hold_back_the_stable_offset() {
        let mut states = ProducerStates::default();
        let mut open = OpenTransactions::default();
        let mut analysis = Analysis::default();
        states.analyze(&header(0, 0, 10, 1, true), &[], Origin::Client, &mut analysis).unwrap();
        states.apply(&mut analysis);
        for (offset, producer) in analysis.started {
            open.start(offset, producer);
        }
        assert_eq!(open.first_unstable_offset(), Some(Offset(10)));
        assert_eq!(append(&mut states, &header(0, 1, 11, 1, false)), Err(ErrorCode::InvalidTxnState));
        let mut entry = states.producers()[&ProducerId(7)].clone();
        let marker = EndTxnMarker { commit: false, coordinator_epoch: 3 };
        let txn = end_transaction(&mut entry, &header(0, -1, 11, 1, true), marker, Origin::Coordinator).unwrap();
        let txn = txn.unwrap();
        assert!(txn.aborted);
        open.start(Offset(20), ProducerId(8));
        assert_eq!(open.last_stable_offset(&txn), Offset(20));
        open.complete(&txn);
        assert_eq!(open.first_unstable_offset(), Some(Offset(10)));
        open.remove_replicated(Offset(12));
        assert_eq!(open.first_unstable_offset(), Some(Offset(20)));
        let old = EndTxnMarker { commit: true, coordinator_epoch: 2 };
        let fenced = end_transaction(&mut entry, &header(0, -1, 12, 1, true), old, Origin::Coordinator);
        assert_eq!(fenced.unwrap_err().code(), ErrorCode::TransactionCoordinatorFenced);
    }

    #[test]
    fn a_transaction_begins_only_where_somebody_vouches_for_it() {
        let mut states = ProducerStates::default();
        let write = |states: &mut ProducerStates, sequence, verification| {
            let (mut analysis, rules) = (Analysis::default(), Rules { origin: Origin::Client, verification });
            let header = header(0, sequence, i64::from(sequence), 1, true);
            states.analyze(&header, &[], rules, &mut analysis).map_err(|error| error.code())?;
            states.apply(&mut analysis);
            Ok(())
        };
        let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
        assert_eq!(write(&mut states, 0, Verification::Open), Err(ErrorCode::InvalidTxnState));
        let guard = states.begin_verification(id, epoch, 0, 1).expect("no transaction is open");
        assert_eq!(write(&mut states, 1, Verification::Guarded(guard)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(write(&mut states, 0, Verification::Guarded(guard)), Ok(()));
        assert_eq!(states.begin_verification(id, epoch, 1, 2), None, "it is open now");
        assert_eq!(write(&mut states, 1, Verification::Open), Ok(()));
        assert!(states.begin_verification(id, ProducerEpoch(1), 0, 2).is_some(), "but not in another epoch");

        let key = |commit| [vec![0, 0, 0, commit], vec![0, 0, 0, 0, 0, 3]];
        let mut marker = Vec::new();
        let [key, value] = key(1);
        let record = crate::protocol::records::Record {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta: 0,
            key: Some(&key),
            value: Some(&value),
            headers: crate::protocol::records::Headers::default(),
        };
        record.write(&mut marker);
        let (mut analysis, mut end) = (Analysis::default(), header(0, -1, 2, 1, true));
        end.attributes |= 0x20;
        states.analyze(&end, &marker, Origin::Coordinator, &mut analysis).unwrap();
        states.apply(&mut analysis);
        assert_eq!(write(&mut states, 2, Verification::Guarded(guard)), Err(ErrorCode::InvalidTxnState));
        let before_marker = states.begin_verification(id, epoch, 2, 3).expect("it has ended");
        let (mut analysis, mut end) = (Analysis::default(), header(0, -1, 3, 1, true));
        end.attributes |= 0x20;
        states.analyze(&end, &marker, Origin::Coordinator, &mut analysis).unwrap();
        states.apply(&mut analysis);
        let late = write(&mut states, 2, Verification::Guarded(before_marker));
        assert_eq!(late, Err(ErrorCode::InvalidTxnState), "a marker came between question and append");
    }

    #[test]
    fn silent_producers_expire_unless_a_transaction_is_open() {
        let mut states = ProducerStates::default();
        append(&mut states, &header(0, 0, 0, 1, false)).unwrap();
        states.remove_expired(100, 100);
        assert!(!states.is_empty());
        states.remove_expired(101, 100);
        assert!(states.is_empty());
        append(&mut states, &header(0, 0, 0, 1, true)).unwrap();
        states.remove_expired(1000, 100);
        assert!(!states.is_empty());
    }
}
