//! The command `bundle`: from arguments to what is printed.

mod build;
mod cargo_metadata;
mod deploy;
mod registry;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use twitcher_bundle::trust::{self, Keys, SignatureStanding, Trust, TrustError, TrustRefusal, TrustedKey};
use twitcher_bundle::{
    BuildError, BundleReader, Downgrade, InstallError, KeyError, KeyId, MANIFEST, Manifest, PublicKey, ReadError,
    Reference, ReferenceError, SIGNATURE_MAX, SecretKey, Signature, SignatureError, Store, StoreError, Switch,
    WriteError, open_bundle, sign_again, stanza,
};
use twitcher_components::this_host;
use twitcher_files::replace::replace;
use twitcher_registry::OciError;

use self::cargo_metadata::CargoError;
use self::deploy::DeployError;
use crate::args::{BundleCommand, TrustedKeysArguments};

/// Variable with the password of a secret key.
const PASSWORD: &str = "TWITCHER_KEY_PASSWORD";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum BundleCommandError {
    /// Something of the bundle to be built is not said.
    #[error("{what} is missing: {how}")]
    Missing {
        /// The part that is not said.
        what: &'static str,
        /// How to say it.
        how: String,
    },
    /// The component was built before its sources were changed.
    #[error(
        "{} was built before {} was changed: build it again, or name the directory of its crate, which is then built",
        component.display(),
        changed.display()
    )]
    Outdated {
        /// The component.
        component: PathBuf,
        /// A source of it that is newer.
        changed: PathBuf,
    },
    /// A flag has a value that cannot be.
    #[error("--{flag} {value}: {why}")]
    Flag {
        /// The flag, without its dashes.
        flag: &'static str,
        /// The value that it was given.
        value: String,
        /// What is wrong, in words.
        why: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// The crate says nothing of use.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Trusted keys cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A bundle cannot be opened or is refused.
    #[error(transparent)]
    Open(#[from] InstallError),
    /// A bundle is damaged, or a signature wrong.
    #[error("{}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What is wrong with the bundle.
        error: ReadError,
    },
    /// It must not run.
    #[error("{bundle}: {refusal}")]
    Refused {
        /// The bundle, as it was named.
        bundle: String,
        /// The reason that it must not run.
        refusal: TrustRefusal,
    },
    /// A signature of which nobody can say what it is of.
    #[error(
        "{}: it is by the key {key}, and without the public half of that nobody can say whether it is a signature of {}: give it with \
         --public-key FILE, or trust it first (`twitcher key trust`)", signature.display(), bundle.display()
    )]
    Unchecked {
        /// The signature's file.
        signature: PathBuf,
        /// The bundle.
        bundle: PathBuf,
        /// The key that it says it is by.
        key: KeyId,
    },
    /// A file is not a signature, or of something else.
    #[error("{}: {error}", file.display())]
    Signature {
        /// The file.
        file: PathBuf,
        /// What is wrong with the signature.
        error: SignatureError,
    },
    /// The signed bundle cannot be written.
    #[error("{}: {error}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What kept the bundle from being written.
        error: WriteError,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry does not do what it should.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// It is not deployed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// It is neither a file nor the name of a bundle.
    #[error("{bundle} is not a file, and {error}")]
    Reference {
        /// What was given.
        bundle: String,
        /// Why it is no name.
        error: ReferenceError,
    },
}

