//! Whether a host has been well for long enough. Pure: what is run, and when, others see to.

use std::time::Duration;

/// How long after one look at a host that is well the next one is taken.
const PAUSE: Duration = Duration::from_secs(2);
/// The first and the longest time between two looks at one that is not. Each is twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// The least time between two looks, also where only little is left of what is waited for.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// How a host that has acted has fared since, on a clock that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    begun: Duration,
    /// Since when it has been well without a break.
    well_since: Option<Duration>,
    /// How long the next pause is if it is not well.
    pause: Duration,
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
            pause: PAUSES.0,
        }
    }

    /// How much time is left until `deadline`. Where there is none it has failed, and need not be looked at.
    pub fn left(&self, deadline: Duration, now: Duration) -> Duration {
        deadline.saturating_sub(now.saturating_sub(self.begun))
    }

    /// Takes what was seen of the host. It must be well for `steady` without a break, before `deadline` is over.
    pub fn look(&mut self, is_well: bool, steady: Duration, deadline: Duration, now: Duration) -> After {
        let left = self.left(deadline, now);
        if !is_well {
            let pause = self.pause.min(left);
            self.well_since = None;
            self.pause = (self.pause * 2).min(PAUSES.1);
            return match left.is_zero() {
                true => After::Unwell,
                false => After::Pause(pause),
            };
        }
        let since = *self.well_since.get_or_insert(now);
        self.pause = PAUSES.0;
        let wanted = steady.saturating_sub(now.saturating_sub(since));
        if wanted.is_zero() {
            return After::Well;
        }
        // Who cannot have been well for long enough by then need not be looked at again.
        match wanted > left {
            true => After::Unwell,
            false => After::Pause(wanted.clamp(LEAST_PAUSE, PAUSE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn pause(millis: u64) -> After {
        After::Pause(Duration::from_millis(millis))
    }

    #[test]
    fn only_who_is_well_without_a_break_is_well() {
        let (steady, deadline) = (seconds(5), seconds(60));
        let mut streak = Streak::begin(seconds(100));
        for (at, is_well, expected) in [
            (100, true, pause(2000)),
            (104, true, pause(1000)),
            (105, false, pause(500)),
            (106, false, pause(1000)),
            (107, true, pause(2000)),
            (111, true, pause(1000)),
            (112, true, After::Well),
        ] {
            let after = streak.look(is_well, steady, deadline, seconds(at));
            assert_eq!(after, expected, "{at}");
        }
        let mut at_once = Streak::begin(seconds(7));
        assert_eq!(at_once.look(true, seconds(0), deadline, seconds(7)), After::Well);
    }

    #[test]
    fn past_the_deadline_it_has_failed() {
        let (steady, deadline) = (seconds(5), seconds(10));
        let mut streak = Streak::begin(seconds(0));
        for (at, millis) in [(0, 500), (1, 1000), (2, 2000), (4, 4000), (8, 2000)] {
            let after = streak.look(false, steady, deadline, seconds(at));
            assert_eq!(after, pause(millis), "{at}");
        }
        assert_eq!(streak.left(deadline, seconds(10)), seconds(0));
        assert_eq!(streak.look(false, steady, deadline, seconds(10)), After::Unwell);
        // Too late to be well for long enough.
        let mut late = Streak::begin(seconds(0));
        assert_eq!(late.look(true, steady, deadline, seconds(6)), After::Unwell);
    }
}
