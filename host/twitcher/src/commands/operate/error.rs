//! What can go wrong when a daemon is asked, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::view::quoted;
use crate::args::exit;
use twitcher_control::api::Problem;
use twitcher_model::sanitize;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no socket.
    #[error("no daemon has a control socket at {}", .0.display())]
    NoSocket(PathBuf),
    /// The socket, or a directory on the way to it, is not for us.
    #[error("not allowed to use the control socket {}", .0.display())]
    Denied(PathBuf),
    /// There is a socket, and nobody behind it.
    #[error("nobody listens on the control socket {}", .0.display())]
    Stale(PathBuf),
    /// Its queue is full.
    #[error("the daemon does not take another connection on {}", .0.display())]
    Busy(PathBuf),
    /// The daemon refuses what is asked by an exit code.
    #[error("{0}")]
    NoAnswer(Box<OperateError>),
    /// Something else is wrong with the socket.
    #[error("cannot connect to {}: {error}", .socket.display())]
    Connect { socket: PathBuf, error: io::Error },
    /// No answer in time.
    #[error("the daemon has not answered {what} within {} s", .patience.as_secs())]
    TimedOut { what: String, patience: Duration },
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Broken(hyper::Error),
    /// The daemon has ended.
    #[error("the daemon has ended")]
    Ended,
    /// The body of an answer broke off, or is too large.
    #[error("the daemon's answer to {what} broke off: {error}")]
    CutOff { what: String, error: axum::Error },
    /// The request cannot be made: its address is too long, for example.
    #[error("cannot ask for {what}: {error}")]
    Request { what: String, error: http::Error },
    /// The daemon refuses.
    #[error("{}", said(.status, .problem.as_ref()))]
    Refused {
        /// Its status.
        status: http::StatusCode,
        /// Its words, if they are of the kind that is expected.
        problem: Option<Problem>,
        /// What else may help.
        suggestions: Vec<String>,
    },
    /// The answer is no JSON, or other JSON than expected.
    #[error("the daemon's answer to {what} makes no sense: {error}")]
    NotUnderstood { what: String, error: serde_json::Error },
    /// An event is too large, or is no text.
    #[error("the daemon's events make no sense: {0}")]
    Events(&'static str),
    /// No run, or more than one, has such an id.
    #[error("{0}")]
    Run(String),
    /// `drain` was given a watch.
    #[error("this stops the whole daemon, not a single watch")]
    NotAWatch(String),
    /// A watch has not run.
    #[error("the watch {0:?} has no run that is remembered")]
    NeverRan(String),
    /// The daemon would read definitions differently.
    #[error("what a reload would do cannot be told: {0}")]
    Incomparable(String),
    /// A runtime cannot be made.
    #[error("cannot wait for input and output: {0}")]
    Runtime(io::Error),
    /// Standard output does not take what it is given.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

fn said(status: &http::StatusCode, problem: Option<&Problem>) -> String {
    match problem {
        Some(problem) => sanitize::line(&problem.error),
        None => format!("the daemon answers with status {status}, and does not say why"),
    }
}

impl OperateError {
    /// What `connect` failed with.
    pub fn connect(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoSocket(socket),
            io::ErrorKind::PermissionDenied => Self::Denied(socket),
            io::ErrorKind::ConnectionRefused => Self::Stale(socket),
            io::ErrorKind::WouldBlock => Self::Busy(socket),
            _ => Self::Connect { socket, error },
        }
    }

    /// A host holds a slot of no rollout, or of several.
    pub fn which_rollout(host: &str, rollouts: &[String]) -> Self {
        let host = sanitize::line(host);
        Self::Run(match rollouts {
            [] => format!("the host {host} holds no slot of any rollout"),
            _ => format!(
                "the host {host} holds slots of several rollouts, so name one of them: {}",
                sanitize::line(&rollouts.join(", "))
            ),
        })
    }

    /// Whether there is no daemon.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::NoSocket(_) | Self::Stale(_) | Self::Broken(_) | Self::CutOff { .. }
        )
    }

    /// Whether the daemon says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == http::StatusCode::NOT_FOUND)
    }

    /// Whether the daemon is there, and cannot answer just now: it is busy, or about to end.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == http::StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The same refusal in other words.
    pub fn saying(mut self, words: &str) -> Self {
        if let Self::Refused {
            problem: Some(problem), ..
        } = &mut self
        {
            words.clone_into(&mut problem.error);
        }
        self
    }

    /// The same error with advice, if it is one that takes any.
    pub fn suggesting(mut self, more: impl IntoIterator<Item = String>) -> Self {
        if let Self::Refused { suggestions, .. } = &mut self {
            suggestions.extend(more);
        }
        self
    }

    /// The same, where the exit code of a refusal would be taken for an answer.
    pub fn without_answer(self) -> Self {
        Self::NoAnswer(Box::new(self))
    }

    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        let elsewhere = "if it runs with another --control, name that one: --control SOCKET, or TWITCHER_CONTROL";
        let hints: &[&str] = match self {
            Self::NoAnswer(error) => return error.hints(),
            Self::NoSocket(_) => &["is the daemon running? `systemctl status twitcher`", elsewhere],
            Self::Denied(_) => &["only root and members of the group twitcher may; try sudo"],
            Self::Stale(_) => &[
                "a daemon that was killed has left it; is the next one running? `systemctl status twitcher`",
                elsewhere,
            ],
            Self::Busy(_) | Self::TimedOut { .. } => {
                &["it may be stopped or overloaded: `systemctl status twitcher`, `journalctl -u twitcher`"]
            }
            Self::Connect { .. } => &[elsewhere],
            Self::Broken(_) | Self::Ended | Self::CutOff { .. } => {
                &["did the daemon end just now? `journalctl -u twitcher`"]
            }
            Self::NotUnderstood { .. } | Self::Events(_) => &[
                "do daemon and command have the same version? `twitcher --version`; restart the daemon after an upgrade",
            ],
            Self::NotAWatch(name) => {
                return vec![
                    format!("`twitcher pause {}` holds that watch", quoted(name)),
                    "`twitcher drain` stops the daemon".to_owned(),
                ];
            }
            Self::Run(_) => &[
                "`twitcher history` shows ids",
                "`twitcher status --all` shows all watches",
            ],
            Self::Refused {
                problem, suggestions, ..
            } => {
                let help = problem.iter().filter_map(|problem| problem.help.as_deref());
                let all = help.chain(suggestions.iter().map(String::as_str));
                let mut all: Vec<String> = all.map(sanitize::line).collect();
                all.dedup();
                return all;
            }
            Self::Incomparable(_) => &["use the daemon's own program, as the daemon's user: sudo twitcher check ..."],
            Self::NeverRan(_) | Self::Runtime(_) | Self::Output(_) | Self::Request { .. } => &[],
        };
        hints.iter().map(|hint| (*hint).to_owned()).collect()
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotAWatch(_) => exit::USAGE,
            Self::Incomparable(_)
            | Self::Refused { .. }
            | Self::Run(_)
            | Self::NeverRan(_)
            | Self::Output(_)
            | Self::Request { .. } => exit::FAILURE,
            _ => exit::UNREACHABLE,
        }
    }
}
