//! Whose bundles run here: the keys in a directory, and what each may sign.
//!
//! `NAME.pub` is a key in minisign's format. Beside it, `NAME.rights` says `KEYID: wasm` or `KEYID: wasm native`; without that file
//! the right is `wasm` alone. The rights are not in the key's own file because that comes from whoever wants them, and they name the
//! key so that a later key of the same name does not inherit them. A key that is removed stops the next load: nothing is remembered.
//!
//! It must not know how bundles are packed or kept.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::signature::{KeyError, KeyId, PublicKey, Signature};
use twitcher_files::private;
use twitcher_files::replace::replace_with;

/// Where keys are, unless something else is said.
pub const KEYS: &str = "/etc/twitcher/keys";
/// Most keys.
const KEYS_MAX: usize = 1000;
/// Longest file of a key or of rights, in bytes.
const FILE_MAX: usize = 4096;

/// Why no key can be trusted, or one cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The directory cannot be used.
    #[error("cannot use the keys in {}: {error}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// There is another key of this name.
    #[error("{} is another key; remove it first, or give this one another --name", .0.display())]
    Taken(PathBuf),
    /// The name cannot be that of a file.
    #[error("cannot name a key {0:?}: letters, digits, - _ and . only, and no . at the beginning")]
    Name(String),
    /// The key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A bundle that must not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustRefusal {
    /// It must be signed.
    #[error("it is not signed, and only signed bundles run here (--require-signed)")]
    Unsigned,
    /// Nobody here trusts the key.
    #[error("it is signed with the key {key}, which is not trusted here{why}: see `twitcher key trust`")]
    Untrusted {
        /// The key.
        key: KeyId,
        /// More about it, with its own punctuation.
        why: String,
    },
    /// It was changed, or the signature is for something else.
    #[error("its signature is not of this manifest: {why}{other}")]
    Wrong {
        /// What does not fit.
        why: String,
        /// What the signature seems to be of, with its own punctuation.
        other: String,
    },
}

/// How far a bundle is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureStanding {
    /// It is not signed, or there are no keys here to judge by: the component runs, native code does not.
    Unsigned,
    /// Signed with a key that has the right `wasm`: the component runs, native code does not.
    Wasm(KeyId),
    /// Signed with a key that has the right `native` too: both run.
    Native(KeyId),
}

impl fmt::Display for SignatureStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("not signed, or not judged"),
            Self::Wasm(key) => write!(f, "signed by {key}, wasm"),
            Self::Native(key) => write!(f, "signed by {key}, wasm and native"),
        }
    }
}

impl SignatureStanding {
    /// The key that signed it and is trusted.
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::Unsigned => None,
            Self::Wasm(key) | Self::Native(key) => Some(*key),
        }
    }
}

/// A key that is trusted.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Whether native code that it signed runs.
    pub native: bool,
    /// Where it is.
    pub file: PathBuf,
}

/// The keys that are trusted at a moment.
#[derive(Debug, Default)]
pub struct Keys {
    /// Whether there is a directory of keys. Without one nothing was ever decided here, and signatures say nothing.
    pub configured: bool,
    /// The keys.
    pub trusted: Vec<TrustedKey>,
    /// What looks like a key and is not trusted, and why.
    pub refused: Vec<(PathBuf, String)>,
}

impl Keys {
    /// The keys in a directory, which need not exist. One that others can write to is refused with all that is in it.
    pub fn load(dir: &Path) -> Result<Self, TrustError> {
        let failed = |error| TrustError::Dir {
            dir: dir.to_owned(),
            error,
        };
        match private::check_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(failed)?,
        }
        let mut keys = Self {
            configured: true,
            ..Self::default()
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "pub") {
                files.push(file);
            }
            if files.len() > KEYS_MAX {
                return Err(failed(io::Error::other(format!("there are more than {KEYS_MAX}"))));
            }
        }
        files.sort();
        for file in files {
            match load(&file) {
                Ok(key) => keys.trusted.push(key),
                Err(why) => keys.refused.push((file, why)),
            }
        }
        Ok(keys)
    }

    fn with_id(&self, id: KeyId) -> impl Iterator<Item = &TrustedKey> {
        self.trusted.iter().filter(move |trusted| trusted.key.id() == id)
    }
}

fn load(file: &Path) -> Result<TrustedKey, String> {
    let bytes = private::read(file, FILE_MAX).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let key = PublicKey::parse(&text)?;
    Ok(TrustedKey {
        native: rights(&file.with_extension("rights"), key.id())?,
        key,
        file: file.to_owned(),
    })
}

/// Whether a key has the right `native`.
fn rights(file: &Path, id: KeyId) -> Result<bool, String> {
    let named = |why: String| format!("{}: {why}", file.display());
    let bytes = match private::read(file, FILE_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(named(error.to_string())),
    };
    let text = String::from_utf8_lossy(&bytes);
    let expected = || named(format!("expected \"{id}: wasm\" or \"{id}: wasm native\""));
    let (named_id, words) = text.trim_end().split_once(':').ok_or_else(expected)?;
    if named_id != id.to_string() {
        return Err(named(format!("it is about another key than {id}")));
    }
    match words.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["wasm"] => Ok(false),
        ["wasm", "native"] => Ok(true),
        _ => Err(expected()),
    }
}

