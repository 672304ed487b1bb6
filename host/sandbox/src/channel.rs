//! What a running component and the daemon say to each other: frames on a stream socket of their own.
//!
//! The process of a component may be taken over by the component: to the daemon, every byte from it is hostile. The daemon holds
//! the grants itself and checks what is asked against them; nothing said here widens them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use serde::{Deserialize, Serialize};

use twitcher_ipc::datagram;
use twitcher_ipc::frames::{Format, Frames};
use twitcher_model::{ComponentFailure, Grants, MissingGrant, Stat, ZnodePath};

/// Largest frame, in bytes: the data of a znode, or the output of a command, with room for the rest.
pub const FRAME_MAX: usize = 4 << 20;
/// What both ends say.
pub const FORMAT: Format = Format::postcard(FRAME_MAX);
/// Longest message of a log line or of a failure, in bytes; what is longer is cut.
pub const TEXT_MAX: usize = 8 << 10;
/// Most fields of a log line.
pub const FIELDS_MAX: usize = 32;

/// From the component's process to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAction {
    /// A line for the log.
    Log {
        /// Its level.
        level: Level,
        /// What it says.
        message: String,
        /// More about it.
        fields: Vec<(String, String)>,
    },
    /// The component tried what it is not granted.
    Denied(Denied),
    /// Runs a command; answered by [`ToAction::Command`].
    Command {
        /// As the operator named it.
        name: String,
        /// To be appended to the operator's.
        args: Vec<String>,
        /// What it reads.
        stdin: Vec<u8>,
    },
    /// Uses a znode; answered by [`ToAction::Znode`].
    Znode(ZnodeRequest),
    /// How the call ended, what it took, and what the process has held. Nothing follows: whoever hears it ends the process, should it not be on
    /// its way already.
    CallEnd(CallEnd, Timing, Held),
    /// All that can be done before the call is done, and it waits for it. Nothing comes before this.
    Waits(Waits),
}

/// What a process that waits to be called was made with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waits {
    /// Device and inode of each directory that it was granted, in the order of the grants.
    pub dirs: Vec<(u64, u64)>,
}

/// What a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Until the component could be called: opening its grants, and making an instance.
    pub instantiate: Duration,
    /// The call itself.
    pub call: Duration,
}

/// What a process has held, by its own account: what the kernel says is known only when its memory has been taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// Its largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// Page faults served without I/O.
    pub minor_faults: u64,
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the levels of every log")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What a component tried without being granted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    /// To connect to an address, `host:port`.
    Net(String),
    /// To send a request to an origin.
    Http(String),
    /// To resolve a name.
    Name(String),
    /// To have so much memory in all, in bytes; told when a call fails after that.
    Memory {
        /// What it would have had.
        asked: u64,
        /// What it may have.
        granted: u64,
    },
    /// To make a TCP socket, while nothing of the network is granted.
    Socket,
    /// To make a UDP socket. Nothing allows it.
    Datagrams,
    /// To bind a socket to an address of its own choice, or listen there. Nothing allows it.
    Listen(String),
    /// To open a bucket of `wasi:keyvalue`, by the name that the component has for it.
    Bucket(String),
    /// To find a directory, where none is granted; told when a call fails after that.
    Directory,
    /// To change what is in a directory that is granted read-only, by the path at which the component has it.
    ReadOnly(String),
}

impl Denied {
    /// What was tried.
    pub fn what(&self) -> String {
        match self {
            Denied::Net(address) => format!("connecting to {address}"),
            Denied::Http(origin) => format!("a request to {origin}"),
            Denied::Name(name) => format!("resolving {name}"),
            Denied::Memory { asked, granted } => {
                format!(
                    "growing its memory to {} MiB, of {} MiB",
                    asked.div_ceil(1 << 20),
                    granted >> 20
                )
            }
            Denied::Socket => "making a TCP socket".to_owned(),
            Denied::Datagrams => "making a UDP socket".to_owned(),
            Denied::Listen(address) => format!("listening on {address}"),
            Denied::Bucket(name) => format!("opening the bucket {name:?}"),
            Denied::Directory => "finding a directory, for none is granted".to_owned(),
            Denied::ReadOnly(dir) => format!("changing what is in {dir:?}, which is read-only"),
        }
    }

