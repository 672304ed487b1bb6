//! What an action is given, and what is done on its behalf: from a decision to run to the task and environment of a process, and from a
//! component's questions to commands and znodes. It must not know when an action runs.

#![forbid(unsafe_code)]

mod broker;
pub mod environment;
pub mod payload;

pub use broker::Broker;
