//! From a request to a running program: the clone and the ordered steps after it.
//!
//! All that can be done before the clone is done before it ([`Prepared`]): the child only makes system calls, so that it dirties
//! few pages and cannot fail for lack of memory. It must not know the daemon, and must never return into the launcher's code.
//!
//! A program's process shares the launcher's memory until it executes the program, which is faster than a copy and needs no more care
//! than the above. What runs code of its own in the process, and for long, gets a copy.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource as Rlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getpid, setgroups, setresgid, setresuid, setsid, write,
};

use crate::journal::{JournalRecord, JournalWriter};
use crate::launcher::Bodies;
use crate::launcher::clone::{self, Born, Side};
use crate::launcher::interrupt;
use crate::launcher::vfork::ChildStack;
use crate::protocol::{Reply, Request, SETUP_FAILED, Step, Task, WasmTask, send_reply};
use twitcher_files::system::DEFAULT_PATH;
use twitcher_model::{FunctionAction, Limit, Resource};
use twitcher_sandbox::channel::Channel;
use twitcher_sandbox::{self as sandbox, LoadedCode, Ready, Stdio};

/// Where a component's process has its channel.
const CHANNEL: RawFd = 3;

/// A request in the form that system calls take.
pub struct Prepared<'a> {
    seq: u64,
    body: Body<'a>,
    may_share: bool,
    env: Vec<(String, String)>,
    cwd: CString,
    umask: Mode,
    limits: Vec<Limit>,
    uid: Option<Uid>,
    gid: Option<Gid>,
    groups: Option<Vec<Gid>>,
    stdio: [OwnedFd; 3],
    draft: Option<JournalRecord>,
    /// The directory of the run's cgroup.
    cgroup: Option<OwnedFd>,
}

/// What a clone takes over from the launcher.
pub struct Parent<'a> {
    /// The launcher's end of the socket.
    pub channel: BorrowedFd<'a>,
    /// With which processes write themselves down.
    pub pen: Option<&'a JournalWriter>,
    /// What processes run that are not programs of their own.
    pub bodies: &'a Bodies,
    /// The signals that the launcher ignores.
    pub ignored: &'a [c_int],
    /// For processes that share its memory; none where that is not safe.
    pub stack: Option<&'a ChildStack>,
}

enum Body<'a> {
    Exec {
        candidates: Vec<CString>,
        argv: CStrings,
        envp: CStrings,
    },
    Function(FunctionAction),
    Wasm {
        ready: &'a Ready,
        task: Box<WasmTask>,
        channel: OwnedFd,
    },
}

/// A null-terminated array of C strings.
struct CStrings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self {
            _owned: strings,
            pointers,
        }
    }
}

/// A step that failed, with its error number.
pub type SpawnFailure = (Step, Errno);

/// Says something on standard error if it has room: perhaps nobody reads it, and to wait would be to start nothing any more.
fn say(text: &str) {
    let stderr = io::stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // Where there is room at all there is as much as this.
    let text = &text.as_bytes()[..text.len().min(libc::PIPE_BUF)];
    if poll(&mut room, PollTimeout::ZERO).is_ok() && room[0].revents() == Some(PollFlags::POLLOUT) {
        let _ = write(&stderr, text);
    }
}

