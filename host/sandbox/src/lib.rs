//! Running components: compiling them for this machine, and calling them in a process that can reach nothing but its grants.
//!
//! ```text
//! daemon ── code cache ──▶ compile helper (no rights) : wasm → native code, kept in a cache
//! launcher ─ native code ─ maps it once, ready to be instantiated
//!    └─clone─▶ action ─ call ─ calls the component ◀── channel ──▶ daemon: log, cancel, commands, znodes, outcome
//! ```
//!
//! It must not know where observations come from, nor how a watch is written: it is handed a [`twitcher_model::WasmAction`].

mod call;
pub mod channel;
pub mod code_cache;
pub mod compile;
pub mod compile_helper;
mod config_check;
mod description;
mod directories;
mod engine;
mod file_streams;
mod granted_files;
mod host;
mod host_imports;
mod interruption;
mod limits;
mod native_code;
mod network;
mod preview1;
mod proposals;

pub use call::{Equipment, Stage, WasmTask, run, wait};
pub use engine::{PROFILE, WASMTIME, settings};
pub use host::Stdio;
pub use interruption::interrupt;
pub use limits::process_limits;
pub use native_code::{LoadError, LoadedCode, Ready};
pub use network::{Reach, names};

/// The package `twitcher:action` as this version of the host speaks it.
pub const INTERFACE: &str = "1.1.0";
