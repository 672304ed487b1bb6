//! The commands that ask: status, history, logs, events.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Session;
use super::client::{Answer, Next, path, query};
use super::error::OperateError;
use super::view;
use crate::args::{self, exit};
use twitcher_config as config;
use twitcher_control::api::{Event, EventKind, Overview, Run, WatchSummary};
use twitcher_model::{RunId, WatchType};

/// How many runs are asked for at once.
const PAGE: u32 = 500;
/// Among how many of the last runs one is looked for by a part of its id.
const SOUGHT: u32 = 1000;
/// How long there must be no further event for all that the daemon remembers to have come.
const QUIET: Duration = Duration::from_millis(300);
/// How often a daemon that went away is looked for.
const AGAIN: Duration = Duration::from_millis(500);
/// Most names that are suggested.
const SUGGESTED: usize = 5;

/// Watches, each as it came.
#[derive(Deserialize)]
struct RawWatches<'a> {
    #[serde(borrow)]
    watches: Vec<&'a RawValue>,
}

/// The daemon with its watches, each as it came.
#[derive(Deserialize)]
struct RawOverview<'a> {
    #[serde(borrow)]
    status: &'a RawValue,
    #[serde(borrow)]
    watches: Vec<&'a RawValue>,
}

/// Runs, each as it came.
#[derive(Deserialize)]
struct RawRuns {
    runs: Vec<Box<RawValue>>,
    before: Option<String>,
}

/// As much of a watch as it takes to name it.
#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Names {
    watches: Vec<Name>,
}

#[derive(Deserialize)]
struct Summaries {
    watches: Vec<WatchSummary>,
}

/// The runs that were asked for, and where older ones begin.
struct Found {
    runs: Vec<(Box<RawValue>, Run)>,
    before: Option<String>,
}

impl Session {
    /// `status`
    pub(super) fn status(&self, arguments: &args::StatusArguments) -> Result<u8, OperateError> {
        let answer = self.client.get("/v1/overview")?;
        if self.out.json {
            let RawOverview { status, watches } = answer.parse_borrowed()?;
            let watches = watches_as_json(&answer, watches, arguments)?;
            let json = format!("{{\"status\":{status},\"watches\":[{watches}]}}");
            self.out.json(json.as_bytes())?;
            return Ok(exit::SUCCESS);
        }
        let shown = match arguments.state.as_slice() {
            [] if arguments.all || self.look.width.is_none() => view::Shown::All,
            [] => view::Shown::Some,
            states => view::Shown::In(states),
        };
        let Overview { status, watches } = answer.parse()?;
        self.out.say(&view::status(&status, watches, shown, &self.look))?;
        Ok(exit::SUCCESS)
    }

