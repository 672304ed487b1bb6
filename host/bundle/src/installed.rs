//! A bundle on this host: a directory that only root can write to, checked again each time before anything in it runs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use semver::Version;
use sha2::{Digest as _, Sha256};

use super::compatibility::{EngineFacts, Miss};
use super::manifest::{COMPONENT, FileFacts, MANIFEST_MAX, Manifest, ManifestError, digest};
use super::signature::{SIGNATURE_MAX, Signature, SignatureError};
use super::trust::{SignatureStanding, Trust, TrustRefusal};
use super::{MANIFEST, SIGNATURE, store};
use twitcher_files::private;
use twitcher_model::Digest;

/// Most that is read at once, in bytes.
const CHUNK: usize = 128 << 10;

/// Why an installed bundle must not run.
#[derive(Debug, thiserror::Error)]
pub enum InstalledError {
    /// A file cannot be read, or others could have written it.
    #[error("cannot read {}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// A file is not the one that was installed.
    #[error("{} is damaged: it is not what the manifest says", .0.display())]
    Damaged(PathBuf),
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The signature is refused.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is not trusted.
    #[error(transparent)]
    Refused(#[from] TrustRefusal),
    /// It was removed meanwhile.
    #[error("{} was removed", .0.display())]
    Gone(PathBuf),
}

/// A version of a bundle on this host.
#[derive(Debug, Clone)]
pub struct Installed {
    /// What configurations call it.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// SHA-256 of its manifest: what it is kept under, and what stands for all of it.
    pub digest: Digest,
    /// Where it is.
    pub dir: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// The manifest as it was signed.
    pub manifest_bytes: Vec<u8>,
    /// Its signature, which is judged at each load.
    pub signature: Option<Signature>,
    /// When it was last installed or chosen.
    pub installed: SystemTime,
}

/// What of a bundle runs here.
#[derive(Debug)]
pub enum Code {
    /// Native code, whose digest was found right.
    Native {
        /// Its file: only root can write to it.
        path: PathBuf,
        /// Its size and digest.
        facts: FileFacts,
    },
    /// The component, to be compiled; its digest was found right.
    Portable {
        /// The component.
        wasm: Vec<u8>,
        /// Where it is.
        path: PathBuf,
        /// Why no native code is used.
        why: Miss,
    },
}

/// Keeps a version from being removed until it is dropped, also should this process be killed.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "it only has to live")] Flock<File>);

impl Installed {
    /// Opens a version; the name of its directory is its digest.
    pub(super) fn open(dir: &Path) -> Result<Self, InstalledError> {
        let expected = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let installed = Self::read(dir)?;
        match installed.digest.to_string() == expected {
            true => Ok(installed),
            false => Err(InstalledError::Damaged(dir.join(MANIFEST))),
        }
    }

    /// Reads what was unpacked into a directory.
    pub(super) fn read(dir: &Path) -> Result<Self, InstalledError> {
        let at = |file: PathBuf| move |error| InstalledError::Io { file, error };
        private::check_dir(dir).map_err(at(dir.to_owned()))?;
        let file = dir.join(MANIFEST);
        let manifest_bytes = private::read(&file, MANIFEST_MAX).map_err(at(file.clone()))?;
        let changed = fs::metadata(&file).and_then(|metadata| metadata.modified());
        let manifest = Manifest::parse(&manifest_bytes)?;
        let signature_file = dir.join(SIGNATURE);
        let signature = match private::read(&signature_file, SIGNATURE_MAX) {
            Ok(bytes) => Some(Signature::of_bundle(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(signature_file)(error)),
        };
        Ok(Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: digest(&manifest_bytes),
            dir: dir.to_owned(),
            manifest,
            manifest_bytes,
            signature,
            installed: changed.map_err(at(file))?,
        })
    }

    /// Whether it is trusted, by the keys that are trusted now.
    pub fn judge(&self, trust: &Trust) -> Result<SignatureStanding, TrustRefusal> {
        trust.judge(&self.manifest_bytes, self.signature.as_ref())
    }

    /// What of it runs here, after everything was checked: first whether it is trusted, then whether the code is the signed one, and
    /// whether it fits. What does not fit is a miss; what is not right is an error.
    pub fn code(&self, trust: &Trust, host: &EngineFacts) -> Result<(SignatureStanding, Code), InstalledError> {
        let standing = self.judge(trust)?;
        let chosen = match standing {
            SignatureStanding::Native(_) => host.choose(&self.manifest.native),
            SignatureStanding::Wasm(_) => Err(Miss::NotTrusted("the key that signed it has no right to native code")),
            SignatureStanding::Unsigned => Err(Miss::NotTrusted(
                "native code runs only if it is signed with a trusted key",
            )),
        };
        let code = match chosen {
            Ok(native) => {
                let path = self.dir.join(native.path());
                self.checked(&path, native.file())?;
                let facts = native.file();
                Code::Native { path, facts }
            }
            Err(why) => {
                let path = self.dir.join(COMPONENT);
                let wasm = self.component()?;
                Code::Portable { wasm, path, why }
            }
        };
        Ok((standing, code))
    }

    /// The component, whose digest was found right.
    pub fn component(&self) -> Result<Vec<u8>, InstalledError> {
        let path = self.dir.join(COMPONENT);
        let facts = self.manifest.component;
        // The manifest was checked: it claims no more than a component may have.
        let most = usize::try_from(facts.size).unwrap_or(0);
        let wasm = private::read(&path, most).map_err(|error| InstalledError::Io {
            file: path.clone(),
            error,
        })?;
        match FileFacts::of(&wasm) == facts {
            true => Ok(wasm),
            false => Err(InstalledError::Damaged(path)),
        }
    }

    /// Whether every file is what the manifest says.
    pub fn verify(&self) -> Result<(), InstalledError> {
        for (name, facts) in self.manifest.files() {
            self.checked(&self.dir.join(name), facts)?;
        }
        Ok(())
    }

    /// Opens a file and checks what was opened.
    fn checked(&self, path: &Path, facts: FileFacts) -> Result<File, InstalledError> {
        let failed = |error| InstalledError::Io {
            file: path.to_owned(),
            error,
        };
        let file = private::open(path).map_err(failed)?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        let mut source = (&file).take(facts.size.saturating_add(1));
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        // What is longer has another digest.
        match Digest(hasher.finalize().into()) == facts.sha256 {
            true => Ok(file),
            false => Err(InstalledError::Damaged(path.to_owned())),
        }
    }

    /// Keeps it from being removed. Take it before the code is used, and keep it as long as an action may start.
    pub fn hold(&self) -> Result<Hold, InstalledError> {
        let failed = |error| InstalledError::Io {
            file: self.dir.clone(),
            error,
        };
        let handle = match store::open_hold(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(InstalledError::Gone(self.dir.clone()));
            }
            other => other.map_err(failed)?,
        };
        // Whoever has it alone has it for a moment only.
        let held = Flock::lock(handle, FlockArg::LockShared).map_err(|(_, errno)| failed(errno.into()))?;
        // Between opening and locking it may have been moved away.
        match private::same(&held, &store::hold_file(&self.dir)).map_err(failed)? {
            true => Ok(Hold(held)),
            false => Err(InstalledError::Gone(self.dir.clone())),
        }
    }
}
