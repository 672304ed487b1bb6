//! Requests for single znodes: which are made again, and what their failures let the caller conclude.
//!
//! A read is made again on every passing failure. A write is sent at most once, and only to a session that is connected when it is
//! handed over: the crate would keep it until a reconnect, with no way to take it back. What then comes back is certain in two
//! cases: the server answered, or the session ended — the crate fails what it had not sent with the reason of that end, and a
//! server that answers so has refused this request and, for they are answered in order, all that followed. What was in flight when a
//! connection broke fails with ConnectionLoss or a custom error, whether it was written to the socket or not: nobody knows.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error, Permission};

use super::connect::{Backoff, SessionOpener};
use super::context::Context;
use super::reads::{self, ReadFailure, Reply};
use super::request_session::{Credentials, KeptSession, Sessions};
use crate::{AclEntry, Denial, Readers, ZnodeError, ZnodeRefusal, ZnodeStat};
use twitcher_model::{Stat, ZnodePath};

/// Longest pause before a read is made again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a request has besides path and data, generously: header, lengths, version, access control list.
const OVERHEAD: usize = 1024;

/// A znode that belongs to who creates it, and can be read by everybody.
static READABLE: [Acl; 2] = [
    Acl::new_const(Permission::ALL, "auth", ""),
    Acl::new_const(Permission::READ, "world", "anyone"),
];

/// Most bytes of a znode in a request of a component: its channel takes no larger ones, whatever is watched.
const MOST_DATA: usize = 1 << 20;

/// Requests by way of a session of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct ZooKeeperRequests {
    sessions: Sessions,
    patience: Duration,
    max_data: usize,
    /// Length of the chroot, which is sent with every path.
    prefix: usize,
    /// Whether the session is somebody, for the znodes that it creates.
    credentials: bool,
    /// As who.
    names: Credentials,
}

impl ZooKeeperRequests {
    /// Requests beside what is watched: the source counts as connected without their session.
    pub(super) fn start(context: &Context) -> Self {
        let most = context.options.max_data.min(MOST_DATA);
        Self::by(context, SessionOpener::for_requests(context), most).0
    }

    /// Requests, and nothing that is watched. Also the task that ends when their session is closed, after their last clone.
    pub(super) fn alone(context: &Context) -> (Self, JoinHandle<()>) {
        Self::by(context, SessionOpener::for_watches(context), context.options.max_data)
    }

    fn by(context: &Context, opener: SessionOpener, max_data: usize) -> (Self, JoinHandle<()>) {
        let options = &context.options;
        let (sessions, task) = Sessions::start(context, opener);
        let requests = Self {
            sessions,
            patience: options.patience,
            max_data,
            prefix: options.servers.chroot().map_or(0, |chroot| chroot.as_str().len()),
            credentials: options.has_credentials(),
            names: Credentials::of(options),
        };
        (requests, task)
    }

    pub fn keep_session(&self) -> KeptSession {
        KeptSession::new(self.sessions.clone(), self.names.clone())
    }

    pub async fn get(&self, path: &ZnodePath) -> Result<(Bytes, Stat), ZnodeError> {
        self.read(path, async |client| {
            if !self
                .exists(client, path, |stat| reads::check_data(stat, self.max_data))
                .await?
            {
                return Ok(None);
            }
            let Some((data, stat)) = reads::data(client, path.as_str()).await? else {
                return Ok(None);
            };
            // It may have grown in between.
            reads::check_data(&stat, self.max_data)?;
            Ok(Some((data.into(), reads::stat_of(&stat))))
        })
        .await
    }

    pub async fn children(&self, path: &ZnodePath) -> Result<Vec<String>, ZnodeError> {
        let names = self.read(path, async |client| {
            if !self.exists(client, path, reads::check_children).await? {
                return Ok(None);
            }
            Ok(reads::children(client, path.as_str()).await?.map(|(names, _)| names))
        });
        let mut names = names.await?;
        if names.iter().map(|name| name.len() + 1).sum::<usize>() > self.max_data {
            return Err(self.too_large(path));
        }
        names.sort_unstable();
        Ok(names)
    }

    pub async fn stat(&self, path: &ZnodePath) -> Result<ZnodeStat, ZnodeError> {
        self.read(path, async |client| {
            let (caught_up, stat) = (client.sync("/"), client.check_stat(path.as_str()));
            caught_up.await?;
            Ok(stat.await?.map(|stat| whole_stat(&stat)))
        })
        .await
    }

