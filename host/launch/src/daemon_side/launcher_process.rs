//! The launcher process now in service, and the daemon's end of its socket.
//!
//! It must not know what runs: it starts the process, sends nothing and keeps nothing between replies.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::daemon_side::polled::{forget_readiness, polled};
use crate::daemon_side::queue::LaunchError;
use crate::journal::Journal;
use crate::protocol::{Reply, Setup, receive_reply, send_setup};
use twitcher_process::cgroup::CgroupTree;
use twitcher_process::pidfd_open;

/// A launcher process with the daemon's end of its socket.
#[derive(Debug)]
pub struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) child: Child,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) cgroups: Option<Arc<CgroupTree>>,
    setup: Setup,
    socket: OwnedFd,
    /// What processes say here wakes nobody: the launcher, which waits for them, says when it is to be read.
    births: OwnedFd,
}

impl Launcher {
    /// Starts a launcher: `program` with `arguments`, which must call [`crate::launcher_main`]. Call it before the process has
    /// threads or has raised its limits, which actions would inherit. The launcher is killed when the calling thread ends.
    pub fn spawn(program: &Path, arguments: &[&str]) -> Result<Self, LaunchError> {
        Self::spawn_with(program, arguments, None, None)
    }

    /// The same, with a journal in which the processes of runs write themselves down, and cgroups for them.
    pub fn spawn_with(
        program: &Path,
        arguments: &[&str],
        journal: Option<Journal>,
        cgroups: Option<CgroupTree>,
    ) -> Result<Self, LaunchError> {
        let at = |step| move |source: io::Error| LaunchError::Start { step, source };
        prctl::set_child_subreaper(true).map_err(|e| at("become the reaper of orphaned processes")(e.into()))?;
        let open_files =
            getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| at("read the limit of open files")(e.into()))?;
        let core = getrlimit(Resource::RLIMIT_CORE).map_err(|e| at("read the limit of core dumps")(e.into()))?;
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let (journal, cgroups) = (journal.map(Arc::new), cgroups.map(Arc::new));
        Self::exec(
            program.to_owned(),
            arguments,
            journal,
            cgroups,
            Setup { open_files, core },
        )
        .map_err(at("execute"))
    }

    /// Another one like this. What it and its actions inherit is the same, whatever this process has changed for itself since.
    pub(crate) fn again(&self) -> io::Result<Self> {
        let (journal, cgroups) = (self.journal.clone(), self.cgroups.clone());
        Self::exec(
            self.program.clone(),
            self.arguments.clone(),
            journal,
            cgroups,
            self.setup.clone(),
        )
    }

    fn exec(
        program: PathBuf,
        arguments: Vec<String>,
        journal: Option<Arc<Journal>>,
        cgroups: Option<Arc<CgroupTree>>,
        setup: Setup,
    ) -> io::Result<Self> {
        let (ours, theirs) = socket_pair()?;
        let (births, their_births) = socket_pair()?;
        // The socket travels as stdin: a descriptor that need not be made inheritable, so that no other child can get it.
        let child = Program::new(&program)
            .args(&arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .spawn()?;
        let journal_fd = journal.as_ref().map(|journal| journal.fd());
        match send_setup(ours.as_fd(), &setup, their_births.as_fd(), journal_fd) {
            // It died already; whoever watches it will notice.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
        Ok(Self {
            program,
            arguments,
            child,
            journal,
            cgroups,
            setup,
            socket: ours,
            births,
        })
    }

    /// The cgroup controllers that runs can be limited by.
    pub fn controllers(&self) -> Vec<&'static str> {
        self.cgroups
            .as_ref()
            .map_or_else(Vec::new, |cgroups| cgroups.controllers().to_vec())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Ours, which does not block, and the launcher's.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

/// The launcher now in service.
pub(crate) struct LauncherLink {
    pub(crate) launcher: Launcher,
    /// A duplicate for the poller.
    pub(crate) socket: AsyncFd<OwnedFd>,
    pub(crate) pidfd: AsyncFd<OwnedFd>,
    pub(crate) since: Instant,
    pub(crate) deaths: u32,
    pub(crate) sending: Sending,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

impl LauncherLink {
    pub(crate) fn new(launcher: Launcher) -> io::Result<Self> {
        let pidfd = pidfd_open(Pid::from_raw(launcher.pid() as i32))?;
        let socket = launcher.socket.try_clone()?;
        Ok(Self {
            socket: polled(socket, Interest::READABLE | Interest::WRITABLE)?,
            pidfd: polled(pidfd, Interest::READABLE)?,
            launcher,
            since: Instant::now(),
            deaths: 0,
            sending: Sending::Ready,
            closed: false,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.launcher.socket.as_fd()
    }

    /// From now on nothing can be said to us. What was said before can still be read.
    pub(crate) fn hang_up(&self) -> io::Result<()> {
        shutdown(self.launcher.births.as_raw_fd(), Shutdown::Read)?;
        Ok(shutdown(self.fd().as_raw_fd(), Shutdown::Read)?)
    }

    /// The next birth that was told of without waking anybody, if there is one.
    pub(crate) fn birth(&self) -> Option<Reply> {
        receive_reply(self.launcher.births.as_fd()).ok().flatten()
    }

    /// The next reply, if there is one. Does not ask tokio whether there is: a process says that it failed before it exits, so after
    /// its exit the message is here, told of or not.
    pub(crate) fn reply(&self) -> io::Result<Option<Reply>> {
        let result = receive_reply(self.fd());
        if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            forget_readiness(&self.socket, Interest::READABLE);
        }
        result
    }
}

/// Whether requests can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// They can.
    Ready,
    /// When the socket is writable again.
    Full,
    /// The launcher is dead, and its pidfd is about to say so. The socket counts as writable all the time.
    Broken,
}
