//! Buckets in znodes: a bucket is a znode, its keys are that znode's children, their values the children's data.
//!
//! A bucket is opened by its path, `/app/state`, or by the end of a granted one: with `znodes = {"/app/state/**": "rw"}` also as
//! `state`, since components for other hosts name their buckets as these do. It comes into being with its first key.

use wasmtime::component::ResourceTableError;

use super::key_names;
use crate::channel::{Denied, FromAction, Level, ZnodeFailure, ZnodeReply, ZnodeRequest, cut};
use crate::host::Host;
use crate::host_imports::nonsense;
use twitcher_model::ZnodePath;

/// How often a change is tried anew because somebody else made one in the meantime.
const ATTEMPTS: u32 = 64;
/// Longest identifier that is repeated in the log, in bytes: that of a path which can be granted.
const IDENTIFIER_MAX: usize = 4096;

/// A bucket that was opened.
#[derive(Debug, Clone)]
pub struct Bucket(ZnodePath);

/// A compare-and-swap that was begun.
#[derive(Debug)]
pub struct Cas {
    path: String,
    /// The version that it began with; none if there was no such key. ZooKeeper counts it anew for a znode that was deleted and created
    /// again: a key to be compared and swapped should not be deleted.
    version: Option<i32>,
}

impl Cas {
    /// The znode that is to be swapped.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Why something in a bucket did not succeed.
#[derive(Debug)]
pub enum Error {
    /// There is no bucket of this name.
    NoSuchStore,
    /// It is not granted; the log says more.
    AccessDenied,
    /// Anything else, in words.
    Other(String),
    /// The call cannot go on.
    Trap(wasmtime::Error),
}

impl From<wasmtime::Error> for Error {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// What became of a swap.
#[derive(Debug)]
pub enum Swap {
    /// The value is there.
    Done,
    /// Somebody else was faster; here is another attempt.
    TooLate(Cas),
}

impl Bucket {
    /// The znode of a key.
    fn at(&self, key: &str) -> Result<String, Error> {
        let name = key_names::name(key).ok_or_else(|| Error::Other("a key must not be empty".to_owned()))?;
        Ok(format!("{}/{name}", self.0.as_str().trim_end_matches('/')))
    }
}

impl Host {
    pub(super) fn open_bucket(&mut self, identifier: &str) -> Result<Bucket, Error> {
        let mut found = self.granted_buckets(identifier);
        found.sort();
        found.dedup();
        match &found[..] {
            [path] => Ok(Bucket(path.clone())),
            [] => {
                let denied = Denied::Bucket(cut(identifier.to_owned(), IDENTIFIER_MAX));
                self.say(&FromAction::Denied(denied))?;
                Err(Error::AccessDenied)
            }
            [one, other, ..] => {
                let message = format!("the bucket {identifier:?} may be {one} or {other}: name it by its path");
                let (level, fields) = (Level::Warn, Vec::new());
                self.say(&FromAction::Log { level, message, fields })?;
                Err(Error::NoSuchStore)
            }
        }
    }

    /// The znodes that an identifier can stand for, of those whose children are granted.
    fn granted_buckets(&self, identifier: &str) -> Vec<ZnodePath> {
        let subtrees = self.grants().znodes.iter().filter(|grant| grant.below);
        if identifier.starts_with('/') {
            let path = ZnodePath::new(identifier).ok();
            return path
                .filter(|path| subtrees.clone().any(|grant| grant.covers(path)))
                .into_iter()
                .collect();
        }
        let ends_so = |path: &&ZnodePath| {
            let rest = path.as_str().strip_suffix(identifier);
            !identifier.is_empty() && rest.is_some_and(|rest| rest.ends_with('/'))
        };
        subtrees.map(|grant| &grant.path).filter(ends_so).cloned().collect()
    }

    pub(super) fn get_key(&mut self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = self.read(&bucket.at(key)?)?;
        Ok(found.map(|(data, _)| data))
    }

    pub(super) fn set_key(&mut self, bucket: &Bucket, key: &str, value: &[u8]) -> Result<(), Error> {
        let path = bucket.at(key)?;
        for _ in 0..ATTEMPTS {
            if self.write(&path, value, None)? || self.make(bucket, &path, value)? {
                return Ok(());
            }
        }
        Err(too_busy(key))
    }

