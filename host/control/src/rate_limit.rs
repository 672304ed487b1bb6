//! How fast answers are given: as fast as people and their tools need, not as fast as the machine can. The processors are for actions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What a request costs: a thousand a second.
const REQUEST: Duration = Duration::from_millis(1);
/// What so many bytes of answer cost as much as a request.
const CHUNK: u64 = 32 * 1024;
/// What may be spent at once after a time of quiet.
const SAVED: Duration = Duration::from_millis(250);

/// The pace of one way in: those who hammer one do not slow the other.
#[derive(Debug)]
pub struct RateLimit {
    /// What has been spent is paid back by then.
    paid: Mutex<Instant>,
}

impl RateLimit {
    /// With nothing spent.
    pub fn new() -> Self {
        Self {
            paid: Mutex::new(Instant::now()),
        }
    }

    /// Waits for a request's turn.
    pub async fn turn(&self) {
        sleep_until(self.spend(Instant::now(), REQUEST)).await;
    }

    /// Counts an answer of so many bytes. The next request waits for it.
    pub fn count(&self, bytes: u64) {
        let chunks = u32::try_from(bytes / CHUNK).unwrap_or(u32::MAX);
        self.spend(Instant::now(), REQUEST.saturating_mul(chunks));
    }

    /// When it can be afforded.
    fn spend(&self, now: Instant, cost: Duration) -> Instant {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = (*paid).max(now) + cost;
        // Saved: that much may be owed before anybody waits.
        paid.checked_sub(SAVED).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_and_many_a_thousand_a_second() {
        let pace = RateLimit::new();
        let now = Instant::now();
        let turns: Vec<Duration> = (0..1250)
            .map(|_| pace.spend(now, REQUEST).saturating_duration_since(now))
            .collect();
        assert!(turns[..249].iter().all(Duration::is_zero));
        assert!((Duration::from_millis(999)..=Duration::from_millis(1001)).contains(&turns[1249]));
        let later = now + Duration::from_secs(5);
        assert!(pace.spend(later, REQUEST) <= later, "what was owed is paid by time");
    }

    #[test]
    fn large_answers_cost_more() {
        let pace = RateLimit::new();
        let now = Instant::now();
        (0..10).for_each(|_| pace.count(10 << 20));
        assert!(pace.spend(now, REQUEST) > now + Duration::from_secs(1));
    }
}
