//! The log of the daemon: nobody who does not read it holds anything up, and what people read names the watch.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::daemon::{PROGRAM, Site, alive};
use crate::support::{DEADLINE, http, until};

/// What the log has room for is less than these watches write, of which each may log a megabyte.
const FLOODS: usize = 6;

/// Puts a socket of ours where syslog and the journal listen, for one process and what it starts.
const OWN_SOCKETS: &str = r#"
set -e
mount -t tmpfs tmpfs "$SCRATCH"
for device in null zero random urandom; do
    : > "$SCRATCH/$device"
    mount --bind "/dev/$device" "$SCRATCH/$device"
done
ln -s "$LISTENS" "$SCRATCH/log"
mount --rbind "$SCRATCH" /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
ln -s "$LISTENS" /run/systemd/journal/socket
exec "$@"
"#;

/// A site with a watch `n` that notes what it is given, and watches of `/flood` that write more than the log has room for.
struct Scene {
    site: Site,
    handled: usize,
    floods: usize,
}

impl Scene {
    fn new() -> Self {
        let site = Site::new();
        site.set("/n", "0");
        let mut config =
            "RegisterWatch('/n', Exec('cat >> OUT/handled; echo >> OUT/handled; echo hello'), name='n')\n".to_owned();
        for flood in 0..FLOODS {
            config += &format!(
                "RegisterWatch('/flood', Exec('yes $TWITCHER_NAME | head -n 20000; echo >> OUT/floods'), run_on_load=False, \
                 name='f{flood}')\n"
            );
        }
        site.config("a.twc", &config);
        fs::create_dir(site.path("scratch")).unwrap();
        Self {
            site,
            handled: 0,
            floods: 0,
        }
    }

    /// `twitcher run` on it.
    fn command(&self) -> Command {
        self.with_arguments(Command::new(PROGRAM))
    }

    fn with_arguments(&self, mut command: Command) -> Command {
        command
            .args(["run", "--drain-timeout", "5", "--config"])
            .arg(self.site.path("conf"));
        for (option, name) in [("--tree", "tree"), ("--state-dir", "state"), ("--control", "control")] {
            command.arg(option).arg(self.site.path(name));
        }
        command.stdin(Stdio::null());
        command
    }

    /// The same, with `listens` where syslog and the journal are.
    fn command_among(&self, listens: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--",
                "sh",
                "-c",
                OWN_SOCKETS,
                "sh",
                PROGRAM,
            ])
            .env("SCRATCH", self.site.path("scratch"))
            .env("LISTENS", self.site.path(listens));
        self.with_arguments(command)
    }

    /// A change of the node is handled, whoever reads the log.
    fn handles(&mut self) {
        if self.handled > 0 {
            self.site.set("/n", &self.handled.to_string());
        }
        self.handled += 1;
        until("the change is handled", || {
            self.site.lines("out/handled").len() == self.handled
        });
    }

    fn flood(&mut self) {
        self.floods += 1;
        self.site.set("/flood", &self.floods.to_string());
        let floods = self.floods * FLOODS;
        until("the floods are over", || self.site.lines("out/floods").len() == floods);
    }

    /// Lines that were dropped, by the metric.
    fn dropped(&self) -> u64 {
        let metrics = http::operate(&self.site.path("control"), "GET", "/metrics").body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("twitcher_log_lines_dropped_total "));
        line.unwrap().parse().unwrap()
    }

    /// Nobody reads: everything goes on, and lines are dropped and counted.
    fn goes_on_unread(&mut self) {
        self.handles();
        self.flood();
        self.handles();
        until("lines are dropped", || self.dropped() > 0);
    }
}

/// A daemon that is ended whatever becomes of the test.
struct Ended(Pid);

