//! A client for the daemon's control interface: plain HTTP, so that what goes over the wire is what the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::DEADLINE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks on the Unix socket.
#[track_caller]
pub fn operate(socket: &Path, method: &str, path: &str) -> Answer {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    exchange(stream, method, path, "host: twitcher\r\n")
}

/// Asks on the TCP port.
#[track_caller]
pub fn browse(address: &str, method: &str, path: &str) -> Answer {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    exchange(stream, method, path, &format!("host: {address}\r\n"))
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &str) -> Answer {
    write!(stream, "{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Answer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// Follows the events on the Unix socket.
pub struct Events(BufReader<UnixStream>);

impl Events {
    pub fn follow(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /v1/events HTTP/1.1\r\nhost: twitcher\r\n\r\n").unwrap();
        let mut events = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(events.read_line(&mut line).unwrap(), 0, "no answer");
        }
        Self(events)
    }

    /// The next event that is as wanted.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the events ended");
            if let Some(data) = line.strip_prefix("data: ") {
                let event = serde_json::from_str(data).unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        }
    }
}
