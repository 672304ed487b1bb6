//! The forms that values are written in. What is read, what a message calls expected, and the published JSON Schema all come from
//! one description, so that none of them can say something else than the others.
//!
//! This module must not know fields, nor what a value is for.

use std::borrow::Cow;
use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::mismatch::Refusal;
use crate::error::did_you_mean;
use crate::value::{Inner, Item, Scalar, Value, quoted};

/// A value at any depth.
#[derive(Clone, Copy)]
pub(crate) enum Seen<'v> {
    Value(&'v Value),
    Scalar(&'v Scalar),
    /// A list within a dict.
    List(&'v [Scalar]),
    /// A dict within a dict.
    Dict(&'v [(String, Inner)]),
    /// A key of a dict.
    Key(&'v str),
}

impl<'v> Seen<'v> {
    pub(crate) fn item(item: &'v Item) -> Self {
        match item {
            Item::Scalar(scalar) => Self::Scalar(scalar),
            Item::List(items) => Self::List(items),
            Item::Dict(entries) => Self::Dict(entries),
        }
    }

    pub(crate) fn inner(inner: &'v Inner) -> Self {
        match inner {
            Inner::Scalar(scalar) => Self::Scalar(scalar),
            Inner::List(items) => Self::List(items),
        }
    }

    pub(crate) fn bool(self) -> Option<bool> {
        match self {
            Self::Value(Value::Bool(is)) | Self::Scalar(Scalar::Bool(is)) => Some(*is),
            _ => None,
        }
    }

    pub(crate) fn int(self) -> Option<i64> {
        match self {
            Self::Value(Value::Int(n)) | Self::Scalar(Scalar::Int(n)) => Some(*n),
            _ => None,
        }
    }

    pub(crate) fn text(self) -> Option<&'v str> {
        match self {
            Self::Value(Value::Str(text)) | Self::Scalar(Scalar::Str(text)) => Some(text),
            Self::Key(text) => Some(text),
            _ => None,
        }
    }

    /// The file that has the value.
    pub(crate) fn secret(self) -> Option<&'v str> {
        match self {
            Self::Scalar(Scalar::Secret(file)) => Some(file),
            _ => None,
        }
    }

    pub(crate) fn list(self) -> Option<&'v [Scalar]> {
        match self {
            Self::Value(Value::List(items)) => Some(items),
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::List(_) => f.write_str("a list"),
            Self::Dict(_) => f.write_str("a dict"),
            Self::Key(key) => f.write_str(&quoted(key)),
        }
    }
}

/// A form that values are written in.
pub(crate) trait Form {
    /// What a value of this form is read as.
    type Read;

    /// What is expected: in a message, it follows "must be".
    fn words(&self) -> Cow<'static, str>;

    /// What is expected for a key of a dict: in a message, it follows "must have".
    fn words_for(&self, key: &str) -> String {
        format!("{} for {}", self.words(), quoted(key))
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal>;
}

/// `true` or `false`.
pub(crate) struct Truth;

impl Form for Truth {
    type Read = bool;

    fn words(&self) -> Cow<'static, str> {
        "true or false".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "boolean"})
    }

    fn read(&self, seen: Seen<'_>) -> Result<bool, Refusal> {
        seen.bool().ok_or(Refusal::UNFIT)
    }
}

/// A whole number. The highest that there is stands for no bound.
pub(crate) struct Whole {
    pub(crate) least: i64,
    pub(crate) most: i64,
}

impl Form for Whole {
    type Read = i64;

    fn words(&self) -> Cow<'static, str> {
        format!("a whole number from {} to {}", self.least, self.most).into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "integer", "minimum": self.least});
        if self.most < i64::MAX {
            schema.insert("maximum".to_owned(), self.most.into());
        }
        schema
    }

    fn read(&self, seen: Seen<'_>) -> Result<i64, Refusal> {
        let within = |n: &i64| (self.least..=self.most).contains(n);
        seen.int().filter(within).ok_or(Refusal::UNFIT)
    }
}

