//! Which host this is: an id in the state directory, which a reinstalled host has lost and gets another one instead; and labels.
//!
//! Done once, before the daemon runs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use twitcher_files::regular::{self, Links};
use twitcher_files::replace::replace_with;

/// Name of the file in the state directory.
const FILE: &str = "fleet-id";
/// Length of a UUID.
const ID_LENGTH: usize = 36;
const LABELS_MAX: usize = 32;
const LABEL_MAX: usize = 63;

/// What tells a host from another one of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostId(String);

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the id of this host in {}: {error}", .file.display())]
pub struct HostIdError {
    file: PathBuf,
    error: io::Error,
}

impl HostId {
    /// The id that the state directory has; a new one if it has none.
    ///
    /// # Errors
    /// Where it can be neither read nor written.
    pub fn of(state_dir: &Path) -> Result<Self, HostIdError> {
        let file = state_dir.join(FILE);
        let id = read(&file).and_then(|id| match id {
            Some(id) => Ok(id),
            None => {
                let id = random()?;
                replace_with(&file, 0o600, format!("{id}\n").as_bytes())?;
                Ok(id)
            }
        });
        id.map(Self).map_err(|error| HostIdError { file, error })
    }

    /// Whether a text could be an id.
    pub(crate) fn is_id(text: &str) -> bool {
        text.len() == ID_LENGTH && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// None if there is none, or one that is torn: then it is a new host.
fn read(file: &Path) -> io::Result<Option<String>> {
    let mut options = std::fs::OpenOptions::new();
    let opened = match regular::open_with(options.read(true), file, Links::Refuse) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = regular::read_open(opened, 4096)?;
    let id = String::from_utf8_lossy(&text).trim().to_owned();
    Ok(HostId::is_id(&id).then_some(id))
}

/// The kernel makes one for whoever reads.
fn random() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text.trim().to_owned())
}

/// This machine's name, as the kernel has it.
pub fn host_name() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(text.trim().to_owned())
}

/// The boot of this machine, where the kernel tells it.
pub fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// What a host is called besides its name.
pub type Labels = BTreeMap<String, String>;

/// Why a text is no label, or why there are too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It has no `=`, or something else before or behind it.
    #[error(
        "{0:?} is no label: expected KEY=VALUE, each of at most {LABEL_MAX} letters, digits, dots, hyphens, underscores and slashes, and \
         a key of at least one"
    )]
    Form(String),
    /// The same key has two values.
    #[error("the label {0:?} is given twice")]
    Twice(String),
    /// There are too many.
    #[error("there are more than {LABELS_MAX} labels")]
    TooMany,
}

/// Labels as they are written on a command line, each KEY=VALUE.
///
/// # Errors
/// What is no label, or too much.
pub fn labels<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Labels, LabelError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    let is_word = |word: &str| word.len() <= LABEL_MAX && word.chars().all(allowed);
    let mut labels = Labels::new();
    for text in texts {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let pair = pair.filter(|(key, value)| is_word(key) && is_word(value));
        let (key, value) = pair.ok_or_else(|| LabelError::Form(text.to_owned()))?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(LabelError::Twice(key.to_owned()));
        }
        if labels.len() > LABELS_MAX {
            return Err(LabelError::TooMany);
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_and_a_reinstalled_host_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let first = HostId::of(dir.path()).unwrap();
        assert_eq!(HostId::of(dir.path()).unwrap(), first);
        std::fs::write(dir.path().join(FILE), "torn").unwrap();
        let second = HostId::of(dir.path()).unwrap();
        assert_ne!(second, first);
        assert_eq!(HostId::of(dir.path()).unwrap(), second);
        assert!(HostId::of(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn labels_are_pairs() {
        let read = labels(["canary=yes", "rack=r7", "note="]).unwrap();
        assert_eq!(read["canary"], "yes");
        assert_eq!(read["note"], "");
        for bad in ["canary", "=yes", "a b=c", "a=b,c", "a=ü", &"x".repeat(200)] {
            assert_eq!(labels([bad]), Err(LabelError::Form(bad.to_owned())));
        }
        assert_eq!(labels(["a=1", "a=2"]), Err(LabelError::Twice("a".to_owned())));
    }
}
