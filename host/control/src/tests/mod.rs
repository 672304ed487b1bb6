//! The server with a daemon that is played: every route, every limit, and what clients do that they should not.

mod events;
mod limits;
mod outline;
mod routes;
mod states;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use super::api::{
    ConfigStatus, Fleet, FleetHost, FleetMembership, Forgotten, Laggards, Phase, Reloaded, RolloutPart, RolloutStatus,
    Rollouts, SourceStatus, UnknownHost,
};
use super::daemon_requests::{
    self, DaemonRequest, Done, FleetRefused, Order, Refused, RequestQueue, RolloutOrder, Written,
};
use super::facts::{Overview, WatchFacts};
use super::listeners::Listeners;
use super::testing::watched;
use super::{App, EventRing, Server, ServerLimits, Shown};
use twitcher_model::{RunFacts, RunId, Trigger};
use twitcher_observe::metrics::Metrics;
use twitcher_state::History;

/// How long anything may take that should happen at all.
const DEADLINE: Duration = Duration::from_secs(20);
/// A run that goes on, in the played daemon.
const RUNNING: RunId = RunId(5 << 20);

/// A server and what it needs.
struct Stage {
    dir: TempDir,
    http: SocketAddr,
    events: Arc<EventRing>,
    /// What was ordered.
    orders: Arc<Mutex<Vec<(String, Order)>>>,
    /// How often the whole fleet, or all of its rollouts, was read.
    surveys: Arc<AtomicU64>,
    server: Option<Server>,
}

impl Stage {
    fn new() -> Self {
        Self::with(ServerLimits::default())
    }

    fn with(limits: ServerLimits) -> Self {
        Self::of(limits, ["b", "a", "odd/näme"].map(watched).into())
    }

    /// With these watches.
    fn of(limits: ServerLimits, watches: Vec<WatchFacts>) -> Self {
        Self::showing(limits, watches, Shown::Outline)
    }

