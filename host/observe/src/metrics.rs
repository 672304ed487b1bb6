//! What is counted, for Prometheus. Counting is an atomic increment: it never waits and never allocates.
//!
//! Nothing is labelled by watch or znode: the number of series must not depend on what is watched, and `/v1/watches` tells of each.
//!
//! | name | type | what |
//! | --- | --- | --- |
//! | `twitcher_build_info` | gauge | 1; label `version` |
//! | `twitcher_start_time_seconds` | gauge | when the daemon started, in Unix time |
//! | `twitcher_ready` | gauge | 1 if the source is connected and every watch armed |
//! | `twitcher_changes_total` | counter | changes of nodes that were seen |
//! | `twitcher_handling_lag_seconds` | histogram | from a change being seen until an action had succeeded for the newest state |
//! | `twitcher_oldest_unhandled_seconds` | gauge | how long the watch that lags behind most does so |
//! | `twitcher_watches` | gauge | watches; label `state`, as in `/v1/watches` |
//! | `twitcher_watches_unreadable` | gauge | watches of whose nodes something cannot be read, whatever else they are doing |
//! | `twitcher_watches_behind` | gauge | watches with a state that no action has succeeded for, though one is to |
//! | `twitcher_updates_waiting` | gauge | watches with an update that waits, for whatever reason |
//! | `twitcher_updates_queued` | gauge | watches with an update that waits for a place among the running actions |
//! | `twitcher_runs_running` | gauge | actions that run |
//! | `twitcher_runs_running_max` | gauge | most actions that may run at once |
//! | `twitcher_warm_processes` | gauge | processes of components that wait for their next runs |
//! | `twitcher_warm_memory_bytes` | gauge | the memory that these have to themselves |
//! | `twitcher_warm_runs_total` | counter | runs that such a process was to be ready for; label `ready`: yes, or no |
//! | `twitcher_warm_ended_total` | counter | such processes that ended by themselves while they waited |
//! | `twitcher_runs_started_total` | counter | runs that were started |
//! | `twitcher_runs_total` | counter | runs that have ended; label `outcome` |
//! | `twitcher_run_duration_seconds` | histogram | how long runs took |
//! | `twitcher_run_retries_total` | counter | failed runs whose update was to be tried again |
//! | `twitcher_run_cpu_seconds_total` | counter | processor time of runs |
//! | `twitcher_run_max_resident_memory_bytes` | gauge | the largest resident set that any run had |
//! | `twitcher_watches_parked_total` | counter | times that a watch was parked |
//! | `twitcher_launcher_restarts_total` | counter | times that the process which starts actions was replaced |
//! | `twitcher_state_writable` | gauge | 1 unless what the daemon knows cannot be written to the state directory |
//! | `twitcher_source_connected` | gauge | 1 if there is a connection to everything that is watched |
//! | `twitcher_source_sessions_total` | counter | sessions that were established |
//! | `twitcher_source_disconnects_total` | counter | times that a session lost its connection |
//! | `twitcher_source_expirations_total` | counter | sessions that ended without our wish, mostly by expiry |
//! | `twitcher_source_sweep_repairs_total` | counter | changes that only a sweep found; should stay 0 |
//! | `twitcher_fleet_connected` | gauge | 1 if the daemon is in its fleet; this and the next two only with `--fleet` |
//! | `twitcher_fleet_unpublished` | gauge | results that the fleet does not know as they are |
//! | `twitcher_fleet_publish_lag_seconds` | gauge | how long the one of them that has waited longest has waited |
//! | `twitcher_rollout_steward` | gauge | 1 if the daemon is the steward of this `rollout`, 0 if it only takes part |
//! | `twitcher_rollout_state` | gauge | of this `rollout`, by its steward: 1 for the `state` that it is in |
//! | `twitcher_rollout_hosts` | gauge | of this `rollout`, by its steward: hosts in this `state` |
//! | `twitcher_rollout_slots` | gauge | of this `rollout`, by its steward: slots that are held |
//! | `twitcher_rollout_slots_max` | gauge | of this `rollout`, by its steward: slots that there are |
//! | `twitcher_rollout_unchanged_seconds` | gauge | of this `rollout`, by its steward: since when none of this has changed |
//! | `twitcher_config_loads_total` | counter | loads of the configuration; label `result`: success, or failure if a file was refused |
//! | `twitcher_config_last_load_success` | gauge | 1 if the last one refused no file |
//! | `twitcher_config_last_load_time_seconds` | gauge | when it was, in Unix time |
//! | `twitcher_component_loads_total` | counter | components that were needed; label `cache`: hit, or miss if it had to be compiled |
//! | `twitcher_log_lines_dropped_total` | counter | lines of the log that were dropped: nobody read them fast enough, or they could not be written |

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// From a hundredth of a second, which is soon, to an hour, which is not.
const LAGS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0,
];
/// From what a component takes to an hour.
const DURATIONS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3600.0,
];

