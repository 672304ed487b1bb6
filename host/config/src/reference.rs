//! Which component a `Wasm(…)` means, as text: a path, or a bundle by its name.
//!
//! This module must not know whether there is such a file or bundle.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::fields::types::{FromValue, Mismatch};
use super::files::path_named_in;
use super::value::Value;
use twitcher_model::grant_syntax::PATH_MAX;

/// What stands for a component, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reference(String);

/// What is to be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wanted {
    /// The file at an absolute path: a component, or a bundle.
    File(Arc<Path>),
    /// An installed bundle: `render`, or `render@1.2`.
    Bundle(Arc<str>),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "component {}", path.display()),
            Self::Bundle(name) => write!(f, "bundle {name}"),
        }
    }
}

impl Reference {
    /// What is meant in `file`.
    pub(super) fn meant_in(&self, file: &Path) -> Wanted {
        match is_path(&self.0) {
            true => Wanted::File(path_named_in(file, &self.0).into()),
            false => Wanted::Bundle(self.0.as_str().into()),
        }
    }
}

/// A path can be told from a bundle's name, which has neither a slash nor such an ending.
fn is_path(text: &str) -> bool {
    text.contains('/') || text.ends_with(".wasm") || text.ends_with(".twb")
}

impl FromValue for Reference {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let expected = "the path of a component or bundle, or the name of an installed bundle";
        let Value::Str(text) = value else {
            return Err(Mismatch::expected(expected, value));
        };
        if text.is_empty() || text.ends_with('/') || text.contains('\0') || text.len() > PATH_MAX {
            return Err(Mismatch::expected(expected, value));
        }
        Ok(Self(text.clone()))
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "[^/]$", "maxLength": PATH_MAX})
    }
}
