//! Requests to ZooKeeper as a fleet makes them: each in bounded time, reads bounded in size, and what their failures mean in words.
//!
//! It must not know what is read or written.

use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client::{
    Acl, Acls, AddWatchMode, Client, CreateMode, Error, MultiWriteError, OneshotWatcher, Permission, PersistentWatcher,
    Stat,
};

use super::access;
use super::record::RECORD_MAX;
use twitcher_source::zookeeper::{Credentials, KeptSession};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests in flight at once.
pub(crate) const PIPELINE: usize = 200;
/// Most children of a znode whose names are read.
pub(crate) const CHILDREN_MAX: i32 = 50_000;

/// Who may do what with what a session makes for itself: it everything, all others read.
static OWN: [Acl; 2] = [
    Acl::new_const(Permission::ALL, "auth", ""),
    Acl::new_const(Permission::READ, "world", "anyone"),
];

/// What to do about a denial where hosts may not write.
pub(crate) const STEWARDS_ONLY: &str =
    "where access to a fleet is strict only its stewards may do that; ask the daemon of one, or be one";

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// There is no such znode.
    #[error("znode {0} does not exist")]
    NoNode(String),
    /// There is one already.
    #[error("znode {0} exists already")]
    NodeExists(String),
    /// It was set in the meantime.
    #[error("znode {0} was changed by somebody else in the meantime")]
    BadVersion(String),
    /// Its access control list says no.
    #[error("no permission for znode {0} (NoAuth)")]
    Denied(String),
    /// It says who may do what only to those who may change that.
    #[error("znode {0} does not show its access control list to this credential, which may not administer it")]
    Masked(String),
    /// The servers know nobody of that kind, or the session is nobody.
    #[error("znode {0}: the servers take nobody in its access control list of whom they cannot know (InvalidACL)")]
    Nobody(String),
    /// It has more children than are read.
    #[error("znode {0} has {1} children, more than the {CHILDREN_MAX} that are read")]
    TooMany(String, i32),
    /// The session has ended, or the connection is lost.
    #[error("no connection with ZooKeeper")]
    Disconnected,
    /// Something else.
    #[error("znode {0}: {1}")]
    Failed(String, Error),
}

impl RequestError {
    fn of(path: &str, error: Error) -> Self {
        let path = path.to_owned();
        match error {
            Error::NoNode => Self::NoNode(path),
            Error::NodeExists => Self::NodeExists(path),
            Error::BadVersion => Self::BadVersion(path),
            Error::NoAuth => Self::Denied(path),
            Error::InvalidAcl => Self::Nobody(path),
            Error::ConnectionLoss
            | Error::Timeout
            | Error::SessionExpired
            | Error::SessionMoved
            | Error::ClientClosed
            | Error::NoHosts
            | Error::UnexpectedError(_) => Self::Disconnected,
            error => Self::Failed(path, error),
        }
    }
}

pub(crate) type Reply<T> = Result<T, RequestError>;

/// Waits for an answer, but not for ever: the crate would wait for a connection.
pub(crate) async fn answered<T, E: Into<Error>>(path: &str, asked: impl Future<Output = Result<T, E>>) -> Reply<T> {
    match timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map_err(|error| RequestError::of(path, error.into())),
        Err(_) => Err(RequestError::Disconnected),
    }
}

/// Has the server catch up with its leader: what is read next is as new as whatever is known.
pub(crate) async fn catch_up(client: &Client) -> Reply<()> {
    answered("/", client.sync("/")).await
}

pub(crate) async fn stat(client: &Client, path: &str) -> Reply<Option<Stat>> {
    answered(path, client.check_stat(path)).await
}

/// The stat of a znode, and what tells of its next creation, change or deletion. Not for one that the session watches by [`watch_below`]: a server
/// keeps one mode for both, that of the last.
pub(crate) async fn stat_and_watch(client: &Client, path: &str) -> Reply<(Option<Stat>, OneshotWatcher)> {
    answered(path, client.check_and_watch_stat(path)).await
}

/// What tells of every change to a znode and to those below it.
pub(crate) async fn watch_below(client: &Client, path: &str) -> Reply<PersistentWatcher> {
    answered(path, client.watch(path, AddWatchMode::PersistentRecursive)).await
}

/// A znode's data, and its stat.
#[derive(Debug, Clone)]
pub(crate) struct Znode {
    /// None if it is more than any record has.
    pub data: Option<Vec<u8>>,
    pub stat: Stat,
}

