//! Configuration files: from text to [`crate::model::Watch`]es.
//!
//! A file is hostile until proven otherwise: the daemon is root, and must not be stopped, slowed or taken over by what it reads.
//!
//! ```text
//! files      finds and reads, refusing what others could have changed
//!   │ .twc                                    │ .json
//! evaluator ── pipes ── helper (no rights,  json
//!   │                   few resources):       │
//!   │                   script                │
//!   └── registrations: plain values with places ┘
//! build      fields, identity, component: one validation for both ──► Watch
//! set        all files together; each a transaction
//! ```
//!
//! A function action runs elsewhere and later: [`function`] is called in the action's own process.
//!
//! This module must not know what happens to watches: no sources, no scheduler, no launcher.

mod build;
mod component;
mod component_fields;
mod error;
pub mod evaluator;
mod field_types;
mod fields;
mod files;
pub mod function;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod grant_types;
mod groups;
pub mod helper;
mod identity;
mod interner;
mod json;
mod network_types;
mod process_types;
mod protocol;
mod reference;
pub mod report;
mod retry_fields;
mod schema;
mod script;
pub mod set;
mod splay;
mod value;
pub mod watcher;

pub use component::{Changes, Find, Found, Resolver, Watched};
pub(crate) use error::nearest;
pub use error::{ConfigError, Position, SourceLine};
pub use evaluator::{Evaluator, Print};
pub(crate) use grant_types::{grant_name, guest_path, memory_size, znode_pattern};
pub(crate) use network_types::{host_port, http_origin};
pub use reference::Wanted;
pub use schema::schema;
pub use set::{Config, FileOutcome, FileReport, Reload};

#[cfg(test)]
mod tests;
