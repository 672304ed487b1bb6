//! The commands on a running daemon, as programs: what they ask, print and end with.

mod asking;
mod fake;
mod telling;
mod unreachable;
mod whole;

use std::path::Path;
use std::process::{Command, Output};

use crate::support::daemon::PROGRAM;

/// A command on the daemon at this socket.
fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .arg("--control")
        .arg(socket)
        .env_remove("TWITCHER_CONTROL")
        .env_remove("COLUMNS");
    command
}

fn run(socket: &Path, arguments: &[&str]) -> Output {
    command(socket, arguments).output().unwrap()
}

/// Exit code, standard output and standard error.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What a command prints that succeeds.
fn printed(socket: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = told(&run(socket, arguments));
    assert_eq!((code, &*err), (0, ""), "{arguments:?}: {out}");
    out
}

/// Exit code and standard error of a command that prints nothing else.
fn refused(socket: &Path, arguments: &[&str]) -> (i32, String) {
    let (code, out, err) = told(&run(socket, arguments));
    assert_eq!(out, "", "{arguments:?}");
    (code, err)
}
