//! The helper process: compiles one component, or has one judge its configuration, with no rights and few resources.
//!
//! ```text
//! daemon ── Request ──▶ helper (stdin is a socket) ── Reply ──▶ daemon
//! ```
//!
//! A helper that does not answer in time is killed; nothing else depends on it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::compile::{self, CompileError};
use super::config_check;
use super::confine::HOST_MEMORY;
use twitcher_ipc::frames::Format;
use twitcher_ipc::helper::{Death, ExchangeError, Helper, socket_of_helper};
use twitcher_ipc::rights::{Resources, RightsError, become_nobody, limit};
use twitcher_model::{Compiled, EntryPoint, Grants, NATIVE_MAX, Target};

/// Most memory for compiling, in bytes.
const MEMORY_MAX: u64 = 6 << 30;
/// How long a component may take to compile: the largest that toolchains make take some ten seconds.
const COMPILE_TIME: Duration = Duration::from_secs(120);
/// How long a component may take to judge its configuration.
const CHECK_TIME: Duration = Duration::from_secs(5);
/// Messages to the helper and from it.
const FORMAT: Format = Format::postcard(NATIVE_MAX);

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
    let request = Request::Compile { wasm, target };
    match ask(program, &request, COMPILE_TIME, HelperError::CompileTime)? {
        Reply::Compiled { native, entry, checked } => Ok(Compiled { native, entry, checked }),
        Reply::Refused(why) => Err(HelperError::Refused(why)),
        Reply::Checked(_) => Err(nonsense()),
    }
}

/// Has a component judge its configuration in a helper. The inner error is what it says.
pub fn check(program: &Path, native: Vec<u8>, grants: &Grants) -> Result<Result<(), Vec<String>>, HelperError> {
    let grants = grants.clone();
    let request = Request::Check { native, grants };
    match ask(program, &request, CHECK_TIME, HelperError::CheckTime)? {
        Reply::Checked(verdict) => Ok(verdict),
        Reply::Refused(why) => Err(HelperError::Refused(why)),
        Reply::Compiled { .. } => Err(nonsense()),
    }
}

fn nonsense() -> HelperError {
    HelperError::Process(io::ErrorKind::InvalidData.into())
}

/// Starts a helper for one request. If it has not answered in `time`, that is the error that `too_slow` makes of it.
fn ask(
    program: &Path,
    request: &Request,
    time: Duration,
    too_slow: fn(Duration) -> HelperError,
) -> Result<Reply, HelperError> {
    let mut helper = Helper::start(program, "compile", FORMAT, FORMAT)?;
    let deadline = Instant::now() + time;
    let sent = helper.send(request, deadline);
    sent.and_then(|()| helper.receive(deadline))
        .map_err(|error| match error {
            ExchangeError::TimedOut => too_slow(time),
            ExchangeError::Gone => HelperError::Broken(verdict(&helper.cause_of_death())),
            ExchangeError::Channel(error) => HelperError::Process(error),
        })
}

fn verdict(death: &Death) -> String {
    if death.said("memory allocation of") {
        return "it needs too much memory".to_owned();
    }
    match death.signal() {
        Some(Signal::SIGXCPU) => "it needs too much time".to_owned(),
        _ => death.to_string(),
    }
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
    let mut daemon = socket_of_helper()?;
    let Some(request) = FORMAT.read(&mut daemon)? else {
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
    Ok(FORMAT.write(&mut daemon, &reply)?)
}

fn refused(error: CompileError) -> Reply {
    Reply::Refused(error.to_string())
}
