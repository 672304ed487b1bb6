//! What the fields of a watch accept, but those about its process (see `process`) and those that can be calls (see `calls`).
//!
//! This module must not know which fields there are, nor where a value stands in a file.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::collections::List;
use super::declaration::FieldType;
use super::forms::{Called, Either, Form, Number, OneOf, Seen, Text, Truth, Whole, Word, Words, called, unknown_word};
use super::mismatch::Refusal;
use super::rollout::Promote;
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{Lost, OnFailure, OnNewer, Payload, RunMode, RunOnLoad, Share, WatchType, ZnodePath};

/// Longest argument of a program: the kernel's MAX_ARG_STRLEN without the final NUL. One byte more fails at every run.
pub(crate) const ARG_MAX: usize = 131_071;
/// Most arguments, names in `env`, and so on.
pub(crate) const LIST_MAX: usize = 4096;
/// Longest name, description, user or path.
pub(crate) const TEXT_MAX: usize = 255;
/// Longest duration: ten years. Deadlines are sums of durations and must not overflow.
const SECONDS_MAX: u32 = 315_360_000;

impl FieldType for bool {
    type Form = Truth;
    const FORM: Truth = Truth;

    fn of(is: bool) -> Result<Self, Refusal> {
        Ok(is)
    }

    fn written(&self) -> Json {
        (*self).into()
    }
}

/// A text for people: names and descriptions. They stand in logs and tables, so a line break in one would forge lines.
impl FieldType for Arc<str> {
    type Form = Text<Self>;
    const FORM: Text<Self> = Text::new(text_for_people).least(1).most(TEXT_MAX);

    fn of(text: Self) -> Result<Self, Refusal> {
        Ok(text)
    }
}

