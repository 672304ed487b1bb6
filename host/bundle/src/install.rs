//! Puts a bundle into the store, from a file of any origin.
//!
//! First it is judged, then unpacked into a directory that nothing knows of, checked once more there, and renamed into place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::choice::{Choice, Expected};
use super::installed::{Installed, InstalledError};
use super::manifest::digest;
use super::reader::{BundleReader, ReadError};
use super::store::{DRAFT, Downgrade, Store, StoreError, Switch, failed, make_dir, open_hold};
use super::trust::{SignatureStanding, Trust, TrustRefusal};
use super::{MANIFEST, SIGNATURE};
use twitcher_files::regular::{self, Links};
use twitcher_files::replace::sync_dir;

/// Why a bundle is not installed. What was installed before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file cannot be opened.
    #[error("cannot open {}: {error}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// It is no bundle, or damaged.
    #[error("{}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What is wrong with the bundle.
        error: ReadError,
    },
    /// It must not run here.
    #[error("{}: {refusal}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// The reason that it must not run.
        refusal: TrustRefusal,
    },
    /// It would replace a newer version.
    #[error(
        "{}: it is {bundle}, and the current version here is the newer {current}: to go back, say --allow-downgrade, or \
         `twitcher bundle use` if it is installed", file.display()
    )]
    Downgrade {
        /// The file.
        file: PathBuf,
        /// Name and version in the file.
        bundle: String,
        /// The version that is current.
        current: String,
    },
    /// It is called otherwise than is expected.
    #[error("the bundle there is called {found}, and {expected} is expected")]
    OtherName {
        /// What it should be called.
        expected: String,
        /// What it is called.
        found: String,
    },
    /// It is another one of its name than is expected.
    #[error("the bundle there is {found}, and {expected} is expected")]
    OtherVersion {
        /// The one that was chosen.
        expected: Choice,
        /// The one that is there.
        found: Choice,
    },
    /// The same bundle is there already, signed, and its signature is not good any more.
    #[error(
        "{}: it is not signed, and the same bundle is installed with a signature, which stays; but {refusal}. Install a signed copy, or \
         remove {bundle} first", file.display()
    )]
    Kept {
        /// The file.
        file: PathBuf,
        /// Name and version.
        bundle: String,
        /// Why the signature in the store is refused.
        refusal: Box<TrustRefusal>,
    },
    /// The copy in the store is not what was written.
    #[error("the copy in the store is not right: {0}")]
    Copy(#[from] InstalledError),
}

/// What an installation did.
#[derive(Debug)]
pub struct Installation {
    /// The version that is installed now.
    pub installed: Installed,
    /// How far it is trusted.
    pub standing: SignatureStanding,
    /// Whether its signature is that of an earlier installation, for the file has none.
    pub kept_signature: bool,
    /// What it replaces as the current version.
    pub switch: Switch,
}

impl Store {
    /// Installs a bundle and makes it the current version of its name. A version that is there already is kept as it is, but for its
    /// signature: that may be of another key now.
    pub fn install(&self, file: &Path, trust: &Trust, downgrade: Downgrade) -> Result<Installation, StoreError> {
        self.install_from(open_bundle(file)?, file, trust, downgrade, None)
    }

    /// Installs the bundle that is expected, and no other, from an open file; `file` is what it is called in messages. It may be older
    /// than the current version.
    pub fn install_expected(
        &self,
        source: File,
        file: &Path,
        trust: &Trust,
        expected: &Expected<'_>,
    ) -> Result<Installation, StoreError> {
        let reader = BundleReader::open(source).map_err(|error| InstallError::Read {
            file: file.to_owned(),
            error,
        })?;
        self.install_from(reader, file, trust, Downgrade::Allow, Some(expected))
    }

    fn install_from(
        &self,
        mut reader: BundleReader<File>,
        file: &Path,
        trust: &Trust,
        downgrade: Downgrade,
        expected: Option<&Expected<'_>>,
    ) -> Result<Installation, StoreError> {
        let judged = trust.judge(reader.manifest_bytes(), reader.signature());
        judged.map_err(|refusal| InstallError::Refused {
            file: file.to_owned(),
            refusal,
        })?;
        if let Some(expected) = expected {
            expected.check(reader.manifest(), digest(reader.manifest_bytes()))?;
        }
        let draft = self.draft()?;
        let signature = reader.signature().map(|signature| signature.to_bytes());
        write(&draft.dir.path().join(MANIFEST), reader.manifest_bytes())?;
        if let Some(signature) = &signature {
            write(&draft.dir.path().join(SIGNATURE), signature)?;
        }
        unpack(&mut reader, draft.dir.path(), file)?;
        let copy = Installed::read(draft.dir.path()).map_err(InstallError::Copy)?;
        copy.verify().map_err(InstallError::Copy)?;
        if copy.digest != digest(reader.manifest_bytes()) {
            return Err(InstallError::Copy(InstalledError::Damaged(copy.dir.join(MANIFEST))).into());
        }
        let _lock = self.lock()?;
        if downgrade == Downgrade::Refuse {
            self.check_age(&copy, file)?;
        }
        // Whoever sees the version can hold it; until this lock goes, nobody cleans up.
        drop(draft.lock);
        let installed = self.place(&copy, signature.as_deref())?;
        // The signature that counts is the one in the store.
        let standing = installed.judge(trust).map_err(|refusal| InstallError::Kept {
            file: file.to_owned(),
            bundle: format!("{} {}", installed.name, installed.version),
            refusal: Box::new(refusal),
        })?;
        let switch = self.switch(&installed)?;
        Ok(Installation {
            kept_signature: signature.is_none() && installed.signature.is_some(),
            installed,
            standing,
            switch,
        })
    }

