//! What the daemon knows after it was killed, and what it does about a state directory that it cannot use.

mod disk;
mod handled;
mod killing;
mod restart;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::daemon::{Daemon, Site, children};

fn message<'a>(watch: &'a str, text: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |line| line["watch"] == watch && line["message"].as_str().is_some_and(|m| m.starts_with(text))
}

/// Waits for a line of the log that holds a text, of whichever watch.
fn said(daemon: &Daemon, text: &str) -> Value {
    daemon.wait(text, |line| line["message"].as_str().is_some_and(|m| m.contains(text)))
}

/// The launcher of a daemon.
fn launcher(daemon: Pid) -> Option<Pid> {
    let is_launcher = |pid: &Pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("twitcher-launch"))
    };
    children(daemon).into_iter().find(is_launcher)
}

/// `kill -9`, of a process that may be gone.
fn kill_9(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
}

/// Waits until the state that is known now is in the database: it is written within a moment, but nothing says when.
fn until_stored(site: &Site, sql: &str) {
    let path = site.path("state/state.db");
    crate::support::until(sql, || {
        let connection = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        let found = connection.and_then(|connection| connection.query_row(sql, [], |row| row.get::<_, bool>(0)));
        found.unwrap_or(false)
    });
}