/// Znodes, in the order of their paths; none of those that do not exist.
pub(crate) async fn read_all(client: &Client, paths: &[String]) -> Vec<Reply<Option<Znode>>> {
    let mut all = Vec::with_capacity(paths.len());
    for paths in paths.chunks(PIPELINE) {
        // What is asked for is sent by the calls, before the first answer is awaited. Nothing large is asked for: first the sizes.
        let stats: Vec<_> = paths.iter().map(|path| client.check_stat(path)).collect();
        let mut small = Vec::with_capacity(paths.len());
        for (path, stat) in paths.iter().zip(stats) {
            small.push(answered(path, stat).await);
        }
        let is_small = |stat: &Stat| usize::try_from(stat.data_length).is_ok_and(|length| length <= RECORD_MAX);
        let data = paths.iter().zip(&small).map(|(path, stat)| match stat {
            Ok(Some(stat)) if is_small(stat) => Some(client.get_data(path)),
            _ => None,
        });
        let data: Vec<_> = data.collect();
        for ((path, stat), data) in paths.iter().zip(small).zip(data) {
            all.push(match (stat, data) {
                (Err(error), _) => Err(error),
                (Ok(None), _) => Ok(None),
                (Ok(Some(stat)), None) => Ok(Some(Znode { data: None, stat })),
                (Ok(Some(_)), Some(data)) => match answered(path, data).await {
                    Ok((data, stat)) => Ok(Some(Znode { data: Some(data), stat })),
                    Err(RequestError::NoNode(_)) => Ok(None),
                    Err(error) => Err(error),
                },
            });
        }
    }
    all
}