impl<'a> Prepared<'a> {
    /// Fails with `EINVAL` for text that holds a NUL and for an empty command.
    pub fn new(
        request: Request,
        fds: Vec<OwnedFd>,
        components: &'a mut LoadedCode,
        pen: Option<&JournalWriter>,
    ) -> Result<Self, SpawnFailure> {
        let bad = |step| move |_| (step, Errno::EINVAL);
        let mut fds = fds.into_iter();
        let mut fd = || fds.next().ok_or((Step::Decode, Errno::EBADMSG));
        let stdio = [fd()?, fd()?, fd()?];
        let body = match request.task {
            Task::Function(action) => Body::Function(action),
            Task::Wasm(task) => {
                let component = &task.action.component;
                let ready = components
                    .get(component.digest, component.entry, fd()?)
                    .map_err(|error| {
                        // The reply has room for a number alone.
                        say(&format!("twitcher launcher: {component}: {error}\n"));
                        (Step::Load, Errno::ENOEXEC)
                    })?;
                Body::Wasm {
                    ready,
                    task,
                    channel: fd()?,
                }
            }
            Task::Exec(argv) => {
                let program = argv.first().ok_or((Step::Exec, Errno::EINVAL))?;
                let path = request
                    .env
                    .iter()
                    .rev()
                    .find(|(name, _)| name == "PATH")
                    .map(|(_, value)| value.as_str());
                let candidates = candidates(program, path.unwrap_or(DEFAULT_PATH));
                let c_strings = |strings: Vec<String>| {
                    strings
                        .into_iter()
                        .map(CString::new)
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(bad(Step::Exec))
                };
                Body::Exec {
                    candidates: c_strings(candidates)?,
                    argv: CStrings::new(c_strings(argv)?),
                    envp: CStrings::new(c_strings(
                        request.env.iter().map(|(k, v)| format!("{k}={v}")).collect(),
                    )?),
                }
            }
        };
        let cgroup = if request.in_cgroup { Some(fd()?) } else { None };
        Ok(Self {
            seq: request.seq,
            body,
            cgroup,
            may_share: request.may_share_memory,
            env: request.env,
            cwd: CString::new(request.cwd).map_err(bad(Step::Chdir))?,
            umask: Mode::from_bits_truncate(request.umask),
            limits: request.limits,
            uid: request.uid.map(Uid::from_raw),
            gid: request.gid.map(Gid::from_raw),
            groups: request
                .groups
                .map(|groups| groups.into_iter().map(Gid::from_raw).collect()),
            stdio,
            draft: pen.zip(request.journal).map(|(pen, entry)| pen.draft(&entry)),
        })
    }

    /// Clones a process that goes through the steps and becomes the program.
    pub fn spawn(self, launcher: &Parent<'_>) -> Result<(), SpawnFailure> {
        let at = |errno| (Step::Clone, errno);
        match (&self.body, launcher.stack) {
            (Body::Exec { .. }, Some(stack)) if self.may_share => {
                // SAFETY: for a program the steps are system calls on memory that was prepared before; what they allocate they free
                // again, and a panic ends here. The launcher's only signal handlers are the standard library's, which end the process.
                // The child's other attributes (descriptors, signal dispositions, ids, limits, directory) are its own.
                #[allow(unsafe_code)]
                unsafe { stack.clone_sharing(self.cgroup.as_ref(), |born| self.run_to_end(born, launcher)) }.map_err(at)
            }
            _ => self.fork(launcher).map_err(at),
        }
    }

    fn fork(self, launcher: &Parent<'_>) -> nix::Result<()> {
        // SAFETY: the launcher has one thread, so no lock is held by a thread that the child lacks.
        #[allow(unsafe_code)]
        match unsafe { clone::copy(self.cgroup.as_ref()) }? {
            Side::Parent => Ok(()),
            Side::Child(born) => {
                // Not dropped: what it owns may be closed by then.
                let this = ManuallyDrop::new(self);
                exit_now(this.run_to_end(born, launcher))
            }
        }
    }

    /// Nothing may unwind into the launcher's loop.
    fn run_to_end(&self, born: Born, launcher: &Parent<'_>) -> c_int {
        catch_unwind(AssertUnwindSafe(|| self.run(born, launcher))).unwrap_or(101)
    }

