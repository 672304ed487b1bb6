//! One call of a component, in the process that was made for it.
//!
//! It must not return into anything that the launcher left on the stack: its caller ends the process.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::unistd::geteuid;
use tokio::runtime::{Builder, Runtime};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

use super::channel::{CallEnd, Channel, Denied, FromAction, Level, Speaker, TEXT_MAX, Timing, cut};
use super::host::{Host, RefusedMemory, Stdio, not_called};
use super::host_imports::twitcher::action::types::Failure as Said;
use super::interruption::interrupted;
use super::native_code::{Call, Ready};
use super::network::Reach;
use super::preview1;
use twitcher_confine::namespaces::{Namespaces, own_mount};
use twitcher_confine::{Confinement, Dir};
use twitcher_files::links::{self, PathError};
use twitcher_model::{ChangeFacts, ComponentFailure, DirGrant, MissingGrant, WasmAction};

/// Exit code of a process whose component failed; the channel says how.
const FAILED: i32 = 1;

/// Confines the process, calls the component, tells the daemon how that ended, and returns the exit code.
pub fn run(
    ready: &Ready,
    action: &Arc<WasmAction>,
    change: &ChangeFacts,
    reach: &Reach,
    channel: Channel,
    stdio: Stdio,
    namespaces: Option<Namespaces>,
) -> i32 {
    let speaker = channel.speaker();
    let mut timing = Timing::default();
    let ended = prepare(ready, action, change, reach, channel, stdio, namespaces)
        .map_or_else(|ended| ended, |(runtime, host)| call(ready, host, runtime, &mut timing));
    let code = match &ended {
        CallEnd::Success => 0,
        CallEnd::Code(code) => i32::from(*code),
        CallEnd::Failed(..) | CallEnd::NotCalled { .. } => FAILED,
    };
    // Should the daemon have gone, the exit code still says whether it went well.
    let _ = speaker.say(&FromAction::CallEnd(ended, timing));
    code
}

/// Everything that needs rights which the component is not to have; then gives them up.
fn prepare(
    ready: &Ready,
    action: &Arc<WasmAction>,
    change: &ChangeFacts,
    reach: &Reach,
    channel: Channel,
    stdio: Stdio,
    namespaces: Option<Namespaces>,
) -> Result<(Runtime, Host), CallEnd> {
    let grants = &action.grants;
    // No threads: the process may not even make any. Without a network there is nothing to poll, and the poller with its
    // descriptors would cost as much as many a call.
    let mut runtime = Builder::new_current_thread();
    runtime.enable_time();
    if !grants.net.is_empty() || !grants.http.is_empty() {
        runtime.enable_io();
    }
    let runtime = runtime
        .build()
        .map_err(|error| not_called("start its runtime".to_owned(), &error))?;
    // Once, for both layers: whoever renames or links in between has them agree on what was found first.
    let opened: Result<Vec<_>, _> = grants.dirs.iter().map(granted_dir).collect();
    let mut opened = opened?;
    if namespaces.is_some() {
        for (fd, dir) in opened.iter_mut().zip(&grants.dirs) {
            with_nothing_above(fd, dir)?;
        }
    }
    let host = Host::new(action, change, reach, channel, stdio, &opened)?;
    let dirs: Vec<_> = opened
        .iter()
        .zip(&grants.dirs)
        .map(|(fd, dir)| Dir {
            fd: fd.as_fd(),
            writable: dir.writable,
        })
        .collect();
    let ports: Vec<u16> = grants
        .net
        .iter()
        .chain(grants.http.iter().map(|origin| &origin.at))
        .map(|at| at.port)
        .collect();
    let confinement = Confinement {
        dirs: &dirs,
        tcp_ports: &ports,
        namespaces: namespaces.as_ref(),
    };
    match confinement.apply(&ready.filters) {
        Ok(_) => Ok((runtime, host)),
        Err(error) => Err(CallEnd::Failed(
            ComponentFailure::Trap,
            format!("it was not called: {error}"),
        )),
    }
}

/// Opens a directory that was granted, by no links but those of root and of the user that the process has by now.
fn granted_dir(dir: &DirGrant) -> Result<OwnedFd, CallEnd> {
    links::open_dir(&dir.host, geteuid()).map_err(|error| {
        let path = dir.host.display();
        match error {
            PathError::Io(error) => not_called(format!("open directory {path}"), &error),
            error => not_called(format!("open directory {path} ({error})"), &Errno::EPERM.into()),
        }
    })
}

/// Makes a directory the top of a mount of its own. What the administrator has declared unbindable is none, and stays what it is: then what is
/// above it is for Landlock.
fn with_nothing_above(fd: &mut OwnedFd, dir: &DirGrant) -> Result<(), CallEnd> {
    match own_mount(fd.as_fd()) {
        Ok(top) => *fd = top,
        Err(Errno::EINVAL) => {}
        Err(errno) => {
            let step = format!("mount directory {} for itself", dir.host.display());
            return Err(not_called(step, &errno.into()));
        }
    }
    Ok(())
}

