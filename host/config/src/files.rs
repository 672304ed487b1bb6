//! Finding and reading configuration files, without trusting what is found: the daemon is root, and what it reads here decides
//! what it runs.
//!
//! Whatever is judged is an open descriptor, never a name that could mean something else a moment later. This module must not
//! know what is in the files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, lstat};
use nix::unistd::{Uid, User, geteuid};

use super::error::{ConfigError, SourceText};

/// Largest configuration file, in bytes.
pub(super) const FILE_MAX: usize = 16 << 20;
/// Most directories below one another.
const DEPTH_MAX: usize = 32;
/// Most configuration files below one path.
const FILES_MAX: usize = 10_000;
/// Most entries of one directory that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// The kinds of configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Starlark.
    Twc,
    Json,
}

impl Kind {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "twc" => Some(Self::Twc),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What was found below a configured path.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Configuration files, in the order of their directories' names and theirs.
    pub(super) files: Vec<PathBuf>,
    /// What could not be looked into. The files below those paths are unknown, not gone.
    pub(super) errors: Vec<ConfigError>,
}

/// Finds and reads configuration files.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileReader {
    /// Whose files are read beside root's, when others' are refused; none when anybody's are.
    trusted: Option<Uid>,
}

impl FileReader {
    /// Refuses what others could change if this process is root. To anybody else such a file can do no more than they could.
    pub(super) fn new() -> Self {
        Self::refusing_others(geteuid().is_root())
    }

    pub(super) fn refusing_others(refuse: bool) -> Self {
        Self {
            trusted: refuse.then(geteuid),
        }
    }

    /// The configuration files at or below `root`. Hidden names are skipped.
    pub(super) fn find(self, root: &Path) -> Found {
        let mut found = Found::default();
        match nix::sys::stat::stat(root) {
            Err(errno) => found.errors.push(failed(root, "cannot read", errno)),
            Ok(stat) if is(&stat, SFlag::S_IFDIR) => self.descend(root, &mut Vec::new(), &mut found),
            Ok(_) if Kind::of(root).is_none() => {
                let error = ConfigError::of_file(root, "is not a configuration file");
                let hint = "a configuration file's name ends in .twc or .json".to_owned();
                found.errors.push(error.with_hint(hint));
            }
            Ok(_) => found.files.push(root.to_owned()),
        }
        found
    }

    fn descend(self, path: &Path, above: &mut Vec<(u64, u64)>, found: &mut Found) {
        let (dir, stat) = match self.open_dir(path) {
            Ok(opened) => opened,
            Err(error) => return found.errors.push(error),
        };
        let identity = (stat.st_dev, stat.st_ino);
        if above.contains(&identity) {
            return found.errors.push(ConfigError::of_file(
                path,
                "is a symbolic link to a directory that it lies in",
            ));
        }
        if above.len() >= DEPTH_MAX {
            let message = format!("lies more than {DEPTH_MAX} directories deep");
            return found.errors.push(ConfigError::of_file(path, message));
        }
        above.push(identity);
        self.entries(path, dir, above, found);
        above.pop();
    }

    fn entries(self, path: &Path, mut dir: Dir, above: &mut Vec<(u64, u64)>, found: &mut Found) {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for entry in dir.iter() {
            match entry {
                Ok(entry) if entry.file_name().to_bytes().starts_with(b".") => {}
                Ok(entry) => names.push(entry.file_name().to_bytes().to_owned()),
                Err(errno) => return found.errors.push(failed(path, "cannot read", errno)),
            }
            if names.len() > ENTRIES_MAX {
                let message = format!("has more than {ENTRIES_MAX} entries");
                return found.errors.push(ConfigError::of_file(path, message));
            }
        }
        names.sort_unstable();
        for name in names {
            let name = OsStr::from_bytes(&name);
            let entry = path.join(name);
            match fstatat(dir.as_fd(), name, AtFlags::empty()) {
                Ok(stat) if is(&stat, SFlag::S_IFDIR) => self.descend(&entry, above, found),
                Ok(_) if Kind::of(&entry).is_none() => {}
                Ok(_) if found.files.len() >= FILES_MAX => {
                    let message = format!("has more than {FILES_MAX} configuration files");
                    return found.errors.push(ConfigError::of_file(path, message));
                }
                Ok(_) => found.files.push(entry),
                // A dangling link of another name is none of our business; one that leads in circles may have been a directory.
                Err(Errno::ENOENT) if Kind::of(&entry).is_none() => {}
                Err(errno) => found.errors.push(failed(&entry, "cannot read", errno)),
            }
        }
    }

