//! The namespaces that components' processes enter: made in a process that ends, since there is no way back.
//!
//! It must not know what is in them.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, geteuid};

use crate::launcher::spawn::say;
use twitcher_confine::namespaces::Namespaces;
use twitcher_ipc::datagram;

/// Namespaces that are made when they are first needed. Where they cannot be, that is said once, and components do without.
#[derive(Debug, Default)]
pub struct EmptyNamespaces {
    made: OnceCell<Option<Namespaces>>,
}

impl EmptyNamespaces {
    /// Makes them, unless that was done, or tried, before.
    pub fn get(&self) -> Option<&Namespaces> {
        self.made
            .get_or_init(|| {
                // Only root can, and that nobody else does is documented.
                if !geteuid().is_root() {
                    return None;
                }
                make()
                    .inspect_err(|error| {
                        say(&format!(
                            "twitcher launcher: components have no namespaces of their own, only Landlock, seccomp and their user guard what was not \
                             granted: {error}\n"
                        ));
                    })
                    .ok()
            })
            .as_ref()
    }
}

/// Has another process make them, which sends them here.
fn make() -> io::Result<Namespaces> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the launcher has one thread, so no lock is held by a thread that the child lacks; and the child does not return.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ours);
            tell(&theirs);
            // SAFETY: it ends the process, which must not run what the launcher does at its end.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(0)
            }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let came = datagram::receive(ours.as_fd());
            while waitpid(child, None) == Err(Errno::EINTR) {}
            let came = came?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match <[u8; 4]>::try_from(came.body) {
                Ok(errno) if errno != [0; 4] => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
                _ => Namespaces::received(came.fds).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Sends what was made, or the number of the error. Should nobody hear it, that is an error there.
fn tell(to: &OwnedFd) {
    let made = Namespaces::make();
    let (errno, fds) = match &made {
        Ok(open) => (0, open.each_ref().map(AsFd::as_fd).to_vec()),
        Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
    };
    let _ = datagram::send(to.as_fd(), &errno.to_ne_bytes(), &fds);
}
