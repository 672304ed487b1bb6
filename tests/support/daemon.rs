//! The program itself under test: `twitcher run` with its log read as it comes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::DEADLINE;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_twitcher");

/// A directory with `tree/` and `conf/`, and daemons run on them.
pub struct Site {
    dir: TempDir,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tree", "conf", "out"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file the way a careful editor does: whole, then renamed into place.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_file_name(format!(".draft-{}", path.file_name().unwrap().to_string_lossy()));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path).unwrap();
    }

    /// Writes `conf/NAME`; `OUT` in the text stands for the directory `out`.
    pub fn config(&self, name: &str, text: &str) {
        self.write(
            &format!("conf/{name}"),
            &text.replace("OUT", &self.path("out").to_string_lossy()),
        );
    }

    /// Sets a znode of the tree.
    pub fn set(&self, znode: &str, data: &str) {
        self.write(&format!("tree{znode}"), data);
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    /// A daemon on the tree.
    pub fn start(&self) -> Daemon {
        self.start_with(&["--tree", &self.path("tree").to_string_lossy()])
    }

    /// A daemon with these arguments, and its state in the site unless they say otherwise.
    pub fn start_with(&self, arguments: &[&str]) -> Daemon {
        let state = self.path("state");
        let state = ["--state-dir", &state.to_string_lossy()];
        let own: &[&str] = if arguments.contains(&state[0]) { &[] } else { &state };
        Daemon::start(&self.path("conf"), &[own, arguments].concat())
    }

    /// A daemon on the tree that is another file than the program under test.
    pub fn start_program(&self, program: &Path) -> Daemon {
        let daemon = self.spawn(program);
        daemon.wait_loaded();
        daemon
    }

    /// A daemon on the tree that has hardly begun to start.
    pub fn spawn(&self, program: &Path) -> Daemon {
        let (tree, state) = (self.path("tree"), self.path("state"));
        let arguments = [
            "--tree",
            &tree.to_string_lossy(),
            "--state-dir",
            &state.to_string_lossy(),
        ];
        Daemon::spawn(program, &self.path("conf"), &arguments, &[])
    }

    /// A daemon on the tree, with more in its environment.
    pub fn start_in(&self, env: &[(&str, &Path)]) -> Daemon {
        let (tree, state) = (self.path("tree"), self.path("state"));
        let arguments = [
            "--tree",
            &tree.to_string_lossy(),
            "--state-dir",
            &state.to_string_lossy(),
        ];
        Daemon::start_in(&self.path("conf"), &arguments, env)
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    news: Condvar,
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
}

impl Daemon {
    pub fn start(config: &Path, arguments: &[&str]) -> Self {
        Self::start_in(config, arguments, &[])
    }

    /// With more in its environment.
    pub fn start_in(config: &Path, arguments: &[&str], env: &[(&str, &Path)]) -> Self {
        let daemon = Self::spawn(Path::new(PROGRAM), config, arguments, env);
        daemon.wait_loaded();
        daemon
    }

    fn wait_loaded(&self) {
        self.wait("configuration loaded", |line| line["message"] == "configuration loaded");
    }

    /// Without waiting for anything.
    pub fn spawn(program: &Path, config: &Path, arguments: &[&str], env: &[(&str, &Path)]) -> Self {
        // What is said of single watches at a load is said to those who ask for more.
        let more: &[&str] = if arguments.contains(&"--debug") { &[] } else { &["-v"] };
        let mut child = Command::new(program)
            .args(["run", "--log-format", "json"])
            .args(more)
            .arg("--config")
            .arg(config)
            .args(arguments)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let (stderr, to) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                to.lines.lock().unwrap().push(value);
                to.news.notify_all();
            }
        });
        Self { child, log }
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until a line of the log, an old or a new one, is as wanted.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(1, what, wanted).pop().unwrap()
    }

    /// Waits until `count` lines are as wanted; gives all of them.
    pub fn wait_for(&self, count: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let end = Instant::now() + DEADLINE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            let found: Vec<_> = lines.iter().filter(|line| wanted(line)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log: Vec<_> = lines.iter().map(Value::to_string).collect();
                panic!("{} of {count} times: {what}; the log:\n{}", found.len(), log.join("\n"));
            }
            lines = self.log.news.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until `count` runs of a watch have ended.
    pub fn wait_runs(&self, watch: &str, count: usize) -> Vec<Value> {
        self.wait_for(count, &format!("run of {watch} ended"), |line| {
            line["message"] == "run ended" && line["watch"] == watch
        })
    }

    /// Lines so far that are as wanted.
    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.log
            .lines
            .lock()
            .unwrap()
            .iter()
            .filter(|line| wanted(line))
            .count()
    }

    /// The whole log as text.
    pub fn text(&self) -> String {
        self.log
            .lines
            .lock()
            .unwrap()
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "the daemon does not end; its log:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the daemon alone, as a crash would.
    pub fn crash(mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended()
    }
}

impl Drop for Daemon {
    /// Kills the daemon, and the actions that outlive it: an endless one would slow every test after this.
    fn drop(&mut self) {
        let children = children(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in children {
            let _ = killpg(child, Signal::SIGKILL);
        }
    }
}

/// The children of a process.
pub fn children(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let parse = |list: String| {
        list.split_whitespace()
            .map(|pid| Pid::from_raw(pid.parse().unwrap()))
            .collect::<Vec<_>>()
    };
    lists.flat_map(parse).collect()
}

/// Whether the process exists and is not a zombie.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]),
        None | Some(b'Z' | b'X')
    )
}
