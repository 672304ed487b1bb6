//! What the operator wrote in `Wasm(..., config = {...})`.
//!
//! ```
//! use twitcher_sdk::{config, Failure};
//!
//! fn settings() -> Result<(String, u32), Failure> {
//!     let url = config::require("url")?;
//!     let attempts = config::parse("attempts")?.unwrap_or(3);
//!     Ok((url, attempts))
//! }
//! # use twitcher_sdk::testing::Host;
//! # let host = Host::new().config("url", "https://example.org");
//! # assert_eq!(host.enter(settings), Ok(("https://example.org".to_owned(), 3)));
//! # let failure = Host::new().enter(settings).unwrap_err();
//! # assert_eq!(failure.to_string(), r#"config has no "url""#);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::host;

/// The value of a key; none when the operator did not set it.
pub fn get(key: &str) -> Option<String> {
    host::config_get(key)
}

/// The value of a key that must be there.
///
/// # Errors
/// When the operator did not set it.
pub fn require(key: &str) -> Result<String, Error> {
    get(key).ok_or_else(|| Error {
        key: key.to_owned(),
        problem: None,
    })
}

/// The value of a key, parsed; none when the operator did not set it.
///
/// # Errors
/// When it does not parse.
pub fn parse<T: FromStr<Err: fmt::Display>>(key: &str) -> Result<Option<T>, Error> {
    let parsed = |text: String| {
        text.parse().map_err(|error: T::Err| Error {
            key: key.to_owned(),
            problem: Some(error.to_string()),
        })
    };
    get(key).map(parsed).transpose()
}

/// Every key and its value.
pub fn all() -> BTreeMap<String, String> {
    host::config_all().into_iter().collect()
}

/// A value of the configuration is missing, or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    key: String,
    problem: Option<String>,
}

impl Error {
    /// The key it is about.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "config has no {:?}", self.key),
            Some(problem) => write!(f, "config {:?}: {problem}", self.key),
        }
    }
}

impl std::error::Error for Error {}
