//! A program under measurement that says a line each time it has run an action.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program;

const PATIENCE: Duration = Duration::from_secs(60);

/// Argument with which this program becomes a peer.
pub const BARE: &str = "--bare-peer";

pub struct Peer {
    child: Child,
    lines: Receiver<(Instant, String)>,
    /// All that were received.
    text: RefCell<String>,
    /// Kept as long as the daemon; two do not share one.
    #[allow(dead_code, reason = "only its end matters")]
    state: Option<TempDir>,
}

impl Peer {
    /// A daemon whose log is read.
    pub fn twitcher(servers: &str, config: &Path) -> Self {
        let state = tempfile::tempdir().unwrap();
        let peer = Self::start(Self::daemon(servers, config, state.path()).arg("--log_to_stdout"));
        peer.with(state)
    }

    /// A daemon whose log goes to a file: reading it would take the processor from what is measured.
    pub fn quiet_twitcher(servers: &str, config: &Path, log: &Path) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self::quiet_twitcher_in(servers, config, log, state.path()).with(state)
    }

    /// The same with its state in a directory.
    pub fn quiet_twitcher_in(servers: &str, config: &Path, log: &Path, state: &Path) -> Self {
        Self::start(Self::daemon(servers, config, state).arg("--logfile").arg(log))
    }

    /// A daemon of another build, or of this one, whose log goes to a file.
    pub fn daemon_of(program: &Path, servers: &str, config: &Path, log: &Path, more: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--zk", servers, "--config"]).arg(config);
        command.arg("--state-dir").arg(state.path());
        command.arg("--logfile").arg(log).args(more);
        Self::start(&mut command).with(state)
    }

    /// Any daemon.
    pub fn of(command: &mut Command, state: TempDir) -> Self {
        Self::start(command).with(state)
    }

    fn with(mut self, state: TempDir) -> Self {
        self.state = Some(state);
        self
    }

    fn daemon(servers: &str, config: &Path, state: &Path) -> Command {
        let mut command = Command::new(program::ours());
        command.args(["run", "--zk", servers, "--config"]).arg(config);
        command.arg("--state-dir").arg(state);
        command
    }

    pub fn kazoo(servers: &str, path: &str, program: &[String]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/bench/kazoo_peer.py");
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        Self::start(Command::new(python).args([script, servers, path]).args(program))
    }

    /// This program itself; see [`crate::reacting::bare_peer`].
    pub fn bare(servers: &str, path: &str) -> Self {
        Self::start(Command::new(std::env::current_exe().unwrap()).args([BARE, servers, path]))
    }

    fn start(command: &mut Command) -> Self {
        // Cargo's path would slow down whatever a peer executes, but not what Twitcher does, whose actions start clean.
        let command = command.env_remove("LD_LIBRARY_PATH");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = to.send((Instant::now(), line));
            }
        });
        Self {
            child,
            lines,
            text: RefCell::default(),
            state: None,
        }
    }

    /// When the next line that holds `sign` came.
    pub fn line(&self, sign: &str) -> Instant {
        loop {
            let (when, line) = self.lines.recv_timeout(PATIENCE).expect("the peer says nothing");
            let mut text = self.text.borrow_mut();
            text.push_str(&line);
            text.push('\n');
            if line.contains(sign) {
                return when;
            }
        }
    }

    /// How many lines so far hold `sign`.
    pub fn lines_so_far(&self, sign: &str) -> usize {
        self.text.borrow().lines().filter(|line| line.contains(sign)).count()
    }

    /// Resident memory in KiB.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// CPU time used, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon's log in a file, which is read so rarely that it costs the daemon nothing.
pub struct Log {
    pub path: PathBuf,
    file: Option<File>,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Log {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            rest: Vec::new(),
        }
    }

    /// Waits until so many more lines hold `sign`, and gives those.
    pub async fn until(&mut self, sign: &str, count: usize) -> Vec<String> {
        let (mut found, begin) = (Vec::new(), Instant::now());
        loop {
            found.extend(self.lines().into_iter().filter(|line| line.contains(sign)));
            if found.len() >= count {
                return found;
            }
            assert!(
                begin.elapsed() < PATIENCE * 2,
                "{} of {count} lines say {sign:?}",
                found.len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What has come since.
    fn lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Vec::new() };
        file.read_to_end(&mut self.rest).unwrap();
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}
