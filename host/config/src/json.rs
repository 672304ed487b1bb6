//! `.json` configuration files: watches as data, for generated configurations.
//!
//! This module finds out what stands where. It must not know what a field means.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ConfigError, SourceText, TextPosition};
use super::value::{Call, Field, Inner, Item, Registered, Registration, Scalar, Value};

/// Most watches in one file.
pub(super) const WATCHES_MAX: usize = 100_000;

/// What a file holds: the watches as they are written, and what is wrong with those that are not even objects.
pub(super) type Contents = (Vec<Registration>, Vec<ConfigError>);

/// Reads a list of objects, or an object with such a list as `watches`.
pub(super) fn parse(source: &SourceText) -> Result<Contents, ConfigError> {
    let text = &*source.text;
    let document: &RawValue = serde_json::from_str(text).map_err(|error| syntax(source, &error))?;
    match document.get().as_bytes().first() {
        Some(b'[') => list(source, document),
        Some(b'{') => wrapped(source, document),
        _ => Err(source.error(offset(text, document.get()), "the file must hold a list of watches")),
    }
}

/// The document that names its schema beside the watches.
fn wrapped(source: &SourceText, document: &RawValue) -> Result<Contents, ConfigError> {
    let mut watches = None;
    for (name, name_at, value) in members(source, document)? {
        match name.as_str() {
            "watches" => watches = Some(value),
            "$schema" => {}
            _ => {
                let error = source.error(name_at, format!("unknown field {}", super::value::quoted(&name)));
                return Err(
                    error.with_hint("the file must hold a list of watches, or \"$schema\" and \"watches\"".to_owned())
                );
            }
        }
    }
    match watches {
        Some(watches) if watches.get().starts_with('[') => list(source, watches),
        Some(other) => Err(source.error(offset(&source.text, other.get()), "watches must be a list")),
        None => Err(source.error(offset(&source.text, document.get()), "watches is missing")),
    }
}

fn list(source: &SourceText, list: &RawValue) -> Result<Contents, ConfigError> {
    let Elements(elements) = serde_json::from_str(list.get()).map_err(|error| syntax(source, &error))?;
    if elements.len() > WATCHES_MAX {
        return Err(ConfigError::of_file(
            &*source.file,
            format!("more than {WATCHES_MAX} watches in one file"),
        ));
    }
    let mut registrations = Vec::with_capacity(elements.len());
    let mut errors = Vec::new();
    for element in elements {
        match registration(source, element) {
            Ok(registration) => registrations.push(registration),
            Err(error) => errors.push(error),
        }
        if errors.len() >= super::validate::ERRORS_MAX {
            break;
        }
    }
    Ok((registrations, errors))
}

fn registration(source: &SourceText, element: &RawValue) -> Result<Registration, ConfigError> {
    let at = offset(&source.text, element.get());
    if !element.get().starts_with('{') {
        return Err(source.error(at, "a watch must be an object"));
    }
    let fields = fields(source, element, Of::Watch)?;
    let has = |name: &str| fields.iter().any(|field| field.name == name);
    Ok(Registration {
        // A watch that says its limits wrongly is still told as a watch what is wrong with it.
        what: match (has("limit") || (has("group") && fields.len() == 1)) && !has("znode") && !has("action") {
            true => Registered::Group,
            false => Registered::Watch,
        },
        within: None,
        call: short(at),
        origin: short(at),
        fields,
    })
}

/// What an object's members are the fields of. None is inside itself, so that no file leads deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Watch,
    Rollout,
    /// Anything else.
    Call,
}

/// The waves of a rollout, if that is what the value is: a list of objects.
fn waves(source: &SourceText, value: &RawValue) -> Result<Option<Vec<Arc<Call>>>, ConfigError> {
    if !value.get().starts_with('[') {
        return Ok(None);
    }
    let at = offset(&source.text, value.get());
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| source.error(at, message(&error)))?;
    if items.is_empty() || items.iter().any(|item| !item.get().starts_with('{')) {
        return Ok(None);
    }
    let wave = |item: &&RawValue| {
        Ok(Arc::new(Call {
            within: None,
            at: short(offset(&source.text, item.get())),
            arguments: fields(source, item, Of::Call)?,
        }))
    };
    items.iter().map(wave).collect::<Result<_, _>>().map(Some)
}

/// The members of an object as fields. A name that is given twice is an error: one of the two would be ignored.
fn fields(source: &SourceText, object: &RawValue, of: Of) -> Result<Vec<Field>, ConfigError> {
    let mut found: Vec<Field> = Vec::new();
    for (name, name_at, value) in members(source, object)? {
        if found.iter().any(|field| field.name == name) {
            return Err(source.error(name_at, format!("{} is given twice", super::value::quoted(&name))));
        }
        let value_at = offset(&source.text, value.get());
        let call = match (of, name.as_str()) {
            (Of::Watch, "action") => match call(source, value, "wasm")? {
                Some(component) => Some(Value::Component(component)),
                None => call(source, value, "deploy")?.map(Value::Deploy),
            },
            (Of::Watch, "on_failure") => call(source, value, "retry")?.map(Value::Retry),
            (Of::Watch, "rollout") if value.get().starts_with('{') => Some(Value::Rollout(Arc::new(Call {
                within: None,
                at: short(name_at),
                arguments: fields(source, value, Of::Rollout)?,
            }))),
            (Of::Rollout, "waves") => waves(source, value)?.map(Value::Waves),
            _ => None,
        };
        let value = match call {
            Some(call) => call,
            None => {
                if let Some(twice) = given_twice(value) {
                    let message = format!("{name} has {} twice", super::value::quoted(&twice));
                    return Err(source.error(value_at, message));
                }
                plain(serde_json::from_str(value.get()).map_err(|error| source.error(value_at, message(&error)))?)
            }
        };
        found.push(Field {
            name,
            name_at: short(name_at),
            value_at: short(value_at),
            value,
        });
    }
    Ok(found)
}

