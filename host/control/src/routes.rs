//! What can be asked for, and how. It must not know how requests come in, nor who may make them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Extensions, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use bytes::{Buf, Bytes};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::App;
use super::access_control::Peer;
use super::api::{
    Definition, Definitions, Forgotten, Laggards, Reloaded, RolloutStatus, Rollouts, RunDetail, Runs, STATES, Started,
    States, Status, WatchDetail, WatchState, WatchSummary, Watches,
};
use super::daemon_requests::{DaemonRequest, FleetRefused, Order, RolloutOrder};
use super::definition::definition;
use super::disclosure::Shown;
use super::events;
use super::fleet_cache;
use super::refusal::RequestRefusal;
use super::{openapi, page, settings, view};
use twitcher_model::{Outcome, RunId};
use twitcher_state::RunQuery;

/// Most runs in one answer.
pub const MOST_RUNS: u32 = 1000;
/// Runs in an answer where nobody says how many.
pub const USUAL_RUNS: u32 = 100;
/// Longest reason for a pause, in bytes.
pub const REASON_MAX: usize = 1000;
/// Runs in the detail of a watch.
const DETAIL_RUNS: u32 = 10;

/// The methods of a route.
pub const READ: &str = "GET, HEAD";
/// The same of one that does something.
pub const DO: &str = "POST";

/// Every route: its path, its methods, and what answers it. What is served where is up to [`super::access_control`].
pub fn all() -> Vec<(&'static str, &'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/", READ, get(page::serve)),
        ("/healthz", READ, get(alive)),
        ("/readyz", READ, get(ready)),
        ("/metrics", READ, get(metrics)),
        ("/v1/openapi.json", READ, get(openapi::serve)),
        ("/v1/status", READ, get(status)),
        ("/v1/overview", READ, get(overview)),
        ("/v1/states", READ, get(states)),
        ("/v1/watches", READ, get(watches)),
        ("/v1/watches/{name}", READ, get(watch)),
        ("/v1/definitions", READ, get(definitions)),
        ("/v1/runs", READ, get(runs)),
        ("/v1/runs/{id}", READ, get(run)),
        ("/v1/fleet", READ, get(fleet)),
        ("/v1/fleet/laggards", READ, get(laggards)),
        ("/v1/fleet/hosts/{name}/forget", DO, post(forget)),
        ("/v1/fleet/rollouts", READ, get(rollouts)),
        ("/v1/fleet/rollouts/{name}", READ, get(rollout)),
        ("/v1/fleet/rollouts/{name}/pause", DO, order_of(|| RolloutOrder::Pause)),
        (
            "/v1/fleet/rollouts/{name}/resume",
            DO,
            order_of(|| RolloutOrder::Resume),
        ),
        (
            "/v1/fleet/rollouts/{name}/promote",
            DO,
            order_of(|| RolloutOrder::Promote),
        ),
        ("/v1/fleet/rollouts/{name}/abort", DO, order_of(|| RolloutOrder::Abort)),
        ("/v1/fleet/rollouts/{name}/retry", DO, order_of(|| RolloutOrder::Retry)),
        (
            "/v1/fleet/rollouts/{name}/rollback",
            DO,
            order_of(|| RolloutOrder::Rollback),
        ),
        ("/v1/fleet/rollouts/{name}/release", DO, post(release)),
        ("/v1/events", READ, get(events::serve)),
        ("/v1/watches/{name}/run", DO, post(run_now)),
        ("/v1/watches/{name}/pause", DO, post(pause)),
        ("/v1/watches/{name}/resume", DO, post(resume)),
        ("/v1/reload", DO, post(reload)),
        ("/v1/drain", DO, post(drain)),
    ]
}

/// All of it as a service.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, methods, route) in all() {
        let refuse = move || async move { RequestRefusal::method(methods, format!("{path} is for {methods}")) };
        router = router.route(path, route.fallback(refuse));
    }
    let unknown = || async { RequestRefusal::new(StatusCode::NOT_FOUND, "no such path").help("see /v1/openapi.json") };
    router.fallback(unknown).with_state(app)
}

type Answer<T> = Result<Json<T>, RequestRefusal>;
type Parameter = Result<Path<String>, PathRejection>;

