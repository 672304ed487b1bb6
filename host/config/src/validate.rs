//! From a registration as it was written to a [`Watch`]: the one validation that both file formats go through.
//!
//! This module must not know how a file is parsed or when it is read.

pub(super) mod actions;
mod deployments;
mod rollouts;
mod services;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::actions::{Users, WantedComponent};
use super::accounts::{Accounts, Who};
use super::component_resolver::Components;
use super::error::{ConfigError, SourceText, TextPosition, did_you_mean};
use super::fields::calls::{ActionSpec, refused_argument};
use super::fields::group::{self, GroupLimit};
use super::fields::mismatch::Mismatch;
use super::fields::types::Seconds;
use super::fields::{Fields, NAMES};
use super::interner::{Interner, intern};
use super::reference::Wanted;
use super::splay::share;
use super::starlark::unknown;
use super::value::{Field, Registered, Registration, Value, quoted};
use twitcher_model::{
    Action, Grants, Hardening, OnFailure, Origin, Payload, Policy, ProcessSettings, Program, Retry, RolloutName,
    RunMode, RunOnLoad, SecretPlace, Watch,
};

/// Most errors that are reported of one file.
pub(super) const ERRORS_MAX: usize = 100;
/// Most errors that are looked at before the rest of a file is not, repeated ones included. Each costs time, for a suggestion.
const FAULTS_MAX: usize = 1000;
/// Most fields of one watch, known or not.
const FIELDS_MAX: usize = 64;

/// A watch with what it takes to look its user up again.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) watch: Arc<Watch>,
    pub(super) who: Arc<Who>,
    /// What to ask for again when another version of the action's bundle is installed.
    pub(super) bundle: Option<Arc<Ask>>,
    /// Whom to look up again for the action's commands.
    pub(super) command_users: Users,
}

/// A component that an action names, with what it is granted.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) wanted: Wanted,
    pub(super) grants: Grants,
}

/// What building a file's watches needs from outside the file.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) accounts: &'a mut Accounts,
    pub(super) interner: &'a mut Interner,
    pub(super) components: &'a mut Components,
    /// This host's name, for `splay`.
    pub(super) host: &'a str,
    /// The cgroup controllers that a run can be limited by; none if that is not known, as in a check outside of the daemon.
    pub(super) controllers: Option<&'a [&'static str]>,
    /// What is not wrong, but should be known.
    pub(super) notes: &'a mut Vec<ConfigError>,
}

/// A configuration file as it was parsed.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The file's own text.
    pub(super) source: SourceText,
    /// The files that it loaded.
    pub(super) loads: Vec<SourceText>,
    pub(super) registrations: Vec<Registration>,
    /// What is wrong with the file already.
    pub(super) errors: Vec<ConfigError>,
}

/// What a file registers.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) entries: Vec<Entry>,
    pub(super) groups: Vec<GroupLimit>,
}

/// What one file registers, or everything that is wrong with it. The registrations, which are larger, go as one at the end: were they
/// used up one by one, each would leave its memory to a watch and a hole, and no page of it could be given back.
pub(super) fn watches(parsed: &mut Parsed, around: &mut Surroundings<'_>) -> Result<Built, Vec<ConfigError>> {
    let registrations = std::mem::take(&mut parsed.registrations);
    let mut builder = Builder {
        program: None,
        parsed,
        around,
        errors: parsed.errors.clone(),
        faults: 0,
    };
    let mut entries: Vec<Entry> = Vec::with_capacity(registrations.len());
    let mut first_of_name: HashMap<Arc<str>, usize> = HashMap::new();
    let mut first_of_rollout: HashMap<RolloutName, Origin> = HashMap::new();
    let mut groups: Vec<GroupLimit> = Vec::new();
    let mut index = 0;
    for registration in &registrations {
        if builder.errors.len() >= ERRORS_MAX || builder.faults >= FAULTS_MAX {
            let rest = "there may be more errors; the rest of the file was not looked at";
            builder.errors.push(ConfigError::of_file(&*parsed.source.file, rest));
            break;
        }
        let entry = match registration.what {
            Registered::Group => {
                builder.group(registration, &mut groups);
                continue;
            }
            Registered::Watch => builder.entry(registration, index),
        };
        // Functions are found again by their number among the watches.
        index += 1;
        let Some(entry) = entry else { continue };
        if let Some(rollout) = &entry.watch.rollout
            && let Some(other) = first_of_rollout.insert(rollout.name.clone(), entry.watch.origin.clone())
        {
            let (message, hint) = (duplicate_rollout(&rollout.name, &other), ROLLOUT_HINT.to_owned());
            builder.error(registration, value_offset(registration, "rollout"), message, Some(hint));
        }
        match first_of_name.get(&entry.watch.name) {
            Some(first) => {
                let message = duplicate_name(&entry.watch, &entries[*first].watch);
                builder.error(
                    registration,
                    name_offset(registration),
                    message,
                    Some(DUPLICATE_HINT.to_owned()),
                );
            }
            None => {
                first_of_name.insert(entry.watch.name.clone(), entries.len());
                entries.push(entry);
            }
        }
    }
    let mut errors = builder.errors;
    if !parsed.errors.is_empty() {
        // That a name is unknown has been told where it stands.
        errors.retain(|error| !error.message.contains(unknown::TYPE));
    }
    if errors.is_empty() {
        return Ok(Built { entries, groups });
    }
    errors.sort_by_key(|error| (error.position.is_none(), error.position));
    Err(errors)
}

