//! How a run fails, and what that means for the next one.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::cancel::Cancelled;
use crate::{commands, znodes};

/// How a run failed.
///
/// `?` turns any error into one. It is [`Permanent`](Failure::Permanent), since most errors will be the same the next time: a value
/// that does not parse, a file that is not there, a grant that is missing. Where another attempt can help, say so with
/// [`ResultExt::or_retry`]. Some errors of this crate say it themselves, also as the source of another error:
///
/// | error | becomes |
/// | --- | --- |
/// | [`Cancelled`], a command that was cancelled | [`Superseded`](Failure::Superseded) if a newer state waits, else [`Retry`](Failure::Retry) |
/// | a znode call without a session, or with unknown outcome | [`Retry`](Failure::Retry) |
/// | a command or znode that is not granted | [`Denied`](Failure::Denied), whatever is said afterwards |
///
/// ```
/// use std::time::Duration;
/// use twitcher_sdk::{Failure, ResultExt};
///
/// fn port(text: &str) -> Result<u16, Failure> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(port("x"), Err(Failure::permanent("invalid digit found in string")));
///
/// fn lease() -> Result<String, Failure> {
///     std::fs::read_to_string("/nowhere/lease").context("read the lease").or_retry_after(Duration::from_secs(5))
/// }
/// assert!(matches!(lease(), Err(Failure::Retry { after: Some(_), .. })));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later: the watch's `on_failure` decides whether and how often it is tried again.
    Retry {
        /// What failed.
        message: String,
        /// How long to wait. None leaves it to the watch's `on_failure`.
        after: Option<Duration>,
    },
    /// It will not work again for this state of the znode: it is logged, and not retried.
    Permanent {
        /// What failed.
        message: String,
    },
    /// A grant is missing: another attempt would be denied, too. To the daemon it is [`Permanent`](Failure::Permanent).
    Denied {
        /// What was denied, and what would allow it.
        message: String,
    },
    /// The run stopped because a newer state waits, which is run for. Nothing went wrong.
    Superseded,
}

impl Failure {
    /// A failure that may go away by itself.
    pub fn retry(message: impl Into<String>) -> Self {
        Failure::Retry {
            message: message.into(),
            after: None,
        }
    }

    /// A failure that may go away in so much time. The daemon counts in milliseconds.
    pub fn retry_after(message: impl Into<String>, after: Duration) -> Self {
        Failure::Retry {
            message: message.into(),
            after: Some(after),
        }
    }

    /// A failure that will be the same for this state of the znode.
    pub fn permanent(message: impl Into<String>) -> Self {
        Failure::Permanent {
            message: message.into(),
        }
    }

    fn map_message(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Failure::Retry { message, after } => Failure::Retry {
                message: change(message),
                after,
            },
            Failure::Permanent { message } => Failure::Permanent {
                message: change(message),
            },
            Failure::Denied { message } => Failure::Denied {
                message: change(message),
            },
            Failure::Superseded => Failure::Superseded,
        }
    }

    fn into_retry(self, wait: Option<Duration>) -> Self {
        match self {
            Failure::Retry { message, after } => Failure::Retry {
                message,
                after: wait.or(after),
            },
            Failure::Permanent { message } => Failure::Retry { message, after: wait },
            Failure::Denied { .. } | Failure::Superseded => self,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Retry { message, .. } | Failure::Permanent { message } | Failure::Denied { message } => {
                f.write_str(message)
            }
            Failure::Superseded => f.write_str("a newer state waits"),
        }
    }
}

// Possible only because `Failure` is no `Error` itself; it is the end of the way, not a step of it.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let message = describe(&error);
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(failure) = known(error, &message) {
                return failure;
            }
            cause = error.source();
        }
        Failure::Permanent { message }
    }
}

