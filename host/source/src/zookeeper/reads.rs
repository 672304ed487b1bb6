//! Reads: how requests are sent, how large replies are kept away, and what their failures mean.
//!
//! It must not know who wants the answer, nor decide when to ask again.

use std::sync::Arc;

use bytes::Bytes;
use zookeeper_client::{Client, Error, MultiReadResult};

use super::listing::{MAX_PATHS, MAX_ZNODES};
use super::subtree_state::{Mark, mix};
use twitcher_model::{Observation, PAYLOAD_MAX, Stamp, Stat, Version};

/// Requests in flight at once. Enough to hide the round trip, few enough that a new event is looked at in between.
pub(super) const PIPELINE: usize = 250;

/// Most znodes in one multi-read: so many may have grown to the largest size since they were last seen.
const MULTI_COUNT: usize = 250;

/// What a znode is taken to weigh of which nothing is known.
pub(super) const GUESS: usize = 8 * 1024;

/// Up to this size a znode is simply read when in doubt, and what it has is part of its version; a larger one is only read when its stat
/// is news.
pub(super) const SMALL: usize = 8 * 1024;

/// Most data bytes of one multi-read. Well below the megabyte that is the default of `jute.maxbuffer`.
const MULTI_BYTES: usize = 512 * 1024;

/// From this size on a znode is read alone: should the read be what loses the connection, no other znode suffers.
pub(super) const LARGE: usize = 128 * 1024;

/// Most children of a znode whose names are read: more is a reply of many megabytes.
pub(super) const MAX_CHILDREN: usize = 200_000;

/// Why a znode could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadFailure {
    /// The znode's access control list does not let us read it.
    #[error("not permitted")]
    Denied,
    /// The znode has more data or children than is sensible.
    #[error("{0}")]
    TooLarge(Excess),
    /// The server cannot do what was asked.
    #[error("the server does not implement the request")]
    Unimplemented,
    /// Something about this znode that will be no better the next moment.
    #[error("{0}")]
    Znode(Error),
    /// The connection was lost, or something just as passing.
    #[error("{0}")]
    Connection(Error),
    /// The session is over.
    #[error("{0}")]
    Session(Error),
}

/// What a znode or a subtree has too much of to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("it has {0} bytes, more than are taken as an update")]
    Data(usize),
    #[error("it has {0} children, more than can be read at once")]
    Children(usize),
    #[error("{0} has {1} children, more than can be read at once")]
    ChildrenOf(Arc<str>, usize),
    #[error("{0} has {1} bytes, more than are taken as an update")]
    DataOf(Arc<str>, usize),
    #[error("the znodes of the subtree hold more than {} bytes together", PAYLOAD_MAX)]
    TreeData,
    #[error("the subtree has more than {MAX_ZNODES} znodes")]
    Tree,
    #[error("the paths of the subtree have more than {} MiB together", MAX_PATHS >> 20)]
    TreePaths,
}

impl From<Error> for ReadFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoAuth => ReadFailure::Denied,
            Error::Unimplemented => ReadFailure::Unimplemented,
            Error::SessionExpired | Error::SessionMoved | Error::AuthFailed | Error::ClientClosed | Error::NoHosts => {
                ReadFailure::Session(error)
            }
            // What the crate says when its own session task is gone.
            Error::UnexpectedError(_) => ReadFailure::Session(error),
            Error::BadArguments(_) | Error::MarshallingError | Error::UnmarshalError { .. } | Error::QuotaExceeded => {
                ReadFailure::Znode(error)
            }
            // Everything else passes: a request that was in flight when the connection broke fails with ConnectionLoss, but also
            // with a custom error ("no response from connection"), a timeout, or an error code of a server that shuts down.
            _ => ReadFailure::Connection(error),
        }
    }
}

pub(super) type Reply<T> = Result<T, ReadFailure>;
pub(super) type ZkStat = zookeeper_client::Stat;

pub(super) fn stat_of(stat: &ZkStat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        version: stat.version,
    }
}

/// How many bytes of data a znode has.
pub(super) fn length_of(stat: &ZkStat) -> usize {
    usize::try_from(stat.data_length).unwrap_or(0)
}

pub(super) fn mark_of(stat: &ZkStat) -> Mark {
    Mark {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        written: data_stamp(stat),
    }
}

fn data_stamp(stat: &ZkStat) -> u32 {
    let length = i64::from(stat.data_length);
    digest([stat.ctime, stat.mtime, length].iter().flat_map(|n| n.to_le_bytes()))
}

/// The version of a znode's data as far as its stat tells it: [`Version::by_stat`] of what reading it would give.
pub(super) fn data_version(stat: &ZkStat) -> Version {
    Version::Data {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        stamp: Stamp {
            stat: data_stamp(stat),
            contents: 0,
        },
    }
}