/// How a service is started again of which nothing else is said.
const START_AGAIN: Retry = Retry {
    times: 1_000_000,
    initial: Duration::from_secs(1),
    factor: 2000,
    max_delay: Duration::from_secs(60),
    jitter: 200,
    codes: Vec::new(),
};

const DUPLICATE_HINT: &str =
    "give one of them another name = \"…\"; a watch without one is named by its description or file";

fn duplicate_name(watch: &Watch, first: &Watch) -> String {
    format!(
        "the name {} is already taken by the watch at {}",
        quoted(&watch.name),
        first.origin
    )
}

const ROLLOUT_HINT: &str = "give each watch a rollout of its own";

fn duplicate_rollout(rollout: &RolloutName, first: &Origin) -> String {
    format!(
        "the rollout {} is that of the watch at {first}: on a host one watch has it",
        quoted(rollout.as_str())
    )
}

/// The error for a watch whose rollout a watch of another file has.
pub(super) fn rollout_elsewhere(
    source: &SourceText,
    watch: &Watch,
    rollout: &RolloutName,
    first: &Watch,
) -> ConfigError {
    let position = TextPosition {
        line: watch.origin.line,
        column: watch.origin.column,
    };
    ConfigError::at(
        &source.file,
        &source.text,
        position,
        duplicate_rollout(rollout, &first.origin),
    )
    .with_hint(ROLLOUT_HINT.to_owned())
}

/// The error for a watch whose name an earlier file has taken.
pub(super) fn taken_elsewhere(source: &SourceText, watch: &Watch, first: &Watch) -> ConfigError {
    let position = TextPosition {
        line: watch.origin.line,
        column: watch.origin.column,
    };
    ConfigError::at(&source.file, &source.text, position, duplicate_name(watch, first))
        .with_hint(DUPLICATE_HINT.to_owned())
}

/// The error for a watch whose name a file had that nothing can be known of now.
pub(super) fn lost_elsewhere(source: &SourceText, watch: &Watch, owner: &Path) -> ConfigError {
    let position = TextPosition {
        line: watch.origin.line,
        column: watch.origin.column,
    };
    let message = format!(
        "the name {} is that of a watch in {}, which is not in force for now",
        quoted(&watch.name),
        owner.display()
    );
    let hint = "mend or remove that file, or give this watch another name = \"…\"".to_owned();
    ConfigError::at(&source.file, &source.text, position, message).with_hint(hint)
}

/// Where a registration's name, or what its name is made from, stands.
fn name_offset(registration: &Registration) -> u32 {
    let of = |name: &str| {
        registration
            .fields
            .iter()
            .find(|field| field.name == name && field.value != Value::None)
    };
    of("name")
        .or_else(|| of("description"))
        .map_or(registration.call, |field| field.value_at)
}

struct Builder<'a, 'b> {
    parsed: &'a Parsed,
    around: &'a mut Surroundings<'b>,
    /// Made when the first function action needs it.
    program: Option<Arc<Program>>,
    errors: Vec<ConfigError>,
    /// How many there were, repeated ones included.
    faults: usize,
}

