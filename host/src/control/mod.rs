//! The control interface: what operators see of a daemon and tell it, over HTTP on a Unix socket.

pub mod api;
