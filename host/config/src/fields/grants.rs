//! What each argument of `Wasm(…)` accepts, but those about the network: settings, directories, commands, znodes, memory.
//!
//! What is written here is what an operator trusts a component with. So whatever could be read in two ways is refused, and nothing
//! is granted that is not spelled out. This module must not know whether any of it exists: a directory that is granted can be made
//! later, so it is looked for when an action starts, and then anything but a directory is refused.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::types::{ARG_MAX, FromValue, LIST_MAX, Mismatch, TEXT_MAX};
use crate::value::{Item, Scalar, Value};
use twitcher_model::grant_syntax::{MemorySize, PATH_MAX, check_name, check_path, quoted, znode_pattern};
use twitcher_model::{CommandGrant, DirGrant, ZnodeGrant};

/// The entries of a dict, if there are not too many.
fn entries<'a>(value: &'a Value, what: &str) -> Result<&'a [(String, Item)], Mismatch> {
    match value {
        Value::Dict(entries) if entries.len() > LIST_MAX => {
            Err(Mismatch::new(format!("must not have more than {LIST_MAX} entries")))
        }
        Value::Dict(entries) => Ok(entries),
        other => Err(Mismatch::expected(what, other)),
    }
}

/// The strings of a list, if there are not too many.
pub(crate) fn strings(value: &Value) -> Result<Vec<&str>, Mismatch> {
    let items = match value {
        Value::List(items) if items.len() > LIST_MAX => {
            return Err(Mismatch::new(format!("must not have more than {LIST_MAX} items")));
        }
        Value::List(items) => items,
        other => return Err(Mismatch::expected("a list of strings", other)),
    };
    items
        .iter()
        .map(|item| match item {
            Scalar::Str(text) => Ok(text.as_str()),
            other => Err(Mismatch::expected("a list of strings", format!("one with {other}"))),
        })
        .collect()
}

/// An argument as the kernel takes it.
fn check_argument(text: &str) -> Result<(), Mismatch> {
    if text.contains('\0') || text.len() > ARG_MAX {
        return Err(Mismatch::new(format!(
            "has a NUL character or more than {ARG_MAX} bytes in {}",
            quoted(text)
        )));
    }
    Ok(())
}

/// `config`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(pub(crate) Vec<(String, String)>);

impl FromValue for Settings {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mut settings = Vec::new();
        for (key, value) in entries(value, "a dict of strings")? {
            check_name(key)?;
            let Item::Scalar(Scalar::Str(text)) = value else {
                let mismatch = Mismatch::new(format!("must have a string for {}, not {value}", quoted(key)));
                let hint = match value {
                    Item::Scalar(Scalar::Int(n)) => Some(format!("put it in quotes: \"{n}\"")),
                    Item::Scalar(Scalar::Bool(b)) => Some(format!("put it in quotes: \"{b}\"")),
                    _ => Some("only strings are passed on: encode other values as one, as JSON for example".to_owned()),
                };
                return Err(mismatch.hint(hint));
            };
            check_argument(text)?;
            settings.push((key.clone(), text.clone()));
        }
        Ok(Self(settings))
    }
}

impl Serialize for Settings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": TEXT_MAX},
            "additionalProperties": {"type": "string", "maxLength": ARG_MAX},
            "maxProperties": LIST_MAX,
        })
    }
}

/// `args`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Arguments(pub(crate) Vec<String>);

impl FromValue for Arguments {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mut arguments = Vec::new();
        for text in strings(value)? {
            check_argument(text)?;
            arguments.push(text.to_owned());
        }
        Ok(Self(arguments))
    }
}

impl JsonSchema for Arguments {
    fn schema_name() -> Cow<'static, str> {
        "Arguments".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "maxItems": LIST_MAX, "items": {"type": "string", "maxLength": ARG_MAX}})
    }
}

/// `dirs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dirs(pub(crate) Vec<DirGrant>);

impl FromValue for Dirs {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mut dirs: Vec<DirGrant> = Vec::new();
        for (guest, host) in entries(value, "a dict from paths in the component to directories of this host")? {
            check_path(guest)?;
            let Item::Scalar(Scalar::Str(text)) = host else {
                return Err(Mismatch::new(format!(
                    "must have a directory for {}, not {host}",
                    quoted(guest)
                )));
            };
            // Which of the two a path inside both means would be up to the component's library.
            let related = |dir: &&DirGrant| {
                let (one, other) = (Path::new(&dir.guest), Path::new(guest));
                one.starts_with(other) || other.starts_with(one)
            };
            if let Some(dir) = dirs.iter().find(related) {
                return Err(Mismatch::new(format!(
                    "has {} and {}, and one of them lies in the other",
                    quoted(&dir.guest),
                    quoted(guest)
                )));
            }
            dirs.push(dir(guest, text)?);
        }
        Ok(Self(dirs))
    }
}

fn dir(guest: &str, text: &str) -> Result<DirGrant, Mismatch> {
    let (host, writable) = match text.rsplit_once(':') {
        Some((host, "rw")) => (host, true),
        Some((host, "ro")) => (host, false),
        // As a part of the path, a misspelt access would go unnoticed.
        Some((_, access)) if !access.contains('/') => {
            return Err(Mismatch::new(format!(
                "has {}, which must end in \":ro\", \":rw\" or neither",
                quoted(text)
            ))
            .hint("a directory with \":\" in its name needs \":ro\" or \":rw\" after it".to_owned()));
        }
        _ => (text, false),
    };
    check_path(host)?;
    Ok(DirGrant {
        guest: guest.to_owned(),
        host: Path::new(host).into(),
        writable,
    })
}

