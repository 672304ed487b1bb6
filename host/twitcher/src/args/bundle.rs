//! The commands `bundle` and `key`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::pair;
use twitcher_bundle::{Reference, STORE, trust::KEYS};
use twitcher_model::deployment::is_bundle_name;
use twitcher_model::{BundleSource, Target};
use twitcher_registry::Remote;

const BUILD_HELP: &str = "\
Without --target the bundle holds native code for every target, so it starts without compiling on all of them.

A crate can say the rest in its Cargo.toml; flags add to it:
  [package.metadata.twitcher]
  config = [\"dest\", \"template\"]
  requests = { dirs = { \"/out\" = \"rw\", \"/templates\" = \"ro\" }, commands = [\"reload\"] }

A run gets what is both requested here and granted by the configuration. Where the names themselves are left to the configuration,
request \"*\".

Examples:
  twitcher bundle build hello.wasm --name hello --version 1.0.0 --key ./k --out dist
  twitcher bundle build ./render --key ./k --out dist
  twitcher bundle build render.wasm --name render --version 1.2.0 --dir /out=rw --command reload";

const SIGN_HELP: &str = "\
With minisign itself:
  tar -xOf hello-1.0.0.twb manifest.json > manifest.json
  minisign -S -s ~/.minisign/minisign.key -m manifest.json
  twitcher bundle sign hello-1.0.0.twb --signature manifest.json.minisig --public-key minisign.pub

The signature must be of this bundle: it is checked with --public-key, or with the trusted key that it says it is by.

The password of a key is asked for, or taken from TWITCHER_KEY_PASSWORD.";

const PUSH_HELP: &str = "\
The tag leads to the component, laid out as other tools expect it; native code, manifest.json and the signature refer to it. What is
printed last, with @sha256:..., names exactly this bundle for ever. A tag that is a version, or begins one (2, v2.1), must be that of the
bundle.

Credentials are those of `docker login` ($DOCKER_CONFIG/config.json, else ~/.docker/config.json) and of `podman login`
($REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json), with the helpers that those name. They go
to the registry alone, and to where it says that tokens are had. A registry that is busy is asked again, for two minutes at most.

Examples:
  twitcher bundle push dist/hello-1.0.0.twb oci://registry.example/tools/hello:1.0.0
  twitcher bundle push dist/hello-1.0.0.twb oci://127.0.0.1:5000/tools/hello:1.0.0";

const PULL_HELP: &str = "\
The signature is judged before anything else is fetched, and every byte is verified before there is a file.

The bundle must be called as the repository is, or as --name says, and must be the version that the tag says: 1.2.3 is that version, 1.2
any 1.2.x, 1 any 1.x.y, a v or V in front changes nothing, _ is for +. Any other tag, such as latest or build-57, may be any version.
--install does not go back to an older version than the current one without --allow-downgrade.

Credentials are those of `docker login` ($DOCKER_CONFIG/config.json, else ~/.docker/config.json) and of `podman login`
($REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json), with the helpers that those name. They go
to the registry alone, and to where it says that tokens are had. A registry that is busy is asked again, for two minutes at most.

Examples:
  twitcher bundle pull oci://registry.example/tools/hello:1.0.0 --out dist
  twitcher bundle pull oci://registry.example/tools/hello:1.0.0 --install
  twitcher bundle pull oci://registry.example/tools/other:2 --component";

/// What is done with bundles.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Make a bundle of a component: compile it for every target, pack it, sign it
    #[command(after_help = BUILD_HELP)]
    Build(Box<BundleBuildArguments>),
    /// Sign a bundle, in place of any signature that it has
    #[command(after_help = SIGN_HELP, group(ArgGroup::new("by").args(["key", "signature"]).required(true)))]
    Sign {
        /// The bundle
        file: PathBuf,
        /// Secret key to sign with
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A signature of its manifest.json that minisign made
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// Public key to check that signature with [default: the trusted keys]
        #[arg(long, value_name = "FILE", conflicts_with = "key")]
        public_key: Option<PathBuf>,
        /// Directory of the trusted keys
        #[arg(long, value_name = "DIR", default_value = KEYS)]
        keys: PathBuf,
    },
    /// Check every byte of a bundle and its signature; exit code 1 if anything is wrong
    Verify {
        /// The bundle
        file: PathBuf,
        /// It must be signed with this public key [default: what the trusted keys allow]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        #[allow(missing_docs)]
        trust: TrustedKeysArguments,
    },
    /// Show what a bundle is, whether it is trusted here, and the grants to paste into a configuration
    Inspect {
        /// The bundle's file, or the name of an installed one: hello, hello@1.2
        bundle: String,
        /// Where bundles are installed
        #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
        #[command(flatten)]
        #[allow(missing_docs)]
        trust: TrustedKeysArguments,
    },
    /// Verify a bundle and install it; from then on configurations that name it mean this version
    Install {
        /// The bundle
        file: PathBuf,
        /// Where to
        #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
        /// Install it also in place of a newer version
        #[arg(long)]
        allow_downgrade: bool,
        #[command(flatten)]
        #[allow(missing_docs)]
        trust: TrustedKeysArguments,
    },
    /// Put a bundle into an OCI registry, where others and `wkg` can pull it
    #[command(after_help = PUSH_HELP)]
    Push {
        /// The bundle
        file: PathBuf,
        /// Where to
        #[arg(value_name = "oci://REGISTRY/REPOSITORY:TAG")]
        remote: Remote,
        /// Speak to the registry without TLS; one on this machine's loopback is always spoken to so
        #[arg(long)]
        plain_http: bool,
    },
    /// Get a bundle from an OCI registry: verified, and written to a file or installed
    #[command(after_help = PULL_HELP)]
    Pull(Box<BundlePullArguments>),
    /// Go back, or forward, to another installed version
    Use {
        /// Which: hello@1.2.0, or hello@1.2 for the newest 1.2.x
        bundle: Reference,
        /// Where bundles are installed
        #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
        #[command(flatten)]
        #[allow(missing_docs)]
        trust: TrustedKeysArguments,
    },
    /// Install the version that stdin names and make it current: what an action Deploy(…) runs
    #[command(hide = true)]
    Deploy {
        /// Where the versions are
        source: BundleSource,
        /// What the bundle must be called
        #[arg(long, value_parser = bundle_name)]
        name: String,
        /// Where to install it
        #[arg(long = "bundles", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
        /// Directory of the trusted keys
        #[arg(long, value_name = "DIR", default_value = KEYS)]
        keys: PathBuf,
    },
    /// List the installed versions, newest installation first
    List {
        /// Where bundles are installed
        #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
        #[command(flatten)]
        #[allow(missing_docs)]
        trust: TrustedKeysArguments,
    },
    /// Remove a version that is neither current nor in use, or all of a bundle
    Remove {
        /// Which: hello@1.2.0, or hello for all of it
        bundle: Reference,
        /// Where bundles are installed
        #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
    },
    /// Remove versions that are not needed; the current ones and those in use always stay
    Gc {
        /// How many versions of each bundle to keep, those that were installed last
        #[arg(long, value_name = "N", default_value_t = 3)]
        keep: usize,
        /// Where bundles are installed
        #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
        store: PathBuf,
    },
}

fn bundle_name(text: &str) -> Result<String, String> {
    match is_bundle_name(text) {
        true => Ok(text.to_owned()),
        false => Err("expected lower-case letters, digits, - and _".to_owned()),
    }
}

/// What is pulled, and where to.
#[derive(Debug, Args)]
pub struct BundlePullArguments {
    /// Where from
    #[arg(value_name = "oci://REGISTRY/REPOSITORY:TAG|@sha256:DIGEST")]
    pub remote: Remote,
    /// What the bundle must be called [default: as the last part of REPOSITORY]
    #[arg(long, conflicts_with = "component")]
    pub name: Option<String>,
    /// Directory to write NAME-VERSION.twb to; a file of that name is replaced
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Install it instead of writing it to a file
    #[arg(long, conflicts_with = "out")]
    pub install: bool,
    /// Install it also in place of a newer version
    #[arg(long, requires = "install")]
    pub allow_downgrade: bool,
    /// Where to install it
    #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE, requires = "install")]
    pub store: PathBuf,
    /// Get the component alone, also one that others pushed and that is no bundle, as the last part of REPOSITORY and .wasm
    #[arg(long, conflicts_with = "install")]
    pub component: bool,
    /// Speak to the registry without TLS; one on this machine's loopback is always spoken to so
    #[arg(long)]
    pub plain_http: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub trust: TrustedKeysArguments,
}

/// What a bundle is made of.
#[derive(Debug, Args)]
pub struct BundleBuildArguments {
    /// The component; or the directory of its crate, which cargo builds for wasm32-wasip2
    #[arg(value_name = "COMPONENT|CRATE", required_unless_present = "manifest_path")]
    pub source: Option<PathBuf>,
    /// The Cargo.toml that says name, version, requests and configuration keys
    #[arg(long, value_name = "FILE")]
    pub manifest_path: Option<PathBuf>,
    /// Name of the bundle [default: the crate's]
    #[arg(long)]
    pub name: Option<String>,
    /// Its version [default: the crate's]
    #[arg(long)]
    pub version: Option<semver::Version>,
    /// Machines to compile for: x86_64-linux, aarch64-linux; can be repeated [default: all]
    #[arg(long, value_name = "TARGET")]
    pub target: Vec<Target>,
    /// Put no native code into it: it is compiled where it is loaded
    #[arg(long, conflicts_with = "target")]
    pub portable: bool,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Directory to write NAME-VERSION.twb to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub requests: RequestArguments,
}

/// What a component needs to be granted.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Requests; each can be repeated")]
pub struct RequestArguments {
    /// A key of its configuration
    #[arg(long, value_name = "KEY")]
    pub config_key: Vec<String>,
    /// A directory, by the path at which it finds it
    #[arg(long, value_name = "PATH=ro|rw", value_parser = pair)]
    pub dir: Vec<(String, String)>,
    /// An address that it connects to
    #[arg(long, value_name = "HOST:PORT")]
    pub net: Vec<String>,
    /// An origin that it sends requests to
    #[arg(long, value_name = "ORIGIN")]
    pub http: Vec<String>,
    /// A command that it has run
    #[arg(long, value_name = "NAME")]
    pub command: Vec<String>,
    /// A znode, /path or /path/**, that it reads or also writes
    #[arg(long, value_name = "PATH=r|rw", value_parser = pair)]
    pub znode: Vec<(String, String)>,
    /// A variable of its environment
    #[arg(long, value_name = "NAME")]
    pub env: Vec<String>,
    /// It takes arguments
    #[arg(long)]
    pub args: bool,
    /// Memory that it needs, where 64MiB do not do
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
}

/// What a bundle is judged by.
#[derive(Debug, Args)]
pub struct TrustedKeysArguments {
    /// Directory of the trusted keys; without it signatures say nothing, and native code does not run
    #[arg(long, value_name = "DIR", default_value = KEYS)]
    pub keys: PathBuf,
    /// Refuse what is not signed with a trusted key
    #[arg(long)]
    pub require_signed: bool,
}

/// Where the bundles come from that configurations name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bundles")]
pub struct BundleStoreArguments {
    /// Where bundles are installed
    #[arg(long = "bundles", alias = "store", value_name = "DIR", default_value = STORE)]
    pub store: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub trust: TrustedKeysArguments,
}

const TRUST_HELP: &str = "\
A key that is trusted may sign components. With --native it may also sign native code, which runs unchecked in the sandboxed process:
give it to keys of builders that you trust as you trust the daemon's own package.

To revoke a key, remove its file: what it signed is not loaded any more, and a restart of the daemon ends what is loaded already. To
replace one, trust the new key, sign the bundles again and install them, then remove the old one.";

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a pair of keys in minisign's format: FILE, which is secret, and FILE.pub
    Generate {
        /// File of the secret key; it must not exist
        file: PathBuf,
        /// Protect it with a password, asked for or taken from TWITCHER_KEY_PASSWORD
        #[arg(long)]
        password: bool,
    },
    /// List the trusted keys and what each may sign
    List {
        /// Directory of the trusted keys
        #[arg(long, value_name = "DIR", default_value = KEYS)]
        keys: PathBuf,
    },
    /// Trust a public key: bundles signed with it run here
    #[command(after_help = TRUST_HELP)]
    Trust {
        /// The public key
        file: PathBuf,
        /// Trust native code that it signed, too
        #[arg(long)]
        native: bool,
        /// What to call it [default: as its file is called]
        #[arg(long)]
        name: Option<String>,
        /// Directory of the trusted keys
        #[arg(long, value_name = "DIR", default_value = KEYS)]
        keys: PathBuf,
    },
}
