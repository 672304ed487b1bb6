//! A host's part in a rollout: it waits for its turn, writes down that it starts, and gives its slot back.
//!
//! It watches its own grant and nothing else; the gate only while it has a slot that it cannot use yet. The daemon runs what is to be run.
//! All that was read is forgotten when the connection is lost, and read again.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};
use zookeeper_client::{Client, EventType, OneshotWatcher, WatchedEvent};

use super::decide::HostState;
use super::holder::{Act, Refusal, may_start, next};
use super::records::{Gate, GateState, Grant, Part, PartState, SlotId};
use crate::Shared;
use crate::layout::{LIVE, rollout_znode};
use crate::record::{self, FormatVersion, RecordError, ResultState, StateId, WatchResult};
use crate::requests::{self, ANY, Owner, Reply, RequestError, Step, Znode};
use twitcher_model::{Rollout, RolloutName};

/// First and longest pause after something has gone wrong.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// How often a slot that cannot be used is thought about again.
const THINK: Duration = Duration::from_secs(5);

/// What a watch with a rollout would do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Its znode is being read.
    Unsure,
    /// Something is to be run for, but not yet, for reasons of this host's own.
    Waiting,
    /// Nothing.
    Nothing,
    /// It would start for this state, if it might.
    Wants(StateId),
}

/// How a watch with a rollout stands on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What it would do.
    pub doing: Doing,
    /// Whether its action runs, or is to be tried again.
    pub acting: bool,
    /// In a word.
    pub state: ResultState,
    /// What it has seen last.
    pub seen: Option<StateId>,
    /// What the last run was for.
    pub at: Option<StateId>,
    /// What nothing is left to be done for.
    pub good: Option<StateId>,
    /// The digest of its policy.
    pub policy: String,
}

/// A watch with a rollout, on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalRollout {
    /// How it goes out.
    pub policy: Arc<Rollout>,
    /// Where the watch stands.
    pub result: WatchResult,
    /// What it has seen last.
    pub seen: Option<StateId>,
    /// What it would do.
    pub doing: Doing,
    /// Whether its action runs, or is to be tried again.
    pub acting: bool,
    /// The last [`RolloutEvent`] that was dealt with.
    pub answered: u64,
}

impl LocalRollout {
    pub(crate) fn local(&self) -> Local {
        Local {
            doing: self.doing,
            acting: self.acting,
            state: self.result.state,
            seen: self.seen,
            at: self.result.at,
            good: self.result.good,
            policy: super::records::policy_digest(&self.policy),
        }
    }
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutEvent {
    /// Counts them.
    pub number: u64,
    /// The watch.
    pub watch: String,
    /// What of it.
    pub wanted: Wanted,
}

/// What a rollout wants of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is to start for this state at once, or not at all.
    Start(StateId),
    /// It has failed for what it has seen last, and is to want to start once more.
    Again,
}

/// What is to be known of a rollout on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Why it does not go on, if something is wrong.
    pub problem: Option<String>,
    /// Whether this host is its steward.
    pub is_steward: bool,
    /// Whether this host has a slot.
    pub has_slot: bool,
    /// What its steward knows of it; none on other hosts.
    pub figures: Option<Figures>,
}

/// How a rollout stands, in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How far it is.
    pub state: GateState,
    /// How many hosts stand so.
    pub hosts: BTreeMap<HostState, usize>,
    /// How many slots are held.
    pub slots: usize,
    /// How many there are.
    pub at_once: u32,
    /// When this was last otherwise.
    pub since: Instant,
}

/// The rollouts of a host.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub all: BTreeMap<RolloutName, RolloutPart>,
    /// Numbers what the daemon is told.
    pub events: u64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct RolloutPart {
    pub local: watch::Sender<LocalRollout>,
    pub said: Said,
}

/// What the tasks of a rollout work with, as long as a session is connected.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub shared: Arc<Shared>,
    pub client: Client,
    pub rollout: RolloutName,
    /// The version of the host's znode.
    pub version: i32,
    /// In which all hosts together may write once each.
    pub turn: Duration,
    /// Whose the host's znodes are.
    pub own: Owner,
    pub events: mpsc::UnboundedSender<RolloutEvent>,
}

/// Why a rollout does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("znode {0}: {1}")]
    Record(String, RecordError),
    /// The rollout is not this host's any more.
    #[error("the watch is gone")]
    Over,
}