    fn show_watch(&self, answer: &Answer) -> Result<u8, OperateError> {
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.say(&view::watch(&answer.watch()?, &self.look))?,
        }
        Ok(exit::SUCCESS)
    }

    /// `status WATCH`, or `status /znode` where no watch has such a name.
    pub(super) fn watch_or_znode(&self, name: &str) -> Result<u8, OperateError> {
        let answer = self.client.get(&path("watches", name, ""));
        match answer {
            Err(error) if error.is_not_found() && name.starts_with('/') => self.znode(name, error),
            answer => self.show_watch(&self.of_watch(name, answer)?),
        }
    }

    /// The watches of a znode: one is shown as if it had been named.
    fn znode(&self, znode: &str, unknown: OperateError) -> Result<u8, OperateError> {
        let answer = self.client.get("/v1/watches")?;
        let all = answer.parse::<Summaries>()?.watches;
        let RawWatches { watches } = answer.parse_borrowed()?;
        let mut found: Vec<_> = watches.into_iter().zip(all).collect();
        found.retain(|(_, watch)| covers(watch, znode));
        match found.as_slice() {
            [] => {
                let none = "no watch has this name, and none watches such a znode";
                Err(unknown.saying(none).suggesting(self.similar(znode)))
            }
            [(_, one)] => self.show_watch(&self.client.get(&path("watches", &one.name, ""))?),
            _ if self.out.json => {
                let raw: Vec<&RawValue> = found.iter().map(|(raw, _)| *raw).collect();
                self.out.json(format!("{{\"watches\":[{}]}}", join(&raw)).as_bytes())?;
                Ok(exit::SUCCESS)
            }
            _ => {
                let watches = found.into_iter().map(|(_, watch)| watch).collect();
                self.out.say(&view::of_znode(watches, &self.look))?;
                Ok(exit::SUCCESS)
            }
        }
    }

    /// What was answered about a watch. If there is no such watch, says which there are.
    pub(super) fn of_watch(&self, name: &str, answer: Result<Answer, OperateError>) -> Result<Answer, OperateError> {
        answer.map_err(|error| match error.is_not_found() {
            true => error.suggesting(self.similar(name)),
            false => error,
        })
    }

    /// Advice for somebody who meant another watch. Without an answer there is none.
    fn similar(&self, name: &str) -> Vec<String> {
        let names = self
            .client
            .get("/v1/watches")
            .and_then(|answer| answer.parse::<Names>());
        let names: Vec<String> = names.map_or_else(
            |_| Vec::new(),
            |all| all.watches.into_iter().map(|one| one.name).collect(),
        );
        let folded = name.to_lowercase();
        let mut similar: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|known| !folded.is_empty() && known.to_lowercase().contains(&folded))
            .take(SUGGESTED)
            .collect();
        if similar.is_empty() {
            similar.extend(config::nearest(name, names.iter().map(String::as_str)));
        }
        let quoted: Vec<String> = similar.iter().map(|name| format!("{name:?}")).collect();
        match quoted.is_empty() {
            true => vec!["`twitcher status --all` shows all watches".to_owned()],
            false => vec![format!("did you mean {}?", quoted.join(" or "))],
        }
    }

    /// `history`
    pub(super) fn history(&self, arguments: &args::HistoryArguments) -> Result<u8, OperateError> {
        let found = self.runs(arguments)?;
        if let (Some(name), true) = (&arguments.watch, found.runs.is_empty()) {
            // It may also be that there is no such watch, which is better told.
            self.of_watch(name, self.client.get(&path("watches", name, "")))?;
        }
        if self.out.json {
            let runs: Vec<&str> = found.runs.iter().map(|(raw, _)| raw.get()).collect();
            let before = serde_json::json!(found.before);
            let text = format!("{{\"runs\":[{}],\"before\":{before}}}", runs.join(","));
            self.out.json(text.as_bytes())?;
        } else {
            let runs: Vec<Run> = found.runs.into_iter().map(|(_, run)| run).collect();
            self.out.print(&view::runs(&runs, found.before.is_some(), &self.look))?;
        }
        Ok(exit::SUCCESS)
    }

    fn runs(&self, arguments: &args::HistoryArguments) -> Result<Found, OperateError> {
        let since = arguments.since.map(|since| since.before(self.look.now));
        let limit = arguments.limit as usize;
        let page = match arguments.failed {
            true => PAGE,
            false => arguments.limit.min(PAGE),
        };
        let mut found = Found {
            runs: Vec::new(),
            before: None,
        };
        loop {
            let asked = query(
                "/v1/runs",
                &[
                    ("watch", arguments.watch.as_deref()),
                    ("outcome", arguments.outcome.as_deref()),
                    ("limit", Some(&page.to_string())),
                    ("before", found.before.as_deref()),
                ],
            );
            let answer = self.client.get(&asked)?;
            let RawRuns { runs, before } = answer.parse()?;
            let progress = !runs.is_empty() && before != found.before;
            for raw in runs {
                let run: Run = serde_json::from_str(raw.get()).map_err(|error| OperateError::NotUnderstood {
                    what: asked.clone(),
                    error,
                })?;
                if since.is_some_and(|since| run.started < since) {
                    found.before = None;
                    return Ok(found);
                }
                if arguments.failed && matches!(run.outcome.as_deref(), None | Some("success")) {
                    continue;
                }
                if found.runs.len() == limit {
                    found.before = found.runs.last().map(|(_, run)| run.run.clone());
                    return Ok(found);
                }
                found.runs.push((raw, run));
            }
            found.before = before;
            if found.before.is_none() || !progress || (found.runs.len() >= limit && !arguments.failed) {
                return Ok(found);
            }
        }
    }

    /// `logs`
    pub(super) fn logs(&self, arguments: &args::LogsArguments) -> Result<u8, OperateError> {
        let answer = match (&arguments.run, &arguments.last) {
            (Some(name), _) => self.run_or_last(name)?,
            (None, Some(watch)) => self.run_detail(&self.last_run(watch)?)?,
            (None, None) => return Ok(exit::USAGE),
        };
        if self.out.json {
            self.out.json(&answer.bytes)?;
            return Ok(exit::SUCCESS);
        }
        let detail = answer.run()?;
        match arguments.raw {
            true => self.out.print(&detail.output)?,
            false => self.out.print(&view::output(&detail, &self.look))?,
        }
        Ok(exit::SUCCESS)
    }

    pub(super) fn run_detail(&self, run: &str) -> Result<Answer, OperateError> {
        self.client.get(&path("runs", run, ""))
    }

    /// The run with such an id; or the newest of the watch with this name, which goes first where it might be a part of an id.
    fn run_or_last(&self, name: &str) -> Result<Answer, OperateError> {
        if name.parse::<RunId>().is_ok() {
            match self.run_detail(name) {
                Err(error) if error.is_not_found() => {}
                answer => return answer,
            }
        }
        match self.client.get(&path("watches", name, "")) {
            Ok(_) => self.run_detail(&self.last_run(name)?),
            Err(error) if error.is_not_found() => self.run_by_part(name),
            Err(error) => Err(error),
        }
    }

    fn last_run(&self, watch: &str) -> Result<String, OperateError> {
        let asked = query("/v1/runs", &[("watch", Some(watch)), ("limit", Some("1"))]);
        let RawRuns { runs, .. } = self.client.get(&asked)?.parse()?;
        let run = runs.first().and_then(|raw| serde_json::from_str::<Run>(raw.get()).ok());
        if let Some(run) = run {
            return Ok(run.run);
        }
        self.of_watch(watch, self.client.get(&path("watches", watch, "")))?;
        Err(OperateError::NeverRan(watch.to_owned()))
    }

    /// The run with this id, or the one among the last whose id begins or ends so.
    fn run_by_part(&self, part: &str) -> Result<Answer, OperateError> {
        let part = part.to_lowercase();
        if part.len() == ID_LENGTH {
            return self.run_detail(&part);
        }
        let asked = query("/v1/runs", &[("limit", Some(&SOUGHT.to_string()))]);
        let RawRuns { runs, .. } = self.client.get(&asked)?.parse()?;
        let ids = runs
            .iter()
            .filter_map(|raw| serde_json::from_str::<Run>(raw.get()).ok());
        let ids = ids.map(|run| run.run);
        let like: Vec<String> = ids.filter(|id| id.ends_with(&part) || id.starts_with(&part)).collect();
        match like.as_slice() {
            [id] => self.run_detail(id),
            [] => Err(OperateError::Run(format!(
                "no watch is called {part:?}, and no run among the last {SOUGHT} has an id that begins or ends so"
            ))),
            [first, second, ..] => Err(OperateError::Run(format!(
                "{} runs have ids that begin or end with {part:?}: {first}, {second}{}",
                like.len(),
                if like.len() > 2 { ", ..." } else { "" }
            ))),
        }
    }

    /// `events`
    pub(super) fn events(&self, arguments: &args::EventsArguments) -> Result<u8, OperateError> {
        if let Some(name) = &arguments.watch {
            // Nothing ever happens to a watch that does not exist.
            self.of_watch(name, self.client.get(&path("watches", name, "")))?;
        }
        let asked = query("/v1/events", &[("watch", arguments.watch.as_deref())]);
        let patience = (!arguments.follow).then_some(QUIET);
        let mut stream = Some(self.client.follow(&asked, !arguments.follow)?);
        let mut any = false;
        loop {
            let next = match &mut stream {
                Some(events) => events.next(patience),
                None => Ok(Next::End),
            };
            match next {
                Ok(Next::Event(data)) => {
                    // Of whoever asks for what is remembered nothing was lost.
                    let first = !std::mem::replace(&mut any, true);
                    if arguments.follow || !first || understood(&data)?.kind != EventKind::Lost {
                        self.event(&data)?;
                    } else {
                        any = false;
                    }
                }
                Ok(Next::Quiet) => {
                    if !any {
                        eprintln!(
                            "twitcher: nothing has happened since the daemon started; `twitcher history` shows runs of those before"
                        );
                    }
                    return Ok(exit::SUCCESS);
                }
                Err(error) if !arguments.follow => return Err(error),
                Ok(Next::End) | Err(OperateError::CutOff { .. }) => {
                    if stream.take().is_some() {
                        eprintln!("twitcher: the daemon has gone away; waiting for the next one");
                    }
                    std::thread::sleep(AGAIN);
                    match self.client.follow(&asked, false) {
                        Ok(events) => {
                            eprintln!("twitcher: there is a daemon again");
                            stream = Some(events);
                        }
                        Err(error) if error.is_gone() => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn event(&self, data: &str) -> Result<(), OperateError> {
        if self.out.json {
            return self.out.json(data.as_bytes());
        }
        self.out.print(&view::event(&understood(data)?, &self.look))
    }
}

/// An event that came.
pub(super) fn understood(data: &str) -> Result<Event, OperateError> {
    serde_json::from_str(data).map_err(|error| OperateError::NotUnderstood {
        what: "GET /v1/events".to_owned(),
        error,
    })
}

/// Length of the id of a run.
const ID_LENGTH: usize = 13;

/// The watches that are wanted, each as it came, with commas between.
fn watches_as_json(
    answer: &Answer,
    watches: Vec<&RawValue>,
    arguments: &args::StatusArguments,
) -> Result<String, OperateError> {
    if arguments.state.is_empty() {
        return Ok(join(&watches));
    }
    let known = answer.parse::<Overview>()?.watches;
    let wanted = watches.into_iter().zip(&known);
    let wanted = wanted.filter(|(_, watch)| arguments.state.contains(&watch.state));
    Ok(join(&wanted.map(|(raw, _)| raw).collect::<Vec<_>>()))
}

/// Whether a watch looks at a znode: its own, or below its own for one of a tree.
fn covers(watch: &WatchSummary, znode: &str) -> bool {
    let znode = match znode.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let below = |root: &str| root == "/" || znode.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let mut znodes = std::iter::once(&watch.znode).chain(watch.znodes.iter().map(|one| &one.znode));
    znodes.any(|own| own == znode || (watch.watch_type == WatchType::Tree && below(own)))
}

fn join(values: &[&RawValue]) -> String {
    values.iter().map(|raw| raw.get()).collect::<Vec<_>>().join(",")
}