/// A part of the path.
fn parameter(path: Parameter) -> Result<String, RequestRefusal> {
    let Path(text) = path.map_err(|rejection| RequestRefusal::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    Ok(text)
}

/// The part behind the question mark.
pub fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, RequestRefusal> {
    let Query(query) =
        query.map_err(|rejection| RequestRefusal::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    Ok(query)
}

async fn status(State(app): State<Arc<App>>, shown: Shown) -> Answer<Status> {
    let snapshot = app.snapshots.newest().await?;
    let overview = app.requests.ask(DaemonRequest::Overview).await?;
    Ok(Json(shown.status(app.status(overview, snapshot.counts.clone()))))
}

/// Of all watches there is JSON already, to which the status is put.
async fn overview(State(app): State<Arc<App>>, shown: Shown) -> Result<Response, RequestRefusal> {
    let snapshot = app.snapshots.newest().await?;
    let overview = app.requests.ask(DaemonRequest::Overview).await?;
    let status = shown.status(app.status(overview, snapshot.counts.clone()));
    // The type has no value that cannot be written as JSON.
    let status = serde_json::to_vec(&status).unwrap_or_default();
    let head = Bytes::from([b"{\"status\":", &*status, b","].concat());
    let mut watches = snapshot.json(shown);
    watches.advance(1);
    let parts = [head, watches].map(Ok::<_, Infallible>);
    let body = Body::from_stream(tokio_stream::iter(parts));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn states() -> Json<States> {
    Json(States { states: &STATES })
}

/// Which watches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichWatches {
    state: Option<WatchState>,
    search: Option<String>,
}

async fn watches(
    State(app): State<Arc<App>>,
    shown: Shown,
    query: Result<Query<WhichWatches>, QueryRejection>,
) -> Result<Response, RequestRefusal> {
    let which = parameters(query)?;
    let search = which.search.unwrap_or_default().to_lowercase();
    let snapshot = app.snapshots.newest().await?;
    if which.state.is_none() && search.is_empty() {
        return Ok(([(header::CONTENT_TYPE, "application/json")], snapshot.json(shown)).into_response());
    }
    // What is not shown cannot be guessed by searching for it either.
    let described = shown == Shown::Everything;
    let watches = snapshot.watches.iter().filter(|watched| {
        let watch = &watched.watch;
        which.state.is_none_or(|state| state == view::state(watched))
            && [Some(&*watch.name), described.then_some(&*watch.description)]
                .into_iter()
                .flatten()
                .chain(watch.znodes().map(|znode| znode.as_str()))
                .any(|text| text.to_lowercase().contains(&search))
    });
    let watches = watches.map(|watched| shown.summary(watched)).collect();
    Ok(Json(Watches { watches }).into_response())
}

async fn definitions(State(app): State<Arc<App>>, extensions: Extensions) -> Answer<Definitions> {
    if extensions.get::<Peer>().is_none() {
        let error = "what watches are defined as is not told here: the digests are of secrets, too";
        let help = "use the Unix socket, as `twitcher check --against` does";
        return Err(RequestRefusal::new(StatusCode::FORBIDDEN, error).help(help));
    }
    let snapshot = app.snapshots.newest().await?;
    let digests = spawn_blocking(move || {
        let live = snapshot
            .watches
            .iter()
            .filter(|watched| view::state(watched) != WatchState::Retired);
        live.map(|watched| Definition {
            name: watched.watch.name.to_string(),
            digest: definition(&watched.watch),
        })
        .collect()
    });
    let failed = |_| {
        RequestRefusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the watches cannot be looked at just now",
        )
    };
    Ok(Json(Definitions {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        watches: digests.await.map_err(failed)?,
    }))
}

async fn watch(State(app): State<Arc<App>>, shown: Shown, name: Parameter) -> Answer<WatchDetail> {
    let name = parameter(name)?;
    let watched = app
        .requests
        .ask(|reply| DaemonRequest::Watch(name.clone(), reply))
        .await?;
    let watched = watched.ok_or_else(|| RequestRefusal::no_watch(&name))?;
    let limit = DETAIL_RUNS
        .saturating_add(watched.running.len().try_into().unwrap_or(u32::MAX))
        .min(MOST_RUNS);
    Ok(Json(shown.watch(WatchDetail {
        command: view::command(&watched.watch),
        settings: settings::settings(&watched.watch),
        runs: app.runs.of_watch(&name, limit).await?,
        watch: shown.summary(&watched),
        withheld: false,
    })))
}

/// How much of the fleet, and how old it may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichFleet {
    watches: Option<bool>,
    max_age: Option<u32>,
}

async fn fleet(
    State(app): State<Arc<App>>,
    shown: Shown,
    query: Result<Query<WhichFleet>, QueryRejection>,
    extensions: Extensions,
) -> Result<Response, RequestRefusal> {
    let which = parameters(query)?;
    let age = fleet_cache::age(&extensions, which.max_age)?;
    let with_watches = which.watches.unwrap_or(true);
    let read = app.fleet.fleet(&app.requests, with_watches, age).await?;
    Ok(read.answer(shown, Shown::fleet))
}

