//! A host's part in a rollout: it waits for its turn, writes down that it starts, and gives its slot back.
//!
//! It watches its own grant and nothing else; the gate only while it has a slot that it cannot use yet. The daemon runs what is to be run.
//! All that was read is forgotten when the connection is lost, and read again.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::warn;
use zookeeper_client::{EventType, PersistentWatcher, WatchedEvent};

use super::context::{Doing, Local, LocalRollout, RolloutContext, RolloutEvent, Trouble, Verification, Wanted, parse};
use super::holder::{Act, Refusal, may_start, next, without_slot};
use super::records::{Gate, Grant, Part, PartState, SlotId};
use crate::layout::{LIVE, rollout_znode};
use crate::record::{self, FormatVersion, WatchResult};
use crate::requests::{self, ANY, Reply, RequestError, Step};

/// How often a slot that cannot be used is thought about again.
const THINK: Duration = Duration::from_secs(5);

/// How often it is seen whether somebody else has written in this host's place.
const LOOK: Duration = Duration::from_secs(20);

/// Keeps the host in a rollout.
pub(crate) async fn run(context: RolloutContext, local: watch::Receiver<LocalRollout>) {
    context
        .keep("its slot in the rollout", || {
            Holder::new(&context, local.clone()).serve()
        })
        .await;
}

