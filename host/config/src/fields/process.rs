//! What each field of a watch about its process accepts: accounts, directory, mask, environment, limits.
//!
//! This module must not know which fields there are, nor where a value stands in a file.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::types::{ARG_MAX, FromValue, LIST_MAX, Mismatch, TEXT_MAX};
use crate::error::did_you_mean;
use crate::value::{Item, Scalar, Value, quoted};
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{Limit, Resource};

/// A user or a group. A string of digits is a number unless there is an account of that name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub(crate) enum Account {
    Name(String),
    Id(u32),
}

impl FromValue for Account {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            // The highest number means "no change" to the system calls that set ids.
            Value::Int(n) if (0..i64::from(u32::MAX)).contains(n) => Ok(Self::Id(*n as u32)),
            Value::Str(name) if !name.is_empty() && name.len() <= TEXT_MAX && !name.chars().any(char::is_control) => {
                Ok(Self::Name(name.clone()))
            }
            other => Err(Mismatch::expected("a name or a number", other)),
        }
    }
}

impl JsonSchema for Account {
    fn schema_name() -> Cow<'static, str> {
        "Account".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "string", "minLength": 1, "maxLength": TEXT_MAX},
            {"type": "integer", "minimum": 0, "maximum": u32::MAX - 1},
        ]})
    }
}

/// The working directory.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkingDir(pub(crate) Arc<Path>);

impl FromValue for WorkingDir {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Str(path) if path.starts_with('/') && path.len() <= PATH_MAX && !path.contains('\0') => {
                Ok(Self(Path::new(path).into()))
            }
            other => Err(Mismatch::expected("an absolute path", other)),
        }
    }
}

impl JsonSchema for WorkingDir {
    fn schema_name() -> Cow<'static, str> {
        "WorkingDir".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^/", "maxLength": PATH_MAX})
    }
}

/// The file mode creation mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Umask(pub(crate) u32);

impl FromValue for Umask {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mask = match value {
            Value::Int(n) => u32::try_from(*n).ok(),
            Value::Str(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => u32::from_str_radix(digits, 8).ok(),
            _ => None,
        };
        match mask {
            Some(mask) if mask <= 0o777 => Ok(Self(mask)),
            _ => Err(Mismatch::expected("a mask from \"000\" to \"777\"", value)),
        }
    }
}

impl Serialize for Umask {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:03o}", self.0))
    }
}

impl JsonSchema for Umask {
    fn schema_name() -> Cow<'static, str> {
        "Umask".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "string", "pattern": "^0*[0-7]{1,3}$"},
            {"type": "integer", "minimum": 0, "maximum": 0o777},
        ]})
    }
}

/// Extra environment variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(pub(crate) Vec<(String, String)>);

impl FromValue for Environment {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let Value::Dict(entries) = value else {
            return Err(Mismatch::expected("a dict of strings", value));
        };
        if entries.len() > LIST_MAX {
            return Err(Mismatch::new(format!("must not have more than {LIST_MAX} variables")));
        }
        let mut variables = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Mismatch::new(format!(
                    "has {}, which is not the name of a variable",
                    quoted(name)
                )));
            }
            if name.starts_with("TWITCHER_") {
                return Err(Mismatch::new(format!(
                    "must not set {}: Twitcher sets such names itself",
                    quoted(name)
                )));
            }
            let Item::Scalar(Scalar::Str(text)) = value else {
                return Err(Mismatch::new(format!(
                    "must have a string for {}, not {value}",
                    quoted(name)
                )));
            };
            if text.contains('\0') || name.len() + text.len() + 1 > ARG_MAX {
                return Err(Mismatch::new(format!(
                    "has a NUL character or too many bytes in {}",
                    quoted(name)
                )));
            }
            variables.push((name.clone(), text.clone()));
        }
        Ok(Self(variables))
    }
}

impl Serialize for Environment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl JsonSchema for Environment {
    fn schema_name() -> Cow<'static, str> {
        "Environment".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"pattern": "^(?!TWITCHER_)[^=]+$"},
            "additionalProperties": {"type": "string"},
            "maxProperties": LIST_MAX,
        })
    }
}

/// Resource limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits(pub(crate) Vec<Limit>);

const RESOURCES: [(&str, Resource); 9] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("stack", Resource::Stack),
];

impl FromValue for Limits {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let Value::Dict(entries) = value else {
            return Err(Mismatch::expected("a dict of limits", value));
        };
        let mut limits: Vec<Limit> = Vec::with_capacity(entries.len().min(RESOURCES.len()));
        for (name, value) in entries {
            let names = || RESOURCES.iter().map(|(name, _)| *name);
            let Some((_, resource)) = RESOURCES.iter().find(|(known, _)| known == name) else {
                let all = names().collect::<Vec<_>>().join(", ");
                return Err(Mismatch::new(format!("has {}, which is none of {all}", quoted(name)))
                    .hint(did_you_mean(name, names())));
            };
            let (soft, hard) = match value {
                Item::Scalar(both) => (limit(both), limit(both)),
                Item::List(pair) => match pair.as_slice() {
                    [soft, hard] => (limit(soft), limit(hard)),
                    _ => (None, None),
                },
            };
            let (Some(soft), Some(hard)) = (soft, hard) else {
                return Err(Mismatch::new(format!(
                    "must have a whole number, \"unlimited\", or a pair [soft, hard] of these for {name:?}, not {value}"
                )));
            };
            if soft > hard {
                return Err(Mismatch::new(format!(
                    "has a soft limit above the hard one for {name:?}"
                )));
            }
            limits.push(Limit {
                resource: *resource,
                soft,
                hard,
            });
        }
        Ok(Self(limits))
    }
}

fn limit(value: &Scalar) -> Option<u64> {
    match value {
        Scalar::Int(n) => u64::try_from(*n).ok(),
        Scalar::Str(word) if word == "unlimited" => Some(u64::MAX),
        _ => None,
    }
}

impl Serialize for Limits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = |of: Resource| {
            RESOURCES
                .iter()
                .find(|(_, resource)| *resource == of)
                .map_or("", |(name, _)| name)
        };
        serializer.collect_map(
            self.0
                .iter()
                .map(|limit| (name(limit.resource), (limit.soft, limit.hard))),
        )
    }
}

impl JsonSchema for Limits {
    fn schema_name() -> Cow<'static, str> {
        "Limits".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = RESOURCES.iter().map(|(name, _)| *name).collect();
        let one = json_schema!({"oneOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}]});
        json_schema!({
            "type": "object",
            "propertyNames": {"enum": names},
            "additionalProperties": {"oneOf": [one, {"type": "array", "minItems": 2, "maxItems": 2, "items": one}]},
        })
    }
}
