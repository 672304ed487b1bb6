//! The daemon's side of launching: requests are queued and sent, processes supervised, their output read, and their end waited for.
//!
//! It must not know how a process is made: that is the launcher's.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod component_channel;
mod data_files;
mod granted_dirs;
pub mod invocation;
mod last_rites;
pub mod launcher_process;
mod leaving;
mod liveness;
mod native_code;
mod output;
mod output_stream;
mod polled;
pub mod queue;
mod request;
mod resolver;
pub mod secrets;
mod supervised_run;
mod supervisor;
mod survivor;
pub mod warm_pool;
mod warm_process;
