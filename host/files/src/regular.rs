//! Opening what must be a regular file. A path can lead to anything: opening a FIFO would wait for somebody who writes to it, and reading
//! a device for ever. So whatever is opened is opened without waiting, and looked at once it is open, when no name can mean another.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// Whether a symbolic link at the end of the path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is: whoever names the path decides what is meant.
    Follow,
    /// It is an error: the path is our own, and somebody else put the link there.
    Refuse,
}

/// Opens a regular file in the way that `options` say.
pub fn open_with(options: &mut OpenOptions, path: &Path, links: Links) -> io::Result<File> {
    let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    flags.set(OFlag::O_NOFOLLOW, links == Links::Refuse);
    only(options.custom_flags(flags.bits()).open(path)?)
}

/// Refuses what is open if it is no regular file.
pub fn only(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

/// Opens a regular file for reading.
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path, links)
}

/// Reads a regular file, links followed, if it is not longer than `most` bytes.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    read_open(open(path, Links::Follow)?, most)
}

/// Reads what is open, if it is not longer than `most` bytes. Its size is not believed: it may grow, or be a file of /proc.
pub fn read_open(file: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() <= most {
        true => Ok(bytes),
        false => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {}", size(most)),
        )),
    }
}

/// What is found in place of a regular file.
fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&path("link"), 4).unwrap(), b"text");
        assert!(open(&path("link"), Links::Refuse).is_err());
        for odd in ["pipe", "."] {
            let error = read(&path(odd), 4).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{odd}: {error}");
        }
        assert_eq!(read(&path("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn more_than_was_asked_for_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create(&path).unwrap().set_len(2 << 30).unwrap();
        let error = read(&path, 64 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 64 MiB");
        // What says that it is empty and is not.
        assert!(read(Path::new("/proc/self/status"), 10).is_err());
    }
}
