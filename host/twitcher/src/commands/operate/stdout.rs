//! Standard output.

use std::io::{self, Write};

use super::error::OperateError;

/// Where answers go.
pub(super) struct Output {
    /// Whether JSON was asked for.
    pub json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
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
