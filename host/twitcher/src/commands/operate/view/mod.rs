//! The interface's types as text for people: pure functions, so that how it looks is tested without a daemon.
//!
//! What comes from znodes, actions and files is made harmless here, and nowhere before: JSON is printed as it is.

mod events;
mod fleet;
mod orders;
mod rollouts;
mod runs;
mod status;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use events::event;
pub(super) use fleet::{fleet, forgotten, hosts, laggards};
pub(super) use orders::{drained, draining, held, reloaded, started};
pub(super) use rollouts::{rollout, rollouts};
pub(super) use runs::{output, runs};
pub(super) use status::{Shown, of_znode, status};
pub(super) use watch::watch;

use super::theme::Theme;
use twitcher_model::sanitize;

/// Widths of terminals from which on there is room for more columns.
const MEDIUM: u16 = 72;
const WIDE: u16 = 100;

fn is_at_least(look: &Theme, width: u16) -> bool {
    look.width.is_none_or(|has| has >= width)
}

/// A name as a shell takes it.
pub(super) fn quoted(name: &str) -> String {
    let name = sanitize::line(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+,".contains(c);
    match name.chars().all(plain) && !name.is_empty() && !name.starts_with('-') {
        true => name,
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}
