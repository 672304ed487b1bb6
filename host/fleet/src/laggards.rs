//! Which hosts have not handled the last change. Pure: from a survey alone.

use super::record::{ResultState, StateId, WatchResult};
use super::survey::{FleetHost, Survey};
use twitcher_model::WatchType;

/// Whose laggards are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// Of all watches.
    All,
    /// Of the watches of this name.
    Watch(&'a str),
    /// Of all watches of this znode.
    Znode(&'a str),
}

impl<'a> Of<'a> {
    /// What somebody means: a znode, if it looks like one and no watch is called so.
    pub fn named(name: Option<&'a str>, survey: &Survey) -> Self {
        let Some(name) = name else { return Self::All };
        let mut results = survey.hosts.iter().flat_map(|host| &host.results);
        match name.starts_with('/') && !results.any(|result| result.watch == name) {
            true => Self::Znode(name),
            false => Self::Watch(name),
        }
    }

    fn covers(self, result: &WatchResult) -> bool {
        match self {
            Self::All => true,
            Self::Watch(name) => result.watch == name,
            Self::Znode(znode) => result.znode == znode,
        }
    }
}

/// A host that has not handled what a znode is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Laggard<'a> {
    /// The host.
    pub host: &'a FleetHost,
    /// Where it stands.
    pub result: &'a WatchResult,
    /// The state that the znode is in, where that is known.
    pub state: Option<StateId>,
}

/// The answer to who lags.
#[derive(Debug, Clone, PartialEq)]
pub struct Laggards<'a> {
    /// They do, by host and watch.
    pub laggards: Vec<Laggard<'a>>,
    /// How many hosts have such a watch.
    pub hosts: usize,
    /// Hosts of which it is not known, because what they have published cannot be read.
    pub unknown: Vec<&'a FleetHost>,
}

/// Finds them. `tree` tells the state of a subtree, which only who watches it knows.
pub fn laggards<'a>(survey: &'a Survey, of: Of<'_>, tree: impl Fn(&str) -> Option<StateId>) -> Laggards<'a> {
    let mut found = Laggards {
        laggards: Vec::new(),
        hosts: 0,
        unknown: Vec::new(),
    };
    for host in &survey.hosts {
        if host.problem.is_some() {
            found.unknown.push(host);
        }
        let mut has_one = false;
        for result in host.results.iter().filter(|result| of.covers(result)) {
            has_one = true;
            let state = match result.kind {
                WatchType::Tree => tree(&result.znode),
                kind => survey.states.get(&(result.znode.clone(), kind)).copied().flatten(),
            };
            if lags(result, state) {
                found.laggards.push(Laggard { host, result, state });
            }
        }
        found.hosts += usize::from(has_one);
    }
    found
}

/// Where it is not known what state the znode is in, the host's word is taken.
fn lags(result: &WatchResult, state: Option<StateId>) -> bool {
    let is_old = state.is_some_and(|state| result.good != Some(state));
    is_old || result.state != ResultState::Current
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FormatVersion;

    fn result(watch: &str, kind: WatchType, state: ResultState, good: Option<StateId>) -> WatchResult {
        WatchResult {
            v: FormatVersion,
            watch: watch.to_owned(),
            znode: format!("/{watch}"),
            kind,
            state,
            at: good,
            good,
            last: None,
            part: None,
        }
    }

    fn survey(hosts: Vec<Vec<WatchResult>>) -> Survey {
        let hosts = hosts.into_iter().enumerate().map(|(number, results)| FleetHost {
            name: format!("h{number}"),
            id: None,
            labels: Default::default(),
            version: String::new(),
            live: None,
            results,
            problem: None,
        });
        Survey {
            hosts: hosts.collect(),
            states: [
                (("/a".to_owned(), WatchType::Data), Some(StateId::Zxid(7))),
                (("/b".to_owned(), WatchType::Data), Some(StateId::Absent)),
                (("/c".to_owned(), WatchType::Tree), None),
            ]
            .into(),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn who_has_not_handled_the_newest_lags_whatever_it_says() {
        use ResultState::{Behind, Current, Failed};
        let data = |watch, state, good| result(watch, WatchType::Data, state, good);
        let (old, new, gone) = (Some(StateId::Zxid(6)), Some(StateId::Zxid(7)), Some(StateId::Absent));
        let survey = survey(vec![
            vec![data("a", Current, new), data("b", Current, gone)],
            vec![data("a", Current, old), data("b", Current, new)],
            vec![data("a", Failed, old)],
            vec![data("a", Behind, None)],
            vec![data("a", Failed, new)],
        ]);
        let names = |of| -> Vec<String> {
            let found = laggards(&survey, of, |_| None);
            let names = found
                .laggards
                .iter()
                .map(|one| format!("{} {}", one.host.name, one.result.watch));
            names.collect()
        };
        assert_eq!(names(Of::Watch("a")), ["h1 a", "h2 a", "h3 a", "h4 a"]);
        assert_eq!(names(Of::Znode("/b")), ["h1 b"]);
        assert_eq!(names(Of::All).len(), 5);
        assert_eq!(laggards(&survey, Of::Watch("b"), |_| None).hosts, 2);
        assert_eq!(Of::named(Some("/b"), &survey), Of::Znode("/b"));
        assert_eq!(Of::named(Some("b"), &survey), Of::Watch("b"));
    }

    #[test]
    fn the_state_of_a_subtree_is_told_by_who_watches_it() {
        let tree = |good| result("c", WatchType::Tree, ResultState::Current, Some(StateId::Tree(good)));
        let survey = survey(vec![vec![tree(1)], vec![tree(2)]]);
        let count = |state: Option<StateId>| laggards(&survey, Of::All, |_| state).laggards.len();
        assert_eq!(count(Some(StateId::Tree(2))), 1);
        assert_eq!(count(None), 0, "the word of the hosts is taken");
    }
}
