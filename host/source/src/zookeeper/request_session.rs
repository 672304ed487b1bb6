//! The session for requests: opened by the first one, kept for as long as there are more, closed when there are none for a while. Whoever
//! wants it for good holds a [`KeptSession`].
//!
//! It is one of its own. An answer of a megabyte, or a server that ends the connection over a request it thinks too large, then
//! holds up no watch. It must not know what is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::debug;
use zookeeper_client::{Client, SessionState};

use super::connect::{SessionOpener, note_end, note_state};
use super::context::Context;
use super::counters::Counters;
use super::options::ZooKeeperOptions;

/// A session is closed when there was no request for so many times the patience of one; a request takes twice that at most.
const IDLE: u32 = 6;

/// Time for the servers to hear that the session is over.
const GOODBYE: Duration = Duration::from_millis(500);

/// How long who waits for a session for ever waits in one go.
const FOR_NOW: Duration = Duration::from_secs(60);

/// A session, as those that use it see it.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// By which requests are made.
    pub client: Client,
    broken: Arc<Notify>,
}

impl OpenSession {
    /// To be called by who finds that the session is over: the crate does not always say so by itself.
    pub fn give_up(&self) {
        self.broken.notify_one();
    }
}

/// No session could be had before the deadline.
#[derive(Debug)]
pub(super) struct NoSession;

/// Where the session is to be had. It is closed when the last clone of this is dropped.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    wanted: Arc<Notify>,
    /// How many want the session for good.
    kept: Arc<AtomicUsize>,
    current: watch::Receiver<Option<OpenSession>>,
}

/// The session for requests, opened at once and not closed for want of requests as long as this or a clone of it exists. It is shared
/// with all requests, so that a daemon takes no connection more. After the end of one session there is another.
#[derive(Debug)]
pub struct KeptSession {
    sessions: Sessions,
    credentials: Credentials,
}

/// Who a session is for ZooKeeper: the names, and no secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user of the scheme `digest`.
    pub digest: Option<String>,
    /// The user of SASL, or the principal.
    pub sasl: Option<String>,
    /// It shows a certificate. Whether that makes it somebody is for the servers to say.
    pub certificate: bool,
}

impl Credentials {
    pub(super) fn of(options: &ZooKeeperOptions) -> Self {
        // Whose tickets they are may be the cache's to say.
        let principal = |name: &Option<String>| name.clone().unwrap_or_else(|| "PRINCIPAL".to_owned());
        let kerberos = options.kerberos.as_ref().map(|kerberos| principal(&kerberos.principal));
        let digest = options.auth.iter().map(|auth| auth.user().unwrap_or(&auth.scheme));
        Self {
            digest: digest.map(str::to_owned).next(),
            sasl: options.sasl.as_ref().map(|sasl| sasl.user.clone()).or(kerberos),
            certificate: options.tls.as_ref().is_some_and(|tls| tls.identity.is_some()),
        }
    }
}

impl KeptSession {
    pub(super) fn new(sessions: Sessions, credentials: Credentials) -> Self {
        sessions.kept.fetch_add(1, Ordering::Relaxed);
        sessions.wanted.notify_one();
        Self { sessions, credentials }
    }

    /// Waits, for ever if need be, for a session that is connected.
    pub async fn connected(&self) -> OpenSession {
        loop {
            match self.sessions.connected(Instant::now() + FOR_NOW).await {
                Ok(session) => return session,
                // Nobody opens sessions any more once the runtime ends.
                Err(NoSession) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Who the session is, for the znodes that it creates.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Clone for KeptSession {
    fn clone(&self) -> Self {
        Self::new(self.sessions.clone(), self.credentials.clone())
    }
}

impl Drop for KeptSession {
    fn drop(&mut self) {
        self.sessions.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sessions {
    /// Starts the task that keeps the session; it ends, with the session, after the last clone of what is returned.
    pub fn start(context: &Context, opener: SessionOpener) -> (Self, JoinHandle<()>) {
        let (wanted, kept) = (Arc::new(Notify::new()), Arc::default());
        let (sender, current) = watch::channel(None);
        let keeper = SessionKeeper {
            wanted: Arc::clone(&wanted),
            kept: Arc::clone(&kept),
            current: sender,
            counters: context.options.stats.clone(),
            idle: context.options.patience.saturating_mul(IDLE),
        };
        let task = tokio::spawn(keeper.run(opener));
        (Self { wanted, kept, current }, task)
    }

    /// Waits for a session that is connected, and has one opened if there is none.
    pub async fn connected(&self, deadline: Instant) -> Result<OpenSession, NoSession> {
        self.wanted.notify_one();
        let mut current = self.current.clone();
        let is_connected = |session: &Option<OpenSession>| {
            session
                .as_ref()
                .is_some_and(|session| session.client.state() == SessionState::SyncConnected)
        };
        match timeout_at(deadline, current.wait_for(is_connected)).await {
            Ok(Ok(session)) => session.clone().ok_or(NoSession),
            _ => Err(NoSession),
        }
    }
}

struct SessionKeeper {
    wanted: Arc<Notify>,
    kept: Arc<AtomicUsize>,
    current: watch::Sender<Option<OpenSession>>,
    counters: Arc<Counters>,
    idle: Duration,
}

enum End {
    /// There were no requests for a while.
    Idle,
    /// The session is over.
    Session,
    /// The last clone of [`Sessions`] is gone, so there can be no more requests.
    Closed,
}

impl SessionKeeper {
    async fn run(self, mut opener: SessionOpener) {
        let mut idle = true;
        loop {
            if idle {
                tokio::select! {
                    () = self.wanted.notified() => {}
                    () = self.current.closed() => return,
                }
            }
            let client = tokio::select! {
                client = opener.open() => client,
                () = self.current.closed() => return,
            };
            let mut states = client.state_watcher();
            let end = self.keep(client).await;
            // Whoever has a request under way has the client too: the session is closed after that.
            self.current.send_replace(None);
            match end {
                End::Idle => debug!("no requests for znodes: closing their session"),
                End::Session => {}
                End::Closed => {
                    let over = async { while !states.changed().await.is_terminated() {} };
                    // Who does not hear of it finds out when the session expires.
                    let _ = timeout(GOODBYE, over).await;
                    return;
                }
            }
            idle = matches!(end, End::Idle);
        }
    }

    /// Offers a session until it is over or not wanted any more.
    async fn keep(&self, client: Client) -> End {
        let mut states = client.state_watcher();
        let session = OpenSession {
            client,
            broken: Arc::default(),
        };
        self.current.send_replace(Some(session.clone()));
        let mut idle = Instant::now() + self.idle;
        loop {
            tokio::select! {
                state = states.changed() => {
                    if note_state(&self.counters, &session.client, state) {
                        return End::Session;
                    }
                    // Wakes who waits, to look at the state.
                    self.current.send_replace(Some(session.clone()));
                }
                () = session.broken.notified() => {
                    note_end(&self.counters, &session.client);
                    return End::Session;
                }
                () = self.wanted.notified() => idle = Instant::now() + self.idle,
                () = sleep_until(idle) => match self.kept.load(Ordering::Relaxed) {
                    0 => return End::Idle,
                    _ => idle = Instant::now() + self.idle,
                },
                () = self.current.closed() => return End::Closed,
            }
        }
    }
}
