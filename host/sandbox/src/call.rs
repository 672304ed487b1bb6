//! One call of a component, in the process that was made for it.
//!
//! It must not return into anything that the launcher left on the stack: its caller ends the process.

use std::fs::OpenOptions;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

use super::channel::{CallEnd, Channel, FromAction, TEXT_MAX, Timing, cut};
use super::confine::{Confinement, Dir};
use super::host::{Host, Stdio, not_called};
use super::host_imports::twitcher::action::types::Failure as Said;
use super::native_code::{Call, Ready};
use super::network::Reach;
use twitcher_model::{ChangeFacts, ComponentFailure, WasmAction};

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
) -> i32 {
    let speaker = channel.speaker();
    let mut timing = Timing::default();
    let ended = prepare(ready, action, change, reach, channel, stdio)
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
    let host = Host::new(action, change, reach, channel, stdio)?;
    let open = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(path)
    };
    let opened: Result<Vec<_>, _> = grants.dirs.iter().map(|dir| open(&dir.host)).collect();
    let opened = opened.map_err(|error| not_called("open a granted directory".to_owned(), &error))?;
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
    };
    match confinement.apply(&ready.filters) {
        Ok(_) => Ok((runtime, host)),
        Err(error) => Err(CallEnd::Failed(
            ComponentFailure::Trap,
            format!("it was not called: {error}"),
        )),
    }
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
        match &ready.call {
            Call::Handler(pre) => {
                let data = store.data().data.to_vec();
                let instance = pre.instantiate_async(&mut *store).await?;
                timing.instantiate = began.elapsed();
                let result = instance
                    .twitcher_action_handler()
                    .call_on_change(&mut *store, &data)
                    .await?;
                Ok(result.map_or_else(said, |()| CallEnd::Success))
            }
            Call::Command(pre) => {
                let instance = pre.instantiate_async(&mut *store).await?;
                timing.instantiate = began.elapsed();
                let result = instance.wasi_cli_run().call_run(&mut *store).await?;
                Ok(CallEnd::Code(u8::from(result.is_err())))
            }
        }
    });
    timing.call = began.elapsed().saturating_sub(timing.instantiate);
    result.unwrap_or_else(|error| broken_off(&error, store.data(), matches!(ready.call, Call::Command(_))))
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
    if host.limits.out_of_memory {
        let mebibytes = host.grants().memory >> 20;
        message = format!(
            "it needs more memory than it may have; grant it with Wasm(..., memory=\"...MiB\"), now {mebibytes} MiB\n{message}"
        );
    }
    CallEnd::Failed(ComponentFailure::Trap, cut(message, TEXT_MAX))
}
