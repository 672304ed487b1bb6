//! The processes of a run: its group, and those that left the group but kept the environment, by what /proc tells.
//!
//! Only the rare paths need it: a run that is being terminated. What it finds may be gone a moment later, so a signal goes to a
//! pidfd that was opened first and whose process was looked at afterwards.

use std::fs;
use std::os::fd::AsFd;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{pidfd_open, pidfd_signal};

/// The environment variable by which a process that left its group is still recognised.
pub const RUN_ID_VARIABLE: &str = "TWITCHER_RUN_ID";

/// The processes of a run besides its main process: its process group, and those that left the group but kept the environment.
pub struct RunProcesses {
    /// The main process, not yet waited for: until then its id and its group's are not given to others.
    pub leader: Pid,
    /// The run's id as in the environment.
    pub run: String,
}

impl RunProcesses {
    /// Whether any but the main process is alive. Reads all of /proc: milliseconds; call it from a thread that may block.
    pub fn others_alive(&self) -> bool {
        all_processes().any(|pid| pid != self.leader && self.has_member(pid))
    }

    /// Signals the whole process group of the run.
    pub fn signal_group(&self, signal: Signal) {
        // ESRCH: nobody is left.
        let _ = killpg(self.leader, signal);
    }

    /// Signals those that left the group. Reads all of /proc.
    pub fn signal_strays(&self, signal: Signal) {
        for pid in all_processes().filter(|pid| *pid != self.leader) {
            if !self.has_left(pid) {
                continue;
            }
            let Ok(pidfd) = pidfd_open(pid) else { continue };
            // Looked at again: the id could have been given to another process before the pidfd was opened.
            if self.has_left(pid) {
                let _ = pidfd_signal(pidfd.as_fd(), signal);
            }
        }
    }

    /// How many processes have the run's environment, wherever they are; each is sent a signal. For a run whose leader is waited for by
    /// somebody else, so that its group says nothing. Reads all of /proc.
    pub fn marked(&self, signal: Option<Signal>) -> usize {
        let is_marked = |pid: Pid| stat(pid).is_some_and(|stat| !stat.dead) && self.has_environment(pid);
        let mut count = 0;
        for pid in all_processes().filter(|pid| is_marked(*pid)) {
            count += 1;
            let Some(signal) = signal else { continue };
            // Looked at again: the id could have been given to another process before the pidfd was opened.
            if let Ok(pidfd) = pidfd_open(pid)
                && is_marked(pid)
            {
                let _ = pidfd_signal(pidfd.as_fd(), signal);
            }
        }
        count
    }

    fn has_member(&self, pid: Pid) -> bool {
        match stat(pid) {
            Some(stat) if stat.dead => false,
            Some(stat) => stat.group == self.leader.as_raw() || self.has_environment(pid),
            None => false,
        }
    }

    fn has_left(&self, pid: Pid) -> bool {
        stat(pid).is_some_and(|stat| !stat.dead && stat.group != self.leader.as_raw()) && self.has_environment(pid)
    }

    fn has_environment(&self, pid: Pid) -> bool {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        environment.split(|byte| *byte == 0).any(|entry| {
            entry
                .strip_prefix(RUN_ID_VARIABLE.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
                .is_some_and(|value| value == self.run.as_bytes())
        })
    }
}

struct ProcStat {
    dead: bool,
    group: i32,
}

fn stat(pid: Pid) -> Option<ProcStat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may itself hold any of them: what follows the last one is safe.
fn parse_stat(text: &str) -> Option<ProcStat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    let group = fields.nth(1)?.parse().ok()?;
    Some(ProcStat { dead, group })
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_its_stat() {
        let stat = parse_stat("12 (a) Z 1 99 (b) S 1 34 34 0 -1").unwrap();
        assert!(!stat.dead);
        assert_eq!(stat.group, 34);
        assert!(parse_stat("12 (a) Z 1 34 34").unwrap().dead);
        assert!(parse_stat("nonsense").is_none());
    }

    #[test]
    fn finds_this_process() {
        assert!(all_processes().any(|pid| pid == Pid::this()));
    }
}