    pub async fn acl(&self, path: &ZnodePath) -> Result<Vec<AclEntry>, ZnodeError> {
        self.read(path, async |client| match client.get_acl(path.as_str()).await {
            Ok((acl, _)) => Ok(Some(acl.iter().map(acl_entry).collect())),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(error.into()),
        })
        .await
    }

    pub async fn set(&self, path: &ZnodePath, data: &[u8], expect_version: Option<i32>) -> Result<Stat, ZnodeError> {
        self.check_size(path, data)?;
        let stat = self.write(path, path, async |client| {
            client.set_data(path.as_str(), data, expect_version).await
        });
        Ok(reads::stat_of(&stat.await?))
    }

    pub async fn create(&self, path: &ZnodePath, data: &[u8], readers: Readers) -> Result<Stat, ZnodeError> {
        self.check_size(path, data)?;
        let acls = match (self.credentials, readers) {
            (false, _) => Acls::anyone_all(),
            (true, Readers::Creator) => Acls::creator_all(),
            (true, Readers::Everybody) => Acls::new(&READABLE),
        };
        let options = CreateMode::Persistent.with_acls(acls);
        let parent = path.parent();
        let created = self.write(path, parent.as_ref().unwrap_or(path), async |client| {
            client.create(path.as_str(), data, &options).await
        });
        let (stat, _) = created.await?;
        Ok(reads::stat_of(&stat))
    }

    pub async fn delete(&self, path: &ZnodePath, expect_version: Option<i32>) -> Result<(), ZnodeError> {
        let deleted = self.write(path, path, async |client| {
            client.delete(path.as_str(), expect_version).await
        });
        deleted.await
    }

    /// Whether a znode exists and what is known of it passes `check`. The server first catches up with its leader: the change
    /// that brought about this request may have been seen by way of another server.
    async fn exists(
        &self,
        client: &Client,
        path: &ZnodePath,
        check: impl Fn(&zookeeper_client::Stat) -> Reply<()>,
    ) -> Reply<bool> {
        // Both are sent by the calls, in this order, before the first answer is awaited.
        let (caught_up, stat) = (client.sync("/"), client.check_stat(path.as_str()));
        caught_up.await?;
        match stat.await? {
            Some(stat) => check(&stat).map(|()| true),
            None => Ok(false),
        }
    }

    /// Reads until there is an answer, or no time is left.
    async fn read<T>(&self, path: &ZnodePath, ask: impl AsyncFn(&Client) -> Reply<Option<T>>) -> Result<T, ZnodeError> {
        let lost = || ZnodeError::SessionLost(path.clone());
        let deadline = Instant::now() + self.patience;
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        loop {
            let session = self.sessions.connected(deadline).await.map_err(|_| lost())?;
            let failure = match timeout_at(deadline, ask(&session.client)).await.map_err(|_| lost())? {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => return Err(ZnodeError::NoNode(path.clone())),
                Err(failure) => failure,
            };
            match failure {
                ReadFailure::Denied => return Err(denied(path)),
                ReadFailure::TooLarge(_) => return Err(self.too_large(path)),
                ReadFailure::Unimplemented => return Err(failed(path, Error::Unimplemented)),
                ReadFailure::Znode(error) => return Err(failed(path, error)),
                ReadFailure::Session(_) => session.give_up(),
                ReadFailure::Connection(_) => {}
            }
            debug!(znode = %path, %failure, "asking again");
            timeout_at(deadline, sleep(backoff.next())).await.map_err(|_| lost())?;
        }
    }

