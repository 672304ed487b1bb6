//! What /proc and the servers tell of the daemons, from outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgid};

use crate::support::daemon::children;
use crate::support::ensemble::Ensemble;

use super::oracle::{Held, Served};
use super::serve::SERVE;
use super::services::Instance;
use super::watches::{COMPONENTS, MARK};

/// The launcher of a daemon.
pub fn launcher(daemon: Pid) -> Option<Pid> {
    children(daemon).into_iter().find(|pid| is_launcher(daemon, *pid))
}

/// A component's process is a copy of it, but for its output, which is not that of the daemon.
fn is_launcher(daemon: Pid, pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let output = |pid| fs::read_link(format!("/proc/{pid}/fd/1")).ok();
    line.split(|byte| *byte == 0).nth(1) == Some(b"launcher") && output(pid) == output(daemon)
}

/// Whether it lives and is a copy of the launcher.
fn is_component(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"launcher") && state(pid) != Some('Z')
}

/// The programs that stay and live, of the daemon whose directory is `out`.
pub fn instances(out: &Path) -> Vec<Instance> {
    let instance = |pid: Pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_one = words.get(1) == Some(&SERVE.as_bytes()) && words.get(2) == Some(&out.as_os_str().as_bytes());
        // What has just been forked looks like who forked it.
        let leads = is_one && getpgid(Some(pid)) == Ok(pid) && state(pid) != Some('Z');
        let environment = fs::read(format!("/proc/{pid}/environ")).ok().filter(|_| leads)?;
        let mut variables = environment.split(|byte| *byte == 0);
        let run = variables.find_map(|variable| variable.strip_prefix(b"TWITCHER_RUN_ID="))?;
        Some(Instance {
            watch: String::from_utf8_lossy(words.get(3)?).into_owned(),
            run: String::from_utf8_lossy(run).into_owned(),
            pid: pid.as_raw(),
        })
    };
    all_processes().filter_map(instance).collect()
}

/// Whether a process is of one of these programs, or was made by one.
fn is_part(pid: Pid, instances: &[Instance]) -> bool {
    if instances.iter().any(|instance| instance.pid == pid.as_raw()) {
        return true;
    }
    let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (environment, arguments) = (read("environ"), read("cmdline"));
    let has = |words: &[u8], wanted: &[u8]| words.split(|byte| *byte == 0).any(|word| word == wanted);
    instances.iter().any(|instance| {
        has(&arguments, instance.run.as_bytes())
            || has(&environment, format!("TWITCHER_RUN_ID={}", instance.run).as_bytes())
    })
}

/// Kills what is left of the actions of a daemon that is gone.
pub fn kill_all(out: &Path) {
    for pid in all_processes() {
        let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        if is_of(&read("environ"), &read("cmdline"), out) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// What a daemon holds, but for the programs that stay. `out`, `temporary` and `state` are its directories.
pub fn held(daemon: Pid, out: &Path, temporary: &Path, state: &Path, stay: &[Instance]) -> Held {
    let launcher = launcher(daemon);
    let mut held = Held {
        threads: threads(daemon),
        daemon_kib: status(daemon, "VmRSS:"),
        launcher_kib: launcher.map_or(0, |pid| status(pid, "VmRSS:")),
        temporary: names(temporary),
        state_files: count_files(state),
        ..Held::default()
    };
    for pid in [Some(daemon), launcher].into_iter().flatten() {
        for (class, count) in descriptors(pid) {
            *held.descriptors.entry(class).or_default() += count;
        }
    }
    let others = children(daemon)
        .into_iter()
        .filter(|pid| Some(*pid) != launcher && !is_part(*pid, stay));
    // From outside nothing tells a component's process that waits from one that runs: one more than may wait is one that has not ended.
    let (waiting, mut left): (Vec<Pid>, Vec<Pid>) = others.partition(|pid| is_component(*pid));
    held.waiting = waiting.len();
    if waiting.len() > COMPONENTS {
        left.extend(waiting);
    }
    held.processes.extend(left.into_iter().map(describe));
    for pid in all_processes() {
        let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        if is_of(&read("environ"), &read("cmdline"), out) && !is_part(pid, stay) {
            held.processes.push(describe(pid));
        }
    }
    held.processes.sort();
    held.processes.dedup();
    if launcher.is_none() {
        held.processes.push("no launcher, which".to_owned());
    }
    held
}

/// How many threads a daemon has besides those of its pool.
fn threads(daemon: Pid) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{daemon}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    // The kernel keeps 15 bytes of a name.
    tasks
        .map(name)
        .filter(|name| !name.starts_with("twitcher-blocki"))
        .count() as u64
}

/// Whether a process with this environment and these arguments belongs to an action of the daemon whose directory is `out`. One that has left
/// its environment has only its arguments.
pub fn is_of(environment: &[u8], arguments: &[u8], out: &Path) -> bool {
    let out = out.as_os_str().as_bytes();
    let mark = [MARK.as_bytes(), b"=", out].concat();
    let has = |words: &[u8], wanted: &[u8]| words.split(|byte| *byte == 0).any(|word| word == wanted);
    has(environment, &mark) || has(arguments, out)
}

/// Everything that has become ours because its parent died: to be waited for if it is dead. Gives what lives besides `known` and
/// the programs that `stay`.
pub fn adopted(known: &[Pid], stay: &[Instance]) -> Vec<String> {
    let mut left = Vec::new();
    for pid in children(Pid::this()).into_iter().filter(|pid| !known.contains(pid)) {
        // The shells that guard the servers are waited for by those who started them.
        if comm(pid) == "sh" {
            continue;
        }
        match state(pid) {
            Some('Z') => drop(waitpid(pid, Some(WaitPidFlag::WNOHANG))),
            Some(_) if is_part(pid, stay) => {}
            Some(_) => left.push(describe(pid)),
            None => {}
        }
    }
    left
}

/// What the servers hold for all clients.
pub fn served(ensemble: &Ensemble) -> Served {
    let number = |text: &str| -> usize {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let after = |answer: &str, what: &str| answer.split_once(what).map_or(0, |(_, rest)| number(rest));
    let watches = ensemble.four_letters("wchs");
    let sessions = ensemble.four_letters("dump");
    Served {
        watches: watches.iter().map(|answer| after(answer, "Total watches:")).sum(),
        // Each server knows the sessions of all.
        sessions: sessions
            .iter()
            .map(|answer| after(answer, "Global Sessions("))
            .max()
            .unwrap_or(0),
    }
}

/// Descriptors by what they are.
fn descriptors(pid: Pid) -> BTreeMap<String, usize> {
    let mut classes = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        let class = match target.split_once(':') {
            _ if target.starts_with("/memfd:") => "memfd",
            Some((class @ ("pipe" | "socket" | "anon_inode"), rest))
                if class != "anon_inode" || !rest.contains("pidfd") =>
            {
                class
            }
            Some(("anon_inode", _)) => "pidfd",
            _ => "file",
        };
        *classes.entry(class.to_owned()).or_default() += 1;
    }
    classes
}

/// A number in `/proc/PID/status`.
pub fn status(pid: Pid, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How many descriptors a process has open.
pub fn open_descriptors(pid: Pid) -> u64 {
    descriptors(pid).values().sum::<usize>() as u64
}

fn comm(pid: Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim().to_owned()
}

fn state(pid: Pid) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

fn describe(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let state = state(pid).unwrap_or('?');
    format!("{pid} ({}, {state}) {}", comm(pid), line.trim())
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn count_files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count_files(&entry.path()),
        _ => 1,
    };
    entries.map(count).sum()
}
