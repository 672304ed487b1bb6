//! The whole fleet at a glance: every host with what it has published, and what state the znodes are in that they watch.
//!
//! It is read when somebody asks, for all who ask at the same time, and the longer that takes the less often: viewers are no herd. What is
//! told is never older than the question: who has just made a change is not told that all have handled it because they had handled the
//! one before. Whatever is found is told as it is; that one host's znodes make no sense hides no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use zookeeper_client::Client;

use super::identity::Labels;
use super::layout::{FleetRoot, HostName, LIVE, is_rollout_znode, is_watch_znode, rollout_znode, watch_znode};
use super::record::{self, HostRecord, LiveRecord, StateId, WatchResult};
use super::requests::{self, Reply, RequestError, Znode};
use twitcher_model::{WatchType, ZnodePath};
use twitcher_source::zookeeper::KeptSession;

/// So much longer than a survey takes there is none after it, up to a bound.
const REST: u32 = 5;
const LONGEST_REST: Duration = Duration::from_secs(2);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most results that are read, of all hosts together.
const RESULTS_MAX: usize = 500_000;
/// Hosts whose children are asked for at once.
const AT_ONCE: usize = 200;

/// A fleet, as it was at about the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Its hosts, by name.
    pub hosts: Vec<FleetHost>,
    /// What state each watched znode is in; none where it cannot be told from outside, as of a subtree or of what may not be read.
    pub states: BTreeMap<(String, WatchType), Option<StateId>>,
    /// When it was read.
    pub at: Timestamp,
}

/// A host of a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetHost {
    /// Its name.
    pub name: String,
    /// What tells it from another one of its name.
    pub id: Option<String>,
    /// What else it is called.
    pub labels: Labels,
    /// The version of its program.
    pub version: String,
    /// Since when it is there; none if it is not.
    pub live: Option<Timestamp>,
    /// Where it stands with its watches, by their names.
    pub results: Vec<WatchResult>,
    /// What is wrong with its znodes, if something is.
    pub problem: Option<String>,
}

/// Why there is no survey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// ZooKeeper does not answer, or says no.
    #[error("the fleet cannot be read: {0}")]
    Unreadable(String),
    /// It takes too long.
    #[error("the fleet could not be read within {} s", PATIENCE.as_secs())]
    Late,
    /// Somebody else has written, or deleted, what belongs to a rollout; its gate.
    #[error("the rollout cannot be read: {why}")]
    Spoilt {
        /// What there is.
        why: String,
        /// The znode of the rollout.
        gate: String,
    },
    /// There is too much of it.
    #[error("the fleet has more than {RESULTS_MAX} results")]
    TooMuch,
}

