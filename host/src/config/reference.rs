//! Which component a `Wasm(…)` means, as text: a path. Names are kept for bundles.
//!
//! This module must not know whether there is such a file.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::field_types::{FromValue, Mismatch, PATH_MAX};
use super::files::path_named_in;
use super::value::{Value, quoted};

/// The path of a component, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reference(String);

impl Reference {
    /// The absolute path that is meant in `file`.
    pub(super) fn path_in(&self, file: &Path) -> PathBuf {
        path_named_in(file, &self.0)
    }
}

impl FromValue for Reference {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let Value::Str(text) = value else {
            return Err(Mismatch::expected("the path of a component", value));
        };
        if text.is_empty() || text.ends_with('/') || text.contains('\0') || text.len() > PATH_MAX {
            return Err(Mismatch::expected("the path of a component", value));
        }
        if !text.contains('/') && !text.ends_with(".wasm") {
            return Err(Mismatch::new(format!(
                "{} is the name of a bundle, which this version of Twitcher does not support",
                quoted(text)
            ))
            .hint(format!(
                "give the path of a file, such as {}",
                quoted(&format!("./{text}.wasm"))
            )));
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
        json_schema!({"type": "string", "pattern": "/[^/]+$|\\.wasm$", "maxLength": PATH_MAX})
    }
}