    fn run(&self, born: Born, launcher: &Parent<'_>) -> c_int {
        let failed = |(step, errno): SpawnFailure| {
            let errno = errno as i32;
            // Should this fail, the exit code still says that it went wrong.
            let _ = send_reply(
                launcher.channel,
                Reply::Failed {
                    seq: self.seq,
                    step,
                    errno,
                },
            );
            SETUP_FAILED
        };
        // Who is told that the process started may signal its group, and must find it in its cgroup.
        if let Err(failure) = self.leave_launcher(born) {
            return failed(failure);
        }
        // Whoever is told that the process started also finds it written down. Should this fail, the daemon still hears of the process
        // and remembers it, only later.
        if let (Some(pen), Some(draft)) = (launcher.pen, &self.draft) {
            let _ = pen.write(draft);
        }
        // Without this message the daemon would take the request for one that was never carried out: then it must not be.
        if send_reply(
            launcher.channel,
            Reply::Started {
                seq: self.seq,
                pid: getpid().as_raw(),
            },
        )
        .is_err()
        {
            return SETUP_FAILED;
        }
        if let Some(pen) = launcher.pen {
            pen.put_down();
        }
        let failure = match self.set_up(launcher.ignored) {
            Err(failure) => failure,
            Ok(()) => match &self.body {
                Body::Exec { candidates, argv, envp } => (Step::Exec, execute(candidates, argv, envp)),
                Body::Function(action) => match close_all_but_stdio() {
                    Err(failure) => failure,
                    Ok(()) => {
                        replace_environment(&self.env);
                        return (launcher.bodies.function)(action);
                    }
                },
                Body::Wasm { ready, task, channel } => match component_descriptors(channel, ready.descriptors()) {
                    Err(failure) => failure,
                    Ok((channel, stdio)) => {
                        // From here on the component's own channel says what happens.
                        interrupt::on_sigterm(ready.engine());
                        return sandbox::run(
                            ready,
                            &task.action,
                            &task.change,
                            &task.reach,
                            Channel::new(Some(channel)),
                            stdio,
                        );
                    }
                },
            },
        };
        failed(failure)
    }

    fn leave_launcher(&self, born: Born) -> Result<(), SpawnFailure> {
        let at = |step| move |errno| (step, errno);
        if let (Some(cgroup), Born::InParents) = (&self.cgroup, born) {
            clone::join(cgroup).map_err(at(Step::Cgroup))?;
        }
        setsid().map_err(at(Step::Session))?;
        if self.cgroup.is_none() {
            // Whatever loses its parent becomes a child of this process, so that it is found when the run is ended.
            prctl::set_child_subreaper(true).map_err(at(Step::Session))?;
        }
        Ok(())
    }

    /// The steps. Their order matters: signals that were held back since the clone come first; limits need root; groups need root and so
    /// come before the user; the directory is entered with the rights of the user, who may not be allowed in.
    fn set_up(&self, ignored: &[c_int]) -> Result<(), SpawnFailure> {
        let at = |step| move |errno| (step, errno);
        reset_signals(ignored).map_err(at(Step::Signals))?;
        self.place_stdio().map_err(at(Step::Stdio))?;
        umask(self.umask);
        for limit in &self.limits {
            setrlimit(rlimit(limit.resource), limit.soft, limit.hard).map_err(at(Step::Limit(limit.resource)))?;
        }
        if let Some(groups) = &self.groups {
            setgroups(groups).map_err(at(Step::Groups))?;
        }
        if let Some(gid) = self.gid {
            setresgid(gid, gid, gid).map_err(at(Step::Gid))?;
        }
        if let Some(uid) = self.uid {
            setresuid(uid, uid, uid).map_err(at(Step::Uid))?;
            // Fail closed: from here on, root must be out of reach.
            if !uid.is_root() && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
                return Err((Step::Uid, Errno::EPERM));
            }
        }
        chdir(self.cwd.as_c_str()).map_err(at(Step::Chdir))?;
        // Whatever was left open by mistake closes when the program is executed; the channel must stay until then.
        close_range(3, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC).map_err(at(Step::Descriptors))
    }

    fn place_stdio(&self) -> nix::Result<()> {
        // The launcher keeps 0, 1 and 2 occupied, so none of the three sources is one of them, and each duplicate is inherited.
        let [stdin, stdout, stderr] = &self.stdio;
        dup2_stdin(stdin.as_fd())?;
        dup2_stdout(stdout.as_fd())?;
        dup2_stderr(stderr.as_fd())
    }
}

/// What to try to execute, in order.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    // An empty entry would mean the working directory, which may be writable by anyone: it is skipped.
    path.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| format!("{dir}/{program}"))
        .collect()
}

/// Executes the first candidate that can be; returns the error that says most, as execvp(3) does.
fn execute(candidates: &[CString], argv: &CStrings, envp: &CStrings) -> Errno {
    let mut said = Errno::ENOENT;
    for program in candidates {
        // SAFETY: the program is a C string and both arrays are null-terminated arrays of C strings; all outlive the call.
        #[allow(unsafe_code)]
        unsafe {
            libc::execve(program.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr())
        };
        match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => said = Errno::EACCES,
            other => return other,
        }
    }
    said
}

