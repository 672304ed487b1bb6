//! Whether a source can see what it watches, and since when.
//!
//! A source may have many connections, each for some of its watches: it is connected when all are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// Whether a source can see what it watches: its connection to ZooKeeper, or to the directory, which is always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConnection {
    /// Whether the source is connected.
    pub connected: bool,
    /// Since when it is connected or not; none if it never was connected.
    pub since: Option<SystemTime>,
    /// Why the source is not connected, if it is known.
    pub problem: Option<String>,
}

impl SourceConnection {
    /// The connection of a source that is always connected.
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
pub(super) struct Connections<S> {
    state: Mutex<State<S>>,
    published: watch::Sender<SourceConnection>,
}

#[derive(Debug)]
struct State<S> {
    /// The session of each connection that has one, and whether it is connected.
    connections: HashMap<u64, Option<(S, bool)>>,
    last: u64,
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                connections: HashMap::new(),
                last: 0,
            }),
            published: watch::Sender::new(SourceConnection {
                connected: false,
                since: None,
                problem: None,
            }),
        }
    }
}

impl<S: PartialEq> Connections<S> {
    /// The state of the source's connection, now and whenever it changes.
    pub fn subscribe(&self) -> watch::Receiver<SourceConnection> {
        self.published.subscribe()
    }

    /// Adds a connection, which is still to be made, and returns its number.
    pub fn open(&self) -> u64 {
        let mut state = self.state();
        state.last += 1;
        let connection = state.last;
        state.connections.insert(connection, None);
        self.publish(&state, None);
        connection
    }

    /// Notes that a connection has this session, or none.
    pub fn set(&self, connection: u64, session: Option<S>) {
        let mut state = self.state();
        state
            .connections
            .insert(connection, session.map(|session| (session, true)));
        self.publish(&state, None);
    }

    /// Removes a connection that is not needed any more.
    pub fn close(&self, connection: u64) {
        let mut state = self.state();
        state.connections.remove(&connection);
        self.publish(&state, None);
    }

    /// Notes whether a session is connected, if it is that of one of the connections.
    pub fn note(&self, session: S, connected: bool) {
        let mut state = self.state();
        let known = state
            .connections
            .values_mut()
            .flatten()
            .find(|(known, _)| *known == session);
        if let Some((_, up)) = known {
            *up = connected;
            self.publish(&state, (!connected).then_some("the connection was lost"));
        }
    }

    /// Notes why an attempt at a connection failed.
    pub fn failed(&self, why: &str) {
        let state = self.state();
        self.publish(&state, Some(why));
    }

    fn publish(&self, state: &State<S>, problem: Option<&str>) {
        let connected = state
            .connections
            .values()
            .all(|connection| connection.as_ref().is_some_and(|(_, up)| *up));
        self.published.send_if_modified(|connection| {
            let before = connection.clone();
            if connected {
                connection.problem = None;
            } else if let Some(problem) = problem {
                connection.problem = Some(problem.to_owned());
            }
            // Nothing was connected yet, and nothing is: it is not since now.
            if connection.connected != connected {
                connection.connected = connected;
                connection.since = Some(SystemTime::now());
            }
            *connection != before
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
        let connections = Connections::default();
        let connection = connections.subscribe();
        let now = || (connection.borrow().connected, connection.borrow().problem.clone());
        assert_eq!(now(), (false, None));
        let (a, b) = (connections.open(), connections.open());
        connections.failed("refused");
        assert_eq!(now(), (false, Some("refused".to_owned())));
        assert_eq!(connection.borrow().since, None);
        connections.set(a, Some(1));
        assert_eq!(now(), (false, Some("refused".to_owned())));
        connections.set(b, Some(2));
        assert_eq!(now(), (true, None));
        connections.note(7, false);
        assert_eq!(now(), (true, None), "a session that is for something else");
        connections.note(2, false);
        assert_eq!(now(), (false, Some("the connection was lost".to_owned())));
        connections.note(2, true);
        assert_eq!(now(), (true, None));
        connections.set(b, None);
        assert_eq!(now(), (false, None));
        connections.close(b);
        assert!(now().0, "what is not needed need not be connected");
    }
}
