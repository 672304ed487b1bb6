//! Twitcher runs an action when a znode in ZooKeeper changes.

pub mod cli;
pub mod config;
pub mod launch;
pub mod model;
pub mod observe;
pub mod scheduler;
pub mod source;
