//! `make bench`: what Twitcher costs beside its peers. Everything is measured in one run, in turns, and only ratios are promised: absolute times
//! are this machine's, and what its primitives cost is measured with them. Parts can be named: `cargo bench --bench compare -- machine launching
//! component bundles reacting ended files many storm scale state operating rollout`.

#![allow(clippy::unwrap_used, reason = "a measurement that panics is none")]

mod before;
mod bundles;
mod component;
mod ended;
mod files;
mod launching;
mod machine;
mod many;
mod operating;
mod peer;
mod program;
mod reacting;
mod rollout;
mod scale;
mod state;
mod storm;
mod table;

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use table::Table;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, servers, path] = &arguments[..]
        && flag == peer::BARE
    {
        return runtime.block_on(reacting::bare_peer(servers, path));
    }
    let mut table = Table::default();
    // `cargo bench` itself passes an option.
    let parts: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| *named == part);
    if wanted("machine") {
        machine::measure(&mut table);
    }
    if wanted("launching") {
        runtime.block_on(launching::measure(&mut table));
    }
    if wanted("component") {
        runtime.block_on(component::measure(&mut table));
    }
    if wanted("bundles") {
        bundles::measure(&mut table);
    }
    if wanted("reacting") {
        runtime.block_on(reacting::measure(&mut table));
    }
    if wanted("ended") {
        runtime.block_on(ended::measure(&mut table));
    }
    if wanted("files") {
        runtime.block_on(files::measure(&mut table));
    }
    if wanted("many") {
        runtime.block_on(many::measure(&mut table));
    }
    if wanted("storm") {
        runtime.block_on(storm::measure(&mut table));
    }
    if wanted("scale") {
        runtime.block_on(scale::measure(&mut table));
    }
    if wanted("state") {
        runtime.block_on(state::measure(&mut table));
    }
    if wanted("operating") {
        runtime.block_on(operating::measure(&mut table));
    }
    if wanted("rollout") {
        // More only when that is said: parts named `rollout=10000` or `rollout-ensemble=10000` for example.
        runtime.block_on(rollout::measure(&mut table, &[100, 1000]));
        runtime.block_on(rollout::measure_ensemble(&mut table, &[1000]));
    }
    let many = |prefix: &str| {
        let many = parts.iter().filter_map(|part| part.strip_prefix(prefix)?.parse().ok());
        many.collect::<Vec<usize>>()
    };
    runtime.block_on(rollout::measure(&mut table, &many("rollout=")));
    runtime.block_on(rollout::measure_ensemble(&mut table, &many("rollout-ensemble=")));
    // Where cargo has what is built.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap_or(Path::new("."));
    table.finish(target).unwrap();
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn ratio(a: Duration, b: Duration) -> String {
    format!("{:.2}", a.as_secs_f64() / b.as_secs_f64())
}
