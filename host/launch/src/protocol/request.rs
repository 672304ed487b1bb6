//! What the launcher is asked for, as the daemon says it and as it travels: in two parts.
//!
//! The head is what the launcher itself needs to know. It holds nothing of what a configuration says: no argument, no variable, no value.
//! The text is all the rest. That of a program is read into memory that is wiped once the program runs, and is never copied from there:
//! [`ProgramText`] borrows. That of what runs in a copy of the launcher's memory travels in a memory file, which that copy reads. So a
//! process has in its memory what is its own, and nothing that other processes were asked for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{Task, WasmTask};
use crate::journal::JournalEntry;
use twitcher_files::system::DEFAULT_PATH;
use twitcher_ipc::datagram::{BODY_MAX, receive_into, send};
use twitcher_ipc::memfd;
use twitcher_model::{Digest, EntryPoint, FunctionAction, Hardening, Limit, WasmAction};

/// Largest text of a request, in bytes: it holds no znode data, but may hold the text of a configuration file. What is too large for a
/// datagram travels in a memory file.
const TEXT_MAX: usize = 64 * 1024 * 1024;

/// Asks the launcher to start a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the daemon; answers carry it.
    pub seq: u64,
    /// What the process is to do.
    pub task: Task,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// How it is set up.
    pub setup: ProcessSetup,
    /// Whether the process may share the launcher's memory until it executes its program: faster, but the launcher waits until then.
    pub may_share_memory: bool,
    /// Whether the run has a cgroup of its own, whose directory is the last descriptor. One that has none becomes the parent of what its
    /// processes leave behind, so that they can be told from those of others.
    pub in_cgroup: bool,
}

/// How a process is set up before it does what it is for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessSetup {
    /// User id to change to.
    pub uid: Option<u32>,
    /// Group id to change to.
    pub gid: Option<u32>,
    /// Supplementary groups to set.
    pub groups: Option<Vec<u32>>,
    /// File mode creation mask.
    pub umask: u32,
    /// By what it, and whatever comes from it, is known: the number of a `RunMark`.
    pub mark: u64,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// What a program is kept from besides.
    pub hardening: Hardening,
    /// What the process writes into the journal.
    pub journal: Option<JournalEntry>,
}

/// What the launcher itself reads of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of the request.
    pub seq: u64,
    /// What kind of a process it asks for.
    pub kind: Kind,
    /// Of the request.
    pub may_share_memory: bool,
    /// Of the request.
    pub in_cgroup: bool,
    /// Whether the text is in a memory file, the last descriptor of all. Else it follows.
    in_file: bool,
}

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// It executes a program.
    Program,
    /// It runs a function of the configuration.
    Function,
    /// It writes a file.
    Writer,
    /// It runs this component.
    Component {
        /// SHA-256 of the component.
        digest: Digest,
        /// How it is entered.
        entry: EntryPoint,
    },
}

impl Kind {
    /// How many descriptors come with it before that of a cgroup: stdin, stdout and stderr; for a component also its native code and its
    /// channel.
    pub fn descriptors(self) -> usize {
        match self {
            Kind::Program | Kind::Function | Kind::Writer => 3,
            Kind::Component { .. } => 5,
        }
    }
}

impl Head {
    fn descriptors(&self) -> usize {
        self.kind.descriptors() + usize::from(self.in_cgroup) + usize::from(self.in_file)
    }
}

/// The text of a request for a program: each string ends in a NUL, as system calls take it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramText<'a> {
    /// What to try to execute, in order.
    #[serde(borrow)]
    pub candidates: Vec<&'a str>,
    /// Its arguments, the first of which names it.
    #[serde(borrow)]
    pub argv: Vec<&'a str>,
    /// `NAME=VALUE`.
    #[serde(borrow)]
    pub env: Vec<&'a str>,
    /// Working directory.
    pub cwd: &'a str,
    /// How the process is set up.
    pub setup: ProcessSetup,
}

/// The text of a request for what runs in a copy of the launcher's memory, read by that copy.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnText {
    /// What it is to do.
    pub task: OwnTask,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// How the process is set up.
    pub setup: ProcessSetup,
}

/// What runs in a copy of the launcher's memory.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum OwnTask {
    /// A function of the configuration.
    Function(FunctionAction),
    /// A component.
    Component(Box<WasmTask>),
    /// A component that waits for its call.
    Wait(Arc<WasmAction>),
    /// Putting what is on stdin into this file.
    Write(Arc<Path>),
}

/// A request that came, of which only the head was read.
#[derive(Debug)]
pub struct Received<'a> {
    /// The head.
    pub head: Head,
    /// The text.
    pub text: Text<'a>,
    /// The descriptors but that of the text, all close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Where a text is.
#[derive(Debug)]
pub enum Text<'a> {
    /// In the page that was received into.
    Here(&'a [u8]),
    /// In a memory file.
    File(OwnedFd),
}

/// Where requests are received, one after the other.
#[derive(Debug)]
pub struct Page(Zeroizing<Vec<u8>>);

impl Default for Page {
    fn default() -> Self {
        Self(Zeroizing::new(vec![0; BODY_MAX]))
    }
}

impl Page {
    /// Forgets what was received.
    pub fn wipe(&mut self) {
        self.0.as_mut_slice().zeroize();
    }