/// The data of a znode of any size up to `most` bytes; none if it has more, or does not exist.
pub(crate) async fn data(client: &Client, path: &str, most: usize) -> Reply<Option<(Vec<u8>, Stat)>> {
    let is_small = |stat: Stat| usize::try_from(stat.data_length).is_ok_and(|length| length <= most);
    if !stat(client, path).await?.is_some_and(is_small) {
        return Ok(None);
    }
    match answered(path, client.get_data(path)).await {
        Ok((data, stat)) if data.len() <= most => Ok(Some((data, stat))),
        Ok(_) | Err(RequestError::NoNode(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn read(client: &Client, path: &str) -> Reply<Option<Znode>> {
    let mut read = read_all(client, &[path.to_owned()]).await;
    read.pop().unwrap_or(Ok(None))
}

/// The names of a znode's children, sorted.
pub(crate) async fn children(client: &Client, path: &str) -> Reply<Vec<String>> {
    match stat(client, path).await? {
        None => return Err(RequestError::NoNode(path.to_owned())),
        Some(stat) if stat.num_children > CHILDREN_MAX => {
            return Err(RequestError::TooMany(path.to_owned(), stat.num_children));
        }
        Some(_) => {}
    }
    let mut names = answered(path, client.list_children(path)).await?;
    names.sort_unstable();
    Ok(names)
}

/// Whose a znode is that is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Everybody's.
    All,
    /// The session's, which is somebody.
    Session,
    /// Whose the znode at this path is.
    Like(String),
    /// The same, but for those who may only read that.
    PrivateLike(String),
    /// Theirs.
    Listed(Vec<Acl>),
}

impl Owner {
    /// Of what a session makes for itself.
    pub fn of(session: &KeptSession) -> Self {
        match *session.credentials() == Credentials::default() {
            true => Self::All,
            false => Self::Session,
        }
    }

    async fn list(&self, client: &Client) -> Reply<Vec<Acl>> {
        Ok(match self {
            Self::All => Acls::anyone_all().to_vec(),
            Self::Session => OWN.to_vec(),
            Self::Like(path) => copied(client, path).await?,
            Self::PrivateLike(path) => access::private(&copied(client, path).await?),
            Self::Listed(list) => list.clone(),
        })
    }
}

/// The access control list of a znode; of who may not administer it, digests are left out.
pub(crate) async fn acl(client: &Client, path: &str) -> Reply<Vec<Acl>> {
    let (acl, _) = answered(path, client.get_acl(path)).await?;
    Ok(acl)
}

/// The access control lists of znodes, in the order of their paths; none of those that do not exist.
pub(crate) async fn acls(client: &Client, paths: &[String]) -> Reply<Vec<Option<Vec<Acl>>>> {
    let mut all = Vec::with_capacity(paths.len());
    for paths in paths.chunks(PIPELINE) {
        // What is asked for is sent by the calls, before the first answer is awaited.
        let asked: Vec<_> = paths.iter().map(|path| client.get_acl(path)).collect();
        for (path, asked) in paths.iter().zip(asked) {
            all.push(match answered(path, asked).await {
                Ok((acl, _)) => Some(acl),
                Err(RequestError::NoNode(_)) => None,
                Err(error) => return Err(error),
            });
        }
    }
    Ok(all)
}

/// The same, to be given to another znode.
async fn copied(client: &Client, path: &str) -> Reply<Vec<Acl>> {
    let acl = acl(client, path).await?;
    match access::is_masked(&acl) {
        true => Err(RequestError::Masked(path.to_owned())),
        false => Ok(acl),
    }
}

pub(crate) async fn set_acl(client: &Client, path: &str, acl: &[Acl]) -> Reply<()> {
    answered(path, client.set_acl(path, acl, None)).await.map(drop)
}

/// Which access control lists znodes have: changes with each list, and never comes again. A list is not told of when it changes.
pub(crate) async fn acl_versions(client: &Client, paths: &[String]) -> Reply<Vec<Option<(i64, i32)>>> {
    let mut versions = Vec::with_capacity(paths.len());
    for path in paths {
        versions.push(match stat(client, path).await {
            Ok(stat) => stat.map(|stat| (stat.czxid, stat.aversion)),
            Err(RequestError::Denied(_)) => None,
            Err(error) => return Err(error),
        });
    }
    Ok(versions)
}

/// Makes what is to be the session's own. A session whose certificate the servers do not know is nobody, and has nothing of its own.
pub(crate) async fn create_own(
    client: &Client,
    path: &str,
    data: &[u8],
    mode: CreateMode,
    own: &mut Owner,
) -> Reply<()> {
    match create(client, path, data, mode, own).await {
        Err(RequestError::Nobody(_)) if *own == Owner::Session => {
            *own = Owner::All;
            create(client, path, data, mode, own).await
        }
        done => done,
    }
}

pub(crate) async fn create(client: &Client, path: &str, data: &[u8], mode: CreateMode, owner: &Owner) -> Reply<()> {
    let list = owner.list(client).await?;
    let options = mode.with_acls(Acls::new(&list));
    answered(path, client.create(path, data, &options)).await.map(drop)
}

/// Sets a znode that has this version, and says which one it has now.
pub(crate) async fn set(client: &Client, path: &str, data: &[u8], version: i32) -> Reply<i32> {
    let stat = answered(path, client.set_data(path, data, Some(version))).await?;
    Ok(stat.version)
}

pub(crate) async fn delete(client: &Client, path: &str) -> Reply<()> {
    answered(path, client.delete(path, None)).await
}

/// One step of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The znode has this version; or only exists, if it is [`ANY`].
    Check(String, i32),
    Create(String, Vec<u8>, Owner),
    /// Set, if it has this version.
    Set(String, Vec<u8>, Option<i32>),
    Delete(String),
    /// Delete, if it has this version.
    DeleteVersion(String, i32),
}

/// The version of a znode that need only exist.
pub(crate) const ANY: i32 = -1;

/// Carries out all steps, or none; `path` is what it is about.
pub(crate) async fn transact(client: &Client, path: &str, steps: &[Step]) -> Reply<()> {
    let mut lists: Vec<(&Owner, Vec<Acl>)> = Vec::new();
    for step in steps {
        if let Step::Create(_, _, owner) = step
            && !lists.iter().any(|(known, _)| *known == owner)
        {
            lists.push((owner, owner.list(client).await?));
        }
    }
    let mut transaction = client.new_multi_writer();
    for step in steps {
        let (added, of) = match step {
            Step::Check(path, version) => (transaction.add_check_version(path, *version), path),
            Step::Create(path, data, owner) => {
                let list = lists.iter().find(|(known, _)| *known == owner);
                let list = list.map(|(_, list)| &list[..]).unwrap_or_default();
                let options = CreateMode::Persistent.with_acls(Acls::new(list));
                (transaction.add_create(path, data, &options), path)
            }
            Step::Set(path, data, version) => (transaction.add_set_data(path, data, *version), path),
            Step::Delete(path) => (transaction.add_delete(path, None), path),
            Step::DeleteVersion(path, version) => (transaction.add_delete(path, Some(*version)), path),
        };
        added.map_err(|error| RequestError::Failed(of.clone(), error))?;
    }
    commit(path, transaction).await
}

/// Carries out a transaction; `path` is what it is about.
pub(crate) async fn commit(path: &str, mut transaction: zookeeper_client::MultiWriter<'_>) -> Reply<()> {
    let committed = transaction.commit();
    let committed = async { committed.await.map_err(|error: MultiWriteError| Error::from(error)) };
    answered(path, committed).await.map(drop)
}
