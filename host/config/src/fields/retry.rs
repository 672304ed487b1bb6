//! The arguments of `Retry(…)`: their names, what they mean to a reader, what each accepts, and their defaults.
//!
//! As in `fields`, both file formats come here and the published JSON Schema is made from the same struct.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::types::{FromValue, Mismatch, Seconds};
use crate::error::did_you_mean;
use crate::value::{Call, Field, Scalar, Value, quoted};
use twitcher_model::{OnFailure, Retry};

/// Every argument. The first can also be given by position.
pub(crate) const NAMES: [&str; 7] = ["times", "initial", "factor", "max_delay", "jitter", "codes", "then"];

/// Most arguments of one call, known or not.
const ARGUMENTS_MAX: usize = 32;
/// Most retries: with the longest delay, more than anyone waits for.
const TIMES_MAX: u32 = 1_000_000;
const FACTOR_MAX: f64 = 100.0;
/// Longest delay, in seconds: a day.
const DELAY_MAX: u64 = 24 * 3600;

/// When and how often a failed run is run again for the same state. A newer update ends that, and starts counting anew.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(rename = "Retry", default, deny_unknown_fields)]
pub(crate) struct RetryFields {
    /// Most retries of one update, after its first run.
    pub(crate) times: Times,
    /// Seconds before the first retry.
    pub(crate) initial: Seconds,
    /// By how much the time grows with each retry.
    pub(crate) factor: Factor,
    /// Most seconds before a retry. Only a component can ask for more.
    pub(crate) max_delay: Seconds,
    /// The share of each time, 0 to 1, that is left off at random, at most: so hosts that failed as one do not retry as one.
    pub(crate) jitter: Jitter,
    /// The exit codes that are retried; empty: every failure is. With codes, timeouts and programs that cannot be started are not
    /// retried; a death by signal N counts as 128 + N. A component that asks for a retry gets it in any case.
    pub(crate) codes: Codes,
    /// What a failure leads to that is not, or no longer, retried.
    #[schemars(schema_with = "super::types::then_schema")]
    pub(crate) then: OnFailure,
}

impl Default for RetryFields {
    fn default() -> Self {
        let Retry {
            times,
            initial,
            factor,
            max_delay,
            jitter,
            codes,
        } = Retry::default();
        Self {
            times: Times(times),
            initial: Seconds(initial),
            factor: Factor(factor),
            max_delay: Seconds(max_delay),
            jitter: Jitter(jitter),
            codes: Codes(codes),
            then: OnFailure::Keep,
        }
    }
}

