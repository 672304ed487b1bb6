//! A component judges its own configuration, when the configuration is loaded.
//!
//! It runs in a helper process of its own, where nothing is at hand but what the component is configured with: it is somebody else's code,
//! and what a helper compiles is trusted.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::Instance;

use super::channel::{CallEnd, Channel, cut};
use super::host::{Host, Stdio};
use super::native_code::{self, LoadError};
use super::network::Reach;
use super::{INTERFACE, engine};
use twitcher_confine::ConfineError;
use twitcher_confine::helper::{Work, give_up_system_calls};
use twitcher_model::{
    ChangeFacts, Component, Digest, EntryPoint, Grants, Keep, Payload, RunId, Trigger, WasmAction, WatchType, ZnodePath,
};

/// Most complaints, and the longest, in bytes.
const COMPLAINTS: usize = 100;
const COMPLAINT_MAX: usize = 1000;

/// Why a component's check gives no verdict.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It does not load.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// A system call failed.
    #[error("cannot prepare its check: {0}")]
    Prepare(#[from] io::Error),
    /// It could do more than it may.
    #[error("cannot give up system calls: {0}")]
    Confine(#[from] ConfineError),
    /// It trapped, or has no such function.
    #[error("its check broke off: {0}")]
    Broken(String),
}

/// What a component finds as its standard streams.
pub fn no_streams() -> io::Result<Stdio> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    Ok(Stdio {
        stdin: null()?,
        stdout: null()?,
        stderr: null()?,
    })
}

/// The verdict of the component's `validate`. The process gives up what system calls it has left before the component's first instruction.
pub fn validate(native: &[u8], grants: Grants, stdio: Stdio) -> Result<Result<(), Vec<String>>, CheckError> {
    // Where it trapped is for `plugin run` to show.
    let broken = |error: wasmtime::Error| CheckError::Broken(cut(error.root_cause().to_string(), COMPLAINT_MAX));
    let engine = engine::running().map_err(LoadError::Engine)?;
    let pre = native_code::load_copy(&engine, native)?;
    let host = match host(grants, stdio) {
        Ok(host) => host,
        Err(ended) => return Err(CheckError::Broken(format!("{ended:?}"))),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut store = Store::new(&engine, host);
    store.limiter(|host| &mut host.limits);
    store.set_epoch_deadline(1);
    give_up_system_calls(Work::Running)?;
    let verdict = runtime.block_on(async {
        let instance = pre.instantiate_async(&mut store).await?;
        let validate = function(&mut store, &instance)?;
        let (verdict,) = validate.call_async(&mut store, ()).await?;
        Ok(verdict)
    });
    Ok(verdict.map_err(broken)?.map_err(|complaints: Vec<String>| {
        let short = |complaint| cut(complaint, COMPLAINT_MAX);
        complaints.into_iter().take(COMPLAINTS).map(short).collect()
    }))
}

type Validate = wasmtime::component::TypedFunc<(), (Result<(), Vec<String>>,)>;

fn function(store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<Validate> {
    let interface = format!("twitcher:action/check@{INTERFACE}");
    let missing = || wasmtime::format_err!("it exports no function validate in {interface}");
    let interface_at = instance
        .get_export_index(&mut *store, None, &interface)
        .ok_or_else(missing)?;
    let function = instance
        .get_export_index(&mut *store, Some(&interface_at), "validate")
        .ok_or_else(missing)?;
    instance.get_typed_func(store, function)
}

/// Only the configuration is granted.
fn host(grants: Grants, stdio: Stdio) -> Result<Host, CallEnd> {
    let action = WasmAction {
        component: Component {
            file: Arc::from(Path::new("")),
            bundle: None,
            digest: Digest([0; 32]),
            entry: EntryPoint::Handler,
            native: Arc::from(Path::new("")),
            keep: Keep::default(),
        },
        grants: Grants {
            config: grants.config,
            memory: grants.memory,
            ..Grants::default()
        },
    };
    let change = ChangeFacts {
        run: RunId(0),
        watch: Arc::from(""),
        path: ZnodePath::root(),
        watch_type: WatchType::Data,
        payload: Payload::Data,
        event: Trigger::Load,
        stat: None,
        attempt: 1,
        timeout: None,
    };
    Host::new(
        &Arc::new(action),
        Some(&change),
        &Reach::default(),
        Channel::new(None),
        stdio,
        &[],
    )
}
