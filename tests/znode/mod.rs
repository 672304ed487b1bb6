//! `twitcher znode`, on real servers and on a directory; and the story that README begins with.
#![allow(clippy::unwrap_used, reason = "in tests")]

mod directory;
#[cfg(feature = "kerberos")]
mod kerberos;
mod servers;
mod story;
mod watching;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::daemon::PROGRAM;
use crate::support::zookeeper::ZooKeeperServer;

/// Exit codes, as `twitcher help znodes` has them.
mod exit {
    pub const FAILURE: i32 = 1;
    pub const USAGE: i32 = 2;
    pub const UNREACHABLE: i32 = 5;
    pub const NO_NODE: i32 = 6;
    pub const CONFLICT: i32 = 7;
    pub const DENIED: i32 = 8;
    pub const UNKNOWN_OUTCOME: i32 = 9;
}

/// How many sessions a server keeps. Each is on a line of its own, unlike that of a connection.
fn sessions(server: &ZooKeeperServer) -> usize {
    let dump = server.four_letters("dump").unwrap();
    dump.lines().filter(|line| line.trim().starts_with("0x")).count()
}

fn command(arguments: &[&str], at: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("znode").args(arguments).args(at).env_remove("TWITCHER_ZK");
    command
}

/// Where znodes are: `--zk` or `--tree`, and what else each command gets.
struct At(Vec<String>);

impl At {
    fn new(arguments: &[&str]) -> Self {
        Self(arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let at: Vec<&str> = self.0.iter().map(String::as_str).collect();
        command(arguments, &at)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that succeeds writes.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What a command says that fails with this code.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        error
    }

    /// What a command writes that is given this on standard input.
    fn given(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may not want all of it.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }
}