impl Trouble {
    /// Whether others were faster, or the connection is gone: not worth a word.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Over
                | Self::Request(RequestError::Disconnected | RequestError::BadVersion(_) | RequestError::NodeExists(_))
        )
    }
}

impl Desk {
    pub fn host(&self) -> &str {
        self.shared.options.name.as_str()
    }

    pub fn gate_path(&self) -> String {
        self.shared.options.root.gate(&self.rollout)
    }

    pub fn grants_path(&self) -> String {
        self.shared.options.root.grants(&self.rollout)
    }

    pub fn grant_path(&self, host: &str) -> String {
        self.shared.options.root.grant(&self.rollout, host)
    }

    /// Reads the gate, with its version; none if there is none.
    pub async fn gate(&self) -> Result<Option<(Gate, i32)>, Trouble> {
        let path = self.gate_path();
        let znode = requests::read(&self.client, &path).await?;
        znode.map(|znode| parse(&path, znode)).transpose()
    }

    /// Does it again and again, until the session is over.
    pub async fn keep<F: Future<Output = Result<std::convert::Infallible, Trouble>>>(
        &self,
        what: &'static str,
        again: impl Fn() -> F,
    ) {
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            let Err(trouble) = again().await;
            if trouble == Trouble::Over || self.client.state().is_terminated() {
                return;
            }
            self.say(Some(&trouble), what);
            if begun.elapsed() > PAUSE.1 {
                pause = PAUSE.0;
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Notes what the trouble is, or that there is none, and says so if it is news.
    pub fn say(&self, trouble: Option<&Trouble>, what: &'static str) {
        let problem = trouble
            .filter(|trouble| !trouble.is_passing())
            .map(|trouble| format!("{what}: {trouble}"));
        let mut state = self.shared.state();
        let Some(part) = state.parts.all.get_mut(&self.rollout) else {
            return;
        };
        let is_ours = part.said.problem.as_ref().is_none_or(|said| said.starts_with(what));
        if part.said.problem == problem || !is_ours || (problem.is_none() && trouble.is_some()) {
            return;
        }
        part.said.problem.clone_from(&problem);
        drop(state);
        let rollout = &self.rollout;
        match problem {
            None => info!(%rollout, "the rollout goes on"),
            Some(problem) => warn!(%rollout, "{problem}; trying again"),
        }
    }

    /// Notes whether the host has a slot, for who waits to leave.
    fn note_slot(&self, has_slot: bool) {
        let mut state = self.shared.state();
        if let Some(part) = state.parts.all.get_mut(&self.rollout)
            && std::mem::replace(&mut part.said.has_slot, has_slot) != has_slot
            && state.leaving
        {
            self.shared.news.notify_one();
        }
    }

    /// Notes how the rollout stands, as its steward sees it.
    pub fn note_figures(&self, mut figures: Figures) {
        let mut state = self.shared.state();
        let Some(part) = state.parts.all.get_mut(&self.rollout) else {
            return;
        };
        if let Some(before) = &part.said.figures {
            let now = std::mem::replace(&mut figures.since, before.since);
            if figures != *before {
                figures.since = now;
            }
        }
        part.said.figures = Some(figures);
    }

    fn number(&self) -> u64 {
        let mut state = self.shared.state();
        state.parts.events += 1;
        state.parts.events
    }
}

/// A record of a znode, with its version.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(path: &str, znode: Znode) -> Result<(T, i32), Trouble> {
    let too_large = RecordError::TooLarge(znode.stat.data_length as usize);
    let read = znode.data.ok_or(too_large).and_then(|data| record::read(&data));
    let read = read.map_err(|error| Trouble::Record(path.to_owned(), error))?;
    Ok((read, znode.stat.version))
}

/// Keeps the host in a rollout.
pub(crate) async fn run(desk: Desk, local: watch::Receiver<LocalRollout>) {
    desk.keep("its slot in the rollout", || Holder::new(&desk, local.clone()).serve())
        .await;
}

struct Holder<'a> {
    desk: &'a Desk,
    local: watch::Receiver<LocalRollout>,
    gate: Option<Gate>,
    grant: Option<(Grant, i32)>,
    /// Since when it is known.
    granted: Instant,
    /// What the fleet knows of this host.
    part: Option<WatchResult>,
    again: Option<SlotId>,
    /// What the daemon has not dealt with yet.
    asked: u64,
}

