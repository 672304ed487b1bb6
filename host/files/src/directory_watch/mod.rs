//! Changes of files and directories, told once they have settled, and on request at once what is finished: for the tree source and for
//! the configuration.
//!
//! Directories are watched by inotify. Where that cannot be, because none is left or the file system or the permissions do not let
//! it, they are polled, and inotify is tried again now and then. It must not know what is in the files, nor who asks.

mod inbox;
mod inotify;
mod polling;
pub mod settling;
mod watcher;
pub mod way;

pub use inbox::{DirectoryEvents, SettledChanges};
pub use watcher::{DirectoryWatcher, open};