fn call(ready: &Ready, host: Host, runtime: Runtime, timing: &mut Timing) -> CallEnd {
    let began = host.started;
    let runtime = ManuallyDrop::new(runtime);
    // Neither is dropped: the process is about to end, and the kernel frees everything at once, faster than they would.
    let mut store = ManuallyDrop::new(Store::new(ready.engine(), host));
    store.limiter(|host| &mut host.limits);
    // One tick of the epoch, which only the signal to stop gives, ends the call where it is.
    store.set_epoch_deadline(1);
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            ended = enter(ready, &mut store, began, timing) => ended,
            () = interrupted() => {
                Err(wasmtime::format_err!("it was interrupted").context("while a function of the host waited for it"))
            }
        }
    });
    timing.call = began.elapsed().saturating_sub(timing.instantiate);
    let ended = result.unwrap_or_else(|error| broken_off(&error, store.data(), ready.is_program()));
    say_of_memory(&ended, store.data(), &store.data().channel.speaker());
    say_of_directories(&ended, store.data());
    ended
}

/// The call itself.
async fn enter(
    ready: &Ready,
    store: &mut Store<Host>,
    began: Instant,
    timing: &mut Timing,
) -> wasmtime::Result<CallEnd> {
    match &ready.call {
        Call::Handler(pre) => {
            let data = store.data().data.to_vec();
            let instance = pre.instantiate_async(&mut *store).await?;
            timing.instantiate = began.elapsed();
            let result = instance.twitcher_action_handler().call_on_change(store, &data).await?;
            Ok(result.map_or_else(said, |()| CallEnd::Success))
        }
        Call::Command(pre) => {
            let instance = pre.instantiate_async(&mut *store).await?;
            timing.instantiate = began.elapsed();
            let result = instance.wasi_cli_run().call_run(store).await?;
            Ok(CallEnd::Code(u8::from(result.is_err())))
        }
        Call::Preview1(pre) => {
            let instance = pre.instantiate_async(&mut *store).await?;
            timing.instantiate = began.elapsed();
            preview1::start(store, &instance).await?;
            Ok(CallEnd::Code(0))
        }
    }
}

fn said(failure: Said) -> CallEnd {
    let (failure, message) = match failure {
        Said::Retry(hint) => (
            ComponentFailure::Retry {
                after_ms: hint.after_ms,
            },
            hint.message,
        ),
        Said::Permanent(message) => (ComponentFailure::Permanent, message),
        Said::Superseded => (ComponentFailure::Superseded, String::new()),
    };
    CallEnd::Failed(failure, cut(message, TEXT_MAX))
}

/// What a call that did not return means.
fn broken_off(error: &wasmtime::Error, host: &Host, program: bool) -> CallEnd {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        let code = u8::try_from(*code).unwrap_or(u8::MAX);
        return match (code, program) {
            (0, false) => CallEnd::Success,
            (_, true) => CallEnd::Code(code),
            (_, false) => CallEnd::Failed(ComponentFailure::Trap, format!("it left with exit code {code}")),
        };
    }
    // The first line is the outcome; where it happened follows.
    let cause = match error.downcast_ref() {
        Some(Trap::Interrupt) => "it was interrupted".to_owned(),
        _ => error.root_cause().to_string(),
    };
    let trace = format!("{error:?}");
    let mut message = match trace.starts_with(&cause) {
        true => trace,
        false => format!("{cause}\n{trace}"),
    };
    if let Some(why) = host.limits.refused.filter(|_| may_be_for_memory(error)) {
        message = format!("{}\n{message}", for_memory(why, host.grants().memory));
    }
    CallEnd::Failed(ComponentFailure::Trap, cut(message, TEXT_MAX))
}

/// Whether a call may have broken off because memory was refused: there was no instance, or it gave up by itself.
fn may_be_for_memory(error: &wasmtime::Error) -> bool {
    match error.downcast_ref::<Trap>() {
        Some(trap) => *trap == Trap::UnreachableCodeReached,
        None => true,
    }
}

fn for_memory(why: RefusedMemory, granted: u64) -> String {
    let has = granted >> 20;
    match why {
        RefusedMemory::Granted { asked } => match MissingGrant::memory(asked, granted) {
            Some(missing) => format!(
                "it needs more memory than it may have; grant it with Wasm(..., {}), now {has} MiB",
                missing.argument()
            ),
            None => format!(
                "it needs {} MiB of memory, more than any component can have",
                asked >> 20
            ),
        },
        RefusedMemory::Declared { most } => format!(
            "it needs more memory than the {} MiB that it declares itself to be its most: no grant changes that, it must be built with more",
            most >> 20
        ),
    }
}

/// Says of a call that failed by its own decision that memory was refused to it before: that may be why.
fn say_of_memory(ended: &CallEnd, host: &Host, speaker: &Speaker) {
    let failed = match ended {
        CallEnd::Success | CallEnd::Code(0) | CallEnd::NotCalled { .. } => false,
        CallEnd::Failed(failure, _) => *failure != ComponentFailure::Trap,
        CallEnd::Code(_) => true,
    };
    let granted = host.grants().memory;
    let message = match host.limits.refused {
        Some(RefusedMemory::Granted { asked }) if failed => FromAction::Denied(Denied::Memory { asked, granted }),
        Some(declared @ RefusedMemory::Declared { .. }) if failed => FromAction::Log {
            level: Level::Warn,
            message: for_memory(declared, granted),
            fields: Vec::new(),
        },
        _ => return,
    };
    // The call has failed whether or not someone hears why.
    let _ = speaker.say(&message);
}

/// Says of a call that failed that it looked for a directory and was granted none: that may be why.
fn say_of_directories(ended: &CallEnd, host: &Host) {
    let failed = !matches!(ended, CallEnd::Success | CallEnd::Code(0) | CallEnd::NotCalled { .. });
    if let Some(missing) = host.missing_directory().filter(|_| failed) {
        // The call has failed whether or not someone hears why.
        let _ = host.channel.say(&FromAction::Denied(missing));
    }
}
