//! `bundle deploy`, which an action `Deploy(…)` is: what a znode says chooses among what a trusted key signed.
//!
//! What chooses comes on stdin and may be anybody's. It must become neither a path nor a tag before it was read as a version or digest.

use std::fmt;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use super::{standing_text, switched};
use twitcher_bundle::trust::{Keys, Trust, TrustError, TrustRefusal};
use twitcher_bundle::{
    CHOICE_MAX, Choice, ChoiceError, Expected, InstallError, Installation, Store, StoreError, digest, open_file, shown,
};
use twitcher_model::BundleSource;
use twitcher_registry::{Mismatch, OciError, Offer, RegistryProblem, Remote, RemoteError, Selector};

/// In the environment of an action, the znode that it runs for.
const ZNODE: &str = "TWITCHER_ZNODE";

/// A version that is not deployed. What was current is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{chooser} says {said}, which is not deployed: {refusal}")]
pub struct DeployError {
    /// What the choice comes from: the znode.
    chooser: String,
    /// What it says, quoted and cut.
    said: String,
    /// Why it is not deployed.
    refusal: Box<Refusal>,
}

/// Why a version is not deployed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// What chooses cannot be read.
    #[error("cannot read it: {0}")]
    Stdin(#[from] io::Error),
    /// It chooses nothing.
    #[error("{0}. Set it to that of a bundle {1}")]
    Choice(ChoiceError, String),
    /// There is no directory of keys.
    #[error(
        "no key is trusted here, for there is no {}, and what a znode chooses must be signed with a trusted key: see `twitcher key trust`",
        .0.display()
    )]
    NoKeys(PathBuf),
    /// Keys cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Nobody signed it.
    #[error(
        "{0}: it is not signed, and what a znode chooses must be signed with a trusted key: see `twitcher bundle sign`"
    )]
    Unsigned(String),
    /// It is signed, and that does not count.
    #[error("{0}: {1}")]
    Refused(String, TrustRefusal),
    /// It is of another name.
    #[error(
        "{place}: the bundle there is called {found}, and {name} is expected: put {name} there; or, if {found} is meant, say so in the \
         configuration, Deploy(..., name = \"{found}\")"
    )]
    Name {
        /// Where it is.
        place: String,
        /// What it should be called.
        name: String,
        /// What it is called.
        found: String,
    },
    /// It is another one.
    #[error("{0}: {1}: put that one there, or choose another")]
    Other(String, Box<InstallError>),
    /// No file can be called so.
    #[error("{0} cannot have a file of that version")]
    NoFile(String),
    /// No repository can have a tag like that.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A registry does not do what it should.
    #[error(transparent)]
    Registry(#[from] OciError),
    /// The bundle or the store cannot be used.
    #[error(transparent)]
    Store(Box<StoreError>),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<InstallError> for Refusal {
    fn from(error: InstallError) -> Self {
        StoreError::from(error).into()
    }
}

/// Installs what stdin chooses, if it is not installed, and makes it the current version; gives what is to be printed.
pub(super) fn deploy(source: &BundleSource, name: &str, store: &Store, keys: &Path) -> Result<String, DeployError> {
    let mut data = Vec::new();
    let read = io::stdin().take(CHOICE_MAX as u64 + 1).read_to_end(&mut data);
    let deployed = read.map_err(Refusal::from).and_then(|_| {
        let choice = match data.len() {
            ..=CHOICE_MAX => Choice::of_data(&data),
            _ => Err(ChoiceError::Neither),
        };
        let choice = choice.map_err(|error| Refusal::Choice(error, name.to_owned()))?;
        let trust = trust(keys)?;
        Deployer {
            source,
            name,
            store,
            trust,
        }
        .deploy(choice)
    });
    deployed.map_err(|refusal| DeployError {
        chooser: std::env::var(ZNODE).unwrap_or_else(|_| "stdin".to_owned()),
        said: shown(&data),
        refusal: Box::new(refusal),
    })
}

/// The keys; there must be some, for only what is signed is deployed.
fn trust(dir: &Path) -> Result<Trust, Refusal> {
    let keys = Keys::load(dir)?;
    match keys.configured {
        true => Ok(Trust {
            keys,
            require_signed: true,
        }),
        false => Err(Refusal::NoKeys(dir.to_owned())),
    }
}

struct Deployer<'a> {
    source: &'a BundleSource,
    name: &'a str,
    store: &'a Store,
    trust: Trust,
}

