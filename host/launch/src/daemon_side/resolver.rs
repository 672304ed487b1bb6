//! Looking up the names that components are granted, before they are launched: they have no resolver of their own.
//!
//! A name server may be slow or dead. Only the runs that need it wait for it, and not for long: a name without an address is the
//! component's to deal with. Each name is asked for once at a time, so a dead one holds one thread however often its watch runs.
//! Runs with the same names, as those of a watch have, leave in the order they came.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::daemon_side::invocation::Invocation;
use crate::protocol::Task;
use twitcher_model::{Grants, RunId};
use twitcher_sandbox as sandbox;

/// How long a run waits for the addresses of its names.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most addresses of a name that are kept.
const ADDRESSES_MAX: usize = 16;
/// Most names that are asked for at once. The system's resolver blocks a thread each, and may take longer than our patience.
const LOOKUPS_MAX: usize = 32;

/// What became of asking for a name.
type AnswerTo = (String, io::Result<Vec<IpAddr>>);

/// Runs that wait for addresses.
struct Waiting {
    invocation: Invocation,
    missing: HashSet<String>,
    until: Instant,
}

/// See the module's documentation.
pub(crate) struct NameResolver {
    /// In the order they came, which is the order in which their patience ends.
    waiting: VecDeque<Waiting>,
    asked: HashSet<String>,
    slots: Arc<Semaphore>,
    answers: mpsc::UnboundedSender<AnswerTo>,
    answers_end: mpsc::UnboundedReceiver<AnswerTo>,
}

impl NameResolver {
    pub(crate) fn new() -> Self {
        let (answers, answers_end) = mpsc::unbounded_channel();
        Self {
            waiting: VecDeque::new(),
            asked: HashSet::new(),
            slots: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            answers,
            answers_end,
        }
    }

    /// Keeps a run that needs names looked up; gives back all others.
    pub(crate) fn keep(&mut self, invocation: Invocation) -> Option<Invocation> {
        let missing = match grants(&invocation) {
            Some(grants) => sandbox::names(grants).into_iter().map(str::to_owned).collect(),
            None => HashSet::new(),
        };
        if missing.is_empty() {
            return Some(invocation);
        }
        for name in self.enter(invocation, missing, Instant::now()) {
            self.ask(name);
        }
        None
    }