/// Carries out a command; gives what is to be printed. Components are compiled with `program compile`.
pub fn bundle(program: &Path, command: BundleCommand) -> Result<String, BundleCommandError> {
    match command {
        BundleCommand::Build(arguments) => build::build(program, *arguments),
        BundleCommand::Sign {
            file,
            key,
            signature,
            public_key,
            keys,
        } => match (key, signature) {
            (Some(key), _) => sign(&file, &key),
            (None, signature) => add_signature(&file, &signature.unwrap_or_default(), public_key.as_deref(), &keys),
        },
        BundleCommand::Verify { file, key, trust } => verify(&file, key.as_deref(), &trust),
        BundleCommand::Inspect { bundle, store, trust } => inspect(&bundle, store, &trust),
        BundleCommand::Install {
            file,
            store,
            allow_downgrade,
            trust,
        } => install(&file, store, allow_downgrade, &trust),
        BundleCommand::Push {
            file,
            remote,
            plain_http,
        } => registry::push(&file, &remote, plain_http),
        BundleCommand::Pull(arguments) => registry::pull(*arguments),
        BundleCommand::Use { bundle, store, trust } => Ok(switched(&Store::at(store).choose(&bundle, &trust.load()?)?)),
        BundleCommand::Deploy {
            source,
            name,
            store,
            keys,
        } => Ok(deploy::deploy(&source, &name, &Store::at(store), &keys)?),
        BundleCommand::List { store, trust } => list(&Store::at(store), &trust),
        BundleCommand::Remove { bundle, store } => {
            let removed = Store::at(store).remove(&bundle)?;
            Ok(removed
                .iter()
                .map(|version| format!("removed {} {version}\n", bundle.name))
                .collect())
        }
        BundleCommand::Gc { keep, store } => {
            let removed = Store::at(store).gc(keep)?;
            Ok(match removed.is_empty() {
                true => "nothing to remove\n".to_owned(),
                false => removed
                    .iter()
                    .map(|(name, version)| format!("removed {name} {version}\n"))
                    .collect(),
            })
        }
    }
}

fn sign(file: &Path, key: &Path) -> Result<String, BundleCommandError> {
    let reader = open_bundle(file)?;
    let signature = secret_key(key)?.sign(reader.manifest_bytes(), &trust::comment(reader.manifest()))?;
    put_signature(file, reader, &signature)
}

/// Adds a signature that minisign made, once it is known to be of this bundle.
fn add_signature(
    file: &Path,
    from: &Path,
    public_key: Option<&Path>,
    keys: &Path,
) -> Result<String, BundleCommandError> {
    let reader = open_bundle(file)?;
    let failed = |error| BundleCommandError::Io {
        file: from.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(from).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(opened, SIGNATURE_MAX as u64 + 1), &mut bytes).map_err(failed)?;
    let signature = Signature::parse(&bytes).map_err(|error| BundleCommandError::Signature {
        file: from.to_owned(),
        error,
    })?;
    let trust = match public_key {
        Some(key) => only(key)?,
        None => Trust {
            keys: Keys::load(keys)?,
            require_signed: true,
        },
    };
    match trust.judge(reader.manifest_bytes(), Some(&signature)) {
        Ok(_) => put_signature(file, reader, &signature),
        Err(TrustRefusal::Untrusted { key, .. }) => Err(BundleCommandError::Unchecked {
            signature: from.to_owned(),
            bundle: file.to_owned(),
            key,
        }),
        Err(refusal) => Err(BundleCommandError::Refused {
            bundle: from.display().to_string(),
            refusal,
        }),
    }
}

fn put_signature(
    file: &Path,
    reader: BundleReader<std::fs::File>,
    signature: &Signature,
) -> Result<String, BundleCommandError> {
    let key = signature.key();
    let name = format!("{} {}", reader.manifest().name, reader.manifest().version);
    replace(file, 0o644, |to| sign_again(reader, Some(signature), to).map(|_| ())).map_err(|error| {
        BundleCommandError::Write {
            file: file.to_owned(),
            error,
        }
    })?;
    Ok(format!("{}: {name} signed with the key {key}\n", file.display()))
}

/// Trusts one key, and whatever it signed.
fn only(key: &Path) -> Result<Trust, KeyError> {
    Ok(Trust {
        keys: Keys {
            configured: true,
            trusted: vec![TrustedKey {
                key: PublicKey::read(key)?,
                native: true,
                file: key.to_owned(),
            }],
            refused: Vec::new(),
        },
        require_signed: true,
    })
}

fn secret_key(file: &Path) -> Result<SecretKey, BundleCommandError> {
    Ok(SecretKey::read(file, || password(file, false))?)
}

/// The password of a key that is to be made.
pub(super) fn new_password(file: &Path) -> Result<String, BundleCommandError> {
    password(file, true).map_err(|error| {
        BundleCommandError::Key(KeyError::Io {
            action: "get the password of",
            file: file.to_owned(),
            error,
        })
    })
}

