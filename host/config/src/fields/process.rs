//! What each field of a watch about its process accepts: accounts, directory, mask, environment, limits.
//!
//! This module must not know which fields there are, nor where a value stands in a file.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::collections::{Dict, Entries, Pair};
use super::declaration::FieldType;
use super::forms::{Called, Either, Form, Literals, OneOf, Seen, Text, Whole, called};
use super::mismatch::{Mismatch, Refusal};
use super::types::{ARG_MAX, LIST_MAX, TEXT_MAX};
use crate::error::did_you_mean;
use crate::value::quoted;
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{Limit, Resource};

/// A user or a group. A string of digits is a number unless there is an account of that name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    Name(String),
    Id(u32),
}

impl FieldType for Account {
    type Form = Either<Called<Text<String>>, Called<Whole>>;
    const FORM: Self::Form = Either(
        called("a name", Text::new(account_name).least(1).most(TEXT_MAX)),
        // The highest number means "no change" to the system calls that set ids.
        called(
            "a number",
            Whole {
                least: 0,
                most: u32::MAX as i64 - 1,
            },
        ),
    );
    const DEFINITION: Option<&'static str> = Some("Account");

    fn of(account: OneOf<String, i64>) -> Result<Self, Refusal> {
        Ok(match account {
            OneOf::First(name) => Self::Name(name),
            OneOf::Second(id) => Self::Id(id as u32),
        })
    }
}

fn account_name(name: &str) -> Result<String, Refusal> {
    match name.chars().any(char::is_control) {
        true => Err(Refusal::UNFIT),
        false => Ok(name.to_owned()),
    }
}

/// The working directory.
#[derive(Debug, Clone)]
pub(crate) struct WorkingDir(pub(crate) Arc<Path>);

impl FieldType for WorkingDir {
    type Form = Called<Text<Arc<Path>>>;
    const FORM: Self::Form = called("an absolute path", Text::new(absolute).most(PATH_MAX).pattern("^/"));

    fn of(path: Arc<Path>) -> Result<Self, Refusal> {
        Ok(Self(path))
    }

    fn written(&self) -> Json {
        self.0.to_string_lossy().into()
    }
}

fn absolute(path: &str) -> Result<Arc<Path>, Refusal> {
    match path.starts_with('/') && !path.contains('\0') {
        true => Ok(Path::new(path).into()),
        false => Err(Refusal::UNFIT),
    }
}

/// The file mode creation mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Umask(pub(crate) u32);

/// Bits that a mask can have.
const UMASK_MAX: u32 = 0o777;

impl FieldType for Umask {
    type Form = Called<Either<Text<u32>, Whole>>;
    const FORM: Self::Form = called(
        "a mask from \"000\" to \"777\"",
        Either(
            Text::new(octal).pattern("^0*[0-7]{1,3}$"),
            Whole {
                least: 0,
                most: UMASK_MAX as i64,
            },
        ),
    );

    fn of(mask: OneOf<u32, i64>) -> Result<Self, Refusal> {
        Ok(match mask {
            OneOf::First(mask) => Self(mask),
            OneOf::Second(mask) => Self(mask as u32),
        })
    }

    fn written(&self) -> Json {
        format!("{:03o}", self.0).into()
    }
}

fn octal(digits: &str) -> Result<u32, Refusal> {
    // The parser would take a sign.
    let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let mask = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    mask.filter(|mask| *mask <= UMASK_MAX).ok_or(Refusal::UNFIT)
}

/// Extra environment variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(pub(crate) Vec<(String, String)>);

impl FieldType for Environment {
    type Form = Dict<Text<String>, Text<String>>;
    const FORM: Self::Form = Dict {
        words: "a dict of strings",
        keys: Text::new(variable).pattern("^(?!TWITCHER_)[^=]+$"),
        values: Text::new(|text| Ok(text.to_owned())),
        most: LIST_MAX,
        entries: "variables",
    };

