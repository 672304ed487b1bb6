//! Standard output.

use std::io::{self, Write};

use super::error::OperateError;
use super::reaching::Reaching;

/// Where answers go.
pub(super) struct Output {
    /// Whether JSON was asked for.
    pub json: bool,
    reaching: Reaching,
}

impl Output {
    pub fn new(json: bool, reaching: Reaching) -> Self {
        Self { json, reaching }
    }

    /// Prints what is ours, with commands that reach the same daemon.
    pub fn say(&self, text: &str) -> Result<(), OperateError> {
        self.print(&self.reaching.in_text(text))
    }

    /// Prints, and does not hold anything back: events are followed through pipes.
    pub fn print(&self, text: &str) -> Result<(), OperateError> {
        self.bytes(text.as_bytes())
    }

    /// A line of JSON.
    pub fn json(&self, bytes: &[u8]) -> Result<(), OperateError> {
        self.bytes(&[bytes.trim_ascii_end(), b"\n"].concat())
    }

    fn bytes(&self, bytes: &[u8]) -> Result<(), OperateError> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(OperateError::Output)
    }
}
