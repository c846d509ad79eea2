//! One transactional id without I/O (`TransactionMetadata`): who its producer is, what state its transaction is in, and
//! which change is on its way into the log.
//!
//! A change is prepared ([`Transition`]), stored by the shell, and takes effect when it is acknowledged; meanwhile every
//! other change is refused with `ConcurrentTransactions`.
//!
//! Invariants: at most one change is pending; a state follows only the states that [`TxnState::may_follow`] lists; the
//! epoch of a producer id never falls; once PrepareCommit or PrepareAbort is stored, nothing but its own completion follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::records::TxnValue;
use crate::base::error::ErrorCode;
use crate::base::ids::{ProducerEpoch, ProducerId, TopicPartition};

/// What a transactional id's transaction is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxnState {
    /// A producer came, and has begun nothing yet.
    Empty,
    /// Partitions take part.
    Ongoing,
    /// It will be committed, whatever happens.
    PrepareCommit,
    /// It will be aborted, whatever happens.
    PrepareAbort,
    /// Every partition has its commit marker.
    CompleteCommit,
    /// Every partition has its abort marker.
    CompleteAbort,
    /// The transactional id has expired.
    Dead,
    /// The producer is being fenced off. Never stored: [`Transaction::fence`] goes to PrepareAbort in the same step.
    PrepareEpochFence,
}

use TxnState::{CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit, PrepareEpochFence};

/// By their numbers in the log.
const STATES: [(TxnState, &str); 8] = [
    (Empty, "Empty"),
    (Ongoing, "Ongoing"),
    (PrepareCommit, "PrepareCommit"),
    (PrepareAbort, "PrepareAbort"),
    (CompleteCommit, "CompleteCommit"),
    (CompleteAbort, "CompleteAbort"),
    (Dead, "Dead"),
    (PrepareEpochFence, "PrepareEpochFence"),
];

impl TxnState {
    /// Its number in the log.
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// The state of a number in the log.
    pub fn from_id(id: i8) -> Option<Self> {
        Some(STATES.get(usize::try_from(id).ok()?)?.0)
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        STATES[self as usize].1
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        STATES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }

    /// Whether an id may expire in this state.
    pub const fn may_expire(self) -> bool {
        matches!(self, Empty | CompleteCommit | CompleteAbort)
    }

    /// Whether a transaction has ended.
    pub const fn is_complete(self) -> bool {
        matches!(self, CompleteCommit | CompleteAbort)
    }

    /// Whether this state may come after `before`.
    pub const fn may_follow(self, before: Self) -> bool {
        match self {
            Empty | Dead => before.may_expire(),
            Ongoing => before.may_expire() || matches!(before, Ongoing),
            PrepareCommit | PrepareEpochFence => matches!(before, Ongoing),
            PrepareAbort => matches!(before, Ongoing | PrepareEpochFence),
            CompleteCommit => matches!(before, PrepareCommit),
            CompleteAbort => matches!(before, PrepareAbort),
        }
    }

    /// What comes when every marker is written.
    const fn completed(self) -> Option<Self> {
        match self {
            PrepareCommit => Some(CompleteCommit),
            PrepareAbort => Some(CompleteAbort),
            _ => None,
        }
    }
}

/// A producer and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// Epoch `epoch` of producer `id`.
    pub const fn new(id: i64, epoch: i16) -> Self {
        Self { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
    }
}

/// A change on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What is stored, and is then so.
    pub value: TxnValue,
    /// The producer id before, and the epoch that a retry may name (KIP-360). Kept in memory only, as Kafka does while
    /// values are of version 0.
    last: Producer,
    /// Whether it fences a producer off.
    is_fence: bool,
}

/// What follows from an InitProducerId.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// A producer id that nobody had is needed; ask again with it.
    NeedsProducerId,
    /// Store this, then give the producer out.
    Store(Transition),
    /// The transaction under way is aborted first: store this, and let the client ask again.
    Abort(Transition),
}

/// What follows from an EndTxn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It has ended so already.
    Done,
    /// Store this, then say so.
    Store(Transition),
}

/// One transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    id: Arc<str>,
    value: TxnValue,
    last: Producer,
    pending: Option<TxnState>,
    /// Whether a raised epoch may stand in the log although its append failed: it is not raised again, as no client has it.
    has_failed_fence: bool,
}

/// One below the largest: the coordinator must always be able to raise the epoch once more, to fence the producer off.
const fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch.0 >= i16::MAX - 1
}

const NOBODY: Producer = Producer { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };

impl Transaction {
    /// An id that nobody has used yet.
    pub fn new(id: Arc<str>, now_ms: i64) -> Self {
        let value = TxnValue {
            producer: NOBODY,
            timeout_ms: 0,
            state: Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            last_update_ms: now_ms,
        };
        Self { id, value, last: NOBODY, pending: None, has_failed_fence: false }
    }

    /// The id as its record has it.
    pub fn from_record(id: Arc<str>, value: TxnValue) -> Self {
        Self { id, value, last: NOBODY, pending: None, has_failed_fence: false }
    }

    /// The transactional id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// What is known to be stored.
    pub fn value(&self) -> &TxnValue {
        &self.value
    }