/// A number, whole or not. Bounds are published as they are written here: 100 or 100.0.
pub(crate) struct Number<M = u32> {
    pub(crate) least: u32,
    pub(crate) most: M,
    /// Whether the least is left out.
    pub(crate) above: bool,
}

impl<M: Copy + Into<f64> + Into<Json> + fmt::Display> Form for Number<M> {
    type Read = f64;

    fn words(&self) -> Cow<'static, str> {
        format!("a number from {} to {}", self.least, self.most).into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let most: Json = self.most.into();
        let mut schema = json_schema!({"type": "number", "minimum": self.least, "maximum": most});
        if self.above {
            schema.insert("exclusiveMinimum".to_owned(), self.least.into());
        }
        schema
    }

    fn read(&self, seen: Seen<'_>) -> Result<f64, Refusal> {
        let number = match seen {
            Seen::Value(Value::Float(x)) => Some(*x),
            _ => seen.int().map(|n| n as f64),
        };
        let least = f64::from(self.least);
        let within = |x: &f64| (least..=self.most.into()).contains(x) && !(self.above && *x == least);
        number.filter(within).ok_or(Refusal::UNFIT)
    }
}

/// A word, or one of the two values that go without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Truth(bool),
    Name(&'static str),
}

impl Word {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Truth(_) => None,
            Self::Name(name) => Some(name),
        }
    }

    fn json(&self) -> Json {
        match *self {
            Self::Truth(is) => is.into(),
            Self::Name(name) => name.into(),
        }
    }

    fn is(&self, seen: Seen<'_>) -> bool {
        match *self {
            Self::Truth(is) => seen.bool() == Some(is),
            Self::Name(name) => seen.text() == Some(name),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truth(is) => is.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// One of a few words, which are constants in a `.twc` file.
pub(crate) struct Words<T: 'static>(pub(crate) &'static [(Word, T)]);

impl<T: Copy + PartialEq> Words<T> {
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<T> {
        self.0.iter().filter_map(|(word, _)| word.name())
    }

    /// Whether none of them goes without quotes in JSON.
    fn are_names(&self) -> bool {
        self.names().count() == self.0.len()
    }

    /// How a choice is written.
    pub(crate) fn written(&self, choice: T) -> Json {
        let found = self.0.iter().find(|(_, of)| *of == choice);
        found.map_or(Json::Null, |(word, _)| word.json())
    }
}

impl<T: Copy + PartialEq> Form for Words<T> {
    type Read = T;

    fn words(&self) -> Cow<'static, str> {
        let all: Vec<String> = self.0.iter().map(|(word, _)| word.to_string()).collect();
        match all.split_last() {
            Some((last, rest)) if !self.are_names() => format!("{} or {last}", rest.join(", ")).into(),
            _ => format!("one of {}", all.join(", ")).into(),
        }
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let all: Vec<Json> = self.0.iter().map(|(word, _)| word.json()).collect();
        let mut schema = json_schema!({"enum": all});
        if self.are_names() {
            schema.insert("type".to_owned(), "string".into());
        }
        schema
    }

    fn read(&self, seen: Seen<'_>) -> Result<T, Refusal> {
        match self.0.iter().find(|(word, _)| word.is(seen)) {
            Some((_, choice)) => Ok(*choice),
            None => Err(unknown_word(seen, self.names())),
        }
    }
}

/// The refusal of a value that is none of these words.
pub(crate) fn unknown_word(seen: Seen<'_>, names: impl IntoIterator<Item = &'static str>) -> Refusal {
    match seen.text() {
        Some(text) => Refusal::Unfit {
            got: Some(quoted(text)),
            hint: did_you_mean(text, names),
        },
        None => Refusal::UNFIT,
    }
}

/// One of a few strings that are written in quotes in both formats.
pub(crate) struct Literals<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy> Form for Literals<T> {
    type Read = T;

    fn words(&self) -> Cow<'static, str> {
        let all: Vec<String> = self.0.iter().map(|(text, _)| format!("{text:?}")).collect();
        all.join(" or ").into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        match self.0 {
            [(only, _)] => json_schema!({"const": only}),
            several => {
                let all: Vec<&str> = several.iter().map(|(text, _)| *text).collect();
                json_schema!({"enum": all})
            }
        }
    }

    fn read(&self, seen: Seen<'_>) -> Result<T, Refusal> {
        let found = self.0.iter().find(|(text, _)| seen.text() == Some(text));
        found.map(|(_, meant)| *meant).ok_or(Refusal::UNFIT)
    }
}

