//! Values that an action is given and nobody else is shown: what a file holds when a run starts.
//!
//! Here is only which file that is. The value is read for each run, and is nowhere but on its way to the run's process.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A value that is read from a file when a run starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Secret {
    /// What it is a value of.
    pub place: SecretPlace,
    /// Name of the variable or of the setting.
    pub name: String,
    /// The file.
    pub file: Arc<Path>,
}

/// What a secret is a value of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    /// The environment.
    Env,
    /// A component's `config`.
    Config,
}

impl SecretPlace {
    /// The field that it stands in.
    pub fn field(self) -> &'static str {
        match self {
            SecretPlace::Env => "env",
            SecretPlace::Config => "config",
        }
    }
}
