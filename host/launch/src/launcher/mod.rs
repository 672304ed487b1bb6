//! The launcher: a process with one thread that turns requests into processes.
//!
//! It must stay small: never compile, never talk to ZooKeeper, keep nothing between requests but the native code of components. What is cloned
//! from it has a copy of its memory, so nothing of what a request says stays there. It ends when the daemon's end of the socket closes.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{dup2_stdin, setsid};
use rustix::io::fcntl_dupfd_cloexec;

mod clone;
mod data_file;
mod hardening;
pub mod interrupt;
mod namespaces;
mod own_code;
mod program;
pub mod spawn;
mod steps;
pub mod vfork;

use self::namespaces::EmptyNamespaces;
use self::spawn::{Parent, spawn};
use self::steps::close_range;
use self::vfork::ChildStack;
use crate::journal::JournalWriter;
use crate::protocol::{Equipment, Page, Reply, Step, receive_setup, send_reply};
use twitcher_model::FunctionAction;
use twitcher_sandbox::LoadedCode;

/// What an action process runs when it is not a program of its own. A table of functions, so that this module need not know the
/// modules that implement them.
#[derive(Debug, Clone, Copy)]
pub struct Bodies {
    /// Runs a function of the configuration; returns the exit code. Standard streams, environment, user and directory are set.
    pub function: fn(&FunctionAction) -> i32,
}

/// What the kernel calls the launcher's process, and a child of it that has not executed its program yet.
pub(crate) const LAUNCHER_NAME: &CStr = c"twitcher-launch";

/// The main function of the launcher. Its stdin is the socket. Returns when the daemon has gone.
pub fn main(bodies: &Bodies) -> io::Result<()> {
    // The daemon decides when to stop. A session of its own keeps the terminal's signals away, others wait for ever.
    let _ = setsid();
    // Held back, not ignored: a child starts so, and one that is told to end before it has become its program must not miss that.
    let held: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    held.thread_block()?;
    ignore(Signal::SIGPIPE)?;
    let _ = prctl::set_name(LAUNCHER_NAME);
    // No user may read what it has, nor find it in a core dump.
    prctl::set_dumpable(false)?;
    // Should it be killed, its successor waits for this process to be gone, which may itself wait for a program that takes long to be
    // loaded. If the daemon is gone already, the socket says so.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let channel = take_channel()?;
    let ignored = ignored_signals();
    let stack = if may_share_memory() {
        Some(ChildStack::new()?)
    } else {
        None
    };
    let Some((setup, Equipment { births, journal })) = receive_setup(channel.as_fd())? else {
        return Ok(());
    };
    let (soft, hard) = setup.open_files;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    let (soft, hard) = setup.core;
    setrlimit(Resource::RLIMIT_CORE, soft, hard)?;
    let pen = journal.map(JournalWriter::new).transpose()?;
    let namespaces = EmptyNamespaces::default();
    let parent = Parent {
        channel: channel.as_fd(),
        births: births.as_fd(),
        pen: pen.as_ref(),
        bodies,
        ignored: &ignored,
        stack: stack.as_ref(),
        namespaces: &namespaces,
    };
    keep_heap_in_order();
    let mut components = LoadedCode::default();
    let mut page = Page::default();
    loop {
        let received = match page.receive(channel.as_fd()) {
            Ok(Some(received)) => received,
            // It may have gone without having read all that was said to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        };
        let outcome = match received {
            Ok(request) => {
                let seq = request.head.seq;
                spawn(request, &mut components, &parent).map_err(|(step, errno)| (seq, step, errno))
            }
            Err(seq) => Err((seq, Step::Decode, Errno::EBADMSG)),
        };
        page.wipe();
        if let Err((seq, step, errno)) = outcome {
            send_reply(
                channel.as_fd(),
                Reply::Failed {
                    seq,
                    step,
                    errno: errno as i32,
                },
            )?;
        }
    }
}

/// Has what this process was started with open, besides the standard streams, stay with it: what it executes does not get it. Whoever started the
/// daemon from a shell may have left it a descriptor of a file that helpers and actions could not open.
pub fn keep_inherited_descriptors() -> io::Result<()> {
    close_range(3, libc::c_int::MAX, libc::CLOSE_RANGE_CLOEXEC)?;
    Ok(())
}

/// Moves the socket away from descriptor 0 and puts `/dev/null` there: a child places its own streams on 0, 1 and 2.
fn take_channel() -> io::Result<OwnedFd> {
    // Whoever started the daemon may have left it some open; actions would get them.
    close_range(3, libc::c_int::MAX, 0)?;
    let channel = fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let null = File::open("/dev/null")?;
    // Nothing but the standard streams is open yet, so the channel is descriptor 3: children count on it.
    debug_assert!(channel.as_raw_fd() == 3 && null.as_raw_fd() > 3);
    dup2_stdin(null.as_fd())?;
    Ok(channel)
}

/// A process that has become its user's and still shares root's memory must be out of that user's reach. The kernel sees to that by
/// making the memory undumpable when the user changes, unless the administrator has told it otherwise.
fn may_share_memory() -> bool {
    std::fs::read_to_string("/proc/sys/fs/suid_dumpable").is_ok_and(|setting| matches!(setting.trim(), "0" | "2"))
}

/// glibc keeps small freed blocks aside and puts them in order at the next large allocation. That would be done by each clone again,
/// in pages that it must first copy.
fn keep_heap_in_order() {
    // SAFETY: the call only sets a parameter, and nothing else runs. Without its effect all is as before, only slower.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

fn ignore(which: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code.
    #[allow(unsafe_code)]
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

/// All that are ignored, most of them because the daemon's own parent had ignored them: nohup leaves SIGHUP so, and Python SIGPIPE.
fn ignored_signals() -> Vec<i32> {
    let is_ignored = |signal: &i32| {
        let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action the call only fills `now`; all zeros are a valid sigaction in case it fails.
        #[allow(unsafe_code)]
        let now = unsafe {
            libc::sigaction(*signal, std::ptr::null(), now.as_mut_ptr());
            now.assume_init()
        };
        now.sa_sigaction == libc::SIG_IGN
    };
    (1..=libc::SIGRTMAX()).filter(is_ignored).collect()
}
