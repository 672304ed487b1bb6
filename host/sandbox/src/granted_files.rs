//! Files in the granted directories that are more than WASI knows: their permissions, and that they are what a command is to be given.
//!
//! A path is walked name by name from the directory that was granted, and no link is followed: whoever else may write there does not decide
//! where it leads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};

use super::host::Host;
use super::host_imports::twitcher::action::files;
use twitcher_model::DirGrant;

/// What permissions are: no set-user-id, set-group-id or sticky bit.
const PERMISSIONS: u32 = 0o777;
/// To look at it, whatever it is.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

impl Host {
    /// The open directory that a path of the component is in, what was granted of it, and the rest of the path.
    fn granted<'a>(&self, path: &'a str) -> Result<(BorrowedFd<'_>, &DirGrant, &'a str), String> {
        let mut granted = self.directories.opened.iter().zip(&self.grants().dirs);
        let found = granted.find_map(|(fd, dir)| Some((fd.as_fd(), dir, dir.within(path)?)));
        found.ok_or_else(|| "it is in no directory of dirs".to_owned())
    }

    /// Makes sure that a path leads to a regular file, and over no link.
    pub(super) fn look_for_file(&self, path: &str) -> Result<u32, String> {
        let (dir, _, rest) = self.granted(path)?;
        regular(dir, rest, LOOK).map(|(_, mode)| mode).map_err(in_words)
    }

    fn set_mode(&self, path: &str, mode: u32) -> Result<(), String> {
        let (dir, grant, rest) = self.granted(path)?;
        if !grant.writable {
            return Err(format!(
                "it is in a directory that is read-only; to make that writable: dirs = {{\"{}\": \"{}:rw\"}}",
                grant.guest,
                grant.host.display()
            ));
        }
        if mode & !PERMISSIONS != 0 {
            return Err(format!("{mode:o} is more than permissions, which are from 0 to 777"));
        }
        let open = |how| {
            regular(
                dir,
                rest,
                how | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK,
            )
        };
        // Either does; what a mask left of the permissions may not allow the one.
        let opened = open(OFlag::O_RDONLY).or_else(|errno| match errno {
            Errno::EACCES => open(OFlag::O_WRONLY),
            errno => Err(errno),
        });
        let (file, _) = opened.map_err(in_words)?;
        fchmod(file, Mode::from_bits_truncate(mode)).map_err(in_words)
    }
}

/// Opens a regular file below a directory, and says its permissions.
fn regular(dir: BorrowedFd<'_>, path: &str, how: OFlag) -> Result<(OwnedFd, u32), Errno> {
    let mut at: Option<OwnedFd> = None;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let here = at.as_ref().map_or(dir, OwnedFd::as_fd);
        let how = match names.peek() {
            Some(_) => LOOK | OFlag::O_DIRECTORY,
            None => how,
        };
        at = Some(openat(here, name, how, Mode::empty())?);
    }
    let file = at.ok_or(Errno::ENOENT)?;
    let stat = fstat(&file)?;
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Ok((file, stat.st_mode & PERMISSIONS)),
        SFlag::S_IFLNK => Err(Errno::ELOOP),
        SFlag::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

fn in_words(errno: Errno) -> String {
    match errno {
        Errno::ELOOP => "a link leads there, or is there".to_owned(),
        Errno::EINVAL => "it is no regular file".to_owned(),
        errno => errno.desc().to_lowercase(),
    }
}

impl files::Host for Host {
    fn mode(&mut self, path: String) -> wasmtime::Result<Result<u32, String>> {
        Ok(self.look_for_file(&path))
    }

    fn set_mode(&mut self, path: String, mode: u32) -> wasmtime::Result<Result<(), String>> {
        Ok(Host::set_mode(self, &path, mode))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in tests")]

    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_regular_files_are_found_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/file"), "x").unwrap();
        fs::set_permissions(at("d/file"), fs::Permissions::from_mode(0o4640)).unwrap();
        symlink("d/file", at("link")).unwrap();
        symlink("d", at("way")).unwrap();
        let opened = File::open(dir.path()).unwrap();
        let look = |path| regular(opened.as_fd(), path, LOOK).map(|(_, mode)| mode);
        assert_eq!(look("d/file"), Ok(0o640));
        assert_eq!(look("link"), Err(Errno::ELOOP));
        assert_eq!(look("way/file"), Err(Errno::ENOTDIR));
        assert_eq!(look("d"), Err(Errno::EISDIR));
        assert_eq!(look("d/none"), Err(Errno::ENOENT));
        assert_eq!(
            regular(opened.as_fd(), "link", OFlag::O_RDONLY | OFlag::O_NOFOLLOW).map(|_| ()),
            Err(Errno::ELOOP)
        );
    }
}
