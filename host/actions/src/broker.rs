//! What is done on behalf of a component outside the sandbox: runs commands as the user that the operator gave them, which is the watch's
//! unless the configuration names another, and uses znodes in its own session.
//!
//! The component is hostile: what it asks for is held against the grants of its run, here, where it cannot reach. That it was denied
//! is logged where the answer passes, with all else that its run adds to the log.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use twitcher_launch::protocol::Task;
use twitcher_launch::{
    AnswerTo, Asker, ComponentQuestion, Control, Invocation, Launches, Purpose, RunReport, SecretValues,
};
use twitcher_model::{CommandGrant, MissingGrant, Outcome, ProcessSettings, RunId, WasmAction, ZnodeGrant, ZnodePath};
use twitcher_sandbox::channel::{
    CommandFailure, CommandOutput, Reason, ToAction, ZnodeFailure, ZnodeReply, ZnodeRequest, cut,
};
use twitcher_source::{self as source, Readers, Znodes};

use crate::environment;

/// How long a command may take when its watch has no timeout.
const COMMAND_TIME: Duration = Duration::from_secs(300);

/// Longest path of a znode that a component may name, in bytes. The log and the answer repeat it.
const PATH_MAX: usize = 4096;
/// How much of a name that is not granted is repeated, in bytes.
const NAME_MAX: usize = 256;

/// A command that runs for a component.
struct Waiting {
    parent: RunId,
    logged: bool,
    name: String,
    watch: std::sync::Arc<str>,
    answer: AnswerTo,
}

/// Answers the questions of components.
#[derive(Default)]
pub struct Broker {
    commands: HashMap<RunId, Waiting>,
}

impl Broker {
    /// Answers a question, now or later. `run` is the id for a command, should it be one.
    pub fn asked(
        &mut self,
        asker: Asker,
        question: ComponentQuestion,
        answer: AnswerTo,
        run: RunId,
        launches: &Launches,
        znodes: &Znodes,
    ) {
        match question {
            ComponentQuestion::Command { name, args, stdin } => {
                self.command(asker, name, args, stdin, answer, run, launches)
            }
            ComponentQuestion::Znode(request) => match znode(&asker.action, &request) {
                Ok(path) => {
                    let znodes = znodes.clone();
                    tokio::task::spawn_local(async move {
                        let result = carry_out(&znodes, path, request).await;
                        answer.give(ToAction::Znode(result.map_err(|error| words(&error))));
                    });
                }
                Err(error) => answer.give(ToAction::Znode(Err(error))),
            },
        }
    }

    #[allow(clippy::too_many_arguments, reason = "they are the parts of one question")]
    fn command(
        &mut self,
        asker: Asker,
        name: String,
        args: Vec<String>,
        stdin: Vec<u8>,
        answer: AnswerTo,
        run: RunId,
        launches: &Launches,
    ) {
        let (granted, argv) = match command(&asker.action, &name, args) {
            Ok(granted) => granted,
            Err(why) => return answer.give(ToAction::Command(Err(CommandFailure::Denied(why)))),
        };
        if asker.logged {
            info!(watch = &*asker.watch, run_id = %asker.run, command = name, "running a command for the component");
        }
        let mut process = ProcessSettings {
            timeout: Some(asker.process.timeout.unwrap_or(COMMAND_TIME)),
            pipe_stdin: true,
            hardening: granted.hardening.clone(),
            ..(*asker.process).clone()
        };
        let mut env = asker.env;
        if let Some(identity) = &granted.identity {
            process.identity = identity.clone();
            env = environment::of_user(env, identity);
        }
        launches.launch(Invocation {
            run,
            watch: asker.watch.clone(),
            task: Task::Exec(argv),
            env,
            process: process.into(),
            stdin: Bytes::from(stdin),
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: true,
            aside: false,
        });
        let waiting = Waiting {
            parent: asker.run,
            logged: asker.logged,
            name,
            watch: asker.watch,
            answer,
        };
        self.commands.insert(run, waiting);
    }

    /// The watch of a command.
    pub fn watch_of(&self, run: RunId) -> Option<&std::sync::Arc<str>> {
        self.commands.get(&run).map(|waiting| &waiting.watch)
    }

    /// Takes the end of a command; false for another run.
    pub fn ended(&mut self, run: RunId, report: &mut RunReport) -> bool {
        let Some(waiting) = self.commands.remove(&run) else {
            return false;
        };
        let Waiting {
            parent,
            logged,
            name,
            watch,
            answer,
        } = waiting;
        if logged {
            let (outcome, seconds) = (&report.outcome, report.elapsed.as_secs_f64());
            info!(watch = &*watch, run_id = %parent, command = name, %outcome, seconds, "command ended");
        }
        answer.give(ToAction::Command(result(report)));
        true
    }