impl Ended {
    fn terminate(self) {
        kill(self.0, Signal::SIGTERM).unwrap();
        until("the daemon ends", || !alive(self.0));
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if alive(self.0) {
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
}

fn ended(child: &Child) -> Ended {
    Ended(Pid::from_raw(child.id() as i32))
}

/// How many lines a line of the log says were dropped.
fn told(line: &str) -> Option<u64> {
    let (_, count) = line
        .split_once("lines of this log were dropped")?
        .1
        .split_once("dropped=")?;
    Some(count.split_whitespace().next()?.parse().unwrap())
}

/// A service manager that reads what it is told, and counts how often the daemon says that it lives.
fn service_manager(path: PathBuf) -> Arc<AtomicUsize> {
    let manager = UnixDatagram::bind(path).unwrap();
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&alive);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = manager.recv(&mut buffer) {
            if buffer[..length].starts_with(b"WATCHDOG=1") {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    alive
}

#[test]
fn a_pipe_that_nobody_reads_holds_nothing_up_and_tells_what_it_missed() {
    let mut scene = Scene::new();
    let mut child = scene.command().stderr(Stdio::piped()).spawn().unwrap();
    let daemon = ended(&child);
    scene.goes_on_unread();
    let dropped = scene.dropped();
    // It flows again.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| told(line).is_some()).unwrap();
    assert!(
        line.contains("WARN") && told(&line) >= Some(dropped),
        "{line}, {dropped}"
    );
    let reader = std::thread::spawn(move || lines.last());
    scene.handles();
    daemon.terminate();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let last = reader.join().unwrap().unwrap();
    assert!(last.ends_with("stopped"), "{last}");
}

#[test]
fn the_end_does_not_wait_for_a_pipe_that_nobody_reads() {
    for stdout in [false, true] {
        let mut scene = Scene::new();
        let mut command = scene.command();
        if stdout {
            command.arg("--log_to_stdout").stdout(Stdio::piped());
        } else {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let daemon = ended(&child);
        scene.goes_on_unread();
        daemon.terminate();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_log_file_on_a_full_disk_misses_what_does_not_fit_and_goes_on_once_there_is_room() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can mount what this needs");
        return;
    }
    let mut scene = Scene::new();
    let (disk, name) = (scene.site.path("scratch"), scene.site.path("scratch/log"));
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(&disk).status();
        assert!(done.unwrap().success());
    };
    struct Unmounted(PathBuf);
    impl Drop for Unmounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
    mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    let _unmounted = Unmounted(disk.clone());
    let mut command = scene.command();
    let mut child = command.arg("--logfile").arg(&name).spawn().unwrap();
    let daemon = ended(&child);
    scene.goes_on_unread();
    mount(&["-o", "remount,size=64m", "tmpfs"]);
    let all = || fs::read_to_string(&name).unwrap();
    until("the log tells what it missed", || {
        all().lines().any(|line| told(line).is_some())
    });
    // Rotated under the daemon: the next lines are in the new one.
    fs::rename(&name, disk.join("log.1")).unwrap();
    kill(daemon.0, Signal::SIGHUP).unwrap();
    until("the new file is used", || {
        fs::read_to_string(&name).is_ok_and(|text| text.contains("configuration loaded"))
    });
    daemon.terminate();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(all().ends_with("stopped\n"));
}

/// Reads datagrams until one is as wanted; gives all of them. Nobody reads after that.
fn read_until(socket: &UnixDatagram, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 65536];
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{what}: {error}; heard: {heard:#?}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let found = wanted(&message);
        heard.push(message);
        if found {
            return heard;
        }
    }
}

#[test]
fn a_syslog_that_stalls_holds_nothing_up_and_reads_as_text_does() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can mount what this needs");
        return;
    }
    let mut scene = Scene::new();
    let syslog = UnixDatagram::bind(scene.site.path("syslog")).unwrap();
    syslog.set_read_timeout(Some(DEADLINE)).unwrap();
    let watchdog = service_manager(scene.site.path("notify"));
    let pidfile = scene.site.path("pid");
    let started = scene
        .command_among("syslog")
        .env("NOTIFY_SOCKET", scene.site.path("notify"))
        .env("WATCHDOG_USEC", "200000")
        .args(["--daemonize", "--pidfile"])
        .arg(&pidfile)
        .status();
    assert!(started.unwrap().success());
    let pid = || fs::read_to_string(&pidfile).unwrap_or_default().trim().parse();
    until("there is a pid", || pid().is_ok());
    let daemon = Ended(Pid::from_raw(pid().unwrap()));
    scene.goes_on_unread();
    let before = watchdog.load(Ordering::Relaxed);
    until("the watchdog is served", || {
        watchdog.load(Ordering::Relaxed) > before + 2
    });
    let heard = read_until(&syslog, "what was missed is told", |line| told(line).is_some());
    let pid = daemon.0;
    let line = heard.iter().find(|line| line.contains("run ended")).unwrap();
    assert!(
        line.starts_with("<29>") && line.contains(&format!(" twitcher[{pid}]: run ended watch=\"n\" run_id=")),
        "{line}"
    );
    assert!(line.contains(" outcome=success "), "{line}");
    let line = heard.iter().find(|line| line.contains(": hello")).unwrap();
    assert!(
        line.contains("]: watch=\"n\" run_id=") && line.ends_with(" stream=\"stdout\": hello"),
        "{line}"
    );
    assert!(heard.last().unwrap().starts_with("<28>"), "{heard:?}");
    // Nobody reads any more.
    scene.flood();
    daemon.terminate();
}

