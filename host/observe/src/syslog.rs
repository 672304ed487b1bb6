//! The syslog, as syslog(3) speaks to it: one datagram a line; or a stream, where the daemon that listens wants one.
//!
//! The C library's own waits for the daemon with a lock held, and does not tell when a line is lost.

use std::io::{self, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use tracing::Level;

use crate::queue::Sink;

/// Where every syslog daemon listens.
const SOCKET: &str = "/dev/log";
/// The facility daemon.
const FACILITY: u8 = 3 << 3;
/// How long one attempt may take. After it the socket is looked up again: another daemon may listen there now.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The severity of a line, for syslog and the journal.
pub fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        Level::TRACE => 7,
    }
}

/// A line in the format of RFC 3164. The zone is given, since to look it up is to read files.
pub fn line(level: Level, text: &[u8], zone: &TimeZone) -> Box<[u8]> {
    let priority = FACILITY | severity(level);
    let now = Timestamp::now()
        .to_zoned(zone.clone())
        .strftime("%b %e %H:%M:%S")
        .to_string();
    let mut line = format!("<{priority}>{now} twitcher[{}]: ", std::process::id()).into_bytes();
    line.extend(text.strip_suffix(b"\n").unwrap_or(text));
    line.into()
}

/// The connection to the syslog daemon, made when there is a line for it.
#[derive(Debug, Default)]
pub struct SyslogSocket {
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Datagrams(UnixDatagram),
    Stream(UnixStream),
}

impl Sink for SyslogSocket {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        // One that was there before may be to a daemon that has been restarted since.
        if let Some(connection) = &mut self.connection
            && connection.send(line).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let mut connection = Connection::open()?;
        connection.send(line)?;
        self.connection = Some(connection);
        Ok(())
    }
}

impl Connection {
    fn open() -> io::Result<Self> {
        let datagrams = UnixDatagram::unbound()?;
        match datagrams.connect(SOCKET) {
            Ok(()) => {
                datagrams.set_write_timeout(Some(ATTEMPT))?;
                Ok(Connection::Datagrams(datagrams))
            }
            Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
                let stream = UnixStream::connect(SOCKET)?;
                stream.set_write_timeout(Some(ATTEMPT))?;
                Ok(Connection::Stream(stream))
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Connection::Datagrams(socket) => socket.send(line).map(drop),
            // There a NUL ends a line.
            Connection::Stream(stream) => stream.write_all(&[line, b"\0"].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_syslog_daemons_expect_it() {
        let line = line(Level::WARN, b"run ended watch=\"a\"\n", &TimeZone::UTC);
        let text = std::str::from_utf8(&line).unwrap();
        let (head, message) = text.split_once(": ").unwrap();
        assert_eq!(message, "run ended watch=\"a\"");
        let time = head.strip_prefix("<28>").unwrap();
        assert_eq!(&time[15..], format!(" twitcher[{}]", std::process::id()));
        assert_eq!((&time[3..4], &time[6..7], &time[9..10]), (" ", " ", ":"), "{time}");
    }
}
