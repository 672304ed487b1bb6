//! Which component a `Wasm(…)` means, as text: a path, or a bundle by its name.
//!
//! This module must not know whether there is such a file or bundle.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};
use serde_json::Value as Json;

use super::fields::declaration::FieldType;
use super::fields::forms::{Called, Form, Text, called};
use super::fields::mismatch::Refusal;
use super::files::path_named_in;
use twitcher_model::grant_syntax::PATH_MAX;

/// What stands for a component, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl FieldType for Reference {
    type Form = Called<Text<String>>;
    const FORM: Self::Form = called(
        "the path of a component or bundle, or the name of an installed bundle",
        Text::new(reference).most(PATH_MAX).pattern("[^/]$"),
    );

    fn of(text: String) -> Result<Self, Refusal> {
        Ok(Self(text))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Self::FORM.schema(generator);
        // Published from the first, though no component is no default.
        schema.insert("default".to_owned(), Json::Null);
        schema
    }
}

fn reference(text: &str) -> Result<String, Refusal> {
    match text.is_empty() || text.ends_with('/') || text.contains('\0') {
        true => Err(Refusal::UNFIT),
        false => Ok(text.to_owned()),
    }
}