    /// What it is at.
    pub fn state(&self) -> TxnState {
        self.value.state
    }

    /// The state that is on its way into the log, or that waits for markers.
    pub fn pending(&self) -> Option<TxnState> {
        self.pending
    }

    /// A producer comes, or comes again: with `expected` it says who it was (KIP-360). `fresh` is a producer id that nobody
    /// had, if one was needed the last time.
    ///
    /// # Errors
    /// `ConcurrentTransactions` asks it to come again, `ProducerFenced` tells it that another has come since.
    pub fn init(
        &mut self,
        expected: Option<Producer>,
        timeout_ms: i32,
        fresh: Option<ProducerId>,
        now_ms: i64,
    ) -> Result<Init, ErrorCode> {
        if self.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if expected.is_some_and(|expected| !self.knows(expected)) {
            return Err(ErrorCode::ProducerFenced);
        }
        match self.value.state {
            // The epoch raised here is never given out: the client asks again, and it is raised once more.
            Ongoing => Ok(Init::Abort(self.fence(now_ms))),
            Empty | CompleteCommit | CompleteAbort => self.next_producer(expected, timeout_ms, fresh, now_ms),
            PrepareCommit | PrepareAbort | PrepareEpochFence | Dead => Err(ErrorCode::ConcurrentTransactions),
        }
    }

    /// Whether `expected` may be this id's producer: the current one, or one that has not heard yet that its id was
    /// replaced when its epochs were used up. An id without an epoch is new and takes anyone.
    fn knows(&self, expected: Producer) -> bool {
        self.value.producer.epoch == ProducerEpoch::NONE
            || expected.id == self.value.producer.id
            || (expected.id == self.last.id && is_exhausted(expected.epoch))
    }

    fn next_producer(
        &mut self,
        expected: Option<Producer>,
        timeout_ms: i32,
        fresh: Option<ProducerId>,
        now_ms: i64,
    ) -> Result<Init, ErrorCode> {
        if self.value.producer.id == ProducerId::NONE {
            let Some(id) = fresh else { return Ok(Init::NeedsProducerId) };
            // It is this id's from now on, even if the change cannot be stored.
            self.value.producer.id = id;
        }
        let current = self.value.producer;
        let is_used_up = is_exhausted(current.epoch) && expected.is_none_or(|e| e.epoch == current.epoch);
        let (next, last_epoch) = if is_used_up {
            let Some(id) = fresh else { return Ok(Init::NeedsProducerId) };
            let last_epoch = if expected.is_some() { current.epoch } else { ProducerEpoch::NONE };
            (Producer { id, epoch: ProducerEpoch(0) }, last_epoch)
        } else {
            let (epoch, last_epoch) = self.next_epoch(expected)?;
            (Producer { id: current.id, epoch }, last_epoch)
        };
        let last = Producer { id: current.id, epoch: last_epoch };
        let value = TxnValue {
            producer: next,
            timeout_ms,
            state: Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            last_update_ms: now_ms,
        };
        Ok(Init::Store(self.prepare(value, last)))
    }

    /// The epoch to give out, and the one that a retry of the same request would name.
    fn next_epoch(&self, expected: Option<Producer>) -> Result<(ProducerEpoch, ProducerEpoch), ErrorCode> {
        let current = self.value.producer.epoch;
        match expected {
            None => Ok((current.next(), ProducerEpoch::NONE)),
            Some(e) if current == ProducerEpoch::NONE || e.epoch == current => Ok((current.next(), current)),
            // It did not hear the answer. Had another come since, the last epoch would not be known any more.
            Some(e) if e.epoch == self.last.epoch => Ok((current, self.last.epoch)),
            Some(_) => Err(ErrorCode::ProducerFenced),
        }
    }

    /// Partitions take part from now on. `None` if they do already.
    ///
    /// # Errors
    /// Why the producer may not.
    pub fn add_partitions(
        &mut self,
        producer: Producer,
        partitions: &BTreeSet<TopicPartition>,
        now_ms: i64,
    ) -> Result<Option<Transition>, ErrorCode> {
        self.check(producer)?;
        let begins = match (self.pending, self.value.state) {
            (None, Ongoing) => false,
            (None, Empty | CompleteCommit | CompleteAbort) => true,
            _ => return Err(ErrorCode::ConcurrentTransactions),
        };
        if !begins && partitions.is_subset(&self.value.partitions) {
            return Ok(None);
        }
        let mut value = self.value.clone();
        value.partitions.extend(partitions.iter().cloned());
        value.state = Ongoing;
        value.last_update_ms = now_ms;
        if begins {
            value.start_ms = now_ms;
        }
        Ok(Some(self.prepare(value, self.last)))
    }

    /// Whether the partitions take part in what the producer has under way (KIP-890), one answer for each. A change that
    /// is pending does not matter: the append that is being verified is checked once more.
    ///
    /// # Errors
    /// Why the producer has nothing under way.
    pub fn verify<'a>(
        &self,
        producer: Producer,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<bool>, ErrorCode> {
        self.check(producer)?;
        if matches!(self.value.state, PrepareCommit | PrepareAbort) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(partitions.into_iter().map(|partition| self.value.partitions.contains(partition)).collect())
    }