    /// Returns when something has changed: the runs that wait no longer. Can be dropped at any time.
    pub(crate) async fn ready(&mut self) -> Vec<Invocation> {
        let until = self.waiting.front().map(|first| first.until);
        tokio::select! {
            Some((name, found)) = self.answers_end.recv() => self.answered(&name, &found),
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
        self.release(Instant::now())
    }

    /// Lets go of a run. Whether it waited.
    pub(crate) fn remove(&mut self, run: RunId) -> bool {
        let at = self.waiting.iter().position(|waiting| waiting.invocation.run == run);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// The names to be asked for.
    fn enter(&mut self, invocation: Invocation, missing: HashSet<String>, now: Instant) -> Vec<String> {
        let new = missing.difference(&self.asked).cloned().collect::<Vec<_>>();
        self.asked.extend(new.iter().cloned());
        self.waiting.push_back(Waiting {
            invocation,
            missing,
            until: now + PATIENCE,
        });
        new
    }

    fn ask(&self, name: String) {
        let (slots, answers) = (Arc::clone(&self.slots), self.answers.clone());
        tokio::spawn(async move {
            // Held until the resolver returns, not only as long as somebody waits for it. It is never closed.
            let _slot = slots.acquire_owned().await;
            let found = lookup_host((name.as_str(), 0)).await.map(addresses);
            let _ = answers.send((name, found));
        });
    }

    fn answered(&mut self, name: &str, found: &io::Result<Vec<IpAddr>>) {
        self.asked.remove(name);
        for waiting in &mut self.waiting {
            if !waiting.missing.remove(name) {
                continue;
            }
            match found {
                Ok(addresses) => add(&mut waiting.invocation, name, addresses),
                Err(error) => {
                    let run = &waiting.invocation;
                    warn!(watch = &*run.watch, run_id = %run.run, name, "cannot find the addresses of a granted name: {error}");
                }
            }
        }
    }

    /// The runs that have all they can get.
    fn release(&mut self, now: Instant) -> Vec<Invocation> {
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.missing.is_empty() || waiting.until <= now);
        self.waiting = waiting;
        let ready: VecDeque<Waiting> = ready;
        for Waiting {
            invocation, missing, ..
        } in &ready
        {
            for name in missing {
                warn!(watch = &*invocation.watch, run_id = %invocation.run, name, "the addresses of a granted name were not found in time");
            }
        }
        ready.into_iter().map(|waiting| waiting.invocation).collect()
    }
}

fn grants(invocation: &Invocation) -> Option<&Grants> {
    match &invocation.task {
        Task::Wasm(task) => Some(&task.action.grants),
        Task::Exec(_) | Task::Function(_) | Task::Wait(_) | Task::Write(_) => None,
    }
}

fn add(invocation: &mut Invocation, name: &str, addresses: &[IpAddr]) {
    if let Task::Wasm(task) = &mut invocation.task {
        task.reach.addresses.push((name.to_owned(), addresses.to_vec()));
    }
}

/// Each once, in the resolver's order, which is that of preference.
fn addresses(found: impl Iterator<Item = SocketAddr>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for address in found.map(|address| address.ip().to_canonical()) {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::daemon_side::secrets::SecretValues;
    use crate::journal::Purpose;
    use crate::protocol::WasmTask;
    use twitcher_model::{
        ChangeFacts, Component, Digest, EntryPoint, HostPort, Keep, Payload, ProcessSettings, Trigger, WasmAction,
        WatchType, ZnodePath,
    };
    use twitcher_sandbox::Reach;

    fn invocation(run: u64, names: &[&str]) -> Invocation {
        let port = |name: &&str| HostPort {
            host: (*name).to_owned(),
            port: 80,
        };
        let action = WasmAction {
            component: Component {
                file: Path::new("a.wasm").into(),
                bundle: None,
                digest: Digest([0; 32]),
                entry: EntryPoint::Handler,
                native: Path::new("a").into(),
                keep: Keep::default(),
            },
            grants: Grants {
                net: names.iter().map(port).collect(),
                ..Grants::default()
            },
        };
        let change = ChangeFacts {
            run: RunId(run),
            watch: "w".into(),
            path: ZnodePath::root(),
            watch_type: WatchType::Data,
            payload: Payload::Data,
            event: Trigger::Data,
            stat: None,
            attempt: 1,
            timeout: None,
        };
        Invocation {
            run: RunId(run),
            watch: "w".into(),
            task: Task::Wasm(Box::new(WasmTask {
                action: Arc::new(action),
                change,
                reach: Reach::default(),
            })),
            env: Vec::new(),
            process: Arc::new(ProcessSettings::default()),
            stdin: Bytes::new(),
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: false,
        }
    }

    fn enter(lookups: &mut NameResolver, run: u64, names: &[&str], now: Instant) -> Vec<String> {
        let missing = names.iter().map(|name| (*name).to_owned()).collect();
        let mut asked = lookups.enter(invocation(run, names), missing, now);
        asked.sort();
        asked
    }

    fn runs(ready: &[Invocation]) -> Vec<u64> {
        ready.iter().map(|invocation| invocation.run.0).collect()
    }

    fn found(invocation: &Invocation) -> Vec<(String, Vec<IpAddr>)> {
        match &invocation.task {
            Task::Wasm(task) => task.reach.addresses.clone(),
            _ => Vec::new(),
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_name_is_asked_for_once_and_runs_leave_in_order() {
        let (mut lookups, now) = (NameResolver::new(), Instant::now());
        assert_eq!(enter(&mut lookups, 1, &["a", "b"], now), ["a", "b"]);
        assert_eq!(enter(&mut lookups, 2, &["a", "b"], now), Vec::<String>::new());
        assert_eq!(enter(&mut lookups, 3, &["b", "c"], now), ["c"]);
        lookups.answered("b", &Ok(vec![HERE]));
        assert_eq!(runs(&lookups.release(now)), Vec::<u64>::new());
        lookups.answered("a", &Err(io::ErrorKind::NotFound.into()));
        let ready = lookups.release(now);
        assert_eq!(runs(&ready), [1, 2]);
        assert_eq!(found(&ready[0]), [("b".to_owned(), vec![HERE])], "a has no address");
        assert_eq!(enter(&mut lookups, 4, &["a"], now), ["a"], "what was found is not kept");
        assert!(lookups.remove(RunId(4)) && !lookups.remove(RunId(4)));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut lookups, now) = (NameResolver::new(), Instant::now());
        enter(&mut lookups, 1, &["dead"], now);
        enter(&mut lookups, 2, &["dead"], now + PATIENCE / 2);
        assert_eq!(runs(&lookups.release(now + PATIENCE)), [1]);
        assert_eq!(
            enter(&mut lookups, 3, &["dead"], now + PATIENCE),
            Vec::<String>::new(),
            "still asked for"
        );
        lookups.answered("dead", &Ok(vec![HERE]));
        assert_eq!(runs(&lookups.release(now + PATIENCE)), [2, 3]);
    }

    #[tokio::test]
    async fn names_are_found_and_those_without_any_pass() {
        let mut lookups = NameResolver::new();
        let passed = lookups.keep(invocation(1, &["127.0.0.1"]));
        assert!(passed.is_some_and(|invocation| found(&invocation).is_empty()));
        assert!(lookups.keep(invocation(2, &["localhost"])).is_none());
        let ready = lookups.ready().await;
        assert_eq!(runs(&ready), [2]);
        assert!(
            found(&ready[0])
                .iter()
                .any(|(name, addresses)| name == "localhost" && addresses.contains(&HERE))
        );
    }

    #[test]
    fn addresses_are_few_and_each_once() {
        let many = (0..40).map(|last| SocketAddr::new(IpAddr::from([10, 0, 0, last / 2]), 0));
        let kept = addresses(many);
        assert_eq!(kept.len(), ADDRESSES_MAX);
        assert_eq!(kept[1], IpAddr::from([10, 0, 0, 1]));
        assert_eq!(addresses(["[::ffff:127.0.0.1]:0".parse().unwrap()].into_iter()), [HERE]);
    }
}
