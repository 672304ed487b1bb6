//! Replacing a file so that whoever looks, also after a crash of the machine, finds the old one or the new one, whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a file whole or not at all: beside its place, to the disk, and then under its name. `mode` is what it gets, whatever the umask.
pub fn replace<T, E: From<io::Error>>(
    file: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let permissions = fs::Permissions::from_mode(mode);
    let mut draft = tempfile::Builder::new()
        .permissions(permissions.clone())
        .tempfile_in(dir)?;
    let written = write(draft.as_file_mut())?;
    draft.as_file().set_permissions(permissions)?;
    // A name that survives a crash without its content would be a file full of zeros.
    draft.as_file().sync_all()?;
    draft.persist(file).map_err(|error| error.error)?;
    sync_dir(dir)?;
    Ok(written)
}

/// The same with contents that are at hand.
pub fn replace_with(file: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    replace(file, mode, |draft| io::Write::write_all(draft, contents))
}

/// Waits until a directory's entries are on the disk.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        replace_with(&file, 0o640, b"old").unwrap();
        let failed = replace(&file, 0o600, |draft| {
            io::Write::write_all(draft, b"ne")?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        replace_with(&file, 0o644, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
