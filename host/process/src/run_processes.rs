//! The processes of a run, wherever they went: those in its cgroup and its process group, those that descend from its main process,
//! those of a session that one of these leads, and those that kept its environment or its mark.
//!
//! None of these is enough. `su -` and its like clear the environment and make a session, and where PAM tells logind of it, they leave the
//! cgroup, too; what is put into the background loses its parent, and who does all of it while the run is being signalled was never found
//! before. So all of them are asked, and who was found once is followed from then on.
//!
//! Only the rare paths need it: a run that is being terminated. What it finds may be gone a moment later, so a signal goes to a
//! pidfd that was opened first and whose process was looked at afterwards.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getsid};

use crate::cgroup::RunCgroup;
use crate::stat::{ProcStat, all_processes, realtime_limit, stat};
use crate::{pidfd_open, pidfd_signal};

/// The environment variable by which a process that left its group is still recognised.
pub const RUN_ID_VARIABLE: &str = "TWITCHER_RUN_ID";

/// By what the processes of a run are known, wherever they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMark {
    /// The value of [`RUN_ID_VARIABLE`] in their environment.
    pub name: String,
    /// Their soft limit on uninterrupted real-time computing, in microseconds (RLIMIT_RTTIME; `ulimit -R`). It is inherited across fork and
    /// exec, no shell, `env -i` nor login touches it, everybody may read it in /proc, and so high it limits nothing.
    pub number: u64,
}

impl RunMark {
    /// The mark of a run with this id, by its name and as a number.
    pub fn of_run(name: String, id: u64) -> Self {
        Self {
            name,
            // Thousands of years at least, whatever the id.
            number: id & (Self::HIGH - 1) | Self::HIGH,
        }
    }

    /// The mark of what the daemon itself does for a run: the two may be there at once, and are ended by themselves.
    pub fn of_helper(name: String, id: u64) -> Self {
        let Self { name, number } = Self::of_run(name, id);
        Self {
            name,
            number: number | Self::HIGH << 1,
        }
    }

    const HIGH: u64 = 1 << 61;
}

/// The processes of a run, as far as they were found so far. Its methods read all of /proc: milliseconds; call them from a thread that
/// may block.
#[derive(Debug)]
pub struct RunProcesses {
    /// The main process, while its id cannot have been given to another.
    leader: Option<Pid>,
    /// As it is in the environment.
    variable: Vec<u8>,
    number: u64,
    cgroup: Option<Arc<RunCgroup>>,
    /// Those found, with when they started.
    found: HashMap<i32, u64>,
    /// Sessions that the main process, or one of those found, leads.
    sessions: HashSet<i32>,
}

impl RunProcesses {
    /// The processes of the run with this mark. The main process must lead a session of its own, and must not
    /// have been waited for; see [`RunProcesses::leader_is_gone`].
    pub fn new(leader: Pid, mark: &RunMark, cgroup: Option<Arc<RunCgroup>>) -> Self {
        Self {
            leader: Some(leader),
            variable: format!("{RUN_ID_VARIABLE}={}", mark.name).into_bytes(),
            number: mark.number,
            cgroup,
            found: HashMap::new(),
            sessions: HashSet::from([leader.as_raw()]),
        }
    }

    /// From now on the main process's id, which is also that of its group and session, means nothing: somebody has waited for it.
    pub fn leader_is_gone(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.sessions.remove(&leader.as_raw());
        }
    }

    /// How many processes of the run are alive, the main process not counted.
    pub fn others(&mut self) -> usize {
        self.look().len()
    }

    /// Signals every process of the run, the main process too. Looks first: those whose parent ends of the signal could not be told
    /// from others afterwards.
    pub fn signal(&mut self, signal: Signal) {
        let others = self.look();
        if let Some(leader) = self.leader {
            // ESRCH: nobody is left.
            let _ = killpg(leader, signal);
        }
        if signal == Signal::SIGKILL
            && let Some(cgroup) = &self.cgroup
        {
            // Also those that are made meanwhile. What cannot be killed so is among the others.
            let _ = cgroup.kill();
        }
        for (pid, started) in others {
            let Ok(pidfd) = pidfd_open(pid) else { continue };
            // Looked at again: the id could have been given to another process before the pidfd was opened; and who is in the group has
            // had the signal.
            if stat(pid).is_some_and(|stat| stat.started == started && !self.is_in_group(&stat)) {
                let _ = pidfd_signal(pidfd.as_fd(), signal);
            }
        }
    }

    fn is_in_group(&self, stat: &ProcStat) -> bool {
        self.leader.is_some_and(|leader| stat.group == leader.as_raw())
    }

    /// The processes that are alive, without the main process, and when each was started.
    fn look(&mut self) -> Vec<(Pid, u64)> {
        let alive: HashMap<i32, ProcStat> = all_processes()
            .filter_map(|pid| Some((pid.as_raw(), stat(pid).filter(|stat| !stat.dead)?)))
            .collect();
        self.found
            .retain(|pid, started| alive.get(pid).is_some_and(|stat| stat.started == *started));
        let in_cgroup: HashSet<i32> = self.cgroup.iter().flat_map(|cgroup| cgroup.processes()).collect();
        let own = [Some(Pid::this()), getsid(None).ok()].map(|pid| pid.map_or(0, Pid::as_raw));
        let mut unknown: Vec<(i32, &ProcStat)> = alive
            .iter()
            .map(|(pid, stat)| (*pid, stat))
            .filter(|(pid, _)| *pid != own[0] && Some(*pid) != self.leader.map(Pid::as_raw))
            .filter(|(pid, _)| !self.found.contains_key(pid))
            .collect();
        let mut first = true;
        loop {
            let before = unknown.len();
            unknown.retain(|(pid, stat)| {
                let is_of_run = self.found.contains_key(&stat.parent)
                    || self.leader.is_some_and(|leader| stat.parent == leader.as_raw())
                    || self.is_in_group(stat)
                    || self.sessions.contains(&stat.session)
                    || (first && (in_cgroup.contains(pid) || self.has_mark(*pid)));
                if is_of_run {
                    self.found.insert(*pid, stat.started);
                    if stat.session == *pid && stat.session != own[1] {
                        self.sessions.insert(*pid);
                    }
                }
                !is_of_run
            });
            first = false;
            if unknown.len() == before {
                break;
            }
        }
        self.found
            .iter()
            .map(|(pid, started)| (Pid::from_raw(*pid), *started))
            .collect()
    }

    fn has_mark(&self, pid: i32) -> bool {
        if realtime_limit(Pid::from_raw(pid)) == Some(self.number) {
            return true;
        }
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        environment.split(|byte| *byte == 0).any(|entry| entry == self.variable)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A descendant that has neither group nor session nor environment of the run, and outlives its parent.
    #[test]
    fn who_was_found_once_is_followed() {
        let mut leader = Command::new("setsid");
        leader.args([
            "sh",
            "-c",
            "setsid env -i sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' & wait",
        ]);
        let mut leader = leader.stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(leader.id() as i32);
        let mut run = RunProcesses::new(pid, &RunMark::of_run("0".to_owned(), 0), None);
        eventually("the deaf one has a child", || run.others() == 2);
        run.signal(Signal::SIGTERM);
        leader.wait().unwrap();
        run.leader_is_gone();
        eventually("what listened is gone, and the deaf one has another child", || {
            run.others() == 2
        });
        run.signal(Signal::SIGKILL);
        eventually("all are gone", || run.others() == 0);
    }
}
