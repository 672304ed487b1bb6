//! The commands that ask about the fleet.

use super::Session;
use super::client::query;
use super::error::OperateError;
use super::view;
use crate::args::{FleetCommand, LaggardsArguments, exit};
use twitcher_control::api::{Fleet, Laggards};

impl Session {
    pub(super) fn fleet(&self, command: &FleetCommand) -> Result<u8, OperateError> {
        match command {
            FleetCommand::Status(_) => self.fleet_status(),
            FleetCommand::Laggards(arguments) => self.laggards(arguments),
        }
    }

    /// `fleet status`
    fn fleet_status(&self) -> Result<u8, OperateError> {
        let answer = self.client.get("/v1/fleet")?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view::fleet(&answer.parse::<Fleet>()?, &self.look))?,
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
