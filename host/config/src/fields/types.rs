//! What each field of a watch accepts, in words, and as a JSON Schema. Those about its process are in `process_types`.
//!
//! This module must not know which fields there are, nor where a value stands in a file.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::component::ComponentFields;
use super::retry::RetryFields;
use crate::error::did_you_mean;
use crate::value::{Call, Item, Scalar, Value};
use twitcher_model::grant_syntax::{GrantSyntaxError, PATH_MAX, quoted};
use twitcher_model::{OnFailure, RunMode, RunOnLoad, WatchType, ZnodePath};

/// Longest argument of a program: the kernel's MAX_ARG_STRLEN without the final NUL. One byte more fails at every run.
pub(crate) const ARG_MAX: usize = 131_071;
/// Most arguments, names in `env`, and so on.
pub(crate) const LIST_MAX: usize = 4096;
/// Longest name, description, user or path.
pub(crate) const TEXT_MAX: usize = 255;
/// The third value of `run_on_load`.
const IF_CHANGED: &str = "IF_CHANGED";
/// Longest duration: ten years. Deadlines are sums of durations and must not overflow.
const SECONDS_MAX: f64 = 315_360_000.0;

/// Why a value does not fit a field: the end of a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Mismatch {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn expected(what: &str, got: impl std::fmt::Display) -> Self {
        Self::new(format!("must be {what}, not {got}"))
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl From<GrantSyntaxError> for Mismatch {
    fn from(error: GrantSyntaxError) -> Self {
        let GrantSyntaxError { message, hint } = error;
        Self { message, hint }
    }
}

/// A type that a field's value is read as.
pub(crate) trait FromValue: Sized {
    fn from_value(value: &Value) -> Result<Self, Mismatch>;
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(b) => Ok(*b),
            other => Err(Mismatch::expected("true or false", other)),
        }
    }
}

impl FromValue for RunOnLoad {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(true) => Ok(RunOnLoad::Always),
            Value::Bool(false) => Ok(RunOnLoad::Never),
            Value::Str(text) if text == IF_CHANGED => Ok(RunOnLoad::IfChanged),
            Value::Str(text) => {
                Err(Mismatch::expected("true, false or IF_CHANGED", quoted(text))
                    .hint(did_you_mean(text, [IF_CHANGED])))
            }
            other => Err(Mismatch::expected("true, false or IF_CHANGED", other)),
        }
    }
}

pub(crate) fn run_on_load_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": [true, false, IF_CHANGED]})
}

/// A text for people: names and descriptions. They stand in logs and tables, so a line break in one would forge lines.
impl FromValue for Arc<str> {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let Value::Str(text) = value else {
            return Err(Mismatch::expected("a string", value));
        };
        if text.trim().is_empty() {
            return Err(Mismatch::new("must not be empty"));
        }
        if text.len() > TEXT_MAX {
            return Err(Mismatch::new(format!("must not be longer than {TEXT_MAX} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(Mismatch::new("must not have line breaks or other control characters"));
        }
        Ok(text.as_str().into())
    }
}

/// The path of a znode.
#[derive(Debug, Clone)]
pub(crate) struct Znode(pub(crate) ZnodePath);

impl FromValue for Znode {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let Value::Str(path) = value else {
            return Err(Mismatch::expected("a string", value));
        };
        if path.len() > PATH_MAX {
            return Err(Mismatch::new(format!("must not be longer than {PATH_MAX} bytes")));
        }
        match ZnodePath::new(path.as_str()) {
            Ok(path) => Ok(Self(path)),
            // The error begins with "znode path", and the name of the field will stand before it.
            Err(error) => Err(Mismatch::new(error.to_string().trim_start_matches("znode "))),
        }
    }
}

impl JsonSchema for Znode {
    fn schema_name() -> Cow<'static, str> {
        "Znode".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^/([^/]+(/[^/]+)*)?$", "maxLength": PATH_MAX})
    }
}

/// What a watch runs.
#[derive(Debug, Clone)]
pub(crate) enum ActionSpec {
    Shell(Arc<str>),
    Argv(Arc<[Arc<str>]>),
    Function,
    /// Its arguments are read where an error in one of them can be placed.
    Component(Arc<Call>),
}

