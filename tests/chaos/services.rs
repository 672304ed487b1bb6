//! The judge of programs that stay: one of each watch, with the newest data. Pure, as the rest of the oracle.

use super::journal::{Line, flat, starts};
use super::oracle::Final;
use super::payload;
use super::watches::Watch;

/// One that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub watch: String,
    pub run: String,
    pub pid: i32,
}

/// What the last program of a watch was told last: when it began, or since.
pub fn last_told(lines: &[Line]) -> Option<&str> {
    lines.iter().rev().find_map(|line| match line {
        Line::Start(start) => Some(&*start.stdin),
        Line::Told { data, .. } => Some(&**data),
        _ => None,
    })
}

/// Whether two texts that programs were told are of the same state.
pub fn same(watch: &Watch, one: &str, other: &str) -> bool {
    match watch.payload {
        true => payload::same(one, other),
        false => one == other,
    }
}

/// (h) What is not as it should be of a program that stays, for the state that lasts. `file`: its data file.
pub fn lacking(
    watch: &Watch,
    state: &Final,
    lines: &[Line],
    file: Option<&str>,
    instances: &[Instance],
) -> Vec<String> {
    let name = watch.name;
    let living: Vec<&Instance> = instances.iter().filter(|instance| instance.watch == name).collect();
    if living.len() > 1 {
        return vec![format!("{name}: several at once: {living:?}")];
    }
    // One that was there before the znode went away may go on, and need not.
    if state.is_absent() {
        return Vec::new();
    }
    let mut lacking = Vec::new();
    let last = starts(lines).next_back();
    match (living.first(), last) {
        (None, _) => lacking.push(format!("{name}: it does not run, last was {last:?}")),
        (Some(living), Some(last)) if (living.pid, &living.run) != (last.pid, &last.run) => {
            lacking.push(format!("{name}: {living:?} lives, and began last was {last:?}"));
        }
        (Some(_), _) => {}
    }
    for (what, text) in [("its program was told", last_told(lines)), ("its file has", file)] {
        if let Err(wanted) = text.map_or(Err("anything".to_owned()), |text| shows(watch, state, text)) {
            lacking.push(format!("{name}: {what} {text:?}, wanted {wanted}"));
        }
    }
    lacking
}

fn shows(watch: &Watch, state: &Final, text: &str) -> Result<(), String> {
    match state {
        _ if watch.payload => payload::shows(watch, state, text),
        Final::Data { data, .. } if flat(data) == flat(text) => Ok(()),
        _ => Err(format!("{state:?}")),
    }
}