    /// Opens a directory, unless others could change what is in it.
    fn open_dir(self, path: &Path) -> Result<(Dir, FileStat), ConfigError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| failed(path, "cannot open", errno))?;
        let stat = fstat(&fd).map_err(|errno| failed(path, "cannot inspect", errno))?;
        self.check_owner(path, "directory", &stat)?;
        let dir = Dir::from_fd(fd).map_err(|errno| failed(path, "cannot read", errno))?;
        Ok((dir, stat))
    }

    /// The text of a configuration file.
    pub(super) fn read(self, path: &Path) -> Result<SourceText, ConfigError> {
        let mut text = self.read_bytes(path)?;
        strip_mark(path, &mut text)?;
        let text = String::from_utf8(text)
            .map_err(|error| not_utf8(path, error.as_bytes(), error.utf8_error().valid_up_to()))?;
        Ok(SourceText::new(path.into(), text.into()))
    }

    fn read_bytes(self, path: &Path) -> Result<Vec<u8>, ConfigError> {
        // Non-blocking, or opening a FIFO would wait for a writer for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| failed(path, "cannot open", errno))?;
        let stat = fstat(&fd).map_err(|errno| failed(path, "cannot inspect", errno))?;
        if !is(&stat, SFlag::S_IFREG) {
            return Err(ConfigError::of_file(path, "is not a regular file"));
        }
        self.check_owner(path, "file", &stat)?;
        self.check_link_target(path)?;
        if usize::try_from(stat.st_size).map_or(true, |size| size > FILE_MAX) {
            return Err(too_large(path, stat.st_size));
        }
        let mut text = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
        let file = File::from(fd);
        // It may have grown since, or lie about its size as files of /proc do.
        file.take(FILE_MAX as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|error| ConfigError::of_file(path, format!("cannot read: {error}")))?;
        if text.len() > FILE_MAX {
            return Err(too_large(path, text.len() as i64));
        }
        Ok(text)
    }

    /// A link leads out of the directories that were checked on the way: whoever may change the one it ends in may change the file.
    fn check_link_target(self, path: &Path) -> Result<(), ConfigError> {
        let is_link = lstat(path).is_ok_and(|stat| is(&stat, SFlag::S_IFLNK));
        if self.trusted.is_none() || !is_link {
            return Ok(());
        }
        let target = path
            .canonicalize()
            .map_err(|error| ConfigError::of_file(path, format!("cannot follow the symbolic link: {error}")))?;
        match target.parent() {
            Some(parent) => self.open_dir(parent).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The text of a file that `load()` names. `roots` are the directories that it must lie in.
    pub(super) fn read_load(self, roots: &[PathBuf], path: &Path) -> Result<SourceText, ConfigError> {
        let Some(root) = roots.iter().find(|root| path.starts_with(root)) else {
            return Err(ConfigError::of_file(path, "lies outside the configuration directories"));
        };
        let below = path.parent().and_then(|parent| parent.strip_prefix(root).ok());
        let mut dir = root.clone();
        self.open_dir(&dir)?;
        for name in below.into_iter().flat_map(Path::components) {
            dir.push(name);
            self.open_dir(&dir)?;
        }
        self.read(path)
    }

    /// Refuses a file or directory that others than root or this process's user can write to.
    fn check_owner(self, path: &Path, what: &str, stat: &FileStat) -> Result<(), ConfigError> {
        let Some(me) = self.trusted else {
            return Ok(());
        };
        let owner = Uid::from_raw(stat.st_uid);
        if !owner.is_root() && owner != me {
            let name = User::from_uid(owner)
                .ok()
                .flatten()
                .map_or(owner.to_string(), |user| user.name);
            let message = format!("refused: the {what} belongs to user {name}, who could make root run anything");
            return Err(ConfigError::of_file(path, message).with_hint(format!("chown root {}", path.display())));
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o022 != 0 {
            let message = format!("refused: the {what}'s mode {mode:04o} lets others than its owner write to it");
            return Err(ConfigError::of_file(path, message).with_hint(format!("chmod go-w {}", path.display())));
        }
        Ok(())
    }
}

/// The path that a name in `file` means: beside it, unless it is absolute. By names alone, so that a `load()` means the same when
/// the file runs again from memory.
pub(super) fn path_named_in(file: &Path, name: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for component in file.parent().unwrap_or(Path::new("/")).join(name).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind
}

fn failed(path: &Path, what: &str, errno: Errno) -> ConfigError {
    ConfigError::of_file(path, format!("{what}: {}", errno.desc()))
}

fn too_large(path: &Path, size: i64) -> ConfigError {
    let message = format!(
        "is too large: {} MiB; at most {} MiB are read",
        size >> 20,
        FILE_MAX >> 20
    );
    ConfigError::of_file(path, message)
}

/// Takes away the mark that some editors begin a UTF-8 file with. That of another encoding is an error that names it.
fn strip_mark(path: &Path, text: &mut Vec<u8>) -> Result<(), ConfigError> {
    match text.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => drop(text.drain(..3)),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            let error = ConfigError::of_file(path, "is not UTF-8: it begins with the byte order mark of UTF-16");
            return Err(error.with_hint("have the editor save it as UTF-8".to_owned()));
        }
        _ => {}
    }
    Ok(())
}

fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> ConfigError {
    let lossy = String::from_utf8_lossy(bytes);
    // The text before the first bad byte is the same in both.
    let source = SourceText::new(Arc::from(path), Arc::from(&*lossy));
    let byte = bytes.get(at).copied().unwrap_or_default();
    source.error(at, format!("is not UTF-8: byte 0x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const ANY: FileReader = FileReader { trusted: None };

    fn strict() -> FileReader {
        FileReader::refusing_others(true)
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn names(found: &Found, root: &Path) -> Vec<String> {
        let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.files.iter().map(name).collect()
    }

    /// The errors' texts with `dir` written as `DIR`.
    fn texts(errors: &[ConfigError], dir: &Path) -> Vec<String> {
        let text = |error: &ConfigError| error.to_string().replace(dir.to_str().unwrap(), "DIR");
        errors.iter().map(text).collect()
    }

    #[test]
    fn files_come_in_order_and_hidden_ones_not_at_all() {
        let dir = tree(&[
            ("b.twc", ""),
            ("a.json", ""),
            ("sub/c.twc", ""),
            (".hidden.twc", ""),
            (".git/x.twc", ""),
            ("README", ""),
            ("a.twc~", ""),
        ]);
        let found = ANY.find(dir.path());
        assert_eq!(names(&found, dir.path()), ["a.json", "b.twc", "sub/c.twc"]);
        assert_eq!(found.errors, []);
    }

    #[test]
    fn one_file_can_be_named() {
        let dir = tree(&[("a.twc", ""), ("b.txt", "")]);
        assert_eq!(ANY.find(&dir.path().join("a.twc")).files.len(), 1);
        let errors = ANY.find(&dir.path().join("b.txt")).errors;
        assert_eq!(errors[0].message, "is not a configuration file");
        let errors = ANY.find(&dir.path().join("gone")).errors;
        assert_eq!(errors[0].message, "cannot read: No such file or directory");
    }

    #[test]
    fn links_are_followed_but_not_in_circles() {
        let dir = tree(&[("real/a.twc", "x = 1")]);
        symlink(dir.path().join("real"), dir.path().join("sub")).unwrap();
        symlink(dir.path(), dir.path().join("real/up")).unwrap();
        symlink("round.twc", dir.path().join("round.twc")).unwrap();
        symlink("round", dir.path().join("round")).unwrap();
        symlink("gone.twc", dir.path().join("dangling.twc")).unwrap();
        symlink("gone", dir.path().join("dangling")).unwrap();
        let found = ANY.find(dir.path());
        assert_eq!(names(&found, dir.path()), ["real/a.twc", "sub/a.twc"]);
        let errors = texts(&found.errors, dir.path());
        insta::assert_snapshot!(errors.join("\n"), @r"
        DIR/dangling.twc: cannot read: No such file or directory
        DIR/real/up: is a symbolic link to a directory that it lies in
        DIR/round: cannot read: Too many symbolic links encountered
        DIR/round.twc: cannot read: Too many symbolic links encountered
        DIR/sub/up: is a symbolic link to a directory that it lies in
        ");
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let dir = tree(&[]);
        let path = dir.path().join("huge.twc");
        File::create(&path).unwrap().set_len(100_000_000).unwrap();
        let error = ANY.read(&path).unwrap_err();
        assert_eq!(error.message, "is too large: 95 MiB; at most 16 MiB are read");
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tree(&[]);
        let fifo = dir.path().join("fifo.twc");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        assert_eq!(ANY.read(&fifo).unwrap_err().message, "is not a regular file");
        let error = ANY.read(dir.path()).unwrap_err();
        assert_eq!(error.message, "is not a regular file");
    }

    #[test]
    fn text_that_is_not_utf8_is_located() {
        let dir = tree(&[]);
        let path = dir.path().join("latin.twc");
        fs::write(&path, b"x = 1\ny = 'sch\xf6n'\n").unwrap();
        let error = ANY.read(&path).unwrap_err();
        insta::assert_snapshot!(texts(&[error], dir.path())[0], @r"
        DIR/latin.twc:2:9: is not UTF-8: byte 0xf6
          | y = 'sch�n'
          |         ^
        ");
    }

    #[test]
    fn a_byte_order_mark_is_skipped_or_named() {
        let dir = tree(&[("marked.json", "\u{feff}[]"), ("twice.json", "\u{feff}\u{feff}[]")]);
        let read = |name: &str| ANY.read(&dir.path().join(name));
        assert_eq!(&*read("marked.json").unwrap().text, "[]");
        assert_eq!(&*read("twice.json").unwrap().text, "\u{feff}[]");
        fs::write(dir.path().join("wide.twc"), b"\xff\xfex\0").unwrap();
        let error = read("wide.twc").unwrap_err();
        assert!(error.message.contains("UTF-16"), "{error:?}");
        assert!(error.hint.is_some_and(|hint| hint.contains("UTF-8")));
    }

    #[test]
    fn an_unreadable_file_or_directory_is_an_error() {
        let dir = tree(&[("a.twc", ""), ("sub/b.twc", "")]);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["a.twc", "sub"] {
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
        }
        // Root reads everything, so this thread looks at files as nobody. It is a property of the thread, which ends with the test.
        nix::unistd::setfsuid(Uid::from_raw(65534));
        let found = ANY.find(dir.path());
        let unreadable = ANY.read(&dir.path().join("a.twc")).unwrap_err();
        nix::unistd::setfsuid(geteuid());
        assert_eq!(
            texts(&found.errors, dir.path()),
            ["DIR/sub: cannot open: Permission denied"]
        );
        assert_eq!(unreadable.message, "cannot open: Permission denied");
    }

    #[test]
    fn what_others_can_write_is_refused() {
        let dir = tree(&[("a.twc", ""), ("sub/b.twc", ""), ("sub/lib.twc", "")]);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("a.twc");
        let sub = dir.path().join("sub");
        for (path, mode) in [(&path, 0o664), (&sub, 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut errors = strict().find(dir.path()).errors;
        errors.push(strict().read(&path).unwrap_err());
        errors.push(
            strict()
                .read_load(&[dir.path().to_owned()], &sub.join("lib.twc"))
                .unwrap_err(),
        );
        insta::assert_snapshot!(texts(&errors, dir.path()).join("\n"), @r"
        DIR/sub: refused: the directory's mode 0777 lets others than its owner write to it
          hint: chmod go-w DIR/sub
        DIR/a.twc: refused: the file's mode 0664 lets others than its owner write to it
          hint: chmod go-w DIR/a.twc
        DIR/sub: refused: the directory's mode 0777 lets others than its owner write to it
          hint: chmod go-w DIR/sub
        ");
        assert!(ANY.read(&path).is_ok() && ANY.find(dir.path()).errors.is_empty());
    }

    #[test]
    fn what_others_own_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tree(&[("a.twc", ""), ("b.twc", "")]);
        let (a, b) = (dir.path().join("a.twc"), dir.path().join("b.twc"));
        std::os::unix::fs::chown(&a, Some(65534), None).unwrap();
        let error = strict().read(&a).unwrap_err();
        insta::assert_snapshot!(texts(&[error], dir.path())[0], @r"
        DIR/a.twc: refused: the file belongs to user nobody, who could make root run anything
          hint: chown root DIR/a.twc
        ");
        assert!(strict().read(&b).is_ok());
    }

    #[test]
    fn a_link_into_a_directory_of_others_is_refused() {
        let dir = tree(&[("conf/x", ""), ("open/a.twc", "")]);
        fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o777)).unwrap();
        let link = dir.path().join("conf/a.twc");
        symlink(dir.path().join("open/a.twc"), &link).unwrap();
        let error = strict().read(&link).unwrap_err();
        assert_eq!(error.file, dir.path().join("open"));
        assert!(error.message.contains("mode 0777"), "{error}");
    }

    #[test]
    fn loads_stay_inside() {
        let path = |name| path_named_in(Path::new("/etc/twitcher/sub/a.twc"), name);
        assert_eq!(path("lib.twc"), Path::new("/etc/twitcher/sub/lib.twc"));
        assert_eq!(path("../lib.twc"), Path::new("/etc/twitcher/lib.twc"));
        assert_eq!(path("./../../../../lib.twc"), Path::new("/lib.twc"));
        let error = ANY
            .read_load(&["/etc/twitcher".into()], Path::new("/etc/passwd"))
            .unwrap_err();
        assert_eq!(error.message, "lies outside the configuration directories");
    }
}
