//! Running components: compiling them for this machine, and calling them in a process that can reach nothing but its grants.
//!
//! ```text
//! daemon ── components ──▶ helper (no rights) : wasm → native code, kept in a cache
//! launcher ─ loaded ─ maps the native code once, ready to be instantiated
//!    └─clone─▶ action ─ run ─ calls the component ◀── channel ──▶ daemon: log, cancel, commands, znodes, outcome
//! ```
//!
//! It must not know where observations come from, nor how a watch is written: it is handed a [`crate::model::WasmAction`].

pub mod channel;
mod check;
pub mod compile;
pub mod components;
pub mod confine;
mod engine;
mod files;
pub mod helper;
mod host;
mod imports;
mod native;
mod net;
mod run;
mod target;

pub use engine::{PROFILE, WASMTIME, settings};
pub use host::Stdio;
pub use native::{LoadError, Loaded, Ready};
pub use net::{Reach, names};
pub use run::run;
pub use target::{Target, UnknownTarget};

/// The package `twitcher:action` as this version of the host speaks it.
pub const INTERFACE: &str = "1.0.0";
