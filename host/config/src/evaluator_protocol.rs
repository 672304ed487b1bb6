//! What the daemon and the helper process that evaluates `.twc` files say to each other, over the helper's stdin.
//!
//! The daemon believes nothing that comes from the helper: it has run hostile code. The messages are JSON, for two things that postcard
//! does not do: its parser bounds its recursion, where [`Call`](super::value::Call)s may hold one another without end; and no value takes
//! much more memory than it took bytes, so that the bound on what a helper may say bounds what the daemon keeps of it. In postcard two
//! bytes make an element of a list. Offsets are clamped where they are used.

use serde::{Deserialize, Serialize};
use twitcher_ipc::frames::Format;

use super::error::ConfigError;
use super::files::FILE_MAX;
use super::value::Registration;

/// Messages to the helper. The largest is a file whose every byte takes six in JSON, and what surrounds it.
pub(super) const REQUESTS: Format = Format::json(6 * FILE_MAX + 65_536);
/// Messages from the helper.
pub(super) const REPLIES: Format = Format::json(4 << 20);

/// What the daemon says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Evaluate this.
    Evaluate { file: String, text: String, budget_ms: u64 },
    /// Answers [`Reply::Load`]: the text of the file, or why there is none.
    Text(Result<String, String>),
}

/// What the helper says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The helper has given up its rights and awaits requests. The first message, unless it is the next.
    Ready,
    /// The helper could not give up its rights, and evaluates nothing.
    Refused(String),
    /// The evaluation needs the text of this file.
    Load { path: String },
    /// The file printed a line: the file and offset of the call, where known.
    Print { at: Option<(String, u32)>, text: String },
    /// The file registered something.
    Registered(Registration),
    /// The evaluation has ended.
    Done(Result<(), Vec<ConfigError>>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn read(message: &str) -> io::Result<Option<Reply>> {
        let length = u32::try_from(message.len()).unwrap().to_le_bytes();
        REPLIES.read(&mut [&length, message.as_bytes()].concat().as_slice())
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(1_000_000);
        assert!(read(&format!("{{\"Done\":{deep}")).is_err());
        let registered = "{\"Registered\":{\"what\":\"Watch\",\"within\":null,\"call\":0,\"origin\":0,";
        assert!(read(&format!("{registered}\"x\":{deep}")).is_err());
        // The one type that holds itself.
        let field = "{\"name\":\"\",\"name_at\":0,\"value_at\":0,\"value\":";
        let call = format!("{field}{{\"Component\":{{\"within\":null,\"at\":0,\"arguments\":[");
        let error = read(&format!("{registered}\"fields\":[{}", call.repeat(10_000))).unwrap_err();
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }
}
