//! A machine with a systemd of its own, booted from a root directory that `make systemd-root` made, with the service in it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::package::{repository, text};
use crate::support::daemon::PROGRAM;
use crate::support::until;

/// How long any command may take inside, in seconds: a start waits for servers without end.
const COMMAND: &str = "60";

/// With this variable in the environment a test fails where no machine can be had. Otherwise it is left out.
const REQUIRED: &str = "TWITCHER_SYSTEMD_TEST";

/// A running machine. It ends, and all that was written in it goes, when this is dropped or the test's process dies in any way.
pub struct Machine {
    /// `machine.sh`, which ends the machine once nobody holds its standard input.
    guard: Child,
    /// The machine's first process, as it is called here.
    first: u32,
}

impl Machine {
    /// Boots one; `None` where none can be had, which is said.
    pub fn boot() -> Option<Self> {
        match Self::try_boot() {
            Ok(machine) => Some(machine),
            Err(why) => {
                assert!(std::env::var_os(REQUIRED).is_none(), "no machine: {why}");
                // Not by way of the harness, which hides what a test says that passes.
                let _ = writeln!(std::io::stderr(), "left out, the service on a systemd: {why}");
                None
            }
        }
    }

    fn try_boot() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can boot a machine".into());
        }
        let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
        let root = target.join("systemd-root");
        if !root.join("etc/os-release").exists() {
            return Err(format!(
                "{} is not there, which `make systemd-root` makes",
                root.display()
            ));
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("twitcher-{}-{next}", std::process::id());
        let mut guard = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(repository("tests/systemd/machine.sh"))
            .arg(root)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut first = String::new();
        BufReader::new(guard.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let mut console = guard.stderr.take().unwrap();
        let Ok(first) = first.trim().parse() else {
            let mut said = String::new();
            let _ = console.read_to_string(&mut said);
            let _ = guard.wait();
            return Err(format!("it does not boot: {said}"));
        };
        std::thread::spawn(move || std::io::copy(&mut console, &mut std::io::sink()));
        let machine = Self { guard, first };
        until("the machine is up", || {
            let state = text(&machine.output("systemctl is-system-running"));
            ["running", "degraded"].contains(&state.trim())
        });
        machine.have_controllers();
        Ok(machine)
    }

    /// Where controllers are in hierarchies of version 1, nspawn keeps the machine from writing to them, and its limits would be void.
    fn have_controllers(&self) {
        self.said(
            "for controller in pids memory; do
                 if mountpoint -q /sys/fs/cgroup/$controller; then
                     mount -o remount,bind,rw /sys/fs/cgroup/$controller
                 fi
             done
             systemctl daemon-reexec",
        );
    }

    /// A shell inside that is about to do this.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([COMMAND, "nsenter", "--all", "--target", &self.first.to_string(), "--"])
            .args(["env", "-i", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["sh", "-euc", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn output(&self, script: &str) -> Output {
        self.shell(script).output().unwrap()
    }

    /// Whether the script succeeds.
    pub fn succeeds(&self, script: &str) -> bool {
        self.output(script).status.success()
    }

    /// What the script writes; it must succeed.
    pub fn said(&self, script: &str) -> String {
        done(script, &self.output(script))
    }

    /// Begins something that takes a while.
    pub fn begin(&self, script: &str) -> Begun {
        Begun {
            child: self.shell(script).spawn().unwrap(),
            script: script.to_owned(),
        }
    }

    /// A file of the machine, as it is called here. No link may be on the way: it would lead into this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Writes a file at once.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_file_name(".draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path).unwrap();
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn lines(&self, path: &str) -> Vec<String> {
        self.read(path).lines().map(str::to_owned).collect()
    }

    /// Waits until this is the last line of the file.
    pub fn until_last(&self, path: &str, line: &str) {
        until(&format!("the last line of {path} is {line}"), || {
            self.lines(path).last().is_some_and(|last| last == line)
        });
    }

    /// Installs a package as an administrator does who has edited its configuration.
    pub fn install(&self, package: &Path) -> Begun {
        fs::copy(package, self.path("/srv/twitcher.deb")).unwrap();
        self.begin("dpkg --force-confold --install /srv/twitcher.deb && rm /srv/twitcher.deb")
    }

    /// What systemd says of the service under this name.
    pub fn property(&self, name: &str) -> String {
        self.said(&format!("systemctl show --property={name} --value twitcher"))
            .trim()
            .to_owned()
    }

    pub fn number(&self, name: &str) -> u64 {
        let value = self.property(name);
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {value:?}"))
    }

    /// What the journal has of the service. To be asked only while it runs.
    pub fn journal(&self) -> String {
        self.said("journalctl --sync; journalctl --quiet --output=cat --unit=twitcher")
    }

    /// How many lines of the journal have these words.
    pub fn told(&self, words: &str) -> usize {
        self.journal().lines().filter(|line| line.contains(words)).count()
    }

    pub fn until_told(&self, words: &str) {
        until(&format!("the journal has: {words}"), || self.told(words) > 0);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let script = "systemctl status --no-pager --full --lines=0 twitcher; journalctl --lines=200 --no-pager --output=short-monotonic";
            let _ = writeln!(
                std::io::stderr(),
                "{}",
                text(&self.output(&format!("set +e; {script}")))
            );
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A command inside that has begun.
pub struct Begun {
    child: Child,
    script: String,
}

impl Begun {
    /// Waits for its end; it must succeed. Says what it wrote.
    pub fn done(self) -> String {
        done(&self.script, &self.child.wait_with_output().unwrap())
    }
}

fn done(script: &str, output: &Output) -> String {
    assert!(output.status.success(), "{script}: {}\n{}", output.status, text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
