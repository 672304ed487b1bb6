//! Giving up rights and resources for good, in a helper process that works on hostile input.
//!
//! It must not know what the input is.

use nix::errno::Errno;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, getgroups, getresuid, setgid, setgroups, setuid};

/// The user and group that own nothing.
const NOBODY: u32 = 65534;

/// Why a process keeps rights that it should not have.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// A system call failed.
    #[error("{0}: {error}", error = .1.desc())]
    Call(&'static str, Errno),
    /// Every call succeeded, and still.
    #[error("it still has rights after giving them up")]
    Kept,
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
}

/// Becomes a process that owns nothing, and dies with its parent. The order matters: limits need no rights but
/// groups do, so they go before the user; the parent-death signal goes last because a change of user clears it.
pub fn become_nobody(resources: Resources) -> Result<(), RightsError> {
    let call = |what| move |errno| RightsError::Call(what, errno);
    // Should memory run out, it is to be this process, and not the daemon. Where that cannot be said, all are alike.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let limits = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_FSIZE, Some(resources.file_size)),
        (Resource::RLIMIT_NOFILE, Some(resources.files)),
        (Resource::RLIMIT_AS, resources.memory),
        (Resource::RLIMIT_CPU, Some(resources.cpu)),
    ];
    for (resource, most) in limits {
        if let Some(most) = most {
            limit(resource, most).map_err(call("setrlimit"))?;
        }
    }
    set_no_new_privs().map_err(call("no_new_privs"))?;
    if geteuid().is_root() {
        setgroups(&[]).map_err(call("setgroups"))?;
        setgid(Gid::from_raw(NOBODY)).map_err(call("setgid"))?;
        setuid(Uid::from_raw(NOBODY)).map_err(call("setuid"))?;
        let ids = getresuid().map_err(call("getresuid"))?;
        let groups = getgroups().map_err(call("getgroups"))?;
        let ids = [ids.real, ids.effective, ids.saved];
        if ids.iter().any(|uid| uid.as_raw() != NOBODY) || !groups.is_empty() {
            return Err(RightsError::Kept);
        }
    }
    // Should the daemon be killed, this process must not run on: it may be in an endless loop.
    set_pdeathsig(Signal::SIGKILL).map_err(call("pdeathsig"))
}

/// Lowers a limit for good, to `most` or what it already is.
pub fn limit(resource: Resource, most: u64) -> Result<(), Errno> {
    let (_, hard) = getrlimit(resource)?;
    let most = most.min(hard);
    setrlimit(resource, most, most)
}
