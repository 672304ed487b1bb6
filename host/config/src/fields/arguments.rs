//! The arguments of a call within a field, such as `Retry(…)`: which there are, and where one that is wrong stands.
//!
//! This module must not know what they mean.

use super::mismatch::Mismatch;
use crate::error::did_you_mean;
use crate::value::{Call, Field, Value, quoted};

/// Most arguments of one call, known or not.
pub(super) const ARGUMENTS_MAX: usize = 32;

/// What is wrong, each with the offset of its place.
pub(super) type Faults = Vec<(u32, Mismatch)>;

/// Sets what a call gives of the fields that it may have; gives what is wrong.
pub(super) fn arguments(
    call: &Call,
    (of, names): (&str, &[&'static str]),
    mut set: impl FnMut(&str, &Value) -> Result<(), Mismatch>,
) -> Faults {
    if call.arguments.len() > ARGUMENTS_MAX {
        let message = format!("{of} has no more than {} arguments", names.len());
        return vec![(call.at, Mismatch::new(message))];
    }
    let mut faults = Vec::new();
    for Field {
        name,
        name_at,
        value_at,
        value,
    } in &call.arguments
    {
        if !names.contains(&name.as_str()) {
            let mismatch = Mismatch::new(format!("unknown argument {} of {of}", quoted(name)));
            faults.push((*name_at, mismatch.hint(did_you_mean(name, names.iter().copied()))));
        } else if let Err(mismatch) = set(name, value) {
            let message = format!("{name} {}", mismatch.message);
            faults.push((*value_at, Mismatch { message, ..mismatch }));
        }
    }
    faults
}
