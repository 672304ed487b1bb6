//! Permissions of files, which WASI knows nothing of: for all else there is the standard library.
//!
//! ```
//! use std::fs::File;
//! use std::io::Write;
//! use twitcher_sdk::{files, Failure};
//!
//! fn keep_secret(path: &str, secret: &str) -> Result<(), Failure> {
//!     let mut file = File::create(path)?;
//!     files::set_mode(path, 0o600)?; // before there is anything to be read
//!     file.write_all(secret.as_bytes())?;
//!     Ok(())
//! }
//! # let path = std::env::temp_dir().join(format!("twitcher-sdk-files-{}", std::process::id()));
//! # let path = path.to_str().unwrap();
//! # let host = twitcher_sdk::testing::Host::new();
//! # host.enter(|| keep_secret(path, "x")).unwrap();
//! # assert_eq!(host.enter(|| files::mode(path)), Ok(0o600));
//! # std::fs::remove_file(path).unwrap();
//! # assert_eq!(host.enter(|| files::mode(path)).unwrap_err().path(), path);
//! ```

use std::fmt;
use std::path::Path;

use crate::host;

/// The permissions of a regular file: the nine bits for its owner, its group and others.
///
/// # Errors
/// When there is no such file, or a link leads to it.
pub fn mode(path: impl AsRef<Path>) -> Result<u32, Error> {
    ask(path.as_ref(), host::file_mode)
}

/// Sets the permissions of a regular file. They are what `mode` says, whatever the watch's `umask`.
///
/// # Errors
/// When there is no such file, its directory is read-only, it belongs to somebody else, or a link leads to it.
pub fn set_mode(path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
    ask(path.as_ref(), |path| host::file_set_mode(path, mode))
}

fn ask<T>(path: &Path, question: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Error> {
    // To a component all paths are UTF-8.
    let path = path.to_string_lossy().into_owned();
    question(&path).map_err(|why| Error { path, why })
}

/// Why the permissions of a file are not known, or not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: String,
    why: String,
}

impl Error {
    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

impl std::error::Error for Error {}
