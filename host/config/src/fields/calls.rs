//! What a watch runs, and what its failure leads to: values that can be calls with arguments of their own.
//!
//! This module must not know what those arguments mean: they are read where an error in one of them can be placed.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::collections::List;
use super::component::ComponentFields;
use super::declaration::FieldType;
use super::deployment::DeployFields;
use super::forms::{Form, Seen, Text};
use super::hardening;
use super::mismatch::{Mismatch, Refusal};
use super::retry::RetryFields;
use super::types::{ARG_MAX, LIST_MAX};
use crate::error::did_you_mean;
use crate::value::{Call, Field, Item, Scalar, Value, quoted};
use twitcher_model::{Hardening, OnFailure};

/// What the argument of `Exec(…)` is called that says what is executed.
pub(crate) const COMMAND: &str = "command";

/// What a watch runs.
#[derive(Debug, Clone)]
pub(crate) enum ActionSpec {
    Shell(Arc<str>, Hardening),
    Argv(Arc<[Arc<str>]>, Hardening),
    Function,
    Component(Arc<Call>),
    Deploy(Arc<Call>),
}

impl FieldType for ActionSpec {
    type Form = ActionForm;
    const FORM: ActionForm = ActionForm;
    const DEFINITION: Option<&'static str> = Some("Action");

    fn of(action: Self) -> Result<Self, Refusal> {
        Ok(action)
    }
}

/// A call of `Exec`, `Wasm` or `Deploy`, in JSON an object, or a function.
pub(crate) struct ActionForm;

/// A command line for the shell.
const LINE: Text<Arc<str>> = Text::new(|line| match line.trim().is_empty() {
    true => Err(Refusal::wrong("must not be an empty command")),
    false => argument(line),
})
.least(1)
.most(ARG_MAX);

/// A program and its arguments.
const ARGV: List<Text<Arc<str>>> = List {
    items: Text::new(argument).most(ARG_MAX),
    least: 1,
    most: LIST_MAX,
};

fn argument(text: &str) -> Result<Arc<str>, Refusal> {
    if text.contains('\0') {
        return Err(Refusal::wrong(
            "must not have a NUL character: programs cannot be given one",
        ));
    }
    if text.len() > ARG_MAX {
        let message = format!("has {} bytes in one argument; Linux allows {ARG_MAX}", text.len());
        let hint = "put the script into a file and execute that".to_owned();
        return Err(Mismatch::new(message).hint(hint).into());
    }
    Ok(text.into())
}

impl Form for ActionForm {
    type Read = ActionSpec;

    fn words(&self) -> Cow<'static, str> {
        "Exec(…), Wasm(…), Deploy(…) or a function".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let exec = exec_properties(generator);
        let wasm = generator.subschema_for::<ComponentFields>();
        let deploy = generator.subschema_for::<DeployFields>();
        json_schema!({"oneOf": [
            {"type": "object", "required": ["wasm"], "additionalProperties": false, "properties": {"wasm": wasm}},
            {"type": "object", "required": ["exec"], "additionalProperties": false, "properties": exec},
            {"type": "object", "required": ["deploy"], "additionalProperties": false, "properties": {"deploy": deploy}},
        ]})
    }

    fn read(&self, seen: Seen<'_>) -> Result<ActionSpec, Refusal> {
        let forms = "Exec(\"command\"), Exec([\"program\", \"argument\"]), Wasm(\"file.wasm\", …), Deploy(\"oci://…\") or a function; in JSON \
                     {\"exec\": …}, {\"wasm\": {\"component\": \"file.wasm\", …}} or {\"deploy\": {\"source\": \"oci://…\"}}";
        match seen {
            Seen::Value(Value::Function) => Ok(ActionSpec::Function),
            Seen::Value(Value::Exec(call)) => exec_of(call),
            Seen::Value(Value::Component(call)) => Ok(ActionSpec::Component(call.clone())),
            Seen::Value(Value::Deploy(call)) => Ok(ActionSpec::Deploy(call.clone())),
            Seen::Value(Value::Dict(entries)) => match entries.as_slice() {
                [(key, other)] if key == "wasm" => {
                    let form = "{\"wasm\": {\"component\": \"file.wasm\", …}}";
                    Err(Mismatch::expected("an object as \"wasm\"", other)
                        .hint(form.to_owned())
                        .into())
                }
                [(key, other)] if key == "deploy" => {
                    let form = "{\"deploy\": {\"source\": \"oci://…\"}}";
                    Err(Mismatch::expected("an object as \"deploy\"", other)
                        .hint(form.to_owned())
                        .into())
                }
                entries if has(entries, "exec") && !has(entries, "wasm") => exec_from(entries),
                _ => {
                    let mismatch = Mismatch::new("must have \"exec\", \"wasm\" or \"deploy\" and nothing else");
                    Err(mismatch.hint(forms.to_owned()).into())
                }
            },
            _ => Err(Refusal::Unfit {
                got: None,
                hint: Some(forms.to_owned()),
            }),
        }
    }
}

