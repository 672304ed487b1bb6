//! Twitcher runs an action when a znode in ZooKeeper changes.
//!
//! It is made of crates, below `host/`. A wall between two of them is held by cargo: what a crate does not name here it cannot know.
//!
//! ```text
//! twitcher ─▶ daemon     its parts wired together: one loop that decides
//!    │          ├─▶ source       what state a znode is in: ZooKeeper, or a local directory
//!    │          ├─▶ scheduler    when an action runs: a pure state machine for each watch
//!    │          ├─▶ actions      what an action is given, and what is done on its behalf: commands, znodes
//!    │          │     └─▶ launch       how it runs: a process, its streams, its end
//!    │          │           ├─▶ sandbox      what runs in an action's process when it is a component
//!    │          │           └─▶ process      which process is meant, and what belongs to it
//!    │          ├─▶ config       .twc and .json files become watches
//!    │          ├─▶ components   what a Wasm(…) name becomes: a file compiled, or a bundle
//!    │          │     └─▶ bundle       what plugins are deployed as: packed, signed, kept
//!    │          ├─▶ state        what the next daemon must know: handled states, parked watches, history
//!    │          ├─▶ fleet        what hosts tell each other of it in ZooKeeper
//!    │          ├─▶ control      what operators see and do: HTTP on a Unix socket, and read-only on TCP
//!    │          └─▶ observe      the log, and what is counted for Prometheus
//!    └────────▶ registry    bundles in OCI registries
//! ```
//!
//! All of them may use `model`, the plain types between them; `files` and `ipc` are what root and several processes need and the standard
//! library has not; `confine` takes rights from processes; `interfaces` reads what a component imports. The whole graph, each crate with those that it uses:
//!
//! ```text
//! twitcher    actions bundle components config confine control daemon files fleet interfaces launch model observe process registry sandbox scheduler source state
//! registry    bundle interfaces model
//! daemon      actions components config control fleet launch model observe process sandbox scheduler source state
//! fleet       files model source
//! control     files model observe process scheduler state
//! state       model
//! observe     files ipc model
//! components  bundle config files model sandbox
//! config      confine files ipc model
//! bundle      files model
//! actions     files launch model sandbox scheduler source
//! source      files model
//! scheduler   model
//! launch      confine files ipc model process sandbox
//! sandbox     confine files interfaces ipc model
//! interfaces  -
//! process     -
//! model       -
//! ipc         -
//! confine     -
//! files       -
//! ```
//!
//! # Processes
//!
//! ```text
//! twitcher run ──▶ daemon (one thread that decides, one that answers operators, a few that may block)
//!    │ forked first, while there is one thread
//!    └──────────▶ launcher (one thread, small) ──clone──▶ action (its own session; the daemon's child)
//!    ├──────────▶ evaluate (no privileges, bounded) : turns the text of .twc files into watches
//!    ├──────────▶ compile  (no privileges, bounded) : turns a component into native code
//!    └──────────▶ judge    (no privileges, bounded) : has a component judge its configuration
//! ```
//!
//! # Theory of operation
//!
//! What counts is the state of a znode now, not the events that led to it. A source wakes, reads and re-arms, and hands the
//! scheduler an `Observation`; after any doubt (a lost connection, an expired session, an overflow) it reads everything
//! again. The scheduler compares versions, so reading too often is harmless and reading too seldom cannot happen. Its effects are
//! carried out by the daemon; the outcome of a run comes back as one more input.
//!
//! Nothing an action, a configuration file or a znode contains can stop the loop that decides: data travels to actions in memory
//! files rather than pipes, output is read as it comes and bounded, configuration is evaluated in a process that can be killed.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod spinner;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;

#[global_allocator]
static ALLOCATOR: twitcher_launch::Allocator = twitcher_launch::Allocator;

fn main() -> ExitCode {
    let code = commands::carry_out(Cli::parse().command);
    code.unwrap_or_else(|error| {
        eprintln!("twitcher: {error:#}");
        args::exit::FAILURE
    })
    .into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The graph in the documentation above is the one that cargo holds, and no crate uses one that is drawn above it.
    #[test]
    fn the_crates_are_those_that_are_drawn() {
        let source = include_str!("main.rs");
        let drawn = source.split("each crate with those that it uses:").nth(1).unwrap();
        let drawn = drawn
            .split("```text\n")
            .nth(1)
            .unwrap()
            .split("//! ```")
            .next()
            .unwrap();
        let mut above: Vec<&str> = Vec::new();
        for line in drawn.lines() {
            let mut words = line.trim_start_matches("//!").split_whitespace();
            let name = words.next().unwrap();
            let uses: Vec<&str> = words.filter(|word| *word != "-").collect();
            assert!(uses.iter().all(|used| !above.contains(used)), "{line}");
            above.push(name);
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(name)
                .join("Cargo.toml");
            let manifest = std::fs::read_to_string(manifest).unwrap();
            let dependencies = manifest
                .split("[dependencies]\n")
                .nth(1)
                .unwrap()
                .split("\n[")
                .next()
                .unwrap();
            let held: Vec<&str> = dependencies
                .lines()
                .filter_map(|line| line.strip_prefix("twitcher-")?.split(['.', ' ']).next())
                .collect();
            assert_eq!(uses, held, "{name}");
        }
        // What is fuzzed is for tests alone.
        let crates = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        let crates = crates.filter(|entry| entry.as_ref().unwrap().path().join("Cargo.toml").exists());
        assert_eq!(crates.count(), above.len() + 1);
    }
}
