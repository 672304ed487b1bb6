//! The arguments of `Rollout(…)` and `Wave(…)`: their names, what they mean to a reader, what each accepts, and their defaults.
//!
//! As in `fields`, both file formats come here and the published JSON Schema is made from the same declaration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::arguments::{Faults, arguments};
use super::collections::{Dict, Entries};
use super::declaration::{FieldType, fields};
use super::forms::{Called, Either, Form, Number, OneOf, Seen, Text, Whole, Word, Words, called};
use super::mismatch::{Mismatch, Refusal};
use super::probe::ProbeSpec;
use super::types::DURATION;
use crate::value::{Call, Field, Value};
use twitcher_model::{AtOnce, Lost, OnNewer, Rollout, RolloutName, Verify, Wave};

/// Most waves of a rollout.
const WAVES_MAX: usize = 32;
/// Most labels of a wave.
const LABELS_MAX: usize = 32;
/// A time of a week at most.
const TIME: Number = Number {
    most: 7 * 24 * 3600,
    ..DURATION
};
/// How long a host must be well, unless it is said: what comes up and falls over at once is not.
const VERIFY_FOR: Duration = Duration::from_secs(10);
/// When a host has failed that does not get well, unless it is said.
const VERIFY_DEADLINE: Duration = Duration::from_secs(300);

fields! {
    /// How the changes of a watch go out to the hosts of a fleet that have the same rollout.
    struct RolloutFields, published as "Rollout", required ["name", "at_once"];

    /// Name of the rollout: the hosts whose watches have the same one share its slots.
    name: Option<Name> = None,

    /// Most hosts that act at once: a number, or a share such as "5%" of the hosts that are there when a change comes, at least one.
    at_once: Option<Most> = None,

    /// So many hosts of the whole fleet may fail for a change; one more, and it goes no further until an operator says so.
    max_failures: Failures = Failures(0),

    /// Which hosts come when: a list of Wave(…), of which the last has all of them. Default: one wave with all.
    waves: Option<WavesSpec> = None,

    /// Seconds that a host with a slot may be away before it counts as lost, and so as failed.
    lost_after: Time = Time(Duration::from_secs(120)),

    /// What becomes of the slot of a lost host. HOLD: it is held until the host comes back, or an operator releases it. RELEASE: it is
    /// free, though the host's action may still run, so that more hosts than at_once can act at once.
    lost: Lost = Lost::Hold,

    /// What becomes of a change that is going out when a newer one comes. RESTART: the newer begins at the first wave. CARRY: it goes on in
    /// the wave that the older one has reached; for znodes that change faster than a rollout lasts.
    on_newer: OnNewer = OnNewer::Restart,

    /// What says whether a host that has acted is well: a command that is run again and again, and succeeds if it is. Only then the host
    /// gives its slot back. Default: that the action has succeeded is enough.
    verify: Option<ProbeSpec> = None,

    /// Seconds that verify must succeed without a break: less than verify_deadline, or every host would fail. Default: 10.
    verify_for: Option<Time> = None,

    /// Seconds after which a host has failed that verify has not succeeded on for verify_for, counted from the end of the action. It has
    /// failed before if too few are left. Default: 300.
    verify_deadline: Option<Time> = None,

    /// What a host does while the fleet cannot be asked. WAIT: nothing, whatever changes. A number: after so many seconds it acts without
    /// its turn, so that more hosts than at_once can act at once, and publishes that later.
    unavailable: Unavailable = Unavailable(None),
}

/// The fields of a wave.
pub(crate) mod wave {
    use super::*;

