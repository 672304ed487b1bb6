//! One daemon of the fleet: its process, its way to the servers, and what is done to both.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::support::daemon::{PROGRAM, children};
use crate::support::ensemble::Ensemble;
use crate::support::proxy::Proxy;
use crate::support::until;

use super::super::act::Behaviour;
use super::super::snapshot;
use super::plan::Fault;
use super::{AT_ONCE, MAX_FAILURES, ROLLOUT, ROOT, ZNODE};

const SERVERS: usize = 3;
/// The session timeout that daemons ask for, in seconds.
const SESSION: &str = "3";

/// What somebody who operates tells a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Pause,
    Resume,
    Abort,
    Retry,
    Rollback,
    Promote,
}

impl Verb {
    pub const ALL: [Verb; 6] = [
        Verb::Pause,
        Verb::Resume,
        Verb::Abort,
        Verb::Retry,
        Verb::Rollback,
        Verb::Promote,
    ];
}

/// The name of a member.
pub fn name(index: usize) -> String {
    format!("host-{index:02}")
}

/// See the module's documentation.
pub struct Member {
    name: String,
    dir: PathBuf,
    proxies: Vec<Proxy>,
    network: Option<Network>,
    daemon: Option<Child>,
}

impl Member {
    /// Starts a daemon below `root`, in a network of its own if that is wanted and can be had.
    pub fn start(root: &Path, index: usize, in_network: bool, ensemble: &Ensemble) -> Self {
        let network = in_network.then(|| Network::make(index)).flatten();
        let address = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::gateway);
        let dir = root.join(name(index));
        fs::create_dir_all(dir.join("conf")).unwrap();
        let program = std::env::current_exe().unwrap();
        let out = root.join("out");
        let labels = if index.is_multiple_of(4) { "yes" } else { "no" };
        fs::write(
            dir.join("conf/fleet.twc"),
            format!(
                "RegisterWatch(znode={ZNODE:?}, name={ROLLOUT:?}, timeout=4, kill_after=1, run_mode=RESTART,\n\
                 \x20   action=Exec([{program:?}, \"turn\", {out:?}, \"{AT_ONCE}\", \"{}\"]),\n\
                 \x20   rollout=Rollout({ROLLOUT:?}, at_once={AT_ONCE}, max_failures={MAX_FAILURES}, lost_after=4,\n\
                 \x20       waves=[Wave(labels={{\"canary\": \"yes\"}}, bake=0.3), Wave(percent=60), Wave(percent=100)]))\n",
                name(index)
            ),
        )
        .unwrap();
        let proxies = (0..SERVERS).map(|server| Proxy::on(IpAddr::V4(address), ensemble.server(server).port()));
        let mut member = Self {
            name: name(index),
            proxies: proxies.collect(),
            network,
            daemon: None,
            dir,
        };
        fs::write(member.dir.join("labels"), format!("canary={labels}")).unwrap();
        member.spawn();
        member
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_in_network(&self) -> bool {
        self.network.is_some()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    fn spawn(&mut self) {
        let addresses: Vec<String> = self.proxies.iter().map(Proxy::address).collect();
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.join("log"))
            .unwrap();
        let mut words: Vec<String> = self.network.iter().flat_map(Network::enter).collect();
        // It does not outlive this program, whatever becomes of it.
        words.extend(["setpriv", "--pdeathsig", "KILL", "--", PROGRAM].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["run", "--log-format", "json", "--drain-timeout", "5"])
            .args(["--zk", &addresses.join(","), "--zk-session-timeout", SESSION])
            .args(["--fleet", ROOT, "--fleet-name", &self.name])
            .args(["--label", &fs::read_to_string(self.dir.join("labels")).unwrap()])
            .arg("--config")
            .arg(self.dir.join("conf"))
            .arg("--state-dir")
            .arg(self.dir.join("state"))
            .arg("--control")
            .arg(self.socket())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Tells the rollout something, at this daemon; whether it was carried out.
    pub fn verb(&mut self, verb: Verb) -> bool {
        let word = format!("{verb:?}").to_lowercase();
        self.fleet(&[&word, ROLLOUT])
            .is_some_and(|output| output.status.success())
    }

    /// Whether all of it is done, as this daemon sees it.
    pub fn is_done(&self) -> bool {
        let output = self.fleet(&["status", ROLLOUT, "--json"]);
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.is_some_and(|text| text.contains("\"state\": \"done\"") || text.contains("\"state\":\"done\""))
    }

    /// How it stands, in words.
    pub fn status(&self) -> String {
        let output = self.fleet(&["status", ROLLOUT]);
        output.map_or("no answer".to_owned(), |output| {
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        })
    }

    /// None if it does not answer in time: it may be stopped.
    fn fleet(&self, arguments: &[&str]) -> Option<Output> {
        let mut command = Command::new("timeout");
        command
            .args(["10", PROGRAM, "fleet"])
            .args(arguments)
            .arg("--control")
            .arg(self.socket());
        let output = command.output().unwrap();
        assert_ne!(
            output.status.code(),
            Some(101),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.code() != Some(124)).then_some(output)
    }

    fn pid(&self) -> Option<Pid> {
        self.daemon.as_ref().map(|child| Pid::from_raw(child.id() as i32))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Starts a daemon again that has ended although nobody ended it; gives how.
    pub fn revive(&mut self) -> Option<String> {
        let ended = match &mut self.daemon {
            Some(daemon) => daemon.try_wait().unwrap()?.to_string(),
            None => "it was not running".to_owned(),
        };
        self.spawn();
        Some(ended)
    }

    pub fn begin(&mut self, fault: Fault, out: &Path) {
        match fault {
            Fault::Sever => self.proxies.iter().for_each(Proxy::sever),
            Fault::CutOff | Fault::CutOffLong => self.cut(true),
            Fault::DaemonKill => self.kill(),
            Fault::BothKill => {
                if let Some(launcher) = self.pid().and_then(snapshot::launcher) {
                    let _ = kill(launcher, Signal::SIGKILL);
                }
                self.kill();
            }
            Fault::DaemonPause | Fault::DaemonPauseLong => self.signal(Signal::SIGSTOP),
            Fault::DaemonRestart => self.signal(Signal::SIGTERM),
            Fault::Fail => self.behave(out, Some(Behaviour::Fail)),
            Fault::Hang => self.behave(out, Some(Behaviour::Hang)),
            Fault::ServerKill | Fault::ServerPause | Fault::QuorumLoss => unreachable!("that is the ensemble's"),
        }
    }

    pub fn end(&mut self, fault: Fault, out: &Path) {
        match fault {
            Fault::CutOff | Fault::CutOffLong => self.cut(false),
            Fault::DaemonKill | Fault::BothKill => self.spawn(),
            Fault::DaemonPause | Fault::DaemonPauseLong => self.signal(Signal::SIGCONT),
            Fault::DaemonRestart => {
                if let Some(mut daemon) = self.daemon.take() {
                    until("the daemon ends when it is told to", || {
                        daemon.try_wait().unwrap().is_some()
                    });
                }
                self.spawn();
            }
            Fault::Fail | Fault::Hang => self.behave(out, None),
            _ => {}
        }
    }

    fn behave(&self, out: &Path, behaviour: Option<Behaviour>) {
        let path = out.join("behaviour").join(&self.name);
        match behaviour {
            Some(behaviour) => fs::write(path, behaviour.word()).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    fn cut(&self, cut: bool) {
        match &self.network {
            Some(network) => network.link(!cut),
            None => self
                .proxies
                .iter()
                .for_each(|proxy| proxy.rules(|rules| rules.blackhole = cut)),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let left = children(pid);
            self.kill();
            for child in left {
                let _ = killpg(child, Signal::SIGKILL);
            }
        }
    }
}

/// A network name space with one link to this one's. Gone when the process is that holds it.
struct Network {
    holder: Child,
    link: String,
    index: usize,
}

impl Network {
    /// None where it takes more rights, or another kernel.
    fn make(index: usize) -> Option<Self> {
        let mut holder = Command::new("setpriv");
        holder.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "sleep", "infinity"]);
        let holder = holder.stdin(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let link = format!("tw{}x{index}", std::process::id());
        let network = Self { holder, link, index };
        let pid = network.holder.id().to_string();
        // The holder may not have got there yet.
        let end = Instant::now() + Duration::from_secs(5);
        let own = fs::read_link("/proc/self/ns/net").ok()?;
        while fs::read_link(format!("/proc/{pid}/ns/net"))
            .ok()
            .is_none_or(|theirs| theirs == own)
        {
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let [ours, theirs] = [1, 2].map(|end| format!("{}/30", network.address(end)));
        let inside = |words: &[&str]| ip("nsenter", &[&["-t", &pid, "-n", "ip"], words].concat());
        let made = ip(
            "ip",
            &[
                "link",
                "add",
                &network.link,
                "type",
                "veth",
                "peer",
                "name",
                "up0",
                "netns",
                &pid,
            ],
        ) && ip("ip", &["addr", "add", &ours, "dev", &network.link])
            && ip("ip", &["link", "set", &network.link, "up"])
            && inside(&["link", "set", "lo", "up"])
            && inside(&["addr", "add", &theirs, "dev", "up0"])
            && inside(&["link", "set", "up0", "up"]);
        made.then_some(network)
    }

    /// This side's address.
    fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Of the range for measurements, which no network uses; another suite on this machine has others.
    fn address(&self, end: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, std::process::id() as u8, 4 * self.index as u8 + end)
    }

    /// What a command that is to run inside begins with.
    fn enter(&self) -> Vec<String> {
        ["nsenter", "-t", &self.holder.id().to_string(), "-n", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    fn link(&self, up: bool) {
        assert!(ip("ip", &["link", "set", &self.link, if up { "up" } else { "down" }]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        ip("ip", &["link", "del", &self.link]);
    }
}

fn ip(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `twitcher znode`; whether it succeeded.
pub fn znode(arguments: &[&str]) -> bool {
    let mut command = Command::new(PROGRAM);
    command
        .arg("znode")
        .args(arguments)
        .env_remove("TWITCHER_ZK")
        .stdin(Stdio::null());
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// What a znode has.
pub fn read(path: &str, servers: &str) -> Option<String> {
    let mut command = Command::new(PROGRAM);
    command
        .args(["znode", "get", path, "--zk", servers, "--timeout", "5"])
        .env_remove("TWITCHER_ZK");
    let output = command.output().unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
