//! Programs of the machine that the operator gave a name: `Wasm(..., commands = {"reload": ["systemctl", "reload", "app"]})`.
//!
//! The daemon starts them outside the sandbox, as the watch's user and never through a shell.
//!
//! ```
//! use twitcher_sdk::{commands, commands::Command, Failure};
//!
//! fn deploy() -> Result<(), Failure> {
//!     // Needs commands = {"git": ["/usr/bin/git", "*"]}: the "*" lets the plugin add arguments.
//!     let head = Command::new("git").args(["rev-parse", "HEAD"]).run()?;
//!     twitcher_sdk::log::info!("deployed", commit = head.text());
//!     commands::run("reload")?; // another exit code than 0 is an error, too
//!     Ok(())
//! }
//! # use twitcher_sdk::{commands::Output, testing::Host};
//! # let host = Host::new().command("git", |_| Ok(Output::exited(0, "4f2a91c\n"))).command("reload", |_| Ok(Output::exited(1, "")));
//! # assert_eq!(host.enter(deploy).unwrap_err().to_string(), "command reload: exit code 1");
//! # assert_eq!(host.commands()[0].args, ["rev-parse", "HEAD"]);
//! # assert_eq!(host.logs()[0].field("commit"), Some("4f2a91c"));
//! ```

use std::borrow::Cow;
use std::fmt;

use crate::host;

/// Runs a command as the operator wrote it, with nothing on its standard input.
///
/// # Errors
/// As [`Command::run`].
pub fn run(name: &str) -> Result<Output, Error> {
    Command::new(name).run()
}

/// A command to be run.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is run"]
pub struct Command {
    name: String,
    args: Vec<String>,
    stdin: Vec<u8>,
}

impl Command {
    /// The command to which the operator gave this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            args: Vec::new(),
            stdin: Vec::new(),
        }
    }

    /// One argument more. The first are files, as many as the operator's list has `"{file}"`: each by its absolute path in a writable
    /// directory of this action, which becomes what that is on the machine. Others come after the operator's own, and the daemon allows them
    /// only where the operator's list ends with `"*"`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What the command reads from standard input; empty by default.
    pub fn stdin(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.stdin = data.into();
        self
    }

    /// Runs the command to its end; it must succeed.
    ///
    /// # Errors
    /// When it could not be run to its end, or ended with another exit code than 0, or by a signal.
    pub fn run(&self) -> Result<Output, Error> {
        let output = self.output()?;
        match output.success() {
            true => Ok(output),
            false => Err(self.error(ErrorKind::Unsuccessful(output))),
        }
    }

    /// Runs the command to its end, however it ends.
    ///
    /// # Errors
    /// When it could not be run to its end.
    pub fn output(&self) -> Result<Output, Error> {
        host::run_command(&self.name, &self.args, &self.stdin).map_err(|kind| self.error(kind))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error {
            command: self.name.clone(),
            kind,
        }
    }
}

/// How a command ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Its exit code; none when it died by a signal.
    pub code: Option<i32>,
    /// The signal it died by; none when it exited.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether `stdout` or `stderr` was cut at the daemon's limit.
    pub truncated: bool,
}

impl Output {
    /// A command that exited with `code` after writing `stdout`: for tests.
    pub fn exited(code: i32, stdout: impl Into<Vec<u8>>) -> Self {
        Self {
            code: Some(code),
            stdout: stdout.into(),
            ..Self::default()
        }
    }

    /// Whether it exited with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output as text, without space at either end; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        trimmed(&self.stdout)
    }
}

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    command: String,
    kind: ErrorKind,
}

/// In which way a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operator did not grant it; the text says the configuration to add.
    Denied(String),
    /// It could not be started; the text says why.
    Failed(String),
    /// It ran longer than a command may, and was killed.
    TimedOut,
    /// It was killed because the run is to end. As a [`Failure`](crate::Failure) it is what [`crate::cancel::check`] would give.
    Cancelled,
    /// It ended with another exit code than 0, or by a signal. From [`run`] and [`Command::run`] only.
    Unsuccessful(Output),
}

impl Error {
    /// The operator's name of the command.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// What happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {}: ", self.command)?;
        match &self.kind {
            ErrorKind::Denied(text) => write!(f, "denied: {text}"),
            ErrorKind::Failed(text) => f.write_str(text),
            ErrorKind::TimedOut => f.write_str("took too long and was killed"),
            ErrorKind::Cancelled => f.write_str("was killed because the run is to end"),
            ErrorKind::Unsuccessful(output) => {
                match (output.code, output.signal) {
                    (Some(code), _) => write!(f, "exit code {code}")?,
                    (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
                    (None, None) => f.write_str("no exit code")?,
                }
                // The last line is where programs say why they give up.
                match trimmed(&output.stderr).lines().last() {
                    Some(line) => write!(f, ": {line}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for Error {}

fn trimmed(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.trim_ascii())
}