    fields! {
        /// Some of the hosts of a rollout, and what comes after them.
        struct WaveFields, published as "Wave", required [];

        /// Only hosts with all of these labels (twitcher run --label).
        labels: Labels = Labels(BTreeMap::new()),

        /// So many of a hundred of them; those that have the change already count.
        percent: Percent = Percent(100),

        /// Seconds to wait after the wave before the next one.
        bake: Time = Time(Duration::ZERO),

        /// What lets the next wave go once this one is through and baked. AUTO: nothing is needed. MANUAL: an operator (twitcher fleet promote).
        promote: Promote = Promote::Auto,

        /// What says, once the wave is through and baked, whether the next one may go: a command that runs on the host of the rollout's
        /// steward. If it succeeds the next one goes; with exit code 75 it is asked again; if it fails otherwise the rollout is halted.
        check: Option<ProbeSpec> = None,
    }
}

/// What is meant; or all that is wrong, each with the offset of its place.
pub(crate) fn read(call: &Call) -> Result<Rollout, Faults> {
    let mut fields = RolloutFields::default();
    let mut faults = arguments(call, ("Rollout", &NAMES), |name, value| fields.set(name, value));
    for required in ["name", "at_once"] {
        let given = |field: &Field| field.name == required && field.value != Value::None;
        if !call.arguments.iter().any(given) {
            let hint = "Rollout(\"repo\", at_once = 5) lets five hosts act at once".to_owned();
            faults.push((call.at, Mismatch::new(format!("Rollout needs {required}")).hint(hint)));
        }
    }
    let verify = match read_verify(call, &fields) {
        Ok(verify) => verify,
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    let mut waves = Vec::new();
    for wave in fields.waves.iter().flat_map(|waves| &waves.0) {
        match read_wave(wave) {
            Ok(wave) => waves.push(wave),
            Err(wrong) => faults.extend(wrong),
        }
    }
    let given = fields.waves.as_ref().map(|waves| &waves.0);
    if let Some(last) = given.and_then(|waves| waves.last())
        && faults.is_empty()
        && !waves.last().is_some_and(Wave::has_all)
    {
        let message = "the last wave must have all hosts, or some would never get the change";
        faults.push((
            last.at,
            Mismatch::new(message).hint("add Wave(percent = 100)".to_owned()),
        ));
    }
    match (fields.name, fields.at_once, faults.is_empty()) {
        (Some(name), Some(at_once), true) => Ok(Rollout {
            name: name.0,
            at_once: at_once.0,
            max_failures: fields.max_failures.0,
            waves: match waves.is_empty() {
                true => vec![Wave::default()],
                false => waves,
            },
            lost_after: fields.lost_after.0,
            lost: fields.lost,
            on_newer: fields.on_newer,
            verify,
            unavailable: fields.unavailable.0,
        }),
        _ => Err(faults),
    }
}

/// `verify` and how long it is asked.
fn read_verify(call: &Call, fields: &RolloutFields) -> Result<Option<Verify>, (u32, Mismatch)> {
    let given = |name: &str| call.arguments.iter().find(|field| field.name == name);
    let steady = fields.verify_for.map_or(VERIFY_FOR, |time| time.0);
    let deadline = fields.verify_deadline.map_or(VERIFY_DEADLINE, |time| time.0);
    let Some(verify) = &fields.verify else {
        // What is wrong with a verify that is given is told already.
        let lone = given("verify_for").or(given("verify_deadline"));
        return match lone.filter(|lone| lone.value != Value::None && given("verify").is_none()) {
            Some(lone) => {
                let mismatch = Mismatch::new(format!("{} goes with verify, which is not given", lone.name));
                let hint = "verify = Exec([\"/usr/local/bin/healthy\"]) says whether a host that has acted is well";
                Err((lone.value_at, mismatch.hint(hint.to_owned())))
            }
            None => Ok(None),
        };
    };
    if steady >= deadline {
        let at = given("verify_for").or(given("verify_deadline"));
        let message = format!(
            "verify_for must be less than verify_deadline, or every host would fail: {} s is not less than {} s",
            steady.as_secs_f64(),
            deadline.as_secs_f64()
        );
        let hint = "verify_deadline is counted from the end of the action, and what verify_for counts comes within it";
        return Err((
            at.map_or(call.at, |field| field.value_at),
            Mismatch::new(message).hint(hint.to_owned()),
        ));
    }
    Ok(Some(Verify {
        probe: verify.0.clone(),
        steady,
        deadline,
    }))
}

fn read_wave(call: &Call) -> Result<Wave, Faults> {
    let mut fields = wave::WaveFields::default();
    let faults = arguments(call, ("Wave", &wave::NAMES), |name, value| fields.set(name, value));
    match faults.is_empty() {
        true => Ok(Wave {
            labels: fields.labels.0,
            percent: fields.percent.0,
            bake: fields.bake.0,
            manual: fields.promote == Promote::Manual,
            check: fields.check.map(|check| check.0),
        }),
        false => Err(faults),
    }
}

/// `rollout`.
#[derive(Debug, Clone)]
pub(crate) struct RolloutSpec(pub(crate) Arc<Call>);

impl FieldType for RolloutSpec {
    type Form = RolloutForm;
    const FORM: RolloutForm = RolloutForm;

    fn of(call: Arc<Call>) -> Result<Self, Refusal> {
        Ok(Self(call))
    }
}

/// A call of `Rollout`, in JSON an object.
pub(crate) struct RolloutForm;

impl Form for RolloutForm {
    type Read = Arc<Call>;

    fn words(&self) -> Cow<'static, str> {
        "a Rollout(…)".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<RolloutFields>()
    }

    fn read(&self, seen: Seen<'_>) -> Result<Arc<Call>, Refusal> {
        match seen {
            Seen::Value(Value::Rollout(call)) => Ok(call.clone()),
            _ => Err(Refusal::Unfit {
                got: None,
                hint: Some("Rollout(\"repo\", at_once = 5); in JSON {\"name\": \"repo\", \"at_once\": 5}".to_owned()),
            }),
        }
    }
}

