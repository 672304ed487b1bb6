//! What each argument of `Wasm(…)` accepts, but those about the network and commands: settings, directories, znodes, memory.
//!
//! What is written here is what an operator trusts a component with. So whatever could be read in two ways is refused, and nothing
//! is granted that is not spelled out. This module must not know whether any of it exists: a directory that is granted can be made
//! later, so it is looked for when an action starts, and then anything but a directory is refused.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::collections::{Dict, Entries, List};
use super::declaration::FieldType;
use super::forms::{Called, Either, Literals, OneOf, Seen, Text, Whole, called, called_with_hint};
use super::mismatch::{Mismatch, Refusal};
use super::secret::{Named, SecretForm};
use super::types::{ARG_MAX, LIST_MAX};
use crate::value::quoted;
use twitcher_model::grant_syntax::{MemorySize, NAME_MAX, PATH_MAX, check_name, check_path, znode_pattern};
use twitcher_model::{DirGrant, ZnodeGrant, ZnodePath};

/// A name by which a component asks for something.
pub(super) const NAME: Text<String> = Text::new(|name| {
    check_name(name)?;
    Ok(name.to_owned())
})
.least(1)
.most(NAME_MAX);

/// An argument as the kernel takes it.
pub(super) const ARGUMENT: Text<String> = Text::new(|text| {
    if text.contains('\0') || text.len() > ARG_MAX {
        return Err(Refusal::wrong(format!(
            "has a NUL character or more than {ARG_MAX} bytes in {}",
            quoted(text)
        )));
    }
    Ok(text.to_owned())
})
.most(ARG_MAX);

/// `config`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(pub(crate) Named);

impl FieldType for Settings {
    type Form = Dict<Text<String>, Called<Either<Text<String>, SecretForm>>>;
    const FORM: Self::Form = Dict {
        words: "a dict of strings",
        keys: NAME,
        values: called_with_hint(
            "a string or Secret(\"/file\")",
            how_to_write_a_setting,
            Either(ARGUMENT, SecretForm),
        ),
        most: LIST_MAX,
        entries: "entries",
    };

    fn of(entries: Entries<String, OneOf<String, Arc<Path>>>) -> Result<Self, Refusal> {
        let mut named = Named::default();
        for entry in entries {
            let (name, value) = entry?;
            named.add(name, value);
        }
        Ok(Self(named))
    }

    fn written(&self) -> Json {
        self.0.written()
    }
}

fn how_to_write_a_setting(seen: Seen<'_>) -> Option<String> {
    Some(match (seen.int(), seen.bool()) {
        (Some(n), _) => format!("put it in quotes: \"{n}\""),
        (_, Some(b)) => format!("put it in quotes: \"{b}\""),
        _ => "only strings are passed on: encode other values as one, as JSON for example".to_owned(),
    })
}

/// `args`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments(pub(crate) Vec<String>);

impl FieldType for Arguments {
    type Form = List<Text<String>>;
    const FORM: Self::Form = List {
        items: ARGUMENT,
        least: 0,
        most: LIST_MAX,
    };

    fn of(arguments: Vec<String>) -> Result<Self, Refusal> {
        Ok(Self(arguments))
    }

    fn written(&self) -> Json {
        self.0.as_slice().into()
    }
}

/// `dirs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dirs(pub(crate) Vec<DirGrant>);

impl FieldType for Dirs {
    type Form = Dict<Text<String>, Called<Text<String>>>;
    const FORM: Self::Form = Dict {
        words: "a dict from paths in the component to directories of this host",
        keys: Text::new(|guest| {
            check_path(guest)?;
            Ok(guest.to_owned())
        })
        .most(PATH_MAX)
        .pattern("^/"),
        values: called(
            "a directory",
            Text::new(|host| Ok(host.to_owned())).pattern("^/.*?(:ro|:rw)?$"),
        ),
        most: LIST_MAX,
        entries: "entries",
    };