    /// What would allow it, if anything, beside these grants.
    pub fn missing(&self, granted: &Grants) -> Option<MissingGrant> {
        match self {
            Denied::Net(address) => MissingGrant::net(address),
            Denied::Http(origin) => MissingGrant::http(origin),
            Denied::Name(name) => MissingGrant::name(name),
            Denied::Memory { asked, granted } => MissingGrant::memory(*asked, *granted),
            Denied::Socket => Some(MissingGrant::socket()),
            Denied::Bucket(name) => MissingGrant::bucket(name),
            Denied::Directory => Some(MissingGrant::any_directory()),
            Denied::ReadOnly(guest) => {
                let dir = granted.dirs.iter().find(|dir| dir.guest == *guest)?;
                Some(MissingGrant::to_change(dir))
            }
            Denied::Datagrams | Denied::Listen(_) => None,
        }
    }
}

/// An operation on a znode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the package twitcher:action")]
pub enum ZnodeRequest {
    Get {
        path: String,
    },
    Children {
        path: String,
    },
    Set {
        path: String,
        data: Vec<u8>,
        expect_version: Option<i32>,
    },
    Create {
        path: String,
        data: Vec<u8>,
    },
    /// Creates one that is empty and is to have children.
    CreateParent {
        path: String,
    },
    /// Deletes one that has no children.
    Delete {
        path: String,
    },
}

impl ZnodeRequest {
    /// The node it is about, as the component wrote it.
    pub fn path(&self) -> &str {
        match self {
            Self::Get { path }
            | Self::Children { path }
            | Self::Set { path, .. }
            | Self::Create { path, .. }
            | Self::CreateParent { path }
            | Self::Delete { path } => path,
        }
    }

    /// The node it is about, if that is a path.
    pub fn znode(&self) -> Option<ZnodePath> {
        ZnodePath::new(self.path()).ok()
    }
}

/// How the call of a component ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallEnd {
    /// It did its work.
    Success,
    /// A program's exit code.
    Code(u8),
    /// It says that it failed, or WebAssembly ended it.
    Failed(ComponentFailure, String),
    /// It was never called.
    NotCalled {
        /// What was attempted, for example `open directory /srv/out`.
        step: String,
        /// Why it failed.
        errno: i32,
    },
}

/// From the daemon to the component's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAction {
    /// It is to stop soon.
    Cancel(Reason),
    /// What became of a command.
    Command(Result<CommandOutput, CommandFailure>),
    /// What became of an operation on a znode.
    Znode(Result<ZnodeReply, ZnodeFailure>),
}

/// Why a component is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// There is newer state.
    Superseded,
    /// Its time is up.
    Timeout,
    /// The daemon stops.
    Shutdown,
}

/// How a command ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// Exit code; none if it died by a signal.
    pub code: Option<i32>,
    /// The signal it died by.
    pub signal: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    /// Whether it wrote more than is kept.
    pub truncated: bool,
}

/// Why a command did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandFailure {
    /// It is not granted; says what to add to the configuration.
    Denied(String),
    /// It could not be started.
    Failed(String),
    /// Its time was up.
    TimedOut,
    /// The run it belongs to is being ended.
    Cancelled,
}

/// What an operation on a znode gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZnodeReply {
    /// Of a get.
    Data(Vec<u8>, Stat),
    /// Of children.
    Children(Vec<String>),
    /// Of a set.
    Set(Stat),
    /// Of a create.
    Created,
    /// Of a delete.
    Deleted,
}

/// Why an operation on a znode did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the package twitcher:action")]
pub enum ZnodeFailure {
    NoNode,
    NodeExists,
    BadVersion,
    Denied(String),
    TooLarge,
    SessionLost,
    UnknownOutcome,
    Failed(String),
}

/// The component's end, for what needs no answer. Without a socket nobody listens.
#[derive(Debug, Clone)]
pub struct Speaker(Option<Arc<OwnedFd>>);

