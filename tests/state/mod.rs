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

/// The launcher of a daemon. A function runs under the same name; but only the launcher keeps the journal of runs open.
fn launcher(daemon: Pid) -> Option<Pid> {
    let has_journal = |pid: &Pid| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut files = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        files.any(|file| file.file_name().is_some_and(|name| name == "runs"))
    };
    children(daemon).into_iter().find(has_journal)
}

/// `kill -9`, of a process that may be gone.
fn kill_9(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
}

/// Waits until the state that is known now is in the database: it is written within a moment, but nothing says when.
pub fn until_stored(site: &Site, sql: &str) {
    let path = site.path("state/state.db");
    crate::support::until(sql, || {
        let connection = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        let found = connection.and_then(|connection| connection.query_row(sql, [], |row| row.get::<_, bool>(0)));
        found.unwrap_or(false)
    });
}