fn text_for_people(text: &str) -> Result<Arc<str>, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::wrong("must not be empty"));
    }
    if text.len() > TEXT_MAX {
        return Err(Refusal::wrong(format!("must not be longer than {TEXT_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::wrong("must not have line breaks or other control characters"));
    }
    Ok(text.into())
}

/// The path of a znode, or those of several.
#[derive(Debug, Clone)]
pub(crate) struct Znodes {
    pub(crate) first: ZnodePath,
    pub(crate) more: Vec<ZnodePath>,
}

/// Most znodes of one watch.
const ZNODES_MAX: usize = 100;
const PATH: Text<ZnodePath> = Text::new(znode_path).most(PATH_MAX).pattern("^/([^/]+(/[^/]+)*)?$");

impl FieldType for Znodes {
    type Form = Either<Text<ZnodePath>, List<Text<ZnodePath>>>;
    const FORM: Self::Form = Either(
        PATH,
        List {
            items: PATH,
            least: 1,
            most: ZNODES_MAX,
        },
    );

    fn of(paths: OneOf<ZnodePath, Vec<ZnodePath>>) -> Result<Self, Refusal> {
        let mut paths = match paths {
            OneOf::First(path) => vec![path],
            OneOf::Second(paths) => paths,
        };
        // A list has one item at least.
        let more = paths.split_off(1);
        match paths.pop() {
            Some(first) => Ok(Self { first, more }),
            None => Err(Refusal::UNFIT),
        }
    }
}

fn znode_path(path: &str) -> Result<ZnodePath, Refusal> {
    if path.len() > PATH_MAX {
        return Err(Refusal::wrong(format!("must not be longer than {PATH_MAX} bytes")));
    }
    // The error begins with "znode path", and the name of the field will stand before it.
    ZnodePath::new(path).map_err(|error| Refusal::wrong(error.to_string().trim_start_matches("znode ")))
}

const WATCH_TYPES: Words<WatchType> = Words(&[
    (Word::Name("WATCH_DATA"), WatchType::Data),
    (Word::Name("WATCH_CHILDREN"), WatchType::Children),
    (Word::Name("WATCH_TREE"), WatchType::Tree),
]);
const PAYLOADS: Words<Payload> = Words(&[(Word::Name("DATA"), Payload::Data), (Word::Name("JSON"), Payload::Json)]);
const RUN_MODES: Words<RunMode> = Words(&[
    (Word::Name("QUEUE"), RunMode::Queue),
    (Word::Name("DISCARD"), RunMode::Discard),
    (Word::Name("PARALLEL"), RunMode::Parallel),
    (Word::Name("RESTART"), RunMode::Restart),
]);
const ON_FAILURES: Words<OnFailure> = Words(&[
    (Word::Name("KEEP"), OnFailure::Keep),
    (Word::Name("STOP"), OnFailure::Stop),
]);
const RUNS_ON_LOAD: Words<RunOnLoad> = Words(&[
    (Word::Truth(true), RunOnLoad::Always),
    (Word::Truth(false), RunOnLoad::Never),
    (Word::Name("IF_CHANGED"), RunOnLoad::IfChanged),
]);
const LOST: Words<Lost> = Words(&[(Word::Name("HOLD"), Lost::Hold), (Word::Name("RELEASE"), Lost::Release)]);
const ON_NEWER: Words<OnNewer> = Words(&[
    (Word::Name("RESTART"), OnNewer::Restart),
    (Word::Name("CARRY"), OnNewer::Carry),
]);
const PROMOTE: Words<Promote> = Words(&[
    (Word::Name("AUTO"), Promote::Auto),
    (Word::Name("MANUAL"), Promote::Manual),
]);

/// The names that are constants of a `.twc` file, beside the signals'. Each stands for itself as a string.
pub(crate) fn constants() -> impl Iterator<Item = &'static str> {
    let of_watches = WATCH_TYPES.names().chain(PAYLOADS.names()).chain(RUN_MODES.names());
    let of_rollouts = LOST.names().chain(["CARRY", "WAIT"]).chain(PROMOTE.names());
    of_watches
        .chain(ON_FAILURES.names())
        .chain(RUNS_ON_LOAD.names())
        .chain(of_rollouts)
}

/// Declares types of the model as the words that they are written in.
macro_rules! of_words {
    ($($type:ty: $words:ident),*) => {
        $(impl FieldType for $type {
            type Form = Words<Self>;
            const FORM: Words<Self> = $words;

            fn of(choice: Self) -> Result<Self, Refusal> {
                Ok(choice)
            }

            fn written(&self) -> Json {
                $words.written(*self)
            }
        })*
    };
}

of_words!(WatchType: WATCH_TYPES, Payload: PAYLOADS, RunMode: RUN_MODES, OnFailure: ON_FAILURES, RunOnLoad: RUNS_ON_LOAD);
of_words!(Lost: LOST, OnNewer: ON_NEWER, Promote: PROMOTE);

/// `max_parallel`, and the limit of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxParallel(pub(crate) u32);

impl FieldType for MaxParallel {
    type Form = Whole;
    const FORM: Whole = Whole { least: 1, most: 10_000 };

    fn of(most: i64) -> Result<Self, Refusal> {
        Ok(Self(most as u32))
    }

    fn written(&self) -> Json {
        self.0.into()
    }
}

/// A duration in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds(pub(crate) Duration);

/// The form of all durations; those that have tighter bounds check them when they are read.
pub(crate) const DURATION: Number = Number {
    least: 0,
    most: SECONDS_MAX,
    above: false,
};

impl Seconds {
    pub(crate) const fn new(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FieldType for Seconds {
    type Form = Called<Number>;
    const FORM: Self::Form = called("a number of seconds from 0 to 10 years", DURATION);

    fn of(seconds: f64) -> Result<Self, Refusal> {
        Ok(Self(Duration::from_secs_f64(seconds)))
    }

    fn written(&self) -> Json {
        self.0.as_secs().into()
    }
}

/// `timeout`: a duration that is not zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeout(pub(crate) Duration);

impl FieldType for Timeout {
    type Form = Called<Number>;
    const FORM: Self::Form = called(
        "a number of seconds above 0 and at most 10 years",
        Number {
            above: true,
            ..DURATION
        },
    );

    fn of(seconds: f64) -> Result<Self, Refusal> {
        match Duration::from_secs_f64(seconds) {
            // Above 0 as a number, and less than half a nanosecond.
            Duration::ZERO => Err(Refusal::UNFIT),
            timeout => Ok(Self(timeout)),
        }
    }
}

/// `refuse_shrink`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShrinkShare(pub(crate) Share);

impl FieldType for ShrinkShare {
    type Form = Called<Number<f64>>;
    // Nothing can lose more than all.
    const FORM: Self::Form = called(
        "a share from 0 to 0.999",
        Number {
            least: 0,
            most: 0.999,
            above: false,
        },
    );

    fn of(share: f64) -> Result<Self, Refusal> {
        Ok(Self(Share((share * 1000.0).round() as u16)))
    }
}

/// A signal by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalNumber(pub(crate) i32);

impl FieldType for SignalNumber {
    type Form = Called<Either<SignalName, Whole>>;
    const FORM: Self::Form = called(
        "a signal's name or number",
        Either(SignalName, Whole { least: 1, most: 31 }),
    );
    const DEFINITION: Option<&'static str> = Some("Signal");

    fn of(signal: OneOf<Signal, i64>) -> Result<Self, Refusal> {
        let signal = match signal {
            OneOf::First(signal) => Some(signal),
            OneOf::Second(number) => Signal::try_from(number as i32).ok(),
        };
        signal.map(|signal| Self(signal as i32)).ok_or(Refusal::UNFIT)
    }
}

/// One of the names that the system has for signals, which are constants in a `.twc` file.
pub(crate) struct SignalName;

impl Form for SignalName {
    type Read = Signal;

    fn words(&self) -> Cow<'static, str> {
        "a signal's name".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Signal::iterator().map(Signal::as_str).collect();
        json_schema!({"enum": names})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Signal, Refusal> {
        let found = Signal::iterator().find(|signal| seen.text() == Some(signal.as_str()));
        found.ok_or_else(|| unknown_word(seen, Signal::iterator().map(Signal::as_str)))
    }
}
