//! Getting a session: tries for ever, with backoff and jitter, and says in words why there is none.
//!
//! It must not know what the session is for.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};
use zookeeper_client::{Client, DigestMd5SaslOptions, Error, SessionId, SessionState};

use super::context::Context;
use super::counters::Counters;
use super::options::{TlsError, ZooKeeperOptions};
use super::reads::{self, ReadFailure};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// What a reply may have beside the largest data that is read, in bytes: the names of as many children as are listed, for one. What a
/// server, or somebody in its place, announces beyond that is not received.
const MORE_THAN_DATA: usize = 48 << 20;

/// Most sessions in a row that end within [`LONGEST_DELAY`] before that is told: one or two are what a restart of the servers looks like.
const MANY_SHORT: u32 = 3;

/// Time between two lines about the same outage.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Time for finding out why one server does not answer.
const PROBE: Duration = Duration::from_secs(2);

/// Most servers whose failure is spelled out in one line, and most different lines within a minute.
const PROBED: usize = 5;

/// What was logged about an outage, over all sessions of a source: one line a minute is enough, however many sessions.
#[derive(Debug, Default)]
pub(super) struct OutageLog {
    said: Mutex<Option<(Instant, Vec<String>)>>,
}

impl OutageLog {
    /// Whether it is time to say this: at once when it is new, then once a minute.
    fn due(&self, why: &str, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *said {
            Some((since, reasons)) if now.duration_since(*since) < SAY_AGAIN => {
                let new = reasons.len() < PROBED && !reasons.iter().any(|reason| reason == why);
                if new {
                    reasons.push(why.to_owned());
                }
                new
            }
            _ => {
                *said = Some((now, vec![why.to_owned()]));
                true
            }
        }
    }

    fn over(&self) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Delay before the next attempt: doubles from a tenth of a second to 10 s, half of it random, so that a thousand hosts do not
/// come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    delay: Duration,
    longest: Duration,
}

impl Backoff {
    pub fn up_to(longest: Duration) -> Self {
        Self {
            delay: FIRST_DELAY.min(longest),
            longest,
        }
    }

    /// The delay now; longer the next time.
    pub fn next(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(self.longest);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// All is well: the next delay is short again.
    pub fn reset(&mut self) {
        self.delay = FIRST_DELAY.min(self.longest);
    }
}

/// Why an attempt to open a session failed.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[cfg(feature = "kerberos")]
    #[error("{0}")]
    Ticket(#[from] super::kerberos::TicketError),
    #[error("{0}")]
    Client(#[from] Error),
    #[error("{0}")]
    CatchUp(ReadFailure),
}

/// Opens the sessions of one worker, one after the other.
#[derive(Debug)]
pub(super) struct SessionOpener {
    options: Arc<ZooKeeperOptions>,
    outage: Arc<OutageLog>,
    backoff: Backoff,
    /// When the last session was opened; one that did not last does not earn a quick next attempt.
    opened: Option<Instant>,
    /// How many in a row did not last.
    short: u32,
    /// The number of the connection among those of the source; none if the source counts as connected without it.
    connection: Option<u64>,
}

impl Drop for SessionOpener {
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            self.options.stats.connections.close(connection);
        }
    }
}

impl SessionOpener {
    /// An opener of sessions that watch something: the source counts as connected only while they are.
    pub fn for_watches(context: &Context) -> Self {
        let mut opener = Self::for_requests(context);
        opener.connection = Some(context.options.stats.connections.open());
        opener
    }

    /// An opener of sessions for requests: they exist only while there are any, so the source is connected without them.
    pub fn for_requests(context: &Context) -> Self {
        Self {
            options: context.options.clone(),
            outage: context.outage.clone(),
            backoff: Backoff::up_to(LONGEST_DELAY),
            opened: None,
            short: 0,
            connection: None,
        }
    }

    fn note(&self, session: Option<SessionId>) {
        if let Some(connection) = self.connection {
            self.options.stats.connections.set(connection, session);
        }
    }