impl Serialize for Dirs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|dir| (&dir.guest, dir.target())))
    }
}

impl JsonSchema for Dirs {
    fn schema_name() -> Cow<'static, str> {
        "Dirs".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"pattern": "^/", "maxLength": PATH_MAX},
            "additionalProperties": {"type": "string", "pattern": "^/.*?(:ro|:rw)?$"},
            "maxProperties": LIST_MAX,
        })
    }
}

/// `commands`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commands(pub(crate) Vec<CommandGrant>);

impl FromValue for Commands {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mut commands = Vec::new();
        for (name, command) in entries(value, "a dict of commands")? {
            check_name(name)?;
            let mismatch = |got: &dyn std::fmt::Display| {
                let name = quoted(name);
                Mismatch::new(format!(
                    "must have a list of strings for {name}, beginning with the program, not {got}"
                ))
            };
            let items = match command {
                Item::List(items) if items.len() <= LIST_MAX => items,
                Item::List(_) => return Err(mismatch(&"one that is so long")),
                Item::Scalar(Scalar::Str(_)) => {
                    let hint = "write [\"program\", \"argument\"]: nothing goes through a shell".to_owned();
                    return Err(mismatch(command).hint(hint));
                }
                Item::Scalar(_) => return Err(mismatch(command)),
            };
            let mut argv = Vec::with_capacity(items.len());
            for item in items {
                let Scalar::Str(text) = item else {
                    return Err(mismatch(&format_args!("one with {item}")));
                };
                check_argument(text)?;
                argv.push(text.clone());
            }
            let arguments = argv.pop_if(|last| last == "*").is_some();
            match argv.first() {
                Some(program) if !program.is_empty() => {}
                Some(_) => return Err(mismatch(&"an empty string")),
                None if arguments => {
                    let hint = "a command of the component's own choice cannot be granted".to_owned();
                    return Err(mismatch(&"\"*\" alone").hint(hint));
                }
                None => return Err(mismatch(&"an empty list")),
            }
            commands.push(CommandGrant {
                name: name.clone(),
                argv,
                arguments,
            });
        }
        Ok(Self(commands))
    }
}

impl Serialize for Commands {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = |command: &CommandGrant| command.list().map(str::to_owned).collect::<Vec<_>>();
        serializer.collect_map(self.0.iter().map(|command| (&command.name, list(command))))
    }
}

impl JsonSchema for Commands {
    fn schema_name() -> Cow<'static, str> {
        "Commands".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": TEXT_MAX},
            "additionalProperties": {
                "type": "array",
                "minItems": 1,
                "maxItems": LIST_MAX,
                "items": {"type": "string", "maxLength": ARG_MAX},
            },
            "maxProperties": LIST_MAX,
        })
    }
}

/// `znodes`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Znodes(pub(crate) Vec<ZnodeGrant>);

impl FromValue for Znodes {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mut znodes = Vec::new();
        for (pattern, access) in entries(value, "a dict from paths to \"r\" or \"rw\"")? {
            let (path, below) = znode_pattern(pattern)?;
            let writable = match access {
                Item::Scalar(Scalar::Str(access)) if access == "r" => false,
                Item::Scalar(Scalar::Str(access)) if access == "rw" => true,
                other => {
                    let pattern = quoted(pattern);
                    return Err(Mismatch::new(format!(
                        "must have \"r\" or \"rw\" for {pattern}, not {other}"
                    )));
                }
            };
            znodes.push(ZnodeGrant { path, below, writable });
        }
        Ok(Self(znodes))
    }
}

impl Serialize for Znodes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|znode| (znode.pattern(), znode.access())))
    }
}

impl JsonSchema for Znodes {
    fn schema_name() -> Cow<'static, str> {
        "Znodes".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"pattern": "^/[^*]*(/\\*\\*)?$|^/\\*\\*$"},
            "additionalProperties": {"enum": ["r", "rw"]},
            "maxProperties": LIST_MAX,
        })
    }
}

/// `memory`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory(pub(crate) u64);

impl Default for Memory {
    fn default() -> Self {
        Self(64 << 20)
    }
}

impl FromValue for Memory {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let size = match value {
            Value::Int(n) => u64::try_from(*n).ok().and_then(MemorySize::of_bytes),
            Value::Str(text) => MemorySize::parse(text),
            _ => None,
        };
        match size {
            Some(size) => Ok(Self(size.bytes())),
            _ => Err(Mismatch::expected("a size from \"1MiB\" to \"4GiB\"", value)
                .hint("write a whole number with KiB, MiB or GiB right after it, or a number of bytes".to_owned())),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = |(_, size): &&(&str, u64)| self.0.is_multiple_of(*size);
        match MemorySize::UNITS.iter().rev().find(whole) {
            Some((unit, size)) => serializer.collect_str(&format_args!("{}{unit}", self.0 / size)),
            None => serializer.serialize_u64(self.0),
        }
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$"},
            {"type": "integer", "minimum": MemorySize::MIN, "maximum": MemorySize::MAX},
        ]})
    }
}

/// `warm`, for which a later version brings other values than 0.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Warm(u32);

impl FromValue for Warm {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Int(0) => Ok(Self(0)),
            Value::Int(n) if *n > 0 => Err(Mismatch::new(format!(
                "cannot be {n}: this version of Twitcher does not support it"
            ))
            .hint("leave it out: every run has an instance of its own".to_owned())),
            other => Err(Mismatch::expected("0", other)),
        }
    }
}

impl JsonSchema for Warm {
    fn schema_name() -> Cow<'static, str> {
        "Warm".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"const": 0})
    }
}