    /// A run has ended: what still runs for it is of no use to anyone.
    pub fn parent_ended(&self, parent: RunId, launches: &Launches) {
        for (run, _) in self.commands.iter().filter(|(_, waiting)| waiting.parent == parent) {
            launches.control(*run, Control::Terminate(Reason::Shutdown));
        }
    }

    /// Whether no command runs.
    pub fn is_idle(&self) -> bool {
        self.commands.is_empty()
    }
}

fn result(report: &mut RunReport) -> Result<CommandOutput, CommandFailure> {
    let captured = report.captured.take().unwrap_or_default();
    let output = |code, signal| CommandOutput {
        code,
        signal,
        stdout: captured.stdout,
        stderr: captured.stderr,
        truncated: captured.truncated,
    };
    match &report.outcome {
        Outcome::Exited(code) => Ok(output(Some(*code), None)),
        Outcome::Signaled { signal, .. } => Ok(output(None, Some(*signal))),
        Outcome::TimedOut => Err(CommandFailure::TimedOut),
        Outcome::Terminated => Err(CommandFailure::Cancelled),
        failed @ (Outcome::LaunchFailed { .. } | Outcome::Failed { .. }) => {
            Err(CommandFailure::Failed(failed.to_string()))
        }
    }
}

/// A granted command and its command line, or why it is denied.
fn command<'a>(
    action: &'a WasmAction,
    name: &str,
    mut args: Vec<String>,
) -> Result<(&'a CommandGrant, Vec<String>), String> {
    let Some(granted) = action.grants.commands.iter().find(|granted| granted.name == name) else {
        let what = format!("the command {:?} is not granted", cut(name.to_owned(), NAME_MAX));
        return Err(not_granted(&what, MissingGrant::command(name), action));
    };
    let files = granted.files();
    if args.len() < files {
        return Err(format!(
            "the command {name:?} takes a file, and the component names none"
        ));
    }
    let rest = args.split_off(files);
    if !granted.arguments && !rest.is_empty() {
        let advice = match files {
            0 => {
                "to give it a file of one of dirs, put \"{file}\" where that belongs; to allow any, end its list in commands with \"*\""
            }
            _ => "to allow any, end its list in commands with \"*\"",
        };
        return Err(format!(
            "the command {name:?} takes no such arguments of the component; {advice}"
        ));
    }
    let mut files = args.iter();
    let mut argv = Vec::with_capacity(granted.argv.len() + rest.len());
    for argument in &granted.argv {
        argv.push(match argument == CommandGrant::FILE {
            true => file(action, name, files.next().map_or("", String::as_str))?,
            false => argument.clone(),
        });
    }
    argv.extend(rest);
    Ok((granted, argv))
}

/// What a file that the component names is on this host. It is one that the component may write, so that a command gets nothing by it that
/// was not the component's before.
fn file(action: &WasmAction, command: &str, path: &str) -> Result<String, String> {
    let shown = || cut(path.to_owned(), NAME_MAX);
    let is_long = path.len() > PATH_MAX;
    let writable = action.grants.dirs.iter().filter(|dir| dir.writable && !is_long);
    let found = writable.filter_map(|dir| dir.on_host(path)).next();
    found
        .and_then(|path| path.into_os_string().into_string().ok())
        .ok_or_else(|| {
            format!(
                "the command {command:?} takes a file in a directory of dirs that ends in \":rw\", and {:?} is in none",
                shown()
            )
        })
}

fn not_granted(what: &str, missing: Option<MissingGrant>, action: &WasmAction) -> String {
    let advice = missing.map(|missing| missing.to_allow(&action.component));
    format!("{what}; {}", advice.as_deref().unwrap_or("nothing allows it"))
}

/// The node of a granted request, or why it is denied.
fn znode(action: &WasmAction, request: &ZnodeRequest) -> Result<ZnodePath, ZnodeFailure> {
    if request.path().len() > PATH_MAX {
        return Err(ZnodeFailure::Failed(format!(
            "the path is longer than {PATH_MAX} bytes"
        )));
    }
    let path = ZnodePath::new(request.path()).map_err(|error| ZnodeFailure::Failed(error.to_string()))?;
    let mut grants = action.grants.znodes.iter();
    let (what, permits, missing): (_, fn(&ZnodeGrant, &ZnodePath) -> bool, _) = match request {
        ZnodeRequest::Get { .. } | ZnodeRequest::Children { .. } => {
            ("reading", ZnodeGrant::covers, MissingGrant::znode(&path, "r"))
        }
        ZnodeRequest::Set { .. } | ZnodeRequest::Create { .. } | ZnodeRequest::CreateParent { .. } => {
            ("changing", ZnodeGrant::permits_change, MissingGrant::znode(&path, "rw"))
        }
        ZnodeRequest::Delete { .. } => {
            let missing = path.parent().and_then(|parent| MissingGrant::below(&parent, "rw"));
            ("deleting", ZnodeGrant::permits_delete, missing)
        }
    };
    if grants.any(|grant| permits(grant, &path)) {
        return Ok(path);
    }
    let what = format!("{what} {path} is not granted");
    Err(ZnodeFailure::Denied(not_granted(&what, missing, action)))
}

