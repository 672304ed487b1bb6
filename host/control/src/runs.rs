//! Runs: those of the history, and among them those that go on.
//!
//! The history is a database that the daemon writes and others read, so it is read on a thread of the server's own, and the loop is
//! only asked for what goes on.

use axum::http::StatusCode;

use super::api::{Run, RunDetail, Runs};
use super::daemon_requests::{DaemonRequest, DaemonRequests, Unanswered};
use super::refusal::RequestRefusal;
use super::view;
use twitcher_model::{Outcome, RunFacts, RunId};
use twitcher_state::{History, HistoryError, RunQuery};

/// Where runs are looked up.
#[derive(Debug, Clone)]
pub struct RunLookup {
    requests: DaemonRequests,
    history: History,
}

impl RunLookup {
    /// Asks the loop and reads the history.
    pub fn new(requests: DaemonRequests, history: History) -> Self {
        Self { requests, history }
    }

    /// Runs, the newest first.
    pub async fn runs(&self, query: RunQuery) -> Result<Runs, RequestRefusal> {
        // What goes on first: a run that ends in between is then in both rather than in neither.
        let mut running = self.going_on().await?;
        let fits = |facts: &RunFacts| {
            query.watch.as_deref().is_none_or(|watch| watch == &*facts.watch)
                && query.before.is_none_or(|before| facts.run < before)
                && query
                    .outcome
                    .as_deref()
                    .is_none_or(|outcome| outcome == Outcome::RUNNING)
        };
        running.retain(fits);
        let most = query.limit as usize;
        let mut runs = match query.outcome.as_deref() {
            Some(Outcome::RUNNING) => Vec::new(),
            _ => {
                // One more tells whether there are older ones.
                let limit = query.limit.saturating_add(1);
                self.read(move |history| history.find(&RunQuery { limit, ..query }))
                    .await?
            }
        };
        let known: Vec<RunId> = runs.iter().map(|record| record.run).collect();
        let mut all: Vec<(RunId, Run)> = runs
            .drain(..)
            .map(|record| (record.run, view::record(record)))
            .collect();
        let fresh = running.iter().filter(|facts| !known.contains(&facts.run));
        all.extend(fresh.map(|facts| (facts.run, view::run(facts))));
        all.sort_unstable_by_key(|(run, _)| std::cmp::Reverse(*run));
        let more = all.len() > most;
        all.truncate(most);
        let before = all.last().filter(|_| more).map(|(run, _)| run.to_string());
        let runs = all.into_iter().map(|(_, run)| run).collect();
        Ok(Runs { runs, before })
    }

    /// A run with the end of what it wrote.
    pub async fn run(&self, run: RunId) -> Result<RunDetail, RequestRefusal> {
        if let Some(facts) = self.going_on().await?.into_iter().find(|facts| facts.run == run) {
            let written = self.requests.ask(|reply| DaemonRequest::Output(run, reply)).await?;
            // Without one it has ended just now, or is one of the last daemon, whose output went to no one.
            if let Some(written) = written {
                let run = Run {
                    log_ended: written.log_ended,
                    ..view::run(&facts)
                };
                return Ok(view::detail(run, &written.tail, written.total as u64));
            }
            if let Some(detail) = self.ended(run).await? {
                return Ok(detail);
            }
            return Ok(view::detail(view::run(&facts), &[], 0));
        }
        let unknown = || {
            RequestRefusal::new(StatusCode::NOT_FOUND, format!("there is no run {run}"))
                .help("`twitcher history` shows those that are remembered; the oldest are forgotten")
        };
        self.ended(run).await?.ok_or_else(unknown)
    }

    /// The last runs of a watch, with those that go on.
    pub async fn of_watch(&self, watch: &str, limit: u32) -> Result<Vec<Run>, RequestRefusal> {
        let query = RunQuery {
            watch: Some(watch.to_owned()),
            limit,
            ..RunQuery::default()
        };
        Ok(self.runs(query).await?.runs)
    }

    async fn going_on(&self) -> Result<Vec<RunFacts>, Unanswered> {
        self.requests.ask(DaemonRequest::Running).await
    }

    async fn ended(&self, run: RunId) -> Result<Option<RunDetail>, RequestRefusal> {
        let read = move |history: &History| {
            let Some(record) = history.run(run)? else {
                return Ok(None);
            };
            Ok(Some((record, history.output(run)?)))
        };
        let found = self.read(read).await?;
        Ok(found.map(|(record, tail)| {
            let total = record.output_bytes;
            view::detail(view::record(record), &tail, total)
        }))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&History) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, RequestRefusal> {
        let history = self.history.clone();
        let read = move || {
            history.catch_up();
            read(&history)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(result) => Ok(result?),
            // The server ends.
            Err(_) => Err(Unanswered::Gone.into()),
        }
    }
}
