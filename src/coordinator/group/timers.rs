//! Deadlines of all groups on one heap, served by one task. A group has at most one live entry: the earliest moment at
//! which time alone may move it. Later deadlines (a heartbeat came) leave the entry as it is; it finds nothing due and
//! goes back with the new time. An earlier one adds an entry and leaves the former to be passed over.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Weak;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::coordinator::Cell;

struct Due {
    at: i64,
    cell: Weak<Cell>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

/// The heap and the bell that wakes its task.
#[derive(Default)]
pub(super) struct Timers {
    // Short critical sections only: a push or a pop.
    heap: Mutex<BinaryHeap<Due>>,
    earlier: Notify,
}

impl Timers {
    /// Wakes `cell` at `at` (monotonic milliseconds).
    pub(super) fn push(&self, at: i64, cell: Weak<Cell>) {
        let mut heap = self.heap.lock();
        let is_first = heap.peek().is_none_or(|first| at < first.at);
        heap.push(Due { at, cell });
        drop(heap);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// The next entry that is due by `now`.
    pub(super) fn pop_due(&self, now: i64) -> Option<(i64, Weak<Cell>)> {
        let mut heap = self.heap.lock();
        if heap.peek().is_none_or(|first| first.at > now) {
            return None;
        }
        heap.pop().map(|due| (due.at, due.cell))
    }

    /// When the first entry is due.
    pub(super) fn next(&self) -> Option<i64> {
        self.heap.lock().peek().map(|first| first.at)
    }

    /// Rings when an entry comes before all others.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }
}