/// A text. Its bounds hold in any case; what `read` says of a text beyond them goes first, for it has the better words.
pub(crate) struct Text<T> {
    least: usize,
    most: usize,
    pattern: Option<&'static str>,
    read: fn(&str) -> Result<T, Refusal>,
}

impl<T> Text<T> {
    pub(crate) const fn new(read: fn(&str) -> Result<T, Refusal>) -> Self {
        Self {
            least: 0,
            most: usize::MAX,
            pattern: None,
            read,
        }
    }

    /// The fewest bytes that it has.
    pub(crate) const fn least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// The most bytes that it has. In the schema, they are characters: it knows no bytes.
    pub(crate) const fn most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// What editors hold a text against. It may let through what `read` refuses, and must not refuse what that takes.
    pub(crate) const fn pattern(self, pattern: &'static str) -> Self {
        Self {
            pattern: Some(pattern),
            ..self
        }
    }
}

impl<T> Form for Text<T> {
    type Read = T;

    fn words(&self) -> Cow<'static, str> {
        "a string".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "string"});
        if self.least > 0 {
            schema.insert("minLength".to_owned(), self.least.into());
        }
        if self.most < usize::MAX {
            schema.insert("maxLength".to_owned(), self.most.into());
        }
        if let Some(pattern) = self.pattern {
            schema.insert("pattern".to_owned(), pattern.into());
        }
        schema
    }

    fn read(&self, seen: Seen<'_>) -> Result<T, Refusal> {
        let text = seen.text().ok_or(Refusal::UNFIT)?;
        let read = (self.read)(text)?;
        match (self.least..=self.most).contains(&text.len()) {
            true => Ok(read),
            false => Err(Refusal::UNFIT),
        }
    }
}

/// Either of two forms.
pub(crate) struct Either<A, B>(pub(crate) A, pub(crate) B);

/// What is read of either of two forms.
pub(crate) enum OneOf<A, B> {
    First(A),
    Second(B),
}

impl<A: Form, B: Form> Form for Either<A, B> {
    type Read = OneOf<A::Read, B::Read>;

    fn words(&self) -> Cow<'static, str> {
        format!("{} or {}", self.0.words(), self.1.words()).into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [self.0.schema(generator), self.1.schema(generator)]})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        let first = match self.0.read(seen) {
            Ok(read) => return Ok(OneOf::First(read)),
            Err(refusal) => refusal,
        };
        match self.1.read(seen) {
            Ok(read) => Ok(OneOf::Second(read)),
            Err(Refusal::Wrong(mismatch)) => Err(mismatch.into()),
            Err(Refusal::Unfit { .. }) => Err(first),
        }
    }
}

/// A form with words of its own.
pub(crate) struct Called<F> {
    words: &'static str,
    form: F,
    hint: fn(Seen<'_>) -> Option<String>,
}

/// Has `form` called by these words, where its own would say too little.
pub(crate) const fn called<F>(words: &'static str, form: F) -> Called<F> {
    called_with_hint(words, |_| None, form)
}

/// As [`called`], with a hint for values of another form.
pub(crate) const fn called_with_hint<F>(
    words: &'static str,
    hint: fn(Seen<'_>) -> Option<String>,
    form: F,
) -> Called<F> {
    Called { words, form, hint }
}

impl<F: Form> Form for Called<F> {
    type Read = F::Read;

    fn words(&self) -> Cow<'static, str> {
        self.words.into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        self.form.schema(generator)
    }

    fn read(&self, seen: Seen<'_>) -> Result<F::Read, Refusal> {
        self.form.read(seen).map_err(|refusal| match refusal {
            Refusal::Unfit { got, hint } => Refusal::Unfit {
                got,
                hint: hint.or_else(|| (self.hint)(seen)),
            },
            wrong => wrong,
        })
    }
}
