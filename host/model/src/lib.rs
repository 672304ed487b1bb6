//! Plain types that every room shares: what a watch is, what was observed, how a run ended, what a component is granted.
//!
//! It must not know how any of it comes about: no I/O, no clock, no async, and no other crate of the workspace.

#![forbid(unsafe_code)]

mod component;
pub mod deployment;
mod facts;
mod failure;
pub mod grant_syntax;
mod grants;
mod hardening;
mod id;
mod missing_grant;
mod observation;
mod outcome;
mod path;
mod position;
mod process;
mod rollout;
pub mod sanitize;
mod secret;
mod several;
mod shrinking;
mod target;
mod watch;

pub use component::{
    BundleIdentity, CommandGrant, Compiled, Component, Digest, DirGrant, EntryPoint, Grants, HostPort, HttpOrigin,
    Keep, NATIVE_MAX, WASM_MAX, WasmAction, ZnodeGrant,
};
pub use deployment::{BundleSource, BundleSourceError, Deployment};
pub use facts::{EventKind, Moment, Overdue, Phase, RunEnd, RunFacts, Seen, Unreadable, timestamp};
pub use failure::{OnFailure, Retry};
pub use hardening::{Capabilities, Hardening};
pub use id::{RunId, RunIdError, WatchId};
pub use missing_grant::MissingGrant;
pub use observation::{
    ChangeFacts, Observation, Occasion, PAYLOAD_MAX, Stamp, Stat, TreeNode, TreeNodes, Trigger, Version,
};
pub use outcome::{ComponentFailure, Outcome};
pub use path::{ZnodePath, ZnodePathError};
pub use position::{Fingerprint, Position};
pub use process::{Identity, Limit, ProcessSettings, Resource, RunLimits};
pub use rollout::{AtOnce, Lost, OnNewer, Probe, Rollout, RolloutName, RolloutNameError, Verify, Wave, is_fleet_name};
pub use secret::{Secret, SecretPlace};
pub use several::{SeveralZnodes, ZnodeState};
pub use shrinking::{Share, Shrinkage};
pub use target::{Target, UnknownTarget};
pub use watch::{Action, FunctionAction, Origin, Payload, Policy, Program, RunMode, RunOnLoad, Watch, WatchType};
