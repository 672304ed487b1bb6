//! A file that is replaced in one step, and the note beside it that its reader has yet to be told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use twitcher_sdk::{Failure, ResultExt, files};

/// The file, and its companions in the same directory: a rename does not cross file systems.
pub struct Output {
    file: PathBuf,
    staged: PathBuf,
    pending: PathBuf,
    backup: PathBuf,
}

/// What is in the file before it is replaced.
pub struct Current {
    /// Its content; none if there is no such file.
    pub content: Option<Vec<u8>>,
    /// Its permissions; none if there is no such file, or if nothing is asked of them.
    pub mode: Option<u32>,
}

impl Output {
    pub fn new(file: impl AsRef<Path>) -> io::Result<Self> {
        let file = file.as_ref();
        let name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
        Ok(Self {
            file: file.to_owned(),
            staged: file.with_file_name(format!(".{name}.new")),
            pending: file.with_file_name(format!(".{name}.pending")),
            backup: file.with_file_name(format!("{name}.bak")),
        })
    }

    /// What there is, with its permissions if they matter.
    pub fn current(&self, with_mode: bool) -> Result<Current, Failure> {
        let content = match fs::read(&self.file) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let mode = match &content {
            Some(_) if with_mode => Some(files::mode(&self.file)?),
            _ => None,
        };
        Ok(Current { content, mode })
    }

    /// Whether the file was replaced, and its reader not told since.
    pub fn is_pending(&self) -> bool {
        self.pending.exists()
    }

    /// Writes the new file beside the old one, and says where it is.
    pub fn stage(&self, text: &str, mode: Option<u32>) -> Result<&Path, Failure> {
        write_durably(&self.staged, text.as_bytes(), mode)?;
        Ok(&self.staged)
    }

    /// There is to be no new file.
    pub fn unstage(&self) {
        let _ = fs::remove_file(&self.staged);
    }

    /// Keeps what is there now beside it, with the permissions that it has.
    pub fn back_up(&self, content: &[u8]) -> Result<(), Failure> {
        let mode = files::mode(&self.file)?;
        let new = self.backup.with_extension("bak.new");
        write_durably(&new, content, Some(mode))?;
        fs::rename(&new, &self.backup).context(self.backup.display())
    }

    /// Puts the new file in the place of the old one. With a command to be run, that is noted first: between the two, a reload too many is
    /// better than one too few.
    pub fn replace(&self, has_reader: bool) -> Result<(), Failure> {
        if has_reader {
            File::create(&self.pending).context(self.pending.display())?;
        }
        fs::rename(&self.staged, &self.file)?;
        Ok(())
    }

    /// The reader was told.
    pub fn done(&self) -> io::Result<()> {
        match fs::remove_file(&self.pending) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes a file that nobody can read before it has its permissions, and that a machine which goes down does not come up without.
fn write_durably(path: &Path, content: &[u8], mode: Option<u32>) -> Result<(), Failure> {
    // What a run before left there may belong to somebody else by now.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(path.display()),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .context(path.display())?;
    if let Some(mode) = mode {
        files::set_mode(path, mode)?;
    }
    file.write_all(content).context(path.display())?;
    file.sync_all().context(path.display())
}
