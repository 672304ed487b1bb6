//! When an update may start at the earliest: `settle` and `delay`.
//!
//! An update is *unsettled* until [`Gate::quiet`], then *splayed* until [`Gate::due`]. What a newer update that replaces it
//! inherits decides whether a stream of changes can hold an action back for ever, and whether a fleet starts as one:
//!
//! - While the older is unsettled, the newer starts settling anew, but no later than `settle_max` after the first held one.
//! - While the older is splayed, the newer keeps its due time (or else changes that come faster than the splay would starve
//!   the action), unless it has to settle for longer.
//! - Once the older is due (it waits for a run to end, or for `min_interval`), the newer passes all gates by itself: it was
//!   not held by them so far, and a fleet that is told to change must not forget its splay because an action is running.

use std::time::Duration;

use twitcher_model::Policy;

/// The gates of one waiting update. Times are on the clock of [`super::Machine::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate {
    /// When the first of the updates that this one replaces was held.
    since: Duration,
    /// When it has settled, if nothing newer comes.
    pub(super) quiet: Duration,
    /// When it may start.
    pub(super) due: Duration,
}

impl Gate {
    /// The gates of an update that is not held by any before `due`.
    pub(super) fn at(now: Duration, due: Duration) -> Self {
        Gate {
            since: now,
            quiet: now,
            due,
        }
    }

    /// The gates of an update seen `now`. A load is not settled.
    pub(super) fn new(now: Duration, policy: &Policy, load: bool, replaced: Option<Gate>) -> Self {
        let older = replaced.filter(|older| now < older.due);
        let since = older.map_or(now, |older| older.since);
        let mut quiet = if load { now } else { now.saturating_add(policy.settle) };
        if !policy.settle_max.is_zero() {
            quiet = quiet.min(since.saturating_add(policy.settle_max));
        }
        let due = match older {
            Some(older) if older.quiet <= now => older.due.max(quiet),
            _ => quiet.saturating_add(policy.delay),
        };
        Gate { since, quiet, due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Gates of updates seen at `times`, each replacing the one before.
    fn due(settle: u64, settle_max: u64, delay: u64, times: &[u64]) -> Duration {
        let policy = Policy {
            settle: s(settle),
            settle_max: s(settle_max),
            delay: s(delay),
            ..Policy::default()
        };
        let last = times
            .iter()
            .fold(None, |older, &at| Some(Gate::new(s(at), &policy, false, older)));
        last.unwrap().due
    }

    #[test]
    fn replaced_updates() {
        for (name, settle, settle_max, delay, times, expected) in [
            ("no gates", 0, 0, 0, &[7][..], 7),
            ("settle, then delay", 2, 0, 5, &[0], 7),
            ("newer changes settle anew", 2, 0, 0, &[0, 1, 2], 4),
            ("but only for settle_max", 2, 3, 0, &[0, 1, 2], 3),
            (
                "the splay follows the last change of a burst",
                2,
                0,
                10,
                &[0, 1, 2, 3],
                15,
            ),
            (
                "changes faster than the splay do not starve it",
                0,
                0,
                10,
                &[0, 4, 8],
                10,
            ),
            ("nor with a short settle", 1, 0, 10, &[0, 4, 8], 11),
            ("but still settle at its end", 2, 0, 10, &[0, 11], 13),
            ("settle_max bounds that, too", 2, 3, 10, &[0, 11], 12),
            ("one that was already due is no excuse", 2, 3, 10, &[0, 12], 24),
        ] {
            assert_eq!(due(settle, settle_max, delay, times), s(expected), "{name}");
        }
    }

    #[test]
    fn endless_durations_do_not_overflow() {
        let policy = Policy {
            settle: Duration::MAX,
            settle_max: Duration::MAX,
            delay: Duration::MAX,
            ..Policy::default()
        };
        assert_eq!(Gate::new(s(1), &policy, false, None).due, Duration::MAX);
    }
}
