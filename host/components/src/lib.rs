//! Where components come from: a component's file, a bundle's file, or an installed bundle.
//!
//! This is the one place that knows what configurations name, what bundles are and how components are compiled. It must not know
//! watches: what it is asked is what somebody wants, granted what.

#![forbid(unsafe_code)]

mod trust_memory;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tracing::info;

use twitcher_bundle::{self as bundle, Code, Comparison, Downgrade, EngineFacts, Hold, Installed, Store, Trust};
use twitcher_config::{Changes, Found, Resolver, Wanted, Watched};
use twitcher_files::regular::{self, Links};
use twitcher_model::{BundleIdentity, Component, EntryPoint, Grants, Keep, SecretPlace, Target};
use twitcher_sandbox as sandbox;
use twitcher_sandbox::code_cache::{CacheUse, CodeCache, Native};

use trust_memory::TrustMemory;

/// Below the state directory: native code that was compiled here.
const CACHE: &str = "components";
/// Below the state directory: bundles that configurations name by the path of their file.
const UNPACKED: &str = "bundles-by-path";
/// How many versions of a bundle that is named by its path stay unpacked besides those in use.
const UNPACKED_KEPT: usize = 2;

/// Whose bundles run, and where they are.
#[derive(Debug, Clone)]
pub struct BundleLocations {
    /// The store of installed bundles.
    pub store: PathBuf,
    /// The directory of trusted keys.
    pub keys: PathBuf,
    /// Whether what is not signed with a trusted key is refused, also components that come without a bundle.
    pub require_signed: bool,
}

/// Finds components.
pub struct ComponentFinder {
    components: Arc<CodeCache>,
    sources: BundleLocations,
    unpacked: Store,
    trust: Arc<TrustMemory>,
    host: Arc<OnceLock<Result<EngineFacts, String>>>,
}

impl ComponentFinder {
    /// Compiles with `program compile`, and keeps what it makes below `state_dir`.
    pub fn new(program: PathBuf, state_dir: &Path, sources: BundleLocations) -> Self {
        Self {
            components: Arc::new(CodeCache::new(program, state_dir.join(CACHE))),
            trust: Arc::new(TrustMemory::new(&sources)),
            sources,
            unpacked: Store::at(state_dir.join(UNPACKED)),
            host: Arc::default(),
        }
    }

    /// How often compiled components were there already.
    pub fn cache_use(&self) -> Arc<CacheUse> {
        self.components.cache_use()
    }

    /// Who has the native code of what is found.
    pub fn code(&self) -> Arc<CodeCache> {
        Arc::clone(&self.components)
    }

    /// As the configuration takes it.
    pub fn resolver(self) -> Resolver {
        let store = Store::at(&self.sources.store);
        if self.sources.store.exists() {
            // It takes milliseconds, in which the first files can be read and evaluated.
            let host = Arc::clone(&self.host);
            let detect = move || {
                host.get_or_init(this_host);
            };
            // Without a thread whoever needs it finds it out.
            let _ = std::thread::Builder::new()
                .name("twitcher-facts".to_owned())
                .spawn(detect);
        }
        let (components, memory) = (Arc::clone(&self.components), Arc::clone(&self.trust));
        Resolver {
            end: Box::new(move || {
                components.tidy();
                memory.tell();
            }),
            trust: Some(Watched {
                path: self.sources.keys.as_path().into(),
                changes: Changes::Entries,
            }),
            find: Box::new(move |wanted, grants| self.find(wanted, grants)),
            // What is no name leads nowhere; to find it is an error.
            link: Box::new(move |text| match text.parse::<bundle::Reference>() {
                Ok(reference) => store.current_link(&reference.name),
                Err(_) => PathBuf::from("/"),
            }),
        }
    }

    fn find(&self, wanted: &Wanted, grants: &Grants) -> Result<Found, Vec<String>> {
        match wanted {
            Wanted::File(path) if is_bundle(path).map_err(|error| vec![format!("cannot read it: {error}")])? => {
                let trust = self.trust.read().map_err(in_words)?;
                let installation = self
                    .unpacked
                    .install(path, &trust, Downgrade::Allow)
                    .map_err(in_words)?;
                let installed = installation.installed;
                let hold = installed.hold().map_err(in_words)?;
                let found = self.of_bundle(&path.display().to_string(), &installed, hold, &trust, grants);
                // Each version that the file ever was would stay otherwise. What is in use is held.
                self.unpacked.gc(UNPACKED_KEPT).map_err(in_words)?;
                found
            }
            Wanted::File(_) if self.sources.require_signed => Err(vec![
                "it is not signed, and only signed bundles run here (--require-signed): see `twitcher bundle build`"
                    .to_owned(),
            ]),
            Wanted::File(path) => {
                let component = self.components.resolve(path, grants).map_err(all_in_words)?;
                Ok(Found {
                    notes: unread_config(component.entry, grants).into_iter().collect(),
                    component,
                    grants: grants.clone(),
                })
            }
            Wanted::Bundle(text) => {
                let reference: bundle::Reference = text.parse().map_err(in_words)?;
                let (installed, hold) = Store::at(&self.sources.store).acquire(&reference).map_err(|error| {
                    vec![format!("{error}; install one with `twitcher bundle install`, or name a file by a path with a slash: \"./{text}\"")]
                })?;
                self.of_bundle(text, &installed, hold, &self.trust.read().map_err(in_words)?, grants)
            }
        }
    }

