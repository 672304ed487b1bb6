//! Files as a daemon that is root must treat them: opened without trusting what is found, and replaced so that a crash leaves the old
//! or the new. Directories are watched for changes, which are told once they have settled. It must not know what is in any of the
//! files, nor who asks.
//!
//! ```text
//!  kernel ── notify ───┐
//!                      ├──▶ inbox ──▶ DirectoryEvents: told when settled ──▶ task of who asks
//!  thread that polls ──┘       ▲
//!                              └── DirectoryWatcher: which directories, and how ◀── thread that may block
//! ```

#![forbid(unsafe_code)]

pub mod directory_watch;
pub mod links;
pub mod pid_file;
pub mod placed;
pub mod private;
pub mod regular;
pub mod replace;
pub mod system;
