//! What runs code of this program in a process of its own: a function of the configuration, a component, or who writes a data file.
//!
//! It gets a copy of the launcher's memory, in which there is nothing of any request ([`crate::protocol::Page`]), and reads its own there.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::allocator::allocate_afresh;
use crate::launcher::clone::Born;
use crate::launcher::data_file;
use crate::launcher::interrupt;
use crate::launcher::spawn::{Parent, fork};
use crate::launcher::steps::{Frame, Settings, SpawnFailure, close_range};
use crate::protocol::{OwnTask, OwnText, Step, Text};
use twitcher_confine::namespaces::Namespaces;
use twitcher_sandbox::channel::Channel;
use twitcher_sandbox::{self as sandbox, Equipment, Ready, Stage, Stdio};

/// Where a component's process has its channel.
const CHANNEL: RawFd = 3;

/// A process that is about to run code of this program.
pub struct OwnCode<'a> {
    /// What it has from the launcher.
    pub frame: Frame,
    /// What it is to do, which it reads itself.
    pub text: Text<'a>,
    /// For a component: its code, and its channel.
    pub component: Option<(&'a Ready, OwnedFd)>,
}

impl OwnCode<'_> {
    /// Clones a process that reads what it is to do, goes through the steps and does it.
    pub fn spawn(self, launcher: &Parent<'_>) -> Result<(), SpawnFailure> {
        let Self { frame, text, component } = self;
        let namespaces = component.as_ref().and_then(|_| launcher.namespaces.get());
        // Taken by the child, which alone gets here twice.
        let mut text = Some(text);
        let cgroup = frame.cgroup.as_ref();
        fork(cgroup, |born| {
            run(&frame, text.take(), component.as_ref(), namespaces, born, launcher)
        })
        .map_err(|errno| (Step::Clone, errno))
    }
}

fn run(
    frame: &Frame,
    text: Option<Text<'_>>,
    component: Option<&(&Ready, OwnedFd)>,
    namespaces: Option<&Namespaces>,
    born: Born,
    launcher: &Parent<'_>,
) -> c_int {
    if component.is_some() {
        allocate_afresh();
    }
    let read = text.and_then(|text| text.read().ok()).and_then(|text| text.own());
    let Some(OwnText { task, env, cwd, setup }) = read else {
        return frame.failed(launcher, (Step::Decode, Errno::EBADMSG));
    };
    let Ok(cwd) = CString::new(cwd) else {
        return frame.failed(launcher, (Step::Chdir, Errno::EINVAL));
    };
    let mut settings = Settings::new(setup, launcher);
    settings.enters_namespaces = namespaces.is_some();
    if let Err(code) = frame.start(born, &settings, &cwd, launcher) {
        return code;
    }
    let failure = match (task, component) {
        (OwnTask::Function(action), None) => match close_all_but_stdio() {
            Err(failure) => failure,
            Ok(()) => {
                replace_environment(&env);
                return (launcher.bodies.function)(&action);
            }
        },
        (OwnTask::Write(path), None) => match close_all_but_stdio() {
            Err(failure) => failure,
            Ok(()) => return data_file::write(&path),
        },
        (OwnTask::Component(task), Some((ready, channel))) => {
            match component_descriptors(channel, ready.descriptors(), namespaces) {
                Err(failure) => failure,
                Ok(equipment) => {
                    // From here on the component's own channel says what happens.
                    interrupt::on_sigterm();
                    return sandbox::run(ready, &task, equipment);
                }
            }
        }
        (OwnTask::Wait(action), Some((ready, channel))) => {
            match component_descriptors(channel, ready.descriptors(), namespaces) {
                Err(failure) => failure,
                Ok(equipment) => {
                    return sandbox::wait(ready, &action, equipment, |stage| match stage {
                        Stage::Begins => interrupt::guard_start(),
                        Stage::Waits => interrupt::end_guard(),
                        // Until then SIGTERM ends the process.
                        Stage::IsCalled => interrupt::on_sigterm(),
                    });
                }
            }
        }
        _ => (Step::Decode, Errno::EBADMSG),
    };
    frame.failed(launcher, failure)
}

/// Code of the configuration must not reach the channel. Nothing that owns a descriptor is dropped afterwards.
fn close_all_but_stdio() -> Result<(), SpawnFailure> {
    close_range(3, c_int::MAX, 0).map_err(|errno| (Step::Descriptors, errno))
}

/// A component's process keeps its streams, its channel, and what it needs to be instantiated and to enter namespaces, which it then has of its
/// own. Nothing that owns another descriptor is dropped afterwards.
fn component_descriptors(
    channel: &OwnedFd,
    kept: &[RawFd],
    namespaces: Option<&Namespaces>,
) -> Result<Equipment, SpawnFailure> {
    let at = |errno| (Step::Descriptors, errno);
    let own = namespaces.map(Namespaces::try_clone).transpose();
    let own = own.map_err(|error| at(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
    let mut kept = kept.to_vec();
    kept.extend(own.iter().flat_map(Namespaces::descriptors));
    kept.sort_unstable();
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
        Ok(Equipment {
            channel: Channel::new(Some(OwnedFd::from_raw_fd(CHANNEL))),
            stdio,
            namespaces: own,
            close_others,
        })
    }
}

/// Closes what a component and its host have opened. Nothing that owns a descriptor is dropped afterwards.
fn close_others() {
    // Fails only for a range that is none.
    let _ = close_range(CHANNEL + 1, c_int::MAX, 0);
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
