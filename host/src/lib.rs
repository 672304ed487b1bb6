//! Twitcher runs an action when a znode in ZooKeeper changes.
//!
//! This crate is the host: the library behind the program `twitcher`. Its modules, from the outside in:
//!
//! ```text
//! main ─▶ daemon ─▶ source      what state a znode is in: ZooKeeper, or a local directory
//!            │  ├─▶ scheduler   when an action runs: a pure state machine for each watch
//!            │  ├─▶ launch      how it runs: a process, its streams, its end
//!            │  │     └─▶ sandbox   what runs in an action's process when it is a component
//!            │  ├─▶ broker      what a component may have done outside: commands, znodes
//!            │  ├─▶ config      .twc and .json files become watches
//!            │  ├─▶ supply      what their `Wasm(…)` name becomes a component: a file compiled, or a bundle
//!            │  │     └─▶ bundle    what plugins are deployed as: packed, signed, kept
//!            │  ├─▶ state       what the next daemon must know: handled states, parked watches, running actions, history
//!            │  ├─▶ control     what operators see and do: HTTP on a Unix socket, and read-only on TCP
//!            │  └─▶ observe     the log, and what is counted for Prometheus (see [`observe::metrics`])
//!            └──── model        the plain types between them
//!
//! main ─▶ operate    the commands on a running daemon: they know only what control says
//! ```
//!
//! # Processes
//!
//! ```text
//! twitcher run ──▶ daemon (one thread that decides, one that answers operators, a few that may block)
//!    │ forked first, while there is one thread
//!    └──────────▶ launcher (one thread, small) ──clone──▶ action (its own session; the daemon's child)
//!    ├──────────▶ evaluate (no privileges, bounded) : turns the text of .twc files into watches
//!    └──────────▶ compile  (no privileges, bounded) : turns a component into native code, and has it judge its configuration
//! ```
//!
//! # Theory of operation
//!
//! What counts is the state of a znode now, not the events that led to it. A source wakes, reads and re-arms, and hands the
//! scheduler an [`model::Observation`]; after any doubt (a lost connection, an expired session, an overflow) it reads everything
//! again. The scheduler compares versions, so reading too often is harmless and reading too seldom cannot happen. Its effects are
//! carried out by [`daemon`]; the outcome of a run comes back as one more input.
//!
//! Nothing an action, a configuration file or a znode contains can stop the loop that decides: data travels to actions in memory
//! files rather than pipes, output is read as it comes and bounded, configuration is evaluated in a process that can be killed.

mod broker;
pub mod bundle;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
mod environment;
mod fswatch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod help;
pub mod launch;
pub mod model;
pub mod observe;
pub mod operate;
pub mod pidfile;
pub mod plugin;
mod printable;
pub mod progress;
pub mod sandbox;
pub mod scheduler;
pub mod source;
pub mod state;
pub mod supply;
mod unprivileged;