    fn of(entries: Entries<String, String>) -> Result<Self, Refusal> {
        let fits = |entry: Result<(String, String), Refusal>| {
            let (name, text) = entry?;
            if text.contains('\0') || name.len() + text.len() + 1 > ARG_MAX {
                return Err(Refusal::wrong(format!(
                    "has a NUL character or too many bytes in {}",
                    quoted(&name)
                )));
            }
            Ok((name, text))
        };
        entries.into_iter().map(fits).collect::<Result<_, _>>().map(Self)
    }

    fn written(&self) -> Json {
        self.0.iter().cloned().collect()
    }
}

fn variable(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.contains(['=', '\0']) {
        let message = format!("has {}, which is not the name of a variable", quoted(name));
        return Err(Refusal::wrong(message));
    }
    if name.starts_with("TWITCHER_") {
        let message = format!("must not set {}: Twitcher sets such names itself", quoted(name));
        return Err(Refusal::wrong(message));
    }
    Ok(name.to_owned())
}

/// Resource limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits(pub(crate) Vec<Limit>);

const RESOURCES: [(&str, Resource); 9] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("stack", Resource::Stack),
];

/// How no limit is written.
const UNLIMITED: &str = "unlimited";

type OneLimit = Either<Whole, Literals<u64>>;
const ONE_LIMIT: OneLimit = Either(
    Whole {
        least: 0,
        most: i64::MAX,
    },
    Literals(&[(UNLIMITED, u64::MAX)]),
);

impl FieldType for Limits {
    type Form = Dict<ResourceName, Called<Either<OneLimit, Pair<OneLimit>>>>;
    const FORM: Self::Form = Dict {
        words: "a dict of limits",
        keys: ResourceName,
        values: called(
            "a whole number, \"unlimited\", or a pair [soft, hard] of these",
            Either(ONE_LIMIT, Pair(ONE_LIMIT)),
        ),
        most: usize::MAX,
        entries: "limits",
    };

    fn of(entries: <Self::Form as Form>::Read) -> Result<Self, Refusal> {
        let number = |limit| match limit {
            OneOf::First(n) => n as u64,
            OneOf::Second(unlimited) => unlimited,
        };
        let mut limits = Vec::with_capacity(entries.len().min(RESOURCES.len()));
        for entry in entries {
            let ((name, resource), limit) = entry?;
            let (soft, hard) = match limit {
                OneOf::First(both) => {
                    let both = number(both);
                    (both, both)
                }
                OneOf::Second((soft, hard)) => (number(soft), number(hard)),
            };
            if soft > hard {
                return Err(Refusal::wrong(format!(
                    "has a soft limit above the hard one for {name:?}"
                )));
            }
            limits.push(Limit { resource, soft, hard });
        }
        Ok(Self(limits))
    }

    fn written(&self) -> Json {
        let number = |n| match n {
            u64::MAX => UNLIMITED.into(),
            n => Json::from(n),
        };
        let limit = |limit: &Limit| {
            let known = RESOURCES.iter().find(|(_, resource)| *resource == limit.resource);
            let (name, _) = known?;
            let pair = vec![number(limit.soft), number(limit.hard)];
            Some((*name, pair))
        };
        self.0.iter().filter_map(limit).collect()
    }
}

/// The name of a resource that can be limited.
pub(crate) struct ResourceName;

impl Form for ResourceName {
    type Read = (&'static str, Resource);

    fn words(&self) -> Cow<'static, str> {
        "the name of a resource".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": RESOURCES.map(|(name, _)| name)})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        let name = seen.text().ok_or(Refusal::UNFIT)?;
        RESOURCES.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let names = RESOURCES.map(|(name, _)| name);
            let message = format!("has {}, which is none of {}", quoted(name), names.join(", "));
            Mismatch::new(message).hint(did_you_mean(name, names)).into()
        })
    }
}
