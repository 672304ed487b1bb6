//! What the daemon and the helper process that evaluates `.twc` files say to each other, over the helper's stdin and stdout.
//!
//! Each message is a length and that much JSON. The daemon believes nothing that comes from the helper: it has run hostile code.
//! Lengths are bounded before anything is allocated, the parser bounds its recursion, and offsets are clamped where they are used.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::files::FILE_MAX;
use super::value::Registration;

/// Largest message to the helper: a file whose every byte takes six in JSON, and what surrounds it.
pub(super) const REQUEST_MAX: usize = 6 * FILE_MAX + 65_536;
/// Largest message from the helper.
pub(super) const REPLY_MAX: usize = 4 << 20;

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

/// A message with its length before it.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| io::ErrorKind::InvalidInput)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// The length that four bytes announce, if it is at most `max`.
pub(super) fn announced(length: [u8; 4], max: usize) -> io::Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    Ok(length)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(io::Error::from)
}

pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

/// The next message; none when the other side has closed.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read, max: usize) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut bytes = vec![0; announced(length, max)?];
    from.read_exact(&mut bytes)?;
    parse(&bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_sent() {
        let mut bytes = Vec::new();
        let text = Request::Text(Ok("ü\n\"".to_owned()));
        write(&mut bytes, &text).unwrap();
        let Some(Request::Text(Ok(read))) = read(&mut bytes.as_slice(), REQUEST_MAX).unwrap() else {
            panic!("another message");
        };
        assert_eq!(read, "ü\n\"");
    }

    #[test]
    fn a_long_message_is_refused_before_it_is_read() {
        let bytes = u32::MAX.to_le_bytes();
        let error = read::<Reply>(&mut bytes.as_slice(), REPLY_MAX).unwrap_err();
        assert_eq!(error.to_string(), "a message is too long");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(1_000_000);
        assert!(parse::<Reply>(format!("{{\"Done\":{deep}").as_bytes()).is_err());
        assert!(
            parse::<Reply>(
                format!("{{\"Registered\":{{\"what\":\"Watch\",\"within\":null,\"call\":0,\"origin\":0,\"x\":{deep}")
                    .as_bytes()
            )
            .is_err()
        );
    }
}
