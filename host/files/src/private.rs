//! Files that nobody but root and this user can have written. What others could change is not used, neither way.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;

use crate::links;
use crate::regular::{self, Links};

/// Refuses an open file that another user owns or may write to.
pub fn check(file: &File) -> io::Result<()> {
    check_metadata(&file.metadata()?)
}

fn check_metadata(metadata: &Metadata) -> io::Result<()> {
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

/// Refuses a directory that others can write to, what is no directory, and a path that leads there by links of others.
pub fn check_dir(dir: &Path) -> io::Result<()> {
    links::open_dir(dir, geteuid())?;
    let metadata = fs::symlink_metadata(dir)?;
    match metadata.is_dir() {
        true => check_metadata(&metadata),
        false => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")),
    }
}

/// Opens a regular file that others cannot write to, not through a link.
pub fn open(file: &Path) -> io::Result<File> {
    let opened = regular::open(file, Links::Refuse)?;
    check(&opened)?;
    Ok(opened)
}

/// Reads such a file, if it is not longer than `most` bytes.
pub fn read(file: &Path, most: usize) -> io::Result<Vec<u8>> {
    regular::read_open(open(file)?, most)
}

/// Whether a path still leads to what was opened.
pub fn same(opened: &File, path: &Path) -> io::Result<bool> {
    let ours = opened.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
