//! The metrics as they are at this moment: what is counted as it happens, and beside it what is only looked at when somebody requests.

use std::time::UNIX_EPOCH;

use super::api::{FleetMembership, RolloutPart, STATES};
use super::facts::Overview;
use super::readiness::unready;
use super::snapshot::Snapshot;
use twitcher_observe::metrics::Metrics;
use twitcher_scheduler::Wait;

/// The metrics as text.
pub fn text(metrics: &Metrics, overview: &Overview, snapshot: &Snapshot) -> Vec<u8> {
    let since = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    metrics.start_time.set(since(overview.started));
    metrics.ready.set(i64::from(unready(overview).is_none()));
    metrics.source_connected.set(i64::from(overview.source.connected));
    metrics.state_writable.set(i64::from(overview.state_problem.is_none()));
    metrics.running.set(number(overview.running));
    metrics.running_max.set(number(overview.max_running));
    metrics
        .warm_processes
        .set(i64::try_from(overview.warm.waiting).unwrap_or(i64::MAX));
    metrics
        .warm_memory
        .set(i64::try_from(overview.warm.held).unwrap_or(i64::MAX));
    metrics.updates_queued.set(number(overview.waiting));
    metrics.last_load_success.set(i64::from(
        overview.config.loaded.is_some() && overview.config.errors.is_empty(),
    ));
    if let Some(loaded) = overview.config.loaded {
        metrics.last_load_time.set(loaded.as_millisecond() as f64 / 1e3);
    }
    // States without any watch are there as well: an alert is over when its series says so.
    for info in &STATES {
        let count = snapshot.counts.iter().find(|count| count.state == info.state);
        let count = count.map_or(0, |count| i64::try_from(count.count).unwrap_or(i64::MAX));
        metrics.watches.with_label_values(&[info.state.name()]).set(count);
    }
    if let Some(fleet) = &overview.fleet {
        let of_all: [&str; 0] = [];
        let connected = metrics.fleet_connected.with_label_values(&of_all);
        connected.set(i64::from(fleet.since.is_some()));
        let unpublished = metrics.fleet_unpublished.with_label_values(&of_all);
        unpublished.set(i64::try_from(fleet.unpublished).unwrap_or(i64::MAX));
        metrics.fleet_publish_lag.with_label_values(&of_all).set(fleet.lag);
        rollouts(metrics, fleet);
    }
    metrics.watches_unreadable.set(number(overview.unreadable));
    let standing = || {
        snapshot
            .watches
            .iter()
            .map(|watched| (&watched.standing, watched.clock.now))
    };
    let waits = |wait: Option<Wait>| wait.is_some();
    metrics
        .updates_waiting
        .set(number(standing().filter(|(standing, _)| waits(standing.wait)).count()));
    metrics.watches_behind.set(number(
        standing().filter(|(standing, _)| standing.behind.is_some()).count(),
    ));
    let behind = standing().filter_map(|(standing, now)| Some(now.saturating_sub(standing.behind?)));
    metrics
        .oldest_unhandled
        .set(behind.max().unwrap_or_default().as_secs_f64());
    metrics.text()
}

/// What is known of rollouts. A rollout, or a steward, that is not there any more leaves no series behind.
fn rollouts(metrics: &Metrics, fleet: &FleetMembership) {
    let of_states = [&metrics.rollout_state, &metrics.rollout_hosts];
    let of_slots = [
        &metrics.rollout_steward,
        &metrics.rollout_slots,
        &metrics.rollout_slots_max,
    ];
    of_states.into_iter().chain(of_slots).for_each(|vector| vector.reset());
    metrics.rollout_unchanged.reset();
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    for RolloutPart { name, figures, .. } in &fleet.rollouts {
        let steward = metrics.rollout_steward.with_label_values(&[name.as_str()]);
        steward.set(i64::from(figures.is_some()));
        let Some(figures) = figures else { continue };
        let state = metrics
            .rollout_state
            .with_label_values(&[name.as_str(), figures.state.as_str()]);
        state.set(1);
        for (state, hosts) in &figures.hosts {
            let gauge = metrics
                .rollout_hosts
                .with_label_values(&[name.as_str(), state.as_str()]);
            gauge.set(count(*hosts));
        }
        metrics
            .rollout_slots
            .with_label_values(&[name.as_str()])
            .set(count(figures.slots));
        metrics
            .rollout_slots_max
            .with_label_values(&[name.as_str()])
            .set(count(figures.at_once));
        metrics
            .rollout_unchanged
            .with_label_values(&[name.as_str()])
            .set(figures.unchanged);
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
