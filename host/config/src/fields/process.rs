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
use super::forms::{Called, Either, Form, OneOf, Seen, Text, Truth, Whole, called};
use super::mismatch::{Mismatch, Refusal};
use super::types::{ARG_MAX, LIST_MAX, TEXT_MAX};
use crate::error::did_you_mean;
use crate::value::quoted;
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{Limit, Resource, RunLimits};

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

/// Resource limits, of each process and of the run as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) each: Vec<Limit>,
    pub(crate) run: RunLimits,
}

impl Limits {
    /// The limits of the run as a whole that are set, each with the cgroup controller that it needs.
    pub(crate) fn needed(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let RunLimits {
            memory,
            tasks,
            cpu_percent,
            optional: _,
        } = self.run;
        let all = [
            (memory, MEMORY, "memory"),
            (tasks, TASKS, "pids"),
            (cpu_percent, CPU, "cpu"),
        ];
        all.into_iter()
            .filter_map(|(set, limit, controller)| set.map(|_| (limit, controller)))
    }
}

const RESOURCES: [(&str, Resource); 9] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    (CPU, Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("stack", Resource::Stack),
];

/// Processor time: of each process, as setrlimit(2) has it, or as a percentage of the run.
const CPU: &str = "cpu";
/// What the run as a whole may use.
const MEMORY: &str = "memory";
const TASKS: &str = "tasks";
/// Whether limits of the run may be left out where they cannot be had.
const OPTIONAL: &str = "optional";

/// Less memory than this no program gets along with.
const LEAST_MEMORY: u64 = 1 << 20;

/// How no limit is written.
const UNLIMITED: &str = "unlimited";

/// What can be limited, or the word about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitKey {
    Each(Resource),
    Memory,
    Tasks,
    Optional,
}

/// A limit that is written with a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Quantity {
    Unlimited,
    Bytes(u64),
    Percent(u64),
}

impl Quantity {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

    fn parse(text: &str) -> Result<Self, Refusal> {
        if text == UNLIMITED {
            return Ok(Self::Unlimited);
        }
        let number = |digits: &str| {
            digits
                .parse::<u64>()
                .ok()
                .filter(|n| *n > 0 && !digits.starts_with('+'))
        };
        if let Some(percent) = text
            .strip_suffix('%')
            .and_then(number)
            .filter(|percent| *percent <= 100_000)
        {
            return Ok(Self::Percent(percent));
        }
        let bytes = Self::UNITS
            .iter()
            .find_map(|(unit, size)| number(text.strip_suffix(unit)?)?.checked_mul(*size));
        bytes.map(Self::Bytes).ok_or(Refusal::UNFIT)
    }
}

type OneLimit = Either<Whole, Text<Quantity>>;
const ONE_LIMIT: OneLimit = Either(
    Whole {
        least: 0,
        most: i64::MAX,
    },
    Text::new(Quantity::parse).pattern("^(unlimited|[0-9]+(KiB|MiB|GiB|TiB|%))$"),
);

impl FieldType for Limits {
    type Form = Dict<LimitName, Called<Either<Either<OneLimit, Pair<OneLimit>>, Truth>>>;
    const FORM: Self::Form = Dict {
        words: "a dict of limits",
        keys: LimitName,
        values: called(
            "a whole number, \"unlimited\", or a pair [soft, hard] of these; a size such as \"512MiB\" for \"memory\", also a percentage \
             such as \"50%\" for \"cpu\", and True or False for \"optional\"",
            Either(Either(ONE_LIMIT, Pair(ONE_LIMIT)), Truth),
        ),
        most: usize::MAX,
        entries: "limits",
    };

