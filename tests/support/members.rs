//! Hosts of a fleet in this process: each is a member as a daemon has it, with a session of its own, and has a watch with a rollout, whose
//! action is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use twitcher_fleet::rollout::{Doing, LocalRollout, Wanted};
use twitcher_fleet::{Fleet, FleetOptions, FormatVersion, ResultState, StateId, WatchResult, identity::HostId};
use twitcher_model::{AtOnce, Lost, OnNewer, Rollout, WatchType, Wave};
use twitcher_source::Requests;
use twitcher_source::zookeeper::{self, ZooKeeperOptions};
use zookeeper_client::{Acls, Client, CreateMode, Error, OneshotWatcher, Stat};

/// The znode whose changes go out.
pub const ZNODE: &str = "/head";
pub const ROOT: &str = "/twitcher";
pub const ROLLOUT: &str = "repo";
const HOSTS: &str = "/twitcher/hosts";
pub const GATE: &str = "/twitcher/rollouts/repo";
const GRANTS: &str = "/twitcher/rollouts/repo/grants";

/// How the members are.
#[derive(Debug, Clone)]
pub struct Setting {
    pub hosts: usize,
    pub at_once: usize,
    pub max_failures: u32,
    /// How long an action takes.
    pub takes: Duration,
    pub session_timeout: Duration,
    /// Where they find the servers, each at one of these.
    pub servers: Vec<String>,
}

/// What the hosts have seen, and what comes of it.
#[derive(Debug, Clone, Default)]
struct Seen {
    state: Option<i64>,
    /// States that actions fail for.
    bad: BTreeSet<i64>,
    /// The host whose action never ends for this state.
    hangs: Option<(usize, i64)>,
}

/// Hosts that take part in a rollout. They are gone when this is dropped.
#[derive(Debug)]
pub struct Members {
    setting: Setting,
    pub client: Client,
    seen: watch::Sender<Seen>,
    tasks: JoinSet<()>,
    handles: Vec<AbortHandle>,
    _states: TempDir,
}

/// A session for who looks on, which outlasts that a busy process has thousands of them to open.
pub async fn connect(servers: &str) -> Client {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(60));
    connector.connect(servers).await.unwrap()
}

/// What a host is called.
pub fn name(number: usize) -> String {
    format!("host-{number:05}")
}

impl Members {
    /// Has them join. The client goes straight to the servers.
    pub async fn start(setting: Setting, client: Client) -> Self {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        client.create(ZNODE, b"", &options).await.unwrap();
        let states = TempDir::new().unwrap();
        let (seen, _) = watch::channel(Seen::default());
        let mut tasks = JoinSet::new();
        let mut handles = Vec::new();
        for number in 0..setting.hosts {
            let state = states.path().join(number.to_string());
            fs::create_dir(&state).unwrap();
            // What a member would write itself, but one sync of the disk for each of thousands takes its time.
            fs::copy("/proc/sys/kernel/random/uuid", state.join("fleet-id")).unwrap();
            handles.push(tasks.spawn(member(setting.clone(), number, state, seen.subscribe())));
        }
        Self {
            setting,
            client,
            seen,
            tasks,
            handles,
            _states: states,
        }
    }

    /// Sets the znode, and has all hosts see it.
    pub async fn change(&self) -> i64 {
        self.change_to(|_, _| ()).await
    }

    /// The same with something that actions fail for.
    pub async fn change_badly(&self) -> i64 {
        self.change_to(|seen, state| seen.bad.extend([state])).await
    }

    /// The same, and the action of one host does not end.
    pub async fn change_and_hang(&self, host: usize) -> i64 {
        self.change_to(|seen, state| seen.hangs = Some((host, state))).await
    }

    async fn change_to(&self, what: impl FnOnce(&mut Seen, i64)) -> i64 {
        let stat = self.client.set_data(ZNODE, b"x", None).await.unwrap();
        self.seen.send_modify(|seen| {
            what(seen, stat.mzxid);
            seen.state = Some(stat.mzxid);
        });
        stat.mzxid
    }

    /// The end of a host, at once.
    pub fn kill(&self, host: usize) {
        self.handles[host].abort();
    }

    /// Waits until a state has gone out to all that are there.
    pub async fn until_done(&self, state: i64) {
        let hosts = self.setting.hosts;
        self.until("done", state, |gate, there, grants| {
            assert_ne!(gate["state"], "halted", "{gate}");
            gate["state"] == "done" && there >= hosts && grants >= hosts
        })
        .await;
    }

    /// Waits until the rollout of a state is as it is to be. Also told are how many hosts are known, and how many have had a slot.
    pub async fn until(&self, what: &str, state: i64, is_so: impl Fn(&Value, usize, usize) -> bool) {
        let goal = format!("{state:#x}");
        let (begun, patience) = (Instant::now(), Duration::from_secs(600));
        loop {
            assert!(begun.elapsed() < patience, "not within {patience:?}: {what}");
            let Ok((gate, there, grants, watcher)) = self.look().await else {
                // The server that was asked is gone.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if gate["goal"]["state"] == goal.as_str() && is_so(&gate, there, grants) {
                return;
            }
            // Hosts that join tell nobody who watches the gate.
            let _ = timeout(Duration::from_millis(200), watcher.changed()).await;
        }
    }

