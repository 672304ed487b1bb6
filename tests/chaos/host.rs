//! One of the daemons: its directories, its own proxies to the servers, its process, and what is done to it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::support::daemon::children;
use crate::support::ensemble::Ensemble;
use crate::support::proxy::{Proxy, Rules};
use crate::support::{DEADLINE, until};

use super::act::{EXHAUSTING, now};
use super::disk;
use super::journal::Journal;
use super::lives::Life;
use super::log::Log;
use super::oracle::{self, Held};
use super::plan::{Fault, OWN_CLOCK, OWN_USER, SERVERS, Scope, Trouble};
use super::services::Instance;
use super::snapshot;
use super::watches::{self, BROKEN, File, HEALTHY, Kind, Places, WATCHES, Watch, watch};

/// How long after there is room again everything is on the disk, in milliseconds.
const REPAIRED: u64 = 5_000;
/// The session timeout that daemons ask for, in seconds.
const SESSION: &str = "3";
/// How many processes and threads a daemon and its actions may have that are a user of their own. They need a third of it.
const PROCESSES: u32 = 400;

/// What this machine can do for a daemon.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// A component that writes journals.
    pub component: Vec<u8>,
    /// A library that gives a process a clock of its own.
    pub clock: Option<PathBuf>,
    /// Small file systems can be mounted.
    pub mount: bool,
    /// A user that nobody else is.
    pub user: Option<u32>,
}

/// See the module's documentation.
pub struct Host {
    dir: PathBuf,
    proxies: Vec<Proxy>,
    daemon: Option<Child>,
    log: Log,
    clock: Option<PathBuf>,
    user: Option<u32>,
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
    /// The daemons that there were before this one, oldest first.
    pub lives: Vec<Life>,
    /// From when to when it may not have written down what it knew, in milliseconds since 1970.
    pub disturbed: Vec<(u64, u64)>,
    /// What was seen to be wrong while something happened to it.
    pub found: Vec<String>,
    /// Programs that stay and that a killed daemon left behind.
    pub orphans: Vec<Instance>,
}

