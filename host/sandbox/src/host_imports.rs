//! `twitcher:action` as the host implements it: what a component may import.
//!
//! It must not decide what is granted: commands and znodes are asked of the daemon, which does.

use wasmtime::component::bindgen;

use super::channel::{
    self, CommandFailure, FIELDS_MAX, FromAction, Level, Reason, TEXT_MAX, ToAction, ZnodeFailure, ZnodeReply,
    ZnodeRequest, cut,
};
use super::description::{self, Fate};
use super::host::Host;
use twitcher_model::{self as model, CommandGrant, WatchType};

bindgen!({
    path: "../../wit",
    world: "action",
    exports: { default: async },
    imports: { default: trappable },
});

use self::twitcher::action::types::{EventKind, Stat};
use self::twitcher::action::{cancel, change, commands, config, context, log, types, znodes};

impl From<model::Stat> for Stat {
    fn from(stat: model::Stat) -> Self {
        Self {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            version: stat.version,
        }
    }
}

impl From<model::Trigger> for EventKind {
    fn from(event: model::Trigger) -> Self {
        match event {
            model::Trigger::Load => Self::Load,
            model::Trigger::Created => Self::Created,
            model::Trigger::Data => Self::Data,
            model::Trigger::Children => Self::Children,
            model::Trigger::Tree => Self::Tree,
            model::Trigger::Deleted => Self::Deleted,
            model::Trigger::Manual => Self::Manual,
            model::Trigger::Retry => Self::Retry,
        }
    }
}

impl types::Host for Host {}

impl context::Host for Host {
    fn path(&mut self) -> wasmtime::Result<String> {
        Ok(self.change()?.path.as_str().to_owned())
    }

    fn event(&mut self) -> wasmtime::Result<EventKind> {
        Ok(self.change()?.event.into())
    }

    fn node_stat(&mut self) -> wasmtime::Result<Option<Stat>> {
        Ok(self.change()?.stat.map(Stat::from))
    }

    fn children(&mut self) -> wasmtime::Result<Option<Vec<String>>> {
        if let Some(description) = self.description()? {
            return Ok(description.children.as_ref().map(|children| children.names.clone()));
        }
        Ok((self.change()?.watch_type == WatchType::Children).then(|| self.lines()))
    }

    fn changed_paths(&mut self) -> wasmtime::Result<Option<Vec<String>>> {
        if let Some(description) = self.description()? {
            let changed = description.changed.as_ref();
            return Ok(changed.map(|changed| changed.keys().cloned().collect()));
        }
        Ok((self.change()?.watch_type == WatchType::Tree).then(|| self.lines()))
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.change()?.attempt)
    }

    fn run_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.change()?.run.to_string())
    }

    fn watch_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.change()?.watch.to_string())
    }

    fn deadline_ms(&mut self) -> wasmtime::Result<Option<u64>> {
        let left = |timeout: std::time::Duration| timeout.saturating_sub(self.started.elapsed()).as_millis();
        Ok(self
            .change()?
            .timeout
            .map(left)
            .map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

impl change::Host for Host {
    fn since(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.description()?.and_then(|description| description.since.clone()))
    }

    fn data(&mut self) -> wasmtime::Result<Option<Vec<u8>>> {
        match self.description()? {
            Some(description) => Ok(description.data()?),
            None => Ok(None),
        }
    }

    fn children(&mut self) -> wasmtime::Result<Option<change::Difference>> {
        let children = self
            .description()?
            .and_then(|description| description.children.as_ref());
        Ok(children.map(|children| change::Difference {
            added: children.added.clone(),
            removed: children.removed.clone(),
        }))
    }

    fn tree(&mut self) -> wasmtime::Result<Option<Vec<change::Node>>> {
        let nodes = self.description()?.and_then(|description| description.nodes.as_ref());
        let Some(nodes) = nodes else { return Ok(None) };
        let one = |(path, node): (&String, &description::Node)| -> wasmtime::Result<change::Node> {
            Ok(change::Node {
                path: path.clone(),
                stat: node.stat.into(),
                data: node.data()?,
            })
        };
        Ok(Some(nodes.iter().map(one).collect::<Result<_, _>>()?))
    }

    fn changed(&mut self) -> wasmtime::Result<Option<Vec<(String, change::Fate)>>> {
        let changed = self.description()?.and_then(|description| description.changed.as_ref());
        let one = |(path, fate): (&String, &Fate)| (path.clone(), change::Fate::from(*fate));
        Ok(changed.map(|changed| changed.iter().map(one).collect()))
    }
}

impl From<Fate> for change::Fate {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Created => Self::Created,
            Fate::Set => Self::Set,
            Fate::Deleted => Self::Deleted,
        }
    }
}

impl config::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let found = self.grants().config.iter().find(|(name, _)| *name == key);
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let mut all = self.grants().config.clone();
        all.sort();
        Ok(all)
    }
}

impl log::Host for Host {
    fn log(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        let short = |(name, value)| (cut(name, 256), cut(value, TEXT_MAX));
        let message = FromAction::Log {
            level,
            message: cut(message, TEXT_MAX),
            fields: fields.into_iter().take(FIELDS_MAX).map(short).collect(),
        };
        Ok(self.channel.say(&message)?)
    }
}

