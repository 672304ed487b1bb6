//! The helper process: compiles one component, or has one judge its configuration, with no rights and few resources.
//!
//! ```text
//! daemon ── Request ──▶ helper (stdin is a socket) ── Reply ──▶ daemon
//! ```
//!
//! Both ends bound what they read. A helper that does not answer in time is killed; nothing else depends on it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::compile::{self, CompileError};
use super::config_check;
use super::confine::HOST_MEMORY;
use twitcher_ipc::rights::{Resources, RightsError, become_nobody, limit};
use twitcher_model::{Compiled, EntryPoint, Grants, NATIVE_MAX, Target};

/// Most memory for compiling, in bytes.
const MEMORY_MAX: u64 = 6 << 30;
/// How long a component may take to compile: the largest that toolchains make take some ten seconds.
const COMPILE_TIME: Duration = Duration::from_secs(120);
/// How long a component may take to judge its configuration.
const CHECK_TIME: Duration = Duration::from_secs(5);
/// Most that a helper's complaints are read, in bytes.
const COMPLAINTS_MAX: u64 = 4096;

/// What the helper is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Compile { wasm: Vec<u8>, target: Option<Target> },
    Check { native: Vec<u8>, grants: Grants },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Compiled {
        native: Vec<u8>,
        entry: EntryPoint,
        checked: bool,
    },
    Checked(Result<(), Vec<String>>),
    Refused(String),
}

/// Why the helper gave no result.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The component is to blame.
    #[error("{0}")]
    Refused(String),
    /// It does not start, or cannot be talked to.
    #[error("cannot work with the process that compiles components: {0}")]
    Process(#[from] io::Error),
    /// It took too long.
    #[error("it took more than {} s to compile", .0.as_secs())]
    CompileTime(Duration),
    /// It took too long.
    #[error("its check took more than {} s", .0.as_secs())]
    CheckTime(Duration),
    /// It was killed, or gave up.
    #[error("the process that compiles it broke down: {0}")]
    Broken(String),
}

/// Compiles a component in a helper, which is `program compile`: for this machine, or for all machines of a target.
pub fn compile(program: &Path, wasm: Vec<u8>, target: Option<Target>) -> Result<Compiled, HelperError> {
    match ask(program, &Request::Compile { wasm, target }, COMPILE_TIME) {
        Ok(Reply::Compiled { native, entry, checked }) => Ok(Compiled { native, entry, checked }),
        Ok(Reply::Refused(why)) => Err(HelperError::Refused(why)),
        Ok(Reply::Checked(_)) => Err(nonsense().into()),
        Err(HelperError::Process(error)) if is_timeout(&error) => Err(HelperError::CompileTime(COMPILE_TIME)),
        Err(error) => Err(error),
    }
}

/// Has a component judge its configuration in a helper. The inner error is what it says.
pub fn check(program: &Path, native: Vec<u8>, grants: &Grants) -> Result<Result<(), Vec<String>>, HelperError> {
    let grants = grants.clone();
    match ask(program, &Request::Check { native, grants }, CHECK_TIME) {
        Ok(Reply::Checked(verdict)) => Ok(verdict),
        Ok(Reply::Refused(why)) => Err(HelperError::Refused(why)),
        Ok(Reply::Compiled { .. }) => Err(nonsense().into()),
        Err(HelperError::Process(error)) if is_timeout(&error) => Err(HelperError::CheckTime(CHECK_TIME)),
        Err(error) => Err(error),
    }
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// A helper that is killed when it is no longer needed.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only if it has been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(program: &Path, request: &Request, time: Duration) -> Result<Reply, HelperError> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(program)
        .arg("compile")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut helper = Helper(child);
    let mut stream = Timed {
        stream: ours,
        deadline: Instant::now() + time,
    };
    let answer = send(&mut stream, request).and_then(|()| receive(&mut stream, NATIVE_MAX));
    match answer {
        Ok(Some(reply)) => Ok(reply),
        Err(error) if !is_gone(&error) => Err(error.into()),
        Ok(None) | Err(_) => Err(HelperError::Broken(cause_of_death(&mut helper.0))),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}

fn cause_of_death(child: &mut Child) -> String {
    let _ = child.kill();
    let status = child.wait();
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(COMPLAINTS_MAX).read_to_string(&mut said);
    }
    let first: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(2)
        .collect();
    match status {
        _ if said.contains("memory allocation of") => "it needs too much memory".to_owned(),
        Ok(status) if status.signal() == Some(Signal::SIGXCPU as i32) => "it needs too much time".to_owned(),
        Ok(status) => format!("{status}: {}", first.join(" ")),
        Err(error) => error.to_string(),
    }
}

/// A stream that gives up at a moment, however much comes until then.
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message with its length in front, in eight bytes, little-endian.
fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut bytes = postcard::to_extend(message, vec![0; 8]).map_err(|_| nonsense())?;
    let length = bytes.len() as u64 - 8;
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&bytes)
}

fn receive<T: DeserializeOwned>(stream: &mut impl Read, max: usize) -> io::Result<Option<T>> {
    let mut head = [0; 8];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u64::from_le_bytes(head);
    if length > max as u64 {
        return Err(nonsense());
    }
    let mut body = Vec::new();
    if stream.take(length).read_to_end(&mut body)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&body).map(Some).map_err(|_| nonsense())
}

/// The main function of `twitcher compile`: does one thing that it is asked on its stdin, a socket. Returns the exit code.
pub fn serve() -> i32 {
    match answer() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// Why the helper itself gives up.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot give up rights: {0}")]
    Rights(#[from] RightsError),
    #[error("cannot talk to the daemon: {0}")]
    Talk(#[from] io::Error),
}

/// Processor time for what may take so long, in seconds. More, so that the daemon, which can say what took too long, is first.
fn cpu(time: Duration) -> u64 {
    time.as_secs() + 5
}

fn answer() -> Result<(), ServeError> {
    let resources = Resources {
        memory: None,
        cpu: cpu(COMPILE_TIME),
        files: 64,
        // A component's memory begins as a file of its own, which has no name.
        file_size: 1 << 30,
    };
    become_nobody(resources)?;
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let Some(request) = receive(&mut stream, NATIVE_MAX)? else {
        return Ok(());
    };
    let reply = match request {
        Request::Compile { wasm, target } => {
            limit(Resource::RLIMIT_AS, MEMORY_MAX).map_err(io::Error::from)?;
            compile::compile(&wasm, target).map_or_else(refused, |compiled| Reply::Compiled {
                native: compiled.native,
                entry: compiled.entry,
                checked: compiled.checked,
            })
        }
        // Its memory is reserved, not used: a limit of the address space would end it at once. The code is here twice, and received.
        Request::Check { native, grants } => {
            let code = 3 * native.len() as u64;
            let memory = grants.memory.saturating_add(HOST_MEMORY).saturating_add(code);
            limit(Resource::RLIMIT_DATA, memory).map_err(io::Error::from)?;
            limit(Resource::RLIMIT_CPU, cpu(CHECK_TIME)).map_err(io::Error::from)?;
            config_check::validate(&native, grants)
                .map_or_else(|error| Reply::Refused(error.to_string()), Reply::Checked)
        }
    };
    Ok(send(&mut stream, &reply)?)
}

fn refused(error: CompileError) -> Reply {
    Reply::Refused(error.to_string())
}
