//! Starting, supervising and reaping the processes of actions.
//!
//! ```text
//! daemon                                launcher (one thread)          action
//!   Launches ── Request + 3 fds ──────▶ clone(CLONE_PARENT) ─────────▶ Reply::Started ── the ordered steps ── exec
//!      ▲                                                                 │
//!      └───────────── Reply::Started, Reply::Failed ◀────────────────────┘
//! ```
//!
//! The daemon has threads, and may be large: it must not fork. The launcher is a small process with one thread, so what it
//! clones may run any code, and cloning it is cheap. `CLONE_PARENT` makes actions the daemon's children: the daemon waits for
//! them itself, with their resource usage, and loses nothing when the launcher dies.
//!
//! It is the child itself that says [`protocol::Reply::Started`], as its first act, on a socket of the launcher's, and a child that cannot say
//! it ends. So once the daemon has closed that socket to further messages, a request without an answer is not carried out any more:
//! it is sent to the next launcher and nothing runs twice. A child that the launcher waits for, until it has executed its program, says so where
//! nobody is woken: the daemon would be in its way, and hears of it from the launcher right afterwards.
//!
//! Before that it writes itself down in the [`Journal`], if the daemon keeps one: what the next daemon waits for, should this one be killed.
//!
//! Of components that run often a process waits for each next run, all but called; it is handed what the call is for on its own channel. A
//! component's run is over when its process has said that the call is: that is killed then, so that it executes nothing any more, and what it
//! had mapped is taken apart beside what comes next, which takes the kernel as long as the call.
//!
//! An action's process that is no program of its own is a copy of the launcher, which therefore reads of a request only what it needs and
//! holds nothing of the rest ([`protocol::Page`]).
//!
//! This crate must not know what a watch is, when it runs, or where its data came from.

mod allocator;
mod daemon_side;
mod journal;
mod launcher;
pub mod protocol;

pub use allocator::{Allocator, release_free_memory};
pub use daemon_side::invocation::{
    AnswerTo, Asker, CAPTURED, Captured, ComponentQuestion, Control, Invocation, Renewal, RunReport, Written,
};
pub use daemon_side::launcher_process::Launcher;
pub use daemon_side::queue::{LaunchError, Launches, RunEvent};
pub use daemon_side::secrets::SecretValues;
pub use daemon_side::warm_pool::{WarmFigures, WarmSpec};
pub use journal::{Journal, JournalError, Purpose, SurvivingRun};
pub use launcher::{Bodies, keep_inherited_descriptors, main as launcher_main};
