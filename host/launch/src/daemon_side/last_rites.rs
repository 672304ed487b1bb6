//! When the leftovers of a run that is being terminated are killed, and when they are given up. Pure.

use tokio::time::Instant;

/// At how many looks a run's leftovers may still be there after SIGKILL: some two seconds. Not a time, for this daemon may be stopped, or its
/// machine suspended, when it is up, and nothing would have been killed.
const FAMILY_LOOKS: u32 = 80;

/// What is due for a run's leftovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// They have time yet.
    Wait,
    /// SIGKILL.
    Kill,
    /// Nothing more: they survive it.
    GiveUp,
}

/// The end of a run's leftovers.
#[derive(Debug)]
pub(crate) struct LastRites {
    kill_at: Instant,
    looks: u32,
}

impl LastRites {
    /// They are killed from then on.
    pub(crate) fn new(kill_at: Instant) -> Self {
        Self { kill_at, looks: 0 }
    }

    /// What is due now that some were seen.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if now < self.kill_at {
            return Due::Wait;
        }
        self.looks += 1;
        match self.looks > FAMILY_LOOKS {
            true => Due::GiveUp,
            false => Due::Kill,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The daemon was stopped, or its machine suspended, in between.
    #[test]
    fn leftovers_are_killed_however_late_and_given_up_only_then() {
        let start = Instant::now();
        let mut rites = LastRites::new(start + Duration::from_secs(1));
        assert_eq!(rites.due(start), Due::Wait);
        let late = start + Duration::from_secs(3600);
        for _ in 0..FAMILY_LOOKS {
            assert_eq!(rites.due(late), Due::Kill);
        }
        assert_eq!(rites.due(late), Due::GiveUp);
    }
}