#[test]
fn a_journal_that_stalls_holds_nothing_up_and_shows_the_watch() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can mount what this needs");
        return;
    }
    let mut scene = Scene::new();
    let journal = UnixDatagram::bind(scene.site.path("journal")).unwrap();
    journal.set_read_timeout(Some(DEADLINE)).unwrap();
    let watchdog = service_manager(scene.site.path("notify"));
    let stderr = File::create(scene.site.path("stderr")).unwrap();
    let stat = stderr.metadata().unwrap();
    let mut child = scene
        .command_among("journal")
        .env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()))
        .env("NOTIFY_SOCKET", scene.site.path("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stderr(stderr)
        .spawn()
        .unwrap();
    let daemon = ended(&child);
    scene.goes_on_unread();
    let before = watchdog.load(Ordering::Relaxed);
    until("the watchdog is served", || {
        watchdog.load(Ordering::Relaxed) > before + 2
    });
    let heard = read_until(&journal, "what was missed is told", |entry| told(entry).is_some());
    let entry = heard.iter().find(|entry| entry.contains("MESSAGE=run ended")).unwrap();
    let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let run = field("RUN_ID=");
    assert!(
        field("MESSAGE=").starts_with(&format!("run ended watch=\"n\" run_id={run} outcome=success ")),
        "{entry}"
    );
    assert_eq!(
        (field("WATCH="), field("OUTCOME="), field("PRIORITY=")),
        ("n", "success", "5")
    );
    let entry = heard.iter().find(|entry| entry.contains(": hello\n")).unwrap();
    assert!(
        entry.contains(&format!("MESSAGE=watch=\"n\" run_id={run} stream=\"stdout\": hello\n")),
        "{entry}"
    );
    assert!(entry.contains("\nSTREAM=stdout\n"), "{entry}");
    // Nobody reads any more.
    scene.flood();
    daemon.terminate();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(scene.site.read("stderr"), "");
}

#[test]
fn what_an_action_writes_cannot_pass_for_what_the_daemon_says() {
    let site = Site::new();
    site.set("/n", "1");
    let forged = "run ended watch=\\\"db\\\" run_id=1m82xp1tf0009 outcome=success";
    let action = format!("printf '%s\\n%b\\n' '{forged}' 'a\\0342\\0200\\0256b\\0033[2J'");
    site.config("a.twc", &format!("RegisterWatch('/n', Exec({action:?}), name='web')\n"));
    let name = site.path("log");
    let mut child = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(site.path("conf"))
        .arg("--tree")
        .arg(site.path("tree"))
        .arg("--state-dir")
        .arg(site.path("state"))
        .arg("--logfile")
        .arg(&name)
        .spawn()
        .unwrap();
    let daemon = ended(&child);
    let all = || fs::read_to_string(&name).unwrap_or_default();
    until("the run has ended", || {
        all().lines().any(|line| line.contains("INFO run ended watch=\"web\""))
    });
    daemon.terminate();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let all = all();
    let lines: Vec<&str> = all.lines().filter(|line| line.contains("stream=\"stdout\"")).collect();
    assert_eq!(lines.len(), 2, "{all}");
    for line in &lines {
        let (_, said) = line.split_once(" INFO ").unwrap();
        assert!(said.starts_with("watch=\"web\" run_id="), "{line}");
    }
    assert!(lines[0].contains("stream=\"stdout\": run ended watch="), "{all}");
    assert!(lines[1].ends_with("stream=\"stdout\": a\\u{202e}b\\u{1b}[2J"), "{all}");
    assert_eq!(
        all.lines().filter(|line| line.contains("INFO run ended")).count(),
        1,
        "{all}"
    );
}

#[test]
fn a_load_is_told_in_one_line_however_many_watches_it_has() {
    const MANY: usize = 300;
    let site = Site::new();
    site.set("/n", "1");
    let watch = |index, extra: &str| {
        format!("RegisterWatch('/n{extra}', Exec('true'), run_on_load=False, name='{extra}{index}')\n")
    };
    let watches: String = (0..MANY).map(|index| watch(index, "")).collect();
    site.config("a.twc", &(watches + &watch(0, "one") + &watch(1, "one")));
    for index in 0..30 {
        site.config(&format!("{index}.twc"), &watch(index, "more"));
    }
    let told = |more: &[&str]| {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--log-format", "json", "--config"])
            .arg(site.path("conf"))
            .arg("--tree")
            .arg(site.path("tree"))
            .arg("--state-dir")
            .arg(site.path("state"))
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let daemon = ended(&child);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = stderr
            .by_ref()
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        let mut all: Vec<Value> = Vec::new();
        for line in lines {
            all.push(line);
            if all.last().unwrap()["message"] == "all watches are armed" {
                break;
            }
        }
        let rest = std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        daemon.terminate();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        rest.join().unwrap().unwrap();
        all
    };
    let lines = told(&[]);
    assert!(lines.iter().all(|line| line["watch"].is_null()), "{lines:?}");
    assert!(lines.len() < 20, "{lines:?}");
    let last = lines.last().unwrap();
    let counts = ["watches", "run", "not_on_load", "unchanged", "absent"].map(|count| last[count].as_u64().unwrap());
    assert_eq!(counts, [332, 0, 300, 0, 32]);
    let loaded = lines
        .iter()
        .find(|line| line["message"] == "configuration loaded")
        .unwrap();
    assert_eq!(loaded["changed_files"], 31);
    // Whoever wants to know of each asks for more.
    let lines = told(&["-v"]);
    let armed = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("watch armed"))
    };
    assert_eq!(lines.iter().filter(armed).count(), 332);
}
