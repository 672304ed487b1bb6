//! Whether a source can see what it watches, and since when.
//!
//! A source may have many connections, each for some of its watches: it is connected when all are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// The connection of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub connected: bool,
    /// Since when that is so; none if there never was one.
    pub since: Option<SystemTime>,
    /// What is wrong, if something is.
    pub problem: Option<String>,
}

impl Link {
    /// One that always is there.
    pub fn always() -> Self {
        Self {
            connected: true,
            since: Some(SystemTime::now()),
            problem: None,
        }
    }
}

/// The connections of a source, each known by a number. `S` is what tells one session from another.
#[derive(Debug)]
pub(super) struct Lines<S> {
    state: Mutex<State<S>>,
    said: watch::Sender<Link>,
}

#[derive(Debug)]
struct State<S> {
    /// The session of each, and whether it is connected.
    lines: HashMap<u64, Option<(S, bool)>>,
    last: u64,
}

impl<S> Default for Lines<S> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                lines: HashMap::new(),
                last: 0,
            }),
            said: watch::Sender::new(Link {
                connected: false,
                since: None,
                problem: None,
            }),
        }
    }
}

impl<S: PartialEq> Lines<S> {
    /// The connection now, and whenever it changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.said.subscribe()
    }

    /// There is one more connection to be made.
    pub fn open(&self) -> u64 {
        let mut state = self.state();
        state.last += 1;
        let line = state.last;
        state.lines.insert(line, None);
        self.say(&state, None);
        line
    }

    /// It has this session, or none.
    pub fn set(&self, line: u64, session: Option<S>) {
        let mut state = self.state();
        state.lines.insert(line, session.map(|session| (session, true)));
        self.say(&state, None);
    }

    /// It is not needed any more.
    pub fn close(&self, line: u64) {
        let mut state = self.state();
        state.lines.remove(&line);
        self.say(&state, None);
    }

    /// A session, if it is one of these, is connected or not.
    pub fn note(&self, session: S, connected: bool) {
        let mut state = self.state();
        let known = state.lines.values_mut().flatten().find(|(known, _)| *known == session);
        if let Some((_, up)) = known {
            *up = connected;
            self.say(&state, (!connected).then_some("the connection was lost"));
        }
    }

    /// Why there is no session.
    pub fn trouble(&self, why: &str) {
        let state = self.state();
        self.say(&state, Some(why));
    }

    fn say(&self, state: &State<S>, problem: Option<&str>) {
        let connected = state
            .lines
            .values()
            .all(|line| line.as_ref().is_some_and(|(_, up)| *up));
        self.said.send_if_modified(|link| {
            let before = link.clone();
            if connected {
                link.problem = None;
            } else if let Some(problem) = problem {
                link.problem = Some(problem.to_owned());
            }
            // Nothing was connected yet, and nothing is: it is not since now.
            if link.connected != connected {
                link.connected = connected;
                link.since = Some(SystemTime::now());
            }
            *link != before
        });
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_when_all_are() {
        let lines = Lines::default();
        let link = lines.link();
        let now = || (link.borrow().connected, link.borrow().problem.clone());
        assert_eq!(now(), (false, None));
        let (a, b) = (lines.open(), lines.open());
        lines.trouble("refused");
        assert_eq!(now(), (false, Some("refused".to_owned())));
        assert_eq!(link.borrow().since, None);
        lines.set(a, Some(1));
        assert_eq!(now(), (false, Some("refused".to_owned())));
        lines.set(b, Some(2));
        assert_eq!(now(), (true, None));
        lines.note(7, false);
        assert_eq!(now(), (true, None), "a session that is for something else");
        lines.note(2, false);
        assert_eq!(now(), (false, Some("the connection was lost".to_owned())));
        lines.note(2, true);
        assert_eq!(now(), (true, None));
        lines.set(b, None);
        assert_eq!(now(), (false, None));
        lines.close(b);
        assert!(now().0, "what is not needed need not be connected");
    }
}