impl Host {
    /// Prepares a daemon below `root` and starts it.
    pub fn start(root: &Path, index: usize, ensemble: &Ensemble, means: &Means) -> Self {
        let dir = root.join(format!("host{index}"));
        let user = means.user.filter(|_| index == OWN_USER);
        for name in [
            "bin",
            "conf",
            "out/journal",
            "out/locks",
            "out/behaviour",
            "out/data",
            "run",
            "tmp",
            "state",
        ] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::set_permissions(dir.join("out/journal"), Permissions::from_mode(0o777)).unwrap();
        if means.mount {
            disk::mount(&dir.join("state"));
        }
        // Where they are may be out of another user's reach.
        disk::place(Path::new(env!("CARGO_BIN_EXE_twitcher")), &dir.join("bin/twitcher"));
        disk::place(&std::env::current_exe().unwrap(), &dir.join("bin/chaos"));
        if user.is_some() {
            for name in ["out/journal", "out/locks", "out/data", "run", "tmp", "state"] {
                chown(dir.join(name), user, user).unwrap();
            }
        }
        let journals = WATCHES
            .iter()
            .map(|watch| (watch.name, Journal::new(dir.join("out/journal").join(watch.name))));
        let mut host = Self {
            proxies: (0..SERVERS)
                .map(|server| Proxy::to(ensemble.server(server).port()))
                .collect(),
            daemon: None,
            log: Log::start(&dir.join("log")),
            clock: means.clock.clone().filter(|_| index == OWN_CLOCK),
            user,
            revision: 1,
            without: None,
            version: '0',
            component: means.component.clone(),
            mounted: means.mount,
            journals: journals.collect(),
            loads: BTreeMap::new(),
            base: None,
            lives: Vec::new(),
            disturbed: Vec::new(),
            found: Vec::new(),
            orphans: Vec::new(),
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
            program: &self.path("bin/chaos"),
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
        let addresses: Vec<String> = self.proxies.iter().map(Proxy::address).collect();
        // It does not outlive this program, whatever becomes of it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(self.as_user())
            .arg(self.path("bin/twitcher"))
            .args(["run", "--log-format", "json", "--verbose", "--drain-timeout", "5"])
            .args(["--zk", &addresses.join(","), "--zk-session-timeout", SESSION])
            .arg("--config")
            .arg(self.path("conf"))
            .arg("--state-dir")
            .arg(self.path("state"))
            // That of the machine would be had by whoever comes first.
            .arg("--control")
            .arg(self.path("run/control.sock"))
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(self.log.destination())
            .stderr(self.log.destination());
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

    /// What has `setpriv` start the daemon as the user that it is, with the limit that this user has.
    fn as_user(&self) -> Vec<String> {
        let Some(uid) = self.user else {
            return vec!["--".to_owned()];
        };
        let limited = [
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".to_owned(),
        ];
        let limit = ["prlimit".to_owned(), format!("--nproc={PROCESSES}")];
        [&limited[..], &limit].concat()
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

    /// Whether the log tells of the last run of the healthy watch.
    pub fn logged(&self) -> Result<(), String> {
        oracle::logged(watch(HEALTHY), &self.log.told(), &self.journals[HEALTHY].lines)
    }

    /// Starts a daemon that ended by itself: what comes after is to be judged, too.
    pub fn revive(&mut self) {
        if self.alive().is_err() {
            self.ended(true);
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
            &self.instances(),
        ))
    }

    /// The programs that stay and live.
    pub fn instances(&self) -> Vec<Instance> {
        snapshot::instances(&self.path("out"))
    }

    /// What is in the data file of a watch.
    pub fn data_file(&self, watch: &Watch) -> Option<String> {
        fs::read_to_string(self.path("out/data").join(watch.name)).ok()
    }

    /// The daemon has ended.
    fn ended(&mut self, killed: bool) {
        if let Some(daemon) = self.daemon.take() {
            let pid = daemon.id() as i32;
            let ended = now();
            self.lives.push(Life { pid, ended, killed });
        }
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
            _ if trouble.fault.scope().is_shared() => unreachable!("that is the ensemble's"),
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
            Fault::LauncherKill => {
                self.kill_launcher();
                self.disturb(0);
            }
            Fault::BothKill => {
                self.kill_launcher();
                self.kill();
            }
            Fault::DaemonPause => {
                self.signal(Signal::SIGSTOP);
                self.disturb(u64::MAX);
            }
            Fault::DaemonRestart => self.signal(Signal::SIGTERM),
            Fault::ClockStep => self.step_clock(if trouble.choice.is_multiple_of(2) {
                "+4000"
            } else {
                "-4000"
            }),
            Fault::DiskFull => {
                disk::fill(&self.path("state"));
                self.disturb(u64::MAX);
            }
            Fault::CacheDamage => disk::damage_cache(&self.path("state"), trouble.choice),
            Fault::LogStall => self.log.stall(),
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
            _ => {
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
            Fault::DaemonPause => {
                self.signal(Signal::SIGCONT);
                self.calm();
            }
            Fault::DaemonRestart => {
                let (daemon, mut status) = (self.daemon.as_mut().unwrap(), None);
                until("the daemon ends when it is told to", || {
                    status = daemon.try_wait().unwrap();
                    status.is_some()
                });
                // Told before it could listen, it has died of it, and has had no order yet.
                let in_order = status.is_some_and(|status| status.code().is_some());
                self.ended(!in_order);
                let left = self.instances().into_iter().filter(|_| in_order);
                self.found
                    .extend(left.map(|it| format!("{it:?} is left by a daemon that stopped in order")));
                self.spawn();
            }
            Fault::ClockStep => self.step_clock("+0"),
            Fault::DiskFull => {
                fs::remove_file(self.path("state/filler")).unwrap();
                self.calm();
            }
            Fault::LogStall => self.log.go_on(),
            Fault::ConfigRemove | Fault::ConfigBreak | Fault::ConfigDelete => {
                self.without = None;
                self.write_churn(&self.config(File::Churn));
            }
            _ if trouble.fault.behaviour().is_some() => {
                for watch in WATCHES {
                    self.behave(watch.name, None);
                }
                if trouble.fault == Fault::ActionExhaust {
                    self.await_processes();
                }
            }
            _ => {}
        }
    }

    /// What it knows may not be on the disk, from now on for so many milliseconds.
    fn disturb(&mut self, time: u64) {
        self.disturbed.push((now(), now().saturating_add(time)));
    }

    /// It can write everything down again, soon.
    fn calm(&mut self) {
        let soon = now() + REPAIRED;
        self.disturbed.iter_mut().for_each(|(_, to)| *to = (*to).min(soon));
    }

    fn rules(&self, change: impl Fn(&mut crate::support::proxy::Rules)) {
        for proxy in &self.proxies {
            proxy.rules(&change);
        }
    }

    /// Waits until the daemon has ended what has used up the processes. If it does not, it is told in the end what is left.
    fn await_processes(&self) {
        let name = format!("({EXHAUSTING},");
        let end = Instant::now() + DEADLINE;
        let exhausted = || {
            let held = self.held().unwrap_or_default();
            held.processes.iter().any(|process| process.contains(&name))
        };
        while exhausted() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Keeps the daemon away from the servers; gives what went wrong before, for [`Host::reconnect`].
    pub fn cut_off(&self) -> Vec<Rules> {
        let mut before = Vec::new();
        for proxy in &self.proxies {
            proxy.rules(|rules| {
                before.push(rules.clone());
                rules.refuse = true;
            });
        }
        self.sever();
        before
    }

    /// Lets go wrong what went wrong before, and nothing else.
    pub fn reconnect(&self, before: Vec<Rules>) {
        for (proxy, before) in self.proxies.iter().zip(before) {
            proxy.rules(|rules| *rules = before);
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
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            self.ended(true);
            self.orphans = self.instances();
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
        // What stays may have outlived the daemon that started it.
        snapshot::kill_all(&self.path("out"));
        if self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(self.path("state")).status();
        }
    }
}
