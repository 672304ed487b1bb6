//! Whether a host has been well for long enough. Pure: what is run, and when, others see to.

use std::time::Duration;

/// How long after one look at the host the next one is taken.
const PAUSE: Duration = Duration::from_secs(2);
/// The least time between two looks, also where only little is left of what is waited for.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// How a host that has acted has fared since, on a clock that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    begun: Duration,
    /// Since when it has been well without a break.
    well_since: Option<Duration>,
}

/// What follows on a look at the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is looked at again, after so long.
    Pause(Duration),
    /// It has been well for long enough.
    Well,
    /// It has not got well in time.
    Unwell,
}

impl Streak {
    /// One that begins now.
    pub fn begin(now: Duration) -> Self {
        Self {
            begun: now,
            well_since: None,
        }
    }

    /// How much time is left until `deadline`.
    pub fn left(&self, deadline: Duration, now: Duration) -> Duration {
        deadline.saturating_sub(now.saturating_sub(self.begun))
    }

    /// Takes what was seen of the host. It must be well for `steady` without a break, before `deadline` is over.
    pub fn look(&mut self, is_well: bool, steady: Duration, deadline: Duration, now: Duration) -> After {
        self.well_since = match is_well {
            true => Some(self.well_since.unwrap_or(now)),
            false => None,
        };
        let well_for = self.well_since.map(|since| now.saturating_sub(since));
        if well_for.is_some_and(|well_for| well_for >= steady) {
            return After::Well;
        }
        let left = self.left(deadline, now);
        let wanted = well_for.map_or(PAUSE, |well_for| steady.saturating_sub(well_for));
        // Whoever cannot have been well for long enough by then need not be looked at again.
        match left.is_zero() || (is_well && wanted > left) {
            true => After::Unwell,
            false => After::Pause(wanted.min(PAUSE).min(left).max(LEAST_PAUSE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_who_is_well_without_a_break_is_well() {
        let (steady, deadline) = (seconds(5), seconds(60));
        let mut streak = Streak::begin(seconds(100));
        for (at, is_well, expected) in [
            (100, true, After::Pause(seconds(2))),
            (104, true, After::Pause(seconds(1))),
            (105, false, After::Pause(seconds(2))),
            (107, true, After::Pause(seconds(2))),
            (111, true, After::Pause(seconds(1))),
            (112, true, After::Well),
        ] {
            assert_eq!(streak.look(is_well, steady, deadline, seconds(at)), expected, "{at}");
        }
        assert_eq!(
            Streak::begin(seconds(7)).look(true, seconds(0), deadline, seconds(7)),
            After::Well
        );
    }

    #[test]
    fn past_the_deadline_it_has_failed() {
        let (steady, deadline) = (seconds(5), seconds(10));
        let mut streak = Streak::begin(seconds(0));
        assert_eq!(
            streak.look(false, steady, deadline, seconds(9)),
            After::Pause(seconds(1))
        );
        assert_eq!(streak.look(false, steady, deadline, seconds(10)), After::Unwell);
        let mut late = Streak::begin(seconds(0));
        assert_eq!(
            late.look(true, steady, deadline, seconds(6)),
            After::Unwell,
            "too late to be well for long enough"
        );
    }
}
