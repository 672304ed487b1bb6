//! Descriptors that tokio polls for us.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the current runtime poll a descriptor.
pub fn polled(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, stays the same descriptor and is owned by the AsyncFd until that is dropped.
    #[allow(unsafe_code)]
    let polled = unsafe { AsyncFd::register_with_interest(fd, interest) };
    polled.map_err(io::Error::from)
}

/// Has tokio forget that the descriptor was ready, after a call on it said that it is not: the next wait is for something new.
pub fn forget_readiness(fd: &AsyncFd<OwnedFd>, interest: Interest) {
    let _ = fd.try_io(interest, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
}