/// `waves`.
#[derive(Debug, Clone)]
pub(crate) struct WavesSpec(Vec<Arc<Call>>);

impl FieldType for WavesSpec {
    type Form = WavesForm;
    const FORM: WavesForm = WavesForm;

    fn of(waves: Vec<Arc<Call>>) -> Result<Self, Refusal> {
        match waves.len() {
            0..=WAVES_MAX => Ok(Self(waves)),
            _ => Err(Refusal::wrong(format!("must not have more than {WAVES_MAX} waves"))),
        }
    }
}

/// A list of calls of `Wave`, in JSON of objects.
pub(crate) struct WavesForm;

impl Form for WavesForm {
    type Read = Vec<Arc<Call>>;

    fn words(&self) -> Cow<'static, str> {
        "a list of Wave(…)".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "minItems": 1,
            "maxItems": WAVES_MAX,
            "items": generator.subschema_for::<wave::WaveFields>(),
        })
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        match seen {
            Seen::Value(Value::Waves(waves)) => Ok(waves.clone()),
            _ => Err(Refusal::Unfit {
                got: None,
                hint: Some("[Wave(labels = {\"canary\": \"yes\"}), Wave(percent = 100)]".to_owned()),
            }),
        }
    }
}

/// `name`.
#[derive(Debug, Clone)]
pub(crate) struct Name(RolloutName);

impl FieldType for Name {
    type Form = Text<RolloutName>;
    const FORM: Self::Form = Text::new(|text| {
        text.parse().map_err(|_| {
            Refusal::wrong("must be 1 to 64 letters, digits, dots, hyphens and underscores, and not only dots")
        })
    })
    .pattern("^[0-9A-Za-z._-]{1,64}$");

    fn of(name: RolloutName) -> Result<Self, Refusal> {
        Ok(Self(name))
    }
}

/// `at_once`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most(AtOnce);

impl FieldType for Most {
    type Form = MostForm;
    const FORM: MostForm = MostForm;

    fn of(most: AtOnce) -> Result<Self, Refusal> {
        Ok(Self(most))
    }
}