    pub(super) fn delete_key(&mut self, bucket: &Bucket, key: &str) -> Result<(), Error> {
        let path = bucket.at(key)?;
        match self.znode(ZnodeRequest::Delete { path })? {
            Ok(ZnodeReply::Deleted) | Err(ZnodeFailure::NoNode) => Ok(()),
            Ok(_) => Err(nonsense().into()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Sorted. What others made there and no key can name is left out.
    pub(super) fn keys_of(&mut self, bucket: &Bucket) -> Result<Vec<String>, Error> {
        let path = bucket.0.as_str().to_owned();
        let names = match self.znode(ZnodeRequest::Children { path })? {
            Ok(ZnodeReply::Children(names)) => names,
            Ok(_) => return Err(nonsense().into()),
            Err(ZnodeFailure::NoNode) => Vec::new(),
            Err(failure) => return Err(failure.into()),
        };
        let mut keys: Vec<String> = names.iter().filter_map(|name| key_names::key(name)).collect();
        keys.sort();
        Ok(keys)
    }

    /// Adds to a number, which is kept as decimal text. A key that is not there counts as 0.
    pub(super) fn add_to_key<N>(&mut self, bucket: &Bucket, key: &str, delta: N) -> Result<N, Error>
    where
        N: Copy + Into<i128> + TryFrom<i128>,
    {
        let path = bucket.at(key)?;
        for _ in 0..ATTEMPTS {
            let found = self.read(&path)?;
            let (number, version) = match &found {
                None => (0, None),
                Some((data, version)) => (number::<N>(data).ok_or_else(|| no_number(key))?, Some(*version)),
            };
            let sum = number + delta.into();
            let fits =
                N::try_from(sum).map_err(|_| Error::Other(format!("the key {key:?} would be {sum}, out of range")))?;
            let text = sum.to_string().into_bytes();
            let done = match version {
                Some(version) => self.write(&path, &text, Some(version))?,
                None => self.make(bucket, &path, &text)?,
            };
            if done {
                return Ok(fits);
            }
        }
        Err(too_busy(key))
    }

    pub(super) fn begin_swap(&mut self, bucket: &Bucket, key: &str) -> Result<Cas, Error> {
        self.begin_swap_at(bucket.at(key)?)
    }

    fn begin_swap_at(&mut self, path: String) -> Result<Cas, Error> {
        let version = self.read(&path)?.map(|(_, version)| version);
        Ok(Cas { path, version })
    }

    /// The newest value. Should it be newer than the attempt, the swap will say so.
    pub(super) fn value_to_swap(&mut self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.read(path)?.map(|(data, _)| data))
    }

    pub(super) fn swap_key(&mut self, cas: Cas, value: &[u8]) -> Result<Swap, Error> {
        let Cas { path, version } = cas;
        let done = match version {
            Some(version) => self.write(&path, value, Some(version))?,
            None => {
                let parent = ZnodePath::new(path.as_str()).ok().and_then(|path| path.parent());
                self.make(&Bucket(parent.unwrap_or_else(ZnodePath::root)), &path, value)?
            }
        };
        match done {
            true => Ok(Swap::Done),
            false => Ok(Swap::TooLate(self.begin_swap_at(path)?)),
        }
    }

    fn read(&mut self, path: &str) -> Result<Option<(Vec<u8>, i32)>, Error> {
        match self.znode(ZnodeRequest::Get { path: path.to_owned() })? {
            Ok(ZnodeReply::Data(data, stat)) => Ok(Some((data, stat.version))),
            Ok(_) => Err(nonsense().into()),
            Err(ZnodeFailure::NoNode) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Sets a znode; false if it is not there, or has another version.
    fn write(&mut self, path: &str, value: &[u8], expect_version: Option<i32>) -> Result<bool, Error> {
        let request = ZnodeRequest::Set {
            path: path.to_owned(),
            data: value.to_owned(),
            expect_version,
        };
        match self.znode(request)? {
            Ok(ZnodeReply::Set(_)) => Ok(true),
            Ok(_) => Err(nonsense().into()),
            Err(ZnodeFailure::NoNode | ZnodeFailure::BadVersion) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Creates a znode, and that of its bucket if it is missing; false if it is there.
    fn make(&mut self, bucket: &Bucket, path: &str, value: &[u8]) -> Result<bool, Error> {
        let create = || ZnodeRequest::Create {
            path: path.to_owned(),
            data: value.to_owned(),
        };
        let mut made = self.znode(create())?;
        if made == Err(ZnodeFailure::NoNode) {
            let path = bucket.0.as_str().to_owned();
            match self.znode(ZnodeRequest::CreateParent { path })? {
                Ok(_) | Err(ZnodeFailure::NodeExists) => {}
                Err(ZnodeFailure::NoNode) => {
                    let why = format!("the bucket {} cannot be made: there is no znode above it", bucket.0);
                    return Err(Error::Other(why));
                }
                Err(failure) => return Err(failure.into()),
            }
            made = self.znode(create())?;
        }
        match made {
            Ok(ZnodeReply::Created) => Ok(true),
            Ok(_) => Err(nonsense().into()),
            Err(ZnodeFailure::NodeExists) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    fn say(&self, message: &FromAction) -> Result<(), Error> {
        self.channel.say(message).map_err(|error| Error::Trap(error.into()))
    }
}

/// A number as it is kept, if it is one of this kind.
fn number<N: TryFrom<i128>>(data: &[u8]) -> Option<i128> {
    let number = std::str::from_utf8(data).ok()?.trim().parse().ok()?;
    N::try_from(number).ok().map(|_| number)
}

fn no_number(key: &str) -> Error {
    Error::Other(format!("the key {key:?} holds no number to add to"))
}

fn too_busy(key: &str) -> Error {
    Error::Other(format!(
        "the key {key:?} was changed by others each time in {ATTEMPTS} attempts"
    ))
}

impl From<ZnodeFailure> for Error {
    fn from(failure: ZnodeFailure) -> Self {
        Self::Other(match failure {
            ZnodeFailure::Denied(_) => return Self::AccessDenied,
            ZnodeFailure::NoNode => "there is no such znode".to_owned(),
            ZnodeFailure::NodeExists => "there is such a znode already".to_owned(),
            ZnodeFailure::BadVersion => "the znode has another version".to_owned(),
            ZnodeFailure::TooLarge => "the value, or the list of keys, is larger than a znode can be here".to_owned(),
            ZnodeFailure::SessionLost => "there is no session with ZooKeeper; nothing was changed".to_owned(),
            ZnodeFailure::UnknownOutcome => {
                "the connection with ZooKeeper broke: the change may have been made or not".to_owned()
            }
            ZnodeFailure::Failed(why) => why,
        })
    }
}