/// A change of a znode, when there is one.
type Told = Pin<Box<dyn Future<Output = WatchedEvent> + Send>>;

/// What a holder waits for.
enum Pause {
    /// Something of this host's.
    Local,
    /// Or the gate.
    Gate,
    /// Nothing.
    None,
}

impl<'a> Holder<'a> {
    fn new(desk: &'a Desk, local: watch::Receiver<LocalRollout>) -> Self {
        Self {
            desk,
            local,
            gate: None,
            grant: None,
            granted: Instant::now(),
            part: None,
            again: None,
            asked: 0,
        }
    }

    async fn serve(mut self) -> Result<std::convert::Infallible, Trouble> {
        let client = &self.desk.client;
        requests::catch_up(client).await?;
        let path = self.result_path();
        self.part = match requests::read(client, &path).await? {
            Some(znode) => match parse::<WatchResult>(&path, znode) {
                Ok((result, _)) => Some(result),
                // Somebody else has made it: what this host says is written over it.
                Err(_) => {
                    requests::delete(client, &path).await?;
                    None
                }
            },
            None => None,
        };
        let mut grant = self.read_grant().await?;
        loop {
            self.desk.say(None, "its slot in the rollout");
            let pause = self.act().await?;
            let gate = match pause {
                Pause::None => continue,
                Pause::Local => None,
                Pause::Gate => {
                    let (_, watcher) = requests::stat_and_watch(client, &self.desk.gate_path()).await?;
                    let before = self.gate.clone();
                    self.gate = self.desk.gate().await?.map(|(gate, _)| gate);
                    if self.gate != before {
                        continue;
                    }
                    Some(watcher)
                }
            };
            let think = Instant::now() + THINK;
            let waits = gate.is_some();
            tokio::select! {
                event = &mut grant => {
                    if event.event_type == EventType::Session {
                        return Err(RequestError::Disconnected.into());
                    }
                    grant = self.read_grant().await?;
                }
                _ = changed(gate), if waits => {}
                changed = self.local.changed() => changed.map_err(|_| Trouble::Over)?,
                () = sleep_until(think), if waits => {}
            }
        }
    }

    fn result_path(&self) -> String {
        let host = self.desk.shared.options.root.host(self.desk.host());
        format!("{host}/{}", rollout_znode(&self.desk.rollout))
    }

    /// Reads the grant, and has its next change told.
    async fn read_grant(&mut self) -> Result<Told, Trouble> {
        let path = self.desk.grant_path(self.desk.host());
        let (_, watcher) = requests::stat_and_watch(&self.desk.client, &path).await?;
        let read = requests::read(&self.desk.client, &path).await?;
        let grant = read.map(|znode| parse::<Grant>(&path, znode)).transpose()?;
        let slot = |grant: &Option<(Grant, i32)>| grant.as_ref().map(|(grant, _)| grant.slot);
        if slot(&grant) != slot(&self.grant) {
            self.granted = Instant::now();
            // What goes out is another change.
            self.gate = None;
        }
        self.grant = grant;
        Ok(Box::pin(watcher.changed()))
    }

    /// Does what is next.
    async fn act(&mut self) -> Result<Pause, Trouble> {
        let here = self.local.borrow_and_update().clone();
        if here.answered < self.asked {
            return Ok(Pause::Local);
        }
        let local = here.local();
        let part = self
            .part
            .as_ref()
            .and_then(|result| Some((result.part.as_ref()?, result.state, result.good)));
        let grant = self.grant.as_ref().map(|(grant, _)| grant);
        let act = next(
            self.gate.as_ref(),
            grant,
            part,
            &local,
            self.granted.elapsed(),
            self.again,
        );
        self.desk.note_slot(
            matches!(act, Act::Start(_) | Act::Again(_) | Act::GiveBack(..) | Act::LookAgain) || local.acting,
        );
        match act {
            Act::Wait => Ok(Pause::Local),
            Act::LookAgain => Ok(Pause::Gate),
            Act::Start(slot) => self.start(slot, &here).await,
            Act::Again(slot) => {
                self.again = Some(slot);
                self.ask(&here, Wanted::Again);
                Ok(Pause::Local)
            }
            Act::GiveBack(slot, how) => {
                let serial = self.grant.as_ref().map_or(0, |(grant, _)| grant.serial);
                let part = Part {
                    rollout: self.desk.rollout.clone(),
                    serial,
                    slot: Some(slot),
                    state: how,
                    policy: local.policy,
                };
                self.write(
                    WatchResult {
                        part: Some(part),
                        ..here.result
                    },
                    Vec::new(),
                )
                .await?;
                Ok(Pause::None)
            }
            Act::Tell => {
                // Where there is no hurry all hosts together write no faster than they do otherwise.
                sleep(self.desk.turn.mul_f64(fastrand::f64())).await;
                let here = self.local.borrow().clone();
                let before = self.part.as_ref().and_then(|result| result.part.clone());
                let mut part = before.unwrap_or_else(|| Part {
                    rollout: self.desk.rollout.clone(),
                    serial: 0,
                    slot: None,
                    state: PartState::None,
                    policy: String::new(),
                });
                part.policy = here.local().policy;
                self.write(
                    WatchResult {
                        part: Some(part),
                        ..here.result
                    },
                    Vec::new(),
                )
                .await?;
                Ok(Pause::None)
            }
        }
    }

