//! How a run ended, as far as what follows depends on it.

use std::fmt;
use std::time::Duration;

use twitcher_model::{ComponentFailure, Outcome};

/// Longest time that a component may ask to be left alone. It is untrusted, and what it asks for becomes a timer.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The action did its work.
    Succeeded,
    /// It gave up because there is newer state.
    Superseded,
    /// It did not do its work.
    Failed(Cause),
}

/// Why a run failed. Its [`fmt::Display`] ends a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It ended with this exit code.
    Code(i32),
    /// It died by this signal, which Twitcher did not send.
    Signal(i32),
    /// Its time was up.
    TimedOut,
    /// It was terminated, though not for a newer update.
    Terminated,
    /// It could not be started.
    NotStarted,
    /// A component was ended by WebAssembly.
    Trapped,
    /// A component asks for a retry, after so long if it says so.
    AsksForRetry {
        /// What it says.
        after: Option<Duration>,
    },
    /// A component says that no retry can succeed.
    Permanent,
    /// A component says that it gave up for newer state, and there is none.
    NothingNewer,
    /// A program that is to stay has ended.
    Left,
    /// A program that stays could not be told of a newer update.
    Untold,
}

impl Cause {
    /// The exit code as a shell gives it: a program that died by a signal has 128 and the signal's number.
    pub(super) fn code(self) -> Option<i32> {
        match self {
            Cause::Code(code) => Some(code),
            Cause::Signal(signal) => Some(128 + signal),
            _ => None,
        }
    }
}

impl From<&Outcome> for Ending {
    fn from(outcome: &Outcome) -> Self {
        let cause = match outcome {
            Outcome::Exited(0) => return Ending::Succeeded,
            Outcome::Exited(code) => Cause::Code(*code),
            Outcome::Signaled { signal, .. } => Cause::Signal(*signal),
            Outcome::TimedOut => Cause::TimedOut,
            Outcome::Terminated => Cause::Terminated,
            Outcome::LaunchFailed { .. } => Cause::NotStarted,
            Outcome::Failed { failure, .. } => match failure {
                ComponentFailure::Superseded => return Ending::Superseded,
                ComponentFailure::Permanent => Cause::Permanent,
                ComponentFailure::Trap => Cause::Trapped,
                ComponentFailure::Retry { after_ms } => Cause::AsksForRetry {
                    after: after_ms.map(|ms| Duration::from_millis(ms).min(LONGEST_ASKED)),
                },
            },
        };
        Ending::Failed(cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Code(code) => write!(f, "exit code {code}"),
            Cause::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Cause::TimedOut => f.write_str("timed out"),
            Cause::Terminated => f.write_str("terminated"),
            Cause::NotStarted => f.write_str("it could not be started"),
            Cause::Trapped => f.write_str("the component trapped"),
            Cause::AsksForRetry { .. } => f.write_str("the component asks for a retry"),
            Cause::Permanent => f.write_str("the component failed for good"),
            Cause::Untold => f.write_str("the service could not be told"),
            Cause::Left => f.write_str("the service has ended"),
            Cause::NothingNewer => f.write_str("the component gave up for newer state, but there is none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_component_asks_for_is_bounded() {
        let asked = |after_ms| {
            Ending::from(&Outcome::Failed {
                failure: ComponentFailure::Retry { after_ms },
                message: String::new(),
            })
        };
        let after = |after| Ending::Failed(Cause::AsksForRetry { after });
        assert_eq!(asked(None), after(None));
        assert_eq!(asked(Some(1500)), after(Some(Duration::from_millis(1500))));
        assert_eq!(asked(Some(u64::MAX)), after(Some(LONGEST_ASKED)));
    }
}
