//! When to give up on a launcher that waits for a program which the kernel does not get loaded, from a file server that does not
//! answer for example: every other action would wait with it.
//!
//! Time alone does not tell: on a loaded machine, or with a slow disk, launcher and program get on, only slowly. So it is looked at now and then
//! whether they do, and only one that does nothing at all is given up. That costs one launcher: for a while afterwards, processes no
//! longer share their launcher's memory, so that it need not wait for them. Bookkeeping without I/O.

use std::time::Duration;

use tokio::time::Instant;

/// How long the launcher may leave requests unanswered before it is looked at, and the time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// At how many looks in a row nothing may have happened, if there is a program that the launcher waits for.
const IDLE_WITH_PROGRAM: u32 = 1;
/// The same if no program is known: it may be anything, and a program has nothing to do with it.
const IDLE: u32 = 20;
/// How long nothing is shared after a launcher was given up.
const CAUTION: Duration = Duration::from_secs(60);

/// Whether the launcher may be made to wait, and until when it is waited for.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    look_at: Option<Instant>,
    idle: u32,
    caution_ends: Option<Instant>,
}

/// What was found when the launcher was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// It, or the process that it waits for, did something since the last look, or there was none.
    pub moved: bool,
    /// It waits for a process that has started and has not executed its program.
    pub waits_for_program: bool,
}

impl Liveness {
    /// Whether a process that is asked for now may share its launcher's memory.
    pub fn may_share(&self, now: Instant) -> bool {
        self.caution_ends.is_none_or(|end| now >= end)
    }

    /// A process was asked for that shares its launcher's memory.
    pub fn shared(&mut self, now: Instant) {
        self.look_at = Some(now + LOOK);
        self.idle = 0;
    }

    /// The launcher answered; `unanswered` if there are other requests.
    pub fn answered(&mut self, now: Instant, unanswered: bool) {
        self.look_at = self.look_at.filter(|_| unanswered).map(|_| now + LOOK);
        self.idle = 0;
    }

    /// When it is to be looked at, unless there is an answer before.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// It was looked at. True if it is to be given up.
    pub fn looked(&mut self, now: Instant, look: Look) -> bool {
        self.idle = if look.moved { 0 } else { self.idle + 1 };
        let most = if look.waits_for_program {
            IDLE_WITH_PROGRAM
        } else {
            IDLE
        };
        if self.idle < most {
            self.look_at = Some(now + LOOK);
            return false;
        }
        self.caution_ends = Some(now + CAUTION);
        self.renew();
        true
    }

    /// There is another launcher.
    pub fn renew(&mut self) {
        self.look_at = None;
        self.idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUCK: Look = Look {
        moved: false,
        waits_for_program: true,
    };

    #[test]
    fn silence_is_counted_from_the_last_answer_while_something_is_unanswered() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.look_at(), None);
        liveness.shared(at(0));
        assert_eq!(liveness.look_at(), Some(at(500)));
        liveness.answered(at(400), true);
        assert_eq!(liveness.look_at(), Some(at(900)));
        liveness.answered(at(500), false);
        assert_eq!(liveness.look_at(), None);
    }

    #[test]
    fn a_launcher_that_gets_on_is_never_given_up_however_slowly() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut liveness = Liveness::default();
        liveness.shared(at(0));
        for look in 1..100 {
            let moved = Look { moved: true, ..STUCK };
            assert!(!liveness.looked(at(500 * look), moved));
            assert_eq!(liveness.look_at(), Some(at(500 * look + 500)));
        }
        assert!(liveness.looked(at(50_000), STUCK));
    }

    #[test]
    fn without_a_program_to_blame_it_has_longer() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.shared(start);
        let nothing = Look {
            waits_for_program: false,
            ..STUCK
        };
        let looks = (1..100).take_while(|_| !liveness.looked(start, nothing)).count();
        assert_eq!(looks, 19);
    }

    #[test]
    fn afterwards_nothing_is_shared_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::default();
        assert!(liveness.may_share(at(0)));
        liveness.shared(at(0));
        assert!(liveness.looked(at(1), STUCK));
        assert_eq!(liveness.look_at(), None);
        assert!(!liveness.may_share(at(60)));
        assert!(liveness.may_share(at(61)));
    }
}