    /// A fresh session on a server that is up to date. Never gives up.
    pub async fn open(&mut self) -> Client {
        let started = Instant::now();
        self.note(None);
        match self.opened.take() {
            Some(opened) if opened.elapsed() > LONGEST_DELAY => {
                self.backoff.reset();
                self.short = 0;
            }
            Some(_) => {
                self.short += 1;
                self.log_short();
                sleep(self.backoff.next()).await;
            }
            None => {}
        }
        loop {
            match self.attempt().await {
                Ok(client) => {
                    self.opened = Some(Instant::now());
                    self.outage.over();
                    self.note(Some(client.session_id()));
                    self.options.stats.count_session();
                    let seconds = started.elapsed().as_secs_f64();
                    let (session, servers) = (client.session_id(), &self.options.servers);
                    let timeout = client.session_timeout().as_secs_f64();
                    info!(%session, %servers, seconds, timeout, "connected");
                    return client;
                }
                Err(error) => self.log_failure(&error).await,
            }
            sleep(self.backoff.next()).await;
        }
    }

    async fn attempt(&self) -> Result<Client, OpenError> {
        let ZooKeeperOptions {
            servers,
            session_timeout,
            auth,
            sasl,
            tls,
            max_data,
            ..
        } = &*self.options;
        // One round over the servers, then our own backoff: the crate would go round in silence for a whole session timeout.
        let mut connector = Client::connector()
            .with_session_timeout(*session_timeout)
            .with_max_packet(max_data + MORE_THAN_DATA)
            .with_fail_eagerly();
        for auth in auth {
            connector = connector.with_auth(&auth.scheme, &auth.credentials);
        }
        if let Some(sasl) = sasl {
            connector = connector.with_sasl(digest_md5(&sasl.user, &sasl.password));
        }
        #[cfg(feature = "kerberos")]
        if let Some(kerberos) = &self.options.kerberos {
            self.get_tickets().await?;
            connector = connector.with_sasl(super::kerberos::sasl(kerberos));
        }
        let servers = servers.to_string();
        let client = match tls {
            Some(tls) => connector.with_tls(tls.load()?).secure_connect(&servers).await?,
            None => connector.connect(&servers).await?,
        };
        reads::catch_up(&client).await.map_err(OpenError::CatchUp)?;
        Ok(client)
    }

    #[cfg(feature = "kerberos")]
    async fn get_tickets(&self) -> Result<(), OpenError> {
        let options = Arc::clone(&self.options);
        let tickets = tokio::task::spawn_blocking(move || match &options.kerberos {
            Some(kerberos) => {
                let hosts = options.servers.servers().iter().map(|(host, _)| host.as_str());
                super::kerberos::tickets(kerberos, hosts)
            }
            None => Ok(()),
        });
        // A thread that panics has got none; the server will say so.
        Ok(tickets.await.unwrap_or(Ok(()))?)
    }

    /// Says that sessions begin and do not last: the servers answer, but not as servers do.
    fn log_short(&self) {
        if self.short < MANY_SHORT {
            return;
        }
        let why =
            "sessions end soon after they begin: what the servers send is not understood, or is more than is taken";
        self.options.stats.connections.failed(why);
        if self.short.is_power_of_two() || self.short == MANY_SHORT {
            let servers = self.options.servers.to_string();
            warn!(servers, sessions = self.short, "{why}; trying again, ever later");
        }
    }

    async fn log_failure(&self, error: &OpenError) {
        let options = &self.options;
        let servers = options.servers.to_string();
        if let OpenError::Client(Error::AuthFailed) | OpenError::CatchUp(ReadFailure::Session(Error::AuthFailed)) =
            error
        {
            let why = "ZooKeeper refused our credentials";
            options.stats.connections.failed(why);
            if self.outage.due(why, Instant::now()) {
                let sasl = options.sasl.is_some() || options.kerberos.is_some();
                let (sasl, auth) = (Credential(sasl), Credential(!options.auth.is_empty()));
                error!(servers, %sasl, %auth, "{why}; trying again");
            }
            return;
        }
        let why = match error {
            OpenError::Client(_) => diagnose(options, error).await,
            _ => error.to_string(),
        };
        options.stats.connections.failed(&why);
        if self.outage.due(&why, Instant::now()) {
            warn!(servers, "no ZooKeeper session: {why}; trying again");
        }
    }
}