    /// Whether a draft is no older than the current version of its name. One that is damaged stands in nobody's way.
    fn check_age(&self, copy: &Installed, file: &Path) -> Result<(), InstallError> {
        match self.current(&copy.name) {
            Ok(Some(current)) if current.version.cmp_precedence(&copy.version).is_gt() => {
                Err(InstallError::Downgrade {
                    file: file.to_owned(),
                    bundle: format!("{} {}", copy.name, copy.version),
                    current: current.version.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// An empty directory in the store that is removed if this comes to nothing, or the next time that something changes.
    fn draft(&self) -> Result<Draft, StoreError> {
        let _lock = self.lock()?;
        let make = || -> io::Result<Draft> {
            let dir = tempfile::Builder::new()
                .prefix(DRAFT)
                .permissions(Permissions::from_mode(0o755))
                .tempdir_in(&self.dir)?;
            let lock = Flock::lock(open_hold(dir.path())?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
            Ok(Draft { dir, lock })
        };
        make().map_err(failed("write to the store", &self.dir))
    }

    #[cfg(test)]
    pub(super) fn draft_for_tests(&self) -> impl Drop + use<> {
        let Draft { dir, lock } = self.draft().unwrap_or_else(|error| panic!("{error}"));
        std::mem::forget(dir);
        lock
    }

    /// Puts a draft where it is found. The store must be locked.
    fn place(&self, copy: &Installed, signature: Option<&[u8]>) -> Result<Installed, StoreError> {
        let parent = self.dir.join(&copy.name);
        let dir = parent.join(copy.digest.to_string());
        let to_store = |error| failed("write", &dir)(error);
        make_dir(&parent).map_err(failed("write", &parent))?;
        let there = Installed::open(&dir).and_then(|installed| installed.verify());
        if there.is_ok() {
            resign(&dir, copy.dir.join(SIGNATURE), signature).map_err(to_store)?;
        } else {
            if dir.exists() {
                self.discard(&dir)?;
            }
            fs::rename(&copy.dir, &dir).map_err(to_store)?;
            sync_dir(&parent)
                .and_then(|()| sync_dir(&self.dir))
                .map_err(failed("write", &parent))?;
        }
        Ok(Installed::open(&dir).map_err(InstallError::Copy)?)
    }
}

/// A directory that is unpacked into; locked, so that nobody takes it for one that was left behind.
struct Draft {
    dir: TempDir,
    lock: Flock<File>,
}

/// Opens a bundle's file and reads what it says of itself.
pub fn open_bundle(file: &Path) -> Result<BundleReader<File>, InstallError> {
    BundleReader::open(open_file(file)?).map_err(|error| InstallError::Read {
        file: file.to_owned(),
        error,
    })
}

/// Opens a bundle's file.
pub fn open_file(file: &Path) -> Result<File, InstallError> {
    regular::open(file, Links::Follow).map_err(|error| InstallError::Open {
        file: file.to_owned(),
        error,
    })
}

/// Writes all files to the disk. The names are those that the manifest gives: nothing in them leads elsewhere.
fn unpack(reader: &mut BundleReader<File>, dir: &Path, file: &Path) -> Result<(), StoreError> {
    let damaged = |error| InstallError::Read {
        file: file.to_owned(),
        error,
    };
    while let Some((name, _)) = reader.next_file().map_err(damaged)? {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            make_dir(parent).map_err(failed("write", parent))?;
        }
        let mut to = create(&path).map_err(failed("write", &path))?;
        loop {
            let chunk = reader.chunk().map_err(damaged)?;
            if chunk.is_empty() {
                break;
            }
            to.write_all(chunk).map_err(failed("write", &path))?;
        }
        to.sync_all().map_err(failed("write", &path))?;
    }
    sync_dirs(dir).map_err(failed("write", dir))
}

fn sync_dirs(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dirs(&entry.path())?;
        }
    }
    sync_dir(dir)
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o644).open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(0o644))?;
    Ok(file)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let write = || -> io::Result<()> {
        let mut file = create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Gives an installed version the signature of a draft, or none.
fn resign(dir: &Path, draft: PathBuf, signature: Option<&[u8]>) -> io::Result<()> {
    let file = dir.join(SIGNATURE);
    match signature {
        Some(signature) if fs::read(&file).ok().as_deref() == Some(signature) => return Ok(()),
        Some(_) => fs::rename(draft, &file)?,
        // Without a signature it would have less standing than it has: the installed one stays.
        None => return Ok(()),
    }
    sync_dir(dir)
}
