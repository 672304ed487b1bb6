//! The arguments of `Retry(…)`: their names, what they mean to a reader, what each accepts, and their defaults.
//!
//! As in `fields`, both file formats come here and the published JSON Schema is made from the same declaration.

use std::time::Duration;

use serde_json::Value as Json;

use super::arguments::arguments;
use super::collections::List;
use super::declaration::{FieldType, fields};
use super::forms::{Called, Number, Whole, called};
use super::mismatch::{Mismatch, Refusal};
use super::types::DURATION;
use crate::value::{Call, Value};
use twitcher_model::{OnFailure, Retry};

/// Longest delay, in seconds: a day.
const DELAY_MAX: u64 = 24 * 3600;

fields! {
    /// When and how often a failed run is run again for the same state. A newer update ends that, and starts counting anew.
    struct RetryFields, published as "Retry", required [];

    /// Most retries of one update, after its first run.
    times: Times = Times(Retry::default().times),

    /// Seconds before the first retry.
    initial: Delay = Delay(Retry::default().initial),

    /// By how much the time grows with each retry.
    factor: Factor = Factor(Retry::default().factor),

    /// Most seconds before a retry. Only a component can ask for more.
    max_delay: Delay = Delay(Retry::default().max_delay),

    /// The share of each time, 0 to 1, that is left off at random, at most: so hosts that failed as one do not retry as one.
    jitter: Jitter = Jitter(Retry::default().jitter),

    /// The exit codes that are retried; empty: every failure is. With codes, timeouts and programs that cannot be started are not
    /// retried; a death by signal N counts as 128 + N. A component that asks for a retry gets it in any case.
    codes: Codes = Codes(Retry::default().codes),

    /// What a failure leads to that is not, or no longer, retried.
    then: OnFailure = OnFailure::Keep,
}

/// What is meant; or all that is wrong, each with the offset of its place.
pub(crate) fn read(call: &Call) -> Result<(Retry, OnFailure), Vec<(u32, Mismatch)>> {
    let mut fields = RetryFields::default();
    let mut faults = arguments(call, ("Retry", &NAMES), |name, value| fields.set(name, value));
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

/// `times`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times(u32);

impl FieldType for Times {
    type Form = Whole;
    /// With the longest delay, the most are more than anyone waits for.
    const FORM: Whole = Whole {
        least: 1,
        most: 1_000_000,
    };

    fn of(times: i64) -> Result<Self, Refusal> {
        Ok(Self(times as u32))
    }

    fn written(&self) -> Json {
        self.0.into()
    }
}

/// `initial` and `max_delay`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delay(Duration);

impl FieldType for Delay {
    type Form = Called<Number>;
    const FORM: Self::Form = called("a number of seconds from 0 to 86400, a day", DURATION);

    fn of(seconds: f64) -> Result<Self, Refusal> {
        match Duration::from_secs_f64(seconds) {
            delay if delay <= Duration::from_secs(DELAY_MAX) => Ok(Self(delay)),
            _ => Err(Refusal::UNFIT),
        }
    }

    fn written(&self) -> Json {
        self.0.as_secs().into()
    }
}

/// A number as thousandths.
fn thousandths(number: f64) -> u32 {
    (number * 1000.0).round() as u32
}

/// Thousandths as a number.
fn number(thousandths: u32) -> Json {
    match thousandths % 1000 {
        0 => (thousandths / 1000).into(),
        _ => (f64::from(thousandths) / 1000.0).into(),
    }
}

/// `factor`, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor(u32);

impl FieldType for Factor {
    type Form = Number<f64>;
    const FORM: Self::Form = Number {
        least: 1,
        most: 100.0,
        above: false,
    };

    fn of(factor: f64) -> Result<Self, Refusal> {
        Ok(Self(thousandths(factor)))
    }

    fn written(&self) -> Json {
        number(self.0)
    }
}

/// `jitter`, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jitter(u32);

impl FieldType for Jitter {
    type Form = Called<Number>;
    const FORM: Self::Form = called(
        "a share from 0 to 1",
        Number {
            least: 0,
            most: 1,
            above: false,
        },
    );

    fn of(share: f64) -> Result<Self, Refusal> {
        Ok(Self(thousandths(share)))
    }

    fn written(&self) -> Json {
        number(self.0)
    }
}

/// `codes`, in order, each once.
#[derive(Debug, Clone)]
pub(crate) struct Codes(Vec<u8>);

impl FieldType for Codes {
    type Form = Called<List<Whole>>;
    const FORM: Self::Form = called(
        "a list of exit codes from 1 to 255",
        List {
            items: Whole { least: 1, most: 255 },
            least: 0,
            most: usize::MAX,
        },
    );

    fn of(codes: Vec<i64>) -> Result<Self, Refusal> {
        let mut codes: Vec<u8> = codes.into_iter().map(|code| code as u8).collect();
        codes.sort_unstable();
        codes.dedup();
        Ok(Self(codes))
    }

    fn written(&self) -> Json {
        self.0.as_slice().into()
    }
}
