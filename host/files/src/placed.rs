//! Putting a file into a directory of whatever user, for that user or as root, without following a link that somebody else has put there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, UnlinkatFlags, fsync, unlinkat};

use crate::links::{self, PathError};

/// Writes a file whole or not at all, as [`crate::replace`] does, with the mode that the umask leaves of 0666. Links on the way to its directory
/// are followed if they are those of `user` or of root; one in its place is replaced.
///
/// Its draft lies beside it, always under the same name, and what is left of one of a process that was killed is removed: whoever calls this
/// for the same path must do so one after the other.
pub fn place(path: &Path, user: Uid, contents: &mut impl Read) -> Result<(), PathError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(Errno::EISDIR).into());
    };
    let dir = links::open_dir(dir, user)?;
    let mut draft_name = OsString::from(".");
    draft_name.push(name);
    draft_name.push(".twitcher");
    match unlinkat(&dir, &*draft_name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut draft = File::from(openat(&dir, &*draft_name, flags, Mode::from_bits_truncate(0o666))?);
    let placed = io::copy(contents, &mut draft)
        // A name that survives a crash without its content would be a file full of zeros.
        .and_then(|_| draft.sync_all())
        .and_then(|()| Ok(renameat(&dir, &*draft_name, &dir, name)?));
    if let Err(error) = placed {
        let _ = unlinkat(&dir, &*draft_name, UnlinkatFlags::NoRemoveDir);
        return Err(error.into());
    }
    sync(&dir)?;
    Ok(())
}

/// Waits until a directory's entries are on the disk. One that may be written to and not read cannot be asked for that.
fn sync(dir: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(dir, ".", flags, Mode::empty()) {
        Ok(dir) => fsync(dir.as_fd()),
        Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use nix::unistd::geteuid;

    use super::*;

    fn place_text(path: &Path, text: &str) -> Result<(), PathError> {
        place(path, geteuid(), &mut text.as_bytes())
    }

    #[test]
    fn a_file_is_replaced_whole_and_so_is_a_link_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs::write(dir.path().join(".config.twitcher"), "left by one that was killed").unwrap();
        place_text(&file, "one").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o111, 0);
        let other = dir.path().join("other");
        fs::write(&other, "another's").unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&other, &file).unwrap();
        place_text(&file, "two").unwrap();
        assert_eq!(
            (fs::read(&file).unwrap(), fs::read(&other).unwrap()),
            (b"two".to_vec(), b"another's".to_vec())
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no draft is left");
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(place_text(&dir.path().join("dir"), "x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nor of one that failed");
        assert!(place_text(Path::new("/"), "x").is_err());
    }

    #[test]
    fn root_writes_nothing_through_a_link_of_somebody_else() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        fs::create_dir(&ours).unwrap();
        fs::create_dir(&theirs).unwrap();
        symlink(&ours, theirs.join("out")).unwrap();
        chown(&theirs, Some(4711), None).unwrap();
        let error = place_text(&theirs.join("out/config"), "x").unwrap_err();
        assert!(
            error.to_string().contains("a link that user 4711 can replace"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&ours).unwrap().count(), 0);
    }
}
