//! The launcher with real processes, users and signals: everything that an action may do to its supervisor.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed; Clippy knows only functions marked as tests"
)]

mod bench;
mod dying;
mod ending;
mod starting;
