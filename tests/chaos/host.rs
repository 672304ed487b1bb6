//! One of the daemons: its directories, its own proxies to the servers, its process, and what is done to it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::support::daemon::children;
use crate::support::ensemble::Ensemble;
use crate::support::proxy::Proxy;
use crate::support::until;

use super::journal::Journal;
use super::oracle::Held;
use super::plan::{Fault, SERVERS, Scope, Trouble};
use super::snapshot;
use super::watches::{self, BROKEN, File, Kind, Places, WATCHES, Watch};

/// What its state directory may hold.
const STATE_SIZE: &str = "16m";
/// The session timeout that daemons ask for, in seconds.
const SESSION: &str = "3";

/// What this machine can do for a daemon.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// A component that writes journals.
    pub component: Vec<u8>,
    /// A library that gives a process a clock of its own.
    pub clock: Option<PathBuf>,
    /// Small file systems can be mounted.
    pub mount: bool,
}

/// See the module's documentation.
pub struct Host {
    dir: PathBuf,
    proxies: Vec<Proxy>,
    daemon: Option<Child>,
    clock: Option<PathBuf>,
    revision: u32,
    without: Option<&'static str>,
    /// What distinguishes the component's versions.
    version: char,
    component: Vec<u8>,
    mounted: bool,
    pub journals: BTreeMap<&'static str, Journal>,
    /// How many loads of each watch are due at most.
    pub loads: BTreeMap<&'static str, u64>,
    /// What it held when it had just settled for the first time.
    pub base: Option<Held>,
}

impl Host {
    /// Prepares a daemon below `root` and starts it. Its clock is its own if there is a library for that.
    pub fn start(root: &Path, index: usize, ensemble: &Ensemble, means: &Means, clock: Option<PathBuf>) -> Self {
        let dir = root.join(format!("host{index}"));
        for name in ["conf", "out/journal", "out/locks", "out/behaviour", "tmp", "state"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::set_permissions(dir.join("out/journal"), Permissions::from_mode(0o777)).unwrap();
        if means.mount {
            mount(&dir.join("state"));
        }
        let journals = WATCHES
            .iter()
            .map(|watch| (watch.name, Journal::new(dir.join("out/journal").join(watch.name))));
        let mut host = Self {
            proxies: (0..SERVERS)
                .map(|server| Proxy::to(ensemble.server(server).port()))
                .collect(),
            daemon: None,
            clock,
            revision: 1,
            without: None,
            version: '0',
            component: means.component.clone(),
            mounted: means.mount,
            journals: journals.collect(),
            loads: BTreeMap::new(),
            base: None,
            dir,
        };
        host.write_component();
        host.write("conf/steady.twc", host.config(File::Steady));
        host.write_churn(&host.config(File::Churn));
        host.spawn();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whole, then renamed into place.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        let draft = path.with_file_name(".draft");
        fs::write(&draft, content).unwrap();
        fs::rename(draft, path).unwrap();
    }

    fn config(&self, file: File) -> String {
        let places = Places {
            program: &std::env::current_exe().unwrap(),
            out: &self.path("out"),
            component: &self.path("component.wasm"),
        };
        watches::config(file, &places, self.revision, self.without)
    }

    fn write_churn(&mut self, text: &str) {
        self.write("conf/churn.twc", text);
        self.expect_loads(|watch| watch.file == File::Churn);
    }

    fn write_component(&mut self) {
        let mut bytes = self.component.clone();
        let mark = b"chaos-version-";
        let at = bytes.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
        bytes[at] = self.version as u8;
        self.write("component.wasm", bytes);
        self.expect_loads(|watch| watch.kind == Kind::Component);
    }

    fn expect_loads(&mut self, of: impl Fn(&Watch) -> bool) {
        for watch in WATCHES.iter().filter(|watch| of(watch)) {
            *self.loads.entry(watch.name).or_default() += 1;
        }
    }

    fn spawn(&mut self) {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("log"))
            .unwrap();
        let addresses: Vec<String> = self.proxies.iter().map(Proxy::address).collect();
        // It does not outlive this program, whatever becomes of it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_twitcher")])
            .args(["run", "--log-format", "json", "--verbose", "--drain-timeout", "5"])
            .args(["--zk", &addresses.join(","), "--zk-session-timeout", SESSION])
            .arg("--config")
            .arg(self.path("conf"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(library) = &self.clock {
            if !self.path("clock").exists() {
                fs::write(self.path("clock"), "+0").unwrap();
            }
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.path("clock"))
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_DISABLE_SHM", "1");
        }
        self.daemon = Some(command.spawn().unwrap());
        self.expect_loads(|_| true);
    }

    /// The daemon's process, if it has one.
    pub fn pid(&self) -> Option<Pid> {
        self.daemon.as_ref().map(|child| Pid::from_raw(child.id() as i32))
    }

    /// Whether the daemon runs although nobody ended it.
    pub fn alive(&mut self) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else {
            return Err("the daemon is not running".to_owned());
        };
        match daemon.try_wait().unwrap() {
            None => Ok(()),
            Some(status) => Err(format!(
                "the daemon ended by itself: {status}; see {}",
                self.path("log").display()
            )),
        }
    }

