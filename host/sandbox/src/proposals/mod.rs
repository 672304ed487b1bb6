//! WASI's proposals for hosts such as this one, as components written for others import them: `wasi:config`, `wasi:logging` and
//! `wasi:keyvalue`. Each is another way to what `twitcher:action` has, under the same grants: `config`, the run's log, `znodes`.
//!
//! wasmtime has crates for two of them. `wasmtime-wasi-config` is used. `wasmtime-wasi-keyvalue` is not: its buckets are maps in the
//! component's own process, filled beforehand and gone with it, where ours are znodes that outlive it and others change; its provider
//! cannot be replaced; and it has only the version 0.2.0-draft, which knows no compare-and-swap.
//!
//! It must not decide what is granted: each znode is asked of the daemon, which does. What is known of grants here only makes a refusal
//! come sooner and say more.

mod buckets;
mod key_names;
mod keyvalue;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use super::channel::{FromAction, Level as Ours, TEXT_MAX, cut};
use super::host::Host;

/// The names that the same interface has in components: before its package had versions, and since.
const LOGGING: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

/// Adds all of them.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, config)?;
    for name in LOGGING {
        linker.instance(name)?.func_wrap("log", log)?;
    }
    keyvalue::add_to_linker(linker)
}

/// What the operator wrote as `config`. Most components never ask.
fn config(host: &mut Host) -> WasiConfig<'_> {
    let Host {
        action, wasi_config, ..
    } = host;
    let written = || WasiConfigVariables::from_iter(action.grants.config.iter().cloned());
    WasiConfig::new(wasi_config.get_or_insert_with(written))
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[expect(dead_code, reason = "they come out of a component's memory")]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// The context becomes a field, by which records can be searched for.
fn log(store: StoreContextMut<'_, Host>, (level, context, message): (Level, String, String)) -> wasmtime::Result<()> {
    let mut fields = Vec::new();
    if !context.is_empty() {
        fields.push(("context".to_owned(), cut(context, TEXT_MAX)));
    }
    let level = match level {
        Level::Trace => Ours::Trace,
        Level::Debug => Ours::Debug,
        Level::Info => Ours::Info,
        Level::Warn => Ours::Warn,
        Level::Error => Ours::Error,
        // The log has no higher level; the field tells them apart.
        Level::Critical => {
            fields.push(("critical".to_owned(), "true".to_owned()));
            Ours::Error
        }
    };
    let message = cut(message, TEXT_MAX);
    Ok(store.data().channel.say(&FromAction::Log { level, message, fields })?)
}
