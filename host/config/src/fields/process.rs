//! What each field of a watch about its process accepts: accounts, directory, mask, environment, limits.
//!
//! This module must not know which fields there are, nor where a value stands in a file.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::collections::{Dict, Entries, Pair};
use super::declaration::FieldType;
use super::forms::{Called, Either, Form, Literals, OneOf, Seen, Text, Truth, Whole, called};
use super::mismatch::{Mismatch, Refusal};
use super::secret::{Named, SecretForm};
use super::types::{ARG_MAX, LIST_MAX, TEXT_MAX};
use crate::error::did_you_mean;
use crate::value::{Value, quoted};
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

/// A file that is written for an action.
#[derive(Debug, Clone)]
pub(crate) struct DataFile(pub(crate) Arc<Path>);

impl FieldType for DataFile {
    type Form = Called<Text<Arc<Path>>>;
    const FORM: Self::Form = called(
        "the absolute path of a file",
        Text::new(|path| {
            let path = absolute(path)?;
            let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
            match path.file_name().is_some()
                && path.components().all(is_plain)
                && !path.as_os_str().as_bytes().ends_with(b"/")
            {
                true => Ok(path),
                false => Err(Refusal::UNFIT),
            }
        })
        .most(PATH_MAX)
        .pattern("^/(.*/)?[^/]+$"),
    );

    fn of(path: Arc<Path>) -> Result<Self, Refusal> {
        Ok(Self(path))
    }
}