    /// Starts a daemon that ended by itself: what comes after is to be judged, too.
    pub fn revive(&mut self) {
        if self.alive().is_err() {
            self.spawn();
        }
    }

    /// What the daemon holds now.
    pub fn held(&self) -> Option<Held> {
        let pid = self.pid()?;
        Some(snapshot::held(
            pid,
            &self.path("out"),
            &self.path("tmp"),
            &self.path("state"),
        ))
    }

    /// How the actions of a watch behave from now on; none for as usual.
    pub fn behave(&self, watch: &str, behaviour: Option<super::act::Behaviour>) {
        let path = format!("out/behaviour/{watch}");
        match behaviour {
            Some(behaviour) => self.write(&path, behaviour.word()),
            // Perhaps it behaves already.
            None => drop(fs::remove_file(self.path(&path))),
        }
    }

    /// What an action of the watch must say of itself.
    pub fn revision(&self, watch: &Watch) -> String {
        match (watch.kind, watch.file) {
            (Kind::Component, _) => self.version.to_string(),
            (_, File::Churn) => self.revision.to_string(),
            (_, File::Steady) => "1".to_owned(),
        }
    }

    /// A fault of this daemon begins.
    pub fn begin(&mut self, trouble: &Trouble) {
        if trouble.fault.scope() == Scope::Process {
            // What was written last is being acted on: some moment of that is met.
            std::thread::sleep(Duration::from_micros(u64::from(trouble.choice % 10_000)));
        }
        match trouble.fault {
            Fault::ServerKill | Fault::ServerPause | Fault::QuorumLoss => unreachable!("that is the ensemble's"),
            Fault::Sever => self.sever(),
            Fault::Refuse => {
                self.rules(|rules| rules.refuse = true);
                self.sever();
            }
            Fault::Blackhole | Fault::SessionExpiry => self.rules(|rules| rules.blackhole = true),
            Fault::Delay => {
                let delay = Duration::from_millis(u64::from(20 + trouble.choice % 80));
                self.rules(|rules| rules.delay = delay);
            }
            Fault::DaemonKill => self.kill(),
            Fault::LauncherKill => self.kill_launcher(),
            Fault::BothKill => {
                self.kill_launcher();
                self.kill();
            }
            Fault::DaemonPause => self.signal(Signal::SIGSTOP),
            Fault::DaemonRestart => self.signal(Signal::SIGTERM),
            Fault::ClockStep => self.step_clock(if trouble.choice.is_multiple_of(2) {
                "+4000"
            } else {
                "-4000"
            }),
            Fault::DiskFull => self.fill_disk(),
            Fault::ConfigChange => {
                self.revision += 1;
                self.write_churn(&self.config(File::Churn));
            }
            Fault::ConfigRemove => {
                let churning: Vec<_> = WATCHES.iter().filter(|watch| watch.file == File::Churn).collect();
                self.without = Some(churning[trouble.choice as usize % churning.len()].name);
                self.write_churn(&self.config(File::Churn));
            }
            Fault::ConfigBreak => self.write_churn(BROKEN),
            Fault::ConfigDelete => fs::remove_file(self.path("conf/churn.twc")).unwrap(),
            Fault::ComponentSwap => {
                self.version = if self.version == '0' { '1' } else { '0' };
                self.write_component();
            }
            Fault::ActionHang
            | Fault::ActionStubborn
            | Fault::ActionFail
            | Fault::ActionCrash
            | Fault::ActionFork
            | Fault::ActionLeave
            | Fault::ActionFlood => {
                for (index, watch) in WATCHES.iter().enumerate() {
                    if watch.misbehaves() && trouble.choice >> (index % 32) & 1 == 1 {
                        self.behave(watch.name, trouble.fault.behaviour());
                    }
                }
            }
        }
    }

