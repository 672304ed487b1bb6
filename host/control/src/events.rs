//! What happens, for those who follow it live or ask later: a ring of the last events, and server-sent events made of it.
//!
//! The daemon's loop puts in facts; they become JSON when the first reader wants them, once for all. Each reader has a place in the
//! ring of its own. One that falls behind by more than the ring holds, or that comes back too late, is told that events were lost, so
//! neither can a slow reader hold anything up nor does it miss anything without knowing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::api::{Event, EventKind, WatchSummary};
use super::disclosure::{Shown, Views};
use super::facts::WatchFacts;
use super::refusal::RequestRefusal;
use super::routes::parameters;
use super::server::closed;
use super::view;
use twitcher_model::{RunFacts, timestamp};

/// Events that are kept.
pub const KEPT: usize = 1024;
/// How often a reader hears something, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Something that happened, as the loop tells it.
#[derive(Debug)]
pub struct Occurrence {
    /// The kind of event.
    pub kind: EventKind,
    /// For people, on one line.
    pub message: String,
    /// The watch, where it is about one.
    pub watch: Option<WatchFacts>,
    /// The run, where it is about one.
    pub run: Option<RunFacts>,
}

#[derive(Debug)]
struct Entry {
    seq: u64,
    at: SystemTime,
    kind: EventKind,
    message: String,
    /// Not the watch itself: its component would be kept from being removed for as long as somebody may ask.
    watch: Option<Views<WatchSummary>>,
    run: Option<RunFacts>,
    /// As JSON, as much as is shown, once somebody wanted it.
    json: Views<OnceLock<String>>,
}

impl Entry {
    fn json(&self, shown: Shown) -> &str {
        self.json.get(shown).get_or_init(|| {
            let event = shown.event(Event {
                seq: self.seq,
                at: timestamp(self.at),
                kind: self.kind,
                message: self.message.clone(),
                watch: self.watch.as_ref().map(|watch| watch.get(shown).clone()),
                run: self.run.as_ref().map(view::run),
            });
            // The type has no value that cannot be written as JSON.
            serde_json::to_string(&event).unwrap_or_default()
        })
    }

    fn is_about(&self, watch: &str) -> bool {
        let of_watch = self.watch.as_ref().map(|about| &*about.get(Shown::Outline).name);
        let name = of_watch.or(self.run.as_ref().map(|run| &*run.watch));
        // What is about none is about all.
        name.is_none_or(|name| name == watch)
    }
}

#[derive(Debug)]
struct Ring {
    /// Without gaps: the last has number `newest`.
    entries: VecDeque<Arc<Entry>>,
    newest: u64,
}

/// The events of a daemon.
#[derive(Debug)]
pub struct EventRing {
    ring: Mutex<Ring>,
    /// Number of the newest. Its receivers are the readers.
    newest: watch::Sender<u64>,
}

impl Default for EventRing {
    fn default() -> Self {
        Self {
            ring: Mutex::new(Ring {
                entries: VecDeque::new(),
                newest: 0,
            }),
            newest: watch::Sender::new(0),
        }
    }
}

impl EventRing {
    /// Notes an event, also if nobody follows: somebody may ask later what happened.
    pub fn happened(&self, happening: Occurrence) {
        let watch = happening
            .watch
            .as_ref()
            .map(|watched| Views::new(|shown| shown.summary(watched)));
        let mut ring = self.ring();
        ring.newest += 1;
        if ring.entries.len() == KEPT {
            ring.entries.pop_front();
        }
        let seq = ring.newest;
        ring.entries.push_back(Arc::new(Entry {
            seq,
            at: SystemTime::now(),
            kind: happening.kind,
            message: happening.message,
            watch,
            run: happening.run,
            json: Views::new(|_| OnceLock::new()),
        }));
        drop(ring);
        self.newest.send_replace(seq);
    }

