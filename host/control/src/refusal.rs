//! Why a request is not carried out: each reason with its status code and its words.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api::Problem;
use super::daemon_requests::{FleetRefused, Refused, Unanswered};
use super::view::quoted;
use twitcher_state::HistoryError;

/// An answer of status 4xx or 5xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRefusal {
    status: StatusCode,
    problem: Problem,
    /// Methods that would be allowed.
    allow: Option<&'static str>,
}

impl RequestRefusal {
    /// With a reason.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error = error.into();
        Self {
            status,
            problem: Problem { error, help: None },
            allow: None,
        }
    }

    /// And with what can be done about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.problem.help = Some(help.into());
        self
    }

    /// The method is none of those.
    pub fn method(allow: &'static str, error: impl Into<String>) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, error)
        }
    }

    /// No watch has this name.
    pub fn no_watch(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no watch {name:?}"))
            .help("`twitcher status --all` shows all watches")
    }

    /// Why an order was not carried out.
    pub fn order(name: &str, refused: Refused) -> Self {
        let conflict = |error: String| Self::new(StatusCode::CONFLICT, error);
        let resume = format!("let it go on with `twitcher resume {}`", quoted(name));
        let unavailable = |error: String| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
                .help("`twitcher status` shows whether there is a connection; try again when there is")
        };
        match refused {
            Refused::Unknown => Self::no_watch(name),
            Refused::Retired => conflict(format!("watch {name:?} was removed from the configuration")),
            Refused::Draining => Self::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
            Refused::Paused => {
                conflict(format!("watch {name:?} is paused, and nothing is run for it meanwhile")).help(resume)
            }
            Refused::Parked => conflict(format!("watch {name:?} is parked, because a run failed")).help(resume),
            Refused::Running => conflict(format!(
                "the action of watch {name:?} is running, and in DISCARD nothing else is run for meanwhile"
            ))
            .help(format!(
                "wait for its end; `twitcher status {}` shows how far it is",
                quoted(name)
            )),
            Refused::Absent => conflict(format!("the node of watch {name:?} does not exist"))
                .help("there is nothing to run for, unless on_delete is True"),
            Refused::Empty => conflict(format!(
                "the node of watch {name:?} is empty, and refuse_empty says that this is not ready"
            ))
            .help("set the node's data"),
            Refused::Disconnected => unavailable(format!(
                "there is no connection to what is watched: the node of watch {name:?} cannot be read, and nothing is run"
            )),
            Refused::Rollout => conflict(format!("watch {name:?} has a rollout, which says when it runs"))
                .help("`twitcher fleet status` shows it; --ungoverned passes it by, on this host alone"),
            Refused::Unread => unavailable(format!(
                "the node of watch {name:?} could not be read in time, and nothing is run"
            )),
        }
    }

    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Unanswered> for RequestRefusal {
    fn from(unanswered: Unanswered) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, unanswered.to_string())
    }
}

impl From<FleetRefused> for RequestRefusal {
    fn from(refused: FleetRefused) -> Self {
        match refused {
            FleetRefused::NoFleet => Self::new(StatusCode::NOT_FOUND, "this daemon is in no fleet")
                .help("start it with --fleet /PATH; see `twitcher help fleet`"),
            FleetRefused::Unreadable(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
                .help("`twitcher status` shows whether there is a connection"),
            FleetRefused::Spoilt(why, gate) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, why).help(FleetRefused::heals(&gate))
            }
            FleetRefused::Unknown(name) => Self::new(
                StatusCode::NOT_FOUND,
                format!("no host of the fleet has published anything about a watch or znode {name:?}"),
            )
            .help("`twitcher fleet status` shows what there is; a watch with publish = False is not published"),
            FleetRefused::NoHost(name) => Self::new(
                StatusCode::NOT_FOUND,
                format!("the fleet has no host {}", quoted(&name)),
            )
            .help("`twitcher fleet hosts` lists them"),
            FleetRefused::HoldsSlot(host, rollout) => Self::new(
                StatusCode::CONFLICT,
                format!("the host {} holds a slot of the rollout {}: its action may still run", quoted(&host), quoted(&rollout)),
            )
            .help(format!("once it does not, `twitcher fleet release {} {}`", quoted(&host), quoted(&rollout))),
            FleetRefused::NoRollout(name) => Self::new(
                StatusCode::NOT_FOUND,
                format!("the fleet has no rollout {}", quoted(&name)),
            )
            .help("`twitcher fleet status` shows which there are"),
            FleetRefused::NotNow(rollout, why) => Self::new(
                StatusCode::CONFLICT,
                format!("rollout {}: {why}", quoted(&rollout)),
            )
            .help(format!("`twitcher fleet status {}` shows how it stands", quoted(&rollout))),
            FleetRefused::NotForgotten(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, why).help(
                "what a host has made with credentials only it may delete, or who administers ZooKeeper; see `twitcher help fleet`",
            ),
            FleetRefused::Live(name) => Self::new(
                StatusCode::CONFLICT,
                format!("the host {} is in the fleet: its daemon is connected", quoted(&name)),
            )
            .help("stop its daemon, or start it without --fleet; where it has crashed a moment ago, try again once its session has expired"),
        }
    }
}

impl From<HistoryError> for RequestRefusal {
    fn from(error: HistoryError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .help("the daemon's log says what is wrong with its state directory")
    }
}

impl IntoResponse for RequestRefusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if let Some(allow) = self.allow {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}