impl From<RequestError> for SurveyError {
    fn from(error: RequestError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Makes surveys.
#[derive(Debug)]
pub(crate) struct Surveyor {
    root: FleetRoot,
    session: KeptSession,
    /// Locked while one is made, so that all who ask meanwhile get the same.
    last: Mutex<Option<Made>>,
}

/// The last survey.
#[derive(Debug)]
struct Made {
    begun: Instant,
    /// When the next may begin.
    next: Instant,
    survey: Arc<Survey>,
}

impl Surveyor {
    pub fn new(root: FleetRoot, session: KeptSession) -> Self {
        Self {
            root,
            session,
            last: Mutex::default(),
        }
    }

    /// A survey that was begun after it was asked for. Whoever has to wait for another to be made waits no longer for both.
    pub async fn newest(&self) -> Result<Arc<Survey>, SurveyError> {
        timeout(PATIENCE, self.begun_since(Instant::now()))
            .await
            .unwrap_or(Err(SurveyError::Late))
    }

    async fn begun_since(&self, asked: Instant) -> Result<Arc<Survey>, SurveyError> {
        let mut last = self.last.lock().await;
        if let Some(made) = &*last {
            if made.begun >= asked {
                return Ok(Arc::clone(&made.survey));
            }
            sleep_until(made.next).await;
        }
        let begun = Instant::now();
        let made = async {
            let session = self.session.connected().await;
            self.make(&session.client).await
        };
        let survey = Arc::new(made.await?);
        *last = Some(Made {
            begun,
            next: Instant::now() + (begun.elapsed() * REST).min(LONGEST_REST),
            survey: Arc::clone(&survey),
        });
        Ok(survey)
    }

    async fn make(&self, client: &Client) -> Result<Survey, SurveyError> {
        requests::catch_up(client).await?;
        let names = match requests::children(client, &self.root.hosts()).await {
            Err(RequestError::NoNode(_)) => Vec::new(),
            names => names?,
        };
        let mut hosts = Vec::with_capacity(names.len());
        let mut results = 0;
        for names in names.chunks(AT_ONCE) {
            for host in self.some(client, names).await? {
                results += host.results.len();
                hosts.push(host);
            }
            if results > RESULTS_MAX {
                return Err(SurveyError::TooMuch);
            }
        }
        let states = states(client, &hosts).await?;
        let at = Timestamp::now();
        Ok(Survey { hosts, states, at })
    }

    /// Some hosts, whatever is wrong with single ones; an error only if there is no connection.
    async fn some(&self, client: &Client, names: &[String]) -> Result<Vec<FleetHost>, SurveyError> {
        let of_hosts: Vec<String> = names.iter().map(|name| self.root.host(name)).collect();
        let of_lives: Vec<String> = of_hosts.iter().map(|path| format!("{path}/{LIVE}")).collect();
        let read = requests::read_all(client, &of_hosts).await;
        let lives = requests::read_all(client, &of_lives).await;
        let mut hosts = Vec::with_capacity(names.len());
        for (((name, path), read), live) in names.iter().zip(of_hosts).zip(read).zip(lives) {
            let mut host = FleetHost::of(name, connected(read)?, connected(live)?);
            if let Some(children) = host.note(connected(requests::children(client, &path).await)?) {
                let watches: Vec<String> = children
                    .into_iter()
                    .filter(|child| is_watch_znode(child) || is_rollout_znode(child))
                    .collect();
                let paths: Vec<String> = watches.iter().map(|watch| format!("{path}/{watch}")).collect();
                for (watch, read) in watches.iter().zip(requests::read_all(client, &paths).await) {
                    host.add(watch, connected(read)?);
                }
            }
            hosts.push(host);
        }
        Ok(hosts)
    }
}

/// What only one znode has to do with is told with it.
fn connected<T>(reply: Reply<T>) -> Result<Reply<T>, SurveyError> {
    match reply {
        Err(RequestError::Disconnected) => Err(RequestError::Disconnected.into()),
        reply => Ok(reply),
    }
}

impl FleetHost {
    fn of(name: &str, read: Reply<Option<Znode>>, live: Reply<Option<Znode>>) -> Self {
        let mut host = Self {
            name: name.to_owned(),
            id: None,
            labels: Labels::new(),
            version: String::new(),
            live: None,
            results: Vec::new(),
            problem: None,
        };
        if let Err(error) = name.parse::<HostName>() {
            host.problem = Some(error.to_string());
        }
        if let Some(Some(znode)) = host.note(read)
            && let Some(record) = host.parse::<HostRecord>("its record", znode)
        {
            // Who was enrolled and has never joined has none.
            let id = Some(record.id).filter(|id| !id.is_empty());
            (host.id, host.labels, host.version) = (id, record.labels, record.twitcher);
        }
        if let Some(Some(znode)) = host.note(live) {
            // What does not go away with a session says nothing about whether the host is there.
            if znode.stat.ephemeral_owner == 0 {
                host.trouble("its presence is not ephemeral: somebody else has made it".to_owned());
            } else if let Some(record) = host.parse::<LiveRecord>("its presence", znode) {
                host.live = Some(record.since);
            }
        }
        host
    }

    /// Adds a result.
    fn add(&mut self, znode: &str, read: Reply<Option<Znode>>) {
        if let Some(Some(read)) = self.note(read)
            && let Some(result) = self.parse::<WatchResult>(znode, read)
        {
            let of = match &result.part {
                Some(part) => rollout_znode(&part.rollout),
                None => watch_znode(&result.watch),
            };
            match of == znode {
                true => self.results.push(result),
                false => self.trouble(format!("{znode}: it is about another watch")),
            }
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&mut self, what: &str, znode: Znode) -> Option<T> {
        let size = znode.stat.data_length as usize;
        let data = znode.data.ok_or(record::RecordError::TooLarge(size));
        match data.and_then(|data| record::read(&data)) {
            Ok(record) => Some(record),
            Err(error) => {
                self.trouble(format!("{what}: {error}"));
                None
            }
        }
    }

    fn note<T>(&mut self, reply: Reply<T>) -> Option<T> {
        reply.map_err(|error| self.trouble(error.to_string())).ok()
    }

    /// The first one is told.
    fn trouble(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}

/// The states that the watched znodes are in.
async fn states(
    client: &Client,
    hosts: &[FleetHost],
) -> Result<BTreeMap<(String, WatchType), Option<StateId>>, SurveyError> {
    let results = hosts.iter().flat_map(|host| &host.results);
    let wanted: BTreeSet<(&str, WatchType)> = results.map(|result| (result.znode.as_str(), result.kind)).collect();
    let wanted: Vec<_> = wanted.into_iter().collect();
    let mut states = BTreeMap::new();
    for some in wanted.chunks(requests::PIPELINE) {
        let asked = some.iter().map(|(znode, kind)| {
            let is_known = *kind != WatchType::Tree && ZnodePath::new(*znode).is_ok();
            is_known.then(|| client.check_stat(znode))
        });
        let asked: Vec<_> = asked.collect();
        for ((znode, kind), asked) in some.iter().zip(asked) {
            let stat = match asked {
                Some(asked) => connected(requests::answered(znode, asked).await)?.ok(),
                None => None,
            };
            let state = stat.map(|stat| match (stat, kind) {
                (None, _) => StateId::Absent,
                (Some(stat), WatchType::Children) => StateId::Zxid(stat.pzxid),
                (Some(stat), _) => StateId::Zxid(stat.mzxid),
            });
            states.insert(((*znode).to_owned(), *kind), state);
        }
    }
    Ok(states)
}
