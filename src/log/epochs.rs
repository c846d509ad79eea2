//! Which leader epoch began at which offset (KIP-101, KIP-279; `LeaderEpochFileCache`). Plain data; the log writes it to
//! `leader-epoch-checkpoint` at the latest before the recovery point passes what it describes.
//!
//! Invariant: epochs and start offsets both rise strictly from entry to entry.

use smallvec::SmallVec;

use crate::base::ids::{LeaderEpoch, Offset};

/// A leader epoch and the first offset that was written under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start_offset: Offset,
}

/// The epochs of one log, oldest first.
#[derive(Debug, Default)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
    /// What the checkpoint file holds. A log that was empty at its last stop drops its epoch when it is opened and gets
    /// it again from the same leader: then there is nothing to write, which thousands of logs feel at the next stop.
    written: SmallVec<[EpochEntry; 1]>,
    /// How many times the checkpoint file was written since the log was opened, and how many of these writes are known
    /// to have reached the disk.
    writes: u32,
    synced_writes: u32,
}

impl LeaderEpochs {
    /// Takes over what a checkpoint file holds. Entries that break the invariant give way to later ones.
    pub fn from_entries(entries: Vec<EpochEntry>) -> Self {
        let mut epochs = Self { written: SmallVec::from_slice(&entries), ..Self::default() };
        for entry in entries {
            epochs.assign(entry.epoch, entry.start_offset);
        }
        epochs
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Whether the checkpoint file lags behind.
    pub fn is_dirty(&self) -> bool {
        *self.entries != *self.written
    }

    /// Whether the checkpoint file may not be on the disk as it was last written.
    pub fn is_unsynced(&self) -> bool {
        self.writes != self.synced_writes
    }

    /// Notes that the checkpoint file holds what this holds.
    pub fn mark_written(&mut self) {
        self.written = SmallVec::from_slice(&self.entries);
        self.writes = self.writes.wrapping_add(1);
    }

    /// How many times the checkpoint file was written, for [`LeaderEpochs::mark_synced`].
    pub fn writes(&self) -> u32 {
        self.writes
    }

    /// Notes that the first so many writes of the checkpoint file are on the disk.
    pub fn mark_synced(&mut self, writes: u32) {
        self.synced_writes = writes;
    }

    /// Notes that `epoch` begins at `start_offset`. What a newer leader overwrites goes. Does nothing if the epoch is
    /// already the latest.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if epoch < LeaderEpoch(0) || start_offset < Offset::ZERO {
            return;
        }
        if let Some(last) = self.entries.last()
            && last.epoch == epoch
            && last.start_offset <= start_offset
        {
            return;
        }
        self.entries.retain(|e| e.epoch < epoch && e.start_offset < start_offset);
        self.entries.push(EpochEntry { epoch, start_offset });
    }

    /// Like [`LeaderEpochs::assign`], but only for an epoch above the latest, as recovery sees them.
    pub fn assign_if_newer(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if self.latest().is_none_or(|latest| epoch > latest) {
            self.assign(epoch, start_offset);
        }
    }

    /// A batch of `epoch` was read at `offset`, in a log that is read up to its end. What is known otherwise, of it and of
    /// what follows, is out of date: a truncation may not have been written before a crash.
    pub fn correct(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if epoch >= LeaderEpoch(0) && self.epoch_at(offset) != Some(epoch) {
            self.truncate_from_end(offset);
            self.assign(epoch, offset);
        }
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|e| e.epoch)
    }

    /// The oldest entry.
    pub fn earliest(&self) -> Option<EpochEntry> {
        self.entries.first().copied()
    }

    /// The newest epoch below `epoch`.
    pub fn previous(&self, epoch: LeaderEpoch) -> Option<LeaderEpoch> {
        self.entries.iter().rev().find(|e| e.epoch < epoch).map(|e| e.epoch)
    }

    /// The epoch under which the record at `offset` was written.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.entries.iter().rev().find(|e| e.start_offset <= offset).map(|e| e.epoch)
    }

    /// Where `epoch` ends: the largest known epoch not above it, and the first offset of the epoch that follows (the log
    /// end for the latest). `None` where nothing is known, which the wire answers with -1 (KIP-320).
    pub fn end_offset(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch < LeaderEpoch(0) {
            return None;
        }
        let latest = self.latest()?;
        if epoch == latest {
            return Some((epoch, log_end));
        }
        let following = self.entries.iter().position(|e| e.epoch > epoch)?;
        match following.checked_sub(1) {
            Some(floor) => Some((self.entries[floor].epoch, self.entries[following].start_offset)),
            None => Some((epoch, self.entries[following].start_offset)),
        }
    }

    /// Forgets epochs that begin at or after `end`, after a truncation.
    pub fn truncate_from_end(&mut self, end: Offset) {
        self.entries.retain(|e| e.start_offset < end);
    }

    /// Forgets epochs that end below `start`; the one that covers `start` begins there from now on.
    pub fn truncate_from_start(&mut self, start: Offset) {
        let Some(floor) = self.entries.iter().rposition(|e| e.start_offset <= start) else { return };
        if floor > 0 || self.entries[0].start_offset < start {
            self.entries.drain(..floor);
            self.entries[0].start_offset = start;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for &(epoch, start) in entries {
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    fn plain(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|e| (e.epoch.get(), e.start_offset.get())).collect()
    }

    #[test]
    fn a_newer_leader_overwrites() {
        assert_eq!(plain(&epochs(&[(1, 0), (3, 10), (4, 20)])), [(1, 0), (3, 10), (4, 20)]);
        assert_eq!(plain(&epochs(&[(1, 0), (3, 10), (4, 10)])), [(1, 0), (4, 10)]);
        assert_eq!(plain(&epochs(&[(1, 0), (5, 10), (4, 20)])), [(1, 0), (4, 20)]);
        assert_eq!(plain(&epochs(&[(1, 0), (1, 10)])), [(1, 0)]);
        assert_eq!(plain(&epochs(&[(-1, 0)])), []);
    }

    #[test]
    fn end_offsets_follow_kip_320() {
        let e = epochs(&[(2, 5), (3, 10), (6, 20)]);
        let end = |epoch| e.end_offset(LeaderEpoch(epoch), Offset(30)).map(|(a, b)| (a.get(), b.get()));
        assert_eq!(end(-1), None);
        assert_eq!(end(1), Some((1, 5)));
        assert_eq!(end(2), Some((2, 10)));
        assert_eq!(end(4), Some((3, 20)));
        assert_eq!(end(6), Some((6, 30)));
        assert_eq!(end(7), None);
        assert_eq!(LeaderEpochs::default().end_offset(LeaderEpoch(0), Offset(0)), None);
    }

    #[test]
    fn truncation_keeps_what_covers_the_rest() {
        let mut e = epochs(&[(2, 5), (3, 10), (6, 20)]);
        e.truncate_from_start(Offset(12));
        assert_eq!(plain(&e), [(3, 12), (6, 20)]);
        e.truncate_from_end(Offset(20));
        assert_eq!(plain(&e), [(3, 12)]);
        assert_eq!(e.epoch_at(Offset(15)), Some(LeaderEpoch(3)));
        assert_eq!(e.epoch_at(Offset(11)), None);
        e.truncate_from_start(Offset(5));
        assert_eq!(plain(&e), [(3, 12)]);
    }
}
