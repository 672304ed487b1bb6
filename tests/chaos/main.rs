//! `make chaos` and `make soak`: real daemons on a real ensemble, tormented by the plan of a seed, and judged from outside.
//!
//! - `plan.rs` makes the plan from the seed alone; `watches.rs` lists the watches.
//! - `act.rs` is the actions: this very program, and `serve.rs` those that stay. They write journals (`journal.rs`), which is all the oracle
//!   hears of them.
//! - `host.rs` is a daemon with its proxies, `disk.rs` its files, `log.rs` who reads its log, `keeper.rs` the one who writes znodes, `stage.rs` plays an episode and settles.
//! - `oracle.rs` judges, from the journals, the znodes and what `snapshot.rs` finds in /proc and asks the servers; so do `payload.rs`, what actions
//!   are told as JSON, `services.rs`, what stays, and `lives.rs`, what one daemon leaves to the next.
//! - `fleet/` is another stage: a dozen daemons with one rollout.
//! - `soak.rs` and `trend.rs`: steady load, and whether anything grows under it.
//! - `checks/` feeds plan, oracle and trend with what must be found: they are checked before they judge.
//!
//! The plan of a seed is always the same; when exactly its steps meet the daemons is not. A seed that found something finds it again
//! more often than not: `--seed S --episode K` plays that episode over and over.

#![allow(clippy::unwrap_used, reason = "a suite that panics has failed")]

mod act;
mod checks;
mod disk;
mod fleet;
mod host;
mod journal;
mod keeper;
mod lives;
mod log;
mod oracle;
mod payload;
mod plan;
mod report;
mod serve;
mod services;
mod snapshot;
mod soak;
mod stage;
mod trend;
mod watches;

#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use host::Means;
use plan::{Fault, Plan};
use stage::Stage;

/// Users that nobody is: what they may have is counted for each.
const USERS: u32 = 20_000_000;

/// Torments daemons and judges them from outside
#[derive(Debug, Parser)]
struct Arguments {
    /// Seed of the plan: a number, or `random`
    #[arg(long, default_value = "5", value_parser = seed)]
    seed: u64,
    /// How long to go on; the last episode is played to its end [default: 0.5, or with --steps until those are done]
    #[arg(long)]
    minutes: Option<f64>,
    /// How many steps to do at least
    #[arg(long, default_value_t = 0)]
    steps: u64,
    /// How often each kind of fault must have happened; fewer is a violation
    #[arg(long, default_value_t = 0)]
    at_least: u64,
    /// Play only this episode, again and again
    #[arg(long)]
    episode: Option<u64>,
    /// Print the plan of so many episodes and do nothing
    #[arg(long)]
    print_plan: Option<u64>,
    /// Steady load instead, for so many minutes
    #[arg(long)]
    soak: Option<f64>,
    /// A fleet with a rollout instead, for so many minutes
    #[arg(long)]
    fleet: Option<f64>,
    /// Where the soak's plot and samples go
    #[arg(long, default_value = ".")]
    output: PathBuf,
    /// What `cargo test` passes on: names of tests, and options of a harness that this program does not have
    #[arg(hide = true)]
    filters: Vec<String>,
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
}

impl Arguments {
    /// Whether `cargo test` wants other tests than this.
    fn not_meant(&self) -> bool {
        let named = self.filters.iter().any(|filter| "chaos".contains(&**filter));
        self.list || self.ignored || (!self.filters.is_empty() && !named)
    }
}

