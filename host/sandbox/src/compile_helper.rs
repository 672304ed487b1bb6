//! Two helper processes, with no rights ([`twitcher_confine::helper`]) and few resources, each for one component: the first compiles it, the
//! second has it judge its configuration.
//!
//! ```text
//! daemon ── Request ──▶ compile (stdin is a socket) ── Compiled ──▶ daemon
//! daemon ── Check ────▶ judge   (stdin is a socket) ── Checked ───▶ daemon
//! ```
//!
//! They are two because what the first says is run by processes that have rights, and the second runs the component. One that does not answer
//! in time is killed; nothing else depends on it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::compile;
use super::config_check;
use super::limits::HOST_MEMORY;
use twitcher_confine::ConfineError;
use twitcher_confine::helper::{Resources, RightsError, Work, give_up_rights, give_up_system_calls, limit};
use twitcher_ipc::frames::Format;
use twitcher_ipc::helper::{Death, ExchangeError, Helper, socket_of_helper};
use twitcher_model::{Compiled, EntryPoint, Grants, NATIVE_MAX, Target};

/// How long a helper may take.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// On the clock.
    clock: Duration,
    /// Processor time, in seconds.
    cpu: u64,
}

/// Most memory for compiling, in bytes.
const MEMORY_MAX: u64 = 6 << 30;
/// How long a component may take to compile: the largest that toolchains make take some ten seconds.
const COMPILE_TIME: Allowed = Allowed {
    clock: Duration::from_secs(120),
    // More, so that the daemon, which can say what took too long, is first.
    cpu: 125,
};
/// How long a component may take to judge its configuration. On the clock it is more: that also counts how busy the machine is with others.
const CHECK_TIME: Allowed = Allowed {
    clock: Duration::from_secs(60),
    cpu: 5,
};
/// Messages to the helper and from it.
const FORMAT: Format = Format::postcard(NATIVE_MAX);

/// Most threads of all compilers together, of this machine's helpers.
const THREADS_MAX: u64 = 4096;

/// What is to be compiled.
#[derive(Debug, Serialize, Deserialize)]
struct Compile {
    wasm: Vec<u8>,
    target: Option<Target>,
}

/// What came of it. A refusal is in words, here and below.
#[derive(Debug, Serialize, Deserialize)]
struct CompiledReply(Result<(Vec<u8>, EntryPoint, bool), String>);

/// What is to judge its configuration.
#[derive(Debug, Serialize, Deserialize)]
struct Check {
    native: Vec<u8>,
    grants: Grants,
}

/// What came of it: the verdict is the inner one.
#[derive(Debug, Serialize, Deserialize)]
struct CheckedReply(Result<Result<(), Vec<String>>, String>);

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
    /// It computed for too long.
    #[error("it took more than {0} s of processor time to compile")]
    CompileProcessor(u64),
    /// It computed for too long.
    #[error("its check took more than {0} s of processor time")]
    CheckProcessor(u64),
    /// It was killed, or gave up.
    #[error("the process that compiles it broke down: {0}")]
    Broken(String),
}

/// Compiles a component in a helper, which is `program compile`: for this machine, or for all machines of a target.
pub fn compile(program: &Path, wasm: Vec<u8>, target: Option<Target>) -> Result<Compiled, HelperError> {
    let request = Compile { wasm, target };
    let CompiledReply(reply) = ask(
        program,
        "compile",
        &request,
        COMPILE_TIME,
        (HelperError::CompileTime, HelperError::CompileProcessor),
    )?;
    let (native, entry, checked) = reply.map_err(HelperError::Refused)?;
    Ok(Compiled { native, entry, checked })
}

/// Has a component judge its configuration in a helper, which is `program judge`. The inner error is what it says.
pub fn check(program: &Path, native: Vec<u8>, grants: &Grants) -> Result<Result<(), Vec<String>>, HelperError> {
    let grants = grants.clone();
    let request = Check { native, grants };
    let CheckedReply(reply) = ask(
        program,
        "judge",
        &request,
        CHECK_TIME,
        (HelperError::CheckTime, HelperError::CheckProcessor),
    )?;
    reply.map_err(HelperError::Refused)
}

