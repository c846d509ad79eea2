//! Which producers are about to begin a transaction in a log, while the coordinator is asked whether it knows of it
//! (KIP-890, part 1; `VerificationStateEntry`). Plain data.
//!
//! A guard is given before the question and handed in with the append. Whatever the producer, or the coordinator in its
//! name, writes in between takes the guard's power away: the answer was about a transaction that has ended since.

use std::collections::HashMap;

use crate::base::ids::{ProducerEpoch, ProducerId};

/// Given to one question; no two of a log are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationGuard(u64);

/// What an append of transactional records must have on its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// Nothing: they begin a transaction as they come.
    #[default]
    Off,
    /// A transaction that is open.
    Open,
    /// A transaction that is open, or this guard, if it still counts.
    Guarded(VerificationGuard),
}

/// One producer that is about to begin a transaction.
#[derive(Debug)]
struct Begun {
    guard: VerificationGuard,
    since_ms: i64,
    epoch: ProducerEpoch,
    lowest_sequence: i32,
}

/// The producers that are about to begin a transaction in one log.
#[derive(Debug, Default)]
pub struct Verifications {
    begun: HashMap<ProducerId, Begun>,
    last: u64,
}

impl Verifications {
    /// The guard for a question about `producer`, whose first record there will have `sequence`. Questions about the same
    /// transaction share one.
    pub fn begin(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
        now_ms: i64,
    ) -> VerificationGuard {
        let next = VerificationGuard(self.last + 1);
        let fresh = || Begun { guard: next, since_ms: now_ms, epoch, lowest_sequence: sequence };
        let begun = self.begun.entry(producer).or_insert_with(fresh);
        if begun.guard == next {
            self.last += 1;
        }
        if epoch > begun.epoch {
            (begun.epoch, begun.lowest_sequence) = (epoch, sequence);
        } else if epoch == begun.epoch {
            begun.lowest_sequence = begun.lowest_sequence.min(sequence);
        }
        begun.guard
    }

    /// Whether `guard` was given to a question about `producer` and counts.
    pub fn holds(&self, producer: ProducerId, guard: VerificationGuard) -> bool {
        self.begun.get(&producer).is_some_and(|begun| begun.guard == guard)
    }

    /// The lowest sequence number with which the producer wanted to begin: what is above it came too early.
    pub fn lowest_sequence(&self, producer: ProducerId) -> Option<i32> {
        self.begun.get(&producer).map(|begun| begun.lowest_sequence)
    }

    /// The producer wrote, or its transaction ended: guards given before count no more.
    pub fn end(&mut self, producer: ProducerId) {
        if self.begun.remove(&producer).is_some() && self.begun.is_empty() {
            self.begun = HashMap::new();
        }
    }

    /// Forgets questions that nothing came of for `expiration_ms`.
    pub fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) {
        self.begun.retain(|_, begun| now_ms.saturating_sub(begun.since_ms) < expiration_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ProducerId = ProducerId(1);

    #[test]
    fn a_guard_counts_until_the_producer_writes() {
        let mut verifications = Verifications::default();
        let first = verifications.begin(ONE, ProducerEpoch(0), 0, 10);
        assert_eq!(verifications.begin(ONE, ProducerEpoch(0), 0, 11), first, "the same transaction");
        assert!(verifications.holds(ONE, first) && !verifications.holds(ProducerId(2), first));
        verifications.end(ONE);
        assert!(!verifications.holds(ONE, first));
        let second = verifications.begin(ONE, ProducerEpoch(0), 0, 12);
        assert!(second != first && !verifications.holds(ONE, first), "an old answer says nothing of the next one");
        verifications.remove_expired(21, 10);
        assert!(verifications.holds(ONE, second));
        verifications.remove_expired(22, 10);
        assert!(!verifications.holds(ONE, second));
    }

    #[test]
    fn the_lowest_sequence_is_that_of_the_newest_epoch() {
        let mut verifications = Verifications::default();
        assert_eq!(verifications.lowest_sequence(ONE), None);
        for (epoch, sequence, lowest) in [(1, 5, 5), (1, 7, 5), (1, 3, 3), (0, 1, 3), (2, 9, 9)] {
            verifications.begin(ONE, ProducerEpoch(epoch), sequence, 0);
            assert_eq!(verifications.lowest_sequence(ONE), Some(lowest));
        }
    }
}
