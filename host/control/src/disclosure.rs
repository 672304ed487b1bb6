//! How much is shown to whom: everything to operators, and to whoever reaches the TCP port an outline.
//!
//! Command lines have passwords in them, outputs have whatever a program saw fit to say, and a local user may not even read the
//! configuration. So the outline has names, states, times and counts, and none of the text that a configuration, an action or an operator
//! brought along. What is said of it is made of facts without that text, by the same [`super::view`]: nothing has to be cut out of sentences.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::api::{
    Event, EventKind, Fleet, Laggards, Rollouts, RunDetail, Status, WatchDetail, WatchState, WatchSummary,
};
use super::facts::WatchFacts;
use super::view;
use twitcher_model::Outcome;

/// What stands in for an error or a note of the configuration, which quotes the line that it is about.
const NOT_HERE: &str = "what it is `twitcher status` says on the host; this port shows no details (--http-details)";
/// What stands in for a remedy, which may name the user that ZooKeeper knows the daemon by.
const REMEDY_NOT_HERE: &str = "`twitcher status WATCH` on the host says what helps";

/// What stands in for what is wrong with a host's znodes, which may quote what somebody has written there.
const PROBLEM_NOT_HERE: &str = "what it has published cannot be read; `twitcher fleet status` on a host says why";

/// What stands in for why a rollout does not go on.
const WHY_NOT_HERE: &str = "`twitcher fleet status` on a host says why";

/// How much those who came in by one way are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All there is.
    Everything,
    /// Names, states, times and counts.
    Outline,
}

/// A request that nobody has vouched for gets the outline.
impl<S: Sync> FromRequestParts<S> for Shown {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Shown>().copied().unwrap_or(Shown::Outline))
    }
}

impl Shown {
    /// The daemon.
    pub fn status(self, status: Status) -> Status {
        if self == Shown::Everything {
            return status;
        }
        let mut status = status;
        let config = &mut status.config;
        for text in config.errors.iter_mut().chain(&mut config.notes) {
            NOT_HERE.clone_into(text);
        }
        if let Some(fleet) = &mut status.fleet {
            let of_rollouts = fleet.rollouts.iter_mut().filter_map(|part| part.problem.as_mut());
            of_rollouts
                .chain(&mut fleet.problem)
                .for_each(|problem| NOT_HERE.clone_into(problem));
        }
        status.withheld = true;
        status
    }

    /// A watch.
    pub fn summary(self, watched: &WatchFacts) -> WatchSummary {
        if self == Shown::Everything {
            return view::summary(watched);
        }
        let mut facts = watched.clone();
        // The view then says that a run failed, and that an operator paused it.
        facts.parked = None;
        if let Some(paused) = &mut facts.paused {
            paused.by = None;
            paused.reason = None;
        }
        if let Some(last) = &mut facts.last_run
            && let Some(failure) = &last.failure
        {
            last.failure = Some(Outcome::outline(last.outcome, failure).into());
        }
        let mut summary = view::summary(&facts);
        if let Some(unreadable) = &mut summary.unreadable {
            REMEDY_NOT_HERE.clone_into(&mut unreadable.remedy);
        }
        summary
    }

    /// A watch with its definition.
    pub fn watch(self, mut detail: WatchDetail) -> WatchDetail {
        if self == Shown::Outline {
            detail.command.clear();
            detail.settings.clear();
            detail.withheld = true;
            self.runs(&mut detail.runs);
        }
        detail
    }

    /// Runs, as they ended.
    pub fn runs<'a>(self, runs: impl IntoIterator<Item = &'a mut super::api::Run>) {
        if self == Shown::Everything {
            return;
        }
        for run in runs {
            let code = run.outcome.as_deref().unwrap_or(Outcome::RUNNING);
            run.words = run
                .words
                .as_deref()
                .map(|words| Outcome::outline(code, words).to_owned());
        }
    }

    /// A run with its output.
    pub fn run(self, mut detail: RunDetail) -> RunDetail {
        if self == Shown::Outline {
            self.runs([&mut detail.run]);
            detail.output.clear();
            detail.truncated = false;
            detail.withheld = true;
        }
        detail
    }

    /// A fleet. What its hosts publish has no text of actions.
    pub fn fleet(self, mut fleet: Fleet) -> Fleet {
        let of_hosts = fleet.hosts.iter_mut().filter_map(|host| host.problem.as_mut());
        self.problems(of_hosts.chain(&mut fleet.problem));
        fleet
    }

    /// Who lags.
    pub fn laggards(self, mut laggards: Laggards) -> Laggards {
        self.problems(laggards.unknown.iter_mut().map(|host| &mut host.problem));
        laggards
    }

    /// What rolls out, and where hosts stand with it.
    pub fn rollouts(self, mut rollouts: Rollouts) -> Rollouts {
        if self == Shown::Outline {
            for rollout in &mut rollouts.rollouts {
                rollout.by.clear();
                if let Some(why) = &mut rollout.why {
                    WHY_NOT_HERE.clone_into(why);
                }
            }
            rollouts.broken.iter_mut().for_each(|broken| broken.help = None);
        }
        self.problems(rollouts.broken.iter_mut().map(|broken| &mut broken.problem));
        rollouts
    }

    fn problems<'a>(self, problems: impl Iterator<Item = &'a mut String>) {
        if self == Shown::Outline {
            problems.for_each(|problem| PROBLEM_NOT_HERE.clone_into(problem));
        }
    }

    /// An event, whose watch is already as it is to be shown.
    pub fn event(self, mut event: Event) -> Event {
        if self == Shown::Everything {
            return event;
        }
        self.runs(&mut event.run);
        let state = event.watch.as_ref().map(|watch| watch.state);
        let told = match event.kind {
            // Their words are of the daemon's own making.
            EventKind::Lost
            | EventKind::Changed
            | EventKind::Decided
            | EventKind::Started
            | EventKind::Loaded
            | EventKind::Source
            | EventKind::Unreadable
            | EventKind::Draining => None,
            EventKind::Ended => Some(match event.run.as_ref().and_then(|run| run.words.as_deref()) {
                Some(words) => format!("run ended: {words}"),
                None => "run ended".to_owned(),
            }),
            EventKind::Held => Some(match state {
                Some(WatchState::Paused) => "watch paused".to_owned(),
                Some(WatchState::Parked) => "watch parked".to_owned(),
                _ => "watch resumed".to_owned(),
            }),
        };
        if let Some(told) = told {
            event.message = told;
        }
        event
    }
}

/// A thing as it is shown either way, where the facts that it is made of are not kept.
#[derive(Debug, Clone)]
pub struct Views<T> {
    everything: T,
    outline: T,
}

impl<T> Views<T> {
    /// Makes both.
    pub fn new(make: impl Fn(Shown) -> T) -> Self {
        Self {
            everything: make(Shown::Everything),
            outline: make(Shown::Outline),
        }
    }

    /// The one to be shown.
    pub fn get(&self, shown: Shown) -> &T {
        match shown {
            Shown::Everything => &self.everything,
            Shown::Outline => &self.outline,
        }
    }
}