/// Whose laggards.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichLaggards {
    of: Option<String>,
}

async fn laggards(
    State(app): State<Arc<App>>,
    shown: Shown,
    query: Result<Query<WhichLaggards>, QueryRejection>,
) -> Answer<Laggards> {
    let of = parameters(query)?.of;
    let asked = app.requests.survey(|reply| DaemonRequest::Laggards(of, reply));
    Ok(Json(shown.laggards(asked.await??)))
}

async fn forget(State(app): State<Arc<App>>, name: Parameter, extensions: Extensions) -> Answer<Forgotten> {
    let (name, by) = (parameter(name)?, who(&extensions).await);
    let asked = app.requests.survey(|reply| DaemonRequest::Forget(name, by, reply));
    Ok(Json(asked.await??))
}

/// A selection of runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichRuns {
    watch: Option<String>,
    outcome: Option<String>,
    limit: Option<u32>,
    before: Option<String>,
}

async fn runs(
    State(app): State<Arc<App>>,
    shown: Shown,
    query: Result<Query<WhichRuns>, QueryRejection>,
) -> Answer<Runs> {
    let which = parameters(query)?;
    let limit = which.limit.unwrap_or(USUAL_RUNS);
    if !(1..=MOST_RUNS).contains(&limit) {
        return Err(RequestRefusal::new(
            StatusCode::BAD_REQUEST,
            format!("limit is from 1 to {MOST_RUNS}"),
        ));
    }
    if which
        .outcome
        .as_deref()
        .is_some_and(|outcome| !Outcome::ASKED_FOR.contains(&outcome))
    {
        let known = Outcome::ASKED_FOR.join(", ");
        return Err(RequestRefusal::new(
            StatusCode::BAD_REQUEST,
            format!("outcome is one of {known}"),
        ));
    }
    let before = which.before.map(|text| run_id(&text)).transpose()?;
    let query = RunQuery {
        watch: which.watch,
        outcome: which.outcome,
        before,
        limit,
    };
    let mut found = app.runs.runs(query).await?;
    shown.runs(&mut found.runs);
    Ok(Json(found))
}

async fn run(State(app): State<Arc<App>>, shown: Shown, id: Parameter) -> Answer<RunDetail> {
    let id = run_id(&parameter(id)?)?;
    Ok(Json(shown.run(app.runs.run(id).await?)))
}

fn run_id(text: &str) -> Result<RunId, RequestRefusal> {
    text.parse().map_err(|error| {
        RequestRefusal::new(StatusCode::BAD_REQUEST, format!("{error}"))
            .help("`twitcher history` shows runs with their ids")
    })
}

/// How a watch is run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HowRun {
    #[serde(default)]
    ungoverned: bool,
}

async fn run_now(
    State(app): State<Arc<App>>,
    name: Parameter,
    query: Result<Query<HowRun>, QueryRejection>,
) -> Answer<Started> {
    let HowRun { ungoverned } = parameters(query)?;
    let done = order(&app, parameter(name)?, Order::Run { ungoverned }).await?;
    Ok(Json(Started {
        run: done.run.map(|run| run.to_string()),
        watch: view::summary(&done.watch),
    }))
}

/// How a watch is paused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HowPaused {
    reason: Option<String>,
}

async fn pause(
    State(app): State<Arc<App>>,
    name: Parameter,
    query: Result<Query<HowPaused>, QueryRejection>,
    extensions: Extensions,
) -> Answer<WatchSummary> {
    let reason = parameters(query)?.reason.filter(|reason| !reason.is_empty());
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_MAX) {
        let error = format!("the reason is longer than {REASON_MAX} bytes");
        return Err(RequestRefusal::new(StatusCode::BAD_REQUEST, error));
    }
    let by = who(&extensions).await;
    let done = order(&app, parameter(name)?, Order::Pause { by, reason }).await?;
    Ok(Json(view::summary(&done.watch)))
}

/// Who makes the request, where that is known.
async fn who(extensions: &Extensions) -> Option<String> {
    let peer = extensions.get::<Peer>().copied()?;
    spawn_blocking(move || peer.name()).await.ok()
}

async fn resume(State(app): State<Arc<App>>, name: Parameter) -> Answer<WatchSummary> {
    let done = order(&app, parameter(name)?, Order::Resume).await?;
    Ok(Json(view::summary(&done.watch)))
}

async fn order(app: &App, name: String, order: Order) -> Result<super::daemon_requests::Done, RequestRefusal> {
    let done = app
        .requests
        .ask(|reply| DaemonRequest::Order(name.clone(), order, reply))
        .await?;
    done.map_err(|refused| RequestRefusal::order(&name, refused))
}

