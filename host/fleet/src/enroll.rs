//! Strict access: a host can write below its own znode only, and only hosts that somebody has enrolled are in the fleet.
//!
//! Who enrolls needs credentials by which all of the fleet can be administered, which no host's daemon should have: so this is done straight
//! at the servers. Access control lists cannot be set in transactions. Each step leaves a fleet that is no more open than before, the list
//! of the root comes last, and whoever finds that open begins again: being interrupted is harmless. What is below a znode is looked at only
//! once nobody can make more there.

use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client::{Acl, Client, CreateMode};

use super::access::{self, Identity, Stewards};
use super::layout::{FleetRoot, HostName};
use super::record::{self, FormatVersion, HostRecord, RecordError, RootRecord};
use super::requests::{self, Owner, Reply, RequestError, Step};
use twitcher_source::zookeeper::{Credentials, KeptSession};

/// Most znodes below one that are looked at.
const BELOW_MAX: usize = 100_000;
/// How often a znode is made anew that is changed at the same time.
const TRIES: u32 = 20;

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// The host to be enrolled, and who it is for ZooKeeper.
    pub host: Option<(HostName, Identity)>,
    /// Who is to be a steward besides those who are.
    pub stewards: Vec<Identity>,
}

/// How access is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Who the stewards are.
    pub stewards: Vec<String>,
    /// So many znodes were made, or have got another access control list.
    pub changed: usize,
    /// Whether access was open before.
    pub was_open: bool,
    /// Hosts that were in the fleet while access was open, are not enrolled, and cannot write any more.
    pub shut_out: Vec<String>,
    /// Other hosts that are the same for ZooKeeper as the one that was enrolled: each can write in the place of the other. Of a steward that
    /// cannot be told.
    pub same: Vec<String>,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    /// Who does it is nobody.
    #[error("who makes access to a fleet strict needs credentials, or nobody could change it any more")]
    NoCredentials,
    /// Nobody would be a steward.
    #[error("access to the fleet {0} is open, and nobody was named as its steward")]
    Open(String),
    /// It is not for this credential to do.
    #[error("no permission for znode {0} (NoAuth): only stewards of a fleet enroll hosts")]
    NotSteward(String),
    /// The servers refuse somebody.
    #[error("znode {znode}: the servers know nobody like {whom} (InvalidACL)")]
    Unknown {
        /// The znode whose list was to be set.
        znode: String,
        /// Whom they were asked for.
        whom: String,
    },
    /// The host's znode is somebody else's, who has made it while access was open.
    #[error(
        "znode {znode} is that of {owner}, who has made it while access was open, and only they or the servers' administrator can give it away"
    )]
    Owned {
        /// The znode.
        znode: String,
        /// Whose it is.
        owner: String,
    },
    /// The root is not one of a fleet.
    #[error("znode {0}: {1}")]
    Record(String, RecordError),
    /// There is too much of it.
    #[error("more than {BELOW_MAX} znodes are below {0}")]
    TooMuch(String),
    /// There is no connection.
    #[error("no connection with ZooKeeper")]
    Disconnected,
    /// ZooKeeper says no.
    #[error("{0}")]
    Refused(String),
}

impl From<RequestError> for EnrollError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Denied(znode) | RequestError::Masked(znode) => Self::NotSteward(znode),
            RequestError::Disconnected => Self::Disconnected,
            error => Self::Refused(error.to_string()),
        }
    }
}

type Done<T> = Result<T, EnrollError>;

