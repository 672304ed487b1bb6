//! `make bench`: what Twitcher costs beside its peers. Everything is measured in one run, in turns, and only ratios are promised:
//! absolute times are this machine's. Parts can be named: `cargo bench --bench compare -- launching component bundles reacting files many
//! state operating rollout`.

#![allow(clippy::unwrap_used, reason = "a measurement that panics is none")]

mod bundles;
mod component;
mod files;
mod launching;
mod many;
mod operating;
mod peer;
mod reacting;
mod rollout;
mod state;

#[path = "../support/mod.rs"]
mod support;

use std::fmt::Display;
use std::time::Duration;

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
    let mut table = Table("| measured | median | ratio |\n| --- | --- | --- |\n".to_owned());
    // `cargo bench` itself passes an option.
    let parts: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| *named == part);
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
    if wanted("files") {
        runtime.block_on(files::measure(&mut table));
    }
    if wanted("many") {
        runtime.block_on(many::measure(&mut table));
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
    println!("\n{}", table.0);
}

struct Table(String);

impl Table {
    fn row(&mut self, what: impl Display, median: impl Display, ratio: impl Display) {
        let row = format!("| {what} | {median} | {ratio} |\n");
        eprint!("{row}");
        self.0.push_str(&row);
    }
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