/// What it means that a helper takes too long: on the clock, or in seconds of processor time.
type TooSlow = (fn(Duration) -> HelperError, fn(u64) -> HelperError);

/// Starts a helper for one request. If it has not answered in time, the error is what `too_slow` makes of that.
fn ask<T: DeserializeOwned>(
    program: &Path,
    subcommand: &str,
    request: &impl Serialize,
    allowed: Allowed,
    too_slow: TooSlow,
) -> Result<T, HelperError> {
    let mut helper = Helper::start(program, subcommand, FORMAT, FORMAT)?;
    let deadline = Instant::now() + allowed.clock;
    let sent = helper.send(request, deadline);
    sent.and_then(|()| helper.receive(deadline))
        .map_err(|error| match error {
            ExchangeError::TimedOut => too_slow.0(allowed.clock),
            ExchangeError::Gone => cause(&helper.cause_of_death(), || too_slow.1(allowed.cpu)),
            ExchangeError::Channel(error) => HelperError::Process(error),
        })
}

fn cause(death: &Death, too_slow: impl FnOnce() -> HelperError) -> HelperError {
    if death.said("memory allocation of") {
        return HelperError::Broken("it needs too much memory".to_owned());
    }
    match death.signal() {
        Some(Signal::SIGXCPU) => too_slow(),
        _ => HelperError::Broken(death.to_string()),
    }
}

/// The main function of `twitcher compile`: compiles the one component that comes on its stdin, a socket. Returns the exit code.
pub fn serve_compile() -> i32 {
    exit_code(answer_compile())
}

/// The main function of `twitcher judge`: calls the `check` of the one component that comes on its stdin, a socket. Returns the exit code.
pub fn serve_check() -> i32 {
    exit_code(answer_check())
}

fn exit_code(answered: Result<(), ServeError>) -> i32 {
    match answered {
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
    #[error("cannot give up system calls: {0}")]
    SystemCalls(#[from] ConfineError),
    #[error("cannot talk to the daemon: {0}")]
    Talk(#[from] io::Error),
}

fn answer_compile() -> Result<(), ServeError> {
    give_up_rights(Resources {
        memory: Some(MEMORY_MAX),
        cpu: COMPILE_TIME.cpu,
        files: 64,
        file_size: 0,
        tasks: Some(THREADS_MAX),
    })?;
    give_up_system_calls(Work::Compiling)?;
    let mut daemon = socket_of_helper()?;
    let Some(Compile { wasm, target }) = FORMAT.read(&mut daemon)? else {
        return Ok(());
    };
    let compiled = compile::compile(&wasm, target).map_err(|error| error.to_string());
    let reply = compiled.map(|compiled| (compiled.native, compiled.entry, compiled.checked));
    Ok(FORMAT.write(&mut daemon, &CompiledReply(reply))?)
}

fn answer_check() -> Result<(), ServeError> {
    // No file can be opened afterwards.
    let stdio = config_check::no_streams()?;
    give_up_rights(Resources {
        // The component's memory is reserved, not used: a limit of the address space would end it at once.
        memory: None,
        cpu: CHECK_TIME.cpu,
        files: 64,
        // A component's memory begins as a file of its own, which has no name.
        file_size: 1 << 30,
        tasks: Some(0),
    })?;
    let mut daemon = socket_of_helper()?;
    let Some(Check { native, grants }) = FORMAT.read(&mut daemon)? else {
        return Ok(());
    };
    // The code is here twice, and received.
    let code = 3 * native.len() as u64;
    let memory = grants.memory.saturating_add(HOST_MEMORY).saturating_add(code);
    limit(Resource::RLIMIT_DATA, memory).map_err(io::Error::from)?;
    let reply = config_check::validate(&native, grants, stdio).map_err(|error| error.to_string());
    Ok(FORMAT.write(&mut daemon, &CheckedReply(reply))?)
}
