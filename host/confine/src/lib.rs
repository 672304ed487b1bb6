//! Giving up rights for good: what a process may still do that works on what others have made, should they get to run code in it.
//!
//! Two kinds of processes do. That of a component is the user's that its watch names, and reaches what it was granted: WASI decides what a
//! component reaches, and this ([`Confinement`]) what native code does, if a bug in the compiler or in the host's functions lets it run some.
//! A [`helper`] compiles, or evaluates, for the daemon: it reaches nothing, and is a user that nobody else is.
//!
//! Namespaces in which there is nothing hide what Landlock would deny, and what no file system rule looks at ([`namespaces`]). Landlock limits the
//! files and the ports, seccomp the system calls. None can be taken back, so they come after everything that needs more: user and group are set, a component's code is mapped, the async runtime is built.
//!
//! Nothing here forks, starts threads or knows what runs. The filters for components are compiled once, before the first clone
//! ([`Filters`]): the child then only makes the system calls that install one.

#![forbid(unsafe_code)]

mod filter;
pub mod helper;
mod helper_user;
mod landlock;
pub mod namespaces;
mod privileges;
mod syscalls;

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::prctl;
use rustix::thread::CapabilitySet;
use thiserror::Error;

use self::filter::Filter;
pub use self::helper_user::HELPER_USER;
use self::namespaces::Namespaces;
use self::syscalls::Purpose;

/// Why a process could not be confined. It must then end without running anything.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// The table of system calls needs more code than jumps reach over: a mistake of the program, found by its tests.
    #[error("the seccomp filter is too large: {0} instructions")]
    FilterTooLarge(usize),
    /// It could not enter the namespaces that were made for it.
    #[error("cannot enter empty namespaces: {0}")]
    Namespaces(#[source] Errno),
    /// The process could be given privileges by a program it executes.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivs(#[source] Errno),
    /// The process would be more than its user: it kept capabilities that no grant needs.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[source] Errno),
    /// Other processes of its user could read its memory.
    #[error("cannot make the process undumpable: {0}")]
    Dumpable(#[source] Errno),
    /// The kernel has Landlock, and refused the rules.
    #[error("cannot restrict files and ports with Landlock: {0}")]
    Landlock(#[from] ::landlock::RulesetError),
    /// The kernel has no seccomp filters, or refused this one.
    #[error("cannot install the seccomp filter: {0}")]
    Seccomp(#[from] seccompiler::Error),
}

/// The seccomp filters, compiled. Made once, by the process that clones the ones to confine.
#[derive(Debug)]
pub struct Filters {
    without_network: Filter,
    with_tcp: Filter,
}

impl Filters {
    /// Takes well under a millisecond.
    pub fn compile() -> Result<Self, ConfineError> {
        Ok(Self {
            without_network: Filter::compile(&syscalls::rules(Purpose::Component))?,
            with_tcp: Filter::compile(&syscalls::rules(Purpose::ComponentWithTcp))?,
        })
    }
}

/// What a component that runs as root keeps for the directories that it was granted: whose the files there are does not matter then.
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// The version of Landlock, by its ABI, from which on it limits ports and not only files. Linux 6.7 has it.
pub const LANDLOCK_WITH_PORTS: i32 = 4;

/// The version of Landlock that is put into force here, by its ABI; `None` where the kernel has it not or has it turned off. Without it the
/// user's rights and the first layer alone guard files and ports.
pub fn landlock_version() -> Option<i32> {
    // Tried in a thread, which is all that it restricts, and which ends.
    let tried = std::thread::Builder::new().spawn(|| {
        prctl::set_no_new_privs().ok()?;
        landlock::restrict(&Confinement::default()).ok()?
    });
    tried.ok()?.join().ok()?
}

/// A directory that a confined process may use, with all that is beneath it.
#[derive(Debug, Clone, Copy)]
pub struct Dir<'a> {
    /// The directory; opened with `O_PATH` is enough.
    pub fd: BorrowedFd<'a>,
    /// Whether it may also be changed: files and directories made, written, renamed, removed.
    pub writable: bool,
}

/// What a process may still do once it is confined, besides computing and using the descriptors it has.
///
/// Files are named by descriptors, and the process itself opens them after its user is set. So the rules are for the very
/// directories that the component gets, whatever happens to their names meanwhile; nobody's links are followed with root's
/// rights; and a file system that hangs holds up one run rather than the launcher.
#[derive(Debug, Clone, Copy, Default)]
pub struct Confinement<'a> {
    /// Directories.
    pub dirs: &'a [Dir<'a>],
    /// Ports to which it may connect by TCP, over IPv4 and IPv6. None: it cannot even create a socket. Which hosts, the kernel
    /// cannot say: that is for the first layer.
    pub tcp_ports: &'a [u16],
    /// Where it goes on, the directories above having been opened before; none where they cannot be had. With a port it stays in the network
    /// that it is in.
    pub namespaces: Option<&'a Namespaces>,
}

/// What was put into force. All else in this module always is, or there is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The version of Landlock, by its ABI; `None` where the kernel has it not or has it turned off, and then the user's rights
    /// and the first layer alone guard files and ports. Ports are limited from 4 on, signals and abstract Unix sockets from 6 on
    /// (seccomp allows neither in any case).
    pub landlock: Option<i32>,
}

impl Confinement<'_> {
    /// Confines the calling thread, which must be the only one of its process, for good.
    ///
    /// Before it: set the user; map all code (nothing can be mapped executable afterwards); build the tokio runtime (it creates a
    /// socket pair for signals); open the directories. After it threads cannot be started: run blocking file operations in place
    /// (`WasiCtxBuilder::allow_blocking_current_thread`).
    pub fn apply(&self, filters: &Filters) -> Result<Applied, ConfineError> {
        if let Some(namespaces) = self.namespaces {
            let keep_network = !self.tcp_ports.is_empty();
            namespaces.enter(keep_network).map_err(ConfineError::Namespaces)?;
        }
        // Without it the two others are refused to all but root.
        prctl::set_no_new_privs().map_err(ConfineError::NoNewPrivs)?;
        let kept = match self.dirs {
            [] => CapabilitySet::empty(),
            _ => FILE_CAPABILITIES,
        };
        privileges::keep_only(kept).map_err(ConfineError::Capabilities)?;
        // What was in memory before the user was set is nothing for other processes of that user.
        prctl::set_dumpable(false).map_err(ConfineError::Dumpable)?;
        let landlock = landlock::restrict(self)?;
        // Last, as it denies all of the above.
        let filter = match self.tcp_ports {
            [] => &filters.without_network,
            _ => &filters.with_tcp,
        };
        filter.install()?;
        Ok(Applied { landlock })
    }
}