struct Holder<'a> {
    context: &'a RolloutContext,
    local: watch::Receiver<LocalRollout>,
    gate: Option<Gate>,
    grant: Option<(Grant, i32)>,
    /// Since when it is known.
    granted: Instant,
    /// What the fleet knows of this host.
    part: Option<WatchResult>,
    /// The version of that znode.
    written: Option<i32>,
    again: Option<SlotId>,
    /// What the daemon has not dealt with yet.
    asked: u64,
    /// The watch that this was asked of.
    watch: String,
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
    fn new(context: &'a RolloutContext, local: watch::Receiver<LocalRollout>) -> Self {
        Self {
            context,
            local,
            gate: None,
            grant: None,
            granted: Instant::now(),
            part: None,
            written: None,
            again: None,
            asked: 0,
            watch: String::new(),
        }
    }

    async fn serve(mut self) -> Result<std::convert::Infallible, Trouble> {
        let client = &self.context.client;
        requests::catch_up(client).await?;
        let path = self.result_path();
        let found = requests::read(client, &path).await?;
        let mut grant = self.read_grant().await?;
        let is_there = found.is_some();
        let version = found.as_ref().map(|znode| znode.stat.version);
        self.part = found
            .and_then(|znode| parse::<WatchResult>(&path, znode).ok())
            .map(|(result, _)| result);
        self.written = version;
        if is_there && self.part.as_ref().is_none_or(|result| result.part.is_none()) {
            self.mend().await?;
        }
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let (gate, mut of_gate) = (self.context.gate_path(), None);
        loop {
            self.context.say(None, "its slot in the rollout");
            match self.act().await? {
                Pause::None => continue,
                Pause::Local => of_gate = None,
                // Mostly one look is all that is needed.
                Pause::Gate if self.looks_again().await? => continue,
                Pause::Gate if of_gate.is_some() => {}
                Pause::Gate => {
                    // As the steward watches it, who may be in this session: of two watches of a session on one znode a server keeps the mode
                    // of the last (ZOOKEEPER-4466), and would tell the steward nothing any more of what is below.
                    of_gate = Some(requests::watch_below(client, &gate).await?);
                    if self.looks_again().await? {
                        continue;
                    }
                }
            }
            let think = Instant::now() + THINK;
            let waits = of_gate.is_some();
            tokio::select! {
                event = &mut grant => {
                    if event.event_type == EventType::Session {
                        return Err(RequestError::Disconnected.into());
                    }
                    grant = self.read_grant().await?;
                }
                happened = happens_to(&gate, &mut of_gate), if waits => happened?,
                changed = self.local.changed() => changed.map_err(|_| Trouble::Over)?,
                () = sleep_until(think), if waits => {}
                _ = look.tick() => self.look().await?,
            }
        }
    }

    /// Reads the gate, and says whether it is another than before.
    async fn looks_again(&mut self) -> Result<bool, Trouble> {
        let gate = self.context.gate().await?.map(|(gate, _)| gate);
        let is_another = gate != self.gate;
        self.gate = gate;
        Ok(is_another)
    }

    /// Writes over what somebody else has written in the place of this host's result. Whether its action runs with the slot that it has
    /// is not known from there any more: so it does until the watch says otherwise.
    async fn mend(&mut self) -> Result<(), Trouble> {
        let here = self.local.borrow().clone();
        let local = here.local(self.id());
        let held = self
            .grant
            .as_ref()
            .map(|(grant, _)| grant)
            .filter(|grant| grant.taken_back.is_none());
        warn!(rollout = %self.context.rollout, znode = self.result_path(),
            "somebody else has written what only this host writes; writing over it");
        let part = Part {
            rollout: self.context.rollout.clone(),
            serial: held.map_or(0, |grant| grant.serial),
            slot: held.map(|grant| grant.slot),
            state: held.map_or(without_slot(&local, PartState::None), |_| PartState::Acting),
            policy: local.policy,
            host: local.host,
        };
        let result = WatchResult {
            part: Some(part),
            ..here.result
        };
        // There is something to be written over.
        self.part = Some(result.clone());
        Ok(self.write(result, Vec::new()).await?)
    }

    /// Sees whether this host's result is still what it has written last, and writes it again if it is not. It is not watched: each change
    /// would tell of itself.
    async fn look(&mut self) -> Result<(), Trouble> {
        let path = self.result_path();
        let stat = requests::stat(&self.context.client, &path).await?;
        let version = stat.map(|stat| stat.version);
        if version == self.written {
            return Ok(());
        }
        let Some(result) = self.part.take() else {
            return Err(RequestError::BadVersion(path).into());
        };
        warn!(rollout = %self.context.rollout, znode = path,
            "somebody else has changed or deleted what only this host writes; writing it again");
        (self.part, self.written) = (version.map(|_| result.clone()), version);
        Ok(self.write(result, Vec::new()).await?)
    }

    /// What tells this host from another one of its name.
    fn id(&self) -> &str {
        let id = &self.context.shared.options.id;
        id.as_ref().map_or("", |id| id.as_str())
    }

    fn result_path(&self) -> String {
        let host = self.context.shared.options.root.host(self.context.host());
        format!("{host}/{}", rollout_znode(&self.context.rollout))
    }

    /// Reads the grant, and has its next change told.
    async fn read_grant(&mut self) -> Result<Told, Trouble> {
        let path = self.context.grant_path(self.context.host());
        let (_, watcher) = requests::stat_and_watch(&self.context.client, &path).await?;
        let read = requests::read(&self.context.client, &path).await?;
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
        if here.result.watch != self.watch {
            // What was asked of a watch of another name nobody answers any more.
            (self.asked, self.again) = (0, None);
            self.watch.clone_from(&here.result.watch);
        }
        if here.answered < self.asked {
            return Ok(Pause::Local);
        }
        let local = here.local(self.id());
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
        self.context.note_slot(
            matches!(act, Act::Start(_) | Act::Again(_) | Act::GiveBack(..) | Act::LookAgain) || local.acting,
        );
        match act {
            Act::Wait => self.tell_failure(here).await,
            Act::EndVerify => {
                self.ask(&here, Wanted::EndVerify);
                Ok(Pause::Local)
            }
            Act::LookAgain => Ok(Pause::Gate),
            Act::Start(slot) => self.start(slot, &here).await,
            Act::Again(slot) => {
                self.again = Some(slot);
                self.ask(&here, Wanted::Again);
                Ok(Pause::Local)
            }
            Act::Verify(slot, state) => {
                let before = self.part.as_ref().and_then(|result| result.part.clone());
                let is_known = |part: &Part| part.slot == Some(slot) && part.state == PartState::Verifying;
                if !before.as_ref().is_some_and(is_known) {
                    let serial = self.grant.as_ref().map_or(0, |(grant, _)| grant.serial);
                    self.tell_part(here.clone(), serial, slot, PartState::Verifying).await?;
                }
                self.ask(&here, Wanted::Verify(slot, state));
                Ok(Pause::Local)
            }
            Act::GiveBack(slot, how) => {
                let serial = self.grant.as_ref().map_or(0, |(grant, _)| grant.serial);
                self.tell_part(here, serial, slot, how).await?;
                Ok(Pause::None)
            }
            Act::Tell => {
                // Where there is no hurry all hosts together write no faster than they do otherwise.
                sleep(self.context.turn.mul_f64(fastrand::f64())).await;
                let here = self.local.borrow().clone();
                let before = self.part.as_ref().and_then(|result| result.part.clone());
                let local = here.local(self.id());
                let mut part = before.unwrap_or_else(|| Part {
                    rollout: self.context.rollout.clone(),
                    serial: 0,
                    slot: None,
                    state: without_slot(&local, PartState::None),
                    policy: String::new(),
                    host: String::new(),
                });
                (part.policy, part.host) = (local.policy, local.host);
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

    /// Says why the host is not well, while it is being found out whether it gets so.
    async fn tell_failure(&mut self, here: LocalRollout) -> Result<Pause, Trouble> {
        let said = self.part.as_ref().filter(|said| {
            let is_verifying = |part: &Part| part.state == PartState::Verifying;
            said.part.as_ref().is_some_and(is_verifying) && said.last != here.result.last
        });
        let is_verifying = matches!(here.verification, Some((_, Verification::Running)));
        let Some(said) = said.filter(|_| is_verifying) else {
            return Ok(Pause::Local);
        };
        let result = WatchResult {
            last: here.result.last,
            ..said.clone()
        };
        sleep(self.context.turn.mul_f64(fastrand::f64())).await;
        self.write(result, Vec::new()).await?;
        Ok(Pause::None)
    }

    /// Writes down what its slot has come to.
    async fn tell_part(&mut self, here: LocalRollout, serial: u64, slot: SlotId, state: PartState) -> Reply<()> {
        let Local { policy, host, .. } = here.local(self.id());
        let part = Part {
            rollout: self.context.rollout.clone(),
            serial,
            slot: Some(slot),
            state,
            policy,
            host,
        };
        let result = WatchResult {
            part: Some(part),
            ..here.result
        };
        self.write(result, Vec::new()).await
    }

    /// Writes down that it starts, unless the gate or the grant is not what it has just read; and has it start.
    async fn start(&mut self, slot: SlotId, here: &LocalRollout) -> Result<Pause, Trouble> {
        let Doing::Wants(state) = here.doing else {
            return Ok(Pause::Local);
        };
        let client = &self.context.client;
        let (gate, grant) = (self.context.gate_path(), self.context.grant_path(self.context.host()));
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
                    rollout: self.context.rollout.clone(),
                    serial,
                    slot: Some(slot),
                    state: PartState::Acting,
                    policy: here.local(self.id()).policy,
                    host: self.id().to_owned(),
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
        self.asked = self.context.number();
        // Without a daemon there is nobody to be told.
        let _ = self.context.events.send(RolloutEvent {
            number: self.asked,
            watch: here.result.watch.clone(),
            wanted,
        });
    }

    /// Writes this host's result, if the host's place is still its own and what is to be checked holds.
    async fn write(&mut self, result: WatchResult, checks: Vec<Step>) -> Reply<()> {
        let (context, path) = (self.context, self.result_path());
        let host = context.shared.options.root.host(context.host());
        let mut steps = vec![
            Step::Check(host.clone(), context.version),
            Step::Check(format!("{host}/{LIVE}"), ANY),
        ];
        steps.extend(checks);
        let data = record::write(&WatchResult {
            v: FormatVersion,
            ..result.clone()
        });
        steps.push(match self.part {
            Some(_) => Step::Set(path.clone(), data, None),
            None => Step::Create(path.clone(), data, context.own.clone()),
        });
        requests::transact(&context.client, &path, &steps).await?;
        let before = self.written.filter(|_| self.part.is_some());
        self.written = Some(before.map_or(0, |version| version + 1));
        self.part = Some(result);
        Ok(())
    }
}

/// Waits until something happens to the znode itself.
async fn happens_to(znode: &str, watcher: &mut Option<PersistentWatcher>) -> Result<(), Trouble> {
    let Some(watcher) = watcher else {
        return std::future::pending().await;
    };
    loop {
        let event = watcher.changed().await;
        if event.event_type == EventType::Session {
            return Err(RequestError::Disconnected.into());
        }
        if event.path == znode {
            return Ok(());
        }
    }
}