impl RetryFields {
    /// Sets one argument. A value of none leaves the default; a name that is not of [`NAMES`] is left to the caller and changes
    /// nothing.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<(), Mismatch> {
        if matches!(value, Value::None) {
            return Ok(());
        }
        match name {
            "times" => self.times = FromValue::from_value(value)?,
            "initial" => self.initial = delay(value)?,
            "factor" => self.factor = FromValue::from_value(value)?,
            "max_delay" => self.max_delay = delay(value)?,
            "jitter" => self.jitter = FromValue::from_value(value)?,
            "codes" => self.codes = FromValue::from_value(value)?,
            "then" => self.then = FromValue::from_value(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// What is meant; or all that is wrong, each with the offset of its place.
pub(crate) fn read(call: &Call) -> Result<(Retry, OnFailure), Vec<(u32, Mismatch)>> {
    if call.arguments.len() > ARGUMENTS_MAX {
        let message = format!("Retry has no more than {} arguments", NAMES.len());
        return Err(vec![(call.at, Mismatch::new(message))]);
    }
    let mut fields = RetryFields::default();
    let mut faults = Vec::new();
    for Field {
        name,
        name_at,
        value_at,
        value,
    } in &call.arguments
    {
        if !NAMES.contains(&name.as_str()) {
            let mismatch = Mismatch::new(format!("unknown argument {} of Retry", quoted(name)));
            faults.push((*name_at, mismatch.hint(did_you_mean(name, NAMES))));
        } else if let Err(mismatch) = fields.set(name, value) {
            let message = format!("{name} {}", mismatch.message);
            faults.push((*value_at, Mismatch { message, ..mismatch }));
        }
    }
    if faults.is_empty() && fields.initial.0 > fields.max_delay.0 {
        let given = |name: &str| {
            call.arguments
                .iter()
                .find(|field| field.name == name && field.value != Value::None)
        };
        let at = given("max_delay")
            .or_else(|| given("initial"))
            .map_or(call.at, |field| field.value_at);
        faults.push((at, Mismatch::new("max_delay must not be less than initial")));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let retry = Retry {
        times: fields.times.0,
        initial: fields.initial.0,
        factor: fields.factor.0,
        max_delay: fields.max_delay.0,
        jitter: fields.jitter.0,
        codes: fields.codes.0,
    };
    Ok((retry, fields.then))
}

fn delay(value: &Value) -> Result<Seconds, Mismatch> {
    match Seconds::from_value(value) {
        Ok(seconds) if seconds.0 <= Duration::from_secs(DELAY_MAX) => Ok(seconds),
        _ => Err(Mismatch::expected("a number of seconds from 0 to 86400, a day", value)),
    }
}

/// `times`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Times(u32);

impl FromValue for Times {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Int(n) if (1..=i64::from(TIMES_MAX)).contains(n) => Ok(Self(*n as u32)),
            other => Err(Mismatch::expected(
                &format!("a whole number from 1 to {TIMES_MAX}"),
                other,
            )),
        }
    }
}

impl JsonSchema for Times {
    fn schema_name() -> Cow<'static, str> {
        "Times".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": TIMES_MAX})
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Int(n) => *n as f64,
        Value::Float(x) => *x,
        _ => f64::NAN,
    }
}

/// A number in thousandths, as a number.
fn serialize<S: serde::Serializer>(thousandths: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    match thousandths % 1000 {
        0 => serializer.serialize_u32(thousandths / 1000),
        _ => serializer.serialize_f64(f64::from(*thousandths) / 1000.0),
    }
}

/// `factor`, in thousandths.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Factor(#[serde(serialize_with = "serialize")] u32);

impl FromValue for Factor {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match number(value) {
            factor if (1.0..=FACTOR_MAX).contains(&factor) => Ok(Self((factor * 1000.0).round() as u32)),
            _ => Err(Mismatch::expected(&format!("a number from 1 to {FACTOR_MAX}"), value)),
        }
    }
}

impl JsonSchema for Factor {
    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 1, "maximum": FACTOR_MAX})
    }
}

/// `jitter`, in thousandths.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Jitter(#[serde(serialize_with = "serialize")] u32);

impl FromValue for Jitter {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match number(value) {
            share if (0.0..=1.0).contains(&share) => Ok(Self((share * 1000.0).round() as u32)),
            _ => Err(Mismatch::expected("a share from 0 to 1", value)),
        }
    }
}

impl JsonSchema for Jitter {
    fn schema_name() -> Cow<'static, str> {
        "Jitter".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

/// `codes`, in order, each once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Codes(Vec<u8>);

impl FromValue for Codes {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let expected = |got: &dyn std::fmt::Display| Mismatch::expected("a list of exit codes from 1 to 255", got);
        let Value::List(items) = value else {
            return Err(expected(value));
        };
        let mut codes = Vec::with_capacity(items.len().min(255));
        for item in items {
            match item {
                Scalar::Int(code @ 1..=255) => codes.push(*code as u8),
                other => return Err(expected(&format_args!("one with {other}"))),
            }
        }
        codes.sort_unstable();
        codes.dedup();
        Ok(Self(codes))
    }
}

impl JsonSchema for Codes {
    fn schema_name() -> Cow<'static, str> {
        "Codes".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 255}})
    }
}
