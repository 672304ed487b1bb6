//! `twitcher znode`: the other side of a watch. Single znodes are read and written straight at the servers, or in a directory.
//!
//! ```text
//! args::ZnodeCommand ─▶ one answer   requests, subtree ─▶ twitcher_source::Requests
//!                   └─▶ a stream     changes           ─▶ twitcher_source::Source, as the daemon has it
//!                          view      what was read becomes text or JSON: pure
//!                          data      what is to be written, bounded
//!                          error     words, hints, exit codes
//! ```
//!
//! It must not know of daemons: none needs to run.

mod changes;
mod data;
mod error;
mod requests;
mod subtree;
mod view;

use std::io::{self, Write};

use tokio::runtime::{Builder, Runtime};

use self::error::ZnodeCommandError;
use crate::args::{ZnodeCommand, exit};

type Done<T = ()> = Result<T, ZnodeCommandError>;

/// Carries out a command. The result is the exit code; what went wrong has been said on stderr.
pub fn run(command: &ZnodeCommand) -> u8 {
    let done = match command {
        ZnodeCommand::Watch(arguments) => changes::follow(arguments),
        command => requests::answer(command),
    };
    match done {
        Ok(()) => exit::SUCCESS,
        // Whoever read it, `head` for example, has seen enough.
        Err(ZnodeCommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => exit::SUCCESS,
        Err(error) => {
            eprintln!("twitcher: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("  hint: {hint}");
            }
            error.exit_code()
        }
    }
}

fn runtime() -> Done<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ZnodeCommandError::Runtime)
}

/// Prints, and does not hold anything back: changes are followed through pipes.
fn print(bytes: &[u8]) -> Done {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(ZnodeCommandError::Output)
}