/// Everything that is counted. See the module's documentation for what each is.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is in the table above, under its name")]
pub struct Metrics {
    registry: Registry,
    pub start_time: Gauge,
    pub ready: IntGauge,
    pub changes: IntCounter,
    pub lag: Histogram,
    pub oldest_unhandled: Gauge,
    pub watches: IntGaugeVec,
    pub watches_unreadable: IntGauge,
    pub watches_behind: IntGauge,
    pub updates_waiting: IntGauge,
    pub updates_queued: IntGauge,
    pub running: IntGauge,
    pub running_max: IntGauge,
    pub warm_processes: IntGauge,
    pub warm_memory: IntGauge,
    pub warm_runs: IntCounterVec,
    pub warm_ended: IntCounter,
    pub started: IntCounter,
    pub runs: IntCounterVec,
    pub duration: Histogram,
    pub retries: IntCounter,
    pub cpu: Counter,
    pub max_rss: IntGauge,
    pub parked: IntCounter,
    pub launcher_restarts: IntCounter,
    pub state_writable: IntGauge,
    pub source_connected: IntGauge,
    pub source_sessions: IntCounter,
    pub source_disconnects: IntCounter,
    pub source_expirations: IntCounter,
    pub sweep_repairs: IntCounter,
    pub fleet_connected: IntGaugeVec,
    pub fleet_unpublished: IntGaugeVec,
    pub fleet_publish_lag: GaugeVec,
    pub rollout_steward: IntGaugeVec,
    pub rollout_state: IntGaugeVec,
    pub rollout_hosts: IntGaugeVec,
    pub rollout_slots: IntGaugeVec,
    pub rollout_slots_max: IntGaugeVec,
    pub rollout_unchanged: GaugeVec,
    pub loads: IntCounterVec,
    pub last_load_success: IntGauge,
    pub last_load_time: Gauge,
    pub component_loads: IntCounterVec,
    pub log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Metrics of which nothing is counted yet.
    ///
    /// # Errors
    /// If a name is not allowed or used twice, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let info = IntGaugeVec::new(Opts::new("twitcher_build_info", "The program."), &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        add(r, info)?;
        let metrics = Self {
            start_time: add(
                r,
                Gauge::new("twitcher_start_time_seconds", "When the daemon started, in Unix time.")?,
            )?,
            ready: gauge(
                r,
                "twitcher_ready",
                "1 if the source is connected and every watch armed.",
            )?,
            changes: counter(r, "twitcher_changes_total", "Changes of nodes that were seen.")?,
            lag: histogram(
                r,
                "twitcher_handling_lag_seconds",
                "From a change being seen until an action had succeeded for the newest state.",
                &LAGS,
            )?,
            oldest_unhandled: add(
                r,
                Gauge::new(
                    "twitcher_oldest_unhandled_seconds",
                    "How long the watch that lags behind most does so.",
                )?,
            )?,
            watches: add(
                r,
                IntGaugeVec::new(
                    Opts::new("twitcher_watches", "Watches by what they are doing."),
                    &["state"],
                )?,
            )?,
            watches_unreadable: gauge(
                r,
                "twitcher_watches_unreadable",
                "Watches of whose nodes something cannot be read, whatever else they are doing.",
            )?,
            watches_behind: gauge(
                r,
                "twitcher_watches_behind",
                "Watches with a state that no action has succeeded for, though one is to.",
            )?,
            updates_waiting: gauge(
                r,
                "twitcher_updates_waiting",
                "Watches with an update that waits, for whatever reason.",
            )?,
            updates_queued: gauge(
                r,
                "twitcher_updates_queued",
                "Watches with an update that waits for a place among the running actions.",
            )?,
            running: gauge(r, "twitcher_runs_running", "Actions that run.")?,
            running_max: gauge(r, "twitcher_runs_running_max", "Most actions that may run at once.")?,
            warm_processes: gauge(
                r,
                "twitcher_warm_processes",
                "Processes of components that wait for their next runs.",
            )?,
            warm_memory: gauge(
                r,
                "twitcher_warm_memory_bytes",
                "The memory that processes of components which wait for their next runs have to themselves.",
            )?,
            warm_runs: counters(
                r,
                "twitcher_warm_runs_total",
                "Runs that a process which waits was to be ready for, by whether one was.",
                "ready",
            )?,
            warm_ended: counter(
                r,
                "twitcher_warm_ended_total",
                "Processes of components that ended by themselves while they waited.",
            )?,
            started: counter(r, "twitcher_runs_started_total", "Runs that were started.")?,
            runs: counters(r, "twitcher_runs_total", "Runs that have ended, by how.", "outcome")?,
            duration: histogram(r, "twitcher_run_duration_seconds", "How long runs took.", &DURATIONS)?,
            retries: counter(
                r,
                "twitcher_run_retries_total",
                "Failed runs whose update was to be tried again.",
            )?,
            cpu: add(
                r,
                Counter::new("twitcher_run_cpu_seconds_total", "Processor time of runs.")?,
            )?,
            max_rss: gauge(
                r,
                "twitcher_run_max_resident_memory_bytes",
                "The largest resident set that any run had.",
            )?,
            parked: counter(r, "twitcher_watches_parked_total", "Times that a watch was parked.")?,
            launcher_restarts: counter(
                r,
                "twitcher_launcher_restarts_total",
                "Times that the process which starts actions was replaced.",
            )?,
            state_writable: gauge(
                r,
                "twitcher_state_writable",
                "1 unless what the daemon knows cannot be written to the state directory.",
            )?,
            source_connected: gauge(
                r,
                "twitcher_source_connected",
                "1 if there is a connection to everything that is watched.",
            )?,
            source_sessions: counter(r, "twitcher_source_sessions_total", "Sessions that were established.")?,
            source_disconnects: counter(
                r,
                "twitcher_source_disconnects_total",
                "Times that a session lost its connection.",
            )?,
            source_expirations: counter(
                r,
                "twitcher_source_expirations_total",
                "Sessions that ended without our wish, mostly by expiry.",
            )?,
            sweep_repairs: counter(
                r,
                "twitcher_source_sweep_repairs_total",
                "Changes that only a sweep found. Should stay 0.",
            )?,
            // Without labels, and yet vectors: what is never set is not there, and no alert is about a daemon that is in no fleet.
            fleet_connected: add(
                r,
                IntGaugeVec::new(
                    Opts::new("twitcher_fleet_connected", "1 if the daemon is in its fleet."),
                    &[],
                )?,
            )?,
            fleet_unpublished: add(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "twitcher_fleet_unpublished",
                        "Results that the fleet does not know as they are.",
                    ),
                    &[],
                )?,
            )?,
            fleet_publish_lag: add(
                r,
                GaugeVec::new(
                    Opts::new(
                        "twitcher_fleet_publish_lag_seconds",
                        "How long the result that has waited longest to be published has waited.",
                    ),
                    &[],
                )?,
            )?,
            rollout_steward: add(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "twitcher_rollout_steward",
                        "1 if the daemon is the steward of a rollout, 0 if it only takes part.",
                    ),
                    &["rollout"],
                )?,
            )?,
            rollout_state: add(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "twitcher_rollout_state",
                        "1 for the state that a rollout is in, by its steward.",
                    ),
                    &["rollout", "state"],
                )?,
            )?,
            rollout_hosts: add(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "twitcher_rollout_hosts",
                        "Hosts of a rollout by their state, by its steward.",
                    ),
                    &["rollout", "state"],
                )?,
            )?,
            rollout_slots: add(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "twitcher_rollout_slots",
                        "Slots of a rollout that are held, by its steward.",
                    ),
                    &["rollout"],
                )?,
            )?,
            rollout_slots_max: add(
                r,
                IntGaugeVec::new(
                    Opts::new("twitcher_rollout_slots_max", "Slots of a rollout, by its steward."),
                    &["rollout"],
                )?,
            )?,
            rollout_unchanged: add(
                r,
                GaugeVec::new(
                    Opts::new(
                        "twitcher_rollout_unchanged_seconds",
                        "Since when nothing of a rollout has changed, by its steward.",
                    ),
                    &["rollout"],
                )?,
            )?,
            loads: counters(
                r,
                "twitcher_config_loads_total",
                "Loads of the configuration.",
                "result",
            )?,
            last_load_success: gauge(
                r,
                "twitcher_config_last_load_success",
                "1 if the last load of the configuration refused no file.",
            )?,
            last_load_time: add(
                r,
                Gauge::new(
                    "twitcher_config_last_load_time_seconds",
                    "When the configuration was last loaded, in Unix time.",
                )?,
            )?,
            component_loads: counters(
                r,
                "twitcher_component_loads_total",
                "Components that were needed, by whether they were in the cache.",
                "cache",
            )?,
            log_lines_dropped: counter(
                r,
                "twitcher_log_lines_dropped_total",
                "Lines of the log that were dropped: nobody read them fast enough, or they could not be written.",
            )?,
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Makes every series there at once: a rate is only right if the first step is seen.
    fn begin(&self) {
        for outcome in twitcher_model::Outcome::CODES {
            self.runs.with_label_values(&[outcome]);
        }
        for ready in ["yes", "no"] {
            self.warm_runs.with_label_values(&[ready]);
        }
        for result in ["success", "failure"] {
            self.loads.with_label_values(&[result]);
        }
        for cache in ["hit", "miss"] {
            self.component_loads.with_label_values(&[cache]);
        }
    }

    /// Counts a run that has ended.
    pub fn ended(&self, outcome: &str, elapsed: Duration, cpu: Duration, max_rss_kib: u64) {
        self.runs.with_label_values(&[outcome]).inc();
        self.duration.observe(elapsed.as_secs_f64());
        self.cpu.inc_by(cpu.as_secs_f64());
        let bytes = i64::try_from(max_rss_kib.saturating_mul(1024)).unwrap_or(i64::MAX);
        if bytes > self.max_rss.get() {
            self.max_rss.set(bytes);
        }
    }

    /// The metrics in Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory cannot fail, and every family has a metric.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