pub(super) fn absolute(path: &str) -> Result<Arc<Path>, Refusal> {
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
pub(crate) struct Environment(pub(crate) Named);

impl FieldType for Environment {
    type Form = Dict<Text<String>, Either<Text<String>, SecretForm>>;
    const FORM: Self::Form = Dict {
        words: "a dict of strings",
        keys: Text::new(variable).pattern("^(?!TWITCHER_)[^=]+$"),
        values: Either(Text::new(|text| Ok(text.to_owned())), SecretForm),
        most: LIST_MAX,
        entries: "variables",
    };

    fn of(entries: Entries<String, OneOf<String, Arc<Path>>>) -> Result<Self, Refusal> {
        let mut named = Named::default();
        for entry in entries {
            let (name, value) = entry?;
            let long = match &value {
                OneOf::First(text) => text.contains('\0') || name.len() + text.len() + 1 > ARG_MAX,
                OneOf::Second(_) => name.len() > ARG_MAX / 2,
            };
            if long {
                return Err(Refusal::wrong(format!(
                    "has a NUL character or too many bytes in {}",
                    quoted(&name)
                )));
            }
            named.add(name, value);
        }
        Ok(Self(named))
    }

    fn written(&self) -> Json {
        self.0.written()
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

/// How no limit is written.
const UNLIMITED: &str = "unlimited";

/// What setrlimit(2) takes.
type EachLimit = Either<OneLimit, Pair<OneLimit>>;
type OneLimit = Either<Whole, Literals<u64>>;
/// A number, or that there is no limit.
type OneRead = OneOf<i64, u64>;
const ONE_LIMIT: OneLimit = Either(
    Whole {
        least: 0,
        most: i64::MAX,
    },
    Literals(&[(UNLIMITED, u64::MAX)]),
);
const EACH_LIMIT: Called<EachLimit> = called(
    "a whole number, \"unlimited\", or a pair [soft, hard] of these",
    Either(ONE_LIMIT, Pair(ONE_LIMIT)),
);
const CPU_LIMIT: Called<Either<EachLimit, Text<u64>>> = called(
    "a whole number of seconds, \"unlimited\", a pair [soft, hard] of these, or a percentage such as \"50%\"",
    Either(
        Either(ONE_LIMIT, Pair(ONE_LIMIT)),
        Text::new(percentage).pattern("^[1-9][0-9]{0,4}%$"),
    ),
);
const MEMORY_LIMIT: Called<Either<Text<u64>, Whole>> = called(
    "a size of at least 1 MiB, such as \"512MiB\"",
    Either(
        Text::new(size).pattern("^[1-9][0-9]{0,5}(MiB|GiB)$"),
        Whole {
            least: 1 << 20,
            most: i64::MAX,
        },
    ),
);
const TASKS_LIMIT: Called<Whole> = called(
    "a whole number of processes and threads, at least 1,",
    Whole {
        least: 1,
        most: u32::MAX as i64,
    },
);

fn number(digits: &str, most: usize) -> Option<u64> {
    let is_number = (1..=most).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number && !digits.starts_with('0'))
}

fn percentage(text: &str) -> Result<u64, Refusal> {
    text.strip_suffix('%')
        .and_then(|digits| number(digits, 5))
        .ok_or(Refusal::UNFIT)
}

fn size(text: &str) -> Result<u64, Refusal> {
    let units = [("MiB", 1 << 20), ("GiB", 1 << 30)];
    let sizes = units
        .into_iter()
        .find_map(|(unit, size)| Some(number(text.strip_suffix(unit)?, 6)? * size));
    sizes.ok_or(Refusal::UNFIT)
}

/// A dict of limits, each in the form that its own name asks for.
pub(crate) struct LimitsForm;

impl LimitsForm {
    fn names() -> impl Iterator<Item = &'static str> {
        RESOURCES
            .into_iter()
            .map(|(name, _)| name)
            .chain([MEMORY, TASKS, OPTIONAL])
    }

    fn read_each(limits: &mut Limits, name: &str, read: OneOf<OneRead, (OneRead, OneRead)>) -> Result<(), Refusal> {
        let number = |limit| match limit {
            OneOf::First(n) => n as u64,
            OneOf::Second(unlimited) => unlimited,
        };
        let (soft, hard) = match read {
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
        let resource = RESOURCES.into_iter().find(|(known, _)| *known == name);
        limits
            .each
            .extend(resource.map(|(_, resource)| Limit { resource, soft, hard }));
        Ok(())
    }

    fn read_entry(limits: &mut Limits, name: &str, seen: Seen<'_>) -> Result<(), Refusal> {
        fn read<F: Form>(form: &F, name: &str, seen: Seen<'_>) -> Result<F::Read, Refusal> {
            let said = |refusal: Refusal| {
                let told = refusal.told(seen, |got| format!("must have {}, not {got}", form.words_for(name)));
                Refusal::from(told)
            };
            form.read(seen).map_err(said)
        }
        match name {
            MEMORY => {
                limits.run.memory = Some(match read(&MEMORY_LIMIT, name, seen)? {
                    OneOf::First(bytes) => bytes,
                    OneOf::Second(bytes) => bytes as u64,
                });
            }
            TASKS => limits.run.tasks = Some(read(&TASKS_LIMIT, name, seen)? as u64),
            OPTIONAL => limits.run.optional = read(&Truth, name, seen)?,
            CPU => match read(&CPU_LIMIT, name, seen)? {
                OneOf::First(each) => Self::read_each(limits, name, each)?,
                OneOf::Second(percent) => limits.run.cpu_percent = Some(percent),
            },
            _ if RESOURCES.iter().any(|(known, _)| *known == name) => {
                Self::read_each(limits, name, read(&EACH_LIMIT, name, seen)?)?;
            }
            _ => {
                let names: Vec<_> = Self::names().collect();
                let message = format!("has {}, which is none of {}", quoted(name), names.join(", "));
                return Err(Mismatch::new(message).hint(did_you_mean(name, names)).into());
            }
        }
        Ok(())
    }
}

impl Form for LimitsForm {
    type Read = Limits;

    fn words(&self) -> Cow<'static, str> {
        "a dict of limits".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let each = EACH_LIMIT.schema(generator);
        let properties: serde_json::Map<_, _> = Self::names()
            .map(|name| {
                let schema = match name {
                    MEMORY => MEMORY_LIMIT.schema(generator),
                    TASKS => TASKS_LIMIT.schema(generator),
                    OPTIONAL => Truth.schema(generator),
                    CPU => CPU_LIMIT.schema(generator),
                    _ => each.clone(),
                };
                (name.to_owned(), schema.to_value())
            })
            .collect();
        json_schema!({"type": "object", "properties": properties, "additionalProperties": false})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Limits, Refusal> {
        let Seen::Value(Value::Dict(entries)) = seen else {
            return Err(Refusal::UNFIT);
        };
        let mut limits = Limits::default();
        for (name, value) in entries {
            Self::read_entry(&mut limits, name, Seen::item(value))?;
        }
        Ok(limits)
    }
}

impl FieldType for Limits {
    type Form = LimitsForm;
    const FORM: LimitsForm = LimitsForm;

    fn of(limits: Limits) -> Result<Self, Refusal> {
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