impl FromValue for ActionSpec {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let forms = || {
            "Exec(\"command\"), Exec([\"program\", \"argument\"]), Wasm(\"file.wasm\", …) or a function; in JSON {\"exec\": …} or \
             {\"wasm\": {\"component\": \"file.wasm\", …}}"
                .to_owned()
        };
        match value {
            Value::Function => Ok(Self::Function),
            Value::Component(call) => Ok(Self::Component(call.clone())),
            Value::Dict(entries) => match entries.as_slice() {
                [(key, command)] if key == "exec" => command_from(command),
                [(key, other)] if key == "wasm" => {
                    let form = "{\"wasm\": {\"component\": \"file.wasm\", …}}";
                    Err(Mismatch::expected("an object as \"wasm\"", other).hint(form.to_owned()))
                }
                _ => Err(Mismatch::new("must have \"exec\" or \"wasm\" and nothing else").hint(forms())),
            },
            other => Err(Mismatch::expected("Exec(…), Wasm(…) or a function", other).hint(forms())),
        }
    }
}

/// The command of an `Exec`.
fn command_from(command: &Item) -> Result<ActionSpec, Mismatch> {
    match command {
        Item::Scalar(Scalar::Str(line)) if line.trim().is_empty() => Err(Mismatch::new("must not be an empty command")),
        Item::Scalar(Scalar::Str(line)) => Ok(ActionSpec::Shell(argument(line)?)),
        Item::List(items) if items.is_empty() => Err(Mismatch::new(
            "must not be an empty list: the first item is the program",
        )),
        Item::List(items) if items.len() > LIST_MAX => {
            Err(Mismatch::new(format!("must not have more than {LIST_MAX} arguments")))
        }
        Item::List(items) => {
            let mut argv = Vec::with_capacity(items.len());
            for item in items {
                match item {
                    Scalar::Str(text) => argv.push(argument(text)?),
                    other => return Err(Mismatch::expected("a list of strings", format!("one with {other}"))),
                }
            }
            match argv.first() {
                Some(program) if program.is_empty() => {
                    Err(Mismatch::new("must have a program as the list's first item"))
                }
                _ => Ok(ActionSpec::Argv(argv.into())),
            }
        }
        other => Err(Mismatch::expected("a command line or a list of strings", other)),
    }
}

fn argument(text: &str) -> Result<Arc<str>, Mismatch> {
    if text.contains('\0') {
        return Err(Mismatch::new(
            "must not have a NUL character: programs cannot be given one",
        ));
    }
    if text.len() > ARG_MAX {
        return Err(Mismatch::new(format!(
            "has {} bytes in one argument; Linux allows {ARG_MAX}",
            text.len()
        ))
        .hint("put the script into a file and execute that".to_owned()));
    }
    Ok(text.into())
}

impl JsonSchema for ActionSpec {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false,
            "properties": {
                "wasm": generator.subschema_for::<ComponentFields>(),
                "exec": {
                    "description": "A string is a command line for /bin/sh -c; a list is a program and its arguments.",
                    "oneOf": [
                        {"type": "string", "minLength": 1, "maxLength": ARG_MAX},
                        {"type": "array", "minItems": 1, "maxItems": LIST_MAX, "items": {"type": "string", "maxLength": ARG_MAX}},
                    ],
                },
            },
        })
    }
}

const WATCH_TYPES: [(&str, WatchType); 3] = [
    ("WATCH_DATA", WatchType::Data),
    ("WATCH_CHILDREN", WatchType::Children),
    ("WATCH_TREE", WatchType::Tree),
];
const RUN_MODES: [(&str, RunMode); 4] = [
    ("QUEUE", RunMode::Queue),
    ("DISCARD", RunMode::Discard),
    ("PARALLEL", RunMode::Parallel),
    ("RESTART", RunMode::Restart),
];
const ON_FAILURES: [(&str, OnFailure); 2] = [("KEEP", OnFailure::Keep), ("STOP", OnFailure::Stop)];

/// The names that are constants of a `.twc` file, beside the signals'. Each stands for itself as a string.
pub(crate) fn constants() -> impl Iterator<Item = &'static str> {
    let types = WATCH_TYPES.iter().map(|(name, _)| *name);
    let modes = RUN_MODES.iter().map(|(name, _)| *name);
    let failures = ON_FAILURES.iter().map(|(name, _)| *name);
    types.chain(modes).chain(failures).chain([IF_CHANGED])
}

/// One of a few named values.
fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, Mismatch> {
    let names = || choices.iter().map(|(name, _)| *name);
    let all = names().collect::<Vec<_>>().join(", ");
    let Value::Str(text) = value else {
        return Err(Mismatch::expected(&format!("one of {all}"), value));
    };
    match choices.iter().find(|(name, _)| name == text) {
        Some((_, choice)) => Ok(*choice),
        None => Err(Mismatch::expected(&format!("one of {all}"), quoted(text)).hint(did_you_mean(text, names()))),
    }
}

