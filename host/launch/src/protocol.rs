//! Messages between the daemon and the launcher, one datagram each.
//!
//! Both ends treat the other as hostile: sizes are bounded, descriptors are counted, what does not decode is refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::journal::JournalEntry;
use twitcher_ipc::datagram::{BODY_MAX, Datagram, receive, send};
use twitcher_ipc::memfd;
use twitcher_model::{ChangeFacts, FunctionAction, Limit, Resource, WasmAction};
use twitcher_sandbox::Reach;

/// Largest request of all, in bytes: it holds no znode data, but may hold the text of a configuration file. One that is too large for a
/// datagram travels in a memfd.
const MAX_REQUEST: usize = 64 * 1024 * 1024;
/// Length of the part of a message that says which it is, and all of it that is inline when the rest travels in a memfd.
const HEAD: usize = 8;

/// Asks the launcher to start a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon; answers carry it.
    pub seq: u64,
    /// What the process is to do.
    pub task: Task,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// User id to change to.
    pub uid: Option<u32>,
    /// Group id to change to.
    pub gid: Option<u32>,
    /// Supplementary groups to set.
    pub groups: Option<Vec<u32>>,
    /// Working directory.
    pub cwd: String,
    /// File mode creation mask.
    pub umask: u32,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Whether the process may share the launcher's memory until it executes its program: faster, but the launcher waits until then.
    pub may_share_memory: bool,
    /// What the process writes into the journal.
    pub journal: Option<JournalEntry>,
    /// Whether the run has a cgroup of its own, whose directory is the last descriptor. One that has none becomes the parent of what its
    /// processes leave behind, so that they can be told from those of others.
    pub in_cgroup: bool,
}

impl Request {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        self.task.descriptors() + usize::from(self.in_cgroup)
    }
}

/// What a process does once it is set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// Executes a program; one without a slash is looked up in the PATH of the request's environment.
    Exec(Vec<String>),
    /// Runs a function of the configuration in the process itself.
    Function(FunctionAction),
    /// Runs a component in the process itself, in the sandbox.
    Wasm(Box<WasmTask>),
}

impl Task {
    /// How many descriptors come with it, before that of a cgroup: stdin, stdout and stderr; for a component also its native code and its
    /// channel.
    pub fn descriptors(&self) -> usize {
        match self {
            Task::Exec(_) | Task::Function(_) => 3,
            Task::Wasm(_) => 5,
        }
    }
}

/// A component to run, with what it is told of the change. Its native code and its channel to the daemon come as descriptors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WasmTask {
    /// The component and its grants.
    pub action: Arc<WasmAction>,
    /// What it is told.
    pub change: ChangeFacts,
    /// Where what it is granted of the network is; found out by [`super::Launches`].
    pub reach: Reach,
}

/// Says what became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The process exists, and leads a session of its own. Sent by the process itself before it is set up any further.
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
    /// No other descriptor is inherited.
    Descriptors,
    /// The component's native code was loaded.
    Load,
    /// The program was executed.
    Exec,
}

/// A message that came, with its descriptors.
pub struct Received<T> {
    /// The message; `Err` is its sequence number (0 if even that is missing) when it does not decode.
    pub message: Result<T, u64>,
    /// Its descriptors, all close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// The first message to a launcher: what it needs besides the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The soft and the hard limit of open files, which actions inherit. The daemon has raised its own when it starts a second launcher.
    pub open_files: (u64, u64),
}

/// What its bytes begin with: the launcher is another process, and perhaps of another version should the program have been replaced.
const SETUP: &[u8] = b"twitcher launcher 3";

/// Tells the launcher what it needs to know, and hands the journal over. Must come before any request.
pub fn send_setup(socket: BorrowedFd<'_>, setup: &Setup, journal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let body = postcard::to_extend(setup, SETUP.to_vec()).map_err(|_| Errno::EMSGSIZE)?;
    send(socket, &body, journal.as_slice())
}

/// Receives what [`send_setup`] sends; `EBADMSG` for anything else, `None` at the end of the stream.
pub fn receive_setup(socket: BorrowedFd<'_>) -> io::Result<Option<(Setup, Option<OwnedFd>)>> {
    let Some(Datagram { body, fds, cut }) = receive(socket)? else {
        return Ok(None);
    };
    let setup = body
        .strip_prefix(SETUP)
        .and_then(|rest| postcard::from_bytes(rest).ok());
    match setup.filter(|_| !cut && fds.len() <= 1) {
        Some(setup) => Ok(Some((setup, fds.into_iter().next()))),
        None => Err(Errno::EBADMSG.into()),
    }
}

