//! A command that says by its exit code how something stands: `verify` of a rollout, `check` of a wave.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::calls::{self, ActionSpec};
use super::declaration::FieldType;
use super::forms::{Form, Seen};
use super::mismatch::{Mismatch, Refusal};
use crate::value::Value;
use twitcher_model::Probe;

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct ProbeSpec(pub(crate) Probe);

impl FieldType for ProbeSpec {
    type Form = ProbeForm;
    const FORM: ProbeForm = ProbeForm;

    fn of(probe: Probe) -> Result<Self, Refusal> {
        Ok(Self(probe))
    }
}

/// A call of `Exec`, in JSON an object.
pub(crate) struct ProbeForm;

impl Form for ProbeForm {
    type Read = Probe;

    fn words(&self) -> Cow<'static, str> {
        "an Exec(…)".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["exec"],
            "additionalProperties": false,
            "properties": calls::exec_properties(generator),
        })
    }

    fn read(&self, seen: Seen<'_>) -> Result<Probe, Refusal> {
        let form = "write Exec([\"/usr/local/bin/healthy\"]); in JSON {\"exec\": [\"/usr/local/bin/healthy\"]}";
        let spec = match seen {
            Seen::Value(Value::Exec(call)) => calls::exec_of(call)?,
            Seen::Value(Value::Dict(entries)) if calls::has(entries, "exec") => calls::exec_from(entries)?,
            Seen::Value(value @ (Value::Function | Value::Component(_) | Value::Deploy(_))) => {
                let mismatch = Mismatch::expected("an Exec(…)", value);
                let hint = format!(
                    "it is asked again and again, so it is a command whose exit code says how it stands: {form}"
                );
                return Err(mismatch.hint(hint).into());
            }
            _ => {
                return Err(Refusal::Unfit {
                    got: None,
                    hint: Some(form.to_owned()),
                });
            }
        };
        let (argv, hardening) = match spec {
            ActionSpec::Shell(line, hardening) => (Arc::from(["/bin/sh".into(), "-c".into(), line]), hardening),
            ActionSpec::Argv(argv, hardening) => (argv, hardening),
            ActionSpec::Function | ActionSpec::Component(_) | ActionSpec::Deploy(_) => return Err(Refusal::UNFIT),
        };
        Ok(Probe { argv, hardening })
    }
}
