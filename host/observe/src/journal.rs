//! The journal of systemd, in its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): the fields of an event are fields
//! there, for `journalctl WATCH=web-1`, and the message has them too, since it is all that `journalctl -u twitcher` shows.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::Context;
use twitcher_ipc::memfd;

use crate::fields::LogFields;
use crate::queue::{LineQueue, Sink};
use crate::syslog::severity;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long one attempt may take. After it the socket is looked up again.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Turns events into entries of the journal.
#[derive(Debug)]
pub struct JournalLayer {
    queue: Arc<LineQueue>,
}

impl JournalLayer {
    pub fn new(queue: Arc<LineQueue>) -> Self {
        Self { queue }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.queue.push(entry(event).into());
    }
}

fn entry(event: &Event<'_>) -> Vec<u8> {
    let (metadata, mut entry) = (event.metadata(), Entry(Vec::with_capacity(512)));
    entry.add("PRIORITY", severity(*metadata.level()).to_string().as_bytes());
    entry.add("SYSLOG_IDENTIFIER", b"twitcher");
    entry.add("TARGET", metadata.target().as_bytes());
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        entry.add("CODE_FILE", file.as_bytes());
        entry.add("CODE_LINE", line.to_string().as_bytes());
    }
    let mut message = String::new();
    // Writing to memory cannot fail.
    let _ = LogFields.format_fields(Writer::new(&mut message), event);
    entry.add("MESSAGE", message.as_bytes());
    event.record(&mut entry);
    entry.0
}

/// An entry, field by field.
struct Entry(Vec<u8>);

impl Entry {
    fn add(&mut self, name: &str, value: &[u8]) {
        self.0.extend(name.as_bytes());
        if value.contains(&b'\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value);
        self.0.push(b'\n');
    }

    fn add_field(&mut self, field: &Field, value: &[u8]) {
        // It is all of the message already.
        if field.name() != "message" {
            self.add(&field_name(field.name()), value);
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_field(field, value.as_bytes());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_field(field, format!("{value:?}").as_bytes());
    }
}

/// The journal takes capitals, digits and underscores, and keeps names that begin with one for itself.
fn field_name(name: &str) -> String {
    let name = name.trim_start_matches('_').chars();
    name.map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    })
    .collect()
}

/// The way to the journal.
#[derive(Debug)]
pub struct JournalSocket {
    socket: UnixDatagram,
}

impl JournalSocket {
    /// Says nothing to the journal yet, which may be stopped.
    pub fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(ATTEMPT))?;
        Ok(Self { socket })
    }
}

impl Sink for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, SOCKET) {
            Ok(_) => Ok(()),
            // What is too large for a datagram goes into memory that the journal can trust not to change.
            Err(error)
                if [Errno::EMSGSIZE, Errno::ENOBUFS]
                    .map(|errno| Some(errno as i32))
                    .contains(&error.raw_os_error()) =>
            {
                let memory = memfd::sealed(c"twitcher-log", entry)?;
                let descriptors = [memory.as_raw_fd()];
                let address = UnixAddr::new(SOCKET)?;
                sendmsg(
                    self.socket.as_raw_fd(),
                    &[IoSlice::new(&[])],
                    &[ControlMessage::ScmRights(&descriptors)],
                    MsgFlags::MSG_NOSIGNAL,
                    Some(&address),
                )?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::queue::QueueLimits;

    #[test]
    fn the_message_has_the_fields_and_they_are_fields_too() {
        struct Printed(Arc<std::sync::Mutex<Vec<Vec<u8>>>>);
        impl Sink for Printed {
            fn write(&mut self, line: &[u8]) -> io::Result<()> {
                self.0.lock().unwrap().push(line.to_vec());
                Ok(())
            }
        }
        let entries = Arc::default();
        let queue = Arc::new(LineQueue::new(QueueLimits { lines: 9, bytes: 9999 }));
        let (serving, printed) = (Arc::clone(&queue), Printed(Arc::clone(&entries)));
        std::thread::spawn(move || serving.serve(Box::new(printed)));
        let layer = JournalLayer::new(Arc::clone(&queue));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(watch = "web", run_id = %7, seconds = 0.5, "run ended");
            tracing::error!(text = %"two\nlines", "{}", "hello");
        });
        queue.finish(Duration::from_secs(30));
        let entries = std::mem::take(&mut *entries.lock().unwrap());
        let first = String::from_utf8(entries[0].clone()).unwrap();
        let has: Vec<&str> = first.lines().collect();
        for line in [
            "PRIORITY=5",
            "SYSLOG_IDENTIFIER=twitcher",
            "MESSAGE=run ended watch=\"web\" run_id=7 seconds=0.5",
            "WATCH=web",
            "RUN_ID=7",
            "SECONDS=0.5",
        ] {
            assert!(has.contains(&line), "{line}\n{first}");
        }
        let (value, name) = ([&9u64.to_le_bytes()[..], b"two\nlines\n"].concat(), b"TEXT\n");
        let second = &entries[1];
        let at = second.windows(name.len()).position(|bytes| bytes == name).unwrap();
        assert_eq!(second[at + name.len()..], value);
        assert!(second.starts_with(b"PRIORITY=3\n"));
    }
}
