//! Files that nobody but root and this user can have written. What others could change is not used, neither way.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Refuses what another user owns or may write to.
fn check(metadata: &Metadata) -> io::Result<()> {
    let owner = metadata.uid();
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if owner != 0 && owner != geteuid().as_raw() {
        return refuse(format!("it belongs to user {owner}, not to root or this user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse(format!(
            "others than its owner may write to it (mode {:04o})",
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Refuses a directory that others can write to, and what is no directory.
pub(super) fn check_dir(dir: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(dir)?;
    match metadata.is_dir() {
        true => check(&metadata),
        false => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")),
    }
}

/// Opens a regular file that others cannot write to, not through a link.
pub(super) fn open(file: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags.bits()).open(file)?;
    let metadata = opened.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    check(&metadata)?;
    Ok(opened)
}

/// Reads such a file, if it is not longer than `most` bytes.
pub(super) fn read(file: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() <= most {
        true => Ok(bytes),
        false => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {most} bytes"),
        )),
    }
}

/// Whether a path still leads to what was opened.
pub(super) fn same(opened: &File, path: &Path) -> io::Result<bool> {
    let ours = opened.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
