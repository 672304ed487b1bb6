//! Changes of files and directories, told once they have settled: for the tree source and for the configuration.
//!
//! It must not know what is in the files, nor who asks.

pub mod inotify;
pub mod settling;