impl Speaker {
    /// Says something. An error means that the daemon has gone, or takes this process for an impostor.
    pub fn say(&self, message: &FromAction) -> io::Result<()> {
        let Some(socket) = &self.0 else {
            return Ok(());
        };
        let frame = FORMAT.frame(message)?;
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match send(socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// The component's end. It blocks: the process has nothing else to do while it waits.
#[derive(Debug)]
pub struct Channel {
    speaker: Speaker,
    frames: Frames,
    cancelled: Option<Reason>,
}

impl Channel {
    /// Over a stream socket. Without one nobody listens, and nothing that needs an answer is granted.
    pub fn new(socket: Option<OwnedFd>) -> Self {
        Self {
            speaker: Speaker(socket.map(Arc::new)),
            frames: Frames::new(FORMAT),
            cancelled: None,
        }
    }

    /// Waits for the one message that a process is handed before its call: a byte, and these descriptors. `None` if nobody will send it any
    /// more.
    pub(super) fn handed<const N: usize>(&self) -> io::Result<Option<[OwnedFd; N]>> {
        let Some(socket) = &self.speaker.0 else {
            return Ok(None);
        };
        // No more than that byte: what is told during the call may be behind it already.
        let Some(arrived) = datagram::receive_into(socket.as_fd(), &mut [0])? else {
            return Ok(None);
        };
        let fds = arrived.fds.try_into();
        fds.map(Some).map_err(|_| Errno::EBADMSG.into())
    }

    /// The half of it that can be shared.
    pub fn speaker(&self) -> Speaker {
        self.speaker.clone()
    }

    /// Says something. An error means that the daemon has gone, or takes this process for an impostor.
    pub fn say(&self, message: &FromAction) -> io::Result<()> {
        self.speaker.say(message)
    }

    /// Says something and waits for the answer. A word to stop may come first; it is kept.
    pub fn ask(&mut self, message: &FromAction) -> io::Result<ToAction> {
        if self.speaker.0.is_none() {
            let why = || "nothing but the configuration is at hand while it is checked".to_owned();
            return Ok(match message {
                FromAction::Znode(_) => ToAction::Znode(Err(ZnodeFailure::Denied(why()))),
                _ => ToAction::Command(Err(CommandFailure::Denied(why()))),
            });
        }
        self.say(message)?;
        loop {
            while let Some(message) = self.frames.take()? {
                match message {
                    ToAction::Cancel(reason) => self.cancelled = Some(reason),
                    answer => return Ok(answer),
                }
            }
            if !self.receive(MsgFlags::empty())? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether the component is to stop. Does not wait.
    pub fn cancelled(&mut self) -> Option<Reason> {
        while let Ok(true) = self.receive(MsgFlags::MSG_DONTWAIT) {}
        while let Ok(Some(message)) = self.frames.take() {
            if let ToAction::Cancel(reason) = message {
                self.cancelled = Some(reason);
            }
        }
        self.cancelled
    }

    /// Whether anything came.
    fn receive(&mut self, flags: MsgFlags) -> io::Result<bool> {
        let Some(socket) = &self.speaker.0 else {
            return Ok(false);
        };
        let mut buffer = [0; 4096];
        loop {
            match recv(socket.as_raw_fd(), &mut buffer, flags) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(false),
                Ok(length) => {
                    self.frames.push(&buffer[..length]);
                    return Ok(true);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// A text of at most `max` bytes, cut between characters.
pub fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_word_to_stop_that_comes_before_an_answer_is_kept() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(Some(ours.into()));
        assert_eq!(channel.cancelled(), None);
        let mut daemon = Frames::new(FORMAT);
        let said = [
            ToAction::Cancel(Reason::Superseded),
            ToAction::Znode(Err(ZnodeFailure::NoNode)),
        ];
        for message in &said {
            io::Write::write_all(&mut &theirs, &FORMAT.frame(message).unwrap()).unwrap();
        }
        let question = FromAction::Znode(ZnodeRequest::Get { path: "/a".into() });
        assert_eq!(channel.ask(&question).unwrap(), said[1]);
        assert_eq!(channel.cancelled(), Some(Reason::Superseded));
        let mut bytes = [0; 100];
        let length = (&theirs).read(&mut bytes).unwrap();
        daemon.push(&bytes[..length]);
        assert_eq!(daemon.take::<FromAction>().unwrap(), Some(question));
        drop(theirs);
        assert!(channel.ask(&FromAction::Denied(Denied::Name("a".into()))).is_err());
    }
}