async fn carry_out(znodes: &Znodes, path: ZnodePath, request: ZnodeRequest) -> Result<ZnodeReply, source::ZnodeError> {
    Ok(match request {
        ZnodeRequest::Get { .. } => {
            let (data, stat) = znodes.get(&path).await?;
            ZnodeReply::Data(data.to_vec(), stat)
        }
        ZnodeRequest::Children { .. } => ZnodeReply::Children(znodes.children(&path).await?),
        ZnodeRequest::Set {
            data, expect_version, ..
        } => ZnodeReply::Set(znodes.set(&path, data.into(), expect_version).await?),
        ZnodeRequest::Create { data, .. } => {
            znodes.create(&path, data.into()).await?;
            ZnodeReply::Created
        }
        ZnodeRequest::CreateParent { .. } => {
            znodes.create_parent(&path, Readers::Creator).await?;
            ZnodeReply::Created
        }
        ZnodeRequest::Delete { .. } => {
            znodes.delete(&path, None).await?;
            ZnodeReply::Deleted
        }
    })
}

fn words(error: &source::ZnodeError) -> ZnodeFailure {
    use source::ZnodeError as Source;
    match error {
        Source::NoNode(_) => ZnodeFailure::NoNode,
        Source::NodeExists(_) => ZnodeFailure::NodeExists,
        Source::BadVersion(_) => ZnodeFailure::BadVersion,
        Source::TooLarge { .. } => ZnodeFailure::TooLarge,
        Source::Denied { .. } => ZnodeFailure::Denied(error.to_string()),
        Source::SessionLost(_) => ZnodeFailure::SessionLost,
        Source::UnknownOutcome(_) => ZnodeFailure::UnknownOutcome,
        Source::Failed { .. } => ZnodeFailure::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;
    use twitcher_model::{BundleIdentity, Component, Digest, DirGrant, EntryPoint, Grants, Hardening, Keep};

    fn action() -> WasmAction {
        let command = |name: &str, argv: &[&str], arguments| CommandGrant {
            name: name.into(),
            argv: argv.iter().map(|arg| (*arg).into()).collect(),
            arguments,
            identity: None,
            hardening: Hardening::default(),
        };
        let dir = |guest: &str, host: &str, writable| DirGrant {
            guest: guest.into(),
            host: Path::new(host).into(),
            writable,
        };
        let znode = |path: &str, below, writable| ZnodeGrant {
            path: ZnodePath::new(path).unwrap(),
            below,
            writable,
        };
        let file: Arc<Path> = Arc::from(Path::new("/x.wasm"));
        WasmAction {
            component: Component {
                file: Arc::clone(&file),
                bundle: None,
                digest: Digest([0; 32]),
                entry: EntryPoint::Handler,
                native: file,
                keep: Keep::default(),
            },
            grants: Grants {
                commands: vec![
                    command("reload", &["systemctl", "reload", "app"], false),
                    command("git", &["git"], true),
                    command("check", &["haproxy", "-c", "-f", "{file}"], false),
                ],
                dirs: vec![
                    dir("/out", "/etc/haproxy", true),
                    dir("/templates", "/srv/templates", false),
                ],
                znodes: vec![znode("/app", true, false), znode("/app/status", false, true)],
                ..Grants::default()
            },
        }
    }

    fn line(action: &WasmAction, name: &str, args: &[&str]) -> Result<Vec<String>, String> {
        let args = args.iter().map(|arg| (*arg).into()).collect();
        command(action, name, args).map(|(_, argv)| argv)
    }

    #[test]
    fn a_file_is_one_that_the_component_may_write() {
        let run = |args: &[&str]| line(&action(), "check", args);
        let argv = run(&["/out/.a.cfg.new"]).unwrap();
        assert_eq!(argv, ["haproxy", "-c", "-f", "/etc/haproxy/.a.cfg.new"]);
        for path in [
            "/templates/a",
            "/etc/shadow",
            "/out/../shadow",
            "/out",
            "-V",
            "",
            "/outside/a",
        ] {
            let why = run(&[path]).unwrap_err();
            assert!(why.contains("is in none"), "{path}: {why}");
        }
        assert!(run(&[]).unwrap_err().contains("takes a file"));
        assert!(run(&["/out/a", "-V"]).unwrap_err().contains("no such arguments"));
        assert!(run(&[&format!("/out/{}", "x".repeat(1 << 20))]).unwrap_err().len() < 1000);
        let mut more = action();
        more.grants.commands[2].arguments = true;
        let argv = line(&more, "check", &["/out/a", "-V"]).unwrap();
        assert_eq!(argv, ["haproxy", "-c", "-f", "/etc/haproxy/a", "-V"]);
    }

    #[test]
    fn only_named_commands_run_and_arguments_only_where_the_operator_lets_them() {
        let run = |name: &str, args: &[&str]| line(&action(), name, args);
        assert_eq!(run("reload", &[]).unwrap(), ["systemctl", "reload", "app"]);
        assert_eq!(
            run("git", &["; rm -rf /", "$(id)"]).unwrap(),
            ["git", "; rm -rf /", "$(id)"]
        );
        assert!(run("reload", &["--root=/"]).unwrap_err().contains("\"*\""));
        assert!(run("sh", &["-c", "id"]).unwrap_err().contains("commands = {\"sh\": "));
        assert!(run("/bin/sh", &[]).is_err());
        let long = run(&"x".repeat(1 << 20), &[]).unwrap_err();
        assert!(long.len() < 1000, "repeated at length: {} bytes", long.len());
    }

    #[test]
    fn of_a_bundle_it_is_also_told_what_the_bundle_must_request() {
        let mut action = action();
        action.component.bundle = Some(Arc::new(BundleIdentity {
            reference: "app".into(),
            name: "app".into(),
            version: "1.2.0".into(),
            digest: Digest([0; 32]),
            standing: String::new(),
        }));
        let why = line(&action, "sh", &[]).unwrap_err();
        assert!(
            why.contains("the bundle app 1.2.0 must request it") && why.contains("--command sh for that"),
            "{why}"
        );
    }

    #[test]
    fn only_granted_znodes_are_used() {
        let get = |path: &str| znode(&action(), &ZnodeRequest::Get { path: path.into() });
        let set = |path: &str| {
            let data = Vec::new();
            znode(
                &action(),
                &ZnodeRequest::Set {
                    path: path.into(),
                    data,
                    expect_version: None,
                },
            )
        };
        assert!(get("/app").is_ok() && get("/app/a/b").is_ok() && get("/app/status").is_ok());
        assert!(set("/app/status").is_ok());
        for denied in [get("/application"), get("/"), set("/app"), set("/app/status/x")] {
            assert!(
                matches!(&denied, Err(ZnodeFailure::Denied(why)) if why.contains("znodes = {")),
                "{denied:?}"
            );
        }
        assert!(matches!(get("/app/../x"), Err(ZnodeFailure::Failed(_))));
        let long = format!("/{}", "x".repeat(1 << 20));
        assert!(matches!(get(&long), Err(ZnodeFailure::Failed(why)) if why.len() < 100));
    }
    #[test]
    fn only_what_is_below_a_writable_subtree_is_deleted() {
        let mut action = action();
        let mut grant = |path: &str, below| {
            let path = ZnodePath::new(path).unwrap();
            action.grants.znodes.push(ZnodeGrant {
                path,
                below,
                writable: true,
            });
        };
        grant("/kept", false);
        grant("/bucket", true);
        let delete = |path: &str| znode(&action, &ZnodeRequest::Delete { path: path.into() });
        assert!(delete("/bucket/a").is_ok() && delete("/bucket/a/b").is_ok());
        for (denied, advice) in [
            ("/bucket", "{\"/**\": \"rw\"}"),
            ("/kept", "{\"/**\": \"rw\"}"),
            ("/kept/a", "{\"/kept/**\": \"rw\"}"),
            ("/app/a", "{\"/app/**\": \"rw\"}"),
            ("/app/status", "{\"/app/**\": \"rw\"}"),
        ] {
            let Err(ZnodeFailure::Denied(why)) = delete(denied) else {
                panic!("{denied} may be deleted");
            };
            assert!(
                why.starts_with(&format!("deleting {denied} ")) && why.contains(advice),
                "{why}"
            );
        }
        assert!(matches!(delete("/"), Err(ZnodeFailure::Denied(why)) if why.contains("nothing allows it")));
    }
}