    /// Sends a write, once. `needed` is the znode that does not exist if the server says that one doesn't.
    async fn write<T>(
        &self,
        path: &ZnodePath,
        needed: &ZnodePath,
        send: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, ZnodeError> {
        let session = match self.sessions.connected(Instant::now() + self.patience).await {
            Ok(session) => session,
            Err(_) => return Err(ZnodeError::SessionLost(path.clone())),
        };
        let Ok(answer) = timeout(self.patience, send(&session.client)).await else {
            return Err(ZnodeError::UnknownOutcome(path.clone()));
        };
        answer.map_err(|error| {
            debug!(znode = %path, %error, "a write failed");
            if matches!(ReadFailure::from(error.clone()), ReadFailure::Session(_)) {
                session.give_up();
            }
            match error {
                Error::NoNode => ZnodeError::NoNode(needed.clone()),
                error => write_error(path, error),
            }
        })
    }

    fn check_size(&self, path: &ZnodePath, data: &[u8]) -> Result<(), ZnodeError> {
        // A server ends the connection over a larger request.
        match OVERHEAD + self.prefix + path.as_str().len() + data.len() {
            size if size > self.max_data => Err(self.too_large(path)),
            _ => Ok(()),
        }
    }

    fn too_large(&self, path: &ZnodePath) -> ZnodeError {
        ZnodeError::TooLarge {
            znode: path.clone(),
            most: self.max_data,
        }
    }
}

fn whole_stat(stat: &zookeeper_client::Stat) -> ZnodeStat {
    let time = |milliseconds: i64| UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    ZnodeStat {
        stat: reads::stat_of(stat),
        data_length: u64::try_from(stat.data_length).unwrap_or(0),
        num_children: u64::try_from(stat.num_children).unwrap_or(0),
        mtime: Some(time(stat.mtime)),
        ctime: Some(time(stat.ctime)),
        pzxid: Some(stat.pzxid),
        cversion: Some(stat.cversion),
        aversion: Some(stat.aversion),
        ephemeral_owner: Some(stat.ephemeral_owner),
    }
}

fn acl_entry(acl: &Acl) -> AclEntry {
    let letters = [
        (Permission::CREATE, 'c'),
        (Permission::DELETE, 'd'),
        (Permission::READ, 'r'),
        (Permission::WRITE, 'w'),
        (Permission::ADMIN, 'a'),
    ];
    let held = letters
        .iter()
        .filter(|(permission, _)| acl.permission().has(*permission));
    AclEntry {
        scheme: acl.scheme().to_owned(),
        id: acl.id().to_owned(),
        permissions: held.map(|(_, letter)| letter).collect(),
    }
}

fn denied(path: &ZnodePath) -> ZnodeError {
    ZnodeError::Denied {
        znode: path.clone(),
        why: Denial::Acl,
    }
}

fn failed(path: &ZnodePath, error: Error) -> ZnodeError {
    ZnodeError::Failed {
        znode: path.clone(),
        why: ZnodeRefusal::ZooKeeper(error),
    }
}

/// What a failed write means. Whatever is not known to be a refusal is uncertain.
fn write_error(path: &ZnodePath, error: Error) -> ZnodeError {
    let path = path.clone();
    match error {
        Error::NoNode => ZnodeError::NoNode(path),
        Error::NodeExists => ZnodeError::NodeExists(path),
        Error::BadVersion => ZnodeError::BadVersion(path),
        Error::NoAuth => denied(&path),
        Error::SessionExpired | Error::SessionMoved | Error::AuthFailed | Error::ClientClosed | Error::NoHosts => {
            ZnodeError::SessionLost(path)
        }
        Error::NotEmpty => ZnodeError::Failed {
            znode: path,
            why: ZnodeRefusal::NotEmpty,
        },
        Error::BadArguments(_)
        | Error::InvalidAcl
        | Error::MarshallingError
        | Error::NoChildrenForEphemerals
        | Error::NotReadOnly
        | Error::QuotaExceeded
        | Error::Throttled
        | Error::Unimplemented => failed(&path, error),
        _ => ZnodeError::UnknownOutcome(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_uncertain_unless_it_is_known_to_be_refused() {
        let path = ZnodePath::new("/a").unwrap();
        let means = |error| write_error(&path, error);
        for error in [
            Error::ConnectionLoss,
            Error::Timeout,
            Error::UnexpectedErrorCode(-4),
            Error::UnexpectedError("no response".into()),
            Error::RuntimeInconsistent,
        ] {
            assert_eq!(means(error), ZnodeError::UnknownOutcome(path.clone()));
        }
        for error in [Error::SessionExpired, Error::ClientClosed, Error::AuthFailed] {
            assert_eq!(means(error), ZnodeError::SessionLost(path.clone()));
        }
        assert_eq!(means(Error::BadVersion), ZnodeError::BadVersion(path.clone()));
        assert_eq!(
            means(Error::NotEmpty),
            ZnodeError::Failed {
                znode: path.clone(),
                why: ZnodeRefusal::NotEmpty
            }
        );
        assert_eq!(means(Error::NoAuth), denied(&path));
        assert_eq!(means(Error::Throttled), failed(&path, Error::Throttled));
    }
}
