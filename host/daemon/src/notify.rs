//! What the daemon tells those who do not ask: the service manager, those who follow the events, and the counters.

use tracing::warn;

use super::service_manager::ServiceManager;
use super::{Daemon, SourceOptions};
use twitcher_control::daemon_requests::Refused;
use twitcher_control::unready;
use twitcher_model::EventKind;
use twitcher_observe::metrics::raise;

impl Daemon {
    pub(super) fn on_connection(&mut self) {
        let connection = self.source.connection.borrow_and_update().clone();
        self.happened_to_all(EventKind::Source, || match (connection.connected, connection.problem) {
            (true, _) => "connected".to_owned(),
            (false, Some(problem)) => format!("not connected: {problem}"),
            (false, None) => "not connected".to_owned(),
        });
        if !self.source.connection.borrow().connected {
            self.refuse_all_runs(Refused::Disconnected);
        }
        self.say_status();
    }

    /// Tells the service manager. That it cannot be told is no reason to stop.
    pub(super) fn tell_service(&mut self, tell: impl FnOnce(&mut ServiceManager) -> std::io::Result<()>) {
        if let Err(error) = tell(&mut self.service) {
            warn!(%error, "cannot tell the service manager");
        }
    }

    pub(super) fn say_status(&mut self) {
        let overview = self.overview();
        let status = unready(&overview).unwrap_or_else(|| {
            let problems = if overview.config.errors.is_empty() {
                ""
            } else {
                "; the configuration has errors"
            };
            let unreadable = match overview.unreadable {
                0 => String::new(),
                count => format!(", {count} unreadable"),
            };
            format!(
                "{} watches armed{unreadable}, {} running{problems}",
                self.registry.len(),
                overview.running
            )
        });
        self.tell_service(|service| service.status(status));
    }

    pub(super) fn count_what_others_count(&self) {
        let metrics = &self.metrics;
        raise(&metrics.log_lines_dropped, self.log.dropped());
        raise(&metrics.component_loads.with_label_values(&["hit"]), self.cache.hits());
        raise(
            &metrics.component_loads.with_label_values(&["miss"]),
            self.cache.misses(),
        );
        let warm = self.launches.warm();
        raise(&metrics.warm_runs.with_label_values(&["yes"]), warm.ready());
        raise(&metrics.warm_runs.with_label_values(&["no"]), warm.unready());
        raise(&metrics.warm_ended, warm.ended());
        if let SourceOptions::ZooKeeper(options) = &self.options.source {
            let stats = &options.stats;
            raise(&metrics.source_sessions, stats.sessions());
            raise(&metrics.source_disconnects, stats.lost());
            raise(&metrics.source_expirations, stats.ended());
            raise(&metrics.sweep_repairs, stats.stuck());
        }
    }
}