impl Deployer<'_> {
    fn deploy(&self, choice: Choice) -> Result<String, Refusal> {
        match self.source {
            BundleSource::Files(_) => self.install_file(choice),
            BundleSource::Repository(place) => self.pull(place, choice),
        }
    }

    fn expected(&self, choice: Choice) -> Expected<'_> {
        Expected {
            name: self.name,
            choice,
        }
    }

    /// What is installed already needs no registry and no file: so a rollback works although they are down.
    fn installed(&self, expected: &Expected<'_>) -> Result<Option<String>, Refusal> {
        let switch = self.store.choose_expected(expected, &self.trust)?;
        Ok(switch.map(|switch| switched(&switch)))
    }

    fn install_file(&self, choice: Choice) -> Result<String, Refusal> {
        let file = match &choice {
            Choice::Version(version) => self.source.file(&version.to_string()),
            Choice::Digest(digest) => self.source.file(&digest.to_string()),
        };
        let file = file.ok_or_else(|| Refusal::NoFile(self.source.to_string()))?;
        let expected = self.expected(choice);
        if let Some(done) = self.installed(&expected)? {
            return Ok(done);
        }
        let opened = open_file(&file)?;
        let place = file.display();
        let done = self.store.install_expected(opened, &file, &self.trust, &expected);
        done.map(|done| told(&done))
            .map_err(|error| Self::refusal(&place, error))
    }

    fn pull(&self, place: &str, choice: Choice) -> Result<String, Refusal> {
        let remote: Remote = match &choice {
            // No tag has a +.
            Choice::Version(version) => format!("{place}:{}", version.to_string().replace('+', "_")),
            Choice::Digest(digest) => format!("{place}@sha256:{digest}"),
        }
        .parse()?;
        if let Choice::Version(_) = choice
            && let Some(done) = self.installed(&self.expected(choice.clone()))?
        {
            return Ok(done);
        }
        // It may take longer than the run has, and then this is all that it leaves.
        eprintln!("pulling {remote}");
        let mut offer = Offer::of(&remote, Some(self.name), false).map_err(Self::named)?;
        let judged = self.trust.judge(offer.manifest_bytes(), offer.signature());
        judged.map_err(|refusal| not_trusted(&remote, refusal))?;
        // The registry's digest is that of its own manifest; the store's of the bundle's.
        let found = Choice::Digest(digest(offer.manifest_bytes()));
        let expected = self.expected(match choice {
            Choice::Version(version) => Choice::Version(version),
            Choice::Digest(_) => found,
        });
        if let Selector::Digest(_) = remote.selector
            && let Some(done) = self.installed(&expected)?
        {
            return Ok(done);
        }
        // Without a name, nothing is left behind by a run that is killed.
        let mut file = tempfile::tempfile()?;
        offer.write(&mut file).map_err(|problem| problem.at(&remote))?;
        file.rewind()?;
        let shown = PathBuf::from(remote.to_string());
        let done = self.store.install_expected(file, &shown, &self.trust, &expected);
        done.map(|done| told(&done))
            .map_err(|error| Self::refusal(&remote, error))
    }

    /// A refusal in the words of a configuration.
    fn refusal(place: &dyn fmt::Display, error: StoreError) -> Refusal {
        match error {
            StoreError::Install(InstallError::Refused { refusal, .. }) => not_trusted(place, refusal),
            StoreError::Install(InstallError::OtherName { expected, found }) => Refusal::Name {
                place: place.to_string(),
                name: expected,
                found,
            },
            StoreError::Install(other @ InstallError::OtherVersion { .. }) => {
                Refusal::Other(place.to_string(), Box::new(other))
            }
            other => other.into(),
        }
    }

    fn named(error: OciError) -> Refusal {
        match *error.problem {
            RegistryProblem::Mismatch(Mismatch::Name { asked, found }) => Refusal::Name {
                place: error.remote.to_string(),
                name: asked,
                found,
            },
            problem => problem.at(&error.remote).into(),
        }
    }
}

fn not_trusted(place: &dyn fmt::Display, refusal: TrustRefusal) -> Refusal {
    match refusal {
        TrustRefusal::Unsigned => Refusal::Unsigned(place.to_string()),
        other => Refusal::Refused(place.to_string(), other),
    }
}

fn told(done: &Installation) -> String {
    let standing = standing_text(&Ok(done.standing), done.installed.signature.as_ref());
    format!("{}signature  {standing}\n", switched(&done.switch))
}
