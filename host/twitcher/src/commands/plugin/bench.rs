//! What a component costs, beside the cheapest program there is, in one go.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trial::{Bench, Trial, TrialError, shown};
use twitcher_launch::{Launcher, RunReport};
use twitcher_model::{Action, Outcome, WasmAction, Watch};

/// Measures a component: `rounds` calls in a process made for it, each beside a run of `/bin/true` through the launcher and one as any program
/// would start it, and as many calls in one that waited. Returns a table. Must be called in a `LocalSet` on a current-thread runtime.
pub async fn bench(trial: &Trial, watch: &Arc<Watch>, launcher: Launcher, rounds: usize) -> Result<String, TrialError> {
    let mut bench = Bench::new(launcher, trial.tree.as_deref())?;
    let program = Arc::new(Watch {
        action: Action::Argv(["/bin/true".into()].into()),
        ..Watch::clone(watch)
    });
    let (cold, warm) = (kept(watch, 0), kept(watch, 1));
    let event = trial.change.event;
    let mut figures = Figures::default();
    // The first call loads the native code.
    let first = Instant::now();
    let report = bench.run(&cold, event, trial.observation()).await?;
    let first = first.elapsed();
    if !report.outcome.is_success() {
        return Err(TrialError::Refused(format!(
            "it does not succeed, so there is nothing to measure: {}",
            report.outcome
        )));
    }
    for _ in 0..rounds {
        let since = Instant::now();
        let report = bench.run(&cold, event, trial.observation()).await?;
        figures.component(since.elapsed(), &report);
        // Its process is taken apart meanwhile, beside nothing that is measured.
        spawn_true()?;
        let since = Instant::now();
        bench.run(&program, event, trial.observation()).await?;
        figures.program.push(since.elapsed());
        let since = Instant::now();
        spawn_true()?;
        figures.command.push(since.elapsed());
    }
    // Only now: while one is made nothing else can be measured, and who waits for it finds the processors asleep.
    if bench.keep_warm(&warm) {
        for _ in 0..rounds {
            bench.wait_until_warm().await?;
            spawn_true()?;
            let since = Instant::now();
            let report = bench.run(&warm, event, trial.observation()).await?;
            figures.warm(since.elapsed(), &report);
        }
    }
    Ok(figures.table(first, rounds))
}

/// The same watch, with so many processes that wait.
fn kept(watch: &Watch, warm: u8) -> Arc<Watch> {
    let action = match &watch.action {
        Action::Wasm(action) => {
            let mut action = WasmAction::clone(action);
            action.grants.warm = Some(warm);
            Action::Wasm(Arc::new(action))
        }
        other => other.clone(),
    };
    Arc::new(Watch {
        action,
        ..watch.clone()
    })
}

fn spawn_true() -> Result<(), TrialError> {
    let status = Command::new(Path::new("/bin/true"))
        .env_clear()
        .stdin(Stdio::null())
        .status();
    status.map(drop).map_err(|error| TrialError::Io {
        step: "run /bin/true",
        error,
    })
}

#[derive(Default)]
struct Figures {
    whole: Vec<Duration>,
    instantiate: Vec<Duration>,
    call: Vec<Duration>,
    faults: Vec<u64>,
    memory: u64,
    warm: Vec<Duration>,
    warm_faults: Vec<u64>,
    program: Vec<Duration>,
    command: Vec<Duration>,
    failed: usize,
}

impl Figures {
    fn component(&mut self, whole: Duration, report: &RunReport) {
        self.failed += usize::from(report.outcome != Outcome::Exited(0));
        self.whole.push(whole);
        self.faults.push(report.minor_faults);
        self.memory = self.memory.max(report.max_rss_kib);
        if let Some(timing) = report.timing {
            self.instantiate.push(timing.instantiate);
            self.call.push(timing.call);
        }
    }

    fn warm(&mut self, whole: Duration, report: &RunReport) {
        self.failed += usize::from(report.outcome != Outcome::Exited(0));
        self.warm.push(whole);
        self.warm_faults.push(report.minor_faults);
    }

    fn table(mut self, first: Duration, rounds: usize) -> String {
        let command = median(&mut self.command);
        let mut lines = vec![format!(
            "{:<42} {:>10}  {:>7}",
            format!("median of {rounds}"),
            "time",
            "ratio"
        )];
        let mut line = |what: &str, time: Duration| {
            let ratio = time.as_secs_f64() / command.as_secs_f64().max(f64::MIN_POSITIVE);
            lines.push(format!("{what:<42} {:>10}  {ratio:>7.2}", shown(time)));
        };
        line("component, from request to ended", median(&mut self.whole));
        line("  of which until it can be called", median(&mut self.instantiate));
        line("  of which the call", median(&mut self.call));
        if !self.warm.is_empty() {
            line("component, by a process that waited", median(&mut self.warm));
        }
        line("component, first run (loads native code)", first);
        line("/bin/true through the launcher", median(&mut self.program));
        line("/bin/true by std::process::Command", command);
        lines.push(format!(
            "page faults of a run {}{}, largest resident set {} KiB{}",
            median(&mut self.faults),
            match self.warm_faults.is_empty() {
                true => String::new(),
                false => format!(", by a process that waited {}", median(&mut self.warm_faults)),
            },
            self.memory,
            if self.failed > 0 {
                format!(", {} runs failed", self.failed)
            } else {
                String::new()
            }
        ));
        lines.join("\n")
    }
}

fn median<T: Ord + Copy + Default>(values: &mut [T]) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
