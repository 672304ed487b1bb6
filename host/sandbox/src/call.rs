//! One call of a component, in the process that was made for it: at once, or when the process is told what for.
//!
//! It must not return into anything that the launcher left on the stack: its caller ends the process.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use wasmtime::{CallHook, Store, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::Command;

use super::channel::{CallEnd, Channel, Denied, FromAction, Held, Level, Speaker, TEXT_MAX, Timing, Waits, cut};
use super::host::{Host, RefusedMemory, Stdio, not_called, read_all};
use super::host_imports::Action;
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

/// A component to run, with what it is told of the change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WasmTask {
    /// The component and its grants.
    pub action: Arc<WasmAction>,
    /// What it is told.
    pub change: ChangeFacts,
    /// Where what it is granted of the network is; found out before the launch.
    pub reach: Reach,
}

/// What the process of a component has from its launcher.
pub struct Equipment {
    /// To the daemon.
    pub channel: Channel,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Where it goes on, if it can.
    pub namespaces: Option<Namespaces>,
    /// Closes everything but the channel and the streams.
    pub close_others: fn(),
}

/// Confines the process, calls the component, tells the daemon how that ended, and returns the exit code.
pub fn run(ready: &Ready, task: &WasmTask, equipment: Equipment) -> i32 {
    let (speaker, close_others) = (equipment.channel.speaker(), equipment.close_others);
    let mut timing = Timing::default();
    let ended = prepare(ready, &task.action, Some(task), equipment).map_or_else(
        |ended| ended,
        |(runtime, host)| {
            let mut store = ManuallyDrop::new(store(ready, host));
            call(ready, &runtime, &mut store, None, &mut timing)
        },
    );
    end(ended, timing, &speaker, close_others)
}

/// How far a process is that waits for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Code of the component may run from now on: that with which an instance begins.
    Begins,
    /// None runs until the call.
    Waits,
    /// The call begins.
    IsCalled,
}

/// The same for a call that is still to come: does all that there is to do before it, waits to be handed what it is for, and calls. `reaches` is
/// called at each stage. Returns also if there will be no call.
///
/// Nothing that could be old by then is known while it waits: the directories, which the daemon compares, and the code are all that the process
/// has; it is confined as for a call, and so are those who hand it the rest.
pub fn wait(ready: &Ready, action: &Arc<WasmAction>, equipment: Equipment, reaches: impl Fn(Stage)) -> i32 {
    let (speaker, close_others) = (equipment.channel.speaker(), equipment.close_others);
    let mut timing = Timing::default();
    reaches(Stage::Begins);
    let ended = prepare(ready, action, None, equipment).map_or_else(Some, |(runtime, host)| {
        let (store, instance) = instantiate_early(ready, &runtime, host);
        reaches(Stage::Waits);
        let mut store = ManuallyDrop::new(store);
        let dirs = store.data().directories.identities();
        // Should the daemon have gone, there is nothing to be handed either.
        let _ = speaker.say(&FromAction::Waits(Waits { dirs }));
        match handed(store.data_mut()) {
            Ok(true) => {
                reaches(Stage::IsCalled);
                Some(call(ready, &runtime, &mut store, instance, &mut timing))
            }
            Ok(false) => None,
            Err(ended) => Some(ended),
        }
    });
    ended.map_or(0, |ended| end(ended, timing, &speaker, close_others))
}

/// Says how it ended, and gives the exit code.
fn end(ended: CallEnd, timing: Timing, speaker: &Speaker, close_others: fn()) -> i32 {
    let code = match &ended {
        CallEnd::Success => 0,
        CallEnd::Code(code) => i32::from(*code),
        CallEnd::Failed(..) | CallEnd::NotCalled { .. } => FAILED,
    };
    // What the component has left open is closed before its end is told: whoever hears of it may rely on that.
    close_others();
    let held = getrusage(UsageWho::RUSAGE_SELF).map(|usage| Held {
        max_rss_kib: usage.max_rss().max(0).cast_unsigned(),
        minor_faults: usage.minor_page_faults().max(0).cast_unsigned(),
    });
    let held = held.unwrap_or_default();
    // Should the daemon have gone, the exit code still says whether it went well.
    let _ = speaker.say(&FromAction::CallEnd(ended, timing, held));
    code
}

/// Waits to be handed what the call is for, and the data, which is what its stdin is then. False if there will be none.
fn handed(host: &mut Host) -> Result<bool, CallEnd> {
    let failed = |error: io::Error| not_called("take over what the call is for".to_owned(), &error);
    let Some([task, data]) = host.channel.handed().map_err(failed)? else {
        return Ok(false);
    };
    let (task, data) = (read_all(&File::from(task)).map_err(failed)?, File::from(data));
    let task = postcard::from_bytes::<WasmTask>(&task).map_err(|_| failed(Errno::EBADMSG.into()))?;
    // SAFETY: what descriptor 0 was so far is closed and another file put there at once. Who owns the descriptor owns that one.
    #[allow(unsafe_code)]
    let placed = unsafe { libc::dup3(data.as_raw_fd(), 0, 0) };
    Errno::result(placed).map_err(|errno| failed(errno.into()))?;
    host.is_called_for(task.action, task.change, &data)?;
    Ok(true)
}

