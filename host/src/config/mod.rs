//! Configuration files: from text to [`crate::model::Watch`]es.

mod build;
mod error;
mod field_types;
mod fields;
mod files;
mod identity;
mod json;
mod schema;
mod script;
mod value;

pub use error::{ConfigError, Position, SourceLine};
pub use schema::schema;
