//! The daemon's log: records with a message and fields, to which the daemon adds the watch's name and the run's id.
//!
//! The message is a literal, as of [`format!`] with names only; fields follow it as `name = value`.
//!
//! ```
//! use twitcher_sdk::log;
//!
//! fn report(files: usize) {
//!     log::info!("pulled {files} files", files = files, branch = "main");
//!     log::warn!("nothing to do");
//! }
//! # use twitcher_sdk::testing::Host;
//! # let host = Host::new();
//! # host.enter(|| report(3));
//! # assert_eq!(host.logs()[0].message, "pulled 3 files");
//! # assert_eq!(host.logs()[0].field("branch"), Some("main"));
//! # assert_eq!(host.logs()[1].level, log::Level::Warn);
//! ```
//!
//! What a plugin prints to standard output and error lands in the log, too, one record a line.

use std::fmt;

use crate::host;

/// How much a record matters, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step, for the author.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to know of a run that went well.
    Info,
    /// Something is not right, and the run goes on.
    Warn,
    /// Something went wrong.
    Error,
}

/// Writes a record: what the macros of this module do. For a level or fields that are known only at run time.
pub fn record(level: Level, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_string()))
        .collect();
    host::log(level, message, &fields);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $message:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::log::record(
            $crate::log::Level::$level,
            &::std::format!($message),
            &[$((::std::stringify!($name), &$value as &dyn ::std::fmt::Display)),*],
        )
    };
}

/// Logs every step, for the author: `trace!("message {value}", name = value, …)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($record:tt)*) => { $crate::__log!(Trace, $($record)*) };
}

/// Logs what helps to find a fault: `debug!("message {value}", name = value, …)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($record:tt)*) => { $crate::__log!(Debug, $($record)*) };
}

/// Logs what an operator wants to know of a run that went well: `info!("message {value}", name = value, …)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($record:tt)*) => { $crate::__log!(Info, $($record)*) };
}

/// Logs that something is not right, and the run goes on: `warn!("message {value}", name = value, …)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($record:tt)*) => { $crate::__log!(Warn, $($record)*) };
}

/// Logs that something went wrong: `error!("message {value}", name = value, …)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($record:tt)*) => { $crate::__log!(Error, $($record)*) };
}

// Macros can only be exported at the root of a crate; hidden there, they are shown here.
#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};