/// Enrolls a host, and says who is a steward. It fails if there is no connection within so long.
pub async fn enroll(
    session: &KeptSession,
    root: &FleetRoot,
    wanted: &Enrollment,
    patience: Duration,
) -> Done<Enrolled> {
    if *session.credentials() == Credentials::default() {
        return Err(EnrollError::NoCredentials);
    }
    let session = timeout(patience, session.connected()).await;
    let session = session.map_err(|_| EnrollError::Disconnected)?;
    let mut office = Office {
        client: &session.client,
        root,
        wanted,
        changed: 0,
        shut_out: Vec::new(),
    };
    let (was_open, stewards) = office.make_strict().await?;
    let mut same = Vec::new();
    if let Some((name, identity)) = &wanted.host {
        office.enroll(name, identity, &stewards).await?;
        office.shut_out.retain(|host| host != name.as_str());
        same = office.who_else_is(identity, name, &stewards).await?;
    }
    Ok(Enrolled {
        stewards: stewards.names(),
        changed: office.changed,
        was_open,
        shut_out: office.shut_out,
        same,
    })
}

struct Office<'a> {
    client: &'a Client,
    root: &'a FleetRoot,
    wanted: &'a Enrollment,
    changed: usize,
    shut_out: Vec<String>,
}

impl Office<'_> {
    /// Sees to it that access is strict, for these stewards and those who are it. Whether it was open, and all of them.
    async fn make_strict(&mut self) -> Done<(bool, Stewards)> {
        let (client, root) = (self.client, self.root.path());
        requests::catch_up(client).await?;
        let found = self.acl(root).await?;
        let (hosts, rollouts) = (self.root.hosts(), self.root.rollouts());
        let (of_hosts, of_rollouts) = (self.acl(&hosts).await?, self.acl(&rollouts).await?);
        let is_whole = of_hosts.is_some() && of_rollouts.is_some();
        let lists = [&found, &of_hosts, &of_rollouts];
        let is_open = found.is_none() || lists.into_iter().flatten().any(|list| access::is_open(list));
        if let Some(found) = &found {
            if access::is_masked(found) {
                return Err(EnrollError::NotSteward(root.to_owned()));
            }
            self.check_root().await?;
        }
        let known = Stewards::of(found.as_deref().unwrap_or_default());
        let stewards = known.clone().and(&self.wanted.stewards, is_open);
        if !is_open && is_whole && stewards == known {
            return Ok((false, stewards));
        }
        if is_open && self.wanted.stewards.is_empty() {
            return Err(EnrollError::Open(root.to_owned()));
        }
        if found.is_none() {
            self.make_root(&stewards).await?;
        }
        self.have(&hosts, &stewards.list(), &[]).await?;
        // Who the session is, the server knows.
        let stewards = Stewards::of(&requests::acl(client, &hosts).await?);
        self.have(&rollouts, &stewards.list(), &[]).await?;
        self.tidy_rollouts(&stewards).await?;
        self.tidy_hosts(&stewards).await?;
        self.have(root, &stewards.list(), &[]).await?;
        Ok((is_open, stewards))
    }

    /// That what is there is the root of a fleet that this program knows.
    async fn check_root(&self) -> Done<()> {
        let root = self.root.path();
        let Some(found) = requests::read(self.client, root).await? else {
            return Ok(());
        };
        let too_large = RecordError::TooLarge(found.stat.data_length as usize);
        let read = found
            .data
            .ok_or(too_large)
            .and_then(|data| record::read::<RootRecord>(&data));
        read.map(drop)
            .map_err(|error| EnrollError::Record(root.to_owned(), error))
    }

    async fn make_root(&mut self, stewards: &Stewards) -> Done<()> {
        let mut above = String::from("/");
        for path in self.root.and_ancestors() {
            let path = path.as_str();
            let is_root = path == self.root.path();
            if is_root {
                let data = record::write(&RootRecord { v: FormatVersion });
                self.have(path, &stewards.list(), &data).await?;
            } else if requests::stat(self.client, path).await?.is_none() {
                let like = Owner::Like(above);
                match requests::create(self.client, path, &[], CreateMode::Persistent, &like).await {
                    Ok(()) | Err(RequestError::NodeExists(_)) => self.changed += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            above = path.to_owned();
        }
        Ok(())
    }

    /// All below the rollouts is the stewards'.
    async fn tidy_rollouts(&mut self, stewards: &Stewards) -> Done<()> {
        let list = stewards.list();
        let rollouts = self.root.rollouts();
        let mut left = self.paths_below(&rollouts).await?;
        while let Some(path) = left.pop() {
            let of_rollout = path.strip_prefix(&rollouts).unwrap_or_default();
            let is_private = of_rollout.ends_with("/good") || of_rollout.ends_with("/good-before");
            let list = if is_private {
                access::private(&list)
            } else {
                list.clone()
            };
            self.have_if_there(&path, &list).await?;
            left.extend(self.paths_below(&path).await?);
            bounded(&rollouts, left.len())?;
        }
        Ok(())
    }

    /// What of a host anybody could write only stewards can write, until it is enrolled.
    async fn tidy_hosts(&mut self, stewards: &Stewards) -> Done<()> {
        let enrolled = self.wanted.host.as_ref().map(|(name, _)| name.as_str());
        for path in self.paths_below(&self.root.hosts()).await? {
            let name = path.rsplit('/').next().unwrap_or_default();
            let Some(acl) = self.acl(&path).await? else { continue };
            let is_open = access::is_open(&acl);
            if Some(name) == enrolled {
                continue;
            }
            if is_open {
                self.have_if_there(&path, &stewards.list()).await?;
                self.shut_out.push(name.to_owned());
                self.tidy_below(&path, |acl| access::is_open(acl).then(|| stewards.list()))
                    .await?;
            } else if !access::is_masked(&acl) && !Stewards::of(&acl).names().is_empty() {
                match self.set(&path, &acl, &stewards.list_like(&acl)).await {
                    // A host that has credentials has made it for itself while access was open, and shares it with nobody.
                    Err(EnrollError::NotSteward(_)) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    async fn enroll(&mut self, name: &HostName, identity: &Identity, stewards: &Stewards) -> Done<()> {
        let path = self.root.host(name.as_str());
        let list = stewards.list_of_host(identity);
        let Some(found) = self.acl(&path).await? else {
            // It has none until it has joined.
            let record = HostRecord {
                v: FormatVersion,
                id: String::new(),
                labels: Default::default(),
                twitcher: String::new(),
            };
            return self.have(&path, &list, &record::write(&record)).await;
        };
        match self.set(&path, &found, &list).await {
            Err(EnrollError::NotSteward(_)) if stewards.is_confined(&found, identity) => return Ok(()),
            Err(EnrollError::NotSteward(znode)) => {
                let mut owners = Stewards::of(&found).names();
                owners.truncate(1);
                let owner = owners.pop().unwrap_or_else(|| "nobody".to_owned());
                return Err(EnrollError::Owned { znode, owner });
            }
            done => done?,
        }
        self.tidy_below(&path, |acl| {
            (!stewards.is_confined(acl, identity)).then(|| list.clone())
        })
        .await
    }

    /// Other hosts that can write as whoever has this identity.
    async fn who_else_is(&self, identity: &Identity, name: &HostName, stewards: &Stewards) -> Done<Vec<String>> {
        let hosts = self.root.hosts();
        let mut paths = self.paths_below(&hosts).await?;
        paths.retain(|path| *path != self.root.host(name.as_str()));
        paths.sort();
        let lists = requests::acls(self.client, &paths).await?;
        let is_it = |acl: &Vec<Acl>| stewards.gives_own(acl, identity);
        let same = paths
            .iter()
            .zip(lists)
            .filter(|(_, acl)| acl.as_ref().is_some_and(is_it));
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(same.map(|(path, _)| name(path)).collect())
    }

    /// Gives what is below a host's znode another list where it is to have one.
    async fn tidy_below(&mut self, host: &str, list: impl Fn(&[Acl]) -> Option<Vec<Acl>>) -> Done<()> {
        let mut left = self.paths_below(host).await?;
        while let Some(path) = left.pop() {
            let Some(acl) = self.acl(&path).await? else { continue };
            if let Some(list) = list(&acl) {
                match self.set(&path, &acl, &list).await {
                    // What a host has made is its own; but it is below what is not.
                    Err(EnrollError::NotSteward(_)) => self.make_anew(&path, &list).await?,
                    done => done?,
                }
            }
            left.extend(self.paths_below(&path).await?);
            bounded(host, left.len())?;
        }
        Ok(())
    }

    /// Deletes a znode and makes it again at once, so that nobody ever sees that it is gone: a host that has no result has given up its slot.
    async fn make_anew(&mut self, path: &str, list: &[Acl]) -> Done<()> {
        for _ in 0..TRIES {
            let Some(found) = requests::stat(self.client, path).await? else {
                return Ok(());
            };
            // A presence goes with its session, and anything that has something below it was not made by a daemon.
            if found.ephemeral_owner != 0 || found.num_children != 0 {
                return Ok(());
            }
            let Some((data, stat)) = requests::data(self.client, path, usize::MAX).await? else {
                return Ok(());
            };
            let steps = [
                Step::DeleteVersion(path.to_owned(), stat.version),
                Step::Create(path.to_owned(), data, Owner::Listed(list.to_vec())),
            ];
            match requests::transact(self.client, path, &steps).await {
                Err(RequestError::BadVersion(_)) => {}
                done => {
                    self.changed += 1;
                    return Ok(done?);
                }
            }
        }
        Err(RequestError::BadVersion(path.to_owned()).into())
    }

    /// A znode's list; none if there is no such znode.
    async fn acl(&self, path: &str) -> Reply<Option<Vec<Acl>>> {
        match requests::acl(self.client, path).await {
            Ok(acl) => Ok(Some(acl)),
            Err(RequestError::NoNode(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that a znode is there, with this list.
    async fn have(&mut self, path: &str, list: &[Acl], data: &[u8]) -> Done<()> {
        if self.acl(path).await?.is_none() {
            let owner = Owner::Listed(list.to_vec());
            match requests::create(self.client, path, data, CreateMode::Persistent, &owner).await {
                Ok(()) => {
                    self.changed += 1;
                    return Ok(());
                }
                Err(RequestError::NodeExists(_)) => {}
                Err(error) => return Err(self.refused(error)),
            }
        }
        self.have_if_there(path, list).await
    }

    async fn have_if_there(&mut self, path: &str, list: &[Acl]) -> Done<()> {
        match self.acl(path).await? {
            Some(acl) => self.set(path, &acl, list).await,
            None => Ok(()),
        }
    }

    async fn set(&mut self, path: &str, acl: &[Acl], list: &[Acl]) -> Done<()> {
        if access::same(acl, list) {
            return Ok(());
        }
        match requests::set_acl(self.client, path, list).await {
            Ok(()) => self.changed += 1,
            Err(RequestError::NoNode(_)) => {}
            Err(error) => return Err(self.refused(error)),
        }
        Ok(())
    }

    fn refused(&self, error: RequestError) -> EnrollError {
        match error {
            RequestError::Nobody(znode) => {
                let host = self.wanted.host.iter().map(|(_, identity)| identity);
                let whom: Vec<String> = host.chain(&self.wanted.stewards).map(ToString::to_string).collect();
                let whom = whom.join(" or ");
                EnrollError::Unknown { znode, whom }
            }
            error => error.into(),
        }
    }

    async fn paths_below(&self, path: &str) -> Done<Vec<String>> {
        match requests::children(self.client, path).await {
            Ok(names) => Ok(names.into_iter().map(|name| format!("{path}/{name}")).collect()),
            Err(RequestError::NoNode(_)) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn bounded(path: &str, count: usize) -> Done<()> {
    match count > BELOW_MAX {
        true => Err(EnrollError::TooMuch(path.to_owned())),
        false => Ok(()),
    }
}
