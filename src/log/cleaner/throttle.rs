//! `log.cleaner.io.max.bytes.per.second`: how long the cleaner's threads rest between their reads and writes.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::clock::Clock;

/// Rests are added up until they are worth one.
const SHORTEST_REST_MS: i64 = 20;

/// What all threads have moved, against the rate.
pub struct Throttle {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes_per_second: f64,
    /// When what was moved so far would have been moved at the rate, in milliseconds of the clock.
    due_ms: f64,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Throttle {
    /// Lets so many bytes a second pass.
    pub fn new(bytes_per_second: f64, clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::new(State { bytes_per_second, due_ms: f64::MIN }) }
    }

    /// Lets so many pass from now on.
    pub fn set_rate(&self, bytes_per_second: f64) {
        let mut state = self.state.lock();
        *state = State { bytes_per_second, due_ms: f64::MIN };
    }

    /// Notes that `bytes` were moved; returns for how many milliseconds the caller is to rest.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn note(&self, bytes: u64) -> u64 {
        let mut state = self.state.lock();
        if !(state.bytes_per_second > 0.0 && state.bytes_per_second < f64::MAX) {
            return 0;
        }
        let now = self.clock.monotonic_ms() as f64;
        // What was not used before is not saved up.
        state.due_ms = state.due_ms.max(now) + bytes as f64 * 1000.0 / state.bytes_per_second;
        let rest = state.due_ms - now;
        if rest < SHORTEST_REST_MS as f64 { 0 } else { rest as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;

    #[test]
    fn it_holds_the_rate() {
        let clock = Arc::new(ManualClock::new(1000));
        let throttle = Throttle::new(1_000_000.0, Arc::<ManualClock>::clone(&clock));
        let mut passed = 0;
        while clock.now_ms() < 11_000 {
            passed += 64_000;
            clock.advance(i64::try_from(throttle.note(64_000)).expect("short"));
        }
        assert!((9_900_000..=10_200_000).contains(&passed), "{passed} bytes in ten seconds");
        assert_eq!(throttle.note(10_000), 0, "rests are not worth it yet");
        throttle.set_rate(f64::MAX);
        assert_eq!(throttle.note(u64::MAX), 0);
    }
}
