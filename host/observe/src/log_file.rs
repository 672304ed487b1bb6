//! A log file that can be opened anew while it is written to.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use tracing::error;
use twitcher_files::links;
use twitcher_files::regular::Links;

use crate::queue::Sink;
use crate::stream::Stream;

/// A log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    stream: Stream,
    reopen: Arc<AtomicBool>,
}

impl LogFile {
    /// Opens `path` for appending; creates it with mode 0640.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let stream = Stream::new(append(&path)?);
        Ok(Self {
            path,
            stream,
            reopen: Arc::default(),
        })
    }

    /// Whoever sets it has the next line written to whatever is at the path then. That is up to the thread that writes, since a file
    /// server may let it wait.
    pub fn reopen_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.reopen)
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Others may own the directory, and one that is told where to rotate to would have root write into any file.
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
    let mode = Mode::from_bits_truncate(0o640);
    Ok(links::open_file(path, geteuid(), flags, mode, Links::Follow)?)
}

impl Sink for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            match append(&self.path) {
                Ok(file) => self.stream = Stream::new(file),
                Err(error) => {
                    let file = self.path.display();
                    error!("cannot open the log file {file} anew: {error}; the old one stays in use");
                }
            }
        }
        self.stream.write(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_of_another_user_is_written_through() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(&ours, "").unwrap();
        std::os::unix::fs::chown(&theirs, Some(4711), None).unwrap();
        let path = theirs.join("log");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.write(b"one\n").unwrap();
        std::fs::rename(&path, theirs.join("log.1")).unwrap();
        std::os::unix::fs::symlink(&ours, &path).unwrap();
        log.reopen_flag().store(true, Ordering::Relaxed);
        log.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&ours).unwrap(), "");
        assert_eq!(std::fs::read_to_string(theirs.join("log.1")).unwrap(), "one\ntwo\n");
        let error = LogFile::open(path).unwrap_err().to_string();
        assert!(error.contains("that user 4711 can replace"), "{error}");
    }

    #[test]
    fn what_another_user_put_there_is_not_written_to_and_not_waited_for() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(4711), None).unwrap();
        let path = theirs.join("log");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let error = LogFile::open(path.clone()).unwrap_err().to_string();
        assert!(error.contains("log is a FIFO of user 0"), "{error}");
        // After a rotation the old file stays in use.
        std::fs::remove_file(&path).unwrap();
        let mut log = LogFile::open(path.clone()).unwrap();
        std::fs::rename(&path, theirs.join("log.1")).unwrap();
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        log.reopen_flag().store(true, Ordering::Relaxed);
        log.write(b"line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        assert_eq!(std::fs::read_to_string(theirs.join("log.1")).unwrap(), "line\n");
    }

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut log = LogFile::open(path.clone()).unwrap();
        log.write(b"one\n").unwrap();
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen_flag().store(true, Ordering::Relaxed);
        log.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        log.reopen_flag().store(true, Ordering::Relaxed);
        log.write(b"three\n").unwrap();
    }
}
