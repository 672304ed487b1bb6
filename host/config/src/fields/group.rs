//! The limits of groups: `RegisterGroup("db", limit = 2)`, or `{"group": "db", "limit": 2}` among the watches of a JSON file.
//!
//! A group is whatever watches name as theirs; one that nobody gives a limit has that of the scheduler, 1.

use std::sync::Arc;

use super::declaration::fields;
use super::mismatch::Mismatch;
use super::types::MaxParallel;
use crate::error::{ConfigError, SourceText, TextPosition, did_you_mean};
use crate::value::{Field, Registration, Value, quoted};
use twitcher_model::Origin;

fields! {
    /// How many actions of a group may run at once, on each host.
    struct GroupFields, published as "Group", required ["group", "limit"];

    /// Name of the group, as watches give it.
    group: Option<Arc<str>> = None,

    /// Most actions of the group's watches that run at once; 1 for a group that is not listed.
    limit: Option<MaxParallel> = None,
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
    let mut fields = GroupFields::default();
    let mut faults = Vec::new();
    for Field {
        name,
        name_at,
        value_at,
        value,
    } in registration.fields.iter().filter(|field| field.value != Value::None)
    {
        if !NAMES.contains(&name.as_str()) {
            let mismatch = Mismatch::new(format!("unknown field {} of a group", quoted(name)));
            faults.push((*name_at, mismatch.hint(did_you_mean(name, NAMES))));
            continue;
        }
        if let Err(mismatch) = fields.set(name, value) {
            let message = format!("{name} {}", mismatch.message);
            faults.push((*value_at, Mismatch { message, ..mismatch }));
        }
        if faults.len() > NAMES.len() {
            break;
        }
    }
    match fields {
        GroupFields {
            group: Some(group),
            limit: Some(MaxParallel(limit)),
        } if faults.is_empty() => Ok((group, limit)),
        GroupFields { group, limit } => {
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
