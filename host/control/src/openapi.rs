//! What the interface is, for programs: OpenAPI 3.1. The paths are written here; the schemas are those of the types in [`super::api`].

use std::sync::LazyLock;

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::api::{
    Definitions, Event, Fleet, Forgotten, Laggards, Overview, Problem, Reloaded, RolloutStatus, Rollouts, RunDetail,
    Runs, Started, States, Status, WatchDetail, WatchState, WatchSummary, Watches,
};
use super::fleet_cache::MAX_AGE;
use super::routes::{MOST_RUNS, REASON_MAX, USUAL_RUNS};
use twitcher_model::Outcome;

/// `/v1/openapi.json`.
pub(super) async fn serve() -> Json<&'static Value> {
    // Always the same.
    static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
    Json(&DOCUMENT)
}

/// The description of the whole interface.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let paths = paths(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Twitcher's control interface",
            "version": "1",
            "description": "On a Unix socket for operators; on TCP, if that is asked for, without what changes anything.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.take_definitions(true)},
    })
}

fn paths(schemas: &mut SchemaGenerator) -> Value {
    let name = json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
        "description": "Name of a watch."});
    let rollout = json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
        "description": "Name of a rollout."});
    let host = json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
        "description": "Name of a host."});
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[0-9a-f][0-9a-hj-km-np-tv-z]{12}$"},
        "description": "Id of a run."});
    let query = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "description": description, "schema": schema});
    let max_age = query(
        "max_age",
        "The answer may be so many seconds old; on TCP it may always be two, and more where the fleet takes long to read.",
        json!({"type": "integer", "minimum": 0, "maximum": MAX_AGE, "default": 0}),
    );
    let text = || json!({"type": "string"});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": MOST_RUNS, "default": USUAL_RUNS});
    let before = json!({"type": "string", "pattern": "^[0-9a-f][0-9a-hj-km-np-tv-z]{12}$"});
    let state = schemas.subschema_for::<WatchState>().to_value();
    let mut s = Describer { schemas };
    json!({
        "/": {"get": s.text("status_page", "The status page.", "text/html", &[], &[])},
        "/healthz": {"get": s.text("health", "Whether the daemon's loop turns.", "text/plain", &[], &[503])},
        "/readyz": {"get": s.text("readiness", "Whether the source is connected and every watch armed; and whether nodes cannot be read, which is no reason not to be ready.", "text/plain", &[], &[503])},
        "/metrics": {"get": s.text("metrics", "Metrics in Prometheus' text format.", "text/plain", &[], &[503])},
        "/v1/openapi.json": {"get": s.other("openapi", "This description.", "application/json", json!({"type": "object"}), &[], &[])},
        "/v1/status": {"get": s.json::<Status>("status", "The daemon as a whole.", &[], &[503])},
        "/v1/overview": {"get": s.json::<Overview>("overview", "The daemon as a whole with all its watches, as they were at the same time.", &[], &[503])},
        "/v1/states": {"get": s.json::<States>("states", "What is said of each state of a watch.", &[], &[])},
        "/v1/watches": {"get": s.json::<Watches>("watches", "All watches, or some.", &[
            query("state", "Only those in this state.", state),
            query("search", "Only those that have this in their name, znode or description, in any case.", text()),
        ], &[400, 503])},
        "/v1/watches/{name}": {"get": s.json::<WatchDetail>("watch", "A watch with its last runs.", std::slice::from_ref(&name), &[400, 404, 503])},
        "/v1/definitions": {"get": s.json::<Definitions>("definitions", "What the watches are defined as, to be compared with other definitions. Only on the Unix \
            socket.", &[], &[403, 503])},
        "/v1/runs": {"get": s.json::<Runs>("runs", "Runs, those that go on among them; the newest first.", &[
            query("watch", "Only those of this watch.", text()),
            query("outcome", "Only those that ended so, or that are running.", json!({"type": "string", "enum": Outcome::ASKED_FOR})),
            query("limit", "Most runs in the answer.", limit),
            query("before", "Only older ones than this: `before` of the last answer.", before),
        ], &[400, 503])},
        "/v1/runs/{id}": {"get": s.json::<RunDetail>("run", "A run with the end of what it wrote.", &[id], &[400, 404, 503])},
        "/v1/fleet": {"get": s.json::<Fleet>("fleet", "The hosts of the daemon's fleet, and where each stands with its watches.", &[
            query("watches", "Whether to tell where the hosts stand with each watch, which is most of the answer.", json!({"type": "boolean", "default": true})),
            max_age.clone(),
        ], &[400, 404, 503])},
        "/v1/fleet/laggards": {"get": s.json::<Laggards>("laggards", "The hosts of the fleet that have not handled the last change.", &[
            query("of", "Only those of the watches of this name, or of this znode.", text()),
        ], &[400, 404, 503])},
        "/v1/fleet/hosts/{name}/forget": {"post": s.json::<Forgotten>("forget_host", "Has the fleet forget a host that is not there any more.",
            std::slice::from_ref(&host), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts": {"get": s.json::<Rollouts>("rollouts", "What rolls out in the daemon's fleet.", std::slice::from_ref(&max_age), &[400, 404, 503])},
        "/v1/fleet/rollouts/{name}": {"get": s.json::<RolloutStatus>("rollout", "How a rollout stands.", &[rollout.clone(), max_age],
            &[400, 404, 503])},
        "/v1/fleet/rollouts/{name}/pause": {"post": s.json::<RolloutStatus>("pause_rollout", "No host starts until it is resumed.",
            std::slice::from_ref(&rollout), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts/{name}/resume": {"post": s.json::<RolloutStatus>("resume_rollout", "Lets a rollout go on that is paused or halted; hosts \
            that failed stay as they are.", std::slice::from_ref(&rollout), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts/{name}/promote": {"post": s.json::<RolloutStatus>("promote_rollout", "Lets the next wave go, where one waits for that.",
            std::slice::from_ref(&rollout), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts/{name}/abort": {"post": s.json::<RolloutStatus>("abort_rollout", "Ends a rollout: its change goes no further.",
            std::slice::from_ref(&rollout), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts/{name}/retry": {"post": s.json::<RolloutStatus>("retry_rollout", "Lets a rollout go on, and hosts that failed try again.",
            std::slice::from_ref(&rollout), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts/{name}/rollback": {"post": s.json::<RolloutStatus>("roll_back", "Sets the znode to what all hosts had before, and lets that go out \
            without waves.", std::slice::from_ref(&rollout), &[400, 404, 409, 413, 503])},
        "/v1/fleet/rollouts/{name}/release": {"post": s.json::<RolloutStatus>("release_slot", "Takes back the slot of a host, though its action may \
            still run.", &[rollout.clone(), query("host", "The host.", text())], &[400, 404, 409, 413, 503])},
        "/v1/events": {"get": s.events(&[query("watch", "Only those about this watch, or about none.", text())])},
        "/v1/watches/{name}/run": {"post": s.json::<Started>("run_now", "Runs a watch's action for what its node is now, as its run mode \
            permits.", &[name.clone(), query("ungoverned", "Whether it passes the watch's rollout by, on this host alone.",
                json!({"type": "boolean", "default": false}))], &[400, 404, 409, 413, 503])},
        "/v1/watches/{name}/pause": {"post": s.json::<WatchSummary>("pause", "Holds a watch: updates wait until it is resumed.",
            &[name.clone(), query("reason", "Why; remembered, with who it was, until the watch is resumed.",
                json!({"type": "string", "maxLength": REASON_MAX}))], &[400, 404, 409, 413, 503])},
        "/v1/watches/{name}/resume": {"post": s.json::<WatchSummary>("resume", "Lets a watch go on that is paused or parked, and runs what is unhandled.",
            std::slice::from_ref(&name), &[400, 404, 409, 413, 503])},
        "/v1/reload": {"post": s.json::<Reloaded>("reload", "Loads the configuration, and resumes parked watches. Answered when that \
            is done.", &[], &[413, 503])},
        "/v1/drain": {"post": s.json::<Status>("drain", "Stops the daemon, as SIGTERM does: nothing starts any more, and what \
            still runs at the deadline is terminated. Answered at once.", &[], &[413, 503])},
    })
}

struct Describer<'a> {
    schemas: &'a mut SchemaGenerator,
}

impl Describer<'_> {
    fn json<T: JsonSchema>(&mut self, id: &str, summary: &str, parameters: &[Value], errors: &[u16]) -> Value {
        let schema = self.schemas.subschema_for::<T>().to_value();
        self.other(id, summary, "application/json", schema, parameters, errors)
    }

    fn text(&mut self, id: &str, summary: &str, media: &str, parameters: &[Value], errors: &[u16]) -> Value {
        self.other(id, summary, media, json!({"type": "string"}), parameters, errors)
    }

    fn events(&mut self, parameters: &[Value]) -> Value {
        // What a stream of events consists of OpenAPI cannot say; its readers find it under this name.
        self.schemas.subschema_for::<Event>();
        let last = json!({"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer", "minimum": 0},
            "description": "Goes on after this event."});
        let parameters = [parameters, &[last]].concat();
        let summary = "What happens, as server-sent events that never end; the data of each is an Event.";
        self.other(
            "events",
            summary,
            "text/event-stream",
            json!({"type": "string"}),
            &parameters,
            &[400, 503],
        )
    }

    fn other(
        &mut self,
        id: &str,
        summary: &str,
        media: &str,
        schema: Value,
        parameters: &[Value],
        errors: &[u16],
    ) -> Value {
        let problem = self.schemas.subschema_for::<Problem>().to_value();
        let mut responses = Map::new();
        let content = json!({media: {"schema": schema}});
        responses.insert(
            "200".to_owned(),
            json!({"description": "It is so.", "content": content}),
        );
        for status in errors {
            let content = json!({"application/json": {"schema": problem}});
            let response = json!({"description": "It is not so, or cannot be done.", "content": content});
            responses.insert(status.to_string(), response);
        }
        // What any request may meet with: a wrong method or host, and limits.
        let content = json!({"application/json": {"schema": problem}});
        responses.insert(
            "default".to_owned(),
            json!({"description": "The request is refused.", "content": content}),
        );
        json!({"operationId": id, "summary": summary, "parameters": parameters, "responses": responses})
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routes;

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let document = document();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (path.clone(), method.clone()))
            })
            .collect();
        let served: BTreeSet<(String, String)> = routes::all()
            .iter()
            .map(|(path, methods, _)| {
                let method = if *methods == routes::DO { "post" } else { "get" };
                ((*path).to_owned(), method.to_owned())
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = document();
        let text = document.to_string();
        let named = text
            .split("\"#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        let mut count = 0;
        for name in named {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
            count += 1;
        }
        assert!(count > 30, "{count}");
        assert!(document["components"]["schemas"].get("Event").is_some());
    }
}
