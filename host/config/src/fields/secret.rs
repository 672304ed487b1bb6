//! A value that is written out, or the file that it is read from when a run starts.
//!
//! This module must not know what the value is for, and never reads it.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::forms::{Form, OneOf, Seen};
use super::mismatch::{Mismatch, Refusal};
use super::process::absolute;
use crate::value::quoted;
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{Secret, SecretPlace};

/// How a secret is written.
pub(crate) struct SecretForm;

impl Form for SecretForm {
    type Read = Arc<Path>;

    fn words(&self) -> Cow<'static, str> {
        "Secret(\"/file\")".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {"secret": {"type": "string", "pattern": "^/", "maxLength": PATH_MAX}},
            "required": ["secret"],
            "additionalProperties": false,
        })
    }

    fn read(&self, seen: Seen<'_>) -> Result<Arc<Path>, Refusal> {
        let file = seen.secret().ok_or(Refusal::UNFIT)?;
        match absolute(file) {
            Ok(path) if file.len() <= PATH_MAX => Ok(path),
            _ => Err(Mismatch::new(format!(
                "has Secret({}), which must be the absolute path of a file of at most {PATH_MAX} bytes",
                quoted(file)
            ))
            .into()),
        }
    }
}

/// Named values, those that are written out and those that are secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    pub(crate) plain: Vec<(String, String)>,
    pub(crate) secret: Vec<(String, Arc<Path>)>,
}

impl Named {
    pub(crate) fn add(&mut self, name: String, value: OneOf<String, Arc<Path>>) {
        match value {
            OneOf::First(text) => self.plain.push((name, text)),
            OneOf::Second(file) => self.secret.push((name, file)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.secret.is_empty()
    }

    /// The secrets as values of this.
    pub(crate) fn secrets(&self, place: SecretPlace) -> impl Iterator<Item = Secret> {
        self.secret.iter().map(move |(name, file)| Secret {
            place,
            name: name.clone(),
            file: file.clone(),
        })
    }

    pub(crate) fn written(&self) -> Json {
        let plain = self
            .plain
            .iter()
            .map(|(name, text)| (name.clone(), Json::from(text.as_str())));
        let secret = self.secret.iter();
        let secret = secret.map(|(name, file)| (name.clone(), serde_json::json!({"secret": file})));
        plain.chain(secret).collect()
    }
}
