//! From a request to a process: who reads what of it, and the clone.
//!
//! It must not know the daemon, and no child may return into the launcher's code.

use std::ffi::c_int;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use crate::journal::JournalWriter;
use crate::launcher::Bodies;
use crate::launcher::clone::{self, Born, Side};
use crate::launcher::interrupt;
use crate::launcher::namespaces::EmptyNamespaces;
use crate::launcher::own_code::OwnCode;
use crate::launcher::program::Program;
use crate::launcher::steps::{Frame, SpawnFailure};
use crate::launcher::vfork::ChildStack;
use crate::protocol::{Kind, Received, Step};
use twitcher_sandbox::LoadedCode;

/// What a clone takes over from the launcher.
pub struct Parent<'a> {
    /// The launcher's end of the socket.
    pub channel: BorrowedFd<'a>,
    /// On which a process says that it has started if the launcher waits for it.
    pub births: BorrowedFd<'a>,
    /// With which processes write themselves down.
    pub pen: Option<&'a JournalWriter>,
    /// What processes run that are not programs of their own.
    pub bodies: &'a Bodies,
    /// The signals that the launcher ignores.
    pub ignored: &'a [c_int],
    /// For processes that share its memory; none where that is not safe.
    pub stack: Option<&'a ChildStack>,
    /// Where components' processes go on.
    pub namespaces: &'a EmptyNamespaces,
}

/// Starts the process that is asked for.
pub fn spawn(received: Received<'_>, components: &mut LoadedCode, launcher: &Parent<'_>) -> Result<(), SpawnFailure> {
    let undecodable = (Step::Decode, Errno::EBADMSG);
    let Received { head, text, fds } = received;
    let mut fds = fds.into_iter();
    let mut fd = || fds.next().ok_or(undecodable);
    let stdio = [fd()?, fd()?, fd()?];
    let component = match head.kind {
        Kind::Program | Kind::Function | Kind::Writer => None,
        Kind::Component { digest, entry } => {
            let ready = components.get(digest, entry, fd()?).map_err(|error| {
                // The reply has room for a number alone.
                say(&format!("twitcher launcher: component {digest}: {error}\n"));
                (Step::Load, Errno::ENOEXEC)
            })?;
            interrupt::know(ready.engine());
            Some((ready, fd()?))
        }
    };
    let frame = Frame {
        seq: head.seq,
        stdio,
        cgroup: if head.in_cgroup { Some(fd()?) } else { None },
        waited_for: false,
    };
    match head.kind {
        Kind::Program => {
            let text = text.read().map_err(|_| undecodable)?;
            let program = text.program().ok_or(undecodable)?;
            Program::new(frame, program, launcher)?.spawn(head.may_share_memory, launcher)
        }
        Kind::Function | Kind::Writer | Kind::Component { .. } => OwnCode { frame, text, component }.spawn(launcher),
    }
}

/// Says something on standard error if it has room: perhaps nobody reads it, and to wait would be to start nothing any more.
pub fn say(text: &str) {
    let stderr = io::stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // Where there is room at all there is as much as this.
    let text = &text.as_bytes()[..text.len().min(libc::PIPE_BUF)];
    if poll(&mut room, PollTimeout::ZERO).is_ok() && room[0].revents() == Some(PollFlags::POLLOUT) {
        let _ = write(&stderr, text);
    }
}

/// Clones a process with a copy of the launcher's memory, which runs `child` and ends with the code that it returns.
pub fn fork(cgroup: Option<&OwnedFd>, child: impl FnMut(Born) -> c_int) -> nix::Result<()> {
    // SAFETY: the launcher has one thread, so no lock is held by a thread that the child lacks.
    #[allow(unsafe_code)]
    match unsafe { clone::copy(cgroup) }? {
        Side::Parent => Ok(()),
        Side::Child(born) => {
            // Not dropped: what it owns may be closed by then.
            let mut child = ManuallyDrop::new(child);
            exit_now(run_to_end(|| child(born)))
        }
    }
}

/// Nothing may unwind into the launcher's loop.
pub fn run_to_end(child: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(child)).unwrap_or(101)
}

/// Ends the process without running what the launcher had registered to run at its own exit.
fn exit_now(code: c_int) -> ! {
    use std::io::Write;
    // What a function printed; there is nobody left to tell of an error.
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes any code and does not return.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code)
    }
}