/// What an `Exec(…)` is in JSON.
pub(crate) fn exec_properties(generator: &mut SchemaGenerator) -> serde_json::Map<String, Json> {
    let mut exec = hardening::properties(generator);
    exec.insert(
        "exec".to_owned(),
        json_schema!({
            "description": "A string is a command line for /bin/sh -c; a list is a program and its arguments.",
            "oneOf": [LINE.schema(generator), ARGV.schema(generator)],
        })
        .to_value(),
    );
    exec
}

pub(crate) fn has(entries: &[(String, Item)], name: &str) -> bool {
    entries.iter().any(|(key, _)| key == name)
}

/// What an `Exec(…)` was given, each with its place.
fn given(call: &Call) -> impl Iterator<Item = (&Field, (String, Item))> {
    let given = call.arguments.iter().filter(|field| field.value != Value::None);
    given.map(|field| {
        let name = match field.name.as_str() {
            COMMAND => "exec",
            // In a file of JSON it is the command's name.
            "exec" => "\"exec\"",
            name => name,
        };
        (field, (name.to_owned(), Item::from(&field.value)))
    })
}

/// What an `Exec(…)` was given, as the object that it is in JSON.
pub(crate) fn entries(call: &Call) -> impl Iterator<Item = (String, Item)> {
    given(call).map(|(_, entry)| entry)
}

/// What an `Exec(…)` runs.
pub(crate) fn exec_of(call: &Call) -> Result<ActionSpec, Refusal> {
    let entries: Vec<(String, Item)> = entries(call).collect();
    match has(&entries, "exec") {
        true => exec_from(&entries),
        false => Err(Refusal::wrong("has no command: it is the first argument of Exec(…)")),
    }
}

/// Where the argument stands by which an `Exec(…)` is refused, if it is one of them.
pub(crate) fn refused_argument(call: &Call) -> Option<u32> {
    let command = || ("exec".to_owned(), Item::Scalar(Scalar::Str("true".to_owned())));
    given(call).find_map(|(field, entry)| {
        let is_known = field.name == COMMAND || hardening::NAMES.contains(&&*field.name);
        let alone = match field.name == COMMAND {
            true => vec![entry],
            false => vec![command(), entry],
        };
        let at = if is_known { field.value_at } else { field.name_at };
        exec_from(&alone).is_err().then_some(at)
    })
}

