//! How things look: width, colours, times.
//!
//! It must not know what is shown.

use std::env;
use std::io::{self, IsTerminal};

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::args::TimeStyle;

/// How things look. Where nothing is known of the reader: no colours, no limit of width.
#[derive(Debug, Clone)]
pub(super) struct Theme {
    /// Columns of the terminal; none if it is none.
    pub width: Option<u16>,
    /// Whether there are colours.
    pub colour: bool,
    /// What times are relative to.
    pub now: Timestamp,
    /// The time zone of times that are not relative.
    pub zone: Option<TimeZone>,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Somebody must do something.
    Bad,
    /// It is not as it should be, and may become so by itself.
    Odd,
    /// Something goes on.
    Busy,
    /// As it should be.
    Good,
    /// Of no interest.
    Dull,
    /// A heading.
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Odd => AnsiColor::Yellow.on_default(),
            Self::Busy => AnsiColor::Cyan.on_default(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Dull => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }
}

impl Theme {
    /// As standard output and the environment have it.
    pub fn of_terminal(choice: ColorChoice, times: TimeStyle, now: Timestamp) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let plain = set("NO_COLOR") || env::var_os("TERM").is_some_and(|term| term == "dumb");
        // What a shell knows of its terminal it does not export: if it is there, somebody means it.
        let wanted = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = match terminal {
            true => wanted.or_else(|| comfy_table::Table::new().width()),
            false => None,
        };
        Self {
            width: width.filter(|width| *width > 0),
            colour: match choice {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => terminal && !plain,
            },
            now,
            zone: match times {
                TimeStyle::Relative => None,
                TimeStyle::Local => Some(TimeZone::system()),
                TimeStyle::Utc => Some(TimeZone::UTC),
            },
        }
    }

    /// The text in the colour that says so.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        match self.colour {
            true => {
                let style = tone.style();
                format!("{style}{text}{style:#}")
            }
            false => text.to_owned(),
        }
    }

    /// A time that has been: `3 min ago`.
    pub fn ago(&self, at: Timestamp) -> String {
        match &self.zone {
            Some(zone) => absolute(at, zone),
            None => match self.now.duration_since(at).as_secs_f64() {
                // Clocks are set, and ours was read a little before the daemon's.
                seconds if seconds < 1.0 => "just now".to_owned(),
                seconds => format!("{} ago", lasting(seconds)),
            },
        }
    }

    /// Since a time that has been: `for 3 min`, or `since 2026-07-01 03:00:00`.
    pub fn since(&self, at: Timestamp) -> String {
        match &self.zone {
            Some(zone) => format!("since {}", absolute(at, zone)),
            None => format!("for {}", self.for_so_long(at)),
        }
    }

    /// How long that has been.
    pub fn for_so_long(&self, at: Timestamp) -> String {
        lasting(self.now.duration_since(at).as_secs_f64().max(0.0))
    }

    /// A time that will be: `in 12 s`.
    pub fn at(&self, at: Timestamp) -> String {
        match &self.zone {
            Some(zone) => format!("at {}", absolute(at, zone)),
            None => match at.duration_since(self.now).as_secs_f64() {
                seconds if seconds < 0.5 => "now".to_owned(),
                seconds => format!("in {}", lasting(seconds)),
            },
        }
    }

    /// A time of day, for what is read line by line as it comes.
    pub fn clock(&self, at: Timestamp) -> String {
        match &self.zone {
            Some(zone) => at.to_zoned(zone.clone()).strftime("%F %T%.3f").to_string(),
            None => at.to_zoned(TimeZone::system()).strftime("%T%.3f").to_string(),
        }
    }
}

fn absolute(at: Timestamp, zone: &TimeZone) -> String {
    let suffix = if *zone == TimeZone::UTC { "Z" } else { "" };
    format!("{}{suffix}", at.to_zoned(zone.clone()).strftime("%F %T"))
}

/// A number of seconds as people say it, with two digits or so that count.
pub(super) fn lasting(seconds: f64) -> String {
    match seconds {
        ..0.9995 => format!("{:.0} ms", seconds.max(0.0) * 1e3),
        ..9.95 => format!("{seconds:.1} s"),
        ..119.5 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        ..172_800.0 => format!("{:.0} h", (seconds / 3600.0).floor()),
        _ => format!("{:.0} d", (seconds / 86_400.0).floor()),
    }
}

/// A number of bytes, with two digits or so that count.
pub(super) fn bytes(count: u64) -> String {
    match count as f64 {
        small if small < 1024.0 => format!("{count} B"),
        kib if kib < 1024.0 * 1024.0 => format!("{:.0} KiB", kib / 1024.0),
        mib if mib < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", mib / (1024.0 * 1024.0)),
        gib => format!("{:.1} GiB", gib / (1024.0 * 1024.0 * 1024.0)),
    }
}

/// `1 watch`, `2 watches`.
pub(super) fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_people_say_them() {
        let spans = [
            0.0, 0.0028, 0.9996, 1.04, 9.96, 45.2, 119.0, 119.6, 185.0, 7199.0, 7200.0, 172_799.0, 400_000.0,
        ];
        assert_eq!(
            spans.map(lasting).join(", "),
            "0 ms, 3 ms, 1.0 s, 1.0 s, 10 s, 45 s, 119 s, 1 min, 3 min, 119 min, 2 h, 47 h, 4 d"
        );
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_nonsense() {
        let now: Timestamp = "2026-07-01T03:00:00Z".parse().unwrap();
        let look = Theme {
            width: None,
            colour: false,
            now,
            zone: None,
        };
        let later: Timestamp = "2026-07-01T04:00:00Z".parse().unwrap();
        assert_eq!(
            (look.ago(later), look.since(later)),
            ("just now".into(), "for 0 ms".into())
        );
        let earlier: Timestamp = "2026-06-01T04:00:00Z".parse().unwrap();
        assert_eq!((look.ago(earlier), look.at(earlier)), ("29 d ago".into(), "now".into()));
        let utc = Theme {
            zone: Some(TimeZone::UTC),
            ..look
        };
        assert_eq!(utc.ago(earlier), "2026-06-01 04:00:00Z");
    }
}
