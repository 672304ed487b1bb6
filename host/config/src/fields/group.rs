//! The limits of groups: `RegisterGroup("db", limit = 2)`, or `{"group": "db", "limit": 2}` among the watches of a JSON file.
//!
//! A group is whatever watches name as theirs; one that nobody gives a limit has that of the scheduler, 1.

use std::sync::Arc;

use schemars::JsonSchema;

use super::types::{FromValue, MaxParallel, Mismatch};
use crate::error::{ConfigError, SourceText, TextPosition, did_you_mean};
use crate::value::{Field, Registration, Value, quoted};
use twitcher_model::Origin;

/// Every argument. All can be given by position.
pub(crate) const NAMES: [&str; 2] = ["group", "limit"];

/// How many actions of a group may run at once, on each host.
#[derive(JsonSchema)]
#[schemars(rename = "Group", deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used: the two fields are read by name")]
pub(crate) struct GroupFields {
    /// Name of the group, as watches give it.
    #[schemars(length(min = 1, max = 255))]
    group: Arc<str>,
    /// Most actions of the group's watches that run at once; 1 for a group that is not listed.
    limit: MaxParallel,
}

/// A group with its limit.
#[derive(Debug, Clone)]
pub(crate) struct GroupLimit {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
    pub(crate) origin: Origin,
}

impl GroupLimit {
    /// What is wrong with this one, seeing that there is another.
    pub(crate) fn conflict(&self, first: &GroupLimit) -> String {
        format!(
            "the group {} already has the limit {}, given at {}",
            quoted(&self.name),
            first.limit,
            first.origin
        )
    }

    /// The error for a group that an earlier file has given another limit.
    pub(crate) fn taken_elsewhere(&self, source: &SourceText, first: &GroupLimit) -> ConfigError {
        let position = TextPosition {
            line: self.origin.line,
            column: self.origin.column,
        };
        ConfigError::at(&source.file, &source.text, position, self.conflict(first))
            .with_hint("give a group its limit once, in a file of its own for example".to_owned())
    }
}

/// What is wrong, each with the offset of its place.
type Faults = Vec<(u32, Mismatch)>;

/// The group and its limit; or all that is wrong, each with the offset of its place.
pub(crate) fn read(registration: &Registration) -> Result<(Arc<str>, u32), Faults> {
    let (mut group, mut limit) = (None, None);
    let mut faults = Vec::new();
    for Field {
        name,
        name_at,
        value_at,
        value,
    } in registration.fields.iter().filter(|field| field.value != Value::None)
    {
        let read = match name.as_str() {
            "group" => FromValue::from_value(value).map(|text| group = Some(text)),
            "limit" => FromValue::from_value(value).map(|MaxParallel(most)| limit = Some(most)),
            _ => {
                let mismatch = Mismatch::new(format!("unknown field {} of a group", quoted(name)));
                faults.push((*name_at, mismatch.hint(did_you_mean(name, NAMES))));
                continue;
            }
        };
        if let Err(mismatch) = read {
            let message = format!("{name} {}", mismatch.message);
            faults.push((*value_at, Mismatch { message, ..mismatch }));
        }
        if faults.len() > NAMES.len() {
            break;
        }
    }
    match (group, limit) {
        (Some(group), Some(limit)) if faults.is_empty() => Ok((group, limit)),
        (group, limit) => {
            for (name, missing) in [("group", group.is_none()), ("limit", limit.is_none())] {
                let given = registration
                    .fields
                    .iter()
                    .any(|field| field.name == name && field.value != Value::None);
                if missing && !given {
                    faults.push((registration.call, Mismatch::new(format!("{name} is missing"))));
                }
            }
            Err(faults)
        }
    }
}
