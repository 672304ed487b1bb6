//! What a component action is: the code, and everything that it is granted.
//!
//! This module must not know how a grant is written, nor how it is enforced.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hardening, Identity, Secret, SecretPlace, ZnodePath};

/// What compiling a component yields.
#[derive(Debug)]
pub struct Compiled {
    /// The native code.
    pub native: Vec<u8>,
    /// How it is entered.
    pub entry: EntryPoint,
    /// Whether it exports `check`.
    pub checked: bool,
}

/// Largest component, in bytes.
pub const WASM_MAX: usize = 64 << 20;
/// Largest native code of a component, in bytes.
pub const NATIVE_MAX: usize = 1 << 30;

/// A component, with everything that it is granted. What is not granted, it cannot reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WasmAction {
    /// What runs.
    pub component: Component,
    /// What it may do.
    pub grants: Grants,
}

/// A component that was compiled for this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Component {
    /// The file it came from.
    pub file: Arc<Path>,
    /// The bundle that the file is of; none if the configuration names the component itself.
    pub bundle: Option<Arc<BundleIdentity>>,
    /// SHA-256 of that file: another content is another component.
    pub digest: Digest,
    /// How it is entered.
    pub entry: EntryPoint,
    /// The native code, where only the daemon can write: in its cache, or in the store of bundles.
    pub native: Arc<Path>,
    /// What keeps the native code where it is.
    #[serde(skip)]
    pub keep: Keep,
}

impl Component {
    /// What it is called: the name of its bundle, or that of its file.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.bundle {
            Some(bundle) => Cow::Borrowed(&bundle.name),
            None => self.file.file_stem().unwrap_or_default().to_string_lossy(),
        }
    }
}

impl fmt::Display for Component {
    /// Which one it is: `render 1.2.0` of a bundle, else its file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bundle {
            Some(bundle) => write!(f, "{} {}", bundle.name, bundle.version),
            None => self.file.display().fmt(f),
        }
    }
}

/// A version of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BundleIdentity {
    /// How the configuration refers to it, such as `render` or `render@1.2`, or a path.
    pub reference: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its manifest.
    pub digest: Digest,
    /// How far it is trusted, in words.
    pub standing: String,
}

/// Something that lasts as long as whoever has this, or a clone of it. It makes no difference to what a thing is, and does not travel
/// to other processes.
#[derive(Clone, Default)]
pub struct Keep(Option<Arc<dyn Any + Send + Sync>>);

impl Keep {
    /// Keeps this.
    pub fn new(what: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(what)))
    }
}

impl PartialEq for Keep {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Keep {}

impl Hash for Keep {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keep").field(&self.0.is_some()).finish()
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a component is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryPoint {
    /// It exports `twitcher:action/handler`.
    Handler,
    /// It exports `wasi:cli/run`: how it exits is the outcome.
    Command,
    /// It is a core module for WASI's first preview, and exports `_start`: its exit code is the outcome.
    Preview1,
}

/// What a component may do, as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Grants {
    /// What `twitcher:action/config` gives, by key.
    pub config: Vec<(String, String)>,
    /// Its arguments, after the name of the program.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Directories that it sees.
    pub dirs: Vec<DirGrant>,
    /// Addresses that it may connect to, `host:port`.
    pub net: Vec<HostPort>,
    /// Origins that it may send HTTP requests to.
    pub http: Vec<HttpOrigin>,
    /// Commands that it may have run, by the name it knows them by.
    pub commands: Vec<CommandGrant>,
    /// Parts of the tree of znodes that it may use.
    pub znodes: Vec<ZnodeGrant>,
    /// Most memory of its own, in bytes. Default 64 MiB.
    pub memory: u64,
    /// How many processes of it wait for the next run. None leaves it to the daemon: one if it ran lately. It is not a matter of what is called.
    #[serde(skip)]
    pub warm: Option<u8>,
    /// What `config` and `env` have besides, once it was read. It does not travel to other processes: their values do.
    #[serde(skip)]
    pub secrets: Vec<Secret>,
}

impl Grants {
    /// The secrets among its settings, or in its environment.
    pub fn secrets_in(&self, place: SecretPlace) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().filter(move |secret| secret.place == place)
    }
}

/// A directory that a component sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DirGrant {
    /// Where the component finds it: an absolute path.
    pub guest: String,
    /// What it is on this host.
    pub host: Arc<Path>,
    /// Whether it may be changed.
    pub writable: bool,
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl DirGrant {
    /// The names that lead from this directory to what a component's path means, if that is something in it. Only a path that says so in
    /// one way does: neither `..` nor what stands for nothing.
    pub fn within<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.guest.trim_end_matches('/'))?.strip_prefix('/')?;
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        rest.split('/').all(is_name).then_some(rest)
    }

    /// What a path that the component uses is on this host, if it is one in this directory.
    pub fn on_host(&self, path: &str) -> Option<PathBuf> {
        self.within(path).map(|rest| self.host.join(rest))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The origin of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpOrigin {
    /// Whether the scheme is `https`, not `http`.
    pub tls: bool,
    /// Where the server is; the port is the scheme's default where none was given.
    pub at: HostPort,
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.tls { ("https", 443) } else { ("http", 80) };
        let text = self.at.to_string();
        let shown = text
            .strip_suffix(&format!(":{default}"))
            .filter(|_| self.at.port == default);
        write!(f, "{scheme}://{}", shown.unwrap_or(&text))
    }
}

/// A command that a component may have run: as the watch's user, or as one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommandGrant {
    /// What the component calls it.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whether the component's own arguments are appended. Written as a last argument `*`.
    pub arguments: bool,
    /// Who it runs as; none is who the watch's action runs as.
    pub identity: Option<Identity>,
    /// What it is kept from besides.
    pub hardening: Hardening,
}

impl CommandGrant {
    /// The argument in whose place a file is put that the component names.
    pub const FILE: &str = "{file}";

    /// How many files the component must name, before arguments of its own.
    pub fn files(&self) -> usize {
        self.argv.iter().filter(|argument| *argument == Self::FILE).count()
    }
}

/// A part of the tree of znodes that a component may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ZnodeGrant {
    /// The node; without [`ZnodeGrant::below`], this one alone.
    pub path: ZnodePath,
    /// Whether everything below it is meant too. Written as `/path/**`.
    pub below: bool,
    /// Whether it may be set and created, and what is below it deleted. Written as `rw`; else `r`.
    pub writable: bool,
}

impl ZnodeGrant {
    /// Whether the grant is about this node.
    pub fn covers(&self, path: &ZnodePath) -> bool {
        *path == self.path || self.below && path.is_within(&self.path)
    }

    /// Whether this node may be set or created.
    pub fn permits_change(&self, path: &ZnodePath) -> bool {
        self.writable && self.covers(path)
    }

    /// Whether this node may be deleted: one that a writer could have made below the granted one, never that itself.
    pub fn permits_delete(&self, path: &ZnodePath) -> bool {
        self.writable && *path != self.path && self.covers(path)
    }
}
