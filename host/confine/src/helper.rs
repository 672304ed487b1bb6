//! A helper: a process of the daemon's own that works on hostile input, and could do nothing if that took it over.
//!
//! It reaches no file, and finds none where root starts it, no network, no other process and no user's memory, and nobody reaches it. It
//! must not know what the input is.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, getgroups, getresgid, getresuid, setgid, setgroups, setuid};
use rustix::thread::CapabilitySet;

use super::filter::Filter;
use super::syscalls::{self, Purpose};
use super::{ConfineError, Confinement, helper_user, landlock, namespaces, privileges};

/// Why a process keeps rights that it should not have.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// A system call failed.
    #[error("{0}: {error}", error = .1.desc())]
    Call(&'static str, Errno),
    /// Every call succeeded, and still.
    #[error("it still has rights after giving them up")]
    Kept,
    /// Who is who cannot be found out.
    #[error("cannot read {0}: {1}")]
    Database(&'static str, #[source] io::Error),
    /// There is no user for it.
    #[error(
        "there is no user {} and no number that nobody has; make the user",
        super::HELPER_USER
    )]
    NoUser,
    /// It could not be confined.
    #[error(transparent)]
    Confine(#[from] ConfineError),
}

/// What a helper may use.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    /// Most address space, in bytes; none leaves it alone.
    pub memory: Option<u64>,
    /// Most processor time, in seconds.
    pub cpu: u64,
    /// Most open files.
    pub files: u64,
    /// Largest file that it may write, in bytes.
    pub file_size: u64,
    /// Most processes and threads of all helpers together; none leaves it alone.
    pub tasks: Option<u64>,
}

/// What a helper does, which is what its system calls have to suffice for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It interprets text.
    Interpreting,
    /// It compiles, with threads.
    Compiling,
    /// It calls a component that has no grants.
    Running,
}

/// Gives up everything but memory, system calls and what is open: it is a user that nobody else is, can open no file and no port, is out of
/// everybody's reach, and dies with its parent. Before it starts threads, which would keep what they have. [`give_up_system_calls`] is to
/// follow.
///
/// The order matters: limits need no rights but groups do, so they go before the user; the parent-death signal goes last because a change
/// of user clears it.
pub fn give_up_rights(resources: Resources) -> Result<(), RightsError> {
    let call = |what| move |errno| RightsError::Call(what, errno);
    // Should memory run out, it is to be this process, and not the daemon. Where that cannot be said, all are alike.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let limits = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_FSIZE, Some(resources.file_size)),
        (Resource::RLIMIT_NOFILE, Some(resources.files)),
        (Resource::RLIMIT_AS, resources.memory),
    ];
    for (resource, most) in limits {
        if let Some(most) = most {
            limit(resource, most).map_err(call("setrlimit"))?;
        }
    }
    limit_cpu(resources.cpu).map_err(call("setrlimit"))?;
    set_no_new_privs().map_err(call("no_new_privs"))?;
    if geteuid().is_root() {
        let user = own_user()?;
        // Where that is not allowed, as in a container, Landlock still keeps what files hold.
        let _ = namespaces::leave_all_files();
        become_user(user)?;
        if let Some(most) = resources.tasks {
            // Of this user: root's own would count all that the machine runs.
            limit(Resource::RLIMIT_NPROC, most).map_err(call("setrlimit"))?;
        }
    }
    privileges::keep_only(CapabilitySet::empty()).map_err(ConfineError::Capabilities)?;
    // Other helpers are the same user.
    set_dumpable(false).map_err(ConfineError::Dumpable)?;
    landlock::restrict(&Confinement::default()).map_err(ConfineError::Landlock)?;
    // Should the daemon be killed, this process must not run on: it may be in an endless loop.
    set_pdeathsig(Signal::SIGKILL).map_err(call("pdeathsig"))
}

/// Gives up all system calls but those that the work needs, in all threads that there are.
pub fn give_up_system_calls(work: Work) -> Result<(), ConfineError> {
    let purpose = match work {
        Work::Interpreting => Purpose::Interpreter,
        Work::Compiling => Purpose::Compiler,
        Work::Running => Purpose::Component,
    };
    Ok(Filter::compile(&syscalls::rules(purpose))?.install_for_all_threads()?)
}

/// Lowers a limit for good, to `most` or what it already is.
pub fn limit(resource: Resource, most: u64) -> Result<(), Errno> {
    let (_, hard) = getrlimit(resource)?;
    let most = most.min(hard);
    setrlimit(resource, most, most)
}

/// With a second until SIGKILL, so that the signal by which the process ends says why.
fn limit_cpu(seconds: u64) -> Result<(), Errno> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    setrlimit(Resource::RLIMIT_CPU, seconds.min(hard), (seconds + 1).min(hard))
}

/// The local databases alone: a server that knows of more users may not answer, and the user of helpers is none of its.
fn own_user() -> Result<(u32, u32), RightsError> {
    let read = |path| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // A container may have none, and then no users.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(RightsError::Database(path, error)),
    };
    helper_user::choose(&read("/etc/passwd")?, &read("/etc/group")?).ok_or(RightsError::NoUser)
}

fn become_user((uid, gid): (u32, u32)) -> Result<(), RightsError> {
    let call = |what| move |errno| RightsError::Call(what, errno);
    setgroups(&[]).map_err(call("setgroups"))?;
    setgid(Gid::from_raw(gid)).map_err(call("setgid"))?;
    setuid(Uid::from_raw(uid)).map_err(call("setuid"))?;
    let users = getresuid().map_err(call("getresuid"))?;
    let groups = getresgid().map_err(call("getresgid"))?;
    let others = getgroups().map_err(call("getgroups"))?;
    let users = [users.real, users.effective, users.saved];
    let groups = [groups.real, groups.effective, groups.saved];
    let is_it = users.iter().all(|user| user.as_raw() == uid) && groups.iter().all(|group| group.as_raw() == gid);
    if is_it && others.is_empty() {
        Ok(())
    } else {
        Err(RightsError::Kept)
    }
}
