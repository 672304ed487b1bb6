//! The commands on a running daemon: what they ask of its control interface, and how they show the answers.
//!
//! ```text
//! args::Operate ─▶ ask, tell ─▶ client   HTTP over the Unix socket, errors that say what to do
//!                     │          └ stream   server-sent events
//!                     ├─▶ view     the interface's types become text: pure
//!                     └─▶ out      where the text goes; a reader that went away is no error
//! ```
//!
//! It must not know how a daemon works, only what [`twitcher_control::api`] says.

mod client;
mod error;
mod orders;
mod output;
mod queries;
mod server_sent_events;
pub mod states;
mod style;
mod table;
mod view;

use jiff::Timestamp;

use self::client::Client;
use self::error::OperateError;
use self::output::Out;
use self::style::Look;
use crate::args::{Operate, exit};

/// Carries out a command. The result is the exit code; what went wrong has been said on stderr.
pub fn run(command: &Operate) -> u8 {
    let common = command.common();
    let look = Look::of_terminal(common.color, common.time, Timestamp::now());
    let result = Client::new(&common.control).and_then(|client| {
        let session = Session {
            client,
            look,
            out: Out::new(common.json),
        };
        session.run(command)
    });
    match result {
        Ok(code) => code,
        // Whoever read it, `head` for example, has seen enough.
        Err(OperateError::Out(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => exit::SUCCESS,
        Err(error) => {
            eprintln!("twitcher: {error}");
            for hint in error.hints() {
                eprintln!("  hint: {hint}");
            }
            error.exit_code()
        }
    }
}

/// One command while it is carried out.
struct Session {
    client: Client,
    look: Look,
    out: Out,
}

impl Session {
    fn run(&self, command: &Operate) -> Result<u8, OperateError> {
        match command {
            Operate::Status(arguments) => match &arguments.watch {
                Some(watch) => self.watch(watch),
                None => self.status(arguments),
            },
            Operate::History(arguments) => self.history(arguments),
            Operate::Logs(arguments) => self.logs(arguments),
            Operate::Events(arguments) => self.events(arguments),
            Operate::RunNow(arguments) => self.run_now(arguments),
            Operate::Pause(arguments) => self.pause(&arguments.watches),
            Operate::Resume(arguments) => self.resume(arguments),
            Operate::Reload(_) => self.reload(),
            Operate::Drain(arguments) => self.drain(arguments),
        }
    }

    /// The same look a moment later: relative times of what takes long must not stand still.
    fn look_now(&self) -> Look {
        Look {
            now: Timestamp::now(),
            ..self.look.clone()
        }
    }
}
