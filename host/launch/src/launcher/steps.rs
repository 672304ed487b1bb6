//! The ordered steps of a process, from its clone to where it does what it is for. System calls alone: it may share the launcher's memory.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource as Rlimit, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getpid, setgroups, setresgid, setresuid, setsid,
};

use crate::journal::JournalRecord;
use crate::launcher::clone::{self, Born};
use crate::launcher::hardening::Walls;
use crate::launcher::spawn::Parent;
use crate::protocol::{ProcessSetup, Reply, SETUP_FAILED, Step, send_reply};
use twitcher_confine::namespaces;
use twitcher_model::{Limit, Resource};

/// A step that failed, with its error number.
pub type SpawnFailure = (Step, Errno);

/// What every process has from its launcher.
pub struct Frame {
    /// Of the request.
    pub seq: u64,
    /// Its standard streams.
    pub stdio: [OwnedFd; 3],
    /// The directory of the run's cgroup.
    pub cgroup: Option<OwnedFd>,
    /// The launcher waits for it to execute its program, and says so then: until that, whoever is woken is in its way.
    pub waited_for: bool,
}

/// A [`ProcessSetup`] in the form that system calls take.
pub struct Settings {
    umask: Mode,
    mark: u64,
    limits: Vec<Limit>,
    uid: Option<Uid>,
    gid: Option<Gid>,
    groups: Option<Vec<Gid>>,
    draft: Option<JournalRecord>,
    walls: Walls,
    /// Whether the process keeps what it takes to enter namespaces.
    pub enters_namespaces: bool,
}

impl Settings {
    /// Allocates, so it comes before a clone that shares memory.
    pub fn new(setup: ProcessSetup, launcher: &Parent<'_>) -> Self {
        let groups = setup.groups;
        Self {
            umask: Mode::from_bits_truncate(setup.umask),
            mark: setup.mark,
            limits: setup.limits,
            uid: setup.uid.map(Uid::from_raw),
            gid: setup.gid.map(Gid::from_raw),
            groups: groups.map(|groups| groups.into_iter().map(Gid::from_raw).collect()),
            draft: launcher.pen.zip(setup.journal).map(|(pen, entry)| pen.draft(&entry)),
            walls: Walls::new(&setup.hardening),
            enters_namespaces: false,
        }
    }
}

impl Frame {
    /// Says that the process could not be set up. Returns its exit code, which says as much should nobody hear of it.
    pub fn failed(&self, launcher: &Parent<'_>, (step, errno): SpawnFailure) -> c_int {
        let (seq, errno) = (self.seq, errno as i32);
        let _ = send_reply(launcher.channel, Reply::Failed { seq, step, errno });
        SETUP_FAILED
    }

    /// From the clone to where only the process's own task is left to do. Fails with its exit code.
    pub fn start(&self, born: Born, settings: &Settings, cwd: &CStr, launcher: &Parent<'_>) -> Result<(), c_int> {
        // Who is told that the process started may signal its group, and must find it in its cgroup.
        self.leave_launcher(born)
            .map_err(|failure| self.failed(launcher, failure))?;
        // Whoever is told that the process started also finds it written down. Should this fail, the daemon still hears of the process
        // and remembers it, only later.
        if let (Some(pen), Some(draft)) = (launcher.pen, &settings.draft) {
            let _ = pen.write(draft);
        }
        // Without this message the daemon would take the request for one that was never carried out: then it must not be.
        let (seq, pid) = (self.seq, getpid().as_raw());
        let to = if self.waited_for {
            launcher.births
        } else {
            launcher.channel
        };
        send_reply(to, Reply::Started { seq, pid }).map_err(|_| SETUP_FAILED)?;
        if let Some(pen) = launcher.pen {
            pen.put_down();
        }
        self.set_up(settings, cwd, launcher.ignored)
            .map_err(|failure| self.failed(launcher, failure))
    }

    fn leave_launcher(&self, born: Born) -> Result<(), SpawnFailure> {
        let at = |step| move |errno| (step, errno);
        if let (Some(cgroup), Born::InParents) = (&self.cgroup, born) {
            clone::join(cgroup).map_err(at(Step::Cgroup))?;
        }
        setsid().map_err(at(Step::Session))?;
        if self.cgroup.is_none() {
            // Whatever loses its parent becomes a child of this process, so that it is found when the run is ended.
            prctl::set_child_subreaper(true).map_err(at(Step::Session))?;
        }
        Ok(())
    }