/// A name that an object, or one directly inside it, has twice. The parser would take the last of the two, and a reader perhaps the first.
fn given_twice(value: &RawValue) -> Option<String> {
    let (twice, objects) = name_given_twice(value);
    let within = || objects.into_iter().find_map(|object| name_given_twice(object).0);
    twice.or_else(within)
}

/// A name that the object itself has twice, and the objects directly inside it.
fn name_given_twice(value: &RawValue) -> (Option<String>, Vec<&RawValue>) {
    if !value.get().starts_with('{') {
        return (None, Vec::new());
    }
    let Ok(Names { names, objects }) = serde_json::from_str(value.get()) else {
        return (None, Vec::new());
    };
    let mut seen = HashSet::with_capacity(names.len());
    (names.into_iter().find(|name| !seen.insert(name.clone())), objects)
}

/// The component or deployment that an action is, or the retries that an `on_failure` is, if it is one: an object in an object, the only values
/// inside a watch that have fields and so need places.
fn call(source: &SourceText, value: &RawValue, wanted: &str) -> Result<Option<Arc<Call>>, ConfigError> {
    if !value.get().starts_with('{') {
        return Ok(None);
    }
    match members(source, value)?.as_slice() {
        [(name, name_at, object)] if name == wanted && object.get().starts_with('{') => Ok(Some(Arc::new(Call {
            within: None,
            at: short(*name_at),
            arguments: fields(source, object, Of::Call)?,
        }))),
        _ => Ok(None),
    }
}

/// The members of an object, in order, with the place of each name.
fn members<'a>(source: &SourceText, object: &'a RawValue) -> Result<Vec<(String, usize, &'a RawValue)>, ConfigError> {
    let text = object.get();
    let start = offset(&source.text, text);
    let Members(members) = serde_json::from_str(text).map_err(|error| source.error(start, message(&error)))?;
    let mut after_last = 0;
    let place = |(name, value): (String, &'a RawValue)| {
        // Between the last value and this name there are only white space and a comma or the opening brace.
        let name_at = after_last + text[after_last..].find('"').unwrap_or(0);
        after_last = offset(text, value.get()) + value.get().len();
        (name, start + name_at, value)
    };
    Ok(members.into_iter().map(place).collect())
}

/// How many bytes into `whole` its slice `part` begins.
fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

fn short(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// The place and the words of an error that `serde_json` found in the whole text.
fn syntax(source: &SourceText, error: &serde_json::Error) -> ConfigError {
    if source.text.trim().is_empty() {
        return ConfigError::of_file(
            &*source.file,
            "the file is empty; it must hold a list of watches, such as []",
        );
    }
    // Lines count from 1; columns in bytes from 1, or 0 when the line has not begun.
    let line = source
        .text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let at = (line + error.column().saturating_sub(1)).min(source.text.len());
    let TextPosition { line, column } = source.position(at);
    ConfigError::at(
        &source.file,
        &source.text,
        TextPosition { line, column },
        message(error),
    )
}

/// The words of an error without its place.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// A JSON value as a configuration value.
pub(super) fn plain(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(x)) if x.is_finite() => Value::Float(x),
            _ => Value::Other("a number that is too large".to_owned()),
        },
        Json::String(text) => Value::Str(text),
        Json::Array(items) => Value::List(items.into_iter().map(scalar).collect()),
        Json::Object(members) => Value::Dict(
            members
                .into_iter()
                .map(|(name, value)| {
                    let item = match value {
                        Json::Object(members) if secret(&members).is_none() => {
                            Item::Dict(members.into_iter().map(|(name, value)| (name, inner(value))).collect())
                        }
                        other => inner(other).into(),
                    };
                    (name, item)
                })
                .collect(),
        ),
    }
}

fn inner(value: serde_json::Value) -> Inner {
    match value {
        serde_json::Value::Array(items) => Inner::List(items.into_iter().map(scalar).collect()),
        other => Inner::Scalar(scalar(other)),
    }
}

/// The file of what is `Secret(…)` in a `.twc` file.
fn secret(members: &serde_json::Map<String, serde_json::Value>) -> Option<&str> {
    members.get("secret").filter(|_| members.len() == 1)?.as_str()
}

fn scalar(value: serde_json::Value) -> Scalar {
    if let serde_json::Value::Object(members) = &value
        && let Some(file) = secret(members)
    {
        return Scalar::Secret(file.to_owned());
    }
    match plain(value) {
        Value::Bool(b) => Scalar::Bool(b),
        Value::Int(n) => Scalar::Int(n),
        Value::Str(text) => Scalar::Str(text),
        other => Scalar::Other(other.to_string()),
    }
}

/// The elements of an array as slices of the text.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                // One more than allowed is enough for the caller to see that there are too many.
                while elements.len() <= WATCHES_MAX
                    && let Some(element) = seq.next_element()?
                {
                    elements.push(element);
                }
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Collect)
    }
}

/// The names in an object, in order, and those of its values that are objects.
struct Names<'a> {
    names: Vec<String>,
    objects: Vec<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Names<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut names, mut objects) = (Vec::new(), Vec::new());
                while let Some((name, value)) = map.next_entry::<_, &RawValue>()? {
                    names.push(name);
                    objects.extend(value.get().starts_with('{').then_some(value));
                }
                Ok(Names { names, objects })
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The members of an object as slices of the text, in order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() >= 256 {
                        return Err(serde::de::Error::custom("an object has too many members"));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
