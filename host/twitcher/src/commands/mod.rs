//! The commands, each from its arguments to an exit code.

mod bundle;
mod check;
mod demo;
mod enroll;
mod help;
mod key;
mod operate;
mod plugin;
mod run;
mod source_options;
mod znode;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use twitcher_actions::payload;
use twitcher_components::BundleLocations;
use twitcher_config as config;
use twitcher_launch::{self as launch, Bodies};
use twitcher_sandbox as sandbox;

use crate::args::{self, Cli, Command, FleetCommands, OperateCommand, exit};

/// This program, also after it was replaced on disk: helpers must be of the same build.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What the launcher lets an action's process run besides programs.
const BODIES: Bodies = Bodies {
    function: config::function_action::run,
};

/// Carries out a command.
pub fn carry_out(command: Command) -> Result<u8> {
    match command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Operate(command) => Ok(operate::run(&command)),
        Command::Fleet(FleetCommands::Ask(command)) => Ok(operate::run(&OperateCommand::Fleet(command))),
        Command::Fleet(FleetCommands::Enroll(arguments)) => Ok(enroll::run(&arguments)),
        Command::Znode(command) => Ok(znode::run(&command)),
        Command::Schema { payload: false } => print(&format!("{:#}\n", config::schema())),
        Command::Schema { payload: true } => print(&format!("{:#}\n", payload::schema())),
        Command::Plugin(command) => plugin::plugin(command),
        Command::Bundle(command) => print(&bundle::bundle(Path::new(THIS_PROGRAM), command)?),
        Command::Key(command) => print(&key::key(command)?),
        Command::Demo { component } => demo::run(Path::new(THIS_PROGRAM), component.as_deref()).map(|()| exit::SUCCESS),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "twitcher", &mut std::io::stdout());
            Ok(exit::SUCCESS)
        }
        Command::Help { html: true, .. } => print(&help::html(Cli::command())),
        Command::Help { words, .. } => help(&words),
        Command::Man { dir } => help::write(Cli::command(), &dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))
            .map(|()| exit::SUCCESS),
        // What follows are processes that this program starts itself.
        Command::Launcher => launch::launcher_main(&BODIES)
            .context("launcher")
            .map(|()| exit::SUCCESS),
        Command::Compile => Ok(sandbox::compile_helper::serve_compile() as u8),
        Command::Judge => Ok(sandbox::compile_helper::serve_check() as u8),
        Command::Evaluate => Ok(config::evaluator_helper::serve() as u8),
    }
}

/// Prints a page, or the help of a command.
fn help(words: &[String]) -> Result<u8> {
    match help::answer(&mut Cli::command(), words) {
        Ok(text) => print(&text),
        Err(unknown) => {
            eprintln!("twitcher: {unknown}");
            Ok(exit::USAGE)
        }
    }
}

/// The paths stay valid when --daemonize changes the directory.
fn sources(arguments: &args::BundleStoreArguments) -> Result<BundleLocations> {
    Ok(BundleLocations {
        store: std::path::absolute(&arguments.store)?,
        keys: std::path::absolute(&arguments.trust.keys)?,
        require_signed: arguments.trust.require_signed,
    })
}

fn print(text: &str) -> Result<u8> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read it, `head` for example, has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(exit::SUCCESS),
        written => written
            .context("cannot write to standard output")
            .map(|()| exit::SUCCESS),
    }
}
