//! How a host takes its place in a fleet: the root if there is none, its name, its presence, and what it has published before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::{info, warn};
use zookeeper_client::{Client, CreateMode};

use super::trouble::Trouble;
use super::{BATCH, Member, Place};
use crate::identity::HostId;
use crate::layout::{LIVE, is_rollout_znode, is_watch_znode};
use crate::pacing::turn;
use crate::record::{self, FormatVersion, HostRecord, LiveRecord, RecordError, RootRecord};
use crate::requests::{self, Owner, Reply, RequestError};
use crate::unpublished::Write;

impl Member<'_> {
    /// Takes the host's place, and reads what it has published before.
    pub(super) async fn join(&self, client: &Client) -> Result<Place, Trouble> {
        let options = &self.shared.options;
        let id = match &options.id {
            Ok(id) => id.as_str(),
            Err(error) => return Err(Trouble::NoId(error.to_string())),
        };
        self.make_root(client).await?;
        let hosts = self.count_hosts(client).await?;
        // Also those who come back together do not write together.
        sleep(turn(hosts).mul_f64(fastrand::f64())).await;
        requests::catch_up(client).await?;
        self.check_presence(client).await?;
        let ours = HostRecord {
            v: FormatVersion,
            id: id.to_owned(),
            labels: options.labels.clone(),
            twitcher: options.version.to_owned(),
        };
        let version = self.take_name(client, &ours).await?;
        let presence = LiveRecord {
            v: FormatVersion,
            id: id.to_owned(),
            boot: options.boot.clone(),
            since: Timestamp::now(),
            rollouts: Vec::new(),
        };
        if !self.check_presence(client).await? {
            let data = record::write(&presence);
            match self
                .create_own(client, &self.live(), &data, CreateMode::Ephemeral)
                .await
            {
                // Somebody was faster; or it was us, and the answer was lost.
                Ok(()) | Err(RequestError::NodeExists(_)) => drop(self.check_presence(client).await?),
                Err(error) => return Err(error.into()),
            }
        }
        let published = self.published(client).await?;
        self.shared.state().board.found(self.shared.now(), published);
        Ok(Place { version, hosts })
    }

    /// Makes the root and what is right below it, where that is not there yet: reads cost nothing, writes that fail do.
    async fn make_root(&self, client: &Client) -> Result<(), Trouble> {
        let root = &self.shared.options.root;
        let record = record::write(&RootRecord { v: FormatVersion });
        let mut wanted: Vec<(String, &[u8])> = Vec::new();
        for path in root.and_ancestors() {
            wanted.push((path.to_string(), &[]));
        }
        if let Some(last) = wanted.last_mut() {
            last.1 = &record;
        }
        wanted.push((root.hosts(), &[]));
        let paths: Vec<String> = wanted.iter().map(|(path, _)| path.clone()).collect();
        for ((path, data), found) in wanted.iter().zip(requests::read_all(client, &paths).await) {
            match found {
                Ok(Some(found)) if path == root.path() => {
                    let data = found.data.ok_or(RecordError::TooLarge(found.stat.data_length as usize));
                    let read = data.and_then(|data| record::read::<RootRecord>(&data));
                    read.map_err(|error| Trouble::Record(path.clone(), error))?;
                }
                // Only the root itself need be readable.
                Ok(Some(_)) => {}
                Err(RequestError::Denied(_)) if path != root.path() => {}
                Err(error) => return Err(error.into()),
                Ok(None) => {
                    let owner = match *path == root.hosts() {
                        true => Owner::Like(root.path().to_owned()),
                        false => Owner::All,
                    };
                    match requests::create(client, path, data, CreateMode::Persistent, &owner).await {
                        Ok(()) | Err(RequestError::NodeExists(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the host's znode ours, and says which version it has. What a former host of the name has left is gone then.
    async fn take_name(&self, client: &Client, ours: &HostRecord) -> Result<i32, Trouble> {
        let (path, data) = (self.path(), record::write(ours));
        let found = match requests::read(client, &path).await? {
            Some(found) => found,
            None => {
                match self.create_own(client, &path, &data, CreateMode::Persistent).await {
                    Ok(()) | Err(RequestError::NodeExists(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                let created = requests::read(client, &path).await?;
                created.ok_or_else(|| RequestError::NoNode(path.clone()))?
            }
        };
        let version = found.stat.version;
        if found.data.as_ref() == Some(&data) {
            return Ok(version);
        }
        let too_large = RecordError::TooLarge(found.stat.data_length as usize);
        let read = found
            .data
            .ok_or(too_large)
            .and_then(|data| record::read::<HostRecord>(&data));
        match read {
            Err(error @ RecordError::Newer(_)) => return Err(Trouble::Record(path, error)),
            Ok(former) if former.id == ours.id => {}
            former => {
                let former = former.map(|former| former.id);
                let former = former
                    .as_deref()
                    .ok()
                    .filter(|id| id.is_empty() || HostId::is_id(id))
                    .unwrap_or("garbage");
                if former.is_empty() {
                    info!(host = %self.shared.options.name, "the host was enrolled, and has its place in the fleet for the first time");
                } else {
                    info!(host = %self.shared.options.name, former, "the fleet knows another host of this name, which is not there: taking its place");
                }
                // First what it has left: should this be interrupted, it is begun again.
                let left: Vec<String> = requests::children(client, &path).await?;
                let left: Vec<_> = left
                    .into_iter()
                    // A slot that is in use stays so: its action may still run.
                    .filter(|name| name != LIVE && !is_rollout_znode(name))
                    .map(|name| (name, Write::Delete))
                    .collect();
                for some in left.chunks(BATCH) {
                    self.write(client, version, false, some).await?;
                }
            }
        }
        Ok(requests::set(client, &path, &data, version).await?)
    }

    /// Whether the presence of this host is there. An error if it is that of another session.
    pub(super) async fn check_presence(&self, client: &Client) -> Result<bool, Trouble> {
        let path = self.live();
        let Some(found) = requests::read(client, &path).await? else {
            return Ok(false);
        };
        match found.stat.ephemeral_owner {
            // No daemon has made it, and it would stay for ever.
            0 => {
                warn!(znode = %path, "the presence of this host in the fleet is not ephemeral, so somebody else has made it: deleting it");
                return requests::delete(client, &path)
                    .await
                    .map(|()| false)
                    .map_err(Into::into);
            }
            owner if owner == client.session_id().0 => return Ok(true),
            _ => {}
        }
        let other = found.data.and_then(|data| record::read::<LiveRecord>(&data).ok());
        let other = other.filter(|other| HostId::is_id(&other.id));
        let who = other.map(|other| {
            let same = self.shared.options.id.as_ref().is_ok_and(|id| id.as_str() == other.id);
            let id = if same {
                "with the id of this one".to_owned()
            } else {
                format!("with id {}", other.id)
            };
            format!(" ({id}, since {})", other.since.strftime("%F %T UTC"))
        });
        Err(Trouble::NameTaken {
            name: self.shared.options.name.to_string(),
            who: who.unwrap_or_default(),
        })
    }

    /// What this host has published.
    async fn published(&self, client: &Client) -> Reply<BTreeMap<String, Vec<u8>>> {
        let path = self.path();
        let mut names = requests::children(client, &path).await?;
        names.retain(|name| is_watch_znode(name));
        let paths: Vec<String> = names.iter().map(|name| format!("{path}/{name}")).collect();
        let mut published = BTreeMap::new();
        for (name, found) in names.into_iter().zip(requests::read_all(client, &paths).await) {
            if let Some(found) = found? {
                // What is too large is none of ours, and is replaced.
                published.insert(name, found.data.unwrap_or_default());
            }
        }
        Ok(published)
    }
}
