//! Whether the daemon wants the run to end.
//!
//! A long action asks between its steps: what it is in the middle of when its time is over is interrupted.
//!
//! ```
//! use twitcher_sdk::{cancel, Change, Failure};
//!
//! fn on_change(change: Change) -> Result<(), Failure> {
//!     for line in change.text()?.lines() {
//!         cancel::check()?; // a newer state waits: the run ends as superseded
//!         // one step
//!         # let _ = line;
//!     }
//!     Ok(())
//! }
//! # use twitcher_sdk::testing::Host;
//! # let host = Host::new().cancelled(cancel::Reason::Superseded);
//! # assert_eq!(host.run(on_change, "a\nb"), Err(Failure::Superseded));
//! ```

use std::fmt;

use crate::{Failure, host};

/// Why the daemon wants the run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A newer state of the znode waits. With `notify_signal` the action may still finish; in RESTART its process is ended soon.
    Superseded,
    /// The watch's `timeout` is over; the run is interrupted soon.
    Timeout,
    /// The daemon stops; the run is interrupted soon.
    Shutdown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Superseded => "a newer state waits",
            Reason::Timeout => "the watch's timeout is over",
            Reason::Shutdown => "the daemon stops",
        })
    }
}

/// Why the run is to end; none while it may go on. Once it is some it stays so.
pub fn requested() -> Option<Reason> {
    host::cancel_requested()
}

/// Ends the run, by `?`, if it is to end.
///
/// # Errors
/// When the daemon wants the run to end. As a [`Failure`] it is [`Failure::Superseded`] if a newer state waits; else one to retry.
pub fn check() -> Result<(), Cancelled> {
    requested().map_or(Ok(()), |reason| Err(Cancelled(reason)))
}

/// The daemon wants the run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled(Reason);

impl Cancelled {
    /// Why.
    pub fn reason(self) -> Reason {
        self.0
    }

    pub(crate) fn failure(self, message: &str) -> Failure {
        match self.0 {
            Reason::Superseded => Failure::Superseded,
            Reason::Timeout | Reason::Shutdown => Failure::retry(message),
        }
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped: {}", self.0)
    }
}

impl std::error::Error for Cancelled {}
