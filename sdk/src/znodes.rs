//! Znodes that the operator granted: `Wasm(..., znodes = {"/app/**": "rw"})`, by way of the daemon's own session with ZooKeeper.
//!
//! ```
//! use twitcher_sdk::{znodes, Failure};
//!
//! fn count_up() -> Result<(), Failure> {
//!     let counter = znodes::get("/app/counter")?;
//!     let count: u64 = counter.text()?.trim().parse()?;
//!     // Fails if somebody else has set it since.
//!     znodes::set_if("/app/counter", (count + 1).to_string(), counter.stat.version)?;
//!     Ok(())
//! }
//! # use twitcher_sdk::testing::Host;
//! # let host = Host::new().znode("/app/counter", "41");
//! # host.enter(count_up).unwrap();
//! # assert_eq!(host.znode_data("/app/counter").unwrap(), b"42");
//! ```

use std::fmt;
use std::str::Utf8Error;

use serde::de::DeserializeOwned;

use crate::{Stat, host};

/// A znode as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its data.
    pub data: Vec<u8>,
    /// Its stat, of the same moment.
    pub stat: Stat,
}

impl Node {
    /// The data as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.data)
    }

    /// The data as JSON.
    ///
    /// # Errors
    /// When it is not JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }
}

/// Reads a znode.
///
/// # Errors
/// See [`ErrorKind`].
pub fn get(path: &str) -> Result<Node, Error> {
    host::znode_get(path).map_err(at(path))
}

/// Sets a znode's data, whatever it was.
///
/// # Errors
/// See [`ErrorKind`].
pub fn set(path: &str, data: impl AsRef<[u8]>) -> Result<Stat, Error> {
    host::znode_set(path, data.as_ref(), None).map_err(at(path))
}

/// Sets a znode's data if its version is still this one.
///
/// # Errors
/// [`ErrorKind::BadVersion`] when somebody else set it; see [`ErrorKind`] for the others.
pub fn set_if(path: &str, data: impl AsRef<[u8]>, version: i32) -> Result<Stat, Error> {
    host::znode_set(path, data.as_ref(), Some(version)).map_err(at(path))
}

/// Creates a persistent znode; its parent must exist.
///
/// # Errors
/// See [`ErrorKind`].
pub fn create(path: &str, data: impl AsRef<[u8]>) -> Result<(), Error> {
    host::znode_create(path, data.as_ref()).map_err(at(path))
}

/// The sorted names of a znode's children.
///
/// # Errors
/// See [`ErrorKind`].
pub fn children(path: &str) -> Result<Vec<String>, Error> {
    host::znode_children(path).map_err(at(path))
}

fn at(path: &str) -> impl FnOnce(ErrorKind) -> Error {
    |kind| Error {
        path: path.to_owned(),
        kind,
    }
}

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: String,
    kind: ErrorKind,
}

/// In which way a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such znode; for [`create`], no parent.
    NoNode,
    /// There is such a znode already.
    NodeExists,
    /// The znode's version is not the expected one: somebody else set it.
    BadVersion,
    /// The operator, or an access control list of ZooKeeper, does not allow it; the text says the configuration to add.
    Denied(String),
    /// The data, or the answer, is larger than is passed on.
    TooLarge,
    /// There is no session with ZooKeeper, and nothing was sent. As a [`Failure`](crate::Failure) it is one to retry.
    SessionLost,
    /// The connection was lost after the request was sent: it may or may not have been carried out. Read before trying again. As a
    /// [`Failure`](crate::Failure) it is one to retry.
    UnknownOutcome,
    /// Anything else, in words.
    Failed(String),
}

impl Error {
    /// The path of the call.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "znode {}: ", self.path)?;
        match &self.kind {
            ErrorKind::NoNode => f.write_str("does not exist"),
            ErrorKind::NodeExists => f.write_str("exists already"),
            ErrorKind::BadVersion => f.write_str("was set by somebody else"),
            ErrorKind::Denied(text) => write!(f, "denied: {text}"),
            ErrorKind::TooLarge => f.write_str("too large"),
            ErrorKind::SessionLost => f.write_str("no session with ZooKeeper"),
            ErrorKind::UnknownOutcome => f.write_str("connection lost, the request may have been carried out"),
            ErrorKind::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