    /// Writes down that it starts, unless the gate or the grant is not what it has just read; and has it start.
    async fn start(&mut self, slot: SlotId, here: &LocalRollout) -> Result<Pause, Trouble> {
        let Doing::Wants(state) = here.doing else {
            return Ok(Pause::Local);
        };
        let client = &self.desk.client;
        let (gate, grant) = (self.desk.gate_path(), self.desk.grant_path(self.desk.host()));
        requests::catch_up(client).await?;
        let mut read = requests::read_all(client, &[gate.clone(), grant.clone()])
            .await
            .into_iter();
        let mut take = |path: &str| {
            read.next()
                .unwrap_or_else(|| Err(RequestError::NoNode(path.to_owned())))
        };
        let now = take(&gate)?.map(|znode| parse::<Gate>(&gate, znode)).transpose()?;
        let granted = take(&grant)?.map(|znode| parse::<Grant>(&grant, znode)).transpose()?;
        let Some((now, gate_version)) = now else {
            return Ok(Pause::Gate);
        };
        let refusal = may_start(&now, granted.as_ref().map(|(grant, _)| grant), slot, state).err();
        let serial = now.serial;
        self.gate = Some(now);
        let grant_version = granted.as_ref().map(|(_, version)| *version);
        self.grant = granted;
        match (refusal, grant_version) {
            (None, Some(grant_version)) => {
                let part = Part {
                    rollout: self.desk.rollout.clone(),
                    serial,
                    slot: Some(slot),
                    state: PartState::Acting,
                    policy: here.local().policy,
                };
                let result = WatchResult {
                    part: Some(part),
                    ..here.result.clone()
                };
                let checks = vec![Step::Check(gate, gate_version), Step::Check(grant, grant_version)];
                self.write(result, checks).await?;
                self.ask(here, Wanted::Start(state));
                Ok(Pause::Local)
            }
            (Some(Refusal::Closed | Refusal::Outdated), _) => Ok(Pause::Gate),
            (Some(Refusal::Gone) | None, _) => Ok(Pause::None),
        }
    }

    fn ask(&mut self, here: &LocalRollout, wanted: Wanted) {
        self.asked = self.desk.number();
        // Without a daemon there is nobody to be told.
        let _ = self.desk.events.send(RolloutEvent {
            number: self.asked,
            watch: here.result.watch.clone(),
            wanted,
        });
    }

    /// Writes this host's result, if the host's place is still its own and what is to be checked holds.
    async fn write(&mut self, result: WatchResult, checks: Vec<Step>) -> Reply<()> {
        let (desk, path) = (self.desk, self.result_path());
        let host = desk.shared.options.root.host(desk.host());
        let mut steps = vec![
            Step::Check(host.clone(), desk.version),
            Step::Check(format!("{host}/{LIVE}"), ANY),
        ];
        steps.extend(checks);
        let data = record::write(&WatchResult {
            v: FormatVersion,
            ..result.clone()
        });
        steps.push(match self.part {
            Some(_) => Step::Set(path.clone(), data, None),
            None => Step::Create(path.clone(), data, desk.own),
        });
        requests::transact(&desk.client, &path, &steps).await?;
        self.part = Some(result);
        Ok(())
    }
}

async fn changed(watcher: Option<OneshotWatcher>) {
    if let Some(watcher) = watcher {
        watcher.changed().await;
    }
}