impl<'a> Builder<'a, '_> {
    /// The text that the offsets of a registration or component are in.
    fn place(&self, within: Option<&str>) -> &'a SourceText {
        let file = within.map(Path::new);
        let load = |file: &Path| self.parsed.loads.iter().find(|load| &*load.file == file);
        file.and_then(load).unwrap_or(&self.parsed.source)
    }

    /// Notes an error at an offset in the text of a registration.
    fn error(&mut self, registration: &Registration, offset: u32, message: String, hint: Option<String>) {
        let place = self.place(registration.within.as_deref());
        let called = registration.within.is_some().then_some("called from");
        self.error_in(
            place,
            offset,
            message,
            hint,
            called.map(|how| (how, registration.origin)),
        );
    }

    /// Notes an error in a text, with the place in the file itself that led there.
    fn error_in(
        &mut self,
        place: &SourceText,
        offset: u32,
        message: String,
        hint: Option<String>,
        led_by: Option<(&str, u32)>,
    ) {
        let error = place.error(offset as usize, message);
        let called = led_by.map(|(how, origin)| {
            let TextPosition { line, column } = self.parsed.source.position(origin as usize);
            format!("{how} {}:{line}:{column}", self.parsed.source.file.display())
        });
        let hints: Vec<String> = hint.into_iter().chain(called).collect();
        let error = error.with_hint((!hints.is_empty()).then(|| hints.join("; ")));
        // A loop makes the same mistake at the same place many times; it is one mistake.
        self.faults += 1;
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// The watch for one registration; none if anything is wrong with it, and then the errors say what.
    fn entry(&mut self, registration: &Registration, index: usize) -> Option<Entry> {
        let refused = &mut false;
        let fields = self.fields(registration, refused);
        self.check_combinations(registration, &fields, refused);
        let component = self.component(registration, fields.action.as_ref(), refused);
        let deployment = self.deployment(registration, &fields, refused);
        let failure = match self.failure(registration, &fields.on_failure, refused) {
            (None, OnFailure::Keep) if fields.service && !is_given(registration, "on_failure") => {
                (Some(START_AGAIN), OnFailure::Keep)
            }
            given => given,
        };
        let rollout = self.rollout(registration, &fields, refused);

        let who = Who {
            uid: fields.uid.clone(),
            gid: fields.gid.clone(),
        };
        let identity = match self.around.accounts.resolve(&who) {
            Ok(identity) => identity,
            Err(problem) => {
                let at = value_offset(registration, problem.field);
                self.error(registration, at, problem.message, problem.hint);
                return None;
            }
        };
        let (Some(znode), Some(action)) = (fields.znode.clone(), fields.action.clone()) else {
            return None;
        };
        if *refused {
            return None;
        }

        let is_of_several = !znode.more.is_empty();
        let hardening = match &action {
            ActionSpec::Shell(_, hardening) | ActionSpec::Argv(_, hardening) => hardening.clone(),
            ActionSpec::Function | ActionSpec::Component(_) | ActionSpec::Deploy(_) => Hardening::default(),
        };
        // The last that can fail, because it may take long.
        let mut bundle = None;
        let mut command_users = Users::default();
        let action = match (component, deployment) {
            (Some(WantedComponent { call, ask, users }), _) => {
                command_users = users;
                let action = self.resolved(registration, &call, &ask)?;
                bundle = matches!(ask.wanted, Wanted::Bundle(_)).then(|| Arc::new(ask));
                Action::Wasm(action)
            }
            (None, Some(deployment)) => Action::Deploy(Arc::new(deployment)),
            (None, None) => self.action(action, index)?,
        };
        let name = fields.name.clone().or_else(|| fields.description.clone());
        let name = name.unwrap_or_else(|| default_name(&self.parsed.source.file, index + 1));
        let delay = share(self.around.host, &name, fields.splay.0);
        let policy = intern(
            &mut self.around.interner.policies,
            policy(&fields, delay, failure, rollout.is_some()),
        );
        let process = self.around.interner.process(ProcessSettings {
            identity,
            cwd: fields.cwd.0,
            umask: fields.umask.0,
            secrets: fields.env.0.secrets(SecretPlace::Env).collect(),
            env: fields.env.0.plain,
            inherit_env: fields.inherit_env,
            limits: fields.limits.each,
            run_limits: fields.limits.run,
            hardening,
            pipe_stdin: fields.pipe_stdin,
            data_file: fields.data_file.map(|file| file.0),
            timeout: fields.timeout.map(|timeout| timeout.0),
            kill_after: fields.kill_after.0,
        });
        let watch = Watch {
            description: fields.description.unwrap_or_else(|| name.clone()),
            name,
            znode: znode.first,
            // An empty one of its own would be an allocation for each watch.
            more: match is_of_several {
                true => znode.more.into(),
                false => Arc::default(),
            },
            watch_type: fields.watch_type,
            payload: fields.payload,
            action,
            policy,
            process,
            // What a fleet compares is the state of one znode.
            publish: fields.publish && !is_of_several,
            rollout: rollout.map(Arc::new),
            origin: self.origin(registration),
        };
        Some(Entry {
            watch: Arc::new(watch),
            who: intern(&mut self.around.interner.whos, who),
            bundle,
            command_users,
        })
    }

    /// Notes the limit of a group, or what is wrong with it.
    fn group(&mut self, registration: &Registration, groups: &mut Vec<GroupLimit>) {
        let (name, limit) = match group::read(registration) {
            Ok(read) => read,
            Err(faults) => {
                for (at, Mismatch { message, hint }) in faults {
                    self.error(registration, at, message, hint);
                }
                return;
            }
        };
        let group = GroupLimit {
            name,
            limit,
            origin: self.origin(registration),
        };
        match groups.iter().find(|first| first.name == group.name) {
            Some(first) if first.limit == limit => {}
            Some(first) => {
                let message = group.conflict(first);
                self.error(registration, registration.call, message, None);
            }
            None => groups.push(group),
        }
    }

    fn origin(&self, registration: &Registration) -> Origin {
        let TextPosition { line, column } = self.parsed.source.position(registration.origin as usize);
        Origin {
            file: self.parsed.source.file.clone(),
            line,
            column,
        }
    }

    /// Reads every field, and says of each what is wrong with it.
    fn fields(&mut self, registration: &Registration, refused: &mut bool) -> Fields {
        let mut fields = Fields::default();
        if registration.fields.len() > FIELDS_MAX {
            let message = format!("a watch has no more than {} fields", NAMES.len());
            self.error(registration, registration.call, message, None);
            *refused = true;
            return fields;
        }
        for Field {
            name,
            name_at,
            value_at,
            value,
        } in &registration.fields
        {
            if !NAMES.contains(&name.as_str()) {
                let hint = did_you_mean(name, NAMES);
                self.error(registration, *name_at, format!("unknown field {}", quoted(name)), hint);
                *refused = true;
            } else if let Err(Mismatch { message, hint }) = fields.set(name, value) {
                let message = format!("{name} {message}");
                match value {
                    Value::Exec(call) => {
                        let at = refused_argument(call).unwrap_or(call.at);
                        self.call_error(registration, call, at, message, hint);
                    }
                    _ => self.error(registration, *value_at, message, hint),
                }
                *refused = true;
            } else if name == "umask" {
                self.note_decimal(registration, *value_at, name, value);
            }
        }
        for required in ["znode", "action"] {
            let given = |field: &Field| field.name == required && field.value != Value::None;
            if !registration.fields.iter().any(given) {
                self.error(registration, registration.call, format!("{required} is missing"), None);
                *refused = true;
            }
        }
        fields
    }

    /// Notes a mask of file modes that is written as a decimal number but looks like an octal one.
    fn note_decimal(&mut self, registration: &Registration, at: u32, name: &str, value: &Value) {
        let place = self.place(registration.within.as_deref());
        let Value::Int(number) = value else { return };
        let digits = number.to_string();
        // What is written elsewhere, or made by an expression, tells nothing; nor does 0o26, which is the number 22.
        let rest = place
            .text
            .get(at as usize..)
            .and_then(|text| text.strip_prefix(&*digits));
        let is_whole = rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        if !is_whole || digits.len() < 2 || digits.bytes().any(|digit| digit > b'7') {
            return;
        }
        let message = format!("{name} is the decimal number {digits}, which means the mask {number:03o}");
        let hint =
            format!("write \"{digits:0>3}\" for the mask {digits:0>3}, or \"{number:03o}\" for what it means now");
        let note = place.error(at as usize, message).with_hint(hint);
        if !self.around.notes.contains(&note) {
            self.around.notes.push(note);
        }
    }

    /// What is wrong with fields together that are right alone.
    fn check_combinations(&mut self, registration: &Registration, fields: &Fields, refused: &mut bool) {
        if fields.notify_signal.is_some() && fields.run_mode != RunMode::Queue {
            let at = value_offset(registration, "notify_signal");
            let message = format!("notify_signal is for QUEUE only, and run_mode is {}", fields.run_mode);
            let hint = "in RESTART a running action gets SIGTERM; in DISCARD and PARALLEL it is left alone";
            self.error(registration, at, message, Some(hint.to_owned()));
            *refused = true;
        }
        self.check_service(registration, fields, refused);
        self.check_znodes(registration, fields, refused);
        if fields.settle_max != Seconds::new(0) && fields.settle_max.0 < fields.settle.0 {
            let at = value_offset(registration, "settle_max");
            self.error(
                registration,
                at,
                "settle_max must not be less than settle".to_owned(),
                None,
            );
            *refused = true;
        }
        if let Some(controllers) = self.around.controllers
            && let Some((limit, controller)) = fields.limits.needed().find(|(_, needed)| !controllers.contains(needed))
        {
            let at = value_offset(registration, "limits");
            let message = format!(
                "the limit {limit:?} needs the cgroup controller {controller:?}, which is not there for this daemon"
            );
            let hint = "run it under systemd with Delegate=yes on a unified hierarchy (cgroup v2), leave the limit out, or take it where it \
                        can be had: add \"optional\": True";
            if fields.limits.run.optional {
                let place = self.place(registration.within.as_deref());
                let note = place
                    .error(at as usize, message)
                    .with_hint(Some("it is left out".to_owned()));
                self.around.notes.push(note);
            } else {
                self.error(registration, at, message, Some(hint.to_owned()));
                *refused = true;
            }
        }
        if fields.payload == Payload::Json && !fields.pipe_stdin {
            let at = value_offset(registration, "payload");
            let message = "payload = JSON says what is on stdin, and pipe_stdin = False that nothing is";
            self.error(
                registration,
                at,
                message.to_owned(),
                Some("leave one of them out".to_owned()),
            );
            *refused = true;
        }
        if matches!(fields.action, Some(ActionSpec::Component(_))) {
            let hint = "a component sees only what Wasm(…, env = {…}) gives it";
            for (name, given) in [("env", !fields.env.0.is_empty()), ("inherit_env", fields.inherit_env)] {
                if given {
                    let at = value_offset(registration, name);
                    let message = format!("{name} is not for components");
                    self.error(registration, at, message, Some(hint.to_owned()));
                    *refused = true;
                }
            }
        }
    }
}

