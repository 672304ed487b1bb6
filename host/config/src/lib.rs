//! Configuration files: from text to [`twitcher_model::Watch`]es.
//!
//! A file is hostile until proven otherwise: the daemon is root, and must not be stopped, slowed or taken over by what it reads.
//!
//! ```text
//! files      finds and reads, refusing what others could have changed
//!   │ .twc                                              │ .json
//! evaluator ── socket ── evaluator helper (no rights,  json
//!   │                    few resources): starlark       │
//!   └── registrations: plain values with places ────────┘
//! validate   fields, accounts, component resolver: one validation for both ──► Watch
//! reload     all files together; each a transaction
//! ```
//!
//! A function action runs elsewhere and later: [`function_action`] is called in the action's own process.
//!
//! This crate must not know what happens to watches: no sources, no scheduler, no launcher.

mod accounts;
pub mod change_watcher;
mod component_resolver;
mod error;
pub mod evaluator;
pub mod evaluator_helper;
mod evaluator_protocol;
mod fields;
mod files;
pub mod function_action;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod interner;
mod json;
mod reference;
pub mod reload;
pub mod report;
mod schema;
mod splay;
mod starlark;
mod validate;
mod value;

pub use component_resolver::{Changes, Find, Found, Resolver, Watched};
pub use error::{ConfigError, SourceLine, TextPosition, nearest};
pub use evaluator::{Evaluator, Print};
pub use reference::Wanted;
pub use reload::{Config, FileOutcome, FileReport, Reload, WatchNames};
pub use schema::schema;

#[cfg(test)]
mod tests;
