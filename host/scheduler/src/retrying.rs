//! Whether a failed run is retried, and when. Pure arithmetic: it must not know what else the watch is doing.

use std::time::Duration;

use super::ending::Cause;
use twitcher_model::Retry;

/// What is to become of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is retried.
    Retry {
        /// Which retry of the update this is, from 1.
        number: u32,
        /// After how long.
        after: Duration,
    },
    /// It is not, or not any more.
    Never(NotRetried),
}

/// Why a failed run is not retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRetried {
    /// `on_failure` is not `Retry`, though a component asks for one.
    NotConfigured,
    /// Its exit code is not one of `codes`, or it has none.
    Codes,
    /// There were so many retries already.
    Exhausted(u32),
    /// Nothing but another state can help.
    Final,
    /// A newer update waits.
    Superseded,
    /// The node went away.
    Deleted,
}

/// Looks at the failure of an update's run number `attempt`, counted from 1.
pub(super) fn verdict(retry: &Retry, cause: Cause, attempt: u32, chance: u64) -> Verdict {
    let computed = || retry.delay(attempt, chance);
    let after = match cause {
        Cause::Permanent | Cause::Terminated => return Verdict::Never(NotRetried::Final),
        // It knows better what it waits for, so neither `codes` nor `max_delay` applies.
        Cause::AsksForRetry { after } => after.unwrap_or_else(computed),
        other => {
            let wanted = |code: &u8| other.code() == Some(i32::from(*code));
            if !retry.codes.is_empty() && !retry.codes.iter().any(wanted) {
                return Verdict::Never(NotRetried::Codes);
            }
            computed()
        }
    };
    match attempt <= retry.times {
        true => Verdict::Retry { number: attempt, after },
        false => Verdict::Never(NotRetried::Exhausted(retry.times)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let s = Duration::from_secs;
        let retry = |codes: &[u8]| Retry {
            times: 2,
            jitter: 0,
            max_delay: s(2),
            codes: codes.to_vec(),
            ..Retry::default()
        };
        let after = |seconds| Verdict::Retry {
            number: 1,
            after: s(seconds),
        };
        let asks = |after| Cause::AsksForRetry { after };
        for (name, codes, cause, expected) in [
            ("all codes", &[][..], Cause::Code(3), after(1)),
            ("a listed code", &[2, 3], Cause::Code(3), after(1)),
            (
                "another code",
                &[2, 3],
                Cause::Code(1),
                Verdict::Never(NotRetried::Codes),
            ),
            ("a signal", &[], Cause::Signal(9), after(1)),
            ("a signal as a shell tells it", &[137], Cause::Signal(9), after(1)),
            (
                "a signal beside codes",
                &[1],
                Cause::Signal(9),
                Verdict::Never(NotRetried::Codes),
            ),
            ("time was up", &[], Cause::TimedOut, after(1)),
            (
                "time was up, beside codes",
                &[1],
                Cause::TimedOut,
                Verdict::Never(NotRetried::Codes),
            ),
            ("no such program", &[], Cause::NotStarted, after(1)),
            ("a trap", &[], Cause::Trapped, after(1)),
            (
                "a trap beside codes",
                &[1],
                Cause::Trapped,
                Verdict::Never(NotRetried::Codes),
            ),
            ("asked for, beside codes", &[1], asks(None), after(1)),
            ("asked for, beyond max_delay", &[1], asks(Some(s(7))), after(7)),
            ("asked for at once", &[], asks(Some(s(0))), after(0)),
            ("for good", &[], Cause::Permanent, Verdict::Never(NotRetried::Final)),
            ("terminated", &[], Cause::Terminated, Verdict::Never(NotRetried::Final)),
        ] {
            assert_eq!(verdict(&retry(codes), cause, 1, 0), expected, "{name}");
        }
        let number = |attempt| verdict(&retry(&[]), asks(Some(s(9))), attempt, 0);
        assert_eq!(number(2), Verdict::Retry { number: 2, after: s(9) });
        assert_eq!(number(3), Verdict::Never(NotRetried::Exhausted(2)));
    }
}