/// The version of a znode's children as far as its stat tells it. Neither length nor time of its data are the children's business.
pub(super) fn children_version(stat: &ZkStat) -> Version {
    let count = i64::from(stat.num_children);
    Version::Children {
        czxid: stat.czxid,
        pzxid: stat.pzxid,
        stamp: Stamp {
            stat: digest([stat.ctime, count].iter().flat_map(|n| n.to_le_bytes())),
            contents: 0,
        },
    }
}

/// The version of something that was read, and not only its stat.
fn with_contents(version: Version, contents: &[u8]) -> Version {
    match contents.len() {
        length if length > SMALL => version,
        _ => version.with_stamp(Stamp {
            contents: digest(contents.iter().copied()),
            ..version.stamp()
        }),
    }
}

/// FNV-1a with a finalizer. Never 0. Stable: a restarted daemon compares it with a recorded one.
fn digest(bytes: impl Iterator<Item = u8>) -> u32 {
    let start = 0xcbf2_9ce4_8422_2325;
    let hash = bytes.fold(start, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    ((mix(hash) >> 32) as u32).max(1)
}

pub(super) fn data_observation(data: Vec<u8>, stat: &ZkStat) -> Observation {
    Observation {
        version: with_contents(data_version(stat), &data),
        stat: Some(stat_of(stat)),
        stdin: data.into(),
        nodes: None,
        znodes: 0,
        several: None,
    }
}

pub(super) fn children_observation(mut names: Vec<String>, stat: &ZkStat) -> Observation {
    names.sort_unstable();
    let mut lines = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in &names {
        lines.push_str(name);
        lines.push('\n');
    }
    Observation {
        version: with_contents(children_version(stat), lines.as_bytes()),
        stat: Some(stat_of(stat)),
        stdin: Bytes::from(lines),
        nodes: None,
        znodes: 0,
        several: None,
    }
}

pub(super) fn check_data(stat: &ZkStat, max: usize) -> Reply<()> {
    match usize::try_from(stat.data_length).unwrap_or(0) {
        length if length > max => Err(ReadFailure::TooLarge(Excess::Data(length))),
        _ => Ok(()),
    }
}

pub(super) fn check_children(stat: &ZkStat) -> Reply<()> {
    match usize::try_from(stat.num_children).unwrap_or(0) {
        count if count > MAX_CHILDREN => Err(ReadFailure::TooLarge(Excess::Children(count))),
        _ => Ok(()),
    }
}

/// Makes the server we talk to catch up with its leader, so that a new session never reads something older than an earlier one
/// did on another server.
pub(super) async fn catch_up(client: &Client) -> Reply<()> {
    Ok(client.sync("/").await?)
}

/// Stats of many znodes, all asked before the first answer is awaited; none for one that does not exist. Needs no permission on
/// the znodes, and every reply is small.
pub(super) async fn stats(client: &Client, paths: &[Arc<str>]) -> Reply<Vec<Option<ZkStat>>> {
    let mut stats = Vec::with_capacity(paths.len());
    for chunk in paths.chunks(PIPELINE) {
        let sent: Vec<_> = chunk.iter().map(|path| client.check_stat(path)).collect();
        for reply in sent {
            stats.push(match reply.await.map_err(ReadFailure::from) {
                // The path cannot exist on any server.
                Err(ReadFailure::Znode(_)) => None,
                reply => reply?,
            });
        }
    }
    Ok(stats)
}

/// Data and stat of one znode; none if it does not exist. The request is sent by the call, not by the await.
pub(super) fn data(client: &Client, path: &str) -> impl Future<Output = Reply<Option<(Vec<u8>, ZkStat)>>> + use<> {
    let sent = client.get_data(path);
    async move { optional(sent.await) }
}

/// Child names and stat of one znode; none if it does not exist. The request is sent by the call, not by the await.
pub(super) fn children(
    client: &Client,
    path: &str,
) -> impl Future<Output = Reply<Option<(Vec<String>, ZkStat)>>> + use<> {
    let sent = client.get_children(path);
    async move { optional(sent.await) }
}

fn optional<T>(reply: Result<T, Error>) -> Reply<Option<T>> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many of the first of these known sizes one multi-read may carry. Never none.
pub(super) fn batch(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = sizes.take(MULTI_COUNT).take_while(|size| {
        bytes += size;
        bytes <= MULTI_BYTES
    });
    fits.count().max(1)
}

/// Data of several znodes in one round trip, each with its own outcome.
pub(super) async fn many(client: &Client, paths: &[Arc<str>]) -> Reply<Vec<Reply<Option<(Vec<u8>, ZkStat)>>>> {
    if let [path] = paths {
        return match data(client, path).await {
            Err(failure @ (ReadFailure::Connection(_) | ReadFailure::Session(_))) => Err(failure),
            reply => Ok(vec![reply]),
        };
    }
    let mut reader = client.new_multi_reader();
    for path in paths {
        reader.add_get_data(path)?;
    }
    let replies = match reader.commit().await.map_err(ReadFailure::from) {
        Err(ReadFailure::Unimplemented) => return Ok(one_by_one(client, paths).await),
        replies => replies?,
    };
    let replies = replies.into_iter().map(|reply| match reply {
        MultiReadResult::Data { data, stat } => Ok(Some((data, stat))),
        MultiReadResult::Error { err } => optional(Err(err)),
        // Children, which nobody asked for.
        _ => Err(ReadFailure::Znode(Error::MarshallingError)),
    });
    Ok(replies.collect())
}

async fn one_by_one(client: &Client, paths: &[Arc<str>]) -> Vec<Reply<Option<(Vec<u8>, ZkStat)>>> {
    let sent: Vec<_> = paths.iter().map(|path| data(client, path)).collect();
    let mut replies = Vec::with_capacity(sent.len());
    for reply in sent {
        replies.push(reply.await);
    }
    replies
}

pub(super) fn below(parent: &str, name: &str) -> Arc<str> {
    if parent == "/" {
        format!("/{name}").into()
    } else {
        format!("{parent}/{name}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_known_to_last_is_tried_again() {
        for error in [
            Error::ConnectionLoss,
            Error::Timeout,
            Error::Throttled,
            Error::UnexpectedErrorCode(-1),
        ] {
            assert!(matches!(ReadFailure::from(error), ReadFailure::Connection(_)));
        }
        assert_eq!(ReadFailure::from(Error::NoAuth), ReadFailure::Denied);
        assert!(matches!(
            ReadFailure::from(Error::SessionExpired),
            ReadFailure::Session(_)
        ));
        assert!(matches!(ReadFailure::from(Error::AuthFailed), ReadFailure::Session(_)));
    }

    #[test]
    fn batches_are_capped_by_bytes_and_by_count() {
        assert_eq!(batch([10; 2000].into_iter()), MULTI_COUNT);
        assert_eq!(batch([GUESS; 2000].into_iter()), 64);
        assert_eq!(batch([LARGE; 10].into_iter()), 4);
        assert_eq!(batch([MULTI_BYTES * 2].into_iter()), 1);
    }

    fn stat() -> ZkStat {
        ZkStat {
            czxid: 1,
            mzxid: 2,
            pzxid: 3,
            ctime: 0,
            mtime: 0,
            version: 4,
            cversion: 5,
            aversion: 0,
            ephemeral_owner: 0,
            data_length: 0,
            num_children: 2,
        }
    }

    /// Servers that were set up anew may count to the same transactions.
    #[test]
    fn times_length_and_small_contents_tell_apart_what_the_same_transactions_made() {
        let of = |stat: &ZkStat, data: &str| data_observation(data.into(), stat).version;
        let one = of(&stat(), "x");
        assert_eq!(one, of(&stat(), "x"));
        assert_eq!(one.by_stat(), data_version(&stat()));
        let (later, longer) = (
            ZkStat { mtime: 1, ..stat() },
            ZkStat {
                data_length: 1,
                ..stat()
            },
        );
        let made_anew = ZkStat { ctime: 1, ..stat() };
        let others = [of(&later, "x"), of(&longer, "x"), of(&made_anew, "x"), of(&stat(), "y")];
        assert!(others.iter().all(|other| *other != one));
        assert_eq!(one.parts(), others[0].parts());
        let large = "x".repeat(SMALL + 1);
        assert_eq!(of(&stat(), &large), data_version(&stat()), "only its stat counts");

        let children = |stat: &ZkStat, name: &str| children_observation(vec![name.into()], stat).version;
        assert_eq!(
            children(&stat(), "x"),
            children(&later, "x"),
            "its data is another matter"
        );
        assert_ne!(children(&stat(), "x"), children(&made_anew, "x"));
        assert_ne!(children(&stat(), "x"), children(&stat(), "y"));
    }

    #[test]
    fn a_stamp_is_the_same_in_another_process() {
        let version = data_observation("x".into(), &stat()).version;
        assert_eq!(version.stamp().to_bits(), 0x6d6886542c782ac2);
    }

    #[test]
    fn children_are_sorted_lines() {
        let stat = stat();
        let observation = children_observation(vec!["b".into(), "a".into()], &stat);
        assert_eq!(&*observation.stdin, b"a\nb\n");
        assert_eq!(observation.version.by_stat(), children_version(&stat));
        assert_eq!(observation.version.parts(), (2, 1, 3));
        assert_eq!(children_observation(Vec::new(), &stat).stdin.len(), 0);
    }
}