fn seed(text: &str) -> Result<u64, String> {
    match text {
        "random" => Ok(fastrand::u64(1..1 << 32)),
        text => text.parse().map_err(|_| "expected a number or `random`".to_owned()),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == act::ACT => act::act(rest),
        Some((word, rest)) if word == serve::SERVE => serve::serve(rest),
        Some((word, rest)) if word == act::TURN => act::turn(rest),
        Some((word, rest)) if word == act::LINGER => act::linger(rest),
        Some((word, rest)) if word == act::ESCAPED => act::escaped(rest),
        _ => {}
    }
    let arguments = Arguments::parse();
    if arguments.not_meant() {
        return ExitCode::SUCCESS;
    }
    println!("{} checks of the plan, the oracle and the trend hold", checks::run());
    let means = means();
    let plan = Plan {
        seed: arguments.seed,
        faults: possible(&means),
    };
    if let Some(count) = arguments.print_plan {
        (0..count).for_each(|number| print!("{}", plan.episode(number)));
        return ExitCode::SUCCESS;
    }
    // Whatever is left by a killed daemon comes to us, as it comes to init elsewhere.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let root = tempfile::Builder::new().prefix("twitcher-chaos-").tempdir().unwrap();
    let passed = match (arguments.soak, arguments.fleet) {
        (Some(minutes), _) => soak::soak(root.path(), minutes, &arguments.output),
        (_, Some(minutes)) => fleet::fleet(root.path(), minutes, arguments.seed),
        // What `cargo test` runs: some of both.
        (None, None) if arguments.minutes.is_none() && arguments.steps == 0 && arguments.episode.is_none() => {
            chaos(&arguments, &plan, &means, root.path()) && fleet::fleet(root.path(), 0.25, arguments.seed)
        }
        (None, None) => chaos(&arguments, &plan, &means, root.path()),
    };
    if passed {
        return ExitCode::SUCCESS;
    }
    println!("journals and logs: {}", root.keep().display());
    ExitCode::FAILURE
}

fn chaos(arguments: &Arguments, plan: &Plan, means: &Means, root: &std::path::Path) -> bool {
    let minutes = arguments.minutes.unwrap_or(if arguments.steps > 0 { 0.0 } else { 0.5 });
    println!("seed {} for {minutes} minutes, {} steps", plan.seed, arguments.steps);
    for fault in Fault::ALL.iter().filter(|fault| !plan.faults.contains(fault)) {
        println!("not possible here: {fault:?}");
    }
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut stage = Stage::new(root, means);
    assert!(stage.tally.violations.is_empty(), "without a fault, nothing comes true");
    let mut number = 0;
    // With more violations than that, what follows is only noise.
    while (Instant::now() < end || stage.tally.steps < arguments.steps) && stage.tally.violations.len() < 20 {
        let episode = plan.episode(arguments.episode.unwrap_or(number));
        let violations = stage.tally.violations.len();
        stage.play(&episode);
        if stage.tally.violations.len() > violations {
            println!(
                "the plan, again by --seed {} --episode {}:\n{episode}",
                plan.seed, episode.number
            );
        }
        number += 1;
        if number.is_multiple_of(10) {
            println!("{number} episodes, {} steps", stage.tally.steps);
        }
    }
    let faults = if arguments.episode.is_some() {
        &[][..]
    } else {
        &plan.faults
    };
    report::print(plan.seed, faults, arguments.at_least, &mut stage)
}

fn possible(means: &Means) -> Vec<Fault> {
    let can = |fault: &&Fault| match fault {
        Fault::ClockStep => means.clock.is_some(),
        Fault::DiskFull => means.mount,
        Fault::ActionExhaust => means.user.is_some(),
        _ => true,
    };
    Fault::ALL.iter().filter(can).copied().collect()
}

fn means() -> Means {
    // In a name space of our own, so that nothing stays mounted whatever becomes of us.
    let mount = unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && Command::new("mount")
            .args(["--make-rprivate", "/"])
            .status()
            .is_ok_and(|status| status.success());
    let clock = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let clock = clock.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    Means {
        component: std::fs::read(support::guests::guest("journals")).unwrap(),
        clock: clock.into_iter().find(|path| path.exists()),
        user: geteuid().is_root().then(|| USERS + std::process::id()),
        mount,
    }
}
