//! Runs, and what one of them wrote.

use crate::commands::operate::states;
use crate::commands::operate::table::{Table, cut, number, whole};
use crate::commands::operate::theme::{Theme, Tone, bytes, lasting};
use twitcher_control::api::{Run, RunDetail};
use twitcher_model::sanitize;

use super::{MEDIUM, WIDE, is_at_least};

/// Runs of several watches.
pub(crate) fn runs(runs: &[Run], more: bool, look: &Theme) -> String {
    if runs.is_empty() {
        return "no such run is remembered\n".to_owned();
    }
    let mut text = table(runs, true, look);
    if more {
        text.push_str("\nthere are older ones: see more with --limit COUNT\n");
    }
    text
}

/// Runs, with the names of their watches or without.
pub(super) fn table(runs: &[Run], named: bool, look: &Theme) -> String {
    let mut table = Table::new(&[
        whole("RUN"),
        cut("WATCH", 10),
        whole("STARTED"),
        whole("EVENT"),
        number("TRY"),
        number("TOOK"),
        number("MEMORY"),
        number("OUTPUT"),
        cut("OUTCOME", 10),
    ]);
    let only = |width: u16, text: String| match is_at_least(look, width) {
        true => (text, None),
        false => (String::new(), None),
    };
    for run in runs {
        let name = if named {
            sanitize::line(&run.watch)
        } else {
            String::new()
        };
        let event = run.event.as_deref().map_or_else(|| "-".to_owned(), sanitize::line);
        let took = match (run.duration, &run.outcome) {
            (Some(seconds), _) => lasting(seconds),
            (None, None) => look.for_so_long(run.started),
            (None, Some(_)) => "-".to_owned(),
        };
        let memory = run.max_rss_kib.map(|kib| bytes(kib.saturating_mul(1024)));
        let output = run.output_bytes.filter(|count| *count > 0).map(bytes);
        table.row([
            (sanitize::line(&run.run), None),
            (name, None),
            (look.ago(run.started), None),
            only(MEDIUM, event),
            only(MEDIUM, run.attempt.to_string()),
            (took, None),
            only(WIDE, memory.unwrap_or_default()),
            only(WIDE, output.unwrap_or_default()),
            (sanitize::line(&states::run_end(run)), Some(states::run_tone(run))),
        ]);
    }
    table.render(look)
}

/// What a run wrote, below a line about it.
pub(crate) fn output(detail: &RunDetail, look: &Theme) -> String {
    let run = &detail.run;
    let mut about = format!(
        "{} of {}: {}",
        sanitize::line(&run.run),
        sanitize::line(&run.watch),
        look.paint(&sanitize::line(&states::run_end(run)), states::run_tone(run)),
    );
    match run.ended {
        Some(ended) => {
            let took = run.duration.map(|seconds| format!(" after {}", lasting(seconds)));
            about.push_str(&format!("{}, {}", took.unwrap_or_default(), look.ago(ended)));
        }
        None => about.push_str(&format!(" {}", look.since(run.started))),
    }
    let mut output = sanitize::lines(&detail.output);
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    let note = match (output.is_empty(), detail.truncated) {
        (true, _) => look.paint("it wrote nothing\n", Tone::Dull),
        (false, true) => {
            let all = run.output_bytes.map(|count| format!(" of {}", bytes(count)));
            let text = format!(
                "the last {}{}; the log has {}\n",
                bytes(detail.output.len() as u64),
                all.unwrap_or_default(),
                if run.log_ended {
                    "only the first 1 MiB"
                } else {
                    "all of it"
                }
            );
            look.paint(&text, Tone::Dull)
        }
        (false, false) => String::new(),
    };
    format!("{about}\n{note}{output}")
}
