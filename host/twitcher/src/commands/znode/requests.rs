//! The commands that end with one answer.

use std::io::{self, IsTerminal};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::LocalSet;
use twitcher_daemon::SourceOptions;
use twitcher_model::{Stat, ZnodePath};
use twitcher_source::{
    Denial, Readers, Requests, SourceConnection, ZnodeError, Znodes, tree as tree_source, zookeeper as zookeeper_source,
};

use super::error::ZnodeCommandError;
use super::subtree::{self, SubtreeError};
use super::{Done, data, print, runtime, view};
use crate::args::{ListArguments, SetArguments, ZnodeCommand, ZnodeRequestArguments};
use crate::commands::source_options;

/// How often a znode that comes and goes is set or created.
const ATTEMPTS: u32 = 5;

/// Carries out a command other than `watch`.
pub(super) fn answer(command: &ZnodeCommand) -> Done {
    let request = match command {
        ZnodeCommand::Get(arguments) => &arguments.request,
        ZnodeCommand::Stat(arguments) => &arguments.request,
        ZnodeCommand::Ls(arguments) => &arguments.request,
        ZnodeCommand::Set(arguments) => &arguments.request,
        ZnodeCommand::Create(arguments) => &arguments.request,
        ZnodeCommand::Delete(arguments) => &arguments.request,
        ZnodeCommand::Watch(_) => return Ok(()),
    };
    // What is to be written first: no session waits for who types it.
    let data = match command {
        ZnodeCommand::Set(arguments) => data::read(&arguments.data, &request.common.source)?,
        ZnodeCommand::Create(arguments) => data::read(&arguments.data, &request.common.source)?,
        _ => Bytes::new(),
    };
    runtime()?.block_on(LocalSet::new().run_until(async {
        let (asker, requests) = Asker::new(request)?;
        let answered = asker.carry_out(command, data).await;
        drop(asker);
        requests.close().await;
        print(&answered?)
    }))
}

/// One command while it is carried out.
struct Asker<'a> {
    request: &'a ZnodeRequestArguments,
    znodes: Znodes,
    connection: watch::Receiver<SourceConnection>,
    /// The servers or the directory, and the chroot.
    place: String,
    chroot: Option<ZnodePath>,
    credentials: bool,
}

impl<'a> Asker<'a> {
    fn new(request: &'a ZnodeRequestArguments) -> Done<(Self, Requests)> {
        let source = &request.common.source;
        let options = source_options::read(source, "no servers").map_err(ZnodeCommandError::Arguments)?;
        let mut chroot = None;
        let (requests, place, credentials) = match options {
            SourceOptions::ZooKeeper(mut options) => {
                options.patience = request.timeout;
                let credentials = options.has_credentials();
                let place = options.servers.to_string();
                chroot = options.servers.chroot().cloned();
                (zookeeper_source::requests(*options), place, credentials)
            }
            SourceOptions::Tree(options) => {
                if !options.root.is_dir() {
                    return Err(ZnodeCommandError::NoTree(options.root));
                }
                let place = options.root.display().to_string();
                let requests = tree_source::requests(&options);
                (
                    requests.map_err(|error| ZnodeCommandError::Arguments(error.into()))?,
                    place,
                    false,
                )
            }
        };
        let asker = Self {
            request,
            znodes: requests.znodes.clone(),
            connection: requests.connection.clone(),
            place,
            chroot,
            credentials,
        };
        Ok((asker, requests))
    }

    /// What is printed.
    async fn carry_out(&self, command: &ZnodeCommand, data: Bytes) -> Done<Vec<u8>> {
        let (znodes, path, json) = (&self.znodes, &self.request.path, self.request.common.json);
        Ok(match command {
            ZnodeCommand::Get(_) => {
                let (data, stat) = self.done(znodes.get(path).await)?;
                match json {
                    true => view::line(&view::contents(path, &data, &stat)),
                    false => data.into(),
                }
            }
            ZnodeCommand::Ls(arguments) => self.list(arguments).await?,
            ZnodeCommand::Stat(arguments) => {
                let stat = self.done(znodes.stat(path).await)?;
                let acl = match arguments.acl {
                    true => self.done(znodes.acl(path).await)?,
                    false => None,
                };
                match json {
                    true => view::line(&view::whole_stat(path, &stat, acl.as_deref())),
                    false => view::stat_table(&stat, acl.as_deref()).into_bytes(),
                }
            }
            ZnodeCommand::Set(arguments) => {
                let stat = self.set(arguments, data).await?;
                match json {
                    true => view::line(&view::written(path, &stat)),
                    false => format!("{}\n", stat.version).into_bytes(),
                }
            }
            ZnodeCommand::Create(arguments) => {
                let readers = readers(arguments.new.world_readable);
                if arguments.new.parents {
                    self.make_parents(readers).await?;
                }
                let stat = self.done(znodes.create_for(path, data, readers).await)?;
                match json {
                    true => view::line(&view::written(path, &stat)),
                    false => Vec::new(),
                }
            }
            ZnodeCommand::Delete(arguments) => {
                let deleted = match arguments.recursive {
                    true => self.done_below(subtree::delete(znodes, path).await)?,
                    false => {
                        let deleted = znodes.delete(path, arguments.if_version).await;
                        self.if_version(arguments.if_version, deleted).await?;
                        1
                    }
                };
                match json {
                    true => view::line(&json!({"znode": path, "deleted": deleted})),
                    false => Vec::new(),
                }
            }
            ZnodeCommand::Watch(_) => Vec::new(),
        })
    }