    /// With a port that shows so much.
    fn showing(limits: ServerLimits, watches: Vec<WatchFacts>, shown: Shown) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (requests, questions) = daemon_requests::channel();
        let events = Arc::new(EventRing::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let history = History::in_dir(&dir.path().join("state"));
        drop(
            twitcher_state::StateStore::open(
                &dir.path().join("state"),
                twitcher_state::HistoryLimits::default(),
                Vec::new(),
            )
            .0,
        );
        let app = App::new(requests, history, Arc::clone(&events), metrics);
        let mut listeners = Listeners::none();
        listeners.add_socket(&dir.path().join("control.sock")).unwrap();
        listeners.add_http("127.0.0.1:0", shown).unwrap();
        let http = listeners.http.as_ref().unwrap().address;
        let orders = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&orders);
        let surveys = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&surveys);
        std::thread::spawn(move || play(questions, &watches, &noted, &counted));
        let server = Server::start(listeners, Arc::new(app), limits).unwrap();
        Self {
            dir,
            http,
            events,
            orders,
            surveys,
            server: Some(server),
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn operator(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    fn browser(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// What the Unix socket answers to a request.
    fn operate(&self, method: &str, path: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: twitcher\r\nconnection: close\r\n\r\n");
        exchange(self.operator(), request.as_bytes())
    }

    /// What the TCP port answers to a request with these headers.
    fn browse(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
        exchange(self.browser(), request.as_bytes())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A problem in words.
    fn problem(&self) -> String {
        let json = self.json();
        json["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no problem: {self:?}"))
            .to_owned()
    }
}

/// Sends bytes and reads until the other end closes.
fn exchange(mut stream: impl std::io::Read + std::io::Write, request: &[u8]) -> Answer {
    // The server may have refused before it has read everything.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// A daemon with these watches; of the usual ones a may not be run.
fn play(
    mut questions: RequestQueue,
    watches: &[WatchFacts],
    orders: &Mutex<Vec<(String, Order)>>,
    surveys: &AtomicU64,
) {
    let find = |name: &str| watches.iter().find(|watched| &*watched.watch.name == name).cloned();
    while let Some(question) = questions.blocking_recv() {
        if let DaemonRequest::Fleet(_) | DaemonRequest::Rollouts(..) = question {
            surveys.fetch_add(1, Ordering::Relaxed);
        }
        match question {
            DaemonRequest::Alive(reply) => drop(reply.send(())),
            DaemonRequest::Overview(reply) | DaemonRequest::Drain(reply) => drop(reply.send(overview())),
            DaemonRequest::Snapshot(reply) => drop(reply.send(watches.to_vec())),
            DaemonRequest::Watch(name, reply) => drop(reply.send(find(&name))),
            DaemonRequest::Running(reply) => drop(reply.send(vec![running()])),
            DaemonRequest::Output(run, reply) => {
                let tail = b"so far <b>\xff".to_vec();
                drop(reply.send((run == RUNNING).then_some(Written {
                    tail,
                    total: 99,
                    log_ended: false,
                })));
            }
            DaemonRequest::Order(name, order, reply) => {
                let answer = match (find(&name).is_some(), &order, &*name) {
                    (false, ..) => Err(Refused::Unknown),
                    (_, Order::Run { .. }, "a") => Err(Refused::Running),
                    (_, Order::Run { .. }, _) => Ok(Some(RUNNING)),
                    _ => Ok(None),
                };
                let answer = answer.map(|run| Done {
                    run,
                    watch: watched(&name),
                });
                orders.lock().unwrap().push((name, order));
                drop(reply.send(answer));
            }
            DaemonRequest::Fleet(reply) => drop(reply.send(Ok(fleet()))),
            DaemonRequest::Forget(host, by, reply) => drop(reply.send(match &*host {
                "web-2" => Ok(Forgotten {
                    host: format!("{host} by {}", by.unwrap_or_default()),
                    znodes: 3,
                }),
                "web-1" => Err(FleetRefused::Live(host)),
                _ => Err(FleetRefused::NoHost(host)),
            })),
            DaemonRequest::Rollouts(None, reply) => drop(reply.send(Ok(rollouts("halted by hunter2")))),
            DaemonRequest::Rollouts(Some(name), reply) => drop(reply.send(match &*name {
                "repo" => Ok(rollouts("halted by hunter2")),
                _ => Err(FleetRefused::NoRollout(name)),
            })),
            DaemonRequest::RolloutOrder(name, order, by, reply) => drop(reply.send(match order {
                RolloutOrder::Promote => Err(FleetRefused::NotNow(name, "it is done".to_owned())),
                order => Ok(rollouts(&format!("{order:?} by {}", by.unwrap_or_default()))),
            })),
            DaemonRequest::Laggards(of, reply) => drop(reply.send(match of {
                Some(unknown) => Err(FleetRefused::Unknown(unknown)),
                None => Ok(laggards()),
            })),
            DaemonRequest::Reload(reply) => drop(reply.send(Reloaded {
                watches: 3,
                added: 1,
                changed: 0,
                removed: 0,
                errors: vec!["a.twc:1:1: no".to_owned()],
            })),
        }
    }
}

fn running() -> RunFacts {
    RunFacts {
        run: RUNNING,
        watch: "a".into(),
        event: Some(Trigger::Data.into()),
        attempt: 2,
        started: SystemTime::UNIX_EPOCH,
        pid: Some(77),
        overdue: None,
        end: None,
    }
}

fn overview() -> Overview {
    Overview {
        started: SystemTime::UNIX_EPOCH,
        phase: Phase::Ready,
        drain: None,
        source: SourceStatus {
            kind: "tree".to_owned(),
            target: "/t".to_owned(),
            connected: true,
            since: None,
            problem: None,
        },
        armed: false,
        config: ConfigStatus {
            paths: Vec::new(),
            loaded: Some(jiff::Timestamp::UNIX_EPOCH),
            errors: vec!["a.twc:1:1: no mysql -phunter2".to_owned()],
            notes: Vec::new(),
        },
        state_problem: None,
        running: 1,
        waiting: 0,
        max_running: 9,
        warm: super::api::WarmStatus::default(),
        unreadable: 0,
        fleet: Some(FleetMembership {
            root: "/twitcher".to_owned(),
            host: "web-1".to_owned(),
            since: None,
            problem: Some("znode /twitcher: unknown variant `hunter2`".to_owned()),
            unpublished: 2,
            lag: 7.5,
            rollouts: vec![RolloutPart {
                name: "repo".to_owned(),
                problem: Some("znode /twitcher/rollouts/repo: unknown variant `hunter2`".to_owned()),
                figures: None,
            }],
        }),
    }
}

/// A fleet with a host whose znodes make no sense.
fn fleet() -> Fleet {
    Fleet {
        root: "/twitcher".to_owned(),
        host: "web-1".to_owned(),
        problem: None,
        at: jiff::Timestamp::UNIX_EPOCH,
        hosts: vec![FleetHost {
            name: "web-2".to_owned(),
            id: None,
            live: None,
            labels: BTreeMap::new(),
            version: String::new(),
            problem: Some("its record: unknown variant `hunter2`".to_owned()),
            lagging: 0,
            watches: Vec::new(),
        }],
    }
}

/// A rollout of which its steward says so.
fn rollouts(why: &str) -> Rollouts {
    Rollouts {
        at: jiff::Timestamp::UNIX_EPOCH,
        broken: Vec::new(),
        rollouts: vec![RolloutStatus {
            name: "repo".to_owned(),
            znode: Some("/git/head".to_owned()),
            watch_type: None,
            serial: 41,
            goal: Some("0x7".to_owned()),
            newest: Some("0x7".to_owned()),
            state: "halted".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            why: Some(why.to_owned()),
            by: "hunter2".to_owned(),
            wave: 1,
            waves: 1,
            plan: Vec::new(),
            at_once: 1,
            slots: 0,
            max_failures: 0,
            steward: None,
            hosts: Vec::new(),
        }],
    }
}

fn laggards() -> Laggards {
    let unknown = fleet().hosts.into_iter().map(|host| UnknownHost {
        host: host.name,
        problem: host.problem.unwrap_or_default(),
    });
    Laggards {
        at: jiff::Timestamp::UNIX_EPOCH,
        hosts: 1,
        laggards: Vec::new(),
        unknown: unknown.collect(),
    }
}
