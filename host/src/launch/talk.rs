//! The daemon's end of a component's channel: what the component says, and what it is told.
//!
//! The other end is hostile. Whoever says what cannot be understood, or asks while an answer is due, is no longer listened to.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::polled::{forget_readiness, polled};
use crate::sandbox::channel::{Ended, Frames, FromAction, Timing, ToAction, frame};

/// Most bytes that wait to be read by the component: more than any one answer.
const OUTGOING_MAX: usize = 16 << 20;

/// A channel to a running component.
pub struct Talk {
    socket: AsyncFd<OwnedFd>,
    incoming: Frames,
    outgoing: VecDeque<u8>,
    /// A question was asked and is not answered.
    asked: bool,
    ended: Option<(Ended, Timing)>,
    closed: bool,
}

/// The two ends of a new channel: ours, and the component's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

impl Talk {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: polled(socket, Interest::READABLE | Interest::WRITABLE)?,
            incoming: Frames::default(),
            outgoing: VecDeque::new(),
            asked: false,
            ended: None,
            closed: false,
        })
    }

    /// Returns when there is something to read, or room for what waits to be written.
    pub async fn ready(&self) {
        if self.closed {
            return std::future::pending().await;
        }
        let writable = async {
            match self.outgoing.is_empty() {
                true => std::future::pending().await,
                false => drop(self.socket.writable().await),
            }
        };
        tokio::select! {
            _ = self.socket.readable() => {}
            () = writable => {}
        }
    }

    /// Reads what is there, within bounds, and hands each message over; a question, at most one at a time.
    pub fn read(&mut self, mut handle: impl FnMut(FromAction)) {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..16 {
            if self.closed {
                return;
            }
            match recv(self.socket.as_fd().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => self.closed = true,
                Ok(length) => {
                    self.incoming.push(&buffer[..length]);
                    self.take(&mut handle);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return forget_readiness(&self.socket, Interest::READABLE),
                Err(_) => self.closed = true,
            }
        }
    }

    fn take(&mut self, handle: &mut impl FnMut(FromAction)) {
        loop {
            match self.incoming.next() {
                Ok(None) => return,
                Ok(Some(FromAction::Ended(ended, timing))) if self.ended.is_none() => {
                    self.ended = Some((ended, timing))
                }
                Ok(Some(message @ (FromAction::Log { .. } | FromAction::Denied(_)))) => handle(message),
                Ok(Some(question @ (FromAction::Command { .. } | FromAction::Znode(_)))) if !self.asked => {
                    self.asked = true;
                    handle(question);
                }
                Ok(Some(_)) | Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// Tells the component something.
    pub fn tell(&mut self, message: &ToAction) {
        if !matches!(message, ToAction::Cancel(_)) {
            self.asked = false;
        }
        match frame(message) {
            Ok(bytes) if self.outgoing.len() + bytes.len() <= OUTGOING_MAX => self.outgoing.extend(bytes),
            // It would wait for ever for an answer that does not come.
            Ok(_) | Err(_) => self.closed = true,
        }
        self.write();
    }

    /// Writes what the socket takes.
    pub fn write(&mut self) {
        while !self.outgoing.is_empty() && !self.closed {
            let (bytes, _) = self.outgoing.as_slices();
            match send(self.socket.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return forget_readiness(&self.socket, Interest::WRITABLE),
                Err(_) => {
                    self.outgoing.clear();
                    return;
                }
            }
        }
    }

    /// Whether what it says is no longer listened to. Then it can wait for an answer for ever.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How the component said that its call ended, and what it took.
    pub fn take_ended(&mut self) -> Option<(Ended, Timing)> {
        self.ended.take()
    }
}
