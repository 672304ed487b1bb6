//! Frames: messages on a stream, each with its length in front.
//!
//! ```text
//! length of the body: 4 bytes, little-endian │ body: a message, as the codec of the channel writes it
//! ```
//!
//! A length is bounded before anything is allocated for its body. After a frame that is refused, nothing that follows can be trusted.
//! This module must not know what is said, nor who says it.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Length of what stands before a body.
const HEAD: usize = 4;

/// Why a message is neither sent nor accepted.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is longer than its format allows.
    #[error("a message is too long")]
    TooLong,
    /// Postcard refuses it.
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
    /// JSON refuses it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl From<FrameError> for io::Error {
    /// Always of one kind: `serde_json` would call a body that ends early the end of the stream.
    fn from(error: FrameError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// How a message becomes bytes.
#[derive(Debug, Clone, Copy)]
enum Codec {
    Postcard,
    Json,
}

/// What one direction of a channel carries: how messages are written, and how long they may be.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    codec: Codec,
    max: usize,
}

impl Format {
    /// Messages of at most `max` bytes in postcard. Their type must bound how deep they nest: postcard follows them as deep as they go.
    pub const fn postcard(max: usize) -> Self {
        let codec = Codec::Postcard;
        Self { codec, max }
    }

    /// Messages of at most `max` bytes in JSON, whose parser bounds how deep they nest.
    pub const fn json(max: usize) -> Self {
        let codec = Codec::Json;
        Self { codec, max }
    }

    /// A message as a frame.
    pub fn frame(self, message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
        let mut frame = vec![0; HEAD];
        match self.codec {
            Codec::Postcard => frame = postcard::to_extend(message, frame)?,
            Codec::Json => serde_json::to_writer(&mut frame, message)?,
        }
        let body = frame.len() - HEAD;
        let length = u32::try_from(body).map_err(|_| FrameError::TooLong)?;
        if body > self.max {
            return Err(FrameError::TooLong);
        }
        frame[..HEAD].copy_from_slice(&length.to_le_bytes());
        Ok(frame)
    }

    /// Writes a message.
    pub fn write(self, to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
        to.write_all(&self.frame(message)?)
    }

    /// Reads the next message, and waits for it; none when the other side has closed.
    pub fn read<T: DeserializeOwned>(self, from: &mut impl Read) -> io::Result<Option<T>> {
        let mut head = [0; HEAD];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = self.announced(head)?;
        let mut body = Vec::new();
        // What is allocated grows with what comes, not with what was announced.
        if from.take(length as u64).read_to_end(&mut body)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(self.decode(&body)?))
    }

    fn announced(self, head: [u8; HEAD]) -> Result<usize, FrameError> {
        let length = u32::from_le_bytes(head) as usize;
        match length <= self.max {
            true => Ok(length),
            false => Err(FrameError::TooLong),
        }
    }

    fn decode<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, FrameError> {
        Ok(match self.codec {
            Codec::Postcard => postcard::from_bytes(body)?,
            Codec::Json => serde_json::from_slice(body)?,
        })
    }
}

/// Frames whose bytes come in pieces, for who must not wait for the rest. Whoever takes all messages out after each piece holds at most
/// one message and one piece.
#[derive(Debug)]
pub struct Frames {
    format: Format,
    bytes: Vec<u8>,
    used: usize,
}

impl Frames {
    /// No bytes yet, of frames of a format.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            bytes: Vec::new(),
            used: 0,
        }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.bytes[self.used..];
        let Some((head, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let length = self.format.announced(*head)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = self.format.decode(body)?;
        self.used += HEAD + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Message {
        Text(Result<String, String>),
        Bytes(Vec<u8>),
    }

    const MAX: usize = 4 << 20;
    const FORMATS: [Format; 2] = [Format::postcard(MAX), Format::json(MAX)];

    fn messages() -> [Message; 3] {
        [
            Message::Text(Ok("ü\n\"".to_owned())),
            Message::Bytes(vec![7; 1 << 20]),
            Message::Text(Err(String::new())),
        ]
    }

    #[test]
    fn messages_arrive_as_sent_and_then_the_end() {
        for format in FORMATS {
            let mut bytes = Vec::new();
            for message in messages() {
                format.write(&mut bytes, &message).unwrap();
            }
            let mut stream = bytes.as_slice();
            for message in messages() {
                assert_eq!(format.read(&mut stream).unwrap(), Some(message));
            }
            assert_eq!(format.read::<Message>(&mut stream).unwrap(), None);
        }
    }

    #[test]
    fn frames_arrive_whole_however_they_are_cut() {
        for format in FORMATS {
            let bytes: Vec<u8> = messages().iter().flat_map(|m| format.frame(m).unwrap()).collect();
            for size in [1000, 3, 4096, bytes.len()] {
                let mut frames = Frames::new(format);
                let mut got = Vec::new();
                for chunk in bytes.chunks(size) {
                    frames.push(chunk);
                    while let Some(message) = frames.take::<Message>().unwrap() {
                        got.push(message);
                    }
                }
                assert_eq!(got, messages());
            }
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_size_is_refused_before_it_is_read() {
        for format in FORMATS {
            let bytes = u32::MAX.to_le_bytes();
            let error = format.read::<Message>(&mut bytes.as_slice()).unwrap_err();
            assert_eq!(error.to_string(), "a message is too long");
            let mut frames = Frames::new(format);
            frames.push(&bytes);
            assert!(matches!(frames.take::<Message>(), Err(FrameError::TooLong)));
            let mut frames = Frames::new(format);
            frames.push(&[1, 0, 0, 0, 200]);
            assert!(frames.take::<Message>().is_err());
            let error = format.read::<Message>(&mut &[2, 0, 0, 0, b'"'][..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn what_would_be_refused_is_not_sent() {
        for format in FORMATS {
            let large = Message::Bytes(vec![0; MAX]);
            assert!(matches!(format.frame(&large), Err(FrameError::TooLong)));
        }
    }

    #[test]
    fn a_body_that_ends_early_is_not_the_end_of_the_stream() {
        let format = Format::json(MAX);
        let error = format.read::<Message>(&mut &[1, 0, 0, 0, b'"'][..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