    fn of_bundle(
        &self,
        reference: &str,
        installed: &Installed,
        hold: Hold,
        trust: &Trust,
        granted: &Grants,
    ) -> Result<Found, Vec<String>> {
        let manifest = &installed.manifest;
        let (standing, code) = installed.code(trust, self.host()?).map_err(in_words)?;
        let Comparison {
            effective,
            not_granted,
            not_requested,
        } = bundle::compare(&manifest.requests, granted);
        let version = manifest.version.to_string();
        let component = match code {
            Code::Native { path, .. } => {
                info!(bundle = manifest.name, version, %standing, "native code of the bundle is used");
                let native = Native {
                    path,
                    component: manifest.component.sha256,
                    entry: manifest.world.entry(),
                    checked: manifest.world.checked(),
                };
                self.components.adopt(native, &effective)
            }
            Code::Portable { wasm, path, why } => {
                info!(bundle = manifest.name, version, %standing, "no native code of the bundle is used: {why}");
                self.components.compiled(&path, wasm, &effective)
            }
        };
        let component = component.map_err(all_in_words)?;
        let notes = [
            not_granted
                .iter()
                .map(|what| format!("it asks for {what}, which is not granted: it may fail"))
                .collect::<Vec<_>>(),
            not_requested
                .iter()
                .map(|what| format!("it is granted {what}, which it does not ask for: it does not get it"))
                .collect(),
            unknown_keys(&manifest.config, granted),
            unread_config(component.entry, granted).into_iter().collect(),
        ];
        Ok(Found {
            component: Component {
                bundle: Some(Arc::new(BundleIdentity {
                    reference: reference.to_owned(),
                    name: manifest.name.clone(),
                    version,
                    digest: installed.digest,
                    standing: standing.to_string(),
                })),
                keep: Keep::new((hold, component.keep)),
                ..component
            },
            grants: effective,
            notes: notes.concat(),
        })
    }

    fn host(&self) -> Result<&EngineFacts, Vec<String>> {
        let facts = self.host.get_or_init(this_host);
        facts.as_ref().map_err(|error| vec![error.clone()])
    }
}

/// What native code has to fit to run on this host. An error is in words: then no component runs here.
pub fn this_host() -> Result<EngineFacts, String> {
    engine_facts(Target::HERE.ok_or("WebAssembly does not run on this machine")?)
}

/// What native code for a target depends on, when this program compiles it.
pub fn engine_facts(target: Target) -> Result<EngineFacts, String> {
    let settings = sandbox::settings(target).map_err(|error| format!("cannot start WebAssembly: {error:#}"))?;
    Ok(EngineFacts {
        target: target.to_string(),
        profile: sandbox::PROFILE.to_owned(),
        wasmtime: sandbox::WASMTIME.to_owned(),
        settings,
    })
}

/// Settings that the plugin says it does not know. One that names no keys at all may take any, and `header.*` stands for all that begin so.
fn unknown_keys(known: &[String], granted: &Grants) -> Vec<String> {
    let given = setting_keys(granted);
    let knows = |key: &str| {
        let means = |known: &String| match known.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => known == key,
        };
        known.is_empty() || known.iter().any(means)
    };
    let unknown = given.filter(|key| !knows(key));
    unknown
        .map(|key| {
            format!(
                "config has {key:?}, which it does not know: it knows {}",
                known.join(", ")
            )
        })
        .collect()
}

fn setting_keys(granted: &Grants) -> impl Iterator<Item = &String> {
    let secrets = granted.secrets_in(SecretPlace::Config).map(|secret| &secret.name);
    granted.config.iter().map(|(key, _)| key).chain(secrets)
}

/// Settings for a program that has no way to ask for any. What keys a component reads it does not say, so of those nothing is known here.
fn unread_config(entry: EntryPoint, granted: &Grants) -> Option<String> {
    let keys: Vec<&str> = setting_keys(granted).map(String::as_str).collect();
    (entry == EntryPoint::Preview1 && !keys.is_empty()).then(|| {
        format!(
            "config has {}, which a program for preview 1 cannot read: give it args, env or dirs",
            keys.join(", ")
        )
    })
}

/// Whether a file is a bundle, by its first bytes: neither a component nor a module can begin so.
fn is_bundle(path: &Path) -> io::Result<bool> {
    let file = match regular::open(path, Links::Follow) {
        // What it is instead is said by who tries to use it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
        opened => opened?,
    };
    let mut start = Vec::new();
    file.take(bundle::MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == bundle::MAGIC || path.extension().is_some_and(|extension| extension == "twb"))
}

fn in_words(error: impl ToString) -> Vec<String> {
    vec![error.to_string()]
}

fn all_in_words<E: ToString>(errors: Vec<E>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_a_plugin_does_not_know_are_told() {
        let grants = Grants {
            config: vec![("dest".into(), "x".into()), ("tempalte".into(), "y".into())],
            ..Grants::default()
        };
        assert_eq!(unknown_keys(&[], &grants), Vec::<String>::new());
        assert_eq!(unknown_keys(&["dest".into(), "templ*".into()], &grants).len(), 1);
        assert_eq!(
            unknown_keys(&["d*".into(), "tem*".into()], &grants),
            Vec::<String>::new()
        );
        let notes = unknown_keys(&["dest".into(), "template".into()], &grants);
        assert_eq!(
            notes,
            ["config has \"tempalte\", which it does not know: it knows dest, template"]
        );
    }
}