    /// Receives a request; `None` at the end of the stream. One that does not decode is its sequence number, 0 if even that is missing.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<Result<Received<'_>, u64>>> {
        let Some(mut arrived) = receive_into(socket, &mut self.0)? else {
            return Ok(None);
        };
        let bytes = &self.0[..arrived.used];
        let Ok((head, rest)) = postcard::take_from_bytes::<Head>(bytes) else {
            return Ok(Some(Err(seq_of(bytes))));
        };
        let refused = Ok(Some(Err(head.seq)));
        if arrived.cut || arrived.fds.len() != head.descriptors() {
            return refused;
        }
        let text = match (head.in_file, arrived.fds.pop_if(|_| head.in_file)) {
            (false, None) if head.kind == Kind::Program => Text::Here(rest),
            (true, Some(file)) if rest.is_empty() => Text::File(file),
            _ => return refused,
        };
        let fds = arrived.fds;
        Ok(Some(Ok(Received { head, text, fds })))
    }
}

/// The sequence number is what a head begins with.
fn seq_of(bytes: &[u8]) -> u64 {
    postcard::take_from_bytes(bytes).map_or(0, |(seq, _)| seq)
}

/// A text in memory that is wiped when it goes.
#[derive(Debug)]
pub enum Wiped<'a> {
    /// In the page that was received into, which its owner wipes.
    Here(&'a [u8]),
    /// What was in a memory file.
    Copy(Zeroizing<Vec<u8>>),
}

impl<'a> Text<'a> {
    /// Its bytes.
    pub fn read(self) -> io::Result<Wiped<'a>> {
        Ok(match self {
            Text::Here(bytes) => Wiped::Here(bytes),
            Text::File(file) => {
                let (file, length) = memfd::sealed_file(file, TEXT_MAX)?;
                Wiped::Copy(read_exactly(file, length)?)
            }
        })
    }
}

/// Into memory of that size: where a vector has grown, it leaves behind what it held.
fn read_exactly(mut file: File, length: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Wiped<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Wiped::Here(bytes) => bytes,
            Wiped::Copy(bytes) => bytes,
        }
    }

    /// What it says, of a program. Borrowed, so that nothing of it is anywhere else.
    pub fn program(&self) -> Option<ProgramText<'_>> {
        postcard::from_bytes(self.bytes()).ok()
    }

    /// What it says, of what runs in the process that reads it.
    pub fn own(&self) -> Option<OwnText> {
        postcard::from_bytes(self.bytes()).ok()
    }
}

/// Sends a request with the descriptors that it is about: those of its [`Kind`], and that of its cgroup. `EAGAIN` when the launcher is behind.
pub fn send_request(socket: BorrowedFd<'_>, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let (kind, text) = encode(request)?;
    if text.len() > TEXT_MAX {
        return Err(Errno::EMSGSIZE.into());
    }
    let head = |in_file| {
        let head = Head {
            seq: request.seq,
            kind,
            may_share_memory: request.may_share_memory,
            in_cgroup: request.in_cgroup,
            in_file,
        };
        postcard::to_stdvec(&head).map_err(|_| Errno::EMSGSIZE)
    };
    let mut message = head(false)?;
    if kind == Kind::Program && message.len() + text.len() <= BODY_MAX {
        message.extend_from_slice(&text);
        return send(socket, &message, fds);
    }
    let file = memfd::sealed(c"twitcher-request", &text)?;
    send(socket, &head(true)?, &[fds, &[file.as_fd()]].concat())
}

fn encode(request: &Request) -> io::Result<(Kind, Vec<u8>)> {
    let own = |task| OwnText {
        task,
        env: request.env.clone(),
        cwd: request.cwd.clone(),
        setup: request.setup.clone(),
    };
    let (kind, text) = match &request.task {
        Task::Exec(argv) => (Kind::Program, encode_program(argv, request)),
        Task::Function(action) => {
            let text = own(OwnTask::Function(action.clone()));
            (Kind::Function, postcard::to_stdvec(&text))
        }
        Task::Write(path) => {
            let text = own(OwnTask::Write(Arc::clone(path)));
            (Kind::Writer, postcard::to_stdvec(&text))
        }
        Task::Wasm(task) => {
            let text = own(OwnTask::Component(task.clone()));
            (component(&task.action), postcard::to_stdvec(&text))
        }
        Task::Wait(action) => {
            let text = own(OwnTask::Wait(Arc::clone(action)));
            (component(action), postcard::to_stdvec(&text))
        }
    };
    Ok((kind, text.map_err(|_| Errno::EMSGSIZE)?))
}

fn component(action: &WasmAction) -> Kind {
    let (digest, entry) = (action.component.digest, action.component.entry);
    Kind::Component { digest, entry }
}

fn encode_program(argv: &[String], request: &Request) -> postcard::Result<Vec<u8>> {
    let terminated = |text: &String| format!("{text}\0");
    let path = request.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    let candidates: Vec<_> = argv.first().map_or_else(Vec::new, |program| candidates(program, path));
    let argv: Vec<_> = argv.iter().map(terminated).collect();
    let env: Vec<_> = request
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}\0"))
        .collect();
    let cwd = terminated(&request.cwd);
    fn borrowed(texts: &[String]) -> Vec<&str> {
        texts.iter().map(String::as_str).collect()
    }
    postcard::to_stdvec(&ProgramText {
        candidates: borrowed(&candidates),
        argv: borrowed(&argv),
        env: borrowed(&env),
        cwd: &cwd,
        setup: request.setup.clone(),
    })
}

/// What to try to execute, in order.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![format!("{program}\0")];
    }
    // An empty entry would mean the working directory, which may be writable by anyone: it is skipped.
    path.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| format!("{dir}/{program}\0"))
        .collect()
}

#[cfg(test)]
mod tests;
