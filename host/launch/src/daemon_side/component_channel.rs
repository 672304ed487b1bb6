//! The daemon's end of a component's channel: what the component says, and what it is told.
//!
//! The other end is hostile. Whoever says what cannot be understood, or asks while an answer is due, is no longer listened to.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::daemon_side::polled::{forget_readiness, polled};
use twitcher_ipc::frames::Frames;
use twitcher_sandbox::channel::{CallEnd, FORMAT, FromAction, Held, Timing, ToAction};

/// Most bytes that wait to be read by the component: more than any one answer.
const OUTGOING_MAX: usize = 16 << 20;

/// A channel to a running component.
pub struct ComponentChannel {
    /// None once the component has said that its call ended: it says nothing afterwards, and closing its end would only wake the daemon.
    socket: Option<AsyncFd<OwnedFd>>,
    incoming: Frames,
    outgoing: VecDeque<u8>,
    /// A question was asked and is not answered.
    asked: bool,
    ended: Option<(CallEnd, Timing, Held)>,
    closed: bool,
    /// It has said or been told something.
    used: bool,
    /// It has gone without having read all that it was sent.
    left_unread: bool,
}

/// The two ends of a new channel: ours, and the component's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

impl ComponentChannel {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: Some(polled(socket, Interest::READABLE | Interest::WRITABLE)?),
            incoming: Frames::new(FORMAT),
            outgoing: VecDeque::new(),
            asked: false,
            ended: None,
            closed: false,
            used: false,
            left_unread: false,
        })
    }

    /// Returns when there is something to read, or room for what waits to be written.
    pub async fn ready(&self) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.closed) else {
            return std::future::pending().await;
        };
        let writable = async {
            match self.outgoing.is_empty() {
                true => std::future::pending().await,
                false => drop(socket.writable().await),
            }
        };
        tokio::select! {
            _ = socket.readable() => {}
            () = writable => {}
        }
    }

    /// Reads what is there, within bounds, and hands each message over; a question, at most one at a time.
    pub fn read(&mut self, mut handle: impl FnMut(FromAction)) {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..16 {
            let Some(socket) = self.socket.as_ref().filter(|_| !self.closed) else {
                return;
            };
            match recv(socket.as_fd().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => self.closed = true,
                Ok(length) => {
                    self.used = true;
                    self.incoming.push(&buffer[..length]);
                    self.take(&mut handle);
                    if self.ended.is_some() {
                        self.socket = None;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return forget_readiness(socket, Interest::READABLE),
                Err(error) => {
                    self.closed = true;
                    self.left_unread = error == Errno::ECONNRESET;
                }
            }
        }
    }

    fn take(&mut self, handle: &mut impl FnMut(FromAction)) {
        loop {
            match self.incoming.take() {
                Ok(None) => return,
                Ok(Some(FromAction::CallEnd(ended, timing, held))) if self.ended.is_none() => {
                    self.ended = Some((ended, timing, held))
                }
                Ok(Some(message @ (FromAction::Log { .. } | FromAction::Denied(_)))) => handle(message),
                Ok(Some(question @ (FromAction::Command { .. } | FromAction::Znode(_)))) if !self.asked => {
                    self.asked = true;
                    handle(question);
                }
                Ok(Some(_)) | Err(_) => return self.close(),
            }
        }
    }

    /// Tells the component something.
    pub fn tell(&mut self, message: &ToAction) {
        self.used = true;
        if !matches!(message, ToAction::Cancel(_)) {
            self.asked = false;
        }
        match FORMAT.frame(message) {
            Ok(bytes) if self.outgoing.len() + bytes.len() <= OUTGOING_MAX => self.outgoing.extend(bytes),
            Ok(_) | Err(_) => self.close(),
        }
        self.write();
    }

    /// Writes what the socket takes.
    pub fn write(&mut self) {
        while !self.outgoing.is_empty() && !self.closed {
            let Some(socket) = &self.socket else { return };
            let (bytes, _) = self.outgoing.as_slices();
            match send(socket.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return forget_readiness(socket, Interest::WRITABLE),
                Err(_) => {
                    self.outgoing.clear();
                    return;
                }
            }
        }
    }

    /// Ends the conversation at both ends: the component would else wait for ever for an answer that does not come.
    fn close(&mut self) {
        self.closed = true;
        self.outgoing.clear();
        if let Some(socket) = &self.socket {
            // Fails only if the other end has gone.
            let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
        }
    }

    /// Whether what it says is no longer listened to.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the process has gone without having read what it was handed before anything else. The kernel says so: a socket that is closed with
    /// something to be read in it resets the other one.
    pub fn was_not_taken(&self) -> bool {
        self.left_unread && !self.used
    }

    /// Whether the component has said that its call ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// How the component said that its call ended, what it took and what its process held.
    pub fn take_ended(&mut self) -> Option<(CallEnd, Timing, Held)> {
        self.ended.take()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use twitcher_model::ComponentFailure;
    use twitcher_sandbox::channel::{CommandFailure, CommandOutput, Denied, FRAME_MAX, Reason, ZnodeRequest};

    /// Ours, and the socket of a process that may say what it likes.
    fn conversation() -> (ComponentChannel, UnixStream) {
        let (ours, theirs) = pair().unwrap();
        (ComponentChannel::new(ours).unwrap(), theirs.into())
    }

    fn question() -> FromAction {
        FromAction::Znode(ZnodeRequest::Get { path: "/a".into() })
    }

    fn says(theirs: &mut UnixStream, message: &FromAction) {
        theirs.write_all(&FORMAT.frame(message).unwrap()).unwrap();
    }

    /// What was heard, once all that was said has been read.
    fn heard(talk: &mut ComponentChannel) -> Vec<FromAction> {
        let mut heard = Vec::new();
        talk.read(|message| heard.push(message));
        heard
    }

    /// Nobody waits for an answer that does not come: the other end learns that it is alone.
    fn is_over(talk: &mut ComponentChannel, theirs: &mut UnixStream) {
        assert!(talk.is_closed());
        theirs.read_to_end(&mut Vec::new()).unwrap();
        assert!(theirs.write_all(&FORMAT.frame(&question()).unwrap()).is_err());
        assert_eq!(heard(talk), []);
    }

    #[tokio::test]
    async fn nonsense_ends_the_conversation_and_what_came_before_counts() {
        for nonsense in [&[0xff; 8][..], &[1, 0, 0, 0, 200], &[0, 0, 0, 0]] {
            let (mut talk, mut theirs) = conversation();
            let first = FromAction::Denied(Denied::Name("a".into()));
            says(&mut theirs, &first);
            theirs.write_all(nonsense).unwrap();
            assert_eq!(heard(&mut talk), [first]);
            is_over(&mut talk, &mut theirs);
        }
    }

    #[tokio::test]
    async fn a_second_question_before_the_answer_to_the_first_is_not_heard() {
        let (mut talk, mut theirs) = conversation();
        says(&mut theirs, &question());
        assert_eq!(heard(&mut talk), [question()]);
        talk.tell(&ToAction::Cancel(Reason::Timeout));
        says(&mut theirs, &question());
        assert_eq!(heard(&mut talk), [], "a word to stop is no answer");
        is_over(&mut talk, &mut theirs);
    }

    #[tokio::test]
    async fn it_ends_once() {
        let (mut talk, mut theirs) = conversation();
        let timing = Timing::default();
        says(
            &mut theirs,
            &FromAction::CallEnd(
                CallEnd::Failed(ComponentFailure::Permanent, "no".into()),
                timing,
                Held::default(),
            ),
        );
        says(
            &mut theirs,
            &FromAction::CallEnd(CallEnd::Success, timing, Held::default()),
        );
        assert_eq!(heard(&mut talk), []);
        is_over(&mut talk, &mut theirs);
        let ended = talk.take_ended().unwrap().0;
        assert_eq!(ended, CallEnd::Failed(ComponentFailure::Permanent, "no".into()));
    }

    #[tokio::test]
    async fn one_that_asks_and_never_reads_is_given_up() {
        let (mut talk, mut theirs) = conversation();
        let answer = CommandOutput {
            code: Some(0),
            signal: None,
            stdout: vec![0; 1 << 20],
            stderr: Vec::new(),
            truncated: false,
        };
        for _ in 0..=OUTGOING_MAX >> 20 {
            assert!(!talk.is_closed());
            says(&mut theirs, &question());
            assert_eq!(heard(&mut talk), [question()]);
            talk.tell(&ToAction::Command(Ok(answer.clone())));
        }
        is_over(&mut talk, &mut theirs);
    }

    #[tokio::test]
    async fn an_answer_too_large_for_the_channel_ends_it() {
        let (mut talk, mut theirs) = conversation();
        says(&mut theirs, &question());
        heard(&mut talk);
        talk.tell(&ToAction::Command(Err(CommandFailure::Failed("x".repeat(FRAME_MAX)))));
        is_over(&mut talk, &mut theirs);
    }
}