struct Credential(bool);

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "given" } else { "none given" })
    }
}

fn digest_md5(user: &str, password: &str) -> DigestMd5SaslOptions {
    zookeeper_client::SaslOptions::digest_md5(user.to_owned(), password.to_owned())
}

/// Asks each server's port why: the crate only says that there is no server left.
async fn diagnose(options: &ZooKeeperOptions, error: &OpenError) -> String {
    let mut reasons = Vec::new();
    for (host, port) in options.servers.servers().iter().take(PROBED) {
        let reason = match timeout(PROBE, TcpStream::connect((host.as_str(), *port))).await {
            Err(_) => "no answer".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(_)) if options.tls.is_some() => {
                "accepts connections, but TLS, the credentials or the ZooKeeper handshake fail".to_owned()
            }
            // It may hang up before it says why.
            Ok(Ok(_)) if options.has_credentials() => {
                "accepts connections, but the credentials or the ZooKeeper handshake fail".to_owned()
            }
            Ok(Ok(_)) => "accepts connections, but does not answer as a ZooKeeper server that is serving".to_owned(),
        };
        let reason = format!("{host}:{port}: {reason}");
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    match options.servers.servers().len() {
        count if count > PROBED => reasons.push(format!("and {} more", count - PROBED)),
        _ => {}
    }
    match error {
        OpenError::Client(Error::NoHosts | Error::Timeout) => reasons.join("; "),
        error => format!("{error} ({})", reasons.join("; ")),
    }
}

/// Logs and counts a change of a session's state. Whether the session is over.
pub(super) fn note_state(counters: &Counters, client: &Client, state: SessionState) -> bool {
    let session = client.session_id();
    let connected = matches!(state, SessionState::SyncConnected | SessionState::ConnectedReadOnly);
    counters.connections.note(session, connected);
    match state {
        SessionState::SyncConnected | SessionState::ConnectedReadOnly => info!(%session, "connected again"),
        SessionState::Disconnected => {
            counters.count_lost();
            warn!(%session, "connection lost, trying to keep the session");
        }
        SessionState::Expired => warn!(%session, "session expired, starting a new one"),
        SessionState::AuthFailed => error!(%session, "ZooKeeper refused our credentials, starting a new session"),
        SessionState::Closed => warn!(%session, "session closed, starting a new one"),
    }
    let over = state.is_terminated();
    if over {
        counters.count_ended();
    }
    over
}

/// Logs and counts the end of a session that a request told us of.
pub(super) fn note_end(counters: &Counters, client: &Client) {
    let state = client.state();
    // The crate's own task may be gone without a last word.
    note_state(
        counters,
        client,
        if state.is_terminated() {
            state
        } else {
            SessionState::Closed
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit_and_is_never_zero() {
        let mut backoff = Backoff::up_to(Duration::from_secs(1));
        let delays: Vec<Duration> = (0..10).map(|_| backoff.next()).collect();
        assert!(
            delays
                .iter()
                .all(|delay| *delay >= FIRST_DELAY / 2 && *delay <= Duration::from_secs(1))
        );
        assert!(delays[9] >= Duration::from_millis(500));
        backoff.reset();
        assert!(backoff.next() <= FIRST_DELAY);
    }

    #[test]
    fn an_outage_is_told_at_once_and_then_once_a_minute() {
        let outage = OutageLog::default();
        let now = Instant::now();
        assert!(outage.due("refused", now));
        assert!(!outage.due("refused", now));
        assert!(outage.due("no such host", now), "another reason is news");
        assert!(!outage.due("refused", now), "but not when it comes back");
        assert!(outage.due("refused", now + SAY_AGAIN));
        assert!(!outage.due("refused", now + SAY_AGAIN));
        outage.over();
        assert!(outage.due("refused", now + SAY_AGAIN));
    }
}