    /// The gate, how many hosts are known, how many have had a slot; and what tells of the next change of the gate.
    async fn look(&self) -> Result<(Value, usize, usize, OneshotWatcher), Error> {
        let watcher = self.client.check_and_watch_stat(GATE).await?.1;
        let gate = match self.client.get_data(GATE).await {
            Ok((data, _)) => serde_json::from_slice(&data).unwrap_or_default(),
            Err(Error::NoNode) => Value::Null,
            Err(error) => return Err(error),
        };
        let [there, grants] = [HOSTS, GRANTS].map(|path| self.client.check_stat(path));
        let count = |stat: Option<Stat>| stat.map_or(0, |stat| stat.num_children as usize);
        Ok((gate, count(there.await?), count(grants.await?), watcher))
    }

    /// A host that has no watch, with which somebody operates.
    pub fn operator(&self) -> Operator {
        let state = TempDir::new().unwrap();
        let (fleet, requests) = join(&self.setting, "operator", 0, state.path());
        Operator {
            fleet,
            _requests: requests,
            _state: state,
        }
    }

    /// The end of all, by which their sessions end as well.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// See [`Members::operator`].
#[derive(Debug)]
pub struct Operator {
    pub fleet: Fleet,
    _requests: Requests,
    _state: TempDir,
}

fn join(setting: &Setting, name: &str, number: usize, state: &Path) -> (Fleet, Requests) {
    let servers = &setting.servers[number % setting.servers.len()];
    let requests = zookeeper::requests(ZooKeeperOptions {
        session_timeout: setting.session_timeout,
        ..ZooKeeperOptions::new(servers.parse().unwrap())
    });
    let options = FleetOptions {
        root: ROOT.parse().unwrap(),
        name: name.parse().unwrap(),
        labels: BTreeMap::new(),
        id: HostId::of(state).map_err(Arc::new),
        boot: String::new(),
        version: "",
    };
    let fleet = Fleet::join(options, requests.znodes.keep_session().unwrap());
    (fleet, requests)
}

/// A watch whose action is made up.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<StateId>,
    /// What the last run was for.
    at: Option<StateId>,
    good: Option<StateId>,
    /// What the action runs for, and until when.
    acting: Option<(StateId, Option<Instant>)>,
    /// It has failed for this, and does not try again.
    failed: Option<StateId>,
}

impl Watch {
    fn doing(&self) -> Doing {
        match self.seen {
            None => Doing::Unsure,
            Some(state) if self.acting.is_none() && self.good != self.seen && self.failed != self.seen => {
                Doing::Wants(state)
            }
            Some(_) => Doing::Nothing,
        }
    }

    fn state(&self) -> ResultState {
        match self.acting {
            None if self.good == self.seen => ResultState::Current,
            None if self.failed == self.seen => ResultState::Failed,
            _ => ResultState::Behind,
        }
    }

    /// When the action ends.
    fn ends(&self) -> Option<Instant> {
        self.acting.and_then(|(_, until)| until)
    }
}

/// A daemon, as the fleet sees it.
async fn member(setting: Setting, number: usize, state: PathBuf, mut told: watch::Receiver<Seen>) {
    let (mut fleet, _requests) = join(&setting, &name(number), number, &state);
    let policy = Arc::new(Rollout {
        name: ROLLOUT.parse().unwrap(),
        at_once: AtOnce::Hosts(setting.at_once as u32),
        max_failures: setting.max_failures,
        waves: vec![Wave::default()],
        lost_after: Duration::from_secs(600),
        lost: Lost::Hold,
        on_newer: OnNewer::Restart,
        verify: None,
        unavailable: None,
    });
    let (mut watch, mut answered) = (Watch::default(), 0);
    loop {
        fleet.roll_out(vec![LocalRollout {
            policy: Arc::clone(&policy),
            result: WatchResult {
                v: FormatVersion,
                watch: ROLLOUT.to_owned(),
                znode: ZNODE.to_owned(),
                kind: WatchType::Data,
                state: watch.state(),
                at: watch.at,
                good: watch.good,
                last: None,
                part: None,
            },
            seen: watch.seen,
            doing: watch.doing(),
            acting: watch.acting.is_some(),
            answered,
            verification: None,
            unverified: false,
            check: None,
        }]);
        fleet.keep(std::iter::empty());
        let ends = watch.ends();
        tokio::select! {
            Ok(()) = told.changed() => watch.seen = told.borrow_and_update().state.map(StateId::Zxid),
            event = fleet.next_event() => {
                answered = event.number;
                match event.wanted {
                    Wanted::Start(state) if watch.doing() == Doing::Wants(state) => {
                        let hangs = told.borrow().hangs.is_some_and(|(host, of)| host == number && StateId::Zxid(of) == state);
                        let until = (!hangs).then(|| Instant::now() + setting.takes);
                        watch.acting = Some((state, until));
                        if setting.takes.is_zero() && !hangs {
                            end(&mut watch, &told.borrow());
                        }
                    }
                    Wanted::Again => watch.failed = None,
                    _ => {}
                }
            }
            () = sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => end(&mut watch, &told.borrow()),
        }
    }
}

/// The action ends.
fn end(watch: &mut Watch, seen: &Seen) {
    let Some((state, _)) = watch.acting.take() else { return };
    watch.at = Some(state);
    if seen.bad.iter().any(|bad| StateId::Zxid(*bad) == state) {
        watch.failed = Some(state);
    } else {
        watch.good = Some(state);
    }
}
