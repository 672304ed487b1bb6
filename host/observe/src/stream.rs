//! The log as a stream of bytes: standard output, standard error, and what a file is written with.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::queue::Sink;

/// A stream that lines are written to, one after the other.
#[derive(Debug)]
pub struct Stream {
    to: File,
    /// How much of the present line is written.
    written: usize,
}

impl Stream {
    pub fn new(to: File) -> Self {
        Self { to, written: 0 }
    }

    /// A stream of this process, on a descriptor of our own: the standard library's would keep its lock while nobody reads, and so
    /// would hold up whoever prints.
    pub fn of(stream: impl AsFd) -> io::Result<Self> {
        Ok(Self::new(File::from(stream.as_fd().try_clone_to_owned()?)))
    }
}

impl Sink for Stream {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        while self.written < line.len() {
            match self.to.write(&line[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever shares the stream with us has made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut room, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        Ok(())
    }
}
