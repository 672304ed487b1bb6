//! When a host writes: all hosts of a fleet together write at most about 500 times a second, whatever changes how often. Pure.
//!
//! Nobody counts for all. Each host knows how many there are, takes for each write a turn of H/500 s, and writes at a random moment of
//! its turn: a thousand hosts that see the same change at once spread over two seconds, and then each has to wait for its next turn.

use std::time::Duration;

/// Writes of all hosts together, in a second.
const WRITES_A_SECOND: u32 = 500;
/// So many hosts are believed in: whoever may create znodes below the root could otherwise hold everybody up for hours.
const MOST_HOSTS: u32 = 50_000;

/// The time in which each of so many hosts may write once.
pub(crate) fn turn(hosts: u32) -> Duration {
    Duration::from_secs(hosts.clamp(1, MOST_HOSTS).into()) / WRITES_A_SECOND
}

/// The turns of one host. Times are those of a clock that never goes back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pacer {
    /// When the last turn that was taken ends.
    taken_until: Duration,
}

impl Pacer {
    /// Takes turns for so many writes at once, and says when to make them. `random` is at least 0 and less than 1.
    pub fn take(&mut self, now: Duration, hosts: u32, writes: u32, random: f64) -> Duration {
        let begin = now.max(self.taken_until);
        let length = turn(hosts) * writes.max(1);
        self.taken_until = begin + length;
        begin + length.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many writes there are in each second, of hosts that have something new again as soon as they have written.
    fn busiest(hosts: u32, writes: u32, seed: u64) -> usize {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seconds = vec![0; 60];
        for _ in 0..hosts {
            let mut pacer = Pacer::default();
            let mut now = Duration::ZERO;
            while now < SECOND * 20 {
                now = pacer.take(now, hosts, writes, random.f64());
                seconds[(now.as_secs() as usize).min(59)] += writes as usize;
            }
        }
        seconds.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn all_hosts_together_write_some_500_times_a_second() {
        for hosts in [1, 10, 100, 1000, 5000] {
            for writes in [1, 3] {
                let busiest = busiest(hosts, writes, 7);
                // It is random, with a deviation of some twenty.
                assert!(busiest <= 650, "{hosts} hosts, {writes} at once: {busiest}");
            }
        }
    }

    #[test]
    fn a_small_fleet_hardly_waits() {
        let mut pacer = Pacer::default();
        assert!(pacer.take(SECOND, 3, 1, 0.999) < SECOND + Duration::from_millis(6));
        assert!(turn(0) > Duration::ZERO);
        assert_eq!(turn(u32::MAX), turn(MOST_HOSTS));
    }

    proptest! {
        #[test]
        fn a_host_never_takes_a_turn_twice(
            hosts in 1u32..100_000,
            steps in proptest::collection::vec((0u64..5000, 1u32..50, 0.0f64..1.0), 1..50),
        ) {
            let mut pacer = Pacer::default();
            let (mut now, mut end) = (Duration::ZERO, Duration::ZERO);
            for (later, writes, random) in steps {
                now += Duration::from_millis(later);
                let at = pacer.take(now, hosts, writes, random);
                prop_assert!(at >= now && at >= end);
                end = now.max(end) + turn(hosts) * writes;
                prop_assert!(at <= end);
            }
        }
    }
}