    fn of(entries: <Self::Form as Form>::Read) -> Result<Self, Refusal> {
        let mut limits = Self::default();
        for entry in entries {
            let ((name, key), value) = entry?;
            let unfit = |expected: &str| Refusal::wrong(format!("must have {expected} for {name:?}"));
            // What setrlimit(2) takes.
            let plain = |limit: &OneOf<i64, Quantity>| match limit {
                OneOf::First(n) => Ok(*n as u64),
                OneOf::Second(Quantity::Unlimited) => Ok(u64::MAX),
                OneOf::Second(_) => Err(unfit("a whole number or \"unlimited\"")),
            };
            let (one, optional) = match &value {
                OneOf::First(OneOf::First(one)) => (Some(one), None),
                OneOf::First(OneOf::Second(_)) => (None, None),
                OneOf::Second(optional) => (None, Some(*optional)),
            };
            match (key, one) {
                (LimitKey::Optional, _) => limits.run.optional = optional.ok_or_else(|| unfit("True or False"))?,
                (LimitKey::Memory, Some(OneOf::Second(Quantity::Bytes(bytes)))) if *bytes >= LEAST_MEMORY => {
                    limits.run.memory = Some(*bytes);
                }
                (LimitKey::Memory, Some(OneOf::First(bytes))) if *bytes as u64 >= LEAST_MEMORY => {
                    limits.run.memory = Some(*bytes as u64);
                }
                (LimitKey::Memory, _) => return Err(unfit("a size from \"1MiB\", such as \"512MiB\"")),
                (LimitKey::Tasks, Some(OneOf::First(tasks))) if *tasks > 0 => limits.run.tasks = Some(*tasks as u64),
                (LimitKey::Tasks, _) => return Err(unfit("a whole number of processes and threads, at least 1,")),
                (LimitKey::Each(Resource::Cpu), Some(OneOf::Second(Quantity::Percent(percent)))) => {
                    limits.run.cpu_percent = Some(*percent);
                }
                (LimitKey::Each(resource), _) => {
                    let (soft, hard) = match &value {
                        OneOf::First(OneOf::First(both)) => (plain(both)?, plain(both)?),
                        OneOf::First(OneOf::Second((soft, hard))) => (plain(soft)?, plain(hard)?),
                        OneOf::Second(_) => {
                            return Err(unfit("a whole number, \"unlimited\", or a pair [soft, hard] of these"));
                        }
                    };
                    if soft > hard {
                        return Err(Refusal::wrong(format!(
                            "has a soft limit above the hard one for {name:?}"
                        )));
                    }
                    limits.each.push(Limit { resource, soft, hard });
                }
            }
        }
        Ok(limits)
    }

    fn written(&self) -> Json {
        let number = |n| match n {
            u64::MAX => UNLIMITED.into(),
            n => Json::from(n),
        };
        let limit = |limit: &Limit| {
            let known = RESOURCES.iter().find(|(_, resource)| *resource == limit.resource);
            let (name, _) = known?;
            let pair = Json::from(vec![number(limit.soft), number(limit.hard)]);
            Some((*name, pair))
        };
        let run = [
            (MEMORY, self.run.memory.map(Json::from)),
            (TASKS, self.run.tasks.map(Json::from)),
            (CPU, self.run.cpu_percent.map(|percent| format!("{percent}%").into())),
            (OPTIONAL, self.run.optional.then_some(true.into())),
        ];
        let run = run.into_iter().filter_map(|(name, value)| Some((name, value?)));
        self.each.iter().filter_map(limit).chain(run).collect()
    }
}

/// The name of what can be limited.
pub(crate) struct LimitName;

impl LimitName {
    fn all() -> impl Iterator<Item = (&'static str, LimitKey)> {
        let each = RESOURCES
            .into_iter()
            .map(|(name, resource)| (name, LimitKey::Each(resource)));
        each.chain([
            (MEMORY, LimitKey::Memory),
            (TASKS, LimitKey::Tasks),
            (OPTIONAL, LimitKey::Optional),
        ])
    }
}

impl Form for LimitName {
    type Read = (&'static str, LimitKey);

    fn words(&self) -> Cow<'static, str> {
        "the name of a resource".into()
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": Self::all().map(|(name, _)| name).collect::<Vec<_>>()})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        let name = seen.text().ok_or(Refusal::UNFIT)?;
        Self::all().find(|(known, _)| *known == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(|(name, _)| name).collect();
            let message = format!("has {}, which is none of {}", quoted(name), names.join(", "));
            Mismatch::new(message).hint(did_you_mean(name, names)).into()
        })
    }
}
