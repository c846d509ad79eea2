//! Where a follower cuts its log when the leader says that the two went different ways: KIP-101, KIP-279, KIP-595. Pure.

use crate::base::ids::{LeaderEpoch, Offset};

/// A place to cut at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// The new log end, at most.
    pub offset: Offset,
    /// Whether the logs agree below it. If not, the leader is asked again with the epoch that then is the last.
    pub completed: bool,
}

/// The follower's log as far as it matters here.
pub trait EpochEnds {
    /// The log end.
    fn log_end(&self) -> Offset;
    /// The largest epoch not above `epoch` and its end.
    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;
}

/// Decides from the leader's answer for the follower's last epoch: the largest epoch of the leader not above it and where
/// that ends in the leader's log, either of them -1 where the leader does not know
/// (`AbstractFetcherThread.getOffsetTruncationState`). `fallback` is where the follower would have fetched.
pub fn truncation(log: &impl EpochEnds, epoch: LeaderEpoch, end: Offset, fallback: Offset) -> Truncation {
    let log_end = log.log_end();
    let at = |offset: Offset, completed| Truncation { offset: offset.min(log_end), completed };
    if end < Offset::ZERO {
        return Truncation { offset: fallback, completed: true };
    }
    if epoch < LeaderEpoch(0) {
        return at(end, true);
    }
    match log.end_offset_for_epoch(epoch) {
        // The leader's epoch is unknown here: all that is newer than the epoch before it goes, and the leader is asked anew.
        Some((ours, our_end)) if ours != epoch => at(our_end, false),
        Some((_, our_end)) => at(our_end.min(end), true),
        None => at(end, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs with their start offsets, and the log end.
    struct Log(&'static [(i32, i64)], i64);

    impl EpochEnds for Log {
        fn log_end(&self) -> Offset {
            Offset(self.1)
        }

        fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
            let mut epochs = crate::log::epochs::LeaderEpochs::default();
            self.0.iter().for_each(|&(epoch, start)| epochs.assign(LeaderEpoch(epoch), Offset(start)));
            epochs.end_offset(epoch, self.log_end())
        }
    }

    fn cut(log: &Log, epoch: i32, end: i64) -> (i64, bool) {
        let t = truncation(log, LeaderEpoch(epoch), Offset(end), Offset(3));
        (t.offset.get(), t.completed)
    }

    #[test]
    fn cuts_follow_the_epochs() {
        let log = Log(&[(1, 0), (3, 10), (5, 20)], 30);
        assert_eq!(cut(&log, 5, 25), (25, true), "the leader has less of the same epoch");
        assert_eq!(cut(&log, 5, 40), (30, true), "never above the own end");
        assert_eq!(cut(&log, 3, 15), (15, true), "an older epoch that ends earlier there");
        assert_eq!(cut(&log, 3, 25), (20, true), "or earlier here");
        assert_eq!(cut(&log, 4, 25), (20, false), "an epoch unknown here: the end of the one before, then ask again");
        assert_eq!(cut(&log, 2, 7), (10, false));
        assert_eq!(cut(&log, 6, 25), (25, true), "an epoch above all here");
        assert_eq!(cut(&log, -1, 25), (25, true), "a leader that tells no epoch");
        assert_eq!(cut(&log, -1, -1), (3, true), "a leader that knows nothing");
        assert_eq!(cut(&Log(&[], 30), 2, 7), (7, true), "no epochs here");
    }
}