/// A number of hosts, or a share of them.
pub(crate) struct MostForm;

impl Form for MostForm {
    type Read = AtOnce;

    fn words(&self) -> Cow<'static, str> {
        "a number of hosts from 1 to 1000000, or a share of them from \"1%\" to \"100%\"".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "integer", "minimum": 1, "maximum": 1_000_000},
            {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"},
        ]})
    }

    fn read(&self, seen: Seen<'_>) -> Result<AtOnce, Refusal> {
        match seen {
            Seen::Value(Value::Int(hosts @ 1..=1_000_000)) => Ok(AtOnce::Hosts(*hosts as u32)),
            Seen::Value(Value::Str(text)) => {
                let digits = text.strip_suffix('%').filter(|digits| !digits.starts_with(['0', '+']));
                let percent = digits.and_then(|digits| digits.parse().ok());
                match percent.filter(|percent| (1..=100).contains(percent)) {
                    Some(percent) => Ok(AtOnce::Percent(percent)),
                    None => Err(Refusal::UNFIT),
                }
            }
            _ => Err(Refusal::UNFIT),
        }
    }
}

/// `max_failures`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failures(u32);

impl FieldType for Failures {
    type Form = Whole;
    const FORM: Whole = Whole {
        least: 0,
        most: 1_000_000,
    };

    fn of(hosts: i64) -> Result<Self, Refusal> {
        Ok(Self(hosts as u32))
    }

    fn written(&self) -> Json {
        self.0.into()
    }
}

/// `percent`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percent(u32);

impl FieldType for Percent {
    type Form = Whole;
    const FORM: Whole = Whole { least: 1, most: 100 };

    fn of(percent: i64) -> Result<Self, Refusal> {
        Ok(Self(percent as u32))
    }

    fn written(&self) -> Json {
        self.0.into()
    }
}

/// `lost_after`, `bake` and how long `verify` is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(Duration);

impl FieldType for Time {
    type Form = Called<Number>;
    const FORM: Self::Form = called("a number of seconds from 0 to 604800, a week", TIME);

    fn of(seconds: f64) -> Result<Self, Refusal> {
        Ok(Self(Duration::from_secs_f64(seconds)))
    }

    fn written(&self) -> Json {
        self.0.as_secs().into()
    }
}

/// `unavailable`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unavailable(Option<Duration>);

/// The word for waiting as long as it takes.
const WAIT: Words<()> = Words(&[(Word::Name("WAIT"), ())]);

impl FieldType for Unavailable {
    type Form = Called<Either<Words<()>, Number>>;
    const FORM: Self::Form = called(
        "WAIT or a number of seconds from 0 to 604800, a week",
        Either(WAIT, TIME),
    );

    fn of(given: OneOf<(), f64>) -> Result<Self, Refusal> {
        match given {
            OneOf::First(()) => Ok(Self(None)),
            OneOf::Second(seconds) => Time::of(seconds).map(|time| Self(Some(time.0))),
        }
    }

    fn written(&self) -> Json {
        self.0.map_or_else(|| WAIT.written(()), |time| time.as_secs().into())
    }
}

/// `promote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promote {
    Auto,
    Manual,
}

/// `labels`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels(BTreeMap<String, String>);

impl FieldType for Labels {
    type Form = Dict<Text<String>, Text<String>>;
    const FORM: Self::Form = Dict {
        words: "a dict of labels",
        keys: Text::new(|text| Ok(text.to_owned())).least(1).most(63),
        values: Text::new(|text| Ok(text.to_owned())).most(63),
        most: LABELS_MAX,
        entries: "labels",
    };

    fn of(labels: Entries<String, String>) -> Result<Self, Refusal> {
        labels.into_iter().collect::<Result<_, _>>().map(Self)
    }

    fn written(&self) -> Json {
        self.0
            .iter()
            .map(|(key, value)| (key.clone(), Json::from(value.as_str())))
            .collect()
    }
}
