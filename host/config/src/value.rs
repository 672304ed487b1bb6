//! The plain values that both file formats boil down to, before anyone asks what they mean.
//!
//! This module must not know fields or watches.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
pub(super) use twitcher_model::grant_syntax::quoted;

/// A value as it was written in a configuration file. Three levels of nesting at most: no field needs more, and a value that comes
/// from another process or a hostile file then needs no guard against deep recursion. The arguments of a call are values again, but
/// nothing here or later looks for another call among them, but for the waves of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Always finite.
    Float(f64),
    Str(String),
    List(Vec<Scalar>),
    Dict(Vec<(String, Item)>),
    /// A function of a `.twc` file.
    Function,
    /// What `Exec(…)` makes.
    Exec(Arc<Call>),
    /// What `Wasm(…)` makes, or the object of an action's `"wasm"`.
    Component(Arc<Call>),
    /// What `Deploy(…)` makes, or the object of an action's `"deploy"`.
    Deploy(Arc<Call>),
    /// What `Retry(…)` makes, or the object of an `on_failure`'s `"retry"`.
    Retry(Arc<Call>),
    /// What `Rollout(…)` makes, or the object of a `"rollout"`.
    Rollout(Arc<Call>),
    /// A list of what `Wave(…)` makes, or of objects of a `"waves"`; not empty.
    Waves(Vec<Arc<Call>>),
    /// Anything else, in words.
    Other(String),
}

/// A value inside a dict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Item {
    Scalar(Scalar),
    List(Vec<Scalar>),
    /// What `Exec(…)` makes, or an object.
    Dict(Vec<(String, Inner)>),
}

/// A value inside a dict that is itself inside one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Inner {
    Scalar(Scalar),
    List(Vec<Scalar>),
}

impl From<Inner> for Item {
    fn from(inner: Inner) -> Self {
        match inner {
            Inner::Scalar(scalar) => Self::Scalar(scalar),
            Inner::List(items) => Self::List(items),
        }
    }
}

impl From<Item> for Inner {
    fn from(item: Item) -> Self {
        match item {
            Item::Scalar(scalar) => Self::Scalar(scalar),
            Item::List(items) => Self::List(items),
            deeper @ Item::Dict(_) => Self::Scalar(Scalar::Other(deeper.to_string())),
        }
    }
}

/// A value that holds no others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Scalar {
    Bool(bool),
    Int(i64),
    Str(String),
    /// What `Secret(…)` makes, or in JSON the object {"secret": …}: the file that has the value.
    Secret(String),
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Value {
    /// In words, to end a sentence like "must be a string, not".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => f.write_str("nothing"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(n) => write!(f, "the number {n}"),
            Value::Float(x) if x.abs() >= 1e15 => write!(f, "the number {x:e}"),
            Value::Float(x) => write!(f, "the number {x}"),
            Value::Str(s) => write!(f, "the string {}", quoted(s)),
            Value::List(_) => f.write_str("a list"),
            Value::Dict(_) => f.write_str("a dict"),
            Value::Function => f.write_str("a function"),
            Value::Exec(_) => f.write_str("a command"),
            Value::Component(_) => f.write_str("a component"),
            Value::Deploy(_) => f.write_str("a Deploy(…)"),
            Value::Retry(_) => f.write_str("a Retry(…)"),
            Value::Rollout(_) => f.write_str("a Rollout(…)"),
            Value::Waves(_) => f.write_str("a list of Wave(…)"),
            Value::Other(what) => f.write_str(what),
        }
    }
}

impl From<&Value> for Item {
    /// The same inside a dict.
    fn from(value: &Value) -> Self {
        Item::Scalar(match value {
            Value::Bool(b) => Scalar::Bool(*b),
            Value::Int(n) => Scalar::Int(*n),
            Value::Str(text) => Scalar::Str(text.clone()),
            Value::List(items) => return Item::List(items.clone()),
            other => Scalar::Other(other.to_string()),
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Scalar(scalar) => scalar.fmt(f),
            Item::List(_) => f.write_str("a list"),
            Item::Dict(_) => f.write_str("a dict"),
        }
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inner::Scalar(scalar) => scalar.fmt(f),
            Inner::List(_) => f.write_str("a list"),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(b) => write!(f, "{b}"),
            Scalar::Int(n) => write!(f, "the number {n}"),
            Scalar::Str(s) => write!(f, "the string {}", quoted(s)),
            Scalar::Secret(file) => write!(f, "Secret({})", quoted(file)),
            Scalar::Other(what) => f.write_str(what),
        }
    }
}

/// What is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Registered {
    Watch,
    /// A group and its limit.
    Group,
}

/// One registration as it was written: what a `RegisterWatch` or `RegisterGroup` call or an object of a JSON file says. Offsets are in
/// bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) what: Registered,
    /// The file whose text `call` and the fields' offsets are in: a function of a loaded file may be what calls `RegisterWatch`.
    /// None for the file that is being read.
    pub(super) within: Option<String>,
    /// Where the call or object begins.
    pub(super) call: u32,
    /// Where the file that is being read came to register it.
    pub(super) origin: u32,
    /// Everything that was given, in order.
    pub(super) fields: Vec<Field>,
}

/// An `Exec(…)`, a `Wasm(…)` or a `Retry(…)` as it was written. It has places of its own: it can be made long before the watch that it is for, in
/// another file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Call {
    /// The file whose text the offsets are in; none for the file that is being read.
    pub(super) within: Option<String>,
    /// Where the call, or the name that stands for it in JSON, stands.
    pub(super) at: u32,
    /// Everything that was given, in order.
    pub(super) arguments: Vec<Field>,
}

/// One field of a registration, or one argument of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Field {
    /// The name, known or not.
    pub(super) name: String,
    /// Where the name stands; for a positional argument, where the value does.
    pub(super) name_at: u32,
    /// Where the value stands.
    pub(super) value_at: u32,
    /// The value.
    pub(super) value: Value,
}
