//! How much was moved in the last seconds, and whether that is more than allowed (`SimpleRate`, `ReplicationQuotaManager`).
//! Pure: whoever counts passes the time in.

use std::collections::VecDeque;

/// Amounts by windows of time.
#[derive(Debug, Clone)]
pub struct WindowedRate {
    window_ms: i64,
    windows: usize,
    /// When each window began and what was moved in it, the oldest first.
    samples: VecDeque<(i64, u64)>,
}

impl WindowedRate {
    /// A rate over `windows` windows of `window_ms` each.
    pub fn new(windows: usize, window_ms: i64) -> Self {
        Self { window_ms: window_ms.max(1), windows: windows.max(1), samples: VecDeque::new() }
    }

    /// Counts `amount` at `now_ms`.
    pub fn record(&mut self, amount: u64, now_ms: i64) {
        self.forget(now_ms);
        match self.samples.back_mut() {
            Some((start, sum)) if now_ms - *start < self.window_ms => *sum = sum.saturating_add(amount),
            _ => self.samples.push_back((now_ms, amount)),
        }
        if self.samples.len() > self.windows {
            self.samples.pop_front();
        }
    }

    /// What was moved in a second, over the windows before `now_ms`. Less than a window counts as one, so that a first
    /// burst is no rate of its own.
    #[allow(clippy::cast_precision_loss)] // a rate need not be exact
    pub fn rate(&mut self, now_ms: i64) -> f64 {
        self.forget(now_ms);
        let Some((oldest, _)) = self.samples.front() else { return 0.0 };
        let elapsed = (now_ms - oldest).max(self.window_ms);
        let sum = self.samples.iter().fold(0u64, |sum, (_, amount)| sum.saturating_add(*amount));
        sum as f64 * 1000.0 / elapsed as f64
    }

    fn forget(&mut self, now_ms: i64) {
        let span = self.window_ms.saturating_mul(i64::try_from(self.windows).unwrap_or(i64::MAX));
        while self.samples.front().is_some_and(|(start, _)| now_ms - start >= span) {
            self.samples.pop_front();
        }
    }
}

/// A rate and what it may be.
#[derive(Debug, Clone)]
pub struct Quota {
    rate: WindowedRate,
    /// Units a second; `None` for no bound.
    bound: Option<u64>,
}

impl Quota {
    /// No bound yet, over `windows` windows of `window_ms` each.
    pub fn new(windows: usize, window_ms: i64) -> Self {
        Self { rate: WindowedRate::new(windows, window_ms), bound: None }
    }

    /// Sets what is allowed in a second; `None` lifts the bound.
    pub fn set_bound(&mut self, bound: Option<u64>) {
        self.bound = bound;
    }

    /// Counts `amount`.
    pub fn record(&mut self, amount: u64, now_ms: i64) {
        self.rate.record(amount, now_ms);
    }

    /// Whether more was moved than is allowed.
    #[allow(clippy::cast_precision_loss)]
    pub fn is_exceeded(&mut self, now_ms: i64) -> bool {
        self.bound.is_some_and(|bound| self.rate.rate(now_ms) > bound as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_worked_off() {
        let mut quota = Quota::new(11, 1000);
        quota.record(5_000, 0);
        assert!(!quota.is_exceeded(0), "nothing is forbidden yet");
        quota.set_bound(Some(1_000));
        assert!(quota.is_exceeded(0) && quota.is_exceeded(4_900));
        assert!(!quota.is_exceeded(5_000), "5,000 in five seconds are 1,000 in one");
        quota.record(1_000, 5_000);
        assert!(quota.is_exceeded(5_500) && !quota.is_exceeded(6_000));
        assert!(!quota.is_exceeded(11_000), "the burst is out of sight");
        quota.set_bound(Some(0));
        assert!(quota.is_exceeded(11_000));
        assert!(!quota.is_exceeded(20_000), "nothing was moved for long");
    }

    proptest! {
        /// Who moves only while nothing is exceeded gets about what is allowed, and no more than a step beyond.
        #[test]
        fn what_is_allowed_is_had(bound in 1_000u64..1_000_000, step in 1u64..50_000, tick in 1i64..200) {
            let mut quota = Quota::new(11, 1000);
            quota.set_bound(Some(bound));
            let (mut moved, mut now) = (0u64, 0i64);
            while now < 30_000 {
                if !quota.is_exceeded(now) {
                    quota.record(step, now);
                    moved += step;
                }
                now += tick;
            }
            // One window may be had at once in the beginning; after that the rate holds.
            prop_assert!(moved <= bound * 42 + step * 42, "{moved} of {bound} a second in 30 s");
        }
    }
}
