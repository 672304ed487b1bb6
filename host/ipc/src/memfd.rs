//! Sealed memfds: bytes that another process can read but nobody can change.
//!
//! As stdin they have a virtue over pipes: an action that does not read cannot make the daemon wait.

use std::ffi::CStr;
use std::fs::File;
use std::io;
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

/// A memfd that another process made, with its size in bytes. One that is not sealed, and so could change underneath, is refused.
pub fn sealed_file(fd: OwnedFd, limit: usize) -> io::Result<(File, usize)> {
    let seals = SealFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GET_SEALS)?);
    let file = File::from(fd);
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if !seals.contains(SEALS) || length > limit {
        return Err(Errno::EBADMSG.into());
    }
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

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
        let (mut file, length) = sealed_file(sealed(c"t", b"hello").unwrap(), 5).unwrap();
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, b"hello");
        assert!(sealed_file(sealed(c"t", b"hello").unwrap(), 4).is_err());
        let open = memfd_create(c"t", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(sealed_file(open, 5).is_err());
        assert!(sealed_file(File::open("/dev/null").unwrap().into(), 5).is_err());
    }
}