fn choice_schema<T>(choices: &[(&str, T)]) -> Schema {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    json_schema!({"type": "string", "enum": names})
}

impl FromValue for WatchType {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        choice(value, &WATCH_TYPES)
    }
}

impl FromValue for RunMode {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        choice(value, &RUN_MODES)
    }
}

impl FromValue for OnFailure {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        choice(value, &ON_FAILURES)
    }
}

/// `on_failure`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum FailureSpec {
    Plain(OnFailure),
    /// Its arguments are read where an error in one of them can be placed.
    #[serde(skip)]
    Retry(Arc<Call>),
}

impl FromValue for FailureSpec {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let forms = "Retry(times = 5) has it retried; in JSON {\"retry\": {\"times\": 5}}";
        match value {
            Value::Retry(call) => Ok(Self::Retry(call.clone())),
            Value::Str(_) => match choice(value, &ON_FAILURES) {
                Ok(plain) => Ok(Self::Plain(plain)),
                Err(mismatch) if mismatch.hint.is_none() => Err(mismatch.hint(forms.to_owned())),
                Err(mismatch) => Err(mismatch),
            },
            other => Err(Mismatch::expected("KEEP, STOP or Retry(…)", other).hint(forms.to_owned())),
        }
    }
}

pub(crate) fn watch_type_schema(_: &mut SchemaGenerator) -> Schema {
    choice_schema(&WATCH_TYPES)
}

pub(crate) fn run_mode_schema(_: &mut SchemaGenerator) -> Schema {
    choice_schema(&RUN_MODES)
}

pub(crate) fn then_schema(_: &mut SchemaGenerator) -> Schema {
    choice_schema(&ON_FAILURES)
}

pub(crate) fn on_failure_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"oneOf": [
        choice_schema(&ON_FAILURES),
        {
            "type": "object",
            "required": ["retry"],
            "additionalProperties": false,
            "properties": {"retry": generator.subschema_for::<RetryFields>()},
        },
    ]})
}

/// `max_parallel`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct MaxParallel(pub(crate) u32);

impl MaxParallel {
    const MAX: u32 = 10_000;
}

impl FromValue for MaxParallel {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Int(n) if (1..=i64::from(Self::MAX)).contains(n) => Ok(Self(*n as u32)),
            other => Err(Mismatch::expected(
                &format!("a whole number from 1 to {}", Self::MAX),
                other,
            )),
        }
    }
}

impl JsonSchema for MaxParallel {
    fn schema_name() -> Cow<'static, str> {
        "MaxParallel".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": Self::MAX})
    }
}

/// A duration in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl Seconds {
    pub(crate) const fn new(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) fn above_zero(value: &Value) -> Result<Self, Mismatch> {
        match Self::from_value(value) {
            Ok(seconds) if !seconds.0.is_zero() => Ok(seconds),
            _ => Err(Mismatch::expected(
                "a number of seconds above 0 and at most 10 years",
                value,
            )),
        }
    }
}

impl FromValue for Seconds {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let seconds = match value {
            Value::Int(n) => *n as f64,
            Value::Float(x) => *x,
            _ => f64::NAN,
        };
        if !(0.0..=SECONDS_MAX).contains(&seconds) {
            return Err(Mismatch::expected("a number of seconds from 0 to 10 years", value));
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.as_secs())
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": SECONDS_MAX as u64})
    }
}

/// A signal by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalNumber(pub(crate) i32);

impl FromValue for SignalNumber {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let names = || Signal::iterator().map(Signal::as_str);
        match value {
            Value::Int(n) => match i32::try_from(*n).ok().and_then(|n| Signal::try_from(n).ok()) {
                Some(signal) => Ok(Self(signal as i32)),
                None => Err(Mismatch::expected("a signal's name or number", value)),
            },
            Value::Str(name) => match Signal::iterator().find(|signal| signal.as_str() == name) {
                Some(signal) => Ok(Self(signal as i32)),
                None => {
                    Err(Mismatch::expected("a signal's name or number", quoted(name)).hint(did_you_mean(name, names())))
                }
            },
            other => Err(Mismatch::expected("a signal's name or number", other)),
        }
    }
}

impl JsonSchema for SignalNumber {
    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Signal::iterator().map(Signal::as_str).collect();
        json_schema!({"oneOf": [{"enum": names}, {"type": "integer", "minimum": 1, "maximum": 31}]})
    }
}