    /// Their order matters: signals that were held back since the clone come first; limits and mounts need root; groups need root and so come
    /// before the user; the directory is entered with the rights of the user, who may not be allowed in.
    fn set_up(&self, settings: &Settings, cwd: &CStr, ignored: &[c_int]) -> Result<(), SpawnFailure> {
        let at = |step| move |errno| (step, errno);
        reset_signals(ignored).map_err(at(Step::Signals))?;
        self.place_stdio().map_err(at(Step::Stdio))?;
        umask(settings.umask);
        set_mark(settings.mark).map_err(at(Step::Session))?;
        for limit in &settings.limits {
            setrlimit(rlimit(limit.resource), limit.soft, limit.hard).map_err(at(Step::Limit(limit.resource)))?;
        }
        settings.walls.before_user()?;
        if let Some(groups) = &settings.groups {
            setgroups(groups).map_err(at(Step::Groups))?;
        }
        if let Some(gid) = settings.gid {
            setresgid(gid, gid, gid).map_err(at(Step::Gid))?;
        }
        if let Some(uid) = settings.uid {
            if settings.enters_namespaces {
                namespaces::keep_capabilities().map_err(at(Step::Uid))?;
            }
            setresuid(uid, uid, uid).map_err(at(Step::Uid))?;
            if settings.enters_namespaces && !uid.is_root() {
                namespaces::keep_needed().map_err(at(Step::Uid))?;
            }
            // Fail closed: from here on, root must be out of reach.
            if !uid.is_root() && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
                return Err((Step::Uid, Errno::EPERM));
            }
            // The administrator may have told the kernel what a change of user makes of this.
            prctl::set_dumpable(false).map_err(at(Step::Uid))?;
        }
        chdir(cwd).map_err(at(Step::Chdir))?;
        // After the directory: root may need a capability to get there.
        settings.walls.after_user(settings.uid.is_none_or(Uid::is_root))?;
        // Whatever was left open by mistake closes when the program is executed; the channel must stay until then.
        close_range(3, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC).map_err(at(Step::Descriptors))
    }

    fn place_stdio(&self) -> nix::Result<()> {
        // The launcher keeps 0, 1 and 2 occupied, so none of the three sources is one of them, and each duplicate is inherited.
        let [stdin, stdout, stderr] = &self.stdio;
        dup2_stdin(stdin.as_fd())?;
        dup2_stdout(stdout.as_fd())?;
        dup2_stderr(stderr.as_fd())
    }
}

/// Puts the mark on this process and all that come from it, by which they are found when the run is ended.
fn set_mark(mark: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Rlimit::RLIMIT_RTTIME)?;
    // Where somebody has limited it to less, that counts: there are other ways to find who left the group, only not as sure.
    match mark <= hard {
        true => setrlimit(Rlimit::RLIMIT_RTTIME, mark, hard),
        false => Ok(()),
    }
}

/// Undoes what exec keeps: ignored signals (handlers it resets by itself) and the mask.
fn reset_signals(ignored: &[c_int]) -> nix::Result<()> {
    for signal in ignored {
        // SAFETY: SIG_DFL runs no code.
        #[allow(unsafe_code)]
        let previous = unsafe { libc::signal(*signal, libc::SIG_DFL) };
        if previous == libc::SIG_ERR {
            return Err(Errno::last());
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

pub(crate) fn close_range(first: c_int, last: c_int, flags: u32) -> nix::Result<()> {
    // SAFETY: with CLOEXEC nothing is closed now; without it, what runs afterwards uses no descriptor of the range (see the callers).
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    Errno::result(result).map(drop)
}

fn rlimit(resource: Resource) -> Rlimit {
    match resource {
        Resource::As => Rlimit::RLIMIT_AS,
        Resource::Core => Rlimit::RLIMIT_CORE,
        Resource::Cpu => Rlimit::RLIMIT_CPU,
        Resource::Data => Rlimit::RLIMIT_DATA,
        Resource::Fsize => Rlimit::RLIMIT_FSIZE,
        Resource::Memlock => Rlimit::RLIMIT_MEMLOCK,
        Resource::Nofile => Rlimit::RLIMIT_NOFILE,
        Resource::Nproc => Rlimit::RLIMIT_NPROC,
        Resource::Stack => Rlimit::RLIMIT_STACK,
    }
}
