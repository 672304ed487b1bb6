//! Server-sent events: the text of a stream becomes messages.
//!
//! As in the WHATWG's HTML standard, less what the daemon never sends. It must not know what the messages mean.

/// Largest message, in bytes: an event has a watch and a run, each of bounded size.
const MESSAGE_MAX: usize = 4 << 20;

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SseMessage {
    /// The data of a message.
    Message(String),
    /// Nothing, so that the connection is known to live.
    Comment,
}

/// The message would be larger than anything the daemon sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A stream as far as it was read.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    buffer: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

impl SseParser {
    /// What became complete with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseMessage>, TooLarge> {
        let mut said = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.buffer.len() + self.data.len() + part.len() > MESSAGE_MAX {
                return Err(TooLarge);
            }
            self.buffer.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.buffer);
                self.line(line.trim_ascii_end(), &mut said);
            }
        }
        Ok(said)
    }

    fn line(&mut self, line: &[u8], said: &mut Vec<SseMessage>) {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                said.push(SseMessage::Message(String::from_utf8_lossy(&data).into_owned()));
            }
        } else if line.starts_with(b":") {
            said.push(SseMessage::Comment);
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            self.has_data = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": hello\n\nid: 1\nevent: started\ndata: {\"a\":1}\n\nid: 2\r\ndata:x\r\ndata: y\r\n\r\nretry: 5\n\ndata: cut off";

    #[test]
    fn messages_do_not_depend_on_how_the_stream_is_cut() {
        let expected = [
            SseMessage::Comment,
            SseMessage::Message("{\"a\":1}".to_owned()),
            SseMessage::Message("x\ny".to_owned()),
        ];
        for size in 1..TEXT.len() {
            let mut frames = SseParser::default();
            let said: Vec<_> = TEXT
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| frames.push(chunk).unwrap())
                .collect();
            assert_eq!(said, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let mut frames = SseParser::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..8).find_map(|_| frames.push(&piece).err());
        assert_eq!(refused, Some(TooLarge));
        let mut frames = SseParser::default();
        let line = [b"data: ", piece.as_slice(), b"\n"].concat();
        let refused = (0..8).find_map(|_| frames.push(&line).err());
        assert_eq!(refused, Some(TooLarge));
    }
}
