//! What is printed in the end.

use std::time::Duration;

use super::plan::Fault;
use super::stage::Stage;

/// Of so many wiped ensembles one at least has to give the same transactions to other data. An election more gives others.
const WIPES: u64 = 5;

/// Prints what happened; says whether nothing was violated. Each of `faults` must have happened `at_least` so often.
pub fn print(seed: u64, faults: &[Fault], at_least: u64, stage: &mut Stage) -> bool {
    let runs = stage.runs();
    let tally = &mut stage.tally;
    println!(
        "\nseed {seed}: {} episodes, {} steps, {} writes ({} with an unknown outcome)\n",
        tally.episodes, tally.steps, tally.writes, tally.unknown
    );
    println!("| fault | times |\n| --- | ---: |");
    for (fault, times) in &tally.faults {
        println!("| {fault:?} | {times} |");
    }
    println!("\n| watch | runs | of them loads |\n| --- | ---: | ---: |");
    for (watch, (all, loads)) in &runs {
        println!("| {watch} | {all} | {loads} |");
    }
    if let Some(wipes) = tally.faults.get(&Fault::EnsembleWipe).copied() {
        let same = tally.same_transactions;
        println!("\nof {wipes} wiped ensembles, {same} gave the same transactions to other data");
        if same == 0 && wipes >= WIPES {
            let violation = format!("{wipes} wiped ensembles, and none gave the same transactions to other data");
            tally.violations.push(violation);
        }
    }
    println!(
        "\nof {} programs that stay whose daemon was killed, {} were there at the end of the episode",
        tally.orphans, tally.kept
    );
    tally.canaries.sort();
    if let (Some(longest), false) = (tally.canaries.last(), tally.canaries.is_empty()) {
        let at = |part: usize| tally.canaries[tally.canaries.len() * part / 100];
        println!(
            "\na healthy watch beside misbehaving ones: {} reactions, median {} ms, 99 % within {} ms, longest {longest} ms",
            tally.canaries.len(),
            at(50),
            at(99)
        );
    }
    tally.settled.sort();
    let longest = tally.settled.last().copied().unwrap_or(Duration::ZERO);
    let median = tally.settled.get(tally.settled.len() / 2).copied().unwrap_or_default();
    println!("everything was as promised after each episode: median {median:.2?}, longest {longest:.2?}");
    for fault in faults {
        let times = tally.faults.get(fault).copied().unwrap_or(0);
        if times < at_least {
            tally
                .violations
                .push(format!("{fault:?} happened {times} times, not {at_least}"));
        }
    }
    println!("\n{} violations", tally.violations.len());
    for violation in &tally.violations {
        println!("- {violation}");
    }
    tally.violations.is_empty()
}
