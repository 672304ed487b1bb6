//! From Starlark values to plain ones.
//!
//! This module must not know fields.

use std::sync::Arc;

use starlark::values::dict::DictRef;
use starlark::values::float::StarlarkFloat;
use starlark::values::list::ListRef;
use starlark::values::tuple::TupleRef;
use starlark::values::{UnpackValue, Value as Starlark, ValueLike};

use super::builtins::{Deploy, Exec, Retry, Rollout, Secret, Wasm, Wave};
use crate::fields::calls;
use crate::value::{Call, Inner, Item, Scalar, Value};

/// A value as it is given to `RegisterWatch`.
pub(super) fn value(from: Starlark<'_>) -> Value {
    if from.is_none() {
        return Value::None;
    }
    if let Some(exec) = from.downcast_ref::<Exec>() {
        return Value::Exec(exec.call.clone());
    }
    if let Some(wasm) = from.downcast_ref::<Wasm>() {
        return Value::Component(wasm.call.clone());
    }
    if let Some(deploy) = from.downcast_ref::<Deploy>() {
        return Value::Deploy(deploy.call.clone());
    }
    if let Some(retry) = from.downcast_ref::<Retry>() {
        return Value::Retry(retry.call.clone());
    }
    if let Some(rollout) = from.downcast_ref::<Rollout>() {
        return Value::Rollout(rollout.call.clone());
    }
    if let Some(waves) = waves(from) {
        return Value::Waves(waves);
    }
    if let Some(number) = from.downcast_ref::<StarlarkFloat>() {
        return match number.0 {
            finite if finite.is_finite() => Value::Float(finite),
            other => Value::Other(format!("the number {other}")),
        };
    }
    if let Some(dict) = DictRef::from_value(from) {
        return match dict
            .iter()
            .map(|(key, value)| Some((key.unpack_str()?.to_owned(), item(value))))
            .collect()
        {
            Some(entries) => Value::Dict(entries),
            None => Value::Other("a dict with a key that is not a string".to_owned()),
        };
    }
    if let Some(items) = items(from) {
        return Value::List(items);
    }
    if from.get_type() == "function" {
        return Value::Function;
    }
    match scalar(from) {
        Scalar::Bool(b) => Value::Bool(b),
        Scalar::Int(n) => Value::Int(n),
        Scalar::Str(text) => Value::Str(text),
        secret @ Scalar::Secret(_) => Value::Other(secret.to_string()),
        Scalar::Other(what) => Value::Other(what),
    }
}

/// A value inside a dict.
fn item(from: Starlark<'_>) -> Item {
    match from.downcast_ref::<Exec>() {
        Some(exec) => Item::Dict(
            calls::entries(&exec.call)
                .map(|(name, value)| (name, value.into()))
                .collect(),
        ),
        None => inner(from).into(),
    }
}

/// A value inside a dict that is itself inside one.
pub(super) fn inner(from: Starlark<'_>) -> Inner {
    match items(from) {
        Some(items) => Inner::List(items),
        None => Inner::Scalar(scalar(from)),
    }
}

/// A list of waves and nothing else.
fn waves(from: Starlark<'_>) -> Option<Vec<Arc<Call>>> {
    let content = match ListRef::from_value(from) {
        Some(list) => list.content(),
        None => TupleRef::from_value(from)?.content(),
    };
    let wave = |item: &Starlark<'_>| item.downcast_ref::<Wave>().map(|wave| wave.call.clone());
    content
        .iter()
        .map(wave)
        .collect::<Option<Vec<_>>>()
        .filter(|waves| !waves.is_empty())
}

fn items(from: Starlark<'_>) -> Option<Vec<Scalar>> {
    let content = match ListRef::from_value(from) {
        Some(list) => list.content(),
        None => TupleRef::from_value(from)?.content(),
    };
    Some(content.iter().map(|item| scalar(*item)).collect())
}

fn scalar(from: Starlark<'_>) -> Scalar {
    if let Some(secret) = from.downcast_ref::<Secret>() {
        Scalar::Secret(secret.file.clone())
    } else if let Some(b) = from.unpack_bool() {
        Scalar::Bool(b)
    } else if let Some(text) = from.unpack_str() {
        Scalar::Str(text.to_owned())
    } else if from.get_type() == "int" {
        match i64::unpack_value(from) {
            Ok(Some(n)) => Scalar::Int(n),
            _ => Scalar::Other("a number that is too large".to_owned()),
        }
    } else if from.is_none() {
        Scalar::Other("None".to_owned())
    } else {
        Scalar::Other(format!("a value of type {}", from.get_type()))
    }
}