/// Undoes what exec keeps: ignored signals (handlers it resets by itself) and the mask.
fn reset_signals(ignored: &[c_int]) -> nix::Result<()> {
    for signal in ignored {
        // SAFETY: SIG_DFL runs no code.
        #[allow(unsafe_code)]
        let previous = unsafe { libc::signal(*signal, libc::SIG_DFL) };
        if previous == libc::SIG_ERR {
            return Err(Errno::last());
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

pub(crate) fn close_range(first: c_int, last: c_int, flags: u32) -> nix::Result<()> {
    // SAFETY: with CLOEXEC nothing is closed now; without it, what runs afterwards uses no descriptor of the range (see the callers).
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    Errno::result(result).map(drop)
}

/// Code of the configuration must not reach the channel. Nothing that owns a descriptor is dropped afterwards.
fn close_all_but_stdio() -> Result<(), SpawnFailure> {
    close_range(3, c_int::MAX, 0).map_err(|errno| (Step::Descriptors, errno))
}

/// A component's process keeps its streams, its channel, and what it needs to be instantiated. Nothing that owns another descriptor
/// is dropped afterwards.
fn component_descriptors(channel: &OwnedFd, kept: &[RawFd]) -> Result<(OwnedFd, Stdio), SpawnFailure> {
    let at = |errno| (Step::Descriptors, errno);
    // SAFETY: descriptor 3 is the launcher's own channel (see `launcher::take_channel`), of which this process has no more use.
    #[allow(unsafe_code)]
    let placed = unsafe { libc::dup2(channel.as_raw_fd(), CHANNEL) };
    Errno::result(placed).map_err(at)?;
    let mut first = CHANNEL + 1;
    for fd in kept.iter().filter(|fd| **fd > CHANNEL) {
        if first < *fd {
            close_range(first, *fd - 1, 0).map_err(at)?;
        }
        first = *fd + 1;
    }
    close_range(first, c_int::MAX, 0).map_err(at)?;
    // SAFETY: all four were just put in place, and nothing else in this process owns them: the standard library's streams borrow.
    #[allow(unsafe_code)]
    unsafe {
        let stdio = Stdio {
            stdin: File::from_raw_fd(0),
            stdout: File::from_raw_fd(1),
            stderr: File::from_raw_fd(2),
        };
        Ok((OwnedFd::from_raw_fd(CHANNEL), stdio))
    }
}

fn replace_environment(env: &[(String, String)]) {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: this process has one thread.
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(name)
        };
    }
    for (name, value) in env {
        // SAFETY: this process has one thread.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value)
        };
    }
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

fn rlimit(resource: Resource) -> Rlimit {
    match resource {
        Resource::As => Rlimit::RLIMIT_AS,
        Resource::Core => Rlimit::RLIMIT_CORE,
        Resource::Cpu => Rlimit::RLIMIT_CPU,
        Resource::Data => Rlimit::RLIMIT_DATA,
        Resource::Fsize => Rlimit::RLIMIT_FSIZE,
        Resource::Memlock => Rlimit::RLIMIT_MEMLOCK,
        Resource::Nofile => Rlimit::RLIMIT_NOFILE,
        Resource::Nproc => Rlimit::RLIMIT_NPROC,
        Resource::Stack => Rlimit::RLIMIT_STACK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_slash_is_looked_up_but_never_in_the_working_directory() {
        assert_eq!(candidates("ls", "/a::/b:"), ["/a/ls", "/b/ls"]);
        assert_eq!(candidates("./ls", "/a"), ["./ls"]);
        assert_eq!(candidates("/bin/ls", ""), ["/bin/ls"]);
    }

    #[test]
    fn the_first_error_that_says_more_than_absence_is_kept() {
        let run = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| CString::new(*n).unwrap()).collect();
            execute(&names, &CStrings::new(names.clone()), &CStrings::new(vec![]))
        };
        assert_eq!(run(&["/no/such", "/etc/passwd/x"]), Errno::ENOENT);
        assert_eq!(run(&["/etc/passwd", "/no/such"]), Errno::EACCES);
        assert_eq!(run(&[]), Errno::ENOENT);
    }
}
