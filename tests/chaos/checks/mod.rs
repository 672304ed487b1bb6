//! Checks of what judges: made-up journals and series with something wrong in them that must be found, and plans that must be as
//! promised. They run before anything is judged, for a judge that finds nothing proves nothing.

mod oracle;
mod plan;
mod stays;
mod trend;

/// A check, by its name.
type Check = (&'static str, fn());

/// Runs all; panics at one that fails. Gives how many there are.
pub fn run() -> usize {
    let fleet: &[Check] = &[("the judge of a fleet", super::fleet::judge::check)];
    let all = [plan::CHECKS, oracle::CHECKS, stays::CHECKS, trend::CHECKS, fleet].concat();
    for (name, check) in &all {
        if std::panic::catch_unwind(check).is_err() {
            panic!("check failed: {name}");
        }
    }
    all.len()
}