/// What an operator has decided.
#[derive(Debug, Default)]
pub struct Trust {
    /// The keys.
    pub keys: Keys,
    /// Whether unsigned bundles are refused.
    pub require_signed: bool,
}

impl Trust {
    /// How far a bundle is trusted, by its manifest as it was signed.
    pub fn judge(&self, manifest: &[u8], signature: Option<&Signature>) -> Result<SignatureStanding, TrustRefusal> {
        let Some(signature) = signature else {
            return match self.require_signed {
                true => Err(TrustRefusal::Unsigned),
                false => Ok(SignatureStanding::Unsigned),
            };
        };
        let id = signature.key();
        if !self.keys.configured && !self.require_signed {
            // As if the signature were not there: whoever could change the bundle could have left it out.
            return Ok(SignatureStanding::Unsigned);
        }
        let mut wrong = None;
        let mut standing = None;
        // Ids are not unique: another key may have been given this one on purpose.
        for trusted in self.keys.with_id(id) {
            match signature.verify(&trusted.key, manifest) {
                Ok(()) if trusted.native => return Ok(SignatureStanding::Native(id)),
                Ok(()) => standing = Some(SignatureStanding::Wasm(id)),
                Err(error) => wrong = Some(error.to_string()),
            }
        }
        match (standing, wrong) {
            (Some(standing), _) => Ok(standing),
            (None, Some(why)) => Err(TrustRefusal::Wrong {
                why,
                other: other(manifest, signature),
            }),
            (None, None) => Err(TrustRefusal::Untrusted {
                key: id,
                why: self.why_untrusted(),
            }),
        }
    }

    /// What these decisions come to, in words, where `dir` is the directory of the keys.
    pub fn regime(&self, dir: &Path) -> String {
        let dir = dir.display();
        let keys = match self.keys.trusted.len() {
            0 => "no key is trusted".to_owned(),
            1 => "one key is trusted".to_owned(),
            many => format!("{many} keys are trusted"),
        };
        let native = self.keys.trusted.iter().filter(|trusted| trusted.native).count();
        let native = match native {
            0 => "none of them for native code".to_owned(),
            _ => format!("{native} for native code"),
        };
        let all = if self.keys.trusted.is_empty() {
            keys
        } else {
            format!("{keys}, {native}")
        };
        match (self.require_signed, self.keys.configured) {
            (true, _) => format!("only bundles signed with a key in {dir} run; {all}"),
            (false, true) => {
                format!("bundles that are not signed run as components, signed ones if their key is in {dir}; {all}")
            }
            (false, false) => format!(
                "signatures say nothing, since there is no {dir}: every bundle runs as a component, and no native code of any"
            ),
        }
    }

    fn why_untrusted(&self) -> String {
        match self.keys.refused.as_slice() {
            [] if self.keys.trusted.is_empty() => " (no key is)".to_owned(),
            [] => String::new(),
            [(file, why), ..] => format!(" ({} is not used: {why})", file.display()),
        }
    }
}

/// What is signed along with a manifest, for people.
pub fn comment(manifest: &Manifest) -> String {
    format!("twitcher bundle {} {}", manifest.name, manifest.version)
}

fn other(manifest: &[u8], signature: &Signature) -> String {
    let Ok(manifest) = Manifest::parse(manifest) else {
        return String::new();
    };
    let found = signature.comment();
    match found == comment(&manifest) || found.is_empty() {
        true => "; the bundle was changed after it was signed".to_owned(),
        false => format!("; its comment says {found:?}"),
    }
}

/// Trusts a key: puts it into a directory, which is made if need be. Gives its file.
pub fn trust(dir: &Path, key: &PublicKey, name: &str, native: bool) -> Result<PathBuf, TrustError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(good) {
        return Err(TrustError::Name(name.to_owned()));
    }
    let failed = |error| TrustError::Dir {
        dir: dir.to_owned(),
        error,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    private::check_dir(dir).map_err(failed)?;
    let file = dir.join(format!("{name}.pub"));
    if file.exists() && PublicKey::read(&file)? != *key {
        return Err(TrustError::Taken(file));
    }
    let rights = match native {
        true => "wasm native",
        false => "wasm",
    };
    // The rights first: a key without them would for a moment have others than it should.
    replace(
        &dir.join(format!("{name}.rights")),
        &format!("{}: {rights}\n", key.id()),
    )?;
    replace(&file, &key.to_text())?;
    Ok(file)
}

/// Writes a file that everybody may read.
fn replace(file: &Path, text: &str) -> Result<(), TrustError> {
    replace_with(file, 0o644, text.as_bytes()).map_err(|error| TrustError::Write {
        file: file.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests;
