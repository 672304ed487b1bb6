//! Datagrams with descriptors, on a `SOCK_SEQPACKET` pair: each is one message, so nothing needs framing.
//!
//! What comes is bounded: a datagram that does not fit, or brings more descriptors than it may, is known as cut. This module must not
//! know what is said, nor what the descriptors are.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Largest datagram, in bytes. What is larger travels in a memory file. One page: each page that a process writes to after it was
/// cloned costs a fault.
pub const BODY_MAX: usize = 4096;
/// Most descriptors that come with a datagram: the streams of a process, two more that it is handed, its cgroup, and a memory file.
pub const FDS_MAX: usize = 7;

/// A datagram that came.
#[derive(Debug)]
pub struct Datagram {
    /// Its bytes; of one that was cut, those that fitted.
    pub body: Vec<u8>,
    /// Its descriptors, all close-on-exec; of one that was cut, none.
    pub fds: Vec<OwnedFd>,
    /// Whether there was more of it than may be. Then it must be refused.
    pub cut: bool,
}

/// Sends a datagram, without allocating. `EAGAIN` when the other end is behind, and does not block.
pub fn send(socket: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
    if !fits || fds.len() > FDS_MAX || body.len() > BODY_MAX {
        return Err(Errno::MSGSIZE.into());
    }
    sendmsg(socket, &[IoSlice::new(body)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A datagram that came into a buffer of the caller's.
#[derive(Debug)]
pub struct Arrived {
    /// How many of its bytes are there.
    pub used: usize,
    /// As of a [`Datagram`].
    pub fds: Vec<OwnedFd>,
    /// As of a [`Datagram`].
    pub cut: bool,
}

/// Receives a datagram; `None` at the end of the stream.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Datagram>> {
    let mut body = [0u8; BODY_MAX];
    let arrived = receive_into(socket, &mut body)?;
    Ok(arrived.map(|Arrived { used, fds, cut }| Datagram {
        body: body[..used].to_vec(),
        fds,
        cut,
    }))
}

/// The same, into a buffer and nowhere else: what came is forgotten when that is wiped.
pub fn receive_into(socket: BorrowedFd<'_>, body: &mut [u8]) -> io::Result<Option<Arrived>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(body)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = part {
            fds.extend(passed);
        }
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    let cut = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || fds.len() > FDS_MAX;
    if cut {
        fds.clear();
    }
    let used = message.bytes;
    Ok(Some(Arrived { used, fds, cut }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::fs::File;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap()
    }

    /// Sends what [`send`] would not.
    fn send_anything(socket: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = vec![MaybeUninit::uninit(); 1024];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(socket, &[IoSlice::new(body)], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn datagrams_arrive_whole_with_their_descriptors() {
        let (ours, theirs) = pair();
        let null = File::open("/dev/null").unwrap();
        for (length, count) in [(1, 0), (BODY_MAX, 1), (5, FDS_MAX)] {
            send(ours.as_fd(), &vec![7; length], &vec![null.as_fd(); count]).unwrap();
            let got = receive(theirs.as_fd()).unwrap().unwrap();
            assert_eq!((got.body, got.fds.len(), got.cut), (vec![7; length], count, false));
            for fd in got.fds {
                assert_eq!(fcntl_getfd(fd).unwrap(), FdFlags::CLOEXEC);
            }
        }
        let empty = receive(theirs.as_fd()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        assert!(receive(theirs.as_fd()).unwrap().is_none(), "the end of the stream");
    }

    #[test]
    fn what_does_not_fit_is_known_as_cut() {
        let (ours, theirs) = pair();
        let null = File::open("/dev/null").unwrap();
        for (length, count) in [(BODY_MAX + 1, 1), (5, FDS_MAX + 1), (5, 100)] {
            let (body, fds) = (vec![7; length], vec![null.as_fd(); count]);
            assert!(send(ours.as_fd(), &body, &fds).is_err());
            send_anything(ours.as_fd(), &body, &fds);
            let got = receive(theirs.as_fd()).unwrap().unwrap();
            assert_eq!(
                (got.body.len(), got.fds.len(), got.cut),
                (length.min(BODY_MAX), 0, true)
            );
        }
    }
}
