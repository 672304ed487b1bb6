//! The helper process: evaluates `.twc` files for the daemon, with no rights ([`twitcher_confine::helper`]) and few resources.
//!
//! A file may loop for ever, allocate without end, or exploit a defect of the interpreter. Here it can do no more than end this
//! process. It must not know what a watch is.

use std::cell::RefCell;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

use super::evaluator_protocol::{REPLIES, REQUESTS, Reply, Request};
use super::starlark::{self, Host, Limits, ScriptError};
use super::value::Registration;
use twitcher_confine::ConfineError;
use twitcher_confine::helper::{Resources, Work, give_up_rights, give_up_system_calls, limit};
use twitcher_ipc::frames::FrameError;
use twitcher_ipc::helper::{once_there_is_room, socket_of_helper};

/// Most memory of the process, in bytes.
pub(super) const MEMORY_MAX: u64 = 1 << 30;
/// Most memory of a file's values. Less than half of the process's, because the garbage collector copies them.
const HEAP_MAX: usize = 384 << 20;
/// Most processor time of the process for all files together, in seconds.
const CPU_MAX: u64 = 3600;
/// Stack for the evaluation: what the process of an action has by default, so that a file that loads can also run there.
const STACK: usize = 8 << 20;
/// What the process may use: it writes no files.
const RESOURCES: Resources = Resources {
    memory: Some(MEMORY_MAX),
    cpu: CPU_MAX,
    files: 16,
    file_size: 0,
    tasks: None,
};

/// The main function of `twitcher evaluate`: answers requests on its stdin, a socket, until that is closed. Returns the exit code.
pub fn serve() -> i32 {
    if let Err(error) = give_up_rights(RESOURCES) {
        refuse(&error);
        return 1;
    }
    let evaluation = once_there_is_room(|| {
        let thread = std::thread::Builder::new().name("evaluate".to_owned());
        thread.stack_size(STACK).spawn(answer_all)
    });
    match evaluation.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => 0,
        // A panic has already said on stderr what it was.
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => 1,
    }
}

/// Says why it does nothing. Nobody is left to tell if this fails.
fn refuse(error: &dyn std::error::Error) {
    let refused = Reply::Refused(error.to_string());
    let _ = socket_of_helper().and_then(|mut daemon| REPLIES.write(&mut daemon, &refused));
}

/// Why nothing is answered any more.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error(transparent)]
    Talk(#[from] io::Error),
}

fn answer_all() -> Result<(), ServeError> {
    // This thread was the last one to start.
    limit(Resource::RLIMIT_NPROC, 0).map_err(io::Error::from)?;
    give_up_system_calls(Work::Interpreting).inspect_err(|error| refuse(error))?;
    let socket = socket_of_helper()?;
    let daemon = Daemon {
        ends: RefCell::new((BufReader::new(socket.try_clone()?), BufWriter::new(socket))),
    };
    daemon.send(&Reply::Ready)?;
    daemon.flush()?;
    while let Some(request) = daemon.receive()? {
        let Request::Evaluate { file, text, budget_ms } = request else {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        };
        let budget = Duration::from_millis(budget_ms);
        grant_cpu(budget).map_err(io::Error::from)?;
        let limits = Limits { budget, heap: HEAP_MAX };
        let result = starlark::evaluate(Path::new(&file), &text, &daemon, Some(limits), None);
        daemon.send(&Reply::Done(result))?;
        daemon.flush()?;
    }
    Ok(())
}

/// Allows this evaluation as much processor time as it has wall-clock time, and a little more: should the daemon be stopped, or
/// too busy to look at the clock, this ends the evaluation.
fn grant_cpu(budget: Duration) -> Result<(), Errno> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let used = u64::try_from(usage.user_time().tv_sec() + usage.system_time().tv_sec()).unwrap_or(0);
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    let soft = used.saturating_add(budget.as_secs()).saturating_add(3);
    setrlimit(Resource::RLIMIT_CPU, soft.min(hard), hard)
}

/// The daemon, at the other end of the socket.
struct Daemon {
    ends: RefCell<(BufReader<UnixStream>, BufWriter<UnixStream>)>,
}

impl Daemon {
    fn send(&self, reply: &Reply) -> io::Result<()> {
        REPLIES.write(&mut self.ends.borrow_mut().1, reply)
    }

    fn flush(&self) -> io::Result<()> {
        self.ends.borrow_mut().1.flush()
    }

    fn receive(&self) -> io::Result<Option<Request>> {
        REQUESTS.read(&mut self.ends.borrow_mut().0)
    }

    fn ask(&self, path: &Path) -> io::Result<Option<Request>> {
        let path = path.to_string_lossy().into_owned();
        self.send(&Reply::Load { path })?;
        self.flush()?;
        self.receive()
    }
}

impl Host for Daemon {
    fn text(&self, path: &Path) -> Result<Arc<str>, String> {
        match self.ask(path) {
            Ok(Some(Request::Text(text))) => text.map(Arc::from),
            Ok(_) => Err("the daemon gave no answer".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn registered(&self, registration: Registration) -> Result<(), ScriptError> {
        let frame = REPLIES
            .frame(&Reply::Registered(registration))
            .map_err(|error| match error {
                FrameError::TooLong => ScriptError::TooLarge,
                other => ScriptError::Disconnected(other.into()),
            })?;
        self.ends
            .borrow_mut()
            .1
            .write_all(&frame)
            .map_err(ScriptError::Disconnected)
    }

    fn print(&self, at: Option<(&str, u32)>, text: &str) -> Result<(), ScriptError> {
        let text = text.chars().take(super::evaluator::PRINT_MAX).collect();
        let at = at.map(|(file, offset)| (file.to_owned(), offset));
        self.send(&Reply::Print { at, text }).map_err(ScriptError::Disconnected)
    }
}