/// Sends a request with the descriptors that [`Request::descriptors`] tells. `EAGAIN` when the launcher is behind.
pub fn send_request(socket: BorrowedFd<'_>, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = encode(request.seq, request)?;
    if body.len() <= BODY_MAX {
        return send(socket, &body, fds);
    }
    let large = memfd::sealed(c"twitcher-request", &body)?;
    send(socket, &body[..HEAD], &[fds, &[large.as_fd()]].concat())
}

/// Receives a request; `None` at the end of the stream.
pub fn receive_request(socket: BorrowedFd<'_>) -> io::Result<Option<Received<Request>>> {
    let Some(Datagram { mut body, mut fds, cut }) = receive(socket)? else {
        return Ok(None);
    };
    if cut {
        let message = Err(seq_of(&body));
        return Ok(Some(Received { message, fds }));
    }
    if body.len() == HEAD
        && let Some(large) = fds.pop()
    {
        body = memfd::read_all(large, MAX_REQUEST)?;
    }
    let seq = seq_of(&body);
    let message = decode(&body).and_then(|request| match request.descriptors() == fds.len() {
        true => Ok(request),
        false => Err(seq),
    });
    Ok(Some(Received { message, fds }))
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

// The sequence number stands in front of the encoded message, so that it can be answered even when the rest does not decode.
fn encode(seq: u64, message: &Request) -> io::Result<Vec<u8>> {
    let head = seq.to_le_bytes().to_vec();
    let body = postcard::to_extend(message, head).map_err(|_| Errno::EMSGSIZE)?;
    if body.len() > MAX_REQUEST {
        Err(Errno::EMSGSIZE.into())
    } else {
        Ok(body)
    }
}

fn decode(body: &[u8]) -> Result<Request, u64> {
    let seq = seq_of(body);
    let rest = body.get(HEAD..).ok_or(seq)?;
    postcard::from_bytes::<Request>(rest)
        .ok()
        .filter(|request| request.seq == seq)
        .ok_or(seq)
}

fn seq_of(body: &[u8]) -> u64 {
    body.first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn request(argument: usize) -> Request {
        Request {
            seq: 7,
            task: Task::Exec(vec!["/bin/echo".into(), "x".repeat(argument)]),
            env: vec![("A".into(), "b".into())],
            uid: Some(1),
            gid: None,
            groups: Some(vec![1, 2]),
            cwd: "/".into(),
            umask: 0o22,
            limits: vec![Limit {
                resource: Resource::Core,
                soft: 0,
                hard: u64::MAX,
            }],
            may_share_memory: true,
            journal: None,
            in_cgroup: false,
        }
    }

    #[test]
    fn requests_of_any_size_arrive_whole_with_their_descriptors() {
        let (ours, theirs) = pair();
        let null = File::open("/dev/null").unwrap();
        for size in [0, BODY_MAX, 5_000_000] {
            send_request(ours.as_fd(), &request(size), &[null.as_fd(); 3]).unwrap();
            let got = receive_request(theirs.as_fd()).unwrap().unwrap();
            assert_eq!(got.message, Ok(request(size)));
            assert_eq!(got.fds.len(), 3);
        }
    }

    #[test]
    fn garbage_is_refused_but_answerable() {
        let (ours, theirs) = pair();
        for (body, seq) in [
            (&b"\x05"[..], 0),
            (b"\x05\0\0\0\0\0\0\0\xff\xff\xff\xff", 5),
            (&[9u8; 2_000], 0x0909_0909_0909_0909),
        ] {
            send(ours.as_fd(), body, &[]).unwrap();
            assert_eq!(receive_request(theirs.as_fd()).unwrap().unwrap().message, Err(seq));
        }
        let long = [1; BODY_MAX + 1];
        nix::sys::socket::send(ours.as_raw_fd(), &long, MsgFlags::empty()).unwrap();
        assert_eq!(
            receive_request(theirs.as_fd()).unwrap().unwrap().message,
            Err(0x0101_0101_0101_0101),
            "a cut message"
        );
        // A request without its descriptors, and one with a writable body that could change while it is read.
        send(ours.as_fd(), &encode(7, &request(1)).unwrap(), &[]).unwrap();
        assert_eq!(receive_request(theirs.as_fd()).unwrap().unwrap().message, Err(7));
        drop(ours);
        assert!(
            receive_request(theirs.as_fd()).unwrap().is_none(),
            "the end of the stream"
        );
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
