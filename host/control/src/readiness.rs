//! Whether the daemon does its work: what `/readyz` and the service manager are told.

use super::api::Phase;
use super::facts::Overview;

/// Why the daemon is not ready; none if it is.
pub fn unready(overview: &Overview) -> Option<String> {
    let source = &overview.source;
    if overview.phase == Phase::Draining {
        Some("the daemon is stopping".to_owned())
    } else if !source.connected {
        let problem = source.problem.as_ref().map(|problem| format!(": {problem}"));
        Some(format!(
            "not connected to {}{}",
            source.target,
            problem.unwrap_or_default()
        ))
    } else if overview.config.loaded.is_none() {
        Some("the configuration has not been loaded yet".to_owned())
    } else if !overview.armed {
        Some("not every watch is armed yet".to_owned())
    } else {
        None
    }
}