/// What this crate's own errors mean for another attempt.
fn known(error: &(dyn Error + 'static), message: &str) -> Option<Failure> {
    if let Some(cancelled) = error.downcast_ref::<Cancelled>() {
        return Some(cancelled.failure(message));
    }
    let denied = || Failure::Denied {
        message: message.to_owned(),
    };
    if let Some(error) = error.downcast_ref::<commands::Error>() {
        if matches!(error.kind(), commands::ErrorKind::Denied(_)) {
            return Some(denied());
        }
        // A newer state, if that is the reason, is what the host knows best.
        let cancelled = matches!(error.kind(), commands::ErrorKind::Cancelled);
        return cancelled.then(|| match crate::cancel::check() {
            Err(cancelled) => cancelled.failure(message),
            Ok(()) => Failure::retry(message),
        });
    }
    let error = error.downcast_ref::<znodes::Error>()?;
    if matches!(error.kind(), znodes::ErrorKind::Denied(_)) {
        return Some(denied());
    }
    let passing = matches!(
        error.kind(),
        znodes::ErrorKind::SessionLost | znodes::ErrorKind::UnknownOutcome
    );
    passing.then(|| Failure::retry(message))
}

/// The error and its sources, on one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Many errors print their source themselves.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// What can be said of an error on its way to becoming a [`Failure`].
pub trait ResultExt<T> {
    /// Says what was attempted: `read the template: no such file`.
    fn context(self, attempted: impl fmt::Display) -> Result<T, Failure>;
    /// Says that another attempt can help; the watch's `on_failure` says when. What was denied stays [`Failure::Denied`].
    fn or_retry(self) -> Result<T, Failure>;
    /// Says that another attempt can help after so much time.
    fn or_retry_after(self, after: Duration) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> ResultExt<T> for Result<T, E> {
    fn context(self, attempted: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().map_message(|message| format!("{attempted}: {message}")))
    }

    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(|error| error.into().into_retry(None))
    }

    fn or_retry_after(self, after: Duration) -> Result<T, Failure> {
        self.map_err(|error| error.into().into_retry(Some(after)))
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::cancel::{self, Reason};
    use crate::testing::Host;

    #[test]
    fn sources_are_told_once() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bad port")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let failure = Failure::from(Outer("x".parse::<u16>().unwrap_err()));
        assert_eq!(failure, Failure::permanent("bad port: invalid digit found in string"));
    }

    #[test]
    fn a_later_wish_to_wait_wins_and_superseded_stays() {
        let soon = Duration::from_secs(1);
        let retried: Result<(), Failure> = Err(Failure::retry("x")).or_retry_after(soon);
        assert_eq!(retried, Err(Failure::retry_after("x", soon)));
        assert_eq!(retried.or_retry(), Err(Failure::retry_after("x", soon)));
        let superseded: Result<(), Failure> = Err(Failure::Superseded);
        assert_eq!(superseded.context("y").or_retry(), Err(Failure::Superseded));
    }

    #[test]
    fn being_cancelled_is_no_fault_of_the_action() {
        let failure = |reason| {
            Host::new()
                .cancelled(reason)
                .enter(|| Failure::from(cancel::check().unwrap_err()))
        };
        assert_eq!(failure(Reason::Superseded), Failure::Superseded);
        assert!(matches!(failure(Reason::Timeout), Failure::Retry { .. }));
        assert!(matches!(failure(Reason::Shutdown), Failure::Retry { .. }));
    }

    #[test]
    fn what_passes_is_retried() {
        let host = Host::new()
            .znode("/a", "")
            .znode_fails("/a", znodes::ErrorKind::UnknownOutcome);
        let failure = host.enter(|| Failure::from(znodes::set("/a", "x").unwrap_err()));
        assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
        let failure = Host::new().enter(|| Failure::from(znodes::get("/a").unwrap_err()));
        assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    }

    #[test]
    fn what_is_denied_is_not_retried_whatever_is_said_of_it() {
        let denied = || znodes::ErrorKind::Denied("add znodes = ...".to_owned());
        let host = Host::new().znode("/a", "").znode_fails("/a", denied());
        let failure = host.enter(|| znodes::get("/a").context("look").or_retry().unwrap_err());
        assert!(
            matches!(&failure, Failure::Denied { message } if message.starts_with("look: ")),
            "{failure:?}"
        );
        let waited: Result<(), Failure> = Err(failure.clone());
        assert_eq!(waited.or_retry_after(Duration::from_secs(1)), Err(failure));
    }
}
