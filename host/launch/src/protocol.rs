//! Messages between the daemon and the launcher, one datagram each.
//!
//! Both ends treat the other as hostile: sizes are bounded, descriptors are counted, what does not decode is refused.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use twitcher_ipc::datagram::{Datagram, receive, send};
use twitcher_model::{FunctionAction, Resource, WasmAction};
pub use twitcher_sandbox::WasmTask;

mod request;

pub use request::{
    Head, Kind, OwnTask, OwnText, Page, ProcessSetup, ProgramText, Received, Request, Text, Wiped, send_request,
};

/// What a process does once it is set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// Executes a program; one without a slash is looked up in the PATH of the request's environment.
    Exec(Vec<String>),
    /// Runs a function of the configuration in the process itself.
    Function(FunctionAction),
    /// Runs a component in the process itself, in the sandbox. Its native code and its channel to the daemon come as descriptors.
    Wasm(Box<WasmTask>),
    /// The same up to the call: the process waits until it is handed what that is for.
    Wait(Arc<WasmAction>),
    /// Puts what is on stdin into this file.
    Write(Arc<Path>),
}

/// Says what became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The process exists, and leads a session of its own. Sent by the process itself before it is set up any further; if the launcher waits for
    /// it to execute its program, where it wakes nobody.
    Started {
        /// Of the request.
        seq: u64,
        /// Its process id.
        pid: i32,
    },
    /// The process could not be made, or could not be set up; in the latter case it exits with [`SETUP_FAILED`].
    Failed {
        /// Of the request.
        seq: u64,
        /// The step that failed.
        step: Step,
        /// Its error number.
        errno: i32,
    },
    /// A process that the launcher waited for has executed its program, or ended: what it said is there to be read.
    Executed,
}

/// Exit code of a process that reported [`Reply::Failed`]. A program may use it too: only the reply tells.
pub const SETUP_FAILED: i32 = 127;

/// The steps from a request to a running program, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The request could be read.
    Decode,
    /// The process was cloned.
    Clone,
    /// It is in the run's cgroup.
    Cgroup,
    /// It leads a session and a process group of its own.
    Session,
    /// Signal dispositions and mask were reset.
    Signals,
    /// Its standard streams are in place.
    Stdio,
    /// It has mounts of its own: some read-only, others empty.
    Mounts,
    /// A resource limit was set.
    Limit(Resource),
    /// Supplementary groups were set.
    Groups,
    /// The group was changed.
    Gid,
    /// The user was changed.
    Uid,
    /// The working directory was entered.
    Chdir,
    /// Capabilities were given up.
    Capabilities,
    /// No program that is executed adds to its rights.
    NoNewPrivs,
    /// No other descriptor is inherited.
    Descriptors,
    /// The component's native code was loaded.
    Load,
    /// The program was executed.
    Exec,
}

/// The first message to a launcher: what it needs besides the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The soft and the hard limit of open files, which actions inherit. The daemon has raised its own when it starts a second launcher.
    pub open_files: (u64, u64),
    /// The same of the size of core dumps, of which the daemon itself makes none.
    pub core: (u64, u64),
}

/// What its bytes begin with: the launcher is another process, and perhaps of another version should the program have been replaced.
const SETUP: &[u8] = b"twitcher launcher 8";

/// What a launcher gets with its setup.
#[derive(Debug)]
pub struct Equipment {
    /// A socket on which processes say that they have started, should nobody be woken for it.
    pub births: OwnedFd,
    /// The journal, if there is one.
    pub journal: Option<OwnedFd>,
}

/// Tells the launcher what it needs to know, and hands over its end of the socket for births, and the journal. Must come before any request.
pub fn send_setup(
    socket: BorrowedFd<'_>,
    setup: &Setup,
    births: BorrowedFd<'_>,
    journal: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let body = postcard::to_extend(setup, SETUP.to_vec()).map_err(|_| Errno::EMSGSIZE)?;
    let fds: Vec<_> = [births].into_iter().chain(journal).collect();
    send(socket, &body, &fds)
}

/// Receives what [`send_setup`] sends; `EBADMSG` for anything else, `None` at the end of the stream.
pub fn receive_setup(socket: BorrowedFd<'_>) -> io::Result<Option<(Setup, Equipment)>> {
    let Some(Datagram { body, fds, cut }) = receive(socket)? else {
        return Ok(None);
    };
    let setup = body
        .strip_prefix(SETUP)
        .and_then(|rest| postcard::from_bytes(rest).ok());
    let mut fds = fds.into_iter();
    match (setup, fds.next(), fds.next(), fds.next()) {
        (Some(setup), Some(births), journal, None) if !cut => Ok(Some((setup, Equipment { births, journal }))),
        _ => Err(Errno::EBADMSG.into()),
    }
}

/// Sends a reply without allocating: a freshly cloned process does this.
pub fn send_reply(socket: BorrowedFd<'_>, reply: Reply) -> io::Result<()> {
    let mut buffer = [0u8; 64];
    let used = postcard::to_slice(&reply, &mut buffer).map_err(|_| Errno::EMSGSIZE)?;
    send(socket, used, &[])
}

/// Receives a reply; `None` at the end of the stream, `Err(EBADMSG)` if it does not decode.
pub fn receive_reply(socket: BorrowedFd<'_>) -> io::Result<Option<Reply>> {
    match receive(socket)? {
        None => Ok(None),
        Some(Datagram { body, cut: false, .. }) => Ok(Some(postcard::from_bytes(&body).map_err(|_| Errno::EBADMSG)?)),
        Some(_) => Err(Errno::EBADMSG.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn replies_round_trip_and_garbage_is_refused() {
        let (ours, theirs) = pair();
        let replies = [
            Reply::Started {
                seq: u64::MAX,
                pid: i32::MAX,
            },
            Reply::Failed {
                seq: 1,
                step: Step::Limit(Resource::Nofile),
                errno: 2,
            },
        ];
        for reply in replies {
            send_reply(theirs.as_fd(), reply).unwrap();
            assert_eq!(receive_reply(ours.as_fd()).unwrap(), Some(reply));
        }
        send(theirs.as_fd(), b"\xff\xff", &[]).unwrap();
        assert!(receive_reply(ours.as_fd()).is_err());
    }
}
