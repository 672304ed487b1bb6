//! The pid file: a lock that says which daemon is in charge.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use crate::links;
use crate::regular::{self, Links};

/// A locked pid file. Removed when it is dropped; the lock also ends with the process.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    file: Flock<File>,
}

/// Why the pid file could not be locked or written.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// Another daemon has it locked.
    #[error("another twitcher runs{}: it has the pid file {} locked", pid.as_ref().map(|p| format!(" (pid {p})")).unwrap_or_default(), path.display())]
    Locked {
        /// The path of the pid file.
        path: PathBuf,
        /// The process id that the file holds, if it holds anything.
        pid: Option<String>,
    },
    /// It cannot be opened, locked or written.
    #[error("cannot write the pid file {}: {source}", path.display())]
    Io {
        /// The path of the pid file.
        path: PathBuf,
        /// The error of opening, locking or writing it.
        source: io::Error,
    },
}

impl Pidfile {
    /// Opens and locks the file. The lock belongs to the open file, so it stays over a fork: lock early, [`Pidfile::write`] late. A
    /// relative path is meant from here, wherever the process goes until it ends.
    pub fn lock(path: &Path) -> Result<Self, PidfileError> {
        let at = |source: io::Error| PidfileError::Io {
            path: path.to_owned(),
            source,
        };
        let path = &*std::path::absolute(path).map_err(at)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT;
        let mode = Mode::from_bits_truncate(0o644);
        let opened = links::open_file(path, geteuid(), flags, mode, Links::Refuse);
        let file = opened.map_err(io::Error::from).and_then(regular::only).map_err(at)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let read = (&mut file).take(32).read_to_string(&mut pid);
                let pid = read.ok().map(|_| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                Err(PidfileError::Locked {
                    path: path.to_owned(),
                    pid,
                })
            }
            Err((_, errno)) => Err(at(errno.into())),
        }
    }

    /// Writes the id of this process.
    pub fn write(&mut self) -> Result<(), PidfileError> {
        let line = format!("{}\n", std::process::id());
        let file = &mut *self.file;
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(line.as_bytes()));
        written.map_err(|source| PidfileError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Still locked, so it is ours to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut first = Pidfile::lock(&path).unwrap();
        first.write().unwrap();
        let refused = Pidfile::lock(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        assert!(!path.exists());
        Pidfile::lock(&path).unwrap();
    }

    #[test]
    fn no_link_of_another_user_is_on_the_way() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
        std::fs::create_dir(&theirs).unwrap();
        std::fs::create_dir(&ours).unwrap();
        std::os::unix::fs::chown(&theirs, Some(4711), None).unwrap();
        std::os::unix::fs::symlink(&ours, theirs.join("run")).unwrap();
        let refused = Pidfile::lock(&theirs.join("run/pid")).unwrap_err().to_string();
        assert!(
            refused.contains("theirs/run is a link that user 4711 can replace"),
            "{refused}"
        );
        assert!(!ours.join("pid").exists());
    }

    #[test]
    fn a_file_that_another_user_made_beforehand_is_no_pid_file() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        let path = theirs.join("pid");
        std::fs::write(&path, "1\n").unwrap();
        for made in [&theirs, &path] {
            std::os::unix::fs::chown(made, Some(4711), None).unwrap();
        }
        let refused = Pidfile::lock(&path).unwrap_err().to_string();
        assert!(refused.contains("pid is a file of user 4711"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        std::fs::remove_file(&path).unwrap();
        Pidfile::lock(&path).unwrap();
    }

    #[test]
    fn a_relative_path_is_meant_from_where_it_was_given() {
        let name = format!("twitcher-test-{}.pid", std::process::id());
        let here = std::env::current_dir().unwrap();
        let pidfile = Pidfile::lock(Path::new(&name)).unwrap();
        assert_eq!(pidfile.path, here.join(&name));
        drop(pidfile);
        assert!(!here.join(&name).exists());
    }

    #[test]
    fn a_stale_file_without_a_lock_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "4711 and more text than the new pid\n").unwrap();
        let mut pidfile = Pidfile::lock(&path).unwrap();
        pidfile.write().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
    }
}
