//! Events, each on a line.

use crate::commands::operate::states;
use crate::commands::operate::theme::{Theme, Tone};
use twitcher_control::api::{Event, EventKind};
use twitcher_model::sanitize;

/// One event.
pub(crate) fn event(event: &Event, look: &Theme) -> String {
    let (kind, tone) = match event.kind {
        EventKind::Lost => ("lost", Tone::Bad),
        EventKind::Changed => ("changed", Tone::Strong),
        EventKind::Decided => ("decided", Tone::Dull),
        EventKind::Started => ("started", Tone::Busy),
        EventKind::Ended => ("ended", event.run.as_ref().map_or(Tone::Good, states::run_tone)),
        EventKind::Held => ("held", Tone::Odd),
        EventKind::Loaded => ("loaded", Tone::Strong),
        EventKind::Source => ("source", Tone::Strong),
        EventKind::Unreadable => ("unread", Tone::Odd),
        EventKind::Draining => ("draining", Tone::Odd),
    };
    let name = event.watch.as_ref().map(|watch| &watch.name);
    let name = name.or(event.run.as_ref().map(|run| &run.watch));
    let message = sanitize::line(&event.message);
    let about = match name {
        // Where the message has the name already, it need not be read twice.
        Some(name) if !event.message.contains(name.as_str()) => {
            format!("{}: {message}", look.paint(&sanitize::line(name), Tone::Strong))
        }
        _ => message,
    };
    // Padded before it is painted: escape sequences have no width.
    let kind = look.paint(&format!("{kind:8}"), tone);
    format!("{}  {kind}  {about}\n", look.clock(event.at))
}
