//! Files as a daemon that is root must treat them: opened without trusting what is found, replaced so that a crash leaves the old or the
//! new, watched for changes until they have settled. It must not know what is in any of them, nor who asks.

#![forbid(unsafe_code)]

pub mod directory_watch;
pub mod pid_file;
pub mod private;
pub mod regular;
pub mod replace;
pub mod system;