/// Raises a counter to what somebody else has counted.
pub fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    add(registry, IntCounter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    add(registry, IntGauge::new(name, help)?)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    add(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    add(registry, Histogram::with_opts(options)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_registered_is_documented_and_the_reverse() {
        let metrics = Metrics::new().unwrap();
        metrics.watches.with_label_values(&["armed"]).set(1);
        let of_all: [&str; 0] = [];
        let names = metrics.registry.gather();
        assert!(!names.iter().any(|family| family.name().starts_with("twitcher_fleet_")));
        for gauge in [&metrics.fleet_connected, &metrics.fleet_unpublished] {
            gauge.with_label_values(&of_all).set(1);
        }
        metrics.fleet_publish_lag.with_label_values(&of_all).set(1.0);
        for gauge in [
            &metrics.rollout_steward,
            &metrics.rollout_slots,
            &metrics.rollout_slots_max,
        ] {
            gauge.with_label_values(&["repo"]).set(1);
        }
        for gauge in [&metrics.rollout_state, &metrics.rollout_hosts] {
            gauge.with_label_values(&["repo", "done"]).set(1);
        }
        metrics.rollout_unchanged.with_label_values(&["repo"]).set(1.0);
        let registered: BTreeMap<String, String> = metrics
            .registry
            .gather()
            .iter()
            .map(|family| {
                (
                    family.name().to_owned(),
                    format!("{:?}", family.get_field_type()).to_lowercase(),
                )
            })
            .collect();
        let documented: BTreeMap<String, String> = include_str!("metrics.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"))
            .map(|row| {
                let (name, rest) = row.split_once('`').unwrap();
                (
                    name.to_owned(),
                    rest.trim_start_matches(" | ").split(' ').next().unwrap().to_owned(),
                )
            })
            .collect();
        assert_eq!(registered, documented);
    }

    #[test]
    fn a_run_is_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.ended("success", Duration::from_millis(20), Duration::from_millis(10), 2048);
        metrics.ended("exited", Duration::from_millis(20), Duration::from_millis(10), 1024);
        let text = String::from_utf8(metrics.text()).unwrap();
        for line in [
            "twitcher_runs_total{outcome=\"success\"} 1",
            "twitcher_runs_total{outcome=\"timed_out\"} 0",
            "twitcher_run_duration_seconds_count 2",
            "twitcher_run_cpu_seconds_total 0.02",
            "twitcher_run_max_resident_memory_bytes 2097152",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}\n{text}");
        }
    }
}
