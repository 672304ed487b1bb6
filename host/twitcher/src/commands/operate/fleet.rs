//! The commands that ask about the fleet.

use std::time::Duration;

use super::Session;
use super::client::{path, query};
use super::error::OperateError;
use super::theme::Theme;
use super::view;
use crate::args::{FleetCommand, ForgetArguments, LaggardsArguments, exit};
use twitcher_control::api::{Fleet, Forgotten, Laggards};

/// How long the daemon may take to have a host forgotten.
const PATIENCE: Duration = Duration::from_secs(30);

impl Session {
    pub(super) fn fleet(&self, command: &FleetCommand) -> Result<u8, OperateError> {
        match command {
            FleetCommand::Status(_) => self.whole_fleet(view::fleet),
            FleetCommand::Hosts(_) => self.whole_fleet(view::hosts),
            FleetCommand::Laggards(arguments) => self.laggards(arguments),
            FleetCommand::Forget(arguments) => self.forget(arguments),
        }
    }

    /// `fleet status` and `fleet hosts`
    fn whole_fleet(&self, view: fn(&Fleet, &Theme) -> String) -> Result<u8, OperateError> {
        let answer = self.client.get("/v1/fleet")?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view(&answer.parse()?, &self.look))?,
        }
        Ok(exit::SUCCESS)
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
