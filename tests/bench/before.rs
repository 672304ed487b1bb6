//! The program of another build beside this one: `make bench BASE=path/to/twitcher`. Ratios to what else there is on a machine differ from
//! machine to machine; what a change of ours is worth is told by the build before it, in the same run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::program;
use crate::table::Table;

/// How often each program measures, in turns.
const TURNS: usize = 5;
const ROUNDS: &str = "100";

/// What `plugin bench` calls what it measures, now and before. Where none waited each was made for its run.
const ROWS: [&[&str]; 3] = [
    &["component, from request to ended", "component, from request to reaped"],
    &[
        "component, by a process that waited",
        "component, from request to reaped",
    ],
    &["/bin/true through the launcher"],
];

/// This program, and the one to compare with if one is named.
pub fn programs() -> Vec<PathBuf> {
    let ours = program::ours().to_owned();
    std::iter::once(ours)
        .chain(program::before().map(Path::to_owned))
        .collect()
}

/// Whether processes can wait for the next run of a component. An older program refuses a configuration that says how many.
pub fn has_warm(program: &Path) -> bool {
    let help = Command::new(program).args(["run", "--help"]).output().unwrap();
    String::from_utf8_lossy(&help.stdout).contains("--warm-memory")
}

/// `plugin bench` of both.
pub fn measure(table: &mut Table, component: &Path) {
    let before = program::before();
    let ours = program::ours();
    let mut samples = ROWS.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..TURNS {
        for (text, of_ours) in [
            (Some(bench(ours, component)), true),
            (before.map(|before| bench(before, component)), false),
        ] {
            let Some(text) = text else { continue };
            for (row, (now, then)) in ROWS.iter().zip(&mut samples) {
                let times = if of_ours { now } else { then };
                times.extend(row.iter().find_map(|row| time_of(&text, row)));
            }
        }
    }
    for (row, (now, then)) in ROWS.iter().zip(samples) {
        let then = Some(then).filter(|then| !then.is_empty());
        if !now.is_empty() {
            table.judged(format!("`plugin bench`: {}", row[0]), now, then, "");
        }
    }
}

fn bench(program: &Path, component: &Path) -> String {
    let output = Command::new(program)
        .args(["plugin", "bench", "--rounds", ROUNDS])
        .arg(component)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn time_of(text: &str, row: &str) -> Option<Duration> {
    let line = text.lines().find(|line| line.starts_with(row))?;
    let mut words = line[row.len()..].split_whitespace();
    let (number, unit) = (words.next()?.parse::<f64>().ok()?, words.next()?);
    let microseconds = match unit {
        "us" => number,
        "ms" => number * 1e3,
        _ => return None,
    };
    Some(Duration::from_secs_f64(microseconds / 1e6))
}
