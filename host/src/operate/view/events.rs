//! Events, each on a line.

use crate::control::api::{Event, EventKind};
use crate::operate::look::{Look, Tone};
use crate::operate::words;
use crate::printable;

/// One event.
pub(in crate::operate) fn event(event: &Event, look: &Look) -> String {
    let (kind, tone) = match event.kind {
        EventKind::Lost => ("lost", Tone::Bad),
        EventKind::Changed => ("changed", Tone::Strong),
        EventKind::Decided => ("decided", Tone::Dull),
        EventKind::Started => ("started", Tone::Busy),
        EventKind::Ended => ("ended", event.run.as_ref().map_or(Tone::Good, words::run_tone)),
        EventKind::Held => ("held", Tone::Odd),
        EventKind::Loaded => ("loaded", Tone::Strong),
        EventKind::Source => ("source", Tone::Strong),
        EventKind::Draining => ("draining", Tone::Odd),
    };
    let name = event.watch.as_ref().map(|watch| &watch.name);
    let name = name.or(event.run.as_ref().map(|run| &run.watch));
    let message = printable::line(&event.message);
    let about = match name {
        // Where the message has the name already, it need not be read twice.
        Some(name) if !event.message.contains(name.as_str()) => {
            format!("{}: {message}", look.paint(&printable::line(name), Tone::Strong))
        }
        _ => message,
    };
    // Padded before it is painted: escape sequences have no width.
    let kind = look.paint(&format!("{kind:8}"), tone);
    format!("{}  {kind}  {about}\n", look.clock(event.at))
}
