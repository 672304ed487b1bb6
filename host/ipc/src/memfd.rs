//! Sealed memfds: bytes that another process can read but nobody can change.
//!
//! As stdin they have a virtue over pipes: an action that does not read cannot make the daemon wait.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// A descriptor that reads as `bytes`, from the start.
pub fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    // pwrite leaves the offset at 0, where the reader starts: the offset is shared between the processes.
    let mut done = 0;
    while done < bytes.len() {
        done += pwrite(&fd, &bytes[done..], done as i64)?;
    }
    fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(fd)
}

/// The bytes of a memfd that another process made. One that is not sealed, and so could change underneath, is refused.
pub fn read_all(fd: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let seals = SealFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GET_SEALS)?);
    let file = File::from(fd);
    if !seals.contains(SEALS) || file.metadata()?.len() > limit as u64 {
        return Err(Errno::EBADMSG.into());
    }
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reads_from_the_start_and_refuses_writes() {
        let mut file = File::from(sealed(c"t", b"hello").unwrap());
        assert!(file.write_all(b"x").is_err());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn only_sealed_bodies_within_the_limit_are_read() {
        assert_eq!(read_all(sealed(c"t", b"hello").unwrap(), 5).unwrap(), b"hello");
        assert!(read_all(sealed(c"t", b"hello").unwrap(), 4).is_err());
        let open = memfd_create(c"t", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read_all(open, 5).is_err());
        assert!(read_all(File::open("/dev/null").unwrap().into(), 5).is_err());
    }
}
