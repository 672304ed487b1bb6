//! Bundles: plugins as they are deployed, with native code, signed.
//!
//! ```text
//! author ── build ─▶ NAME-VERSION.twb ── install ─▶ store ── code ─▶ what the daemon loads
//!           writer                       reader, trust      trust, compatibility
//! ```
//!
//! # The format
//!
//! A bundle is a tar file of this form and no other. Its entries, in this order:
//!
//! | entry                                                | what it is                                                     |
//! |------------------------------------------------------|----------------------------------------------------------------|
//! | `manifest.json`                                      | what the bundle is, and size and SHA-256 of all that follows   |
//! | `manifest.json.minisig`                              | the manifest's signature; can be left out                      |
//! | `component.wasm`                                     | a component, or a core module of WASI's first preview          |
//! | `native/TARGET/PROFILE/wasmtime-VERSION.cwasm` ...   | native code, in ascending order of the bytes of the paths      |
//!
//! Each entry is a ustar header with mode 0644, uid, gid and modification time 0, no names of owners, type `0`, no prefix, the size
//! as 11 octal digits and a NUL, and the checksum as six octal digits, a NUL and a space; then the content, filled up to 512 bytes
//! with zeros. Two blocks of zeros end the file, and nothing follows. GNU tar writes exactly this:
//!
//! ```sh
//! tar --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=0644 -b1 -cf hello-1.0.0.twb \
//!     manifest.json manifest.json.minisig component.wasm native/...
//! ```
//!
//! So there is one bundle for given content, and a byte that differs anywhere makes it no bundle, another manifest, or a file that is
//! not what the manifest says. The file should be called `NAME-VERSION.twb`; nothing depends on it.
//!
//! ## `manifest.json`
//!
//! A JSON object of at most 256 KiB, in UTF-8. In format 1 it has no other members than these:
//!
//! | member      | value                                                                                                   |
//! |-------------|---------------------------------------------------------------------------------------------------------|
//! | `format`    | 1. A reader refuses a higher number before it looks at anything else                                      |
//! | `name`      | 1 to 64 of `a-z 0-9 - _`, the first a letter or digit                                                      |
//! | `version`   | a semantic version of at most 64 bytes                                                                    |
//! | `world`     | `twitcher:action/action`, `twitcher:action/action-checked` or `wasi:cli/command`: what the component exports |
//! | `sdk`       | optional: version of the SDK that the component says it was made with                                     |
//! | `config`    | optional: the keys of its configuration, a list                                                           |
//! | `requests`  | optional: what it needs to be granted, see [`Requests`]                                                  |
//! | `component` | `{"size": BYTES, "sha256": "64 lower-case hexadecimal digits"}`, at most 64 MiB                            |
//! | `native`    | optional: a list, at most 16, in the order of the paths; each with `size` (at most 1 GiB) and `sha256`, and the following |
//!
//! What says what native code depends on, besides the component; each is a word of 1 to 32 of `A-Z a-z 0-9 - _ . +`:
//!
//! | member         | value                                                                                                |
//! |----------------|------------------------------------------------------------------------------------------------------|
//! | `target`       | the machines: `x86_64-linux` or `aarch64-linux`; part of the path                                       |
//! | `profile`      | name of the engine's settings: `sandbox`, the one set there is; part of the path                       |
//! | `wasmtime`     | full version of wasmtime; part of the path. Wasmtime itself would accept any of the same major version |
//! | `settings`     | fingerprint of the settings (limits of the stack, interruption, tunables ...): the first 8 bytes of the SHA-256 of what wasmtime's compatibility hash feeds to a hasher, in hexadecimal |
//!
//! `build` makes code for every machine of the target. It is loaded only where target, profile, version and fingerprint are the host's own.
//! Wasmtime compares the same, but for the exact version, when it loads the code.
//!
//! ## `manifest.json.minisig`
//!
//! A prehashed signature (`ED`) of `manifest.json` in minisign's format, at most 2 KiB: four lines, the first of which is `untrusted
//! comment: signature of a Twitcher bundle`, for minisign does not authenticate it. The trusted comment can be anything; `twitcher`
//! writes `twitcher bundle NAME VERSION`. `twitcher bundle sign --signature` packs what `minisign -S` made.
//!
//! # Trust
//!
//! A manifest stands for the whole bundle, so what is signed and judged is the manifest. Order matters: the signature first, then
//! the digests, on a copy that only root can write to, then whether native code fits; wasmtime's own check last, for it is made
//! against mistakes, not against attacks. See [`trust`] for keys, and [`Installed::code`].
//!
//! This crate must not know configurations, watches or the daemon.

#![forbid(unsafe_code)]

mod archive;
mod build;
mod choice;
mod compatibility;
mod install;
mod installed;
mod manifest;
mod reader;
mod requested_grants;
mod signature;
mod store;
mod suggested_grants;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "for tests only")]
pub mod testing;
pub mod trust;
mod writer;

pub use archive::{BLOCK, padding};
pub use build::{Build, BuildError, CompileFailure, Compiler, build};
pub use choice::{CHOICE_MAX, Choice, ChoiceError, Expected, shown};
pub use compatibility::{EngineFacts, Miss};
pub use install::{InstallError, Installation, open_bundle, open_file};
pub use installed::{Code, Hold, Installed, InstalledError};
pub use manifest::{
    COMPONENT, FORMAT, FileFacts, MANIFEST_MAX, Manifest, ManifestError, NativeFacts, Reference, ReferenceError,
    Versions, World, digest, parse_digest,
};
pub use reader::{BundleReader, ReadError};
pub use requested_grants::{Comparison, DirAccess, Requests, ZnodeAccess, compare};
pub use signature::{
    KeyError, KeyId, PublicKey, SIGNATURE_MAX, SecretKey, Signature, SignatureError, generate, public_file,
};
pub use store::{Downgrade, Listed, Listing, STORE, Store, StoreError, Switch};
pub use suggested_grants::stanza;
pub use trust::{SignatureStanding, Trust, TrustRefusal};
pub use writer::{WriteError, Writer, pack, sign_again};

/// How every bundle begins, and nothing else that is WebAssembly: the name of its first entry.
pub const MAGIC: &[u8] = b"manifest.json\0";
/// Name of the manifest in a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Name of its signature.
pub const SIGNATURE: &str = "manifest.json.minisig";