    /// A reader of what happens from now on, or since the event that was the last it had.
    pub fn reader(self: &Arc<Self>, last: Option<u64>, shown: Shown) -> EventReader {
        let newest = self.newest.subscribe();
        let next = last.unwrap_or_else(|| self.ring().newest).saturating_add(1);
        EventReader {
            events: Arc::clone(self),
            newest,
            next,
            shown,
        }
    }

    /// Ends what readers wait for.
    pub fn wake(&self) {
        self.newest.send_modify(|_| {});
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the ring.
#[derive(Debug)]
pub struct EventReader {
    events: Arc<EventRing>,
    newest: watch::Receiver<u64>,
    next: u64,
    shown: Shown,
}

/// What a reader gets next.
enum Next {
    Entry(Arc<Entry>),
    /// Events before this one are lost.
    Lost(u64),
    Nothing,
}

impl EventReader {
    fn look(&mut self) -> Next {
        let ring = self.events.ring();
        let oldest = ring.entries.front().map_or(ring.newest + 1, |entry| entry.seq);
        // A number that there has not been yet is of a former daemon.
        if self.next < oldest || self.next > ring.newest + 1 {
            self.next = oldest;
            return Next::Lost(oldest.saturating_sub(1));
        }
        match ring.entries.get((self.next - oldest) as usize) {
            Some(entry) => {
                self.next += 1;
                Next::Entry(Arc::clone(entry))
            }
            None => Next::Nothing,
        }
    }

    /// The next event about the watch, or any: its number and its JSON.
    async fn next(&mut self, watch: Option<&str>) -> Option<(u64, String)> {
        loop {
            match self.look() {
                Next::Entry(entry) if watch.is_none_or(|watch| entry.is_about(watch)) => {
                    return Some((entry.seq, entry.json(self.shown).to_owned()));
                }
                Next::Entry(_) => {}
                Next::Lost(seq) => {
                    let lost = Occurrence {
                        kind: EventKind::Lost,
                        message: "events were lost; read the state anew".to_owned(),
                        watch: None,
                        run: None,
                    };
                    let (at, json) = (SystemTime::now(), Views::new(|_| OnceLock::new()));
                    let entry = Entry {
                        seq,
                        at,
                        kind: lost.kind,
                        message: lost.message,
                        watch: None,
                        run: None,
                        json,
                    };
                    return Some((seq, entry.json(self.shown).to_owned()));
                }
                Next::Nothing => self.newest.changed().await.ok()?,
            }
        }
    }
}

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    watch: Option<String>,
}

/// `/v1/events`.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    shown: Shown,
    query: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, RequestRefusal> {
    let Which { watch } = parameters(query)?;
    let last = match headers.get("last-event-id") {
        None => None,
        Some(id) => Some(id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            RequestRefusal::new(StatusCode::BAD_REQUEST, "Last-Event-ID is not the number of an event")
        })?),
    };
    let place = app
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| RequestRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many follow the events already"))?;
    let reader = app.events.reader(last, shown);
    let closing = app.closing.subscribe();
    let (sent, stream) = mpsc::channel(1);
    tokio::spawn(pump(reader, watch, closing, sent, place));
    Ok(Sse::new(ReceiverStream::new(stream)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Sends events until the reader goes or the server closes. A reader that is slow to take them waits here, not in memory.
async fn pump(
    mut reader: EventReader,
    watch: Option<String>,
    mut closing: watch::Receiver<bool>,
    sent: mpsc::Sender<Result<Sent, Infallible>>,
    _place: OwnedSemaphorePermit,
) {
    loop {
        let next = tokio::select! {
            biased;
            () = sent.closed() => return,
            next = reader.next(watch.as_deref()) => next,
            () = closed(&mut closing) => return,
        };
        let Some((seq, json)) = next else { return };
        if sent
            .send(Ok(Sent::default().id(seq.to_string()).data(json)))
            .await
            .is_err()
        {
            return;
        }
    }
}