    async fn list(&self, arguments: &ListArguments) -> Done<Vec<u8>> {
        let path = &self.request.path;
        let names: Vec<String> = match arguments.recursive {
            true => {
                let below = self.done_below(subtree::list(&self.znodes, path).await)?;
                below.iter().map(ToString::to_string).collect()
            }
            false => self.done(self.znodes.children(path).await)?,
        };
        let key = if arguments.recursive { "znodes" } else { "children" };
        Ok(match self.request.common.json {
            true => view::line(&json!({"znode": path, key: names})),
            false => view::names(&names, io::stdout().is_terminal()).into_bytes(),
        })
    }

    async fn set(&self, arguments: &SetArguments, data: Bytes) -> Done<Stat> {
        let (path, readers) = (&self.request.path, readers(arguments.world_readable));
        for _ in 0..ATTEMPTS {
            let set = self.znodes.set(path, data.clone(), arguments.if_version).await;
            let absent = matches!(set, Err(ZnodeError::NoNode(_)));
            if !absent || !arguments.parents || arguments.if_version.is_some() {
                return self.if_version(arguments.if_version, set).await;
            }
            self.make_parents(readers).await?;
            match self.znodes.create_for(path, data.clone(), readers).await {
                // Somebody else was faster, or took away the parent again.
                Err(ZnodeError::NodeExists(_) | ZnodeError::NoNode(_)) => {}
                created => return self.done(created),
            }
        }
        Err(ZnodeCommandError::Contended(path.clone()))
    }

    /// Creates what is missing above the znode. What is there may be closed to us, so it is only looked at.
    async fn make_parents(&self, readers: Readers) -> Done {
        let mut missing = Vec::new();
        let mut above = self.request.path.parent();
        while let Some(znode) = above {
            match self.znodes.stat(&znode).await {
                Err(ZnodeError::NoNode(_)) if znode.parent().is_some() => {}
                looked => {
                    self.done(looked)?;
                    break;
                }
            }
            above = znode.parent();
            missing.push(znode);
        }
        for znode in missing.iter().rev() {
            match self.znodes.create_parent(znode, readers).await {
                Err(ZnodeError::NodeExists(_)) => {}
                created => self.done(created)?,
            }
        }
        Ok(())
    }

    /// The same as [`Asker::done`], and of another version than the expected one which it is.
    async fn if_version<T>(&self, expected: Option<i32>, result: Result<T, ZnodeError>) -> Done<T> {
        if let (Err(ZnodeError::BadVersion(znode)), Some(expected)) = (&result, expected)
            && let Ok(found) = self.znodes.stat(znode).await
            && found.stat.version != expected
        {
            return Err(ZnodeCommandError::Version {
                znode: znode.clone(),
                expected,
                found: found.stat.version,
            });
        }
        self.done(result)
    }

    fn done_below<T>(&self, result: Result<T, SubtreeError>) -> Done<T> {
        match result {
            Ok(value) => Ok(value),
            Err(SubtreeError::Refused(error)) => Err(error),
            Err(SubtreeError::Request(error)) => self.done(Err(error)),
        }
    }

    /// What a failed request means to who gave this command.
    fn done<T>(&self, result: Result<T, ZnodeError>) -> Done<T> {
        result.map_err(|error| match error {
            ZnodeError::SessionLost(znode) => ZnodeCommandError::NoSession {
                znode,
                servers: self.place.clone(),
                seconds: self.request.timeout.as_secs_f64(),
                problem: self.connection.borrow().problem.clone(),
            },
            ZnodeError::Denied {
                znode,
                why: Denial::Acl,
            } => ZnodeCommandError::Denied {
                znode,
                credentials: self.credentials,
            },
            ZnodeError::NoNode(znode) if znode.parent().is_none() => ZnodeCommandError::NoRoot(match &self.chroot {
                Some(chroot) => format!("the chroot {chroot}"),
                None => format!("the root of {}", self.place),
            }),
            error => ZnodeCommandError::Znode(error),
        })
    }
}

fn readers(world_readable: bool) -> Readers {
    match world_readable {
        true => Readers::Everybody,
        false => Readers::Creator,
    }
}
