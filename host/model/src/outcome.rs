//! How a run ended, in words that logs and tables repeat.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most of an outcome's text, in bytes.
const WORDS: usize = 1024;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The main process ended by itself with this exit code.
    Exited(i32),
    /// The main process died by a signal that Twitcher did not send.
    Signaled {
        /// Signal number.
        signal: i32,
        /// Whether it dumped core.
        core: bool,
    },
    /// It was terminated because its time was up.
    TimedOut,
    /// It was terminated for a newer update (RESTART) or because the daemon stops.
    Terminated,
    /// A component says that it failed.
    Failed {
        /// What is to follow.
        failure: ComponentFailure,
        /// What it says, or what happened to it; untrusted text.
        message: String,
    },
    /// It never ran.
    LaunchFailed {
        /// What was attempted, for example `chdir /srv/app`.
        step: String,
        /// Error number of the system call.
        errno: i32,
    },
}

/// How a component failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentFailure {
    /// Worth another attempt.
    Retry {
        /// After so many milliseconds; none leaves it to the policy.
        after_ms: Option<u64>,
    },
    /// No attempt with the same state can succeed.
    Permanent,
    /// It stopped because there is newer state.
    Superseded,
    /// It was ended by WebAssembly: out of bounds, unreachable, out of stack or of memory …
    Trap,
}

impl Outcome {
    /// The words of [`Outcome::code`].
    pub const CODES: [&str; 8] = [
        "success",
        "exited",
        "signaled",
        "timed_out",
        "terminated",
        "failed",
        "launch_failed",
        "unknown",
    ];

    /// What takes the place of an outcome that there is not yet.
    pub const RUNNING: &str = "running";

    /// What runs can be asked for by: [`Outcome::CODES`], then [`Outcome::RUNNING`].
    pub const ASKED_FOR: [&str; 9] = {
        let mut words = [Self::RUNNING; 9];
        let mut at = 0;
        while at < Self::CODES.len() {
            words[at] = Self::CODES[at];
            at += 1;
        }
        words
    };

    /// An outcome in one word, for programs; none is that of a run that nobody watched.
    pub fn code(outcome: Option<&Outcome>) -> &'static str {
        match outcome {
            None => "unknown",
            Some(outcome) if outcome.is_success() => "success",
            Some(Outcome::Exited(_)) => "exited",
            Some(Outcome::Signaled { .. }) => "signaled",
            Some(Outcome::TimedOut) => "timed_out",
            Some(Outcome::Terminated) => "terminated",
            Some(Outcome::Failed { .. }) => "failed",
            Some(Outcome::LaunchFailed { .. }) => "launch_failed",
        }
    }

    /// The same for people; at most a kilobyte, though a component may say more.
    pub fn words(outcome: Option<&Outcome>) -> String {
        let mut words = outcome.map_or_else(|| "unknown: nobody watched".to_owned(), ToString::to_string);
        words.truncate(words.floor_char_boundary(WORDS));
        words
    }

    /// What of [`Outcome::words`] is Twitcher's own, given [`Outcome::code`]: not what a component says, nor what was to be run.
    pub fn outline<'a>(code: &str, words: &'a str) -> &'a str {
        match code {
            "success" | "exited" | "signaled" | "timed_out" | "terminated" | "unknown" => words,
            "launch_failed" => "could not be started",
            _ => "failed",
        }
    }

    /// Whether the action did its work.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Exited(0))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(0) => f.write_str("success"),
            Outcome::Exited(code) => write!(f, "exit code {code}"),
            Outcome::Signaled { signal, core } => {
                let dumped = if *core { " (core dumped)" } else { "" };
                match nix::sys::signal::Signal::try_from(*signal) {
                    Ok(name) => write!(f, "killed by {name}{dumped}"),
                    Err(_) => write!(f, "killed by signal {signal}{dumped}"),
                }
            }
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::Terminated => f.write_str("terminated"),
            Outcome::Failed { failure, message } => {
                let what = match failure {
                    ComponentFailure::Retry { .. } => "failed, may be retried",
                    ComponentFailure::Permanent => "failed",
                    ComponentFailure::Superseded => "gave up for newer state",
                    ComponentFailure::Trap => "trapped",
                };
                match message.is_empty() {
                    true => f.write_str(what),
                    false => write!(f, "{what}: {message}"),
                }
            }
            Outcome::LaunchFailed { step, errno } => {
                write!(f, "cannot {step}: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}
