//! What `commands` of `Wasm(…)` accepts: programs that a component may have run, each by a name.
//!
//! A component chooses nothing of them but arguments where the operator lets it. This module must not look up users.

use std::borrow::Cow;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use super::collections::{Dict, Entries, List, unfit_item};
use super::declaration::FieldType;
use super::forms::{Form, Seen, Text};
use super::grants::{ARGUMENT, NAME};
use super::hardening;
use super::mismatch::{Mismatch, Refusal};
use super::process::Account;
use super::types::LIST_MAX;
use crate::accounts::Who;
use crate::error::did_you_mean;
use crate::value::{Inner, quoted};
use twitcher_model::{CommandGrant, Hardening};

/// `commands`: each with who it runs as, whom nobody has looked up yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commands(pub(crate) Vec<(CommandGrant, Who)>);

impl FieldType for Commands {
    type Form = Dict<Text<String>, CommandForm>;
    const FORM: Self::Form = Dict {
        words: "a dict of commands",
        keys: NAME,
        values: CommandForm,
        most: LIST_MAX,
        entries: "entries",
    };

    fn of(entries: Entries<String, Command>) -> Result<Self, Refusal> {
        let grant = |entry: Result<(String, Command), Refusal>| {
            let (name, command) = entry?;
            let Command {
                argv,
                arguments,
                who,
                hardening,
            } = command;
            let grant = CommandGrant {
                name,
                argv,
                arguments,
                identity: None,
                hardening,
            };
            Ok((grant, who))
        };
        entries.into_iter().map(grant).collect::<Result<_, _>>().map(Self)
    }

    fn written(&self) -> Json {
        let commands = self.0.iter();
        commands
            .map(|(command, _)| (command.name.clone(), written(command)))
            .collect()
    }
}

/// A command as it is written in JSON.
pub(crate) fn written(command: &CommandGrant) -> Json {
    let list: Json = command.list().collect();
    let user = command.identity.as_ref().map(|identity| &identity.user);
    if user.is_none() && command.hardening == Hardening::default() {
        return list;
    }
    let mut exec = hardening::written(list, &command.hardening);
    if let Some(user) = user {
        exec["uid"] = json!(user);
    }
    exec
}

/// A program with its arguments, and whether the component may append its own.
#[derive(Default)]
pub(crate) struct Command {
    argv: Vec<String>,
    arguments: bool,
    who: Who,
    hardening: Hardening,
}

/// A list that begins with the program, and may end with `"*"`; or an `Exec(…)` of one.
pub(crate) struct CommandForm;

const COMMAND: List<Text<String>> = List {
    items: ARGUMENT,
    least: 1,
    most: LIST_MAX,
};

/// What has a list run as somebody else.
const EXEC: &str = "exec";

impl CommandForm {
    /// The program and its arguments.
    fn list(seen: Seen<'_>) -> Result<(Vec<String>, bool), Refusal> {
        let items = match seen.list() {
            Some(items) if items.len() <= COMMAND.most => items,
            Some(_) => return Err(Refusal::unfit("one that is so long")),
            None => {
                let hint = "write [\"program\", \"argument\"]: nothing goes through a shell";
                return Err(Refusal::Unfit {
                    got: None,
                    hint: seen.text().map(|_| hint.to_owned()),
                });
            }
        };
        let mut argv = Vec::with_capacity(items.len());
        for item in items {
            argv.push(match COMMAND.items.read(Seen::Scalar(item)) {
                Err(Refusal::Unfit { .. }) => return Err(unfit_item(item)),
                read => read?,
            });
        }
        let arguments = argv.pop_if(|last| last == "*").is_some();
        match argv.first() {
            Some(program) if program == CommandGrant::FILE => {
                let mismatch = Mismatch::new(format!("must not begin with {}", quoted(program)));
                let hint = "what a component writes is not executed: name a program that is given the file";
                Err(mismatch.hint(hint.to_owned()).into())
            }
            Some(program) if !program.is_empty() => {
                let mut within = argv.iter().filter(|argument| argument.contains(CommandGrant::FILE));
                match within.find(|argument| *argument != CommandGrant::FILE) {
                    Some(argument) => {
                        let mismatch = Mismatch::new(format!(
                            "has {}, in which {} is only a part: the component would write the rest of it",
                            quoted(argument),
                            quoted(CommandGrant::FILE)
                        ));
                        let hint = "give the file an argument of its own, as in [\"sh\", \"-c\", \"nginx -t -c \\\"$1\\\"\", \"sh\", \"{file}\"]";
                        Err(mismatch.hint(hint.to_owned()).into())
                    }
                    None => Ok((argv, arguments)),
                }
            }
            Some(_) => Err(Refusal::unfit("an empty string")),
            None if arguments => Err(Refusal::Unfit {
                got: Some("\"*\" alone".to_owned()),
                hint: Some("a command of the component's own choice cannot be granted".to_owned()),
            }),
            None => Err(Refusal::unfit("an empty list")),
        }
    }

