//! Watches of several znodes: the source knows each by an id of its own, and the machine only all of them together.
//!
//! Nothing is told to the machine before all have been read: a run for a part of them would be one for a state that never was. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use twitcher_model::{Observation, Seen, SeveralZnodes, Unreadable, Watch, WatchId, WatchType, ZnodePath, ZnodeState};
use twitcher_scheduler::paths;

/// The znodes of a watch of several, as far as they have been read.
#[derive(Debug)]
pub struct Parts {
    parts: Vec<Part>,
    /// The paths that changed since they were last told, one a line.
    changed: Bytes,
}

#[derive(Debug)]
struct Part {
    /// By which the source knows it; of the first it is that of the watch.
    id: WatchId,
    znode: ZnodePath,
    read: Option<(Observation, SystemTime)>,
    unreadable: Option<Arc<Unreadable>>,
}

impl Parts {
    /// Of a watch, of which nothing has been read; `allot` gives ids for all but the first.
    pub fn new(id: WatchId, watch: &Watch, mut allot: impl FnMut() -> WatchId) -> Self {
        let mut ids = std::iter::once(id);
        let part = |znode: &ZnodePath| Part {
            id: ids.next().unwrap_or_else(&mut allot),
            znode: znode.clone(),
            read: None,
            unreadable: None,
        };
        Self {
            parts: watch.znodes().map(part).collect(),
            changed: Bytes::new(),
        }
    }

    /// By which the source knows each znode.
    pub fn znodes(&self) -> impl Iterator<Item = (WatchId, &ZnodePath)> {
        self.parts.iter().map(|part| (part.id, &part.znode))
    }

    /// All are read afresh: nothing counts until they have been.
    pub fn forget(&mut self) {
        for part in &mut self.parts {
            part.read = None;
            part.unreadable = None;
        }
        self.changed = Bytes::new();
    }

    /// One of them was read. Gives the state of all, once all have been.
    pub fn read(&mut self, id: WatchId, watch_type: WatchType, observation: Observation) -> Option<Observation> {
        let part = self.parts.iter_mut().find(|part| part.id == id)?;
        let before = part.read.as_ref().map(|(before, _)| before.version);
        if before != Some(observation.version) {
            let lines = match watch_type {
                WatchType::Tree if observation.exists() => observation.stdin.clone(),
                // What was never there has not changed.
                _ if before.is_none() && !observation.exists() => Bytes::new(),
                _ => format!("{}\n", part.znode).into(),
            };
            if !lines.is_empty() {
                self.changed = paths::merge(&self.changed, &lines);
            }
        }
        // What cannot be read of a subtree's parts is not over by that.
        part.unreadable.take_if(|unreadable| unreadable.parts.is_none());
        part.read = Some((observation, SystemTime::now()));
        let state = |part: &Part| {
            Some(ZnodeState {
                znode: part.znode.clone(),
                observation: part.read.as_ref()?.0.clone(),
            })
        };
        let states = self.parts.iter().map(state).collect::<Option<Vec<_>>>()?;
        let all = SeveralZnodes { watch_type, states };
        Some(all.observation(std::mem::take(&mut self.changed)))
    }

    /// Notes what cannot be read of one of them, or that all of it can.
    pub fn set_unreadable(&mut self, id: WatchId, unreadable: Option<Arc<Unreadable>>) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.id == id) {
            part.unreadable = unreadable;
        }
    }

    /// What cannot be read of them, if something cannot: the first, by its path.
    pub fn unreadable(&self) -> Option<Arc<Unreadable>> {
        let part = self.parts.iter().find(|part| part.unreadable.is_some())?;
        let unreadable = part.unreadable.as_deref()?;
        Some(Arc::new(Unreadable {
            why: format!("{}: {}", part.znode, unreadable.why),
            ..unreadable.clone()
        }))
    }

    /// Each with the state that was last read.
    pub fn seen(&self) -> Vec<(ZnodePath, Option<Seen>)> {
        let seen = |part: &Part| {
            let read = part.read.as_ref();
            let seen = read.map(|(observation, at)| Seen::new(observation.version, observation.stat, *at));
            (part.znode.clone(), seen)
        };
        self.parts.iter().map(seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twitcher_model::{Stamp, Version};

    fn data(mzxid: i64) -> Observation {
        Observation {
            version: Version::Data {
                czxid: 1,
                mzxid,
                stamp: Stamp::default(),
            },
            ..Observation::absent()
        }
    }

    fn parts() -> Parts {
        let part = |id, path: &str| Part {
            id: WatchId(id),
            znode: ZnodePath::new(path).unwrap(),
            read: None,
            unreadable: None,
        };
        Parts {
            parts: vec![part(1, "/a"), part(7, "/b"), part(8, "/c")],
            changed: Bytes::new(),
        }
    }

    fn read(parts: &mut Parts, id: u32, observation: Observation) -> Option<String> {
        let whole = parts.read(WatchId(id), WatchType::Data, observation)?;
        Some(String::from_utf8(whole.stdin.to_vec()).unwrap())
    }

    #[test]
    fn nothing_is_told_before_all_are_read_and_then_what_changed() {
        let mut parts = parts();
        assert_eq!(read(&mut parts, 1, data(1)), None);
        assert_eq!(read(&mut parts, 1, data(2)), None);
        assert_eq!(read(&mut parts, 8, Observation::absent()), None);
        assert_eq!(read(&mut parts, 7, data(1)).unwrap(), "/a\n/b\n");
        assert_eq!(read(&mut parts, 7, data(1)).unwrap(), "", "the same again");
        assert_eq!(read(&mut parts, 8, data(1)).unwrap(), "/c\n");
        assert_eq!(read(&mut parts, 8, Observation::absent()).unwrap(), "/c\n");
        parts.forget();
        assert_eq!(read(&mut parts, 7, data(1)), None);
        assert_eq!(read(&mut parts, 8, Observation::absent()), None);
        assert_eq!(read(&mut parts, 1, data(2)).unwrap(), "/a\n/b\n");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_path() {
        let mut parts = parts();
        let unreadable = Arc::new(Unreadable {
            why: "no".to_owned(),
            remedy: "do".to_owned(),
            parts: None,
            since: SystemTime::now(),
            next_attempt: SystemTime::now(),
        });
        parts.set_unreadable(WatchId(7), Some(unreadable));
        assert_eq!(parts.unreadable().unwrap().why, "/b: no");
        read(&mut parts, 1, data(1));
        assert!(parts.unreadable().is_some());
        read(&mut parts, 7, data(1));
        assert!(parts.unreadable().is_none());
    }
}