    fn of(entries: Entries<String, String>) -> Result<Self, Refusal> {
        let mut dirs: Vec<DirGrant> = Vec::new();
        for entry in entries {
            let (guest, text) = entry?;
            // Which of the two a path inside both means would be up to the component's library.
            let related = |dir: &&DirGrant| {
                let (one, other) = (Path::new(&dir.guest), Path::new(&guest));
                one.starts_with(other) || other.starts_with(one)
            };
            if let Some(dir) = dirs.iter().find(related) {
                return Err(Refusal::wrong(format!(
                    "has {} and {}, and one of them lies in the other",
                    quoted(&dir.guest),
                    quoted(&guest)
                )));
            }
            dirs.push(dir(guest, &text)?);
        }
        Ok(Self(dirs))
    }

    fn written(&self) -> Json {
        self.0.iter().map(|dir| (dir.guest.clone(), dir.target())).collect()
    }
}

fn dir(guest: String, text: &str) -> Result<DirGrant, Refusal> {
    let (host, writable) = match text.rsplit_once(':') {
        Some((host, "rw")) => (host, true),
        Some((host, "ro")) => (host, false),
        // As a part of the path, a misspelt access would go unnoticed.
        Some((_, access)) if !access.contains('/') => {
            return Err(Mismatch::new(format!(
                "has {}, which must end in \":ro\", \":rw\" or neither",
                quoted(text)
            ))
            .hint("a directory with \":\" in its name needs \":ro\" or \":rw\" after it".to_owned())
            .into());
        }
        _ => (text, false),
    };
    check_path(host)?;
    Ok(DirGrant {
        guest,
        host: Path::new(host).into(),
        writable,
    })
}

/// `znodes`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Znodes(pub(crate) Vec<ZnodeGrant>);

impl FieldType for Znodes {
    type Form = Dict<Text<(ZnodePath, bool)>, Literals<bool>>;
    const FORM: Self::Form = Dict {
        words: "a dict from paths to \"r\" or \"rw\"",
        keys: Text::new(|pattern| Ok(znode_pattern(pattern)?)).pattern("^/[^*]*(/\\*\\*)?$|^/\\*\\*$"),
        values: Literals(&[("r", false), ("rw", true)]),
        most: LIST_MAX,
        entries: "entries",
    };

    fn of(entries: Entries<(ZnodePath, bool), bool>) -> Result<Self, Refusal> {
        let grant = |entry: Result<_, Refusal>| {
            let ((path, below), writable) = entry?;
            Ok(ZnodeGrant { path, below, writable })
        };
        entries.into_iter().map(grant).collect::<Result<_, _>>().map(Self)
    }

    fn written(&self) -> Json {
        let pair = |znode: &ZnodeGrant| (znode.pattern(), znode.access());
        self.0.iter().map(pair).collect()
    }
}

/// `memory`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory(pub(crate) u64);

impl FieldType for Memory {
    type Form = Called<Either<Text<MemorySize>, Whole>>;
    const FORM: Self::Form = called_with_hint(
        "a size from \"1MiB\" to \"4GiB\"",
        |_| Some("write a whole number with KiB, MiB or GiB right after it, or a number of bytes".to_owned()),
        Either(
            Text::new(|text| MemorySize::parse(text).ok_or(Refusal::UNFIT)).pattern("^[0-9]+(KiB|MiB|GiB)$"),
            Whole {
                least: MemorySize::MIN as i64,
                most: MemorySize::MAX as i64,
            },
        ),
    );

    fn of(size: OneOf<MemorySize, i64>) -> Result<Self, Refusal> {
        Ok(match size {
            OneOf::First(size) => Self(size.bytes()),
            OneOf::Second(bytes) => Self(bytes as u64),
        })
    }

    fn written(&self) -> Json {
        let whole = |(_, size): &&(&str, u64)| self.0.is_multiple_of(*size);
        match MemorySize::UNITS.iter().rev().find(whole) {
            Some((unit, size)) => format!("{}{unit}", self.0 / size).into(),
            None => self.0.into(),
        }
    }
}

/// `warm`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warm(pub(crate) u8);

impl FieldType for Warm {
    type Form = Whole;
    const FORM: Whole = Whole { least: 0, most: 8 };

    fn of(count: i64) -> Result<Self, Refusal> {
        Ok(Self(count as u8))
    }

    fn written(&self) -> Json {
        self.0.into()
    }
}
