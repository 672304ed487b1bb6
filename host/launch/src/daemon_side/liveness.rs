//! When to give up on a launcher that waits for a program which the kernel does not get loaded, from a file server that does not
//! answer for example: every other action would wait with it.
//!
//! The answer costs one launcher: for a while after that, processes no longer share their launcher's memory, so that it need not wait for
//! them. Bookkeeping without I/O.

use std::time::Duration;

use tokio::time::Instant;

/// How long the launcher may leave requests unanswered.
const LONGEST_SILENCE: Duration = Duration::from_millis(500);
/// How long nothing is shared after it was silent for so long.
const CAUTION: Duration = Duration::from_secs(60);

/// Whether the launcher may be made to wait, and until when it is waited for.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    ends: Option<Instant>,
    caution_ends: Option<Instant>,
}

impl Liveness {
    /// Whether a process that is asked for now may share its launcher's memory.
    pub fn may_share(&self, now: Instant) -> bool {
        self.caution_ends.is_none_or(|end| now >= end)
    }

    /// A process was asked for that shares its launcher's memory.
    pub fn shared(&mut self, now: Instant) {
        self.ends = Some(now + LONGEST_SILENCE);
    }

    /// The launcher answered; `unanswered` if there are other requests.
    pub fn answered(&mut self, now: Instant, unanswered: bool) {
        self.ends = self.ends.filter(|_| unanswered).map(|_| now + LONGEST_SILENCE);
    }

    /// When it ends, unless there is an answer before.
    pub fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// It has ended.
    pub fn lose(&mut self, now: Instant) {
        self.caution_ends = Some(now + CAUTION);
        self.renew();
    }

    /// There is another launcher.
    pub fn renew(&mut self) {
        self.ends = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_answer_while_something_is_unanswered() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut patience = Liveness::default();
        assert_eq!(patience.ends(), None);
        patience.shared(at(0));
        assert_eq!(patience.ends(), Some(at(500)));
        patience.answered(at(400), true);
        assert_eq!(patience.ends(), Some(at(900)));
        patience.answered(at(500), false);
        assert_eq!(patience.ends(), None);
    }

    #[test]
    fn after_a_silence_nothing_is_shared_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Liveness::default();
        assert!(patience.may_share(at(0)));
        patience.shared(at(0));
        patience.lose(at(1));
        assert_eq!(patience.ends(), None);
        assert!(!patience.may_share(at(60)));
        assert!(patience.may_share(at(61)));
    }
}