/// An `Exec` with all that it was given.
pub(crate) fn exec_from(entries: &[(String, Item)]) -> Result<ActionSpec, Refusal> {
    let mut hardening = Hardening::default();
    let mut command = None;
    for (key, value) in entries {
        match key.as_str() {
            "exec" => command = Some(value),
            name if hardening::NAMES.contains(&name) => hardening::set(&mut hardening, name, Seen::item(value))?,
            name @ ("uid" | "gid") => {
                let mismatch = Mismatch::new(format!("has {}, which is for commands of a component", quoted(name)));
                return Err(mismatch
                    .hint(format!(
                        "the watch has a {name} of its own: RegisterWatch(…, {name} = …)"
                    ))
                    .into());
            }
            other => {
                let mismatch = Mismatch::new(format!("has {}, which is nothing of a command", quoted(other)));
                return Err(mismatch.hint(did_you_mean(other, hardening::NAMES)).into());
            }
        }
    }
    match command {
        Some(command) => command_from(command, hardening),
        None => Err(Refusal::UNFIT),
    }
}

/// The command of an `Exec`.
fn command_from(command: &Item, hardening: Hardening) -> Result<ActionSpec, Refusal> {
    let seen = Seen::item(command);
    let items = match seen.list() {
        None => {
            let words = format!("a command line or {}", ARGV.words());
            let line = LINE.read(seen);
            let line = line.map_err(|refusal| refusal.told(seen, |got| format!("must be {words}, not {got}")));
            return Ok(ActionSpec::Shell(line?, hardening));
        }
        Some([]) => {
            let message = "must not be an empty list: the first item is the program";
            return Err(Refusal::wrong(message));
        }
        Some(items) if items.len() > ARGV.most => {
            let message = format!("must not have more than {} arguments", ARGV.most);
            return Err(Refusal::wrong(message));
        }
        Some(items) => items,
    };
    let mut argv = Vec::with_capacity(items.len());
    for item in items {
        argv.push(match ARGV.items.read(Seen::Scalar(item)) {
            Err(Refusal::Unfit { .. }) => {
                return Err(Mismatch::expected(&ARGV.words(), format!("one with {item}")).into());
            }
            read => read?,
        });
    }
    match argv.first() {
        Some(program) if program.is_empty() => Err(Refusal::wrong("must have a program as the list's first item")),
        _ => Ok(ActionSpec::Argv(argv.into(), hardening)),
    }
}

/// `on_failure`.
#[derive(Debug, Clone)]
pub(crate) enum FailureSpec {
    Plain(OnFailure),
    Retry(Arc<Call>),
}

impl FieldType for FailureSpec {
    type Form = FailureForm;
    const FORM: FailureForm = FailureForm;

    fn of(failure: Self) -> Result<Self, Refusal> {
        Ok(failure)
    }

    fn written(&self) -> Json {
        match self {
            Self::Plain(plain) => plain.written(),
            // No default has one.
            Self::Retry(_) => Json::Null,
        }
    }
}

/// One of the words, or a call of `Retry`, in JSON an object.
pub(crate) struct FailureForm;

impl Form for FailureForm {
    type Read = FailureSpec;

    fn words(&self) -> Cow<'static, str> {
        "KEEP, STOP or Retry(…)".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            OnFailure::schema(generator),
            {
                "type": "object",
                "required": ["retry"],
                "additionalProperties": false,
                "properties": {"retry": generator.subschema_for::<RetryFields>()},
            },
        ]})
    }

    fn read(&self, seen: Seen<'_>) -> Result<FailureSpec, Refusal> {
        let hint = || Some("Retry(times = 5) has it retried; in JSON {\"retry\": {\"times\": 5}}".to_owned());
        match seen {
            Seen::Value(Value::Retry(call)) => Ok(FailureSpec::Retry(call.clone())),
            Seen::Value(word @ Value::Str(_)) => match OnFailure::from_value(word) {
                Ok(plain) => Ok(FailureSpec::Plain(plain)),
                Err(Mismatch { message, hint: near }) => Err(Refusal::Wrong(Mismatch {
                    message,
                    hint: near.or_else(hint),
                })),
            },
            _ => Err(Refusal::Unfit {
                got: None,
                hint: hint(),
            }),
        }
    }
}