/// Whether a field has a value of its own.
fn is_given(registration: &Registration, name: &str) -> bool {
    let mut fields = registration.fields.iter();
    fields.any(|field| field.name == name && field.value != Value::None)
}

/// Where a field's value stands; the registration itself if the field was not given.
fn value_offset(registration: &Registration, name: &str) -> u32 {
    let given = registration.fields.iter().find(|field| field.name == name);
    given.map_or(registration.call, |field| field.value_at)
}

fn policy(fields: &Fields, delay: Duration, (retry, on_failure): (Option<Retry>, OnFailure), by_turns: bool) -> Policy {
    Policy {
        run_mode: fields.run_mode,
        max_parallel: fields.max_parallel.0,
        run_on_load: match by_turns && fields.run_on_load == RunOnLoad::Always {
            // A fleet that is restarted must not run once more for what it has.
            true => RunOnLoad::IfChanged,
            false => fields.run_on_load,
        },
        on_delete: fields.on_delete,
        retry,
        on_failure,
        group: fields.group.clone(),
        service: fields.service.then_some(fields.ready_after.0),
        refuse_empty: fields.refuse_empty,
        refuse_shrink: fields.refuse_shrink.map(|share| share.0),
        notify_signal: fields.notify_signal.map(|signal| signal.0),
        settle: fields.settle.0,
        settle_max: fields.settle_max.0,
        delay,
        min_interval: fields.min_interval.0,
        by_turns,
    }
}

/// `FILE-N`: the file's name without its ending, and the watch's number in the file.
fn default_name(file: &Path, number: usize) -> Arc<str> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let stem: String = stem.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{stem}-{number}").into()
}
