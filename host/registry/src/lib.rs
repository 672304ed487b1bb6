//! Bundles in OCI registries, such as those that containers come from.
//!
//! ```text
//! tag ─▶ image manifest ──▶ component.wasm          as the CNCF lays out WebAssembly: wkg and others pull it
//!              ▲ subject
//!        artifact manifest ─▶ manifest.json, manifest.json.minisig, native code
//! ```
//!
//! # Layout
//!
//! What a tag stands for is an image manifest in the [layout of the CNCF]: a configuration of type
//! `application/vnd.wasm.config.v0+json` and one layer of type `application/wasm`, the bundle's `component.wasm`. Its annotations
//! `vnd.twitcher.bundle.manifest` and `vnd.twitcher.bundle.signature` are the digests (`sha256:...`) of the bundle's manifest and of
//! its signature, if it has one. So the digest of this manifest stands for the whole bundle, signature included; the time in the
//! configuration is always 1970, and the same bundle has the same digest wherever and whenever it is pushed.
//!
//! All else is in an artifact that refers to it (OCI 1.1, `subject`): artifact type `application/vnd.twitcher.bundle.v1+json`, the
//! empty configuration, and these layers, each with the annotation `org.opencontainers.image.title` that is its path in the bundle:
//!
//! | media type                                           | what                                                               |
//! |------------------------------------------------------|--------------------------------------------------------------------|
//! | `application/vnd.twitcher.bundle.manifest.v1+json`   | `manifest.json`                                                    |
//! | `application/vnd.twitcher.bundle.signature.v1`       | `manifest.json.minisig`, if there is one                           |
//! | `application/vnd.twitcher.bundle.native.v1`          | native code, any number; annotations `vnd.twitcher.bundle.target`, `.profile` and `.wasmtime` |
//!
//! It is found by the referrers API, or, where the registry has none, in the index at the tag `sha256-DIGEST` (the referrers tag
//! schema). Registries have many ways to say that they have no such API: whatever they answer that is no index leads to the tag. Some,
//! such as GitLab's, take that tag for the digest that it resembles, so that the subject comes back: after a push it is looked whether
//! the index is there, and if not, it is put at `sha256-DIGEST.twitcher`, which is no digest in any spelling. The tag of the version
//! moves last, so whoever sees a version can have all of it.
//!
//! [layout of the CNCF]: https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/
//!
//! # What is believed
//!
//! Nothing. All that a registry sends is bounded before and while it is read, and has the digest that led to it; what signs and
//! describes the rest is judged before the rest is fetched; the result is read like any bundle before it gets its name. Its name must be
//! that of the repository or the one that was asked for, and its version the one that the tag says.
//!
//! A password is for the registry that it was kept for. It goes there and to where the registry says that tokens are had, neither to
//! where a request is redirected nor to who asks for it there; a registry that is not on this machine leads nobody to this machine.
//!
//! The client is our own because of that: `oci-client` reads manifests, tokens and the text of errors without any limit, panics at a token
//! that is no header, and looks at the tag for referrers only after 404. It is the peer that the tests compare with.
//!
//! This crate must not know the store or how bundles are built.

#![forbid(unsafe_code)]

mod address;
mod auth;
mod blob;
mod client;
mod credentials;
mod documents;
mod error;
mod internal_address;
mod patience;
mod progress;
mod pull;
mod push;
mod tag;
mod transport;

pub use address::{Remote, RemoteError, Selector};
pub use credentials::CredentialsError;
pub use error::{OciError, RegistryProblem};
pub use pull::{Offer, component};
pub use push::{Pushed, push};
pub use tag::Mismatch;
