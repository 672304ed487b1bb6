//! A file that is replaced in one step, and the note beside it that its reader has yet to be told.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file, and its two companions in the same directory: a rename does not cross file systems.
pub struct Output {
    file: PathBuf,
    temporary: PathBuf,
    pending: PathBuf,
}

impl Output {
    pub fn new(file: impl AsRef<Path>) -> io::Result<Self> {
        let file = file.as_ref();
        let name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
        Ok(Self {
            file: file.to_owned(),
            temporary: file.with_file_name(format!(".{name}.new")),
            pending: file.with_file_name(format!(".{name}.pending")),
        })
    }

    pub fn differs(&self, text: &str) -> io::Result<bool> {
        match fs::read(&self.file) {
            Ok(current) => Ok(current != text.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether the file was replaced, and its reader not told since.
    pub fn is_pending(&self) -> bool {
        self.pending.exists()
    }

    pub fn replace(&self, text: &str) -> io::Result<()> {
        let mut new = File::create(&self.temporary)?;
        new.write_all(text.as_bytes())?;
        // Else a machine that goes down can come up with an empty file.
        new.sync_all()?;
        // The note first: between the two, a reload too many is better than one too few.
        File::create(&self.pending)?;
        fs::rename(&self.temporary, &self.file)
    }

    /// The reader was told.
    pub fn done(&self) -> io::Result<()> {
        match fs::remove_file(&self.pending) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
