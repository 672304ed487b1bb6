//! The `twitcher` program.

use std::process::ExitCode;

use clap::Parser;
use twitcher::cli::{Cli, Command};
use twitcher::launch::{self, Bodies};

const BODIES: Bodies = Bodies { function: |_| 0 };

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Launcher => match launch::launcher_main(&BODIES) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("twitcher launcher: {error}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::FAILURE,
    }
}