    /// It ends.
    pub fn end(&mut self, trouble: &Trouble) {
        match trouble.fault {
            Fault::Refuse | Fault::Blackhole | Fault::Delay => self.rules(|rules| *rules = Default::default()),
            Fault::SessionExpiry => {
                self.rules(|rules| *rules = Default::default());
                self.sever();
            }
            Fault::DaemonKill | Fault::BothKill => self.spawn(),
            Fault::DaemonPause => self.signal(Signal::SIGCONT),
            Fault::DaemonRestart => {
                let daemon = self.daemon.as_mut().unwrap();
                until("the daemon ends when it is told to", || {
                    daemon.try_wait().unwrap().is_some()
                });
                self.spawn();
            }
            Fault::ClockStep => self.step_clock("+0"),
            Fault::DiskFull => fs::remove_file(self.path("state/filler")).unwrap(),
            Fault::ConfigRemove | Fault::ConfigBreak | Fault::ConfigDelete => {
                self.without = None;
                self.write_churn(&self.config(File::Churn));
            }
            _ if trouble.fault.behaviour().is_some() => {
                for watch in WATCHES {
                    self.behave(watch.name, None);
                }
            }
            _ => {}
        }
    }

    fn rules(&self, change: impl Fn(&mut crate::support::proxy::Rules)) {
        for proxy in &self.proxies {
            proxy.rules(&change);
        }
    }

    fn sever(&self) {
        self.proxies.iter().for_each(Proxy::sever);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            kill(pid, signal).unwrap();
        }
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    fn kill_launcher(&self) {
        if let Some(launcher) = self.pid().and_then(snapshot::launcher) {
            let _ = kill(launcher, Signal::SIGKILL);
        }
    }

    fn step_clock(&self, to: &str) {
        if self.clock.is_some() {
            self.write("clock", to);
        }
    }

    fn fill_disk(&self) {
        let mut filler = fs::File::create(self.path("state/filler")).unwrap();
        for size in [1 << 16, 1 << 9, 1] {
            let block = vec![0; size];
            while filler.write_all(&block).is_ok() {}
        }
    }
}

impl Drop for Host {
    /// Ends the daemon and what it started, and unmounts, lest the directory cannot be removed.
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let left = children(pid);
            self.kill();
            for child in left {
                let _ = killpg(child, Signal::SIGKILL);
            }
        }
        if self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(self.path("state")).status();
        }
    }
}

fn mount(at: &Path) {
    let options = format!("size={STATE_SIZE},mode=0700");
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "chaos"])
        .arg(at)
        .status();
    assert!(status.unwrap().success(), "cannot mount a file system for state");
}
