//! What a failed run leads to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a failed run leads to when it is not retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OnFailure {
    /// It is logged; the watch waits for the next change.
    #[default]
    Keep,
    /// The watch is parked until its file is loaded again.
    Stop,
}

/// How failed runs are retried. Shares are in thousandths, because policies are compared and hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// Most retries of one update, beside its first run; at least 1. Default 3.
    pub times: u32,
    /// Time before the first retry. Default 1 s.
    pub initial: Duration,
    /// By how many thousandths the time grows with each retry; at least 1000. Default 2000.
    pub factor: u32,
    /// Longest time before a retry, unless the action itself asks for a longer one. Default 60 s.
    pub max_delay: Duration,
    /// How many thousandths of each time are left off at random, at most. Default 200.
    pub jitter: u32,
    /// The exit codes that are retried; all failures if empty, which is the default.
    pub codes: Vec<u8>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            times: 3,
            initial: Duration::from_secs(1),
            factor: 2000,
            max_delay: Duration::from_secs(60),
            jitter: 200,
            codes: Vec::new(),
        }
    }
}

impl Retry {
    /// Time before the retry of this number, counted from 1. `chance` is what decides how much of it is left off.
    ///
    /// Jitter only ever shortens: `max_delay` is then a promise, and delays that have reached it still spread.
    pub fn delay(&self, number: u32, chance: u64) -> Duration {
        let growth =
            (f64::from(self.factor) / 1000.0).powi(i32::try_from(number.saturating_sub(1)).unwrap_or(i32::MAX));
        let longest = self.max_delay.as_secs_f64();
        let base = (self.initial.as_secs_f64() * growth).min(longest);
        // Of a zero that grows without bound nothing sensible is left.
        let base = if base.is_finite() { base } else { longest };
        let share = (chance >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::try_from_secs_f64(base * (1.0 - share * f64::from(self.jitter.min(1000)) / 1000.0))
            .unwrap_or(self.max_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_longest() {
        let retry = Retry {
            jitter: 0,
            ..Retry::default()
        };
        let seconds: Vec<u64> = (1..=9).map(|number| retry.delay(number, u64::MAX).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry.delay(u32::MAX, 0), Duration::from_secs(60));
        let none = Retry {
            initial: Duration::ZERO,
            ..retry
        };
        assert_eq!(none.delay(1, 7), Duration::ZERO);
        assert!(none.delay(u32::MAX, 7) <= none.max_delay);
    }

    #[test]
    fn jitter_shortens_by_its_share_at_most_and_spreads() {
        let retry = Retry {
            initial: Duration::from_secs(100),
            max_delay: Duration::from_secs(100),
            ..Retry::default()
        };
        assert_eq!(retry.delay(1, 0), Duration::from_secs(100));
        let shortest = retry.delay(1, u64::MAX);
        assert!(
            shortest >= Duration::from_secs(80) && shortest < Duration::from_millis(80_001),
            "{shortest:?}"
        );
        assert_eq!(retry.delay(5, 1 << 63), Duration::from_secs(90));
    }
}
