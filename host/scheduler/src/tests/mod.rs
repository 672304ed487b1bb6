//! Tests of the machine: each rule as a script, and random lives against a much simpler model.

mod fair;
mod life;
mod model;
mod operator;
mod restored;
mod retries;
mod rules;
mod script;
mod services;
mod times;

use bytes::Bytes;

use twitcher_model::{Observation, Stamp, Stat, Version};

/// A node's data as a source would report it.
fn data(czxid: i64, mzxid: i64, stdin: impl Into<Bytes>) -> Observation {
    Observation {
        version: Version::Data {
            czxid,
            mzxid,
            stamp: Stamp::default(),
        },
        stat: stat(czxid, mzxid),
        stdin: stdin.into(),
        nodes: None,
        znodes: 0,
        several: None,
    }
}

/// A subtree in which these paths changed.
fn tree(digest: u64, paths: impl IntoIterator<Item = impl std::fmt::Display>) -> Observation {
    let paths: Vec<String> = paths.into_iter().map(|path| format!("{path}\n")).collect();
    let (stdin, znodes) = (paths.concat(), paths.len() as u32);
    Observation {
        version: Version::Tree {
            digest,
            stamp: Stamp::default(),
        },
        stat: stat(1, 1),
        stdin: stdin.into(),
        nodes: None,
        znodes,
        several: None,
    }
}

fn stat(czxid: i64, mzxid: i64) -> Option<Stat> {
    let version = 0;
    Some(Stat { czxid, mzxid, version })
}

/// A machine is small: a daemon has tens of thousands.
#[test]
fn size() {
    let size = size_of::<super::Machine>();
    assert!(size <= 208, "{size} bytes");
}