    /// The producer commits or aborts.
    ///
    /// # Errors
    /// Why it may not.
    pub fn end(&mut self, producer: Producer, commit: bool, now_ms: i64) -> Result<End, ErrorCode> {
        self.check(producer)?;
        if self.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        match (self.value.state, commit) {
            (Ongoing, _) => {
                let state = if commit { PrepareCommit } else { PrepareAbort };
                let value = TxnValue { state, last_update_ms: now_ms, ..self.value.clone() };
                Ok(End::Store(self.prepare(value, self.last)))
            }
            (CompleteCommit, true) | (CompleteAbort, false) => Ok(End::Done),
            (PrepareCommit, true) | (PrepareAbort, false) | (Dead | PrepareEpochFence, _) => {
                Err(ErrorCode::ConcurrentTransactions)
            }
            (Empty | PrepareCommit | PrepareAbort | CompleteCommit | CompleteAbort, _) => {
                Err(ErrorCode::InvalidTxnState)
            }
        }
    }

    fn check(&self, producer: Producer) -> Result<(), ErrorCode> {
        if self.value.producer.id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if self.value.producer.epoch != producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(())
    }

    /// Whether a transaction has been under way for longer than its producer allowed.
    pub fn is_timed_out(&self, now_ms: i64) -> bool {
        self.value.state == Ongoing
            && self.pending.is_none()
            && self.value.start_ms.saturating_add(i64::from(self.value.timeout_ms)) < now_ms
    }

    /// Fences the producer off and aborts what it has under way. The raised epoch holds at once, so that the producer can
    /// do nothing more even if the change cannot be stored. Only for Ongoing with nothing pending.
    pub fn fence(&mut self, now_ms: i64) -> Transition {
        let epoch = &mut self.value.producer.epoch;
        if !self.has_failed_fence && epoch.0 < i16::MAX {
            *epoch = epoch.next();
        }
        self.last.epoch = ProducerEpoch::NONE;
        let value = TxnValue { state: PrepareAbort, last_update_ms: now_ms, ..self.value.clone() };
        Transition { is_fence: true, ..self.prepare(value, self.last) }
    }

    fn prepare(&mut self, value: TxnValue, last: Producer) -> Transition {
        debug_assert!(self.pending.is_none(), "{} has a change pending", self.id);
        debug_assert!(value.state.may_follow(self.value.state), "{:?} after {:?}", value.state, self.value.state);
        self.pending = Some(value.state);
        Transition { value, last, is_fence: false }
    }

    /// A change is stored, and is so from now on. Says whether markers are to be sent to [`TxnValue::partitions`];
    /// [`Self::acknowledge`] is told of each.
    pub fn on_stored(&mut self, transition: Transition) -> bool {
        self.pending = None;
        self.value = transition.value;
        self.last = transition.last;
        self.begin_completion()
    }

    /// The id was loaded. Says as [`Self::on_stored`] whether markers are to be sent. A request may have come first.
    pub fn on_loaded(&mut self) -> bool {
        self.pending.is_none() && self.begin_completion()
    }

    fn begin_completion(&mut self) -> bool {
        let completed = self.value.state.completed();
        self.pending = completed;
        completed.is_some()
    }

    /// A change could not be stored, as far as is known: it may stand in the log all the same, until another follows it.
    pub fn on_store_failed(&mut self, transition: &Transition) {
        self.pending = None;
        self.has_failed_fence |= transition.is_fence;
    }

    /// These partitions need no marker any more. Gives what is to be stored once none does.
    pub fn acknowledge<'a>(
        &mut self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        now_ms: i64,
    ) -> Option<Transition> {
        self.value.state.completed()?;
        let had_some = !self.value.partitions.is_empty();
        for partition in partitions {
            self.value.partitions.remove(partition);
        }
        if had_some { self.completion(now_ms) } else { None }
    }

    /// What is to be stored if no partition needs a marker. To be asked once, when markers are to be sent.
    pub fn completion(&mut self, now_ms: i64) -> Option<Transition> {
        let state = self.value.state.completed()?;
        if !self.value.partitions.is_empty() {
            return None;
        }
        self.has_failed_fence = false;
        let value = TxnValue { state, last_update_ms: now_ms, ..self.value.clone() };
        Some(Transition { value, last: self.last, is_fence: false })
    }

    /// Whether the id has expired; then its tombstone is to be stored, and [`Self::on_buried`] told of it.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> bool {
        let is_due = self.pending.is_none()
            && self.value.state.may_expire()
            && self.value.last_update_ms <= now_ms.saturating_sub(expiration_ms);
        if is_due {
            self.pending = Some(Dead);
        }
        is_due
    }

    /// The tombstone is stored, or could not be. Says whether the id is gone.
    pub fn on_buried(&mut self, is_stored: bool) -> bool {
        if self.pending == Some(Dead) {
            self.pending = None;
            if is_stored {
                self.value.state = Dead;
            }
        }
        self.value.state == Dead
    }
}

#[cfg(test)]
mod tests;