    /// What `Exec(…)` makes.
    fn exec(entries: &[(String, Inner)]) -> Result<Command, Refusal> {
        let mut command = Command::default();
        let mut listed = false;
        for (name, value) in entries {
            let seen = Seen::inner(value);
            let account = || {
                let told = |refusal: Refusal| {
                    let words = Account::FORM.words_for(name);
                    refusal.told(seen, |got| format!("must have {words}, not {got}"))
                };
                Account::FORM.read(seen).and_then(Account::of).map_err(told)
            };
            match name.as_str() {
                EXEC => {
                    let told = |refusal: Refusal| {
                        let words = Self.words_for(EXEC);
                        refusal.told(seen, |got| format!("must have {words}, not {got}"))
                    };
                    (command.argv, command.arguments) = Self::list(seen).map_err(told)?;
                    listed = true;
                }
                "uid" => command.who.uid = Some(account()?),
                "gid" => command.who.gid = Some(account()?),
                name if hardening::NAMES.contains(&name) => hardening::set(&mut command.hardening, name, seen)?,
                other => {
                    let known = hardening::NAMES.into_iter().chain([EXEC, "uid", "gid"]);
                    let mismatch = Mismatch::new(format!("has {}, which is nothing of a command", quoted(other)));
                    return Err(mismatch.hint(did_you_mean(other, known)).into());
                }
            }
        }
        match (listed, &command.who) {
            (false, _) => Err(Refusal::Unfit {
                got: Some("a dict without \"exec\"".to_owned()),
                hint: Some(
                    "write Exec([\"program\"], uid = \"user\"); in JSON {\"exec\": [\"program\"], \"uid\": \"user\"}"
                        .to_owned(),
                ),
            }),
            (
                true,
                Who {
                    uid: None,
                    gid: Some(_),
                },
            ) => {
                let mismatch = Mismatch::new("has a command with a gid and no uid");
                Err(mismatch
                    .hint("a command runs as the watch's user and group, or as another user: give a uid".to_owned())
                    .into())
            }
            (true, _) => Ok(command),
        }
    }
}

impl Form for CommandForm {
    type Read = Command;

    fn words(&self) -> Cow<'static, str> {
        COMMAND.words()
    }

    fn words_for(&self, key: &str) -> String {
        format!("{} for {}, beginning with the program", self.words(), quoted(key))
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let mut exec = hardening::properties(generator);
        exec.insert(EXEC.to_owned(), COMMAND.schema(generator).to_value());
        for (name, doc) in [
            ("uid", "The user that it runs as. Default: the watch's."),
            ("gid", "The group that it runs as. Default: that of the user."),
        ] {
            let mut account = Account::schema(generator);
            account.insert("description".to_owned(), doc.into());
            exec.insert(name.to_owned(), account.to_value());
        }
        json_schema!({"oneOf": [
            COMMAND.schema(generator),
            {
                "type": "object",
                "required": [EXEC],
                "dependentRequired": {"gid": ["uid"]},
                "additionalProperties": false,
                "properties": exec,
            },
        ]})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Command, Refusal> {
        if let Seen::Dict(entries) = seen {
            return Self::exec(entries);
        }
        let (argv, arguments) = Self::list(seen)?;
        Ok(Command {
            argv,
            arguments,
            ..Command::default()
        })
    }
}
