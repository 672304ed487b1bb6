//! The commands on a running daemon: what they ask of its control interface, and how they show the answers.
//!
//! ```text
//! args::OperateCommand ─▶ queries, orders ─▶ client   HTTP over the Unix socket, errors that say what to do
//!                           │                 └ server_sent_events
//!                           ├─▶ view     the interface's types become text: pure
//!                           └─▶ output   where the text goes; a reader that went away is no error
//! ```
//!
//! It must not know how a daemon works, only what [`twitcher_control::api`] says.

mod against;
mod client;
mod error;
mod fleet;
mod orders;
mod queries;
mod reaching;
mod server_sent_events;
pub mod states;
mod stdout;
mod table;
mod theme;
mod view;

use std::path::Path;

use jiff::Timestamp;

pub use self::against::{compare, names, text as plan_text};
use self::client::Client;
pub use self::error::OperateError;
use self::reaching::Reaching;
use self::stdout::Output;
use self::theme::Theme;
use crate::args::{OperateCommand, exit};

/// Carries out a command. The result is the exit code; what went wrong has been said on stderr.
pub fn run(command: &OperateCommand) -> u8 {
    let common = command.common();
    let look = Theme::of_terminal(common.color, common.time, Timestamp::now());
    let result = Client::new(&common.control).and_then(|client| {
        let session = Session {
            client,
            look,
            out: Output::new(common.json, Reaching::of(&common.control)),
        };
        session.run(command)
    });
    match result {
        Ok(code) => code,
        // Whoever read it, `head` for example, has seen enough.
        Err(OperateError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => exit::SUCCESS,
        Err(error) => complain(&error, &common.control),
    }
}

/// Says what went wrong with the daemon at this socket, and gives the exit code for it.
pub fn complain(error: &OperateError, control: &Path) -> u8 {
    let reaching = Reaching::of(control);
    eprintln!("twitcher: {error}");
    for hint in error.hints() {
        eprintln!("  hint: {}", reaching.in_text(&hint));
    }
    error.exit_code()
}

/// One command while it is carried out.
struct Session {
    client: Client,
    look: Theme,
    out: Output,
}

impl Session {
    fn run(&self, command: &OperateCommand) -> Result<u8, OperateError> {
        match command {
            OperateCommand::Status(arguments) => match &arguments.watch {
                Some(watch) => self.watch_or_znode(watch),
                None => self.status(arguments),
            },
            OperateCommand::History(arguments) => self.history(arguments),
            OperateCommand::Logs(arguments) => self.logs(arguments),
            OperateCommand::Events(arguments) => self.events(arguments),
            OperateCommand::RunNow(arguments) => self.run_now(arguments),
            OperateCommand::Pause(arguments) => self.pause(arguments),
            OperateCommand::Resume(arguments) => self.resume(arguments),
            OperateCommand::Reload(_) => self.reload(),
            OperateCommand::Drain(arguments) => self.drain(arguments),
            OperateCommand::Fleet(command) => self.fleet(command),
        }
    }

    /// The same look a moment later: relative times of what takes long must not stand still.
    fn look_now(&self) -> Theme {
        Theme {
            now: Timestamp::now(),
            ..self.look.clone()
        }
    }
}