/// Everything that needs rights which the component is not to have; then gives them up. Without a task the process waits for one.
fn prepare(
    ready: &Ready,
    action: &Arc<WasmAction>,
    task: Option<&WasmTask>,
    equipment: Equipment,
) -> Result<(ManuallyDrop<Arc<Runtime>>, Host), CallEnd> {
    let Equipment {
        channel,
        stdio,
        namespaces,
        close_others: _,
    } = equipment;
    let grants = &action.grants;
    // No threads: the process may not even make any. Without a network there is nothing to poll, and the poller with its
    // descriptors would cost as much as many a call.
    let runtime = if grants.net.is_empty() && grants.http.is_empty() {
        Arc::clone(&ready.runtime)
    } else {
        let polling = Builder::new_current_thread().enable_all().build();
        Arc::new(polling.map_err(|error| not_called("start its runtime".to_owned(), &error))?)
    };
    // Once, for both layers: whoever renames or links in between has them agree on what was found first.
    let opened: Result<Vec<_>, _> = grants.dirs.iter().map(granted_dir).collect();
    let mut opened = opened?;
    if namespaces.is_some() {
        for (fd, dir) in opened.iter_mut().zip(&grants.dirs) {
            with_nothing_above(fd, dir)?;
        }
    }
    let nowhere = Reach::default();
    let (change, reach) = task.map_or((None, &nowhere), |task| (Some(&task.change), &task.reach));
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
        Ok(_) => Ok((ManuallyDrop::new(runtime), host)),
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

/// An instance of any kind.
enum Instance {
    Handler(Action),
    Command(Command),
    Preview1(wasmtime::Instance),
}

fn store(ready: &Ready, host: Host) -> Store<Host> {
    let mut store = Store::new(ready.engine(), host);
    store.limiter(|host| &mut host.limits);
    // One tick of the epoch, which only the signal to stop gives, ends the call where it is.
    store.set_epoch_deadline(1);
    store
}

/// Makes an instance before there is a call. What a component's own start asks the host for, such as the time, would be old by then: at its first
/// question the attempt is given up, and the instance is made when there is a call.
fn instantiate_early(ready: &Ready, runtime: &Runtime, host: Host) -> (Store<Host>, Option<Instance>) {
    let mut early = store(ready, host);
    early.call_hook(|store, hook| match hook {
        CallHook::CallingHost if store.data().is_waiting() => Err(wasmtime::format_err!("there is no call yet")),
        _ => Ok(()),
    });
    match runtime.block_on(instantiate(ready, &mut early)) {
        Ok(instance) => (early, Some(instance)),
        Err(_) => {
            let mut host = early.into_data();
            host.forget_instance();
            (store(ready, host), None)
        }
    }
}

async fn instantiate(ready: &Ready, store: &mut Store<Host>) -> wasmtime::Result<Instance> {
    Ok(match &ready.call {
        Call::Handler(pre) => Instance::Handler(pre.instantiate_async(store).await?),
        Call::Command(pre) => Instance::Command(pre.instantiate_async(store).await?),
        Call::Preview1(pre) => Instance::Preview1(pre.instantiate_async(store).await?),
    })
}

/// Neither the runtime nor the store is dropped: the process is about to end, and the kernel frees everything at once, faster than they would.
fn call(
    ready: &Ready,
    runtime: &Runtime,
    store: &mut Store<Host>,
    instance: Option<Instance>,
    timing: &mut Timing,
) -> CallEnd {
    let began = store.data().started;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            ended = enter(ready, store, instance, began, timing) => ended,
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
    instance: Option<Instance>,
    began: Instant,
    timing: &mut Timing,
) -> wasmtime::Result<CallEnd> {
    let instance = match instance {
        Some(instance) => instance,
        None => instantiate(ready, store).await?,
    };
    timing.instantiate = began.elapsed();
    match instance {
        Instance::Handler(action) => {
            let data = store.data().data.to_vec();
            let result = action.twitcher_action_handler().call_on_change(store, &data).await?;
            Ok(result.map_or_else(said, |()| CallEnd::Success))
        }
        Instance::Command(command) => {
            let result = command.wasi_cli_run().call_run(store).await?;
            Ok(CallEnd::Code(u8::from(result.is_err())))
        }
        Instance::Preview1(instance) => {
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