impl cancel::Host for Host {
    fn requested(&mut self) -> wasmtime::Result<Option<cancel::Reason>> {
        Ok(self.channel.cancelled().map(|reason| match reason {
            Reason::Superseded => cancel::Reason::Superseded,
            Reason::Timeout => cancel::Reason::Timeout,
            Reason::Shutdown => cancel::Reason::Shutdown,
        }))
    }
}

/// What a daemon that answers another question than was asked has done.
pub(super) fn nonsense() -> wasmtime::Error {
    wasmtime::format_err!("the daemon gave an answer to another question")
}

impl commands::Host for Host {
    fn run(
        &mut self,
        name: String,
        args: Vec<String>,
        stdin: Vec<u8>,
    ) -> wasmtime::Result<Result<commands::Output, commands::Error>> {
        if let Err((path, why)) = self.look_for_files(&name, &args) {
            return Ok(Err(commands::Error::Failed(format!(
                "it cannot be given {:?}: {why}",
                cut(path.to_owned(), TEXT_MAX)
            ))));
        }
        let question = FromAction::Command { name, args, stdin };
        if channel::FORMAT.frame(&question).is_err() {
            return Ok(Err(commands::Error::Failed(
                "arguments and stdin are larger than 4 MiB".to_owned(),
            )));
        }
        let ToAction::Command(answer) = self.channel.ask(&question)? else {
            return Err(nonsense());
        };
        Ok(match answer {
            Ok(output) => Ok(commands::Output {
                code: output.code,
                signal: output.signal,
                stdout: output.stdout,
                stderr: output.stderr,
                truncated: output.truncated,
            }),
            Err(CommandFailure::Denied(why)) => Err(commands::Error::Denied(why)),
            Err(CommandFailure::Failed(why)) => Err(commands::Error::Failed(why)),
            Err(CommandFailure::TimedOut) => Err(commands::Error::TimedOut),
            Err(CommandFailure::Cancelled) => Err(commands::Error::Cancelled),
        })
    }
}

impl Host {
    /// Looks whether each file that a command is to be given is one. Whether it may be given, the daemon decides.
    fn look_for_files<'a>(&self, command: &str, args: &'a [String]) -> Result<(), (&'a str, String)> {
        let granted = self.grants().commands.iter().find(|granted| granted.name == command);
        let files = granted.map_or(0, CommandGrant::files);
        let mut files = args.iter().take(files);
        files.try_for_each(|path| self.look_for_file(path).map(drop).map_err(|why| (path.as_str(), why)))
    }

    /// Has the daemon use a znode, if that is granted.
    pub(super) fn znode(&mut self, request: ZnodeRequest) -> wasmtime::Result<Result<ZnodeReply, ZnodeFailure>> {
        let question = FromAction::Znode(request);
        if channel::FORMAT.frame(&question).is_err() {
            return Ok(Err(ZnodeFailure::TooLarge));
        }
        match self.channel.ask(&question)? {
            ToAction::Znode(answer) => Ok(answer),
            _ => Err(nonsense()),
        }
    }
}

impl From<ZnodeFailure> for znodes::Error {
    fn from(error: ZnodeFailure) -> Self {
        match error {
            ZnodeFailure::NoNode => Self::NoNode,
            ZnodeFailure::NodeExists => Self::NodeExists,
            ZnodeFailure::BadVersion => Self::BadVersion,
            ZnodeFailure::Denied(why) => Self::Denied(why),
            ZnodeFailure::TooLarge => Self::TooLarge,
            ZnodeFailure::SessionLost => Self::SessionLost,
            ZnodeFailure::UnknownOutcome => Self::UnknownOutcome,
            ZnodeFailure::Failed(why) => Self::Failed(why),
        }
    }
}

impl znodes::Host for Host {
    fn get(&mut self, path: String) -> wasmtime::Result<Result<znodes::Node, znodes::Error>> {
        match self.znode(ZnodeRequest::Get { path })? {
            Ok(ZnodeReply::Data(data, stat)) => Ok(Ok(znodes::Node {
                data,
                stat: stat.into(),
            })),
            Ok(_) => Err(nonsense()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn set(
        &mut self,
        path: String,
        data: Vec<u8>,
        expect_version: Option<i32>,
    ) -> wasmtime::Result<Result<Stat, znodes::Error>> {
        match self.znode(ZnodeRequest::Set {
            path,
            data,
            expect_version,
        })? {
            Ok(ZnodeReply::Set(stat)) => Ok(Ok(stat.into())),
            Ok(_) => Err(nonsense()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn create(&mut self, path: String, data: Vec<u8>) -> wasmtime::Result<Result<(), znodes::Error>> {
        match self.znode(ZnodeRequest::Create { path, data })? {
            Ok(ZnodeReply::Created) => Ok(Ok(())),
            Ok(_) => Err(nonsense()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn children(&mut self, path: String) -> wasmtime::Result<Result<Vec<String>, znodes::Error>> {
        match self.znode(ZnodeRequest::Children { path })? {
            Ok(ZnodeReply::Children(names)) => Ok(Ok(names)),
            Ok(_) => Err(nonsense()),
            Err(error) => Ok(Err(error.into())),
        }
    }
}
