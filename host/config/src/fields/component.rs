//! The arguments of `Wasm(…)`: their names, what they mean to a reader, and their defaults.
//!
//! As in `fields`, both file formats come here and the published JSON Schema is made from the same declaration. This module must
//! not look anything up: no files, no components.

use super::arguments::arguments;
use super::commands::Commands;
use super::declaration::fields;
use super::grants::{Arguments, Dirs, Memory, Settings, Warm, Znodes};
use super::mismatch::Mismatch;
use super::network::{Hosts, Origins};
use super::process::Environment;
use crate::accounts::Who;
use crate::reference::Reference;
use crate::value::{Call, Field, Value};
use twitcher_model::{Grants, SecretPlace};

/// The argument that says which component, and the only one that can be given by position.
pub(crate) const REF: &str = NAMES[0];

/// Most bytes of text that a component is given, in all: they travel with every run.
const TEXT_TOTAL_MAX: usize = 1 << 20;

fields! {
    /// A component with what it is granted. What is not granted, it cannot reach.
    struct ComponentFields, published as "Component", required [REF];

    /// The component: a file of one or of a bundle, as an absolute path or one that is relative to the directory of the file that says so;
    /// or an installed bundle by its name, such as "render" or "render@1.2".
    component: Option<Reference> = None,

    /// The component's own settings; Secret("/file") is a value that is read from a file when a run starts. With one, the component does
    /// not check its settings when the configuration is loaded.
    config: Settings = Settings::default(),

    /// Its arguments, after the name of the program.
    args: Arguments = Arguments::default(),

    /// Its environment: all of it. Secret("/file") is a value that is read from a file when a run starts.
    env: Environment = Environment::default(),

    /// Directories that it sees: where it finds each, and the host's directory, read-only unless ":rw" follows.
    dirs: Dirs = Dirs::default(),

    /// Addresses that it may connect to, as "host:port".
    net: Hosts = Hosts::default(),

    /// Origins that it may send HTTP requests to, such as "https://example.org".
    http: Origins = Origins::default(),

    /// Commands that it may have run, by the name that it knows them by: a program and its arguments. In place of an argument "{file}"
    /// comes the path of a file that it names in one of dirs; after a last argument "*", its own are appended; else it may give none.
    /// They run as the watch's user; Exec([…], uid = "root") as another one.
    commands: Commands = Commands::default(),

    /// Znodes that it may read, "r", or also set and create, "rw". "/path" is that node alone, "/path/**" the node and all below, which
    /// "rw" lets it also delete.
    znodes: Znodes = Znodes::default(),

    /// Most memory of its own: a size such as "64MiB", or a number of bytes.
    memory: Memory = Memory(64 << 20),

    /// Processes of it that wait for the next run, with all done that there is to do before the call; 0: none ever. Each run still has a
    /// process of its own. Not beside net, http or a Secret in env. Default: one if the component ran in the last ten minutes.
    warm: Option<Warm> = None,
}

impl ComponentFields {
    /// What the component may do.
    fn grants(self) -> Result<Grants, Mismatch> {
        let pairs = self.config.0.plain.iter().chain(&self.env.0.plain);
        let pairs = pairs.map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let commands = self.commands.0.iter().flat_map(|(command, _)| &command.argv);
        let total = pairs + self.args.0.iter().chain(commands).map(String::len).sum::<usize>();
        if total > TEXT_TOTAL_MAX {
            return Err(Mismatch::new(format!(
                "is given {total} bytes in config, args, env and commands; at most {TEXT_TOTAL_MAX} are allowed"
            ))
            .hint("put large texts into a file, in a directory that dirs grants".to_owned()));
        }
        let warm = self.warm.map(|warm| warm.0);
        let reaches_out = !self.net.0.is_empty() || !self.http.0.is_empty();
        let in_env = self.env.0.secrets(SecretPlace::Env).next().is_some();
        if warm.is_some_and(|count| count > 0) && (reaches_out || in_env) {
            let what = if reaches_out { "net or http" } else { "a Secret in env" };
            return Err(
                Mismatch::new(format!("cannot have warm processes beside {what}")).hint(format!(
                    "leave warm out: what {what} gives is found out for each run before its process is made"
                )),
            );
        }
        Ok(Grants {
            secrets: self
                .config
                .0
                .secrets(SecretPlace::Config)
                .chain(self.env.0.secrets(SecretPlace::Env))
                .collect(),
            config: self.config.0.plain,
            args: self.args.0,
            env: self.env.0.plain,
            dirs: self.dirs.0,
            net: self.net.0,
            http: self.http.0,
            commands: self.commands.0.into_iter().map(|(command, _)| command).collect(),
            znodes: self.znodes.0,
            memory: self.memory.0,
            warm,
        })
    }
}

/// A component as it is written.
pub(crate) struct Written {
    /// Which one is meant.
    pub(crate) reference: Reference,
    /// What it is granted; the users of its commands are yet to be looked up.
    pub(crate) grants: Grants,
    /// Those users, each with the name of the command.
    pub(crate) users: Vec<(String, Who)>,
    /// Where the commands stand.
    pub(crate) commands_at: u32,
}

/// The component that is meant, with what it is granted; or all that is wrong, each with the offset of its place.
pub(crate) fn read(call: &Call) -> Result<Written, Vec<(u32, Mismatch)>> {
    let mut fields = ComponentFields::default();
    let mut faults = arguments(call, ("a component", &NAMES), |name, value| fields.set(name, value));
    let given = |argument: &Field| argument.name == REF && argument.value != Value::None;
    if !call.arguments.iter().any(given) {
        let hint = "it is the first argument of Wasm(…): a path, or the name of a bundle".to_owned();
        faults.push((call.at, Mismatch::new("component is missing").hint(hint)));
    }
    let reference = fields.component.take();
    let others = fields.commands.0.iter().filter(|(_, who)| *who != Who::default());
    let users = others
        .map(|(command, who)| (command.name.clone(), who.clone()))
        .collect();
    let commands = call.arguments.iter().find(|argument| argument.name == "commands");
    let grants = fields.grants();
    match (reference, grants) {
        (Some(reference), Ok(grants)) if faults.is_empty() => Ok(Written {
            reference,
            grants,
            users,
            commands_at: commands.map_or(call.at, |commands| commands.value_at),
        }),
        (_, Err(mismatch)) => {
            let message = format!("the component {}", mismatch.message);
            faults.push((call.at, Mismatch { message, ..mismatch }));
            Err(faults)
        }
        _ => Err(faults),
    }
}