fn password(file: &Path, new: bool) -> io::Result<String> {
    match std::env::var(PASSWORD) {
        Ok(password) if password.is_empty() => {
            let why = format!("{PASSWORD} is set, and empty: set it to the password, or unset it to be asked");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(password) => return Ok(password),
        Err(std::env::VarError::NotPresent) => {}
        Err(std::env::VarError::NotUnicode(_)) => {
            let why = format!("what {PASSWORD} is set to is not UTF-8");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    if std::fs::File::open("/dev/tty").is_err() {
        let why = format!("there is no terminal to ask on: set {PASSWORD} to it");
        return Err(io::Error::new(io::ErrorKind::NotConnected, why));
    }
    let password = rpassword::prompt_password(format!("Password of {}: ", file.display()))?;
    if new && rpassword::prompt_password("The same again: ")? != password {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the passwords differ"));
    }
    Ok(password)
}

impl TrustedKeysArguments {
    fn load(&self) -> Result<Trust, TrustError> {
        Ok(Trust {
            keys: Keys::load(&self.keys)?,
            require_signed: self.require_signed,
        })
    }
}

fn verify(file: &Path, key: Option<&Path>, trusted: &TrustedKeysArguments) -> Result<String, BundleCommandError> {
    let trust = match key {
        None => trusted.load()?,
        Some(key) => only(key)?,
    };
    let reader = open_bundle(file)?;
    let standing = trust.judge(reader.manifest_bytes(), reader.signature());
    let standing = standing.map_err(|refusal| BundleCommandError::Refused {
        bundle: file.display().to_string(),
        refusal,
    })?;
    let signed = reader.signature().map(Signature::key);
    let manifest = reader.check().map_err(|error| BundleCommandError::Read {
        file: file.to_owned(),
        error,
    })?;
    let standing = match (standing, signed) {
        (SignatureStanding::Unsigned, Some(key)) => {
            format!(
                "with a signature that says it is by the key {key}; {}",
                trust.regime(&trusted.keys)
            )
        }
        (SignatureStanding::Unsigned, None) => "not signed".to_owned(),
        (SignatureStanding::Wasm(key) | SignatureStanding::Native(key), _) => format!("signed with the key {key}"),
    };
    Ok(format!("{} {} is whole, {standing}\n", manifest.name, manifest.version))
}

fn inspect(bundle: &str, store: PathBuf, trusted: &TrustedKeysArguments) -> Result<String, BundleCommandError> {
    let path = Path::new(bundle);
    let (manifest, bytes, signature) = if path.is_file() || bundle.contains('/') {
        let reader = open_bundle(path)?;
        let (bytes, signature) = (reader.manifest_bytes().to_owned(), reader.signature().cloned());
        let manifest = reader.check().map_err(|error| BundleCommandError::Read {
            file: path.to_owned(),
            error,
        })?;
        (manifest, bytes, signature)
    } else {
        let reference: Reference = bundle.parse().map_err(|error| BundleCommandError::Reference {
            bundle: bundle.to_owned(),
            error,
        })?;
        let installed = Store::at(store).resolve(&reference)?;
        (installed.manifest, installed.manifest_bytes, installed.signature)
    };
    let trust = trusted.load()?;
    let mut text = format!("{} {}\n\n{MANIFEST}\n", manifest.name, manifest.version);
    text.push_str(&String::from_utf8_lossy(&bytes));
    let standing = trust.judge(&bytes, signature.as_ref());
    let _ = writeln!(text, "\nsignature  {}", standing_text(&standing, signature.as_ref()));
    let _ = writeln!(text, "native     {}", native_text(&manifest, &standing));
    let _ = writeln!(
        text,
        "\nto paste (a run gets what is both requested by the bundle and granted here)\n"
    );
    text.push_str(&stanza(&manifest));
    Ok(text)
}

fn standing_text(standing: &Result<SignatureStanding, TrustRefusal>, signature: Option<&Signature>) -> String {
    match (standing, signature) {
        (Err(refusal), _) => format!("REFUSED: {refusal}"),
        (Ok(SignatureStanding::Unsigned), None) => "none: the component may run, native code may not".to_owned(),
        (Ok(SignatureStanding::Unsigned), Some(signature)) => format!(
            "says it is by the key {}, which was not verified, since there is no directory of keys: the component may run, native code \
             may not",
            signature.key()
        ),
        (Ok(SignatureStanding::Wasm(key)), _) => format!("by the key {key}, which may sign components"),
        (Ok(SignatureStanding::Native(key)), _) => {
            format!("by the key {key}, which may sign components and native code")
        }
    }
}

fn native_text(manifest: &Manifest, standing: &Result<SignatureStanding, TrustRefusal>) -> String {
    match this_host().map(|host| host.choose(&manifest.native).map(|native| native.path())) {
        Err(why) => why,
        Ok(Err(miss)) => format!("compiled when it is loaded: {miss}"),
        Ok(Ok(path)) if matches!(standing, Ok(SignatureStanding::Native(_))) => format!("runs here: {path}"),
        Ok(Ok(path)) => format!("would run here, were it signed with a key that may sign native code: {path}"),
    }
}

fn install(
    file: &Path,
    store: PathBuf,
    allow_downgrade: bool,
    trusted: &TrustedKeysArguments,
) -> Result<String, BundleCommandError> {
    let trust = trusted.load()?;
    let downgrade = match allow_downgrade {
        true => Downgrade::Allow,
        false => Downgrade::Refuse,
    };
    let done = Store::at(store).install(file, &trust, downgrade)?;
    let mut text = switched(&done.switch);
    let standing = standing_text(&Ok(done.standing), done.installed.signature.as_ref());
    let _ = writeln!(text, "signature  {standing}");
    if done.kept_signature {
        let _ = writeln!(
            text,
            "note: {} is not signed; the signature is the one that is installed already, and stays",
            file.display()
        );
    }
    let _ = writeln!(
        text,
        "native     {}",
        native_text(&done.installed.manifest, &Ok(done.standing))
    );
    Ok(text)
}

fn switched(switch: &Switch) -> String {
    let Switch {
        name,
        from,
        to: (version, digest),
    } = switch;
    match from {
        None => format!("{name} {version} is installed\n"),
        Some((_, before)) if before == digest => format!("{name} {version} was the current version already\n"),
        Some((before, _)) if switch.is_downgrade() => {
            format!("{name} {version} is the current version now: a DOWNGRADE from {before}\n")
        }
        Some((before, _)) if before == version => {
            format!("{name} {version} is the current version now, in place of another bundle of the same version\n")
        }
        Some((before, _)) => format!("{name} {version} is the current version now; before, it was {before}\n"),
    }
}

fn list(store: &Store, trusted: &TrustedKeysArguments) -> Result<String, BundleCommandError> {
    let trust = trusted.load()?;
    let listing = store.list()?;
    let mut text = String::new();
    let mut not_judged = false;
    for listed in &listing.versions {
        let installed = &listed.installed;
        let mut remarks = Vec::new();
        if listed.current {
            remarks.push("current".to_owned());
        }
        if listed.in_use {
            remarks.push("in use".to_owned());
        }
        remarks.push(match (installed.judge(&trust), &installed.signature) {
            (Err(refusal), _) => format!("REFUSED: {refusal}"),
            (Ok(SignatureStanding::Unsigned), None) => "not signed".to_owned(),
            // Anybody can write that: nothing was verified.
            (Ok(SignatureStanding::Unsigned), Some(_)) => {
                not_judged = true;
                "signature not judged".to_owned()
            }
            (Ok(SignatureStanding::Wasm(key) | SignatureStanding::Native(key)), _) => format!("signed with {key}"),
        });
        let digest: String = installed.digest.to_string().chars().take(12).collect();
        let _ = writeln!(
            text,
            "{:<24} {:<12} {digest} {:>10}  {}",
            installed.name,
            installed.version.to_string(),
            ago(installed.installed),
            remarks.join(", ")
        );
    }
    for (path, why) in &listing.broken {
        let _ = writeln!(text, "{}: BROKEN: {why}", path.display());
    }
    if not_judged {
        let _ = writeln!(text, "\n{}", trust.regime(&trusted.keys));
    }
    if text.is_empty() {
        let _ = writeln!(text, "no bundle is installed in {}", store.dir().display());
    }
    Ok(text)
}

/// How long ago something was.
fn ago(moment: SystemTime) -> String {
    let seconds = moment.elapsed().unwrap_or_default().as_secs();
    match seconds {
        ..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86400),
    }
}