/// How old an answer may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HowOld {
    max_age: Option<u32>,
}

async fn rollouts(
    State(app): State<Arc<App>>,
    shown: Shown,
    query: Result<Query<HowOld>, QueryRejection>,
    extensions: Extensions,
) -> Result<Response, RequestRefusal> {
    let age = fleet_cache::age(&extensions, parameters(query)?.max_age)?;
    let read = app.fleet.rollouts(&app.requests, age).await?;
    Ok(read.answer(shown, Shown::rollouts))
}

async fn rollout(
    State(app): State<Arc<App>>,
    shown: Shown,
    name: Parameter,
    query: Result<Query<HowOld>, QueryRejection>,
    extensions: Extensions,
) -> Answer<RolloutStatus> {
    let name = parameter(name)?;
    let age = fleet_cache::age(&extensions, parameters(query)?.max_age)?;
    let read = match age.is_zero() {
        true => None,
        false => Some(app.fleet.rollouts(&app.requests, age).await?),
    };
    // Why one of them cannot be read is found out by reading it.
    let is_broken = |found: &Rollouts| found.broken.iter().any(|broken| broken.name == name);
    if let Some(read) = read.filter(|read| !is_broken(&read.value)) {
        let mut found = Rollouts {
            at: read.value.at,
            rollouts: Vec::new(),
            broken: Vec::new(),
        };
        let named = read.value.rollouts.iter().find(|rollout| rollout.name == name);
        found.rollouts.extend(named.cloned());
        return one_rollout(shown.rollouts(found), name);
    }
    let found = app
        .requests
        .survey(|reply| DaemonRequest::Rollouts(Some(name.clone()), reply))
        .await??;
    one_rollout(shown.rollouts(found), name)
}

/// What is answered of a single one.
fn one_rollout(mut found: Rollouts, name: String) -> Answer<RolloutStatus> {
    let found = found.rollouts.pop();
    Ok(Json(found.ok_or(FleetRefused::NoRollout(name))?))
}

fn order_of(order: fn() -> RolloutOrder) -> MethodRouter<Arc<App>> {
    post(
        async move |State(app): State<Arc<App>>, name: Parameter, extensions: Extensions| {
            order_rollout(&app, parameter(name)?, order(), &extensions).await
        },
    )
}

/// Whose slot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    host: String,
}

async fn release(
    State(app): State<Arc<App>>,
    name: Parameter,
    query: Result<Query<Whose>, QueryRejection>,
    extensions: Extensions,
) -> Answer<RolloutStatus> {
    let Whose { host } = parameters(query)?;
    order_rollout(&app, parameter(name)?, RolloutOrder::Release(host), &extensions).await
}

async fn order_rollout(app: &App, name: String, order: RolloutOrder, extensions: &Extensions) -> Answer<RolloutStatus> {
    let by = who(extensions).await;
    let done = app
        .requests
        .survey(|reply| DaemonRequest::RolloutOrder(name.clone(), order, by, reply))
        .await??;
    one_rollout(done, name)
}

async fn reload(State(app): State<Arc<App>>) -> Answer<Reloaded> {
    let reloaded = app.requests.reload().await?;
    Ok(Json(reloaded))
}

async fn drain(State(app): State<Arc<App>>) -> Answer<Status> {
    // First: where nothing runs there is nobody left to ask afterwards.
    let snapshot = app.snapshots.newest().await?;
    let overview = app.requests.ask(DaemonRequest::Drain).await?;
    Ok(Json(app.status(overview, snapshot.counts.clone())))
}

async fn alive(State(app): State<Arc<App>>) -> Result<&'static str, RequestRefusal> {
    match app.requests.is_alive().await {
        true => Ok("ok\n"),
        false => Err(RequestRefusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon's loop has not answered within a second",
        )),
    }
}

async fn ready(State(app): State<Arc<App>>) -> Result<String, RequestRefusal> {
    let overview = app.requests.ask(DaemonRequest::Overview).await?;
    match super::readiness::unready(&overview) {
        // A daemon that does all it can is ready; but whoever looks should know.
        None if overview.unreadable > 0 => Ok(format!(
            "ready; but of {} the nodes, or parts of them, cannot be read: twitcher status --state unreadable\n",
            match overview.unreadable {
                1 => "1 watch".to_owned(),
                count => format!("{count} watches"),
            }
        )),
        None => Ok("ready\n".to_owned()),
        Some(why) => Err(RequestRefusal::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Result<Response, RequestRefusal> {
    let snapshot = app.snapshots.newest().await?;
    let overview = app.requests.ask(DaemonRequest::Overview).await?;
    let text = super::metrics::text(&app.metrics, &overview, &snapshot);
    Ok((
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response())
}
