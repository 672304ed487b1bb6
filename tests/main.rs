//! End-to-end tests: the real program, real processes, a real ZooKeeper.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed; Clippy knows only functions marked as tests"
)]

mod bundles;
mod config;
mod control;
mod daemon;
mod ensemble;
mod fleet;
mod guards;
mod help;
mod log;
mod operate;
mod package;
mod page;
mod readme;
mod registry;
mod retry;
mod state;
mod support;
mod systemd;
mod tree;
mod tree_znodes;
mod unreadable;
mod wasm;
mod znode;
mod zookeeper;
