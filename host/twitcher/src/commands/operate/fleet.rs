//! The commands that ask about the fleet.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Session;
use super::client::{Answer, path, query};
use super::error::OperateError;
use super::theme::Theme;
use super::view;
use crate::args::{FleetCommand, ForgetArguments, LaggardsArguments, ReleaseArguments, WaitArguments, exit};
use crate::spinner::Spinner;
use twitcher_control::api::{Fleet, Forgotten, Laggards, RolloutHost, RolloutStatus, Rollouts};
use twitcher_model::sanitize;

/// How long the daemon may take to have a host forgotten.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a rollout is asked about that is waited for.
const EVERY: Duration = Duration::from_millis(500);

/// What `fleet status --json` prints.
#[derive(Serialize)]
struct FleetStatus {
    #[serde(flatten)]
    fleet: Fleet,
    #[serde(flatten)]
    rollouts: Rollouts,
}

/// Whether something is still to happen on a host.
fn is_to_come(host: &RolloutHost) -> bool {
    matches!(host.state.as_str(), "waiting" | "granted" | "acting" | "verifying")
}

impl Session {
    pub(super) fn fleet(&self, command: &FleetCommand) -> Result<u8, OperateError> {
        match command {
            FleetCommand::Status(arguments) => match &arguments.rollout {
                Some(rollout) => self.rollout(rollout),
                None => self.fleet_status(),
            },
            FleetCommand::Pause(arguments) => self.order_rollout(&arguments.rollout, "/pause"),
            FleetCommand::Resume(arguments) => self.order_rollout(&arguments.rollout, "/resume"),
            FleetCommand::Promote(arguments) => self.order_rollout(&arguments.rollout, "/promote"),
            FleetCommand::Abort(arguments) => self.order_rollout(&arguments.rollout, "/abort"),
            FleetCommand::Retry(arguments) => self.order_rollout(&arguments.rollout, "/retry"),
            FleetCommand::Rollback(arguments) => self.order_rollout(&arguments.rollout, "/rollback"),
            FleetCommand::Release(arguments) => self.release(arguments),
            FleetCommand::Wait(arguments) => self.wait_for_rollout(arguments),
            FleetCommand::Hosts(_) => self.whole_fleet(view::hosts),
            FleetCommand::Laggards(arguments) => self.laggards(arguments),
            FleetCommand::Forget(arguments) => self.forget(arguments),
        }
    }

    /// `fleet hosts`
    fn whole_fleet(&self, view: fn(&Fleet, &Theme) -> String) -> Result<u8, OperateError> {
        let answer = self.client.get("/v1/fleet")?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view(&answer.parse()?, &self.look))?,
        }
        Ok(exit::SUCCESS)
    }

    /// `fleet status` without a name
    fn fleet_status(&self) -> Result<u8, OperateError> {
        let fleet = self.client.get("/v1/fleet")?;
        let rollouts = self.client.get("/v1/fleet/rollouts")?;
        if self.out.json {
            let both = FleetStatus {
                fleet: fleet.parse()?,
                rollouts: rollouts.parse()?,
            };
            self.out.json(&serde_json::to_vec(&both).unwrap_or_default())?;
            return Ok(exit::SUCCESS);
        }
        let text = view::rollouts(&rollouts.parse()?, &self.look) + &view::fleet(&fleet.parse()?, &self.look);
        self.out.print(&text)?;
        Ok(exit::SUCCESS)
    }

    /// `fleet status` of one rollout
    fn rollout(&self, rollout: &str) -> Result<u8, OperateError> {
        self.show_rollout(&self.client.get(&path("fleet/rollouts", rollout, ""))?)
    }

    fn show_rollout(&self, answer: &Answer) -> Result<u8, OperateError> {
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view::rollout(&answer.parse()?, &self.look))?,
        }
        Ok(exit::SUCCESS)
    }

    fn order_rollout(&self, rollout: &str, order: &str) -> Result<u8, OperateError> {
        let answer = self.client.post(&path("fleet/rollouts", rollout, order), PATIENCE)?;
        self.show_rollout(&answer)
    }

    /// `fleet release`
    fn release(&self, arguments: &ReleaseArguments) -> Result<u8, OperateError> {
        let rollout = match &arguments.rollout {
            Some(rollout) => rollout.clone(),
            None => {
                let all: Rollouts = self.client.get("/v1/fleet/rollouts")?.parse()?;
                let holds = |rollout: &&RolloutStatus| {
                    rollout
                        .hosts
                        .iter()
                        .any(|host| host.host == arguments.host && host.slot)
                };
                let names: Vec<String> = all
                    .rollouts
                    .iter()
                    .filter(holds)
                    .map(|rollout| rollout.name.clone())
                    .collect();
                match <[String; 1]>::try_from(names) {
                    Ok([rollout]) => rollout,
                    Err(names) => return Err(OperateError::which_rollout(&arguments.host, &names)),
                }
            }
        };
        let order = query("/release", &[("host", Some(&arguments.host))]);
        self.order_rollout(&rollout, &order)
    }

    /// `fleet wait`. Its exit code is an answer.
    fn wait_for_rollout(&self, arguments: &WaitArguments) -> Result<u8, OperateError> {
        let until = arguments.timeout.map(|timeout| Instant::now() + timeout);
        let asked = path("fleet/rollouts", &arguments.rollout, "");
        let spinner = Spinner::new(format!(
            "{}: waiting for it to be done",
            sanitize::line(&arguments.rollout)
        ));
        let answer = loop {
            let answer = self.client.get(&asked).map_err(OperateError::without_answer)?;
            let found = answer.parse::<RolloutStatus>()?;
            // What goes out may still be what the znode was before.
            let is_newest = found.goal.is_some() && found.goal == found.newest;
            // Hosts that come in the meantime get it after it is done.
            let is_under_way = found.hosts.iter().any(|host| host.live && is_to_come(host));
            let is_over = match found.state.as_str() {
                "done" => is_newest && !is_under_way,
                "halted" | "aborted" => is_newest,
                _ => false,
            };
            if is_over || until.is_some_and(|until| Instant::now() >= until) {
                break answer;
            }
            std::thread::sleep(EVERY);
        };
        drop(spinner);
        self.show_rollout(&answer)?;
        let found = answer.parse::<RolloutStatus>()?;
        let have_it = found
            .hosts
            .iter()
            .filter(|host| host.live)
            .all(|host| host.state == "current");
        Ok(match found.state == "done" && found.goal == found.newest && have_it {
            true => exit::SUCCESS,
            false => exit::FAILURE,
        })
    }

    /// `fleet forget`
    fn forget(&self, arguments: &ForgetArguments) -> Result<u8, OperateError> {
        let answer = self
            .client
            .post(&path("fleet/hosts", &arguments.host, "/forget"), PATIENCE)?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view::forgotten(&answer.parse::<Forgotten>()?))?,
        }
        Ok(exit::SUCCESS)
    }

    /// `fleet laggards`. Its exit code is an answer, so a refusal must have another one.
    fn laggards(&self, arguments: &LaggardsArguments) -> Result<u8, OperateError> {
        let asked = query("/v1/fleet/laggards", &[("of", arguments.of.as_deref())]);
        let answer = self.client.get(&asked).map_err(OperateError::without_answer)?;
        let found = answer.parse::<Laggards>()?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view::laggards(&found, &self.look))?,
        }
        Ok(match found.laggards.is_empty() && found.unknown.is_empty() {
            true => exit::SUCCESS,
            false => exit::FAILURE,
        })
    }
}
